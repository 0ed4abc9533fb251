"""JSON that may be damaged is either read or a ValueError."""

import pytest

from sesa_agent.configs.json_text import read_json, read_json_file


@pytest.mark.parametrize("text", ["", "{", "[" * 100_000, b"\xff", b"\x00", '{"a": }'])
def test_damaged_json_is_a_value_error(text):
    """A file of brackets ended in a RecursionError, which no reader expected."""
    with pytest.raises(ValueError):
        read_json(text)


def test_a_file_is_read_as_its_text(tmp_path):
    (tmp_path / "file.json").write_text('{"step": [3, null]}', encoding="utf-8")
    assert read_json_file(tmp_path / "file.json") == read_json('{"step": [3, null]}')
