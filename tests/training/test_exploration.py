import doctest
import math
from dataclasses import replace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from sesa_agent.agents.policy import Policy
from sesa_agent.configs.load import load_config
from sesa_agent.configs.schema import LossConfig
from sesa_agent.sampling.trajectory import ROOT
from sesa_agent.training import exploration
from sesa_agent.training.batch import Batch, collate
from sesa_agent.training.exploration import (
    EXPLORATIONS,
    Scores,
    active_entropy_coef,
    answer_tokens,
    changed_share,
    clip_cov,
    covariances,
    entropy_advantage,
    kl_cov,
    next_entropy_coef,
    steer,
    top_entropy,
)
from sesa_agent.training.losses import grpo_loss

from ..helpers.batches import (
    collate_double,
    column,
    column_batch,
    lookup,
    make_credit,
    random_logprobs,
    seeded,
    taught,
)
from ..helpers.runs import make_config, read_metrics, read_weights, run
from ..helpers.strategies import make_tree, make_turn, trees
from ..helpers.tiny_models import chatml_tokenizer

pytestmark = pytest.mark.usefixtures("one_thread")

BASELINES = (
    "ragen-adaptive-entropy",
    "ragen-entropy-advantage",
    "ragen-kl-cov",
    "ragen-clip-cov",
    "ragen-top-entropy",
    "ragen-pass-at-k",
    "ragen-steer",
    "ragen-lp-reg",
    "ragen-ucas",
    "ragen-dcpo",
    "ragen-siren",
    "ragen-epo",
)


def test_the_adaptive_coefficient_by_hand():
    # Target .2: below it the coefficient rises by .005 and acts, above it falls and rests.
    coef, seen = 0.001, []
    for entropy in (0.1, 0.1, 0.3, 0.2, 0.3, 0.3, 0.3):
        seen.append((round(coef, 3), round(active_entropy_coef(coef, entropy, 0.2), 3)))
        coef = next_entropy_coef(coef, entropy, 0.2)
    assert seen[:4] == [(0.001, 0.001), (0.006, 0.006), (0.011, 0), (0.006, 0.006)]
    assert seen[4:] == [(0.006, 0), (0.001, 0), (0, 0)]
    assert next_entropy_coef(1.0, 0.1, 0.2) == 1
    assert doctest.testmod(exploration).failed == 0


@pytest.mark.parametrize(
    ("advantage", "entropy", "expected"),
    [
        (1.0, 1.0, 1.4),  # + .4 * 1
        (1.0, 2.0, 1.5),  # .8 is more than 1/2
        (-1.0, 1.0, -0.6),
        (-0.5, 9.0, -0.25),
        (0.0, 9.0, 0.0),
    ],
)
def test_the_entropy_advantage_by_hand(advantage, entropy, expected):
    batch = column_batch([advantage], weight=0.5)
    result = entropy_advantage(batch, column([entropy]))
    assert taught(result) == pytest.approx([0.5 * expected], abs=1e-9)


def test_the_entropy_advantage_of_a_shared_turn_is_the_sum_over_its_trajectories():
    # Two trajectories of weight .3 with advantages 1 and -1 at H = 1: .3 * 1.4 and .3 * -.6.
    credit = make_credit([0.3], [-0.3], [0.6])
    batch = collate([make_tree([ROOT], [make_turn()])], [credit], 0, dtype=torch.float64)
    result = entropy_advantage(batch, torch.ones_like(batch.weight))
    assert result.positive.sum().item() == pytest.approx(0.42, abs=1e-9)
    assert result.negative.sum().item() == pytest.approx(-0.18, abs=1e-9)


@given(st.lists(st.tuples(st.floats(-3, 3), st.floats(0, 5)), min_size=1, max_size=8))
def test_one_trajectory_a_turn_gives_the_printed_formula_and_keeps_its_sign(pairs):
    advantages, entropies = zip(*pairs, strict=True)
    result = taught(entropy_advantage(column_batch(advantages), column(entropies)))
    expected = [a + min(0.4 * h, abs(a) / 2) for a, h in pairs]
    assert result == pytest.approx(expected, abs=1e-9)
    assert all(value * a >= 0 for value, a in zip(result, advantages, strict=True))


