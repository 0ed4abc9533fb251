from dataclasses import replace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from sesa_agent.configs.schema import LossConfig
from sesa_agent.sampling.trajectory import ROOT, TrajectoryTree
from sesa_agent.training.advantages import group_advantages, leaf_returns, trajectory_credit
from sesa_agent.training.batch import Batch, collate
from sesa_agent.training.losses import grpo_loss, mean_stats
from sesa_agent.training.micro_batches import computing_order, group_rows, merge_equal_rows

from ..helpers.batches import collate_double, lookup, make_credit, random_logprobs
from ..helpers.credits import credit_of
from ..helpers.strategies import FIRST_SAMPLED, make_tree, make_turn, trees

seeds = st.integers(0, 10_000)
aggregates = st.sampled_from(["trajectory", "token"])


def naive_loss(tree: TrajectoryTree, cfg: LossConfig, new: Tensor, old: Tensor) -> Tensor:
    """GRPO as printed: one row per trajectory, shared turns repeated, min(r A, clip(r) A)."""
    advantages = group_advantages(leaf_returns(tree, 0.0), cfg.baseline, cfg.normalize_std)
    terms, num_tokens = [], 0
    for trajectory, advantage in zip(tree.trajectories(), advantages, strict=True):
        tokens = torch.tensor([t for turn in trajectory.turns for t in turn.response_ids])
        ratio = (new - old)[tokens - FIRST_SAMPLED].exp()
        clipped = ratio.clamp(1 - cfg.clip_low, 1 + cfg.clip_high)
        gain = torch.minimum(ratio * advantage, clipped * advantage)
        terms.append(gain.mean() if cfg.aggregate == "trajectory" else gain.sum())
        num_tokens += len(tokens)
    return -torch.stack(terms).sum() / (len(terms) if cfg.aggregate == "trajectory" else num_tokens)


def one_token_batch(positive: float, negative: float, weight: float = 1.0) -> Batch:
    credit = make_credit([positive], [negative], [weight])
    return collate([make_tree([ROOT], [make_turn(prompt_ids=(1,))])], [credit], 0)


@given(tree=trees(), aggregate=aggregates, seed=seeds, baseline=st.sampled_from(["mean", "max"]))
def test_shared_turns_are_exactly_grpo_over_trajectories(tree, aggregate, seed, baseline):
    """Losses and gradients, with about half of the ratios outside the clip range."""
    cfg = LossConfig(aggregate=aggregate, baseline=baseline)
    new, old = random_logprobs(seed)
    batch = collate_double([tree], cfg, old)
    loss, _ = grpo_loss(lookup(new, batch), None, batch, cfg)
    expected = naive_loss(tree, cfg, new, old)
    assert loss.item() == pytest.approx(expected.item(), abs=1e-9)
    (gradient,) = torch.autograd.grad(loss, new)
    (expected_gradient,) = torch.autograd.grad(expected, new)
    torch.testing.assert_close(gradient, expected_gradient, rtol=0, atol=1e-9)


def test_two_groups_average_over_all_their_trajectories():
    """The common denominator is the number of trajectories of both groups, not a mean of means."""
    cfg = LossConfig(normalize_std=False)
    first = make_tree([ROOT] * 2, [make_turn(reward=r) for r in (1, 0)])
    second = make_tree([ROOT] * 3, [make_turn(reward=r) for r in (3, 0, 0)])
    credits = [credit_of(trajectory_credit, tree, cfg) for tree in (first, second)]
    batch = collate([first, second], credits, 0)
    # Advantages .5, -.5 and 2, -1, -1; absolute values add up to 5, over 5 trajectories.
    assert (batch.positive - batch.negative).sum().item() == pytest.approx(1.0, abs=1e-6)


