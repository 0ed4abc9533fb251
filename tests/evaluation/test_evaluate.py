"""Statistics of an evaluation are correct for known answers, which a script gives."""

import json
from dataclasses import replace

import numpy as np
import pytest
from gymnasium.spaces import Discrete
from hypothesis import given
from hypothesis import strategies as st

from sesa_agent.agents.chat import ChatFormat
from sesa_agent.agents.engines.base import SamplingParams
from sesa_agent.agents.engines.scripted import ScriptedEngine
from sesa_agent.environments import make_env
from sesa_agent.environments.games.one_answer import OneAnswerEnv
from sesa_agent.environments.text_env import TextGame, TextSpec
from sesa_agent.evaluation.evaluate import evaluate
from sesa_agent.evaluation.statistics import mean_pass_at_k, wilson_interval
from sesa_agent.sampling.dialogue import Dialogue

from ..helpers.tiny_models import chatml_tokenizer
from ..helpers.toy_game import ENV_ID

PARAMS = SamplingParams(temperature=0.5)


@pytest.fixture(scope="module")
def tokenizer():
    return chatml_tokenizer()


@pytest.fixture(scope="module")
def dialogue(tokenizer):
    return Dialogue(lambda: make_env(ENV_ID), ChatFormat(tokenizer), max_turns=4)


def play(tokenizer, dialogue, script, num_puzzles=2, num_samples=1, ks=()):
    engine = ScriptedEngine(tokenizer, script)
    return evaluate(engine, dialogue, ENV_ID, range(num_puzzles), PARAMS, num_samples, ks)


class TreasureGame(TextGame[int]):
    """Letters are places; a vowel is a treasure."""

    text_spec = TextSpec("Name a place.", "", "a letter")
    observation_space = Discrete(1)
    action_space = Discrete(26)  # pyright: ignore[reportAssignmentType]
    num_targets = 5

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        return 0, {}

    def step(self, action):
        found = chr(97 + action) in "aeiou"
        return 0, float(found), True, False, {"success": found, "legal": True}

    def to_text(self):
        return "A map."

    def read_action(self, text):
        letter = text.strip().lower()
        return (letter, ord(letter) - 97) if len(letter) == 1 and "a" <= letter <= "z" else None

    def state_key(self):
        return 0

    def fork(self):
        return TreasureGame()


def name_places(tokenizer, letters, num_samples, ks=(), puzzles=1, max_steps=1, actions_per_turn=1):
    """One answer after another, "?" for one that cannot be read."""
    dialogue = Dialogue(
        lambda: OneAnswerEnv(TreasureGame(), max_steps),
        ChatFormat(tokenizer),
        max_turns=max_steps,
        actions_per_turn=actions_per_turn,
    )
    script = [f"<answer>{letter}</answer>" for letter in letters]
    return play(tokenizer, dialogue, script, puzzles, num_samples, ks)


def test_a_player_that_always_wins(tokenizer, dialogue):
    result = play(tokenizer, dialogue, lambda prompt: "<answer>right</answer>")
    assert (result.success_rate, result.mean_turns) == (1, 2)
    assert (result.readable_rate, result.legal_rate) == (1, 1)
    assert (result.low, result.high) == wilson_interval(2, 2)
    assert (result.num_episodes, result.num_samples, result.temperature) == (2, 1, 0.5)


@pytest.mark.parametrize(
    ("reply", "readable", "legal"),
    [("Right", 0, 0), ("<answer>fly</answer>", 0, 0), ("<answer>Up</answer>", 1, 0)],
)
def test_answers_that_do_nothing_last_until_the_limit(tokenizer, dialogue, reply, readable, legal):
    result = play(tokenizer, dialogue, lambda prompt: reply)
    assert (result.success_rate, result.mean_turns) == (0, 4)
    assert (result.readable_rate, result.legal_rate) == (readable, legal)