def test_covariances_by_hand():
    # mean A = 0, mean log p = -2: 2 * 1, -1 * 0, -1 * -1; a common weight changes nothing.
    for weight in (1.0, 0.1):
        batch = column_batch([2.0, -1.0, -1.0], [-1.0, -2.0, -3.0], weight)
        assert covariances(batch).tolist() == pytest.approx([2, 0, 1], abs=1e-6)


@pytest.mark.parametrize(
    ("share", "held"), [(0.0, []), (0.01, [0]), (1 / 3, [0]), (2 / 3, [0, 2]), (1.0, [0, 1, 2])]
)
def test_kl_cov_holds_the_tokens_of_the_highest_covariance(share, held):
    batch = column_batch([2.0, -1.0, -1.0], [-1.0, -2.0, -3.0])
    result = kl_cov(batch, share)
    assert result.kl_mask.nonzero().tolist() == [[row, 1] for row in held]
    assert changed_share(batch, result) == pytest.approx(len(held) / 3)


@pytest.mark.parametrize(
    ("ratio", "kl_mask", "loss", "gradient"),
    [
        (2.0, True, -3.3068528, -3.0),  # -2 * 2 + ln 2, -2 * 2 + 1
        (0.5, True, -0.3068528, -2.0),  # -2 / 2 + ln 2, -2 / 2 - 1
        (1.0, True, -2.0, -2.0),  # |log r| has no slope at 1
        (2.0, False, -2.56, 0.0),  # clipped, as everywhere else
    ],
)
def test_a_held_token_follows_the_formula_of_kl_cov(ratio, kl_mask, loss, gradient):
    """-A r + |log r| with A = 2 and weight 1, and d/d log pi = -A r + sign(log r); no clip."""
    batch = column_batch([2.0])
    batch = replace(batch, kl_mask=batch.loss_mask & kl_mask)
    logprobs = column([ratio]).log().nan_to_num(neginf=0.0).requires_grad_()
    value, stats = grpo_loss(logprobs, None, batch, LossConfig())
    value.backward()
    assert logprobs.grad is not None
    assert value.item() == pytest.approx(loss, abs=1e-6)
    assert logprobs.grad[0, 1].item() == pytest.approx(gradient, abs=1e-6)
    assert stats["clipped"] == (not kl_mask)


@pytest.mark.parametrize("seed", range(5))
def test_rounding_chooses_no_token(seed):
    """Equal tokens that another processor rounds otherwise: the same ones are chosen.

    On one processor the update of two processes was once not that of one, because |log r| has a
    gradient of full size and of either sign where r is 1 up to rounding.
    """
    batch = column_batch([1.0, 1.0, 1.0, -1.0, -1.0, -1.0], [-1.0] * 3 + [-2.0] * 3)
    noise = 1e-7 * torch.randn(batch.old_logprobs.shape, generator=seeded(seed))
    rounded = replace(batch, old_logprobs=batch.old_logprobs + noise)
    assert kl_cov(batch, 1 / 3).kl_mask[:, 1].tolist() == [True, True, False, False, False, False]
    assert torch.equal(kl_cov(rounded, 1 / 3).kl_mask, kl_cov(batch, 1 / 3).kl_mask)

    entropy = column([0.7, 0.7, 0.7, 0.1, 0.1, 0.1])
    kept = [taught(top_entropy(batch, e, batch.loss_mask, 0.5)) for e in (entropy, entropy + noise)]
    assert kept == [[1.0, 1.0, 1.0, 0.0, 0.0, 0.0]] * 2

    held = replace(batch, kl_mask=batch.loss_mask)
    gradients = []
    for logprobs in (held.old_logprobs.clone(), held.old_logprobs + noise):
        grpo_loss(logprobs.requires_grad_(), None, held, LossConfig())[0].backward()
        gradients.append(logprobs.grad)
    torch.testing.assert_close(*gradients, atol=1e-6, rtol=0)


def test_clip_cov_draws_only_between_its_bounds():
    # mean A = 0, mean log p = -3: 9 is above 5; 3 and 2.25 are between; 0 and .75 are below 1.
    batch = column_batch([3.0, 1.5, 0.0, -1.5, -3.0], [0.0, -1.0, -6.25, -4.5, -3.25])
    assert covariances(batch).tolist() == pytest.approx([9, 3, 0, 2.25, 0.75])
    assert taught(clip_cov(batch, 1.0, seeded())) == [3.0, 0.0, 0.0, 0.0, -3.0]
    draws = {tuple(taught(clip_cov(batch, 0.2, seeded(seed)))) for seed in range(20)}
    assert draws == {(3.0, 0.0, 0.0, -1.5, -3.0), (3.0, 1.5, 0.0, 0.0, -3.0)}
    assert taught(clip_cov(batch, 0.2, seeded(3))) == taught(clip_cov(batch, 0.2, seeded(3)))


