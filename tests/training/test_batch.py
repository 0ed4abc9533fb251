import math
from dataclasses import replace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from sesa_agent.configs.schema import LossConfig
from sesa_agent.sampling.trajectory import ROOT
from sesa_agent.training.advantages import ADVANTAGES, best_credit, trajectory_credit
from sesa_agent.training.batch import Batch, collate
from sesa_agent.training.importance import correct_gaps, correct_history_gap, history_gap
from sesa_agent.training.micro_batches import computing_order, group_rows

from ..helpers.batches import make_credit
from ..helpers.credits import credit_of
from ..helpers.strategies import FIRST_SAMPLED, make_tree, make_turn, trees

PAD = 0


def full_context_tree():
    """Start -> a -> {b, c}, each prompt the parent's tokens and a 9."""
    turns = [
        make_turn(prompt_ids=(1,), response_ids=(11, 12), sampling_logprobs=(-0.1, -0.2)),
        make_turn(prompt_ids=(1, 11, 12, 9), response_ids=(13,), proposal_index=0),
        make_turn(prompt_ids=(1, 11, 12, 9), response_ids=(14,), proposal_index=1),
    ]
    return make_tree([ROOT, 0, 0], turns)


def sampled_tokens(batch: Batch) -> list[int]:
    return sorted(batch.token_ids[batch.loss_mask].tolist())


def test_turns_of_a_full_context_share_rows_and_are_trained_once():
    batch = collate([full_context_tree()], [make_credit([3, 1, 2], denominator=2.0)], PAD)
    assert batch.token_ids.tolist() == [[1, 11, 12, 9, 13], [1, 11, 12, 9, 14]]
    # Which of the two rows trains the shared turn does not matter; here it is the last.
    assert batch.loss_mask.int().tolist() == [[0, 0, 0, 0, 1], [0, 1, 1, 0, 1]]
    assert batch.positive.tolist() == [[0, 0, 0, 0, 0.5], [0, 1.5, 1.5, 0, 1.0]]
    assert batch.turn.tolist() == [[-1, -1, -1, -1, 0], [-1, 1, 1, -1, 2]]
    assert batch.proposal_index.tolist() == [0, 0, 1]
    assert batch.sampling_logprobs[1, 1:3].tolist() == pytest.approx([-0.1, -0.2])
    assert batch.num_tokens == 4


def test_turns_of_a_state_context_stand_alone_and_are_padded_on_the_right():
    turns = [make_turn(prompt_ids=(1, 2), response_ids=(7,)), make_turn(prompt_ids=(3,))]
    batch = collate([make_tree([ROOT, 0], turns)], [make_credit([1, 1])], pad_id=5)
    assert batch.token_ids.tolist() == [[1, 2, 7], [3, 7, 5]]
    assert batch.attention_mask.int().tolist() == [[1, 1, 1], [1, 1, 0]]
    assert batch.loss_mask.int().tolist() == [[0, 0, 1], [0, 1, 0]]


def test_a_row_ends_at_the_last_turn_that_is_trained():
    batch = collate([full_context_tree()], [make_credit([1, 0, 0])], PAD)
    assert batch.token_ids.tolist() == [[1, 11, 12]]
    assert len(batch.proposal_index) == 1


def test_untaught_turns_are_kept_only_on_demand_and_never_without_weight():
    credit = make_credit([1, 0, 0], weight=[1, 1, 0])
    assert sampled_tokens(collate([full_context_tree()], [credit], PAD)) == [11, 12]
    batch = collate([full_context_tree()], [credit], PAD, keep_zero_advantage=True)
    assert sampled_tokens(batch) == [11, 12, 13]


def test_opposite_advantages_that_cancel_are_still_trained():
    credit = make_credit([1, 0, 0], negative=[-1, 0, 0])
    assert sampled_tokens(collate([full_context_tree()], [credit], PAD)) == [11, 12]


def test_nothing_to_learn_gives_an_empty_batch():
    batch = collate([make_tree([ROOT])], [make_credit([0], weight=[0], denominator=0.0)], PAD)
    assert batch.token_ids.shape == (0, 0)
    assert batch.num_tokens == 0
    assert batch.minibatches(2, torch.Generator()) == []
    assert group_rows(batch, 100, computing_order(batch)) == []
    assert len(batch.select([])) == 0
    assert history_gap(batch).shape == (0,)
    assert len(correct_history_gap(batch, "negatives")) == 0


def test_an_empty_prompt_is_refused():
    tree = make_tree([ROOT], [make_turn(prompt_ids=())])
    with pytest.raises(ValueError, match="prompt of at least one token"):
        collate([tree], [make_credit([1])], PAD)


def test_an_empty_response_is_not_trained():
    tree = make_tree([ROOT, ROOT], [make_turn(response_ids=()), make_turn()])
    assert collate([tree], [make_credit([1, 1])], PAD).num_tokens == 1