def test_pass_at_k_counts_attempts_and_the_interval_counts_puzzles(tokenizer, dialogue):
    """Of four attempts at each of two puzzles one wins at the first puzzle."""
    left, right = "<answer>Left</answer>", "<answer>Right</answer>"
    script = [right, *[left] * 7, right]
    result = play(tokenizer, dialogue, script, num_samples=4)
    assert result.success_rate == 1 / 8
    assert result.wins == (1, 0)
    assert result.to_json()["wins"] == "1 0"
    assert result.pass_at_k == {1: 1 / 8, 2: 1 / 4, 4: 1 / 2}
    assert result.pass_at_k_interval == {
        1: wilson_interval(2 / 8, 2),
        2: wilson_interval(2 / 4, 2),
        4: wilson_interval(2 / 2, 2),
    }
    assert (result.low, result.high) == wilson_interval(2 / 8, 2)
    assert result.mean_turns == 9 / 8


@pytest.mark.parametrize(("num_samples", "ks"), [(1, [1]), (3, [1, 2, 3]), (8, [1, 2, 4, 8])])
def test_k_are_the_powers_of_two_and_n_itself(tokenizer, dialogue, num_samples, ks):
    result = play(tokenizer, dialogue, lambda prompt: "none", num_samples=num_samples)
    assert list(result.pass_at_k) == ks


def test_other_k_can_be_chosen(tokenizer, dialogue):
    def ask(*ks):
        return play(tokenizer, dialogue, lambda prompt: "none", num_samples=6, ks=ks)

    assert list(ask(5, 1, 5).pass_at_k) == list(ask(1, 5).pass_at_k_interval) == [1, 5]
    with pytest.raises(ValueError, match="num_samples must be at least 1, got 0"):
        play(tokenizer, dialogue, lambda prompt: "none", num_samples=0)
    for k in (0, 7):
        with pytest.raises(ValueError, match=r"ks must be from 1 to num_samples \(6\)"):
            ask(1, k)


def test_coverage_is_the_mean_over_puzzles(tokenizer):
    """Of 5 treasures: A, E and A again and b are 2; four unreadable or wrong ones are 0."""
    result = name_places(tokenizer, "AeabZ??z", num_samples=4, puzzles=2)
    # One sample covers 3/4 of a fifth at the first puzzle; of 6 pairs AA and three with b hold 1,
    # two hold 2: 8/6 of a fifth.
    assert result.coverage_at_k == pytest.approx({1: 0.075, 2: 8 / 60, 4: 0.2})
    assert result.success_rate == 3 / 8
    assert result.distinct_answers == (3 + 2) / 2  # a e b; z and "unreadable"
    ks = name_places(tokenizer, "aeab", num_samples=4, ks=(3,)).coverage_at_k
    assert ks == pytest.approx({3: (2 * 2 + 1 + 2) / 4 / 5}, abs=1e-9)


def test_without_known_targets_there_is_no_coverage(tokenizer, dialogue):
    result = play(tokenizer, dialogue, lambda prompt: "<answer>right</answer>", num_samples=2)
    assert result.coverage_at_k == {}


def test_the_answer_that_counts_is_the_one_that_won(tokenizer):
    """A later attempt at the answer, or more words after it, are no other treasure."""
    late = name_places(tokenizer, "??aei", num_samples=3, max_steps=2)
    assert late.coverage_at_k[3] == pytest.approx(3 / 5)
    assert late.distinct_answers == 2  # "unreadable" and a, the first actions
    chatty = name_places(tokenizer, ["a || e", "a", "a || b"], num_samples=3, actions_per_turn=2)
    assert chatty.coverage_at_k[3] == pytest.approx(1 / 5)


def test_more_successful_answers_than_targets_are_an_error(tokenizer, monkeypatch):
    monkeypatch.setattr(TreasureGame, "num_targets", 1)
    with pytest.raises(ValueError, match="num_targets must be at least 1 and the number"):
        name_places(tokenizer, "ae", num_samples=2)


