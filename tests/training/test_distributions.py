"""Methods that look at whole distributions, with numbers worked out by hand."""

import doctest
import math
from dataclasses import replace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from sesa_agent.agents.logprobs import token_logprobs
from sesa_agent.configs.schema import LossConfig
from sesa_agent.training import distributions
from sesa_agent.training.batch import collate
from sesa_agent.training.distributions import (
    cold_logprobs,
    dcpo,
    hot_logprobs,
    lp_reg,
    nucleus_entropies,
    proxy_logprobs,
    self_certainty,
    siren,
    ucas,
)
from sesa_agent.training.exploration import (
    EXPLORATIONS,
    STATISTICS,
    Scores,
    bonus_entropy,
    entropies_by_turn,
    entropy_metrics,
    epo,
    epo_strength,
)
from sesa_agent.training.losses import grpo_loss
from sesa_agent.training.progress import Progress

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


def test_examples():
    assert doctest.testmod(distributions).failed == 0


# ---- statistics ----


def test_statistics_are_computed_beside_the_log_probability():
    logits = torch.tensor([[0.0, math.log(3.0)]])  # .25, .75
    found = token_logprobs(
        logits, torch.tensor([1]), 1.0, False, (self_certainty, hot_logprobs, cold_logprobs)
    )
    chosen, certainty, hot, cold = (float(value) for value in found)
    assert chosen == pytest.approx(math.log(0.75))
    assert certainty == pytest.approx(-(math.log(0.25) + math.log(0.75)) / 2)
    odds = (3 ** (1 / 1.2), 3 ** (1 / 0.8))
    assert [hot, cold] == pytest.approx([math.log(odd / (1 + odd)) for odd in odds])


@given(st.lists(st.floats(-4, 4), min_size=2, max_size=8), st.integers(0, 7))
def test_the_proxy_and_the_nucleus_are_distributions_over_likely_tokens(logits, place):
    log_p = torch.tensor(logits, dtype=torch.float64).log_softmax(-1)
    proxies = [float(proxy_logprobs(log_p, torch.tensor(n))) for n in range(len(logits))]
    kept = [proxy for proxy in proxies if proxy < 0]
    if len(kept) > 1:  # a single one would be certain: 0, as are those left out
        assert sum(map(math.exp, kept)) == pytest.approx(1)
        pairs = zip(proxies, log_p.tolist(), strict=True)
        assert all(proxy == 0 or proxy >= own - 1e-9 for proxy, own in pairs)
    entropy = float(nucleus_entropies(log_p, torch.tensor(place % len(logits))))
    assert -1e-9 <= entropy <= math.log(len(logits)) + 1e-9


def test_the_entropy_of_the_nucleus_has_a_gradient_that_is_finite():
    logits = torch.tensor([3.0, 1.0, 0.0, -30.0], requires_grad=True)
    nucleus_entropies(logits.log_softmax(-1), torch.tensor(0)).backward()
    assert logits.grad is not None and logits.grad.isfinite().all()


# ---- Lp-Reg ----


def test_lp_reg_holds_the_rarest_failure_if_the_proxy_keeps_it():
    logprobs = [-5.0, -4.0, -1.0]
    batch = column_batch([-1.0, -1.0, -1.0], logprobs)
    proxy = column([-4.5, -3.0, -0.5])
    assert lp_reg(batch, proxy).proxy_logprobs[:, 1].tolist() == [-4.5, 0.0, 0.0]
    noise = column([0.0, -3.0, -0.5])  # the rarest is too unlikely for the proxy
    assert (lp_reg(batch, noise).proxy_logprobs == 0).all()
    success = column_batch([1.0, -1.0, -1.0], logprobs)
    assert (lp_reg(success, proxy).proxy_logprobs == 0).all()
    likelier = column([-6.0, -3.0, -0.5])  # pi is above the proxy already
    assert (lp_reg(batch, likelier).proxy_logprobs == 0).all()


def test_a_held_token_is_pulled_to_the_proxy_without_a_clip():
    # A = -2, r = .5 (below the clip at .8), q / pi = 3: loss 2 * .5 + (3 - log 3 - 1).
    batch = column_batch([-2.0], [math.log(0.2)])
    held = replace(batch, proxy_logprobs=column([math.log(0.3)]))
    logprobs = column([math.log(0.1)]).requires_grad_()
    loss, sums = grpo_loss(logprobs, None, held, LossConfig())
    assert float(loss.detach()) == pytest.approx(1 + (3 - math.log(3) - 1))
    loss.backward()
    assert logprobs.grad is not None
    assert float(logprobs.grad[0, 1]) == pytest.approx(1 + (1 - 3))  # A's push, and the pull
    assert sums["clipped"] == 0
    plain, sums = grpo_loss(logprobs.detach(), None, batch, LossConfig())
    assert float(plain) == pytest.approx(1.6) and sums["clipped"] == 1