def test_the_denominator_is_common_to_all_trees():
    groups = [make_tree([ROOT]), make_tree([ROOT])]
    credits = [make_credit([1], denominator=1.0), make_credit([0], denominator=3.0)]
    assert collate(groups, credits, PAD).positive.sum().item() == pytest.approx(0.25)


@pytest.mark.parametrize("name", list(ADVANTAGES))
@pytest.mark.parametrize("aggregate", ["trajectory", "token"])
@given(groups=st.lists(trees(), min_size=1, max_size=4))
def test_all_weights_of_a_batch_add_up_to_1(name, aggregate, groups):
    cfg = LossConfig(aggregate=aggregate)
    credits = [credit_of(ADVANTAGES[name], tree, cfg) for tree in groups]
    batch = collate(groups, credits, PAD, keep_zero_advantage=True, dtype=torch.float64)
    is_taught = any(credit.denominator for credit in credits)
    assert batch.weight.sum().item() == pytest.approx(float(is_taught), abs=1e-9)


@given(st.lists(trees(), min_size=1, max_size=3), st.booleans())
def test_every_taught_turn_is_covered_exactly_once(groups, keep_zero_advantage):
    credits = [credit_of(trajectory_credit, tree, LossConfig()) for tree in groups]
    batch = collate(groups, credits, PAD, keep_zero_advantage)
    expected = [
        token
        for tree, credit in zip(groups, credits, strict=True)
        for turn, is_taught in zip(tree.turns, credit.positive - credit.negative > 0, strict=True)
        if keep_zero_advantage or is_taught
        for token in turn.response_ids
    ]
    assert sampled_tokens(batch) == sorted(expected)
    assert not batch.loss_mask[:, :1].any()
    assert not (batch.loss_mask & ~batch.attention_mask).any()
    assert (batch.loss_mask == (batch.turn >= 0)).all()
    assert set(batch.turn[batch.loss_mask].tolist()) == set(range(len(batch.proposal_index)))
    for values in (batch.positive, batch.negative, batch.weight, batch.sampling_logprobs):
        assert not values[~batch.loss_mask].any()


@given(trees())
def test_a_token_stands_behind_the_prompt_and_the_response_so_far(tree):
    batch = collate(
        [tree], [credit_of(trajectory_credit, tree, LossConfig())], PAD, keep_zero_advantage=True
    )
    context = {
        token: list(turn.prompt_ids + turn.response_ids[:position])
        for turn in tree.turns
        for position, token in enumerate(turn.response_ids)
    }
    for row, column in batch.loss_mask.nonzero().tolist():
        token = int(batch.token_ids[row, column])
        assert token >= FIRST_SAMPLED
        assert batch.token_ids[row, :column].tolist() == context[token]


@given(trees(), st.integers(1, 5), st.integers(0, 100))
def test_minibatches_deal_out_all_rows_and_average_to_the_whole(tree, num, seed):
    whole = collate(
        [tree], [credit_of(best_credit, tree, LossConfig())], PAD, True, dtype=torch.float64
    )
    parts = whole.minibatches(num, torch.Generator().manual_seed(seed))
    assert len(parts) == min(num, len(whole.prompt_group.unique()))
    assert sorted(sum((sampled_tokens(part) for part in parts), [])) == sampled_tokens(whole)
    questions = [part.prompt_group.unique().tolist() for part in parts]
    assert sorted(sum(questions, [])) == whole.prompt_group.unique().tolist()  # each in one part
    sizes = [len(part) for part in questions]
    assert not sizes or max(sizes) - min(sizes) <= 1
    for name in ("positive", "negative", "weight"):
        total = sum(getattr(part, name).sum().item() for part in parts)
        assert total == pytest.approx(len(parts) * getattr(whole, name).sum().item(), abs=1e-9)


def test_minibatches_follow_the_generator():
    groups = [make_tree([ROOT]) for _ in range(8)]
    batch = collate(groups, [make_credit([credit]) for credit in range(1, 9)], PAD)
    orders = [
        [part.positive.sum().item() for part in batch.minibatches(4, generator)]
        for generator in (torch.Generator().manual_seed(seed) for seed in (1, 1, 2))
    ]
    assert orders[0] == orders[1] != orders[2]


def test_answers_to_one_prompt_of_a_group_stay_together_in_a_minibatch():
    start, later = (1, 2), (3, 4)
    answers = [(start, (60,)), (start, (61,)), (start, (62,)), (later, (63,)), (later, (64,))]
    turns = [make_turn(prompt_ids=prompt, response_ids=said) for prompt, said in answers]
    groups = [make_tree([ROOT, ROOT, ROOT, 2, 2], turns) for _ in range(2)]
    batch = collate(groups, [make_credit([1.0] * 5)] * 2, PAD)
    assert sorted(torch.bincount(batch.prompt_group).tolist()) == [2, 2, 3, 3]
    for part in batch.minibatches(2, torch.Generator().manual_seed(0)):
        assert len(part.prompt_group.unique()) == 2