def test_the_ratio_is_pass_at_16_over_pass_at_1(tokenizer):
    # 20 attempts, 1 success: pass@16 = 16/20, pass@1 = 1/20
    assert name_places(tokenizer, "a" + "b" * 19, 20).pass_ratio == pytest.approx(16)
    # 4 attempts at two puzzles, 1 and 4 successes: pass@4 = 1, pass@1 = 5/8
    assert name_places(tokenizer, "abbbaeio", 4, puzzles=2).pass_ratio == pytest.approx(8 / 5)


def test_the_ratio_of_a_collapsed_policy_is_1_and_without_a_success_there_is_none(tokenizer):
    assert name_places(tokenizer, "aaaabbbb", num_samples=4, puzzles=2).pass_ratio == 1
    assert name_places(tokenizer, "bbbb", num_samples=4).pass_ratio is None
    assert name_places(tokenizer, "a", num_samples=1).pass_ratio is None


@given(st.lists(st.sampled_from("abe?"), min_size=6, max_size=6), st.integers(1, 6))
def test_more_attempts_find_more(tokenizer, letters, k):
    """pass@k and Coverage@k grow with k, and the plain counts are those of the attempts."""
    result = name_places(tokenizer, letters, num_samples=6, ks=range(1, 7))
    wins = sum(letter in "ae" for letter in letters)
    assert result.pass_at_k[k] == mean_pass_at_k([wins], 6, k)
    for values in (result.pass_at_k, result.coverage_at_k):
        assert sorted(values.values()) == pytest.approx(list(values.values()))
    assert result.coverage_at_k[6] == pytest.approx(len(set(letters) & set("ae")) / 5)
    assert result.distinct_answers == len(set(letters))
    low, high = result.pass_at_k_interval[k]
    assert low <= result.pass_at_k[k] <= high


def test_the_entropy_of_an_answer_is_the_mean_of_its_surprise(tokenizer):
    """In the script every token has probability one half."""
    replies = [f"<answer>{letter}</answer>" for letter in "ab"]
    lengths = [len(tokenizer.encode(reply, add_special_tokens=False)) for reply in replies]
    result = name_places(tokenizer, "ab", num_samples=2)
    assert result.answer_entropy == pytest.approx(np.log(2) * sum(lengths) / 2)


def test_without_log_probabilities_the_entropy_is_unknown(tokenizer, dialogue, monkeypatch):
    engine = ScriptedEngine(tokenizer, lambda prompt: "<answer>Right</answer>")

    def without(prompts, params, excluded=None):
        found = ScriptedEngine.generate(engine, prompts, params, excluded)
        return [replace(completion, logprobs=()) for completion in found]

    monkeypatch.setattr(engine, "generate", without)
    assert evaluate(engine, dialogue, ENV_ID, [0], PARAMS).answer_entropy is None


def test_batches_of_puzzles_change_nothing(tokenizer, dialogue, monkeypatch):
    def script(prompt):
        return "<answer>Right</answer>"

    sizes = []
    generate = ScriptedEngine.generate

    def recorded(engine, prompts, *rest):
        sizes.append(len(prompts))
        return generate(engine, prompts, *rest)

    monkeypatch.setattr(ScriptedEngine, "generate", recorded)
    whole = play(tokenizer, dialogue, script, num_puzzles=5, num_samples=3)
    assert max(sizes) == 15
    for episodes, size in ((1, 3), (7, 6)):  # one puzzle, two puzzles at once
        sizes.clear()
        monkeypatch.setattr("sesa_agent.evaluation.evaluate.EPISODES_AT_ONCE", episodes)
        assert play(tokenizer, dialogue, script, num_puzzles=5, num_samples=3) == whole
        assert max(sizes) == size


def test_a_result_is_plain_json(tokenizer, dialogue):
    result = play(tokenizer, dialogue, lambda prompt: "none", num_samples=2)
    values = json.loads(json.dumps(result.to_json()))
    assert values["pass_at_k"] == {"1": 0.0, "2": 0.0}
    assert values["pass_at_k_interval"]["1"] == list(wilson_interval(0, 2))
    assert (values["coverage_at_k"], values["pass_ratio"]) == ({}, None)
    assert all(not isinstance(value, np.generic) for value in result.to_json().values())
