"""`sesa-agent new-env`: the package that it writes is sound, and can be trained at once."""

import json
import os
import subprocess
import sys
from importlib import import_module

import gymnasium
import pytest

SMALL = (
    "sampling.num_tasks=2",
    "sampling.num_proposals=2",
    "sampling.max_trajectories=3",
    "engine.max_new_tokens=3",
    "eval.every=2",
    "eval.episodes=2",
    "eval.final_episodes=4",
    "eval.samples=2",
)
FILES = {
    "pyproject.toml",
    "README.md",
    "ice_lake/__init__.py",
    "ice_lake/game.py",
    "tests/test_game.py",
}


@pytest.fixture
def package(sesa_agent, tmp_path):
    """The folder of a new package."""
    code, out, _ = sesa_agent("new-env", "ice_lake", "--folder", tmp_path)
    assert code == 0
    assert "sesa-agent train --env ice_lake:IceLake-v0" in out
    return tmp_path / "ice_lake"


@pytest.fixture
def imported(package, monkeypatch):
    """The package can be imported, and is forgotten after the test."""
    monkeypatch.syspath_prepend(package)
    yield
    for name in ("ice_lake.game", "ice_lake"):
        sys.modules.pop(name, None)
    gymnasium.registry.pop("IceLake-v0", None)


def contents(folder):
    paths = (path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): path.read_text("utf-8") for path in paths}


def python(folder, *words):
    environment = {**os.environ, "PYTHONPATH": str(folder), "COLUMNS": "200"}
    environment["PYTHONDONTWRITEBYTECODE"] = "1"
    return subprocess.run(
        [sys.executable, *words],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        timeout=120,
    )


def test_no_placeholder_is_left(package):
    texts = contents(package)
    assert set(texts) == FILES
    assert not any("$" in text or "{package}" in text for text in texts.values())


def test_its_own_tests_pass(package):
    answer = python(package, "-m", "pytest", "-q", "-p", "no:cacheprovider")
    assert answer.returncode == 0, answer.stdout
    assert "5 passed" in answer.stdout


def test_its_tests_fail_when_the_game_is_broken(package):
    game = package / "ice_lake" / "game.py"
    text = game.read_text("utf-8")
    game.write_text(text.replace('"legal": move is not None', '"legal": True'), "utf-8")
    answer = python(package, "-m", "pytest", "-q", "-p", "no:cacheprovider")
    assert answer.returncode == 1
    assert "garbage: " in answer.stdout


@pytest.mark.usefixtures("imported")
def test_it_passes_every_check(sesa_agent):
    code, out, _ = sesa_agent("check-env", "ice_lake:IceLake-v0")
    assert code == 0
    assert "failed" not in out and "warned" not in out


@pytest.mark.usefixtures("imported")
def test_it_trains_for_two_steps_with_tree_sampling(sesa_agent, tmp_path, model):
    run = tmp_path / "run"
    words = ("--model", model, "--steps", "2", "--output", run, "sampling.name=tree", *SMALL)
    code, out, err = sesa_agent("train", "--env", "ice_lake:IceLake-v0", *words)
    assert (code, err) == (0, "")
    assert "trained" in out
    lines = (run / "metrics.jsonl").read_text().splitlines()
    assert [json.loads(line)["step"] for line in lines] == [0, 1]


@pytest.mark.usefixtures("imported")
def test_its_player_teaches_a_model(sesa_agent, tmp_path, model):
    words = ("--model", model, "--output", tmp_path / "warm", "--lessons", "1", "--episodes", "2")
    env = ("--env", "ice_lake:IceLake-v0", "engine.max_new_tokens=3", "env.max_turns=2")
    code, out, err = sesa_agent("warm-start", *env, *words)
    assert (code, err) == (0, "")
    assert "taught by its scripted player" in out


def test_an_entry_point_makes_the_id_known_to_gymnasium(package):
    text = (package / "pyproject.toml").read_text("utf-8")
    assert '[project.entry-points."gymnasium.envs"]\n__root__ = "ice_lake:register_envs"' in text
    code = (
        "import gymnasium\n"
        "import ice_lake\n"
        "gymnasium.registry.pop('IceLake-v0')\n"
        "ice_lake.register_envs()\n"
        "ice_lake.register_envs()\n"
        "gymnasium.make('IceLake-v0').reset(seed=0)\n"
    )
    answer = python(package, "-W", "error", "-c", code)
    assert (answer.returncode, answer.stderr) == (0, "")


@pytest.mark.usefixtures("imported")
def test_every_puzzle_can_be_solved():
    game = import_module("ice_lake.game")
    env = game.IceLake()
    for seed in range(200):
        env.reset(seed=seed)
        reached, frontier = {env.place}, [env.place]
        for _ in range(game.NUM_SLIDES):
            frontier = [env._slide(place, move) for place in frontier for move in game.MOVES]
            reached.update(frontier)
        assert env.goal in reached and env.goal != env.place


def test_nothing_is_overwritten(sesa_agent, package, tmp_path):
    (package / "README.md").write_text("mine")
    before = contents(tmp_path)
    code, out, err = sesa_agent("new-env", "ice_lake", "--folder", tmp_path)
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert "nothing was overwritten" in err
    assert contents(tmp_path) == before


NAMES = {
    "IceLake": "Try ice_lake.",
    "ice-lake": "Try ice_lake.",
    "ice lake": "Try ice_lake.",
    "../ice": "Try ice.",
    "9lives": "Try my_game.",
    "été": "Try t.",
    "class": "Try class_game.",
    "json": "Try json_game.",
    "numpy": "Try numpy_game.",
    "sesa_agent": "Try sesa_agent_game.",
    "tests": "Try tests_game.",
}


@pytest.mark.parametrize(("name", "hint"), NAMES.items(), ids=NAMES)
def test_an_invalid_name_is_rejected_in_one_line(sesa_agent, tmp_path, name, hint):
    code, out, err = sesa_agent("new-env", name, "--folder", tmp_path)
    assert (code, out, err.count("\n")) == (2, "", 1), err
    assert err.startswith("sesa-agent: NAME must be ") and hint in err
    assert not list(tmp_path.iterdir())


def test_a_folder_that_is_not_writable_is_one_line(sesa_agent, tmp_path):
    (tmp_path / "file").touch()
    code, out, err = sesa_agent("new-env", "ice_lake", "--folder", tmp_path / "file")
    assert (code, out, err.count("\n")) == (2, "", 1), err
    assert "--folder" in err and "is not writable" in err
