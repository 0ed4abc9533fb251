"""Log-probabilities of saved trees are those that training computes."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings

from sesa_agent.agents.policy import Policy
from sesa_agent.sampling.trajectory import ROOT, DuplicateProposal
from sesa_agent.training.advantages import Credit
from sesa_agent.training.batch import collate
from sesa_agent.training.score import score, with_plain_logprobs

from ..helpers.strategies import make_tree, make_turn, trees


@pytest.fixture(scope="module")
def policy(llama):
    return Policy.load(str(llama))


@given(trees())
@settings(max_examples=15)
def test_every_turn_has_the_sum_of_its_tokens(policy, tree):
    ones, zeros = np.ones(len(tree)), np.zeros(len(tree))
    batch = collate([tree], [Credit(zeros, zeros, ones, 1.0)], 0, keep_zero_advantage=True)
    logprobs = score(policy, batch, 64)[0]
    by_token = dict(
        zip(
            batch.token_ids[batch.loss_mask].tolist(),
            logprobs[batch.loss_mask].tolist(),
            strict=True,
        )
    )
    for turn in with_plain_logprobs(policy, tree, 64).turns:
        expected = sum(by_token[token] for token in turn.response_ids)
        assert turn.plain_logprob == pytest.approx(expected, abs=1e-4)


def test_a_repeat_is_scored_at_its_decision_and_an_empty_response_is_certain(policy):
    turns = [
        make_turn(prompt_ids=(5, 6), response_ids=(7, 8)),
        make_turn(prompt_ids=(9, 5), response_ids=()),
    ]
    tree = make_tree([ROOT, 0], turns)
    tree.duplicates.append(DuplicateProposal(ROOT, 1, (7, 8), (-1.0, -1.0), "up", "up"))
    scored = with_plain_logprobs(policy, tree, 64)
    assert scored.duplicates[0].plain_logprob == pytest.approx(scored.turns[0].plain_logprob)
    assert scored.turns[1].plain_logprob == 0.0
    assert replace(scored.turns[0], plain_logprob=None) == turns[0]
