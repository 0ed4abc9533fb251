"""docs/api.md holds every public name, with the docstrings of today."""

import re
import runpy
from pathlib import Path

import pytest

import sesa_agent

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "docs" / "api.md").read_text(encoding="utf-8")


def test_the_reference_is_up_to_date():
    pytest.importorskip("griffe", reason="griffe is not installed: make docs")
    page = runpy.run_path(str(ROOT / "scripts" / "generate_api.py"))["api_page"]()
    assert page == PAGE, "Run `python scripts/generate_api.py`."


def test_every_public_name_has_an_entry():
    entries = re.findall(r"^### (\w+)$", PAGE, flags=re.MULTILINE)
    assert sorted(entries) == sorted(set(sesa_agent.__all__) - {"__version__"})
