"""Rules of the repository: which layers may import which, and that every shipped file is sound."""

import doctest
import importlib
import re
import runpy
import subprocess
import sys
from functools import partial
from pathlib import Path

import pytest

from sesa_agent import __version__
from sesa_agent.configs.yaml_text import read_yaml

ROOT = Path(__file__).parents[1]
STRUCTURE = runpy.run_path(str(ROOT / "scripts" / "structure.py"))
module_name = partial(STRUCTURE["module_name"], ROOT)
imported_names = partial(STRUCTURE["imported_names"], ROOT)
MAY_IMPORT = {
    "configs": set(),
    "environments": {"configs"},
    "agents": {"configs"},
    "sampling": {"configs", "environments", "agents"},
    "training": {"configs", "environments", "agents", "sampling"},
    "evaluation": {"configs", "environments", "agents", "sampling", "training"},
    "sesa_agent": {"configs", "environments", "agents", "sampling", "training", "evaluation"},
}
"""The layers that each layer may import besides itself."""
MODULES = sorted(path for folder in MAY_IMPORT for path in (ROOT / folder).rglob("*.py"))
YAML_FILES = sorted((ROOT / "configs").rglob("*.yaml"))


def layer(module: str) -> str:
    parts = module.split(".")
    return parts[1] if len(parts) > 1 and parts[1] in MAY_IMPORT else parts[0]


def names(paths: list[Path]) -> list[str]:
    return [path.relative_to(ROOT).as_posix() for path in paths]


@pytest.mark.parametrize("path", MODULES, ids=names(MODULES))
def test_imports_go_one_way(path):
    own = path.relative_to(ROOT).parts[0]
    allowed = MAY_IMPORT[own] | {own}
    ours = {name for name in imported_names(path) if name.split(".")[0] == "sesa_agent"}
    assert not {name for name in ours if layer(name) not in allowed}


def test_no_modules_import_each_other():
    """Imports inside functions count too: they hide circles, they do not remove them."""
    graph = STRUCTURE["import_graph"](ROOT, in_functions=True)
    assert len(graph) == len(MODULES)
    assert STRUCTURE["circles"](graph) == []


def test_no_test_module_imports_another():
    """What tests share is in `tests/helpers`."""
    files = list((ROOT / "tests").rglob("*.py"))
    imports = {(path, name) for path in files for name in imported_names(path)}
    assert len(files) > 100
    assert {(path, name) for path, name in imports if ".test_" in name} == set()


def packages_of_environments(in_functions: bool) -> set[str]:
    """Packages that the environments import, without the standard library."""
    files = (ROOT / "environments").rglob("*.py")
    imports = {name for path in files for name in imported_names(path, in_functions)}
    return {name.split(".")[0] for name in imports} - set(sys.stdlib_module_names)


def test_environments_need_gymnasium_and_numpy_alone_until_a_file_is_read():
    """Parquet, LaTeX and other collections need more; those are imported when needed.

    Gymnasium brings cloudpickle along.
    """
    always = {"gymnasium", "numpy", "cloudpickle", "sesa_agent"}
    assert packages_of_environments(in_functions=False) <= always
    lazy = {"math_verify", "latex2sympy2_extended", "sympy", "pyarrow"}
    lazy |= {"reasoning_gym", "textarena", "gem", "minigrid", "openenv", "alfworld"}
    lazy |= {"textworld", "textworld_express", "scienceworld"}
    assert packages_of_environments(in_functions=True) <= lazy | always


def test_imports_of_extras_are_marked_for_the_type_checker():
    """`make check` holds where the development extra alone is installed."""
    installed = {"torch", "transformers", "tokenizers", "huggingface_hub", "safetensors", "numpy"}
    installed |= {
        "gymnasium",
        "cloudpickle",
        "yaml",
        "typer",
        "rich",
        "tensorboardX",
        "jinja2",
        "PIL",
    }
    installed |= {"markupsafe", "math_verify", "latex2sympy2_extended", "sympy", "matplotlib"}
    installed |= {"scipy", "statsmodels", "pyarrow", "peft", "pytest", "hypothesis", "tensorboard"}
    ours = {"sesa_agent", "tests", "benchmarks", *names_of_scripts()}
    unmarked = set()
    for folder in (*MAY_IMPORT, "benchmarks", "scripts", "tests"):
        for path in (ROOT / folder).rglob("*.py"):
            for line in path.read_text(encoding="utf-8").splitlines():
                found = re.match(r" *(?:import|from) (\w+)[\w.]*(?: import .+| as \w+)?$", line)
                if found and "# pyright: ignore" not in line:
                    unmarked.add(found[1])
    assert "torch" in unmarked
    assert unmarked - set(sys.stdlib_module_names) <= installed | ours


def names_of_scripts() -> set[str]:
    return {path.stem for path in (ROOT / "benchmarks" / "speed").glob("*.py")}


def test_games_are_played_without_the_packages_of_files():
    code = (
        "import sys\n"
        "from sesa_agent.environments import ENVIRONMENTS, make_env\n"
        "for env_id in ENVIRONMENTS:\n"
        "    env = make_env(env_id)\n"
        "    env.reset(seed=0)\n"
        "    env.step('27+38=65')\n"
        "assert not {'math_verify', 'sympy', 'pyarrow', 'torch'} & set(sys.modules)\n"
    )
    answer = run_python("-c", code)
    assert (answer.returncode, answer.stderr) == (0, "")


