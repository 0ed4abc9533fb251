"""`sesa-agent check-env`: the findings as a table, and an exit code that scripts can use."""

from io import StringIO
from threading import Lock

import gymnasium
import pytest
from rich.console import Console

from sesa_agent.commands.check_env import MAX_LENGTH, findings_table
from sesa_agent.configs.load import env_names
from sesa_agent.environments.checks import CHECKS
from sesa_agent.environments.checks.subject import Finding

from ...helpers import bad_games, toy_game
from ...helpers.bad_environments import BAD_ENVIRONMENTS, WARNED, CoinEnv, Slow

pytestmark = pytest.mark.usefixtures("wide_screen")

FIRST_BAD = {check: bad for bad, (check, _) in reversed(BAD_ENVIRONMENTS.items())}
ONE_OF_EACH = list(FIRST_BAD.values())
"""A bad environment for each check."""
PLAIN_TAXI = max(name for name in gymnasium.registry if name.startswith("Taxi-v"))


class Locked(CoinEnv):
    """Holds what cannot be copied, and has no fork of its own."""

    fork = property()  # pyright: ignore[reportAssignmentType]

    def __init__(self):
        super().__init__()
        self.lock = Lock()


for bad in (*ONE_OF_EACH, Locked):
    gymnasium.register(f"bad/{bad.__name__}-v0", bad, order_enforce=False, disable_env_checker=True)


@pytest.mark.parametrize("name", env_names())
def test_every_bundled_environment_passes(sesa_agent, name):
    code, out, _ = sesa_agent("check-env", name)
    assert code == 0
    assert "failed" not in out and "warned" not in out
    assert f"Ready: sesa-agent train --env {name}" in out


@pytest.mark.parametrize(
    "options",
    [
        ("sudoku", "env.options.answer=grid"),
        ("sudoku", "env.options.answer=placements", "env.options.num_blanks=6"),
        ("frozen_lake", "env.options.slippery=false"),
    ],
)
def test_options_reach_the_environment(sesa_agent, options):
    code, out, _ = sesa_agent("check-env", *options)
    assert code == 0, out


def test_every_check_has_a_row_with_what_was_observed(sesa_agent):
    code, out, _ = sesa_agent("check-env", toy_game.ENV_ID, "--episodes", "5")
    assert code == 0
    assert all(f"│ {name} " in out for name in CHECKS)
    assert "forks by its own fork()" in out
    assert "actions per episode" in out
    assert "readable, but never legal in random play: ['Up', 'Down']" in out
    assert "1 warned" in out


@pytest.mark.parametrize("bad", ONE_OF_EACH, ids=lambda bad: bad.__name__)
def test_a_broken_environment_is_shown_with_what_to_do(sesa_agent, bad):
    check, complaint = BAD_ENVIRONMENTS[bad]
    episodes = 2 if bad is Slow else 5
    code, out, err = sesa_agent("check-env", f"bad/{bad.__name__}-v0", "--episodes", episodes)
    assert (code, err) == (0 if bad in WARNED else 1, "")
    row = out[out.index(f"│ {check} ") :]
    assert row.split("│")[2].strip() == ("warned" if bad in WARNED else "failed")
    assert complaint in row
    assert "→ " in row


def test_lengths_are_reported_in_tokens_of_a_model(sesa_agent, model):
    for name in (str(model), "sesa-tiny"):
        code, out, _ = sesa_agent("check-env", "sokoban", "--model", name)
        assert code == 0
        assert "41 characters, 41 tokens" in out


def test_texts_to_play_can_be_given(sesa_agent):
    code, out, _ = sesa_agent("check-env", "countdown", "--action", "1 + 2", "--action", "7")
    assert code == 0
    assert "2 actions read" in out
    code, out, _ = sesa_agent("check-env", "countdown", "--action", "one and two")
    assert code == 1
    assert "these are not: ['one and two']" in out


MISTAKES = {
    "unknown name": (("sokobann",), "Did you mean 'sokoban'?"),
    "unknown id": (("sesa/Sokobn-v0",), "is not an environment"),
    "unknown module": (("no_such_pkg:Game-v0",), "no_such_pkg"),
    "unknown knob": (("sokoban", "env.options.boxes=2"), "boxes"),
    "unknown setting": (("sokoban", "env.boxes=2"), "env.boxes is not a setting"),
    "no episodes": (("sokoban", "--episodes", "0"), "--episodes must be from 1 to 100000, got 0"),
    "unknown model": (("sokoban", "--model", "./none"), "./none"),
}


@pytest.mark.parametrize(("words", "hint"), MISTAKES.values(), ids=MISTAKES)
def test_a_mistake_is_one_line(sesa_agent, words, hint):
    code, out, err = sesa_agent("check-env", *words)
    assert (code, out, err.count("\n")) == (2, "", 1), err
    assert hint in err


def test_long_quotations_are_cut_and_shown_as_they_are():
    long = Finding("failed", "[red]" * 200, "Make it [bold]short[/].")
    console = Console(width=1000, record=True, file=StringIO())
    console.print(findings_table("bad/Long-v0", {"api": long}))
    text = console.export_text()
    assert text.count("[red]") == MAX_LENGTH // len("[red]")
    assert "→ Make it [bold]short[/]." in text


@pytest.mark.parametrize("name", [PLAIN_TAXI, "CliffWalking-v1", "Blackjack-v1"])
def test_games_of_gymnasium_pass_by_the_words_that_are_derived(sesa_agent, name):
    code, out, _ = sesa_agent("check-env", name)
    assert code == 0
    assert "failed" not in out and "warned" not in out


def test_a_game_that_hangs_is_stopped_and_named(sesa_agent):
    words = (bad_games.ENV_ID, "env.options.fault=hang", "env.step_timeout=0.2")
    code, out, _ = sesa_agent("check-env", *words)
    assert code == 1
    assert "step('Left') took longer than env.step_timeout=0.2 seconds" in out


def test_what_a_game_prints_is_not_shown(sesa_agent):
    code, out, _ = sesa_agent("check-env", bad_games.ENV_ID, "env.options.fault=print")
    assert "starting a game" not in out
    assert code == 0, out


def test_a_game_that_cannot_be_copied_is_forked_by_a_replay(sesa_agent):
    code, out, _ = sesa_agent("check-env", "bad/Locked-v0")
    assert code == 0
    assert "forks by a replay of the actions" in out