# ---- UCAS ----


def test_ucas_by_hand():
    # Certainties 1 and 3 in one group: c = -1 and 1.
    batch = column_batch([2.0, -1.0], [-1.0, -2.0])
    batch = replace(batch, prompt_group=torch.zeros(2, dtype=torch.int64))
    result = ucas(batch, column([1.0, 3.0]))
    # Rows of one token: nothing to scale, so no penalty.
    assert taught(result) == pytest.approx([2 * math.exp(0.25), -math.exp(0.35)])


def test_ucas_takes_from_likely_tokens_and_turns_no_success_into_a_failure():
    turns = [make_turn(prompt_ids=(1,), response_ids=(2, 3, 4))]
    credit = make_credit([0.04], [0.0], [1.0])
    batch = collate([make_tree([-1], turns)], [credit], 0, dtype=torch.float64)
    old = torch.tensor([[0.0, -3.0, -2.0, -1.0]], dtype=torch.float64)
    result = ucas(replace(batch, old_logprobs=old), torch.ones_like(old))
    assert result.positive[0, 1:].tolist() == pytest.approx([0.04, 0.015, 0.0])


def test_equal_certainty_changes_nothing():
    batch = column_batch([2.0, -1.0], [-1.0, -2.0])
    assert taught(ucas(batch, column([3.0, 3.0]))) == [2.0, -1.0]


# ---- DCPO ----


@pytest.mark.parametrize(("entropy", "tempered"), [(0.2, -0.5), (0.3, -2.0)])
def test_dcpo_by_hand(entropy, tempered):
    # Half of the tokens have A > 0 and H is .05 off: b = .1, a = 1 / 11.
    batch = column_batch([1.0, -1.0], [-1.0, -1.0])
    hot, cold = column([-0.5, -0.5]), column([-2.0, -2.0])
    result = dcpo(batch, column([entropy, entropy]), hot, cold)
    expected = [10 / 11 + math.exp(tempered + 1) / 11, -10 / 11]
    assert taught(result) == pytest.approx(expected)


def test_dcpo_at_the_entropy_that_it_holds_is_the_plain_loss():
    batch = column_batch([1.0, -1.0], [-1.0, -1.0])
    assert taught(dcpo(batch, column([0.25, 0.25]), *2 * [column([-9.0, -9.0])])) == [1.0, -1.0]
    failures = column_batch([-1.0, -1.0], [-1.0, -1.0])
    assert dcpo(failures, column([9.0, 9.0]), *2 * [column([0.0, 0.0])]) is failures


# ---- SIREN ----


def test_siren_holds_the_most_uncertain_fifth():
    batch = column_batch([1.0] * 5)
    result = siren(batch, column([0.1, 0.9, 0.2, 0.3, 0.4]), anchor=1.4)
    assert result.entropy_weight[:, 1].tolist() == pytest.approx([0, 1, 0, 0, 0])  # 2 (1.4 - .9)
    assert taught(result) == taught(batch)


def test_siren_s_bonus_has_the_gradient_of_its_squared_distance():
    batch = column_batch([0.0] * 10)
    weighted = siren(batch, column([0.1 * n for n in range(10)]), anchor=0.45)
    entropy = column([0.1 * n for n in range(10)]).requires_grad_()
    cfg = LossConfig(entropy_coef=0.005)
    grpo_loss(torch.zeros_like(entropy), entropy, weighted, cfg)[0].backward()
    again = entropy.detach().clone().requires_grad_()
    (0.005 * (again[-2:, 1].mean() - 0.45) ** 2).backward()
    assert entropy.grad is not None and again.grad is not None
    assert torch.allclose(entropy.grad, again.grad) and (again.grad != 0).sum() == 2