@given(trees(), st.integers(1, 60))
def test_micro_batches_cover_all_rows_within_the_limit(tree, max_tokens):
    whole = collate(
        [tree], [credit_of(trajectory_credit, tree, LossConfig())], PAD, keep_zero_advantage=True
    )
    rows = group_rows(whole, max_tokens, computing_order(whole))
    assert sorted(sum(rows, [])) == list(range(len(whole)))
    for part in map(whole.select, rows):
        assert len(part) == 1 or part.token_ids.numel() <= max_tokens
        assert part.attention_mask[:, -1].any(), "padding that no row needs"


def test_select_trims_padding_and_keeps_turn_numbers():
    turns = [make_turn(prompt_ids=(1, 2, 3)), make_turn(prompt_ids=(4,))]
    batch = collate([make_tree([ROOT, ROOT], turns)], [make_credit([1, 1])], PAD)
    part = batch.select(torch.tensor([1]))
    assert part.token_ids.tolist() == [[4, 7]]
    assert part.turn.tolist() == [[-1, 1]]
    assert len(part.proposal_index) == 2


def test_to_changes_only_floating_point_tensors_when_given_a_dtype():
    batch = collate([make_tree([ROOT])], [make_credit([1])], PAD).to(torch.float64).to("cpu")
    assert batch.positive.dtype == batch.old_logprobs.dtype == torch.float64
    assert batch.token_ids.dtype == batch.turn.dtype == torch.int64
    assert batch.loss_mask.dtype == torch.bool


def gap_batch() -> Batch:
    """Three turns of two tokens; pi/mu = 1.5 (first proposal), .25 and 4; advantages of each."""
    turns = [
        make_turn(response_ids=(7, 8), sampling_logprobs=(-1.0, -2.0), proposal_index=index)
        for index in range(3)
    ]
    credit = make_credit([1, 1, 1], negative=[-1, -1, -1])
    batch = collate([make_tree([ROOT] * 3, turns)], [credit], PAD, dtype=torch.float64)
    gap = torch.tensor([1.5, 0.25, 4.0], dtype=torch.float64).log()
    old_logprobs = batch.sampling_logprobs + gap[:, None] / 2  # half of it for each token
    return replace(batch, old_logprobs=torch.where(batch.loss_mask, old_logprobs, -9.0))


def test_the_history_gap_adds_up_over_the_tokens_of_a_turn():
    assert history_gap(gap_batch()).exp().tolist() == pytest.approx([1.5, 0.25, 4.0], abs=1e-9)


@pytest.mark.parametrize(
    ("mode", "positive", "negative"),
    [
        ("none", [1, 1, 1], [-1, -1, -1]),
        ("negatives", [1, 1, 1], [-1, -0.25, -1]),
        ("truncated", [1, 0.25, 2], [-1, -0.25, -2]),
    ],
)
def test_history_gap_weighs_later_proposals(mode, positive, negative):
    batch = correct_history_gap(gap_batch(), mode)
    for column in (2, 3):  # after two prompt tokens
        assert batch.positive[:, column].tolist() == pytest.approx(positive, abs=1e-9)
        assert batch.negative[:, column].tolist() == pytest.approx(negative, abs=1e-9)
    assert not batch.negative[~batch.loss_mask].any()


@pytest.mark.parametrize("gap", [1000.0, math.inf])
def test_a_gap_beyond_the_range_of_exp_is_cut(gap):
    """exp(1000) is inf, which is cut to the cap; exp(-1000) is 0. Nothing becomes NaN."""
    batch = gap_batch()
    gaps = torch.tensor([[gap], [-gap], [gap]], dtype=torch.float64)
    batch = replace(batch, old_logprobs=batch.sampling_logprobs + gaps * batch.loss_mask.double())
    batch = replace(batch, old_logprobs=batch.old_logprobs.where(batch.loss_mask, 0.0))
    loss = LossConfig(history_correction="truncated", engine_importance_cap=2.0)
    corrected = correct_gaps(batch, loss)
    assert corrected.negative[:, 2].tolist() == [-2, 0, -2]
    assert corrected.positive[:, 2].tolist() == [2, 0, 2]
    assert not corrected.positive[~batch.loss_mask].any()


def test_history_gap_of_selected_rows_is_that_of_the_whole():
    batch = gap_batch()
    part = correct_history_gap(batch.select([2, 1]), "truncated")
    whole = correct_history_gap(batch, "truncated")
    assert part.negative.tolist() == whole.negative[[2, 1]].tolist()


def test_an_unknown_correction_is_refused():
    with pytest.raises(ValueError, match=r"loss\.history_correction .* 'positives'"):
        correct_history_gap(gap_batch(), "positives")
