"""docs/architecture.md names functions that exist, where it says that they are."""

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
NAMED = re.findall(r"`([\w/]+\.py)` ((?:`[\w.]+`(?:, )?)+)", PAGE)
"""A file and the names after it, as in: `sampling/tree.py` `decide`, `allocate_widths`."""


def names_in(path: Path) -> set[str]:
    """Functions and classes of a file, methods as `Class.method`."""
    found = set()
    for node in ast.parse(path.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            found.add(node.name)
        if isinstance(node, ast.ClassDef):
            functions = (ast.FunctionDef, ast.AsyncFunctionDef)
            found |= {f"{node.name}.{f.name}" for f in node.body if isinstance(f, functions)}
    return found


@pytest.mark.parametrize(("file", "names"), NAMED)
def test_what_the_life_of_a_turn_names_exists(file, names):
    assert set(re.findall(r"`([\w.]+)`", names)) <= names_in(ROOT / file)


def test_names_are_found_on_the_page():
    assert len(NAMED) >= 10


def test_every_folder_with_code_is_in_the_tree():
    tree = re.findall(r"^ *([\w/]+)/ {2,}", PAGE, flags=re.MULTILINE)
    folders = {path.parent.name for path in ROOT.glob("[a-z]*/**/__init__.py")}
    folders -= {path.name for path in (ROOT / "tests").rglob("*")}
    assert folders - {"methods", "scales"} <= set(tree)