def test_steer_by_hand():
    """Changes |A (1 - p) (log p + H)|: with p = 1/2 and A = 1, 2, -1 they are H - ln 2 times 1/2.

    H = ln 2 + (0, 1, 1): 0, 1 and 1/2, so weights 1.2, .8 and 1.
    """
    batch = column_batch([1.0, 2.0, -1.0], [math.log(0.5)] * 3)
    entropy = column([math.log(2), math.log(2) + 1, math.log(2) + 1])
    assert taught(steer(batch, entropy)) == pytest.approx([1.2, 1.6, -1.0], abs=1e-6)


def test_steer_leaves_tokens_that_change_alike():
    batch = column_batch([1.0, -1.0], [-1.0, -1.0])
    assert steer(batch, column([0.5, 0.5])) is batch


def test_top_entropy_ranks_thoughts_and_answers_apart():
    # The .8 quantiles of 10..14 and of .1...5 lie between their two highest values.
    batch = column_batch([1.0] * 10)
    entropy = column([10, 11, 12, 13, 14, 0.1, 0.2, 0.3, 0.4, 0.5])
    is_answer = entropy < 1
    assert taught(top_entropy(batch, entropy, is_answer)) == [0, 0, 0, 0, 1, 0, 0, 0, 0, 1]
    alone = top_entropy(batch, entropy, torch.ones_like(is_answer))
    assert taught(alone) == [0, 0, 0, 1, 1, 0, 0, 0, 0, 0]
    assert changed_share(batch, alone) == pytest.approx(0.8)


@pytest.mark.parametrize("response", ["<think>up?</think><answer>go</answer>", "no tag <answer"])
def test_an_answer_begins_at_its_tag(response):
    tokenizer = chatml_tokenizer()
    ids = tuple(tokenizer(response).input_ids)
    turns = [make_turn(prompt_ids=(1,), response_ids=ids), make_turn(prompt_ids=(1, *ids))]
    batch = collate([make_tree([ROOT, 0], turns)], [make_credit([1, 1])], 0)
    marked = answer_tokens(batch, tokenizer)
    expected = ">go</answer>" if "</answer>" in response else ""  # and not the turn that follows
    assert len(batch) == 1
    assert tokenizer.decode(batch.token_ids[marked]) == expected


def weakest(batch: Batch, name: str, entropy: Tensor) -> Batch:
    """A method at strength zero."""
    if name == "entropy_advantage":
        return entropy_advantage(batch, entropy, alpha=0.0)
    if name == "kl_cov":
        return kl_cov(batch, 0.0)
    if name == "clip_cov":
        return clip_cov(batch, 0.0, seeded())
    return top_entropy(batch, entropy, batch.loss_mask, share=1.0)


METHODS = ("entropy_advantage", "kl_cov", "clip_cov", "top_entropy")


@pytest.mark.parametrize("name", METHODS)
@given(tree=trees(), seed=st.integers(0, 10_000))
def test_without_strength_a_method_is_the_plain_loss_bit_for_bit(name, tree, seed):
    cfg = LossConfig(entropy_coef=0.001)
    new, old = random_logprobs(seed)
    plain = collate_double([tree], cfg, old)
    results = []
    for batch in (plain, weakest(plain, name, -plain.old_logprobs)):
        logprobs = lookup(new, batch)
        loss, _ = grpo_loss(logprobs, -logprobs, batch, cfg)
        results.append((loss, *torch.autograd.grad(loss, new)))
    for one, other in zip(*results, strict=True):
        assert torch.equal(one, other)


