"""What `scripts/structure.py` says of a small tree, and that nothing of it is imported."""

import runpy
from pathlib import Path

import pytest

STRUCTURE = runpy.run_path(str(Path(__file__).parents[1] / "scripts" / "structure.py"))

FILES = {
    "README.md": "one\ntwo\n",
    ".hidden/notes.md": "three\n",
    "agents/__init__.py": "",
    "agents/chat.py": "from . import policy\n",
    "agents/policy.py": "from typing import TYPE_CHECKING\n"
    "if TYPE_CHECKING:\n    from .chat import Chat\n"
    "def load():\n    from .engines import hf\n",
    "agents/engines/__init__.py": "from ..chat import Chat\n",
    "agents/engines/hf.py": "raise RuntimeError('this file was imported')\n",
    "agents/engines/__pycache__/hf.pyc": "cached\n",
    "sesa_agent/__init__.py": "",
    "sesa_agent/cli.py": "def train(a, b, c, d, e, f, g, *h, **i): pass\n",
    "scripts/cover.png": b"\x89PNG\n\n",
    "scripts/long.py": "def run():\n" + "    x = 0\n" * 60,
}


@pytest.fixture
def checkout(tmp_path):
    for name, text in FILES.items():
        path = tmp_path / "checkout" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return tmp_path / "checkout"


def test_folders_have_their_own_names_and_all_files_and_lines_below(checkout):
    facts = [STRUCTURE["folder_facts"](checkout, path) for path in STRUCTURE["folders"](checkout)]
    assert [tuple(fact) for fact in facts] == [
        (".", ["README.md", "agents/", "scripts/", "sesa_agent/"], 10, 72),
        ("agents", ["__init__.py", "chat.py", "engines/", "policy.py"], 5, 8),
        ("agents/engines", ["__init__.py", "hf.py"], 2, 2),
        ("scripts", ["cover.png", "long.py"], 2, 61),
        ("sesa_agent", ["__init__.py", "cli.py"], 2, 1),
    ]


SIZES = """
class Game:
    def play(self, a, /, b, *rest, c=0, **more):
        a = first = 1
        second, (third, *fourth) = b
        for fifth in b:
            with open(fifth) as sixth:
                self.place = [seventh for seventh in sixth]
        try:
            if (eighth := first):
                nonlocal_one = 2
        except OSError as ninth:
            def inner(x):
                y = x
        global tenth
        tenth = lambda z: z
"""


def test_a_function_is_measured_in_lines_parameters_and_locals(tmp_path):
    (tmp_path / "game.py").write_text(SIZES)
    play, inner = STRUCTURE["functions"](tmp_path, tmp_path / "game.py")
    assert tuple(play) == ("game.py:3 Game.play", 14, 5, 9)
    assert tuple(inner) == ("game.py:13 Game.play.inner", 2, 1, 1)


def test_imports_count_as_what_they_name_and_where_they_stand(checkout):
    on_import = STRUCTURE["import_graph"](checkout, in_functions=False)
    everywhere = STRUCTURE["import_graph"](checkout, in_functions=True)
    agents = "sesa_agent.agents"
    assert on_import[f"{agents}.chat"] == {f"{agents}.policy"}
    assert on_import[f"{agents}.policy"] == set()
    assert everywhere[f"{agents}.policy"] == {f"{agents}.engines.hf"}
    assert on_import[f"{agents}.engines"] == {f"{agents}.chat"}


@pytest.mark.parametrize(
    ("graph", "expected"),
    [
        ({"a": {"b"}, "b": {"c"}, "c": set()}, []),
        ({"a": {"a"}}, [["a"]]),
        ({"a": {"b"}, "b": {"c"}, "c": {"a"}, "d": {"a"}}, [["a", "b", "c"]]),
        ({"a": {"b"}, "b": {"a", "c"}, "c": {"d"}, "d": {"c"}}, [["a", "b"], ["c", "d"]]),
    ],
)
def test_circles_are_the_modules_that_lead_to_one_another(graph, expected):
    assert STRUCTURE["circles"](graph) == expected


def test_the_report_tells_large_functions_command_line_and_scripts_apart(checkout):
    (checkout / "agents/engines/hf.py").write_text("from .. import chat\n")
    lines = list(STRUCTURE["report"](checkout))
    parts = "\n".join(lines).split("\n\n")
    assert [part.splitlines()[0] for part in parts] == [
        "# Folders",
        "# The package",
        "# The command line, sesa_agent/cli.py",
        "# Benchmarks and scripts",
        "# Import circles between modules of the package",
    ]
    package, commands, beside, circles = (part.splitlines()[1:] for part in parts[1:])
    assert package[0] == "1 functions" and len(package) == 4
    assert "       9  sesa_agent/cli.py:1 train" in commands
    assert "      61  scripts/long.py:1 run" in beside
    assert circles == [
        "on import: 0",
        "with imports inside functions: 1",
        "    sesa_agent.agents.chat <-> sesa_agent.agents.engines.hf <-> sesa_agent.agents.policy",
    ]
