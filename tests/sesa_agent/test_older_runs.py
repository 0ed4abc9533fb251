"""Runs of versions whose splits differed by seed only."""

import pytest

from sesa_agent.configs.load import config_to_dict
from sesa_agent.configs.yaml_text import write_yaml
from sesa_agent.runs import read_run, resumed_run
from sesa_agent.sampling.dialogue import Dialogue
from tests.helpers.runs import make_config, read_metrics, run


@pytest.fixture
def older_run(llama, tmp_path, monkeypatch):
    """Two steps of a run in which every seed gave its own puzzle."""
    cfg = make_config(llama, "optim.checkpoint_every=1", env="frozen_lake")
    values = config_to_dict(cfg)
    del values["eval"]["split"]
    with monkeypatch.context() as patch:
        patch.setattr(Dialogue, "find_puzzles", lambda dialogue, seeds: list(seeds))
        run(cfg, tmp_path)
    (tmp_path / "config.yaml").write_text(write_yaml(values), encoding="utf-8")
    return tmp_path


def test_an_older_run_is_resumed_with_one_line(older_run, capsys):
    cfg, folder = resumed_run(older_run, "", "", ["optim.steps=3"])
    [line] = capsys.readouterr().out.replace("\n", " ").split("Warning: ")[1:]
    assert "splits differ by seed only" in line
    assert cfg.eval.split == "test"
    run(cfg, folder)
    assert [line["step"] for line in read_metrics(folder)] == [0, 1, 2]


def test_a_run_of_this_version_is_resumed_without_it(older_run, capsys):
    cfg = read_run(older_run, "", "", [])
    (older_run / "config.yaml").write_text(write_yaml(config_to_dict(cfg)), encoding="utf-8")
    resumed_run(older_run, "", "", [])
    assert "Warning" not in capsys.readouterr().out
