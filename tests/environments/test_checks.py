"""The suite passes a sound environment and says what is wrong with a broken one."""

from dataclasses import replace

import gymnasium
import pytest
from gymnasium.spaces import Discrete

from sesa_agent.environments import TextAdapter, TextEnv
from sesa_agent.environments.checks import CHECKS, check_text_env, run_checks

from ..helpers.bad_environments import BAD_ENVIRONMENTS, WARNED, CoinEnv, CoinGame, Slow

every_bad_environment = pytest.mark.parametrize(
    "broken", BAD_ENVIRONMENTS, ids=lambda broken: broken.__name__
)


def test_a_sound_environment_passes_every_check():
    findings = run_checks(CoinEnv())
    assert list(findings) == list(CHECKS)
    assert {finding.status for finding in findings.values()} == {"passed"}
    assert not any(finding.advice for finding in findings.values())


def test_a_sound_environment_passes_in_wrappers_and_with_given_actions():
    env = gymnasium.wrappers.TimeLimit(TextEnv(CoinGame(), 6), max_episode_steps=4)
    check_text_env(env, num_episodes=2, seed=5, actions=["HEADS"])


@every_bad_environment
def test_a_broken_environment_fails_the_check_of_what_is_broken_and_no_other(broken):
    check, complaint = BAD_ENVIRONMENTS[broken]
    findings = run_checks(broken(), num_episodes=2 if broken is Slow else 5)
    wrong = {name for name, found in findings.items() if found.status in ("failed", "warned")}
    assert wrong == {check}
    assert complaint in findings[check].seen
    assert findings[check].advice


@every_bad_environment
def test_check_text_env_raises_with_what_is_wrong_and_what_to_do(broken):
    if broken in WARNED:
        check_text_env(broken(), num_episodes=1)  # tests should not depend on a busy machine
        return
    check, complaint = BAD_ENVIRONMENTS[broken]
    with pytest.raises(AssertionError) as failure:
        check_text_env(broken(), num_episodes=5)
    assert str(failure.value).startswith(f"{check}: ")
    assert complaint in str(failure.value)


def test_every_check_has_an_environment_that_fails_it():
    assert {check for check, _ in BAD_ENVIRONMENTS.values()} == set(CHECKS)


def test_checks_whose_requirements_failed_are_skipped():
    class Mute(CoinEnv):
        text_spec = None  # pyright: ignore[reportAssignmentType]

        def __init__(self):
            super().__init__()
            del self.text_spec

    findings = run_checks(Mute())
    assert findings.pop("api").status == "failed"
    assert {(found.status, found.seen) for found in findings.values()} == {("skipped", "needs api")}


def test_the_finding_says_how_forks_were_made():
    class Copied(CoinEnv):
        fork = property()  # pyright: ignore[reportAssignmentType]

    assert "its own fork()" in run_checks(CoinEnv())["forks"].seen
    assert "copy.deepcopy" in run_checks(Copied())["forks"].seen


def test_lengths_are_reported_in_characters_and_tokens():
    findings = run_checks(CoinEnv(), count_tokens=lambda text: len(text.split()))
    assert findings["observations"].seen == "14 characters, 4 tokens"


def test_an_action_that_is_never_legal_is_a_warning_unless_it_is_an_example():
    env = CoinEnv()
    env.text_spec = replace(env.text_spec, actions="heads, tails, edge")
    env.canonical_action = lambda text: text if text in ("heads", "tails", "edge") else None
    assert run_checks(env)["actions"].status == "warned"
    assert "edge" in run_checks(env)["actions"].seen
    env.text_spec = replace(env.text_spec, examples=("heads", "edge"))
    assert run_checks(env)["actions"].status == "passed"


def test_a_slow_copy_names_what_it_is_spent_on():
    class Catalogue(gymnasium.Env):
        """Look a title up."""

        observation_space = action_space = Discrete(3)

        def __init__(self):
            self.titles = {number: [f"title {number}"] for number in range(20_000)}
            self.loans = []

        def reset(self, *, seed=None, options=None):
            super().reset(seed=seed)
            self.loans = []
            return 0, {}

        def step(self, action):
            self.loans.append(action)
            return 0, 0.0, len(self.loans) > 3, False, {}

    class Shared(Catalogue):
        """Look a title up."""

        shared_on_fork = ("titles",)

    copied, shared = (
        run_checks(TextAdapter(make()), checks=["siblings", "fork cost"])["fork cost"]
        for make in (Catalogue, Shared)
    )
    assert copied.status == "warned" and "% of a copy is 'titles'" in copied.seen
    assert "shared_on_fork = ('titles',)" in copied.advice
    assert "a fork by copy.deepcopy takes" in shared.seen and "titles" not in shared.seen
