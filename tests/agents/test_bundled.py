"""The bundled model is what its card says: small, well-formed, peaked, mostly wrong."""

import numpy as np
import pytest

from sesa_agent.agents.bundled import build_tokenizer
from sesa_agent.agents.chat import ChatFormat
from sesa_agent.agents.hf_engine import HFEngine
from sesa_agent.agents.policy import BUNDLED, Policy
from sesa_agent.configs.load import load_config
from sesa_agent.evaluation.evaluate import evaluate
from sesa_agent.sampling.proposer import Decision, propose
from sesa_agent.sampling.seeds import puzzle_seeds
from sesa_agent.sampling.trajectory import Task
from sesa_agent.training.pretrain import phrases
from sesa_agent.training.setup import build_dialogue, sampling_params


@pytest.fixture(scope="module")
def policy() -> Policy:
    return Policy.load(BUNDLED)


def test_any_text_survives_the_tokenizer(policy):
    tokenizer = policy.tokenizer
    for text in ("#√_P\n", "<answer>Up || Left</answer>", "żółć 𝄞 \t\r\n <|end|>", ""):
        ids = tokenizer.encode(text, add_special_tokens=False)
        assert tokenizer.decode(ids) == text


def test_cells_words_tags_and_digits_are_single_tokens(policy):
    words = ["#", "_", "O", "√", "X", "P", "S", "G", "Up", "Down", "Left", "Right"]
    words += ["<answer>", "</answer>", "<think>", "</think>", " || ", *"0123456789"]
    for word in words:
        assert len(policy.tokenizer.encode(word, add_special_tokens=False)) == 1, word


def test_the_shipped_tokenizer_is_the_one_that_the_recipe_builds(policy):
    assert build_tokenizer(phrases()).get_vocab() == policy.tokenizer.get_vocab()


def test_it_is_under_a_million_weights_and_its_template_only_appends(policy):
    assert sum(p.numel() for p in policy.parameters()) < 1_000_000
    ChatFormat(policy.tokenizer).check_appends()


@pytest.mark.parametrize(
    ("name", "low", "high"),
    [("sokoban", 0.05, 0.15), ("countdown", 0.10, 0.20), ("frozen_lake", 0.15, 0.25)],
)
def test_base_success_is_like_the_papers(policy, name, low, high):
    cfg = load_config(name)
    result = evaluate(
        HFEngine(policy),
        build_dialogue(cfg, policy),
        cfg.env.id,
        puzzle_seeds("test", 400),
        sampling_params(cfg.engine, 0.5),
    )
    # The card's interval, from 2000 puzzles, lies within the bounds; 400 can be .04 off.
    assert low - 0.04 < result.success_rate < high + 0.04
    assert result.readable_rate > 0.99


def test_asked_for_another_proposal_it_gives_another(policy):
    cfg = load_config("sokoban")
    dialogue = build_dialogue(cfg, policy)
    decisions = [
        Decision(dialogue.start(Task(cfg.env.id, seed)), width=3)
        for seed in puzzle_seeds("test", 100)
    ]
    params = sampling_params(cfg.engine)
    propose(HFEngine(policy), dialogue, decisions, params, np.random.default_rng(0))
    num_proposals = sum(len(decision.proposals) for decision in decisions)
    num_duplicates = sum(decision.num_duplicates for decision in decisions)
    assert num_proposals == 300
    assert num_duplicates < 0.05 * num_proposals
