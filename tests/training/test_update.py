"""An update of one optimiser step takes pi_old from its own pass, and is the update it was."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from sesa_agent.agents.policy import Policy
from sesa_agent.configs.schema import LossConfig, OptimConfig
from sesa_agent.sampling.trajectory import ROOT
from sesa_agent.training.advantages import ADVANTAGES, has_signal
from sesa_agent.training.batch import Batch, collate
from sesa_agent.training.checkpoint import latest_checkpoint, save_checkpoint
from sesa_agent.training.importance import correct_gaps
from sesa_agent.training.losses import mean_stats
from sesa_agent.training.progress import Progress
from sesa_agent.training.rollout import rollout, step_player
from sesa_agent.training.score import score
from sesa_agent.training.setup import build_dialogue, build_engine, build_policy
from sesa_agent.training.update import (
    Learner,
    build_optimizer,
    learning_rate,
    needs_scores,
)

from ..helpers.batches import uneven_tree
from ..helpers.credits import credit_of
from ..helpers.model_families import SHARING, policy_of
from ..helpers.runs import ONE_UPDATE, make_config
from ..helpers.strategies import make_tree, make_turn

pytestmark = pytest.mark.usefixtures("one_thread")

LOSSES = {
    "surrogate": LossConfig(credit="trajectory", history_correction="none"),
    "failures corrected": LossConfig(credit="tree", history_correction="negatives"),
    "all corrected, engine too": LossConfig(
        credit="tree", history_correction="truncated", engine_importance_cap=1.1
    ),
    "entropy and kl": LossConfig(credit="trajectory", entropy_coef=0.1, kl_coef=0.2),
}


def equal_answers():
    """A group whose proposals repeat each other, each drawn at a likelihood of its own."""
    turns = [
        make_turn(
            prompt_ids=(5, 6, 7),
            response_ids=response,
            sampling_logprobs=(-0.7 * place,) * len(response),
            reward=reward,
            proposal_index=place,
        )
        for place, (response, reward) in enumerate(
            [((8, 9), 1.0), ((8, 9), 0.0), ((3,), 0.0), ((8, 9), 0.5), ((3,), 1.0)]
        )
    ]
    return make_tree([ROOT] * len(turns), turns)


def make_batch(cfg: LossConfig) -> Batch:
    """Uneven rows, equal rows, and turns drawn under other prompts."""
    groups = [uneven_tree("full"), uneven_tree("state", 1), equal_answers()]
    credits = [credit_of(ADVANTAGES[cfg.credit], tree, cfg) for tree in groups]
    return collate(groups, credits, 0, keep_zero_advantage=True, dtype=torch.float64)


@pytest.mark.parametrize("padding_reason", ["", "a test says so"], ids=["packed", "padded"])
@pytest.mark.parametrize("tokens", [60, 10**6])
@pytest.mark.parametrize("loss", LOSSES)
def test_one_pass_has_the_gradients_of_scoring_first(loss, tokens, padding_reason):
    cfg = LOSSES[loss]
    policy = policy_of(SHARING["llama"], torch.float64)
    policy.padding_reason = padding_reason
    reference = policy_of(SHARING["qwen2"], torch.float64) if cfg.kl_coef else None
    batch = make_batch(cfg)
    scored = replace(batch, old_logprobs=score(policy, batch, tokens)[0])
    results = []
    for given, is_scored in ((correct_gaps(scored, cfg), True), (batch, False)):
        policy.model.zero_grad()
        learner = Learner(policy, torch.optim.SGD(policy.parameters()), reference)
        after, stats = learner.add_gradients(given, cfg, tokens, is_scored)
        grads = torch.cat([p.grad.flatten() for p in policy.parameters() if p.grad is not None])
        results.append((after, mean_stats(stats), grads))
    (_, expected_stats, expected), (after, stats, grads) = results
    assert expected.abs().max() > 1e-3
    assert (grads - expected).abs().max() < 1e-12
    assert stats == pytest.approx(expected_stats, abs=1e-12)
    assert (after.old_logprobs - scored.old_logprobs).abs().max() < 1e-12
    is_corrected = not torch.equal(correct_gaps(scored, cfg).negative, scored.negative)
    assert is_corrected == (loss != "surrogate")


class CountingPolicy(Policy):
    """Counts the rows that it reads."""

    num_rows = 0

    def logprobs(self, batch, *options, **named):
        self.num_rows += len(batch.token_ids)
        return super().logprobs(batch, *options, **named)


@pytest.mark.parametrize("method", ["sesa", "ragen"])
def test_an_update_of_one_step_reads_every_row_once_and_reports_the_same(llama, method):
    words = (*ONE_UPDATE, "sampling.num_tasks=3", "loss.filter_ratio=1", "loss.entropy_coef=0.01")
    cfg = make_config(llama, *words, method=method)
    start = build_policy(cfg)
    player = step_player(cfg, 0, build_engine(cfg, start), build_dialogue(cfg, start))
    groups = rollout(cfg, 0, player).played
    # KL-Cov that holds no token is the plain loss, but must know pi_old of all tokens before.
    scored = replace(cfg.loss, exploration="kl_cov", exploration_share=0.0)
    results = []
    for loss in (cfg.loss, scored):
        policy = build_policy(cfg)
        policy = CountingPolicy(policy.model, policy.tokenizer, policy.temperature)
        optimizer = build_optimizer(policy, cfg.optim)
        metrics = Learner(policy, optimizer).update(groups, replace(cfg, loss=loss), Progress())
        weights = torch.cat([w.detach().flatten() for w in policy.parameters()])
        results.append((policy.num_rows, metrics, weights))
    (num_rows, metrics, weights), (num_twice, expected, expected_weights) = results
    # Once updated, the policy reads one row more, to see that its numbers are finite.
    assert 0 < 2 * (num_rows - 1) == num_twice - 1
    assert expected.pop("train/changed_tokens") == 0
    assert metrics == pytest.approx(expected, abs=1e-5)
    assert metrics["train/ratio"] == 1
    before = torch.cat([w.detach().flatten() for w in start.parameters()])
    change = (expected_weights - before).norm()
    assert (weights - expected_weights).norm() < 1e-3 * change


def test_groups_without_advantage_are_not_computed(llama):
    """A step of such groups alone teaches nothing, bonus or not."""
    words = (*ONE_UPDATE, "sampling.num_tasks=6", "loss.filter_ratio=1", "loss.entropy_coef=0.01")
    cfg = make_config(llama, *words, method="ragen")
    start = build_policy(cfg)
    player = step_player(cfg, 0, build_engine(cfg, start), build_dialogue(cfg, start))
    sampled = rollout(cfg, 0, player)
    is_flat = [not has_signal(np.array(one.returns)) for one in sampled.summaries]
    flat = [group for group, is_one in zip(sampled.played, is_flat, strict=True) if is_one]
    assert 0 < len(flat) < len(sampled.played)
    rows = []
    for drops, groups in ((False, sampled.played), (True, sampled.played), (True, flat)):
        policy = build_policy(cfg)
        dropping = replace(cfg, loss=replace(cfg.loss, drop_flat_groups=drops))
        learner = Learner(policy, build_optimizer(policy, cfg.optim))
        rows.append(learner.update(groups, dropping, Progress()).get("train/rows", 0))
    assert rows[0] > rows[1] > rows[2] == 0


@pytest.mark.parametrize(
    ("loss", "optim", "expected"),
    [
        ({}, {"num_epochs": 1, "num_minibatches": 1}, False),
        ({}, {"num_epochs": 2, "num_minibatches": 1}, True),
        ({}, {"num_epochs": 1, "num_minibatches": 2}, True),
        ({"exploration": "top_entropy"}, {"num_epochs": 1, "num_minibatches": 1}, True),
    ],
)
def test_scores_are_needed_where_the_policy_moves_or_tokens_are_compared(loss, optim, expected):
    assert needs_scores(LossConfig(**loss), OptimConfig(**optim)) == expected


@pytest.mark.parametrize(
    ("step", "share_done", "expected"),
    [
        (0, 0.0, 0.25),  # the first of four steps of warming up
        (3, 0.1, 1.0),
        (9, 0.5, 1.0),
        (12, 0.6, 1.0),  # the last two fifths of the run
        (16, 0.8, 0.5),
        (19, 0.95, 0.125),  # the last of twenty steps still teaches
        (1, 0.8, 0.25),  # a short run warms up and cools down at once
    ],
)
def test_the_learning_rate_warms_up_stays_and_cools_down(step, share_done, expected):
    optim = OptimConfig(lr=1e-2, warmup_steps=4, cooldown=0.4)
    assert learning_rate(optim, step, share_done) == pytest.approx(expected * 1e-2)


@pytest.mark.parametrize("step", [0, 7, 99])
def test_without_warm_up_and_cooldown_the_learning_rate_stays(step):
    optim = OptimConfig(lr=3e-4, warmup_steps=0)
    assert learning_rate(optim, step, step / 100) == 3e-4


@pytest.mark.parametrize("credit", ADVANTAGES)
@pytest.mark.parametrize("bonus", [0.0, 0.1])
def test_groups_without_signal_change_nothing_and_say_so(llama, credit, bonus):
    """No credit rule divides by the nothing that it teaches, and AdamW does not coast on.

    With an entropy bonus the rules of leaves and `tree` train such groups for their entropy.
    """
    cfg = make_config(llama, f"loss.credit={credit}", f"loss.entropy_coef={bonus}", "loss.pass_k=2")
    policy = build_policy(cfg)
    before = [weight.detach().clone() for weight in policy.parameters()]
    learner = Learner(policy, build_optimizer(policy, cfg.optim))
    groups = [make_tree([ROOT] * 3, [make_turn(reward=0.5)] * 3), make_tree([ROOT, 0])]
    metrics = learner.update(groups, cfg, Progress())
    if bonus and credit not in ("best", "expected", "spo_tree"):
        assert metrics["train/tokens"] > 0
        assert all(np.isfinite(value) for value in metrics.values())
        return
    assert metrics == {"train/tokens": 0.0}
    assert not learner.optimizer.state
    assert all(map(torch.equal, before, policy.parameters()))


def test_a_gap_that_is_not_a_number_stops_the_run_with_finite_weights(llama):
    """An engine that reports log mu = NaN: after one update every weight of the policy was NaN."""
    cfg = make_config(llama, "loss.credit=trajectory", "loss.history_correction=negatives")
    cfg = replace(cfg, optim=replace(cfg.optim, num_epochs=2, num_minibatches=1))
    turns = [make_turn(prompt_ids=(5, 6), reward=1.0), make_turn(prompt_ids=(5, 6))]
    policy = build_policy(cfg)
    learner = Learner(policy, build_optimizer(policy, cfg.optim))
    second = replace(turns[1], proposal_index=1, sampling_logprobs=(float("nan"),))
    with pytest.raises(FloatingPointError):
        learner.update([make_tree([ROOT, ROOT], [turns[0], second])], cfg, Progress())
    assert all(weight.isfinite().all() for weight in policy.parameters())


def test_beta2_is_that_of_the_settings_also_after_a_checkpoint(llama, tmp_path):
    cfg = make_config(llama)
    policy = build_policy(cfg)
    optimizer = build_optimizer(policy, replace(cfg.optim, beta2=0.999))
    save_checkpoint(
        tmp_path, save_model=policy.save, optimizer=optimizer, state=vars(Progress(step=1)), keep=1
    )
    for beta2 in (0.999, 0.95):
        optim = replace(cfg.optim, beta2=beta2)
        again = build_optimizer(policy, optim, latest_checkpoint(tmp_path))
        assert again.param_groups[0]["betas"] == (0.9, beta2)