@pytest.mark.parametrize(
    ("ratio", "positive", "negative", "expected", "gradient"),
    [
        (1.1, 2.0, 0.0, -2.2, -2.2),  # inside: -A r, with d/d logp = -A r
        (2.0, 2.0, 0.0, -2.56, 0.0),  # above: -A (1 + .28)
        (0.5, 2.0, 0.0, -1.0, -1.0),  # below, but A > 0: not clipped
        (0.9, 0.0, -2.0, 1.8, 1.8),
        (0.5, 0.0, -2.0, 1.6, 0.0),  # below: -A (1 - .2)
        (2.0, 0.0, -2.0, 4.0, 4.0),  # above, but A < 0: not clipped
        (2.0, 2.0, -2.0, 1.44, 4.0),  # one half of a shared turn is frozen: -2 * 1.28 + 2 * 2
    ],
)
def test_both_clip_sides_for_both_signs(ratio, positive, negative, expected, gradient):
    batch = one_token_batch(positive, negative).to(torch.float64)
    logprobs = torch.tensor([[0.0, ratio]], dtype=torch.float64).log().requires_grad_()
    loss, stats = grpo_loss(logprobs, None, batch, LossConfig())
    loss.backward()
    assert logprobs.grad is not None
    assert loss.item() == pytest.approx(expected, abs=1e-6)
    assert logprobs.grad[0, 1].item() == pytest.approx(gradient, abs=1e-6)
    is_clipped = ratio > 1.28 and positive > 0 or ratio < 0.8 and negative < 0
    assert stats["clipped"] == is_clipped


@pytest.mark.parametrize(
    ("ratio", "positive", "negative", "expected", "gradient", "is_clipped"),
    [
        (2.9, 0.0, -2.0, 5.8, 5.8, False),  # inside: -A r
        (5.0, 0.0, -2.0, 6.0, 0.0, True),  # beyond: -A * 3
        (0.5, 0.0, -2.0, 1.6, 0.0, True),  # the lower side stays: -A (1 - .2)
        (5.0, 2.0, 0.0, -2.56, 0.0, True),  # a positive advantage knows only clip_high
        (0.5, 2.0, 0.0, -1.0, -1.0, False),
        (5.0, 2.0, -2.0, 3.44, 0.0, True),  # a shared turn: -2 * 1.28 + 2 * 3
    ],
)
def test_the_dual_clip_for_both_signs(ratio, positive, negative, expected, gradient, is_clipped):
    """Without it the loss of a failure that became much likelier has no bound."""
    batch = one_token_batch(positive, negative).to(torch.float64)
    logprobs = torch.tensor([[0.0, ratio]], dtype=torch.float64).log().requires_grad_()
    loss, stats = grpo_loss(logprobs, None, batch, LossConfig(dual_clip=3.0))
    loss.backward()
    assert logprobs.grad is not None
    assert loss.item() == pytest.approx(expected, abs=1e-6)
    assert logprobs.grad[0, 1].item() == pytest.approx(gradient, abs=1e-6)
    assert stats["clipped"] == is_clipped


@given(trees(), seeds)
def test_without_a_dual_clip_the_loss_is_the_clipped_surrogate_bit_for_bit(tree, seed):
    cfg = LossConfig()
    new, old = random_logprobs(seed, spread=3.0)
    batch = collate_double([tree], cfg, old)
    ratio = torch.where(batch.loss_mask, lookup(new, batch) - batch.old_logprobs, 0.0).exp()
    gain = batch.positive * ratio.clamp(max=1.28) + batch.negative * ratio.clamp(min=0.8)
    loss, _ = grpo_loss(lookup(new, batch), None, batch, cfg)
    assert torch.equal(loss, -gain.sum())
    gradients = (torch.autograd.grad(value, new)[0] for value in (loss, -gain.sum()))
    assert torch.equal(*gradients)


