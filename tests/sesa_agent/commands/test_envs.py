"""`sesa-agent envs`, and `check-env` on the games of other collections."""

import os
import subprocess
import sys

import pytest

from sesa_agent.environments.adapters.collections import (
    COLLECTIONS,
    example_id,
    register_collection,
)
from tests.helpers.collections import COMMANDS, ids, module_of, need

pytestmark = pytest.mark.usefixtures("wide_screen")


def test_every_collection_has_a_row(sesa_agent):
    code, out, _ = sesa_agent("envs")
    assert code == 0
    for name, collection in COLLECTIONS.items():
        row = next(line for line in out.splitlines() if line.startswith(f"│ {name} "))
        assert collection.games in row and example_id(name) in row


@pytest.mark.parametrize(
    "name", [pytest.param(n, marks=[] if n == "gem" else pytest.mark.slow) for n in COLLECTIONS]
)
def test_a_missing_collection_is_one_line_with_what_to_install(name):
    env_id = f"{name}/{COLLECTIONS[name].example}"
    answer = run_without(module_of(name), "train", "--env", env_id)
    assert (answer.returncode, answer.stderr.count("\n")) == (2, 1)
    assert f"needs the package {COLLECTIONS[name].package}" in answer.stderr
    assert f"pip install 'sesa-agent[{COLLECTIONS[name].extra}]'" in answer.stderr


def test_a_missing_collection_is_listed_with_what_to_install():
    answer = run_without("textarena", "envs")
    assert answer.returncode == 0
    assert "not installed: pip install 'sesa-agent[textarena]'" in answer.stdout


def run_without(package: str, *words: str) -> subprocess.CompletedProcess[str]:
    """The command line where a package is not installed."""
    code = (
        f"import sys\nsys.modules[{package!r}] = None\n"  # as Python notes what it cannot find
        f"sys.argv[1:] = {words!r}\nfrom sesa_agent.cli import main\nmain()\n"
    )
    wide = {**os.environ, "COLUMNS": "400"}
    command = [sys.executable, "-c", code]
    return subprocess.run(command, capture_output=True, text=True, timeout=300, env=wide)


@pytest.mark.parametrize("name", COLLECTIONS)
def test_all_ids_of_a_collection_are_listed(sesa_agent, name):
    need(name)
    code, out, _ = sesa_agent("envs", name)
    assert code == 0
    assert out.split() == list(register_collection(name))
    assert f"{name}/{COLLECTIONS[name].example}" in out.split()


def test_an_unknown_collection_names_the_nearest(sesa_agent):
    code, _, err = sesa_agent("envs", "textarna")
    assert (code, err.count("\n")) == (2, 1)
    assert "Did you mean 'textarena'?" in err


GAMES = [
    *ids("reasoning_gym", "textarena", "gem", "babyai"),
    *(
        pytest.param(name, marks=pytest.mark.slow)
        for name in ids(*COMMANDS)
        if "babyai" not in name
    ),
]


@pytest.mark.parametrize("env_id", GAMES)
def test_games_of_others_pass_every_check(sesa_agent, env_id):
    need(env_id.partition("/")[0])
    code, out, _ = sesa_agent("check-env", env_id, "--episodes", "2")
    assert code == 0, out
    assert "│ failed" not in out
    assert f"Ready: sesa-agent train --env {env_id}" in out


def test_options_of_a_dataset_reach_it(sesa_agent):
    need("reasoning_gym")
    words = ("check-env", "reasoning_gym/leg_counting")
    assert sesa_agent(*words, "env.options.max_animals=4")[0] == 0
    code, _, err = sesa_agent(*words, "env.options.max_animls=4")
    assert (code, err.count("\n")) == (2, 1)
    assert "max_animls" in err
    code, _, err = sesa_agent(*words, "env.options.min_animals=0")
    assert (code, err.count("\n")) == (2, 1)
    assert "min_animals must be positive" in err