@pytest.mark.parametrize("path", MODULES, ids=names(MODULES))
def test_docstring_examples_hold(path):
    if path.name == "vllm_exclusion.py":
        pytest.importorskip("vllm")
    if path.name != "__main__.py":
        module = importlib.import_module(module_name(path))
        assert doctest.testmod(module).failed == 0


@pytest.mark.parametrize("path", YAML_FILES, ids=names(YAML_FILES))
def test_every_yaml_file_is_a_mapping(path):
    assert isinstance(read_yaml(path.read_text(encoding="utf-8"), path.name) or {}, dict)


def run_python(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, *words], capture_output=True, text=True, timeout=60)


COMMANDS = ("train", "evaluate", "compare", "doctor", "envs", "pretrain", "report", "reproduce")
COMMANDS = (*COMMANDS, "check-env", "new-env", "play", "view", "warm-start")


SLOW_IMPORTS = {"torch", "transformers", "matplotlib", "scipy", "statsmodels"}


@pytest.mark.parametrize("command", [(), *((name,) for name in COMMANDS)])
def test_help_answers_without_torch(command):
    code = (
        "import sys\n"
        f"sys.argv = ['sesa-agent', *{command!r}, '--help']\n"
        "from sesa_agent.cli import main\n"
        "try:\n    main()\n"
        f"finally:\n    assert not {SLOW_IMPORTS!r} & set(sys.modules)\n"
    )
    answer = run_python("-c", code)
    assert (answer.returncode, answer.stderr) == (0, "")
    assert "Usage" in answer.stdout


def test_package_runs_as_a_module():
    answer = run_python("-m", "sesa_agent", "--help")
    assert answer.returncode == 0
    assert "train" in answer.stdout


@pytest.mark.parametrize(
    "code",
    [
        "import sesa_agent, gymnasium; env = gymnasium.make('sesa/FrozenLake-v0')",
        "import gymnasium, sesa_agent; env = gymnasium.make('sesa/FrozenLake-v0')",
        "import gymnasium; env = gymnasium.make('sesa_agent:sesa/FrozenLake-v0')",
        "import gymnasium; env = gymnasium.make('sesa_agent.environments:sesa/FrozenLake-v0')",
    ],
)
def test_gymnasium_finds_a_game_once_the_package_is_imported(code):
    answer = run_python("-W", "error", "-c", f"{code}; env.reset(seed=0)")
    assert (answer.returncode, answer.stderr) == (0, "")


def test_importing_the_package_registers_every_game_without_importing_one():
    code = (
        "import sys, gymnasium, sesa_agent\n"
        "from sesa_agent.environments import ENVIRONMENTS\n"
        "assert set(ENVIRONMENTS) <= set(gymnasium.registry)\n"
        "games = 'sesa_agent.environments.games'\n"
        "assert not [name for name in sys.modules if name.startswith(games)]\n"
    )
    answer = run_python("-c", code)
    assert (answer.returncode, answer.stderr) == (0, "")


def test_importing_the_package_imports_gymnasium_and_numpy_alone():
    """Everything else that is installed beside Python's own modules waits until it is needed."""
    code = (
        "import sys\n"
        "import gymnasium\n"
        "before = set(sys.modules)\n"
        "import sesa_agent\n"
        "names = {name.partition('.')[0] for name in set(sys.modules) - before}\n"
        "print(*sorted(names - set(sys.stdlib_module_names)))\n"
    )
    assert run_python("-c", code).stdout.split() == ["sesa_agent"]


def test_packages_of_the_wheel_are_the_folders():
    """A forgotten folder would be missing from the wheel, though not from an editable install."""
    mapping = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    listed = set(re.findall(r'^"(sesa_agent[\w.]*)" = ', mapping, flags=re.MULTILINE))
    assert listed == {module_name(path) for path in MODULES if path.name == "__init__.py"}


def shipped_files() -> list[Path]:
    words = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    listing = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    return [ROOT / name for name in listing.split("\0") if name and (ROOT / name).is_file()]


@pytest.mark.skipif(not (ROOT / ".git").exists(), reason="needs a git checkout")
def test_no_file_names_a_place_on_somebodys_machine():
    places = re.compile(rb"(?<![\w.:/}])/(?:home|root|Users|work|tmp|opt|mnt)/\w")
    guilty = [path.name for path in shipped_files() if places.search(path.read_bytes())]
    assert guilty == []


@pytest.mark.parametrize("module", ["commands.envs", "commands.new_env"])
def test_commands_without_a_model_are_imported_without_torch(module):
    code = (
        f"import sys, sesa_agent.{module}\n"
        f"assert not {SLOW_IMPORTS!r} & set(sys.modules), sys.modules\n"
    )
    assert run_python("-c", code).returncode == 0


def test_the_version_answers_without_torch():
    code = (
        "import sys\n"
        "sys.argv = ['sesa-agent', '--version']\n"
        "from sesa_agent.cli import main\n"
        "try:\n    main()\n"
        f"finally:\n    assert not {SLOW_IMPORTS!r} & set(sys.modules)\n"
    )
    answer = run_python("-c", code)
    assert (answer.returncode, answer.stdout) == (0, f"sesa-agent {__version__}\n")
