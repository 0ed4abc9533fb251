"""Environments of other packages: what is wrong with them is named by its cause."""

import pytest

from sesa_agent.configs.errors import SettingError
from sesa_agent.configs.load import load_config
from sesa_agent.environments import make_env
from sesa_agent.environments.adapters.refusals import refuse_id
from sesa_agent.environments.checks import run_checks
from sesa_agent.environments.checks.subject import Finding
from sesa_agent.training.setup import build_env, resolve_auto

from ..helpers.bad_environments import CoinEnv

TEXTS, REWARDS = "tests.plugins.texts:", "tests.plugins.rewards:"


def findings(env_id: str, **options) -> dict[str, Finding]:
    return run_checks(make_env(env_id), num_episodes=3, **options)


def wrong(found: dict[str, Finding]) -> dict[str, str]:
    return {name: f.status for name, f in found.items() if f.status in ("failed", "warned")}


@pytest.mark.parametrize(
    ("name", "seen"),
    [("NaNObservation-v0", "contained 'nan'"), ("NoneRendering-v0", "the text 'None'")],
)
def test_texts_that_show_nothing_are_found(name, seen):
    """A game that printed its board was shown as "None" in every turn, and every check passed."""
    found = findings(TEXTS + name)
    assert found["observations"].status == "failed" and seen in found["observations"].seen


def test_a_charset_without_a_space_is_named_as_the_cause():
    """Gymnasium's Text has letters and digits by default, so "go north" was no action."""
    found = findings(TEXTS + "TypedText-v0", actions=["go north"])["actions"]
    assert "it has ' ', but the charset of Text(500) is letters and digits only" in found.seen
    assert "charset=string.printable" in found.advice
    assert findings(TEXTS + "TypedText-v0", actions=["north"])["actions"].status == "passed"


def test_free_text_is_checked_with_its_examples():
    assert wrong(findings(TEXTS + "FreeText-v0", checks=("api", "actions", "garbage"))) == {}


def test_free_text_without_examples_is_asked_for_some():
    found = findings(TEXTS + "NoExamples-v0", checks=("api", "actions", "garbage"))
    assert wrong(found) == {"actions": "warned"}
    assert "'a query' was the only text" in found["actions"].seen
    assert "text_spec.examples" in found["actions"].advice
    given = findings(TEXTS + "NoExamples-v0", actions=["select 1"], checks=("api", "actions"))
    assert wrong(given) == {}


def test_a_slow_environment_is_told_about_and_stopped_in_time():
    """Of the seconds only a lower bound is sure on a busy machine."""
    begun, times = [], {}
    found = findings(
        TEXTS + "SlowText-v0",
        checks=("api", "seeding"),
        seconds=0.15,
        before=begun.append,
        after=lambda name, seconds: times.update({name: seconds}),
    )
    assert begun == ["api", "seeding"] == list(times) and min(times.values()) >= 0.15
    assert {f.status for f in found.values()} == {"warned"}
    assert "no fault found" in found["api"].seen and "--seconds" in found["api"].advice


def test_checks_that_fail_for_one_reason_name_the_first():
    class Raises(CoinEnv):
        num_calls = 0

        def step(self, action):
            type(self).num_calls += 1
            if self.num_calls > 40:
                raise KeyError("door")
            return super().step(action)

    found = run_checks(Raises(), num_episodes=2)
    failed = {name: f for name, f in found.items() if f.status == "failed"}
    first, *others = failed
    assert failed[first].advice and "KeyError" in failed[first].seen and others
    assert all(f"The cause is that of {first!r}." in failed[name].seen for name in others)
    assert not any(failed[name].advice for name in others)


# ---- success ----


@pytest.mark.parametrize("name", ["AlwaysPositive-v0", "CostsOnly-v0"])
def test_the_check_asks_what_success_is(name):
    found = findings(REWARDS + name)["info"]
    assert found.status == "failed" and "in random play" in found.seen
    assert "env.success=truncated" in found.advice
    env = make_env(REWARDS + name, success_rule="truncated")
    assert run_checks(env)["info"].status == "passed"


def test_the_check_says_what_success_is_taken_to_be():
    assert "return>=3, the reward_threshold; " in findings(REWARDS + "Threshold-v0")["info"].seen
    assert "taken to be reward>0; " in findings(REWARDS + "SparseReward-v0")["info"].seen
    assert "success and legal in every step" in findings(REWARDS + "SaysSolved-v0")["info"].seen


# ---- refusals ----


@pytest.mark.parametrize(
    ("env_id", "reason"),
    [
        (REWARDS + "VectorReward-v0", "2 rewards in each step .*LinearReward"),
        (REWARDS + "UndeclaredVector-v0", "fails in its first step.*one number as reward"),
        (TEXTS + "Pixels-v0", "shows 4800 pixels"),
        (TEXTS + "Continuous-v0", "has continuous actions, Box"),
        (TEXTS + "TwoPlayers-v0", "a game for several players"),
        (TEXTS + "OldStep-v0", "not four values as the old package gym"),
        ("pettingzoo:classic-v0", "pettingzoo has games for several players"),
    ],
)
def test_what_cannot_be_played_is_refused_in_one_line_with_the_reason(env_id, reason):
    with pytest.raises(SettingError, match=reason) as failure:
        resolve_auto(load_config(env_id))
    assert "\n" not in str(failure.value) and str(failure.value).startswith("env.id ")


def test_games_of_textarena_for_two_are_refused_as_such():
    pytest.importorskip("textarena", reason="needs pip install 'sesa-agent[textarena]'")
    with pytest.raises(SettingError, match="it is for several players"):
        build_env(load_config("textarena/TicTacToe-v0"))


def test_unknown_ids_have_no_reason():
    assert refuse_id("Nowhere-v0") == "" == refuse_id("my_games:Walk-v0")
