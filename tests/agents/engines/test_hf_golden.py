"""Samples of the bundled models for fixed seeds: changes of the engine must not change them.

`python -m tests.agents.engines.test_hf_golden` rewrites tests/golden/hf_engine.json.
"""

import json
from pathlib import Path

import pytest

from sesa_agent.agents.chat import ChatFormat
from sesa_agent.agents.engines.base import Completion, SamplingParams
from sesa_agent.agents.engines.hf import HFEngine
from sesa_agent.agents.model_folder import BUNDLED
from sesa_agent.agents.policy import Policy
from sesa_agent.environments import make_env
from sesa_agent.sampling.dialogue import Dialogue
from sesa_agent.sampling.trajectory import Task

GOLDEN = Path(__file__).parents[2] / "golden" / "hf_engine.json"
GAMES = {"sesa-tiny": ("sesa/Sokoban-v0", "sesa/FrozenLake-v0"), "sesa-tiny-answers": ()}
GAMES["sesa-tiny-answers"] = ("sesa/Sudoku-v0", "sesa/Math-v0")
PARAMS = {
    "plain": SamplingParams(max_new_tokens=24, stop=("</answer>",), seed=1),
    "warm": SamplingParams(temperature=1.6, max_new_tokens=16, seed=2),
    "top_p": SamplingParams(top_p=0.9, max_new_tokens=16, stop=("</answer>",), seed=3),
}


def opening_prompts(policy: Policy, env_id: str) -> list[tuple[int, ...]]:
    """Prompts of five puzzles, two of them twice."""
    dialogue = Dialogue(lambda: make_env(env_id), ChatFormat(policy.tokenizer))
    prompts = [dialogue.start(Task(env_id, seed)).prompt_ids for seed in range(5)]
    return [*prompts, *prompts[1:3]]


def sample(name: str) -> dict[str, list[Completion]]:
    """Completions of every game and setting, and those that exclude the plain ones."""
    policy = Policy.load(name, device="cpu")
    engine, sampled = HFEngine(policy), {}
    for env_id in GAMES[name]:
        prompts = opening_prompts(policy, env_id)
        for setting, params in PARAMS.items():
            sampled[f"{env_id} {setting}"] = engine.generate(prompts, params)
        first = sampled[f"{env_id} plain"]
        again = engine.generate(prompts, PARAMS["plain"], [[completion] for completion in first])
        sampled[f"{env_id} without the plain ones"] = again
    return sampled


def summary(completion: Completion) -> dict[str, object]:
    sums = {"logprob": sum(completion.logprobs), "raw_logprob": sum(completion.raw_logprobs)}
    return {"ids": list(completion.token_ids), "finish": completion.finish_reason, **sums}


@pytest.mark.parametrize("name", BUNDLED)
def test_the_bundled_models_sample_the_golden_responses(name):
    golden = json.loads(GOLDEN.read_text(encoding="utf-8"))[name]
    sampled = sample(name)
    assert sampled.keys() == golden.keys()
    for setting, completions in sampled.items():
        for completion, expected in zip(completions, golden[setting], strict=True):
            assert list(completion.token_ids) == expected["ids"], setting
            assert completion.finish_reason == expected["finish"]
            assert sum(completion.logprobs) == pytest.approx(expected["logprob"], abs=1e-4)
            assert sum(completion.raw_logprobs) == pytest.approx(expected["raw_logprob"], abs=1e-4)


def write() -> None:
    """Write what this engine samples."""
    sampled = {name: sample(name) for name in BUNDLED}
    summaries = {
        name: {setting: [summary(c) for c in completions] for setting, completions in of.items()}
        for name, of in sampled.items()
    }
    GOLDEN.write_text(json.dumps(summaries) + "\n", encoding="utf-8")


if __name__ == "__main__":
    write()