def test_entropy_and_kl_by_hand():
    # w = .5, H = .7: -.1 * .5 * .7 = -.035. pi_ref / pi = 2: k3 = 2 - ln 2 - 1 = .306853,
    # .2 * .5 * .306853 = .030685. Surrogate: -1 (ratio 1, S+ = 1).
    batch = one_token_batch(1.0, 0.0, weight=0.5)
    logprobs = torch.tensor([[0.0, -1.0]])
    batch = replace(batch, old_logprobs=logprobs)
    reference = logprobs + torch.tensor(2.0).log()
    cfg = LossConfig(entropy_coef=0.1, kl_coef=0.2)
    loss, stats = grpo_loss(logprobs, torch.full((1, 2), 0.7), batch, cfg, reference)
    assert loss.item() == pytest.approx(-1 - 0.035 + 0.0306853, abs=1e-6)
    assert stats["entropy"] == pytest.approx(0.7, abs=1e-6)
    assert stats["kl"] == pytest.approx(0.3068528, abs=1e-6)


def test_missing_inputs_are_named():
    batch, logprobs = one_token_batch(1.0, 0.0), torch.zeros(1, 2)
    with pytest.raises(ValueError, match=r"loss\.entropy_coef"):
        grpo_loss(logprobs, None, batch, LossConfig(entropy_coef=0.1))
    with pytest.raises(ValueError, match=r"loss\.kl_coef"):
        grpo_loss(logprobs, None, batch, LossConfig(kl_coef=0.1))


@given(trees(), aggregates)
def test_ratio_one_gives_minus_the_sum_of_advantages(tree, aggregate):
    cfg = LossConfig(aggregate=aggregate)
    batch = collate_double([tree], cfg, random_logprobs(0)[1])
    loss, stats = grpo_loss(batch.old_logprobs, None, batch, cfg)
    assert loss.item() == pytest.approx(-(batch.positive + batch.negative).sum().item(), abs=1e-9)
    assert stats["clipped"] == 0
    assert stats["ratio"] == stats["tokens"] == batch.num_tokens
    assert stats["approx_kl"] == 0


@given(trees(), seeds)
def test_nothing_outside_the_mask_counts_nan_included(tree, seed):
    cfg = LossConfig(entropy_coef=0.1, kl_coef=0.1)
    new, old = random_logprobs(seed)
    batch = collate_double([tree], cfg, old)
    clean = torch.where(batch.loss_mask, lookup(new.detach(), batch), 0.0).requires_grad_()
    dirty = torch.where(batch.loss_mask, clean.detach(), torch.nan).requires_grad_()
    for logprobs in (clean, dirty):
        entropy, reference = -logprobs, logprobs.detach() + 0.1
        loss, stats = grpo_loss(logprobs, entropy, batch, cfg, reference)
        loss.backward()
        assert loss.isfinite()
        assert all(value == value for value in stats.values())
        assert logprobs.grad is not None
        assert (logprobs.grad[~batch.loss_mask] == 0).all()
    assert torch.equal(clean.grad, dirty.grad)  # pyright: ignore[reportArgumentType]


def test_absurd_ratios_leave_the_gradient_finite():
    batch = one_token_batch(1.0, -1.0)
    for change in (-500.0, 500.0, -torch.inf):
        logprobs = torch.tensor([[0.0, change]], requires_grad=True)
        loss, _ = grpo_loss(logprobs, None, batch, LossConfig(kl_coef=0.1), -logprobs.detach())
        loss.backward()
        assert logprobs.grad is not None
        assert logprobs.grad.isfinite().all()


@given(st.lists(trees(max_turns=5), min_size=1, max_size=2), seeds, st.integers(1, 60))
def test_micro_batches_add_up_to_the_whole(groups, seed, max_tokens):
    cfg = LossConfig(entropy_coef=0.1, kl_coef=0.1)
    new, old = random_logprobs(seed)

    def loss_of(batch: Batch) -> tuple[Tensor, dict[str, float]]:
        logprobs = lookup(new, batch)
        return grpo_loss(logprobs, -logprobs, batch, cfg, logprobs.detach() + 0.3)

    whole = collate_double(groups, cfg, old)
    loss, stats = loss_of(whole)
    parts = [
        loss_of(part)
        for part in map(whole.select, group_rows(whole, max_tokens, computing_order(whole)))
    ]
    total = sum((part for part, _ in parts), torch.zeros(()))
    assert total.item() == pytest.approx(loss.item(), abs=1e-9)
    torch.testing.assert_close(
        torch.autograd.grad(total, new)[0], torch.autograd.grad(loss, new)[0], rtol=0, atol=1e-9
    )
    assert mean_stats(part for _, part in parts) == pytest.approx(mean_stats([stats]), abs=1e-9)


