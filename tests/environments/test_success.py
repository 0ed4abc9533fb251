"""What counts as success: what an environment says, a rule, or a guess that play can refute."""

import gymnasium
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sesa_agent.configs.errors import SettingError
from sesa_agent.configs.load import load_config
from sesa_agent.environments import GuardedEnv, fork, make_env
from sesa_agent.environments.success import (
    GUESS,
    SUCCESS_KEYS,
    SuccessRule,
    read_rule,
    reported_success,
    step_success,
)
from sesa_agent.environments.success_probe import ProbedEpisode, probe_success, refute_guess
from sesa_agent.training.setup import resolve_auto

WALK = "tests.plugins.rewards:"
finite = st.floats(-1e6, 1e6)


def guarded(env_id: str) -> GuardedEnv:
    env = make_env(env_id)
    assert isinstance(env, GuardedEnv)
    return env


def resolved(env_id: str, *words: str) -> str:
    return resolve_auto(load_config(env_id, overrides=list(words))).env.success


def outcomes(env: gymnasium.Env, *actions: str) -> list[bool]:
    env.reset(seed=0)
    return [env.step(action)[4]["success"] for action in actions]


# ---- rules ----


@pytest.mark.parametrize(
    ("text", "rule"),
    [
        ("terminated", SuccessRule("terminated")),
        ("truncated", SuccessRule("truncated")),
        ("reward>0", GUESS),
        ("return >= 475", SuccessRule("return", ">=", 475.0)),
        ("return>=-1.5e2", SuccessRule("return", ">=", -150.0)),
    ],
)
def test_a_rule_is_read(text, rule):
    found = read_rule(text)
    assert str(found) == str(rule) and (found == rule or rule.sign == "")


@given(finite, st.sampled_from(["reward", "return"]), st.sampled_from([">", ">="]))
def test_a_rule_reads_as_itself(bound, quantity, sign):
    rule = SuccessRule(quantity, sign, float(f"{bound:.12g}"))
    assert read_rule(str(rule)) == rule


@pytest.mark.parametrize("text", ["return", "won", "return<3", "reward>one", "return>=1 or 2"])
def test_anything_else_is_refused_with_the_rules_and_the_trap_of_the_shell(text):
    with pytest.raises(SettingError, match=r"env.success must be terminated, .*in quotes"):
        resolved(WALK + "SparseReward-v0", f"env.success={text}")


def test_a_positive_return_counts_once_it_is_reached_and_a_cost_only_at_the_end():
    """A run that may cost 110 steps has not won because its first step cost only one."""
    reach, spend = SuccessRule("return", ">=", 3.0), SuccessRule("return", ">=", -110.0)
    assert reach.holds(1.0, 3.0, False, False) and not reach.holds(1.0, 2.0, True, False)
    assert not spend.holds(-1.0, -1.0, False, False)
    assert spend.holds(-1.0, -90.0, True, False) and not spend.holds(-1.0, -200.0, False, True)


def test_a_reward_counts_at_the_end_of_the_game_alone():
    rule = SuccessRule("reward", ">", 0.5)
    assert rule.holds(1.0, 9.0, True, False)
    assert not rule.holds(1.0, 9.0, False, False) and not rule.holds(0.5, 9.0, True, False)


@given(finite, st.booleans())
def test_the_guess_is_an_end_with_a_positive_reward(reward, terminated):
    assert GUESS.holds(reward, reward, terminated, False) == (terminated and reward > 0)
    assert step_success({}, reward, terminated) == (terminated and reward > 0)


# ---- what an environment says ----


@pytest.mark.parametrize("key", SUCCESS_KEYS)
@pytest.mark.parametrize("value", [True, np.True_, 1, 1.0, np.float32(1), np.int8(1)])
def test_flags_of_any_name_and_number_type_are_read(key, value):
    assert reported_success({key: value}) is True
    assert reported_success({key: type(value)(0)}) is False
    assert step_success({key: type(value)(0)}, reward=1.0, terminated=True) is False


@given(st.none() | st.text() | st.floats(1.1) | st.lists(st.booleans()))
def test_what_is_no_flag_says_nothing(value):
    assert reported_success({key: value for key in SUCCESS_KEYS}) is None
    assert reported_success({"success": value, "won": True}) is True