def test_siren_s_first_step_is_its_anchor():
    batch, nucleus = column_batch([1.0, 1.0]), column([0.5, 1.0])
    scores = Scores(nucleus, None, seeded(), (nucleus,))
    cfg = LossConfig(exploration="siren")
    assert (EXPLORATIONS["siren"](batch, scores, cfg).entropy_weight == 0).all()
    assert entropy_metrics(batch, scores, cfg, None) == {"train/old_entropy": 1.0}
    later = EXPLORATIONS["siren"](batch, replace(scores, anchor=3.0), cfg)
    assert later.entropy_weight[:, 1].tolist() == [0.0, 4.0]
    assert bonus_entropy(cfg) == STATISTICS["siren"] != bonus_entropy(LossConfig())


# ---- EPO ----


def three_turns():
    """Two trajectories: of two turns, and of one."""
    turns = [make_turn(prompt_ids=(n + 1,), response_ids=(9,)) for n in range(3)]
    credit = make_credit([1.0] * 3, [0.0] * 3, [1.0] * 3)
    return collate([make_tree([-1, 0, -1], turns)], [credit], 0, dtype=torch.float64)


def test_epo_weighs_what_is_unusual_at_its_turn():
    batch = three_turns()
    assert batch.depth[batch.turn[batch.loss_mask]].tolist() == [0, 1, 0]
    entropy = column([0.7, 0.7, 1.3])
    weights = epo(batch, entropy, [1.0, 0.7], 0.0).entropy_weight[:, 1]
    assert weights.tolist() == [2.0, 1.0, 0.0]  # below, usual at the second turn, above
    half = epo(batch, entropy, [1.0], 0.5).entropy_weight[:, 1]
    assert half.tolist() == pytest.approx([1.8, 1.0, 0.2])  # nothing is known of the second turn
    assert torch.equal(epo(batch, entropy, [], 0.0).entropy_weight, batch.weight)


def test_epo_fades():
    assert epo_strength(0.25) == pytest.approx(0.8**0.5)
    assert epo_strength(1.0) == pytest.approx(0.8 * math.exp(-5)) and epo_strength(0.5) == 0.8


def test_entropies_are_averaged_by_turn_and_over_steps():
    assert entropies_by_turn(three_turns(), column([1.0, 5.0, 2.0])) == [1.5, 5.0]
    progress = Progress()
    for found in ([1.5, 5.0], [0.5]):
        progress.remember_entropies(found)
    assert (progress.turn_entropies, progress.turn_entropy_steps) == ([1.0, 5.0], [2, 1])
    assert Progress.from_json(vars(progress)) == progress


# ---- all ----


@pytest.mark.parametrize("name", ["dcpo", "epo", "lp_reg", "siren", "ucas"])
@given(tree=trees(), seed=st.integers(0, 10_000))
def test_nothing_is_taught_outside_the_mask(name, tree, seed):
    cfg = LossConfig(exploration=name, entropy_coef=0.01)
    new, old = random_logprobs(seed)
    batch = collate_double([tree], LossConfig(), old)
    generator = torch.Generator().manual_seed(seed)
    found = [
        torch.where(batch.loss_mask, -torch.rand(batch.weight.shape, generator=generator), 0.0)
        for _ in STATISTICS.get(name, ())
    ]
    scores = Scores(
        -batch.old_logprobs, chatml_tokenizer(), seeded(seed), tuple(found), [0.5, 0.5], 0.3
    )
    result = EXPLORATIONS[name](batch, scores, cfg)
    logprobs = lookup(new.detach(), batch).requires_grad_()
    loss, _ = grpo_loss(logprobs, -logprobs, result, cfg)
    loss.backward()
    assert logprobs.grad is not None and logprobs.grad.isfinite().all()
    assert (logprobs.grad[~batch.loss_mask] == 0).all()


@pytest.mark.parametrize("method", ["ragen-siren", "ragen-epo"])
def test_a_run_that_stops_goes_on_as_if_it_had_not(llama, tmp_path, method):
    """Bit for bit: what is remembered of the steps before is kept with the checkpoint."""
    words = ("optim.steps=3", "optim.lr=0.01", "loss.filter_ratio=1", "env.max_turns=3")
    cfg = make_config(llama, *words, method=method)
    run(cfg, tmp_path / "whole")
    run(cfg, tmp_path / "stopped", lambda progress, _: progress.step == 2)
    run(cfg, tmp_path / "stopped")
    assert read_weights(tmp_path / "stopped") == read_weights(tmp_path / "whole")
    lines = read_metrics(tmp_path / "whole")
    if method == "ragen-siren":
        changed = [line["train/changed_tokens"] for line in lines]
        assert changed[0] == 1 and 0.5 < changed[1]  # no bonus, and one on other tokens
    else:
        assert "train/entropy_at_turn_0" in lines[0]