@given(trees(), seeds, st.integers(1, 9))
def test_more_padding_changes_nothing(tree, seed, extra):
    cfg = LossConfig()
    new, old = random_logprobs(seed)
    batch = collate_double([tree], cfg, old)

    def pad(tensor: Tensor, value: int = 0) -> Tensor:
        return torch.nn.functional.pad(tensor, (0, extra), value=value)

    columns = ("attention_mask", "loss_mask", "positive", "negative", "weight", "sampling_logprobs")
    columns += ("kl_mask", "count")
    padded = replace(
        batch,
        token_ids=pad(batch.token_ids),
        turn=pad(batch.turn, -1),
        old_logprobs=pad(batch.old_logprobs),
        **{name: pad(getattr(batch, name)) for name in columns},
    )
    loss, stats = grpo_loss(lookup(new, batch), None, batch, cfg)
    padded_loss, padded_stats = grpo_loss(lookup(new, padded), None, padded, cfg)
    assert padded_loss.item() == pytest.approx(loss.item(), abs=1e-12)
    assert padded_stats == pytest.approx(stats, abs=1e-12)


@given(trees(), seeds, st.integers(2, 4), st.booleans())
def test_equal_rows_count_as_often_as_they_were_drawn(tree, seed, copies, kl_mask):
    """Loss, gradient and statistics of a group drawn several times, whose credit differs."""
    cfg = LossConfig(entropy_coef=0.1, kl_coef=0.1)
    new, old = random_logprobs(seed)
    reference, entropy = old.flip(0), -old
    batch = collate_double([tree] * copies, cfg, old)
    scale = torch.linspace(0.5, 2.0, len(batch), dtype=torch.float64)[:, None]
    batch = replace(batch, positive=batch.positive * scale, negative=batch.negative * scale)
    batch = replace(batch, kl_mask=batch.loss_mask & kl_mask)
    merged = merge_equal_rows(batch)
    assert len(merged) == len({tuple(row) for row in batch.token_ids.tolist()})
    assert merged.num_tokens == batch.num_tokens == copies * merged.loss_mask.sum()
    results = []
    for part in (batch, merged):
        tensors = (lookup(table, part) for table in (new, entropy, reference))
        logprobs, entropies, references = tensors
        loss, stats = grpo_loss(logprobs, entropies, part, cfg, references)
        results.append((loss.item(), torch.autograd.grad(loss, new)[0], stats))
    assert results[0][0] == pytest.approx(results[1][0], abs=1e-9)
    torch.testing.assert_close(results[0][1], results[1][1], rtol=0, atol=1e-9)
    assert results[0][2] == pytest.approx(results[1][2], abs=1e-9)


def test_rows_that_differ_are_left_as_they_are():
    tree = make_tree([ROOT, ROOT], [make_turn(response_ids=(7,)), make_turn(response_ids=(8,))])
    batch = collate([tree], [make_credit([1.0, 1.0])], 0)
    assert merge_equal_rows(batch) is batch
    twins = make_tree([ROOT, ROOT], [make_turn(), make_turn()])
    held = collate([twins], [make_credit([1.0, 1.0])], 0)
    held = replace(held, kl_mask=held.loss_mask & torch.tensor([[True], [False]]))
    assert len(merge_equal_rows(held)) == 2


def test_mean_stats_are_per_token():
    sums = [
        {"tokens": 3.0, "clipped": 1.0, "ratio": 3.3, "approx_kl": 0.4},
        {"tokens": 1.0, "clipped": 1.0, "ratio": 0.7, "approx_kl": 0.0},
    ]
    means = {"clip_fraction": 0.5, "ratio": 1.0, "approx_kl": 0.1}
    assert mean_stats(sums) == pytest.approx(means, abs=1e-9)
    assert mean_stats([]) == {}