# ---- in an environment ----


def test_a_game_that_says_solved_is_won_when_it_says_so():
    """Both ends of the walk have a positive reward, so the guess would be wrong at the left one."""
    env = make_env(WALK + "SaysSolved-v0")
    assert outcomes(env, "Right", "Right") == [False, True]
    assert outcomes(env, "Left", "Left") == [False, False]
    assert resolved(WALK + "SaysSolved-v0") == ""


def test_a_setting_goes_before_what_the_environment_says():
    env = make_env(WALK + "SaysSolved-v0", success_rule="terminated")
    assert outcomes(env, "Left", "Left") == [False, True]


def test_a_registered_threshold_is_a_rule_for_the_return():
    env = make_env(WALK + "Threshold-v0")
    assert outcomes(env, "Right", "Left", "Left", "Left") == [False, False, True, True]
    assert resolved(WALK + "Threshold-v0") == "return>=3"
    assert resolved(WALK + "Threshold-v0", "env.success=truncated") == "truncated"


def test_a_cart_pole_that_falls_has_not_won():
    """Falling ended the game with a reward of 1, as every step has, and counted as won."""
    env = make_env("CartPole-v1")
    env.reset(seed=0)
    fall = next(step for _ in range(500) if (step := env.step("0"))[2])
    assert fall[1] == 1.0 and not fall[4]["success"]
    assert resolved("CartPole-v1") == "return>=475"


@pytest.mark.parametrize("way", [fork, lambda env: env], ids=["a fork", "the original"])
def test_a_fork_continues_the_return_of_its_original(way):
    env = make_env(WALK + "Threshold-v0")
    env.reset(seed=0)
    env.step("Right")
    twin = way(env)
    assert [twin.step(action)[4]["success"] for action in ("Left", "Left")] == [False, True]
    assert env.reset(seed=0) and not env.step("Right")[4]["success"]


def test_own_games_have_their_own_rule():
    with pytest.raises(SettingError, match="env.success must be empty, got 'terminated'"):
        resolved("sokoban", "env.success=terminated")


# ---- the probe ----


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("AlwaysPositive-v0", "in random play every reward was positive (1 to 1)"),
        ("CostsOnly-v0", "in random play no reward was positive (-1 to -1)"),
    ],
)
def test_rewards_that_say_nothing_of_success_are_asked_about(name, reason):
    with pytest.raises(SettingError) as failure:
        resolved(WALK + name)
    text = str(failure.value)
    assert reason in text and "\n" not in text
    assert text.startswith(f"env.success must be set for {WALK + name}, ")
    assert "'env.success=return>=N'" in text and "env.success=truncated" in text
    assert resolved(WALK + name, "env.success=reward>0.5") == "reward>0.5"


@pytest.mark.parametrize("name", ["SparseReward-v0", "StepCostsAndPrize-v0"])
def test_rewards_that_may_mean_success_are_not_asked_about(name):
    assert resolved(WALK + name) == ""


def test_a_game_that_random_play_loses_is_not_asked_about():
    """It may have a prize that random play does not find; a penalty tells the end from a step."""
    lost = [ProbedEpisode((-0.1, -0.1, -1.0), terminated=True)]
    assert refute_guess(lost) == ""
    assert refute_guess([*lost, ProbedEpisode((-0.1, -0.1), terminated=True)]) != ""


def test_a_game_of_one_step_is_not_asked_about():
    """A scorer that gives something for every answer may still mean success."""
    assert refute_guess([ProbedEpisode((0.2,), True), ProbedEpisode((1.0,), True)]) == ""
    assert refute_guess([ProbedEpisode((-1.0,), True)]) == "" == refute_guess([])


def test_the_probe_of_a_slow_environment_stops_in_time():
    assert probe_success(guarded(WALK + "CostsOnly-v0"), 0.0) == [ProbedEpisode((), False)] * 3


@pytest.mark.parametrize("env_id", ["CliffWalking-v1", "FrozenLake-v1", "Blackjack-v1"])
def test_known_games_are_not_asked_about(env_id):
    assert probe_success(guarded(env_id)) is None and resolved(env_id) == ""