@pytest.mark.parametrize("name", METHODS)
@given(tree=trees(), seed=st.integers(0, 10_000))
def test_no_method_teaches_anything_outside_the_mask(name, tree, seed):
    """Nor at a token that it takes out; the tree's shared turns keep both their sums finite."""
    cfg = LossConfig(exploration=name, exploration_share=0.3)
    new, old = random_logprobs(seed)
    batch = collate_double([tree], LossConfig(), old)
    scores = Scores(-batch.old_logprobs, chatml_tokenizer(), seeded(seed))
    result = EXPLORATIONS[cfg.exploration](batch, scores, cfg)
    logprobs = lookup(new.detach(), batch).requires_grad_()
    loss, _ = grpo_loss(logprobs, None, result, cfg)
    loss.backward()
    is_taught = (result.positive != 0) | (result.negative != 0) | result.kl_mask
    assert logprobs.grad is not None
    assert logprobs.grad.isfinite().all()
    assert (logprobs.grad[~batch.loss_mask] == 0).all()
    assert (logprobs.grad[~is_taught] == 0).all()
    assert 0 <= changed_share(batch, result) <= 1


def test_a_plain_run_is_left_alone():
    batch = column_batch([1.0, -1.0])
    for name in ("none", "adaptive_entropy"):
        cfg = LossConfig(exploration=name)
        scores = Scores(batch.old_logprobs, None, seeded())
        assert EXPLORATIONS[name](batch, scores, cfg) is batch


@pytest.mark.parametrize("method", BASELINES)
def test_a_preset_is_ragen_and_one_thing_more(method):
    loss, plain = load_config("sokoban", method).loss, load_config("sokoban", "ragen").loss
    assert load_config("sokoban", method).sampling == load_config("sokoban", "ragen").sampling
    changed = {key for key, value in vars(loss).items() if value != vars(plain)[key]}
    if method in ("ragen-epo", "ragen-siren"):
        changed -= {"entropy_coef"}  # 0 for `ragen` in Sokoban
    assert changed == {"credit" if method == "ragen-pass-at-k" else "exploration"}


@pytest.mark.parametrize("sampler", ["parallel", "tree"])
@pytest.mark.parametrize("method", BASELINES)
def test_two_steps_run_with_every_preset_and_sampler(llama, tmp_path, method, sampler):
    words = (f"sampling.name={sampler}", "sampling.num_tasks=6", "loss.pass_k=2")
    words += ("loss.filter_ratio=1", "optim.lr=0.01")
    run(make_config(llama, *words, method=method), tmp_path)
    lines = read_metrics(tmp_path)
    assert len(lines) == 2
    assert all(line["train/tokens"] > 0 for line in lines)
    acts_on_batch = method not in ("ragen-adaptive-entropy", "ragen-pass-at-k")
    assert all(("train/changed_tokens" in line) == acts_on_batch for line in lines)
    assert all(("train/entropy_coef" in line) == ("adaptive" in method) for line in lines)
    start = Policy.load(str(llama)).parameters()
    end = Policy.load(str(tmp_path / "checkpoints" / "step-000002" / "model")).parameters()
    assert any(not torch.equal(one, other) for one, other in zip(start, end, strict=True))


def test_an_adaptive_run_that_stops_goes_on_as_if_it_had_not(llama, tmp_path):
    """Bit for bit: the coefficient is kept with the checkpoint, and it does act."""
    words = ("optim.steps=4", "optim.lr=0.01", "loss.filter_ratio=1", "loss.entropy_target=9")
    cfg = make_config(llama, *words, method="ragen-adaptive-entropy")
    run(cfg, tmp_path / "whole")
    run(cfg, tmp_path / "stopped", lambda progress, _: progress.step == 2)
    run(cfg, tmp_path / "stopped")
    assert read_weights(tmp_path / "stopped") == read_weights(tmp_path / "whole")
    for name in ("train/entropy_coef", "train/old_entropy", "train/entropy"):
        values = [[line[name] for line in read_metrics(tmp_path / f)] for f in ("stopped", "whole")]
        assert values[0] == values[1]
    coefs = [line["train/entropy_coef"] for line in read_metrics(tmp_path / "whole")]
    assert coefs == pytest.approx([0.001, 0.006, 0.011, 0.016])


def test_a_run_that_turns_adaptive_begins_with_the_coefficient_of_its_new_settings(llama, tmp_path):
    words = ("optim.lr=0.01", "loss.filter_ratio=1", "loss.entropy_target=9")
    run(make_config(llama, *words, "loss.entropy_coef=0.5", method="ragen"), tmp_path)
    run(make_config(llama, *words, "optim.steps=3", method="ragen-adaptive-entropy"), tmp_path)
    (coef,) = (line.get("train/entropy_coef") for line in read_metrics(tmp_path)[2:])
    assert coef == pytest.approx(0.001)
