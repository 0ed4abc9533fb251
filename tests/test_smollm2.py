"""Tests with a real instruction-tuned model, SmolLM2-135M-Instruct (`make smollm`)."""

from dataclasses import replace

import pytest
import torch

from sesa_agent.agents.chat import ChatFormat
from sesa_agent.agents.engines.base import Completion, SamplingParams
from sesa_agent.agents.engines.hf import HFEngine
from sesa_agent.agents.policy import Policy
from sesa_agent.configs.load import load_config
from sesa_agent.configs.schema import OptimConfig
from sesa_agent.environments import make_env
from sesa_agent.sampling.dialogue import Dialogue
from sesa_agent.sampling.trajectory import ROOT, Task, TrajectoryTree
from sesa_agent.training.progress import Progress
from sesa_agent.training.setup import build_dialogue, build_policy, resolve_auto
from sesa_agent.training.update import Learner

from .helpers.model_families import make_rows
from .helpers.toy_game import ENV_ID

pytestmark = [pytest.mark.smollm, pytest.mark.usefixtures("one_thread")]


@pytest.fixture(scope="module")
def policy(smollm2):
    return Policy.load(str(smollm2), dtype="bfloat16", device="cpu")


def dialogue(policy, env_id, **settings):
    return Dialogue(lambda: make_env(env_id), ChatFormat(policy.tokenizer), **settings)


def test_its_prompts_are_those_of_its_chat_template(policy):
    ids = ChatFormat(policy.tokenizer).opening("the rules", "the state")
    assert policy.tokenizer.decode(ids) == (
        "<|im_start|>system\nthe rules<|im_end|>\n<|im_start|>user\nthe state<|im_end|>\n"
        "<|im_start|>assistant\n"
    )
    dialogue(policy, "sesa/Sokoban-v0", window=10, thinking=True)  # refuses what rewrites


def test_it_speaks_english(policy):
    prompt = ChatFormat(policy.tokenizer).opening(
        "You answer in one word.", "What is the capital of France?"
    )
    params = SamplingParams(temperature=0.01, max_new_tokens=8)
    completion = HFEngine(policy).generate([prompt], params)[0]
    assert "Paris" in completion.text


@pytest.mark.parametrize("env_id", ["sesa/Sokoban-v0", "sesa/Countdown-v0"])
def test_it_plays_a_turn(policy, env_id):
    game = dialogue(policy, env_id)
    start = game.start(Task(env_id, 0))
    params = SamplingParams(max_new_tokens=16, stop=("</answer>",))
    completions = HFEngine(policy).generate([start.prompt_ids] * 4, params)
    assert len({completion.text for completion in completions}) > 1
    for completion in completions:
        turn, after = game.play(start, completion)
        assert turn.response_ids == completion.token_ids
        assert all(logprob <= 0 for logprob in completion.logprobs)
        assert after.turn == 2 and after.prompt_ids != start.prompt_ids


def corridor_tree(policy, game):
    """One group: two moves right win, a move left loses."""
    tree, replies = TrajectoryTree(Task(ENV_ID, 0)), {}
    for text in ("Right", "Left"):
        ids = tuple(policy.tokenizer.encode(f"<answer>{text}</answer>", add_special_tokens=False))
        replies[text] = Completion(f"<answer>{text}</answer>", ids, (-1.0,) * len(ids), "stop")
    start = game.start(tree.task)
    right, after = game.play(start, replies["Right"])
    first = tree.add(ROOT, right)
    tree.add(first, game.play(after, replies["Right"])[0])
    tree.add(ROOT, game.play(start, replies["Left"], 1)[0])
    rows = [([*start.prompt_ids, *replies[t].token_ids], len(start.prompt_ids)) for t in replies]
    return tree, make_rows(rows)


def test_a_step_of_training_makes_what_won_likelier(smollm2):
    cfg = resolve_auto(load_config(ENV_ID, "sesa", [f"model.path={smollm2}", "model.device=cpu"]))
    policy = build_policy(cfg)
    tree, rows = corridor_tree(policy, build_dialogue(cfg, policy))
    with torch.no_grad():
        before = policy.logprobs(rows)[0].sum(1)
    optimizer = torch.optim.SGD(policy.parameters(), lr=1e-3)
    cfg = replace(cfg, optim=OptimConfig(lr=1e-3))
    metrics = Learner(policy, optimizer).update([tree], cfg, Progress(step=10))
    with torch.no_grad():
        won, lost = policy.logprobs(rows)[0].sum(1) - before
    assert won > max(lost, 0)  # the tags, which both have, are likelier too
    assert metrics["train/tokens"] > 0
