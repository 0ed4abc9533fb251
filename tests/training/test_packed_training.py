"""Packed training is padded training: every loss and credit, their gradients, and whole updates."""

import json
from dataclasses import replace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from sesa_agent.agents.prefix_rows import share_prefixes
from sesa_agent.configs.schema import LossConfig
from sesa_agent.training.advantages import ADVANTAGES, best_credit
from sesa_agent.training.batch import Batch, collate
from sesa_agent.training.exploration import clip_cov, kl_cov
from sesa_agent.training.losses import grpo_loss, mean_stats
from sesa_agent.training.micro_batches import MAX_READ, computing_order, group_rows
from sesa_agent.training.progress import Progress
from sesa_agent.training.rollout import rollout, step_player
from sesa_agent.training.score import score
from sesa_agent.training.setup import build_dialogue, build_engine, build_policy, resolve_auto
from sesa_agent.training.trainer import open_session, train
from sesa_agent.training.update import Learner, build_optimizer

from ..helpers.batches import uneven_tree
from ..helpers.credits import credit_of
from ..helpers.model_families import SHARING, policy_of
from ..helpers.runs import ONE_UPDATE, make_config
from ..helpers.strategies import trees
from ..helpers.tiny_models import save_llama

pytestmark = pytest.mark.usefixtures("one_thread")

LOSSES = {
    "surrogate": LossConfig(credit="trajectory"),
    "entropy and kl": LossConfig(credit="trajectory", entropy_coef=0.1, kl_coef=0.2),
    "a wide and a narrow clip": LossConfig(credit="tree", clip_low=0.1, clip_high=1.0),
}


def scored_batch(policy, context: str, cfg: LossConfig) -> Batch:
    """Two trees with old log-probabilities far enough away for both clips."""
    groups = [uneven_tree(context, seed) for seed in (0, 1)]
    credits = [credit_of(ADVANTAGES[cfg.credit], tree, cfg) for tree in groups]
    batch = collate(groups, credits, 0, keep_zero_advantage=True, dtype=torch.float64)
    gap = torch.randn(batch.loss_mask.shape, dtype=torch.float64) * 0.4
    return replace(batch, old_logprobs=score(policy, batch, 10**6)[0] + gap)


def gradients(policy, parts, cfg):
    """Loss, gradients and statistics of micro-batches."""
    policy.model.zero_grad()
    total, stats = 0.0, []
    for part in parts:
        logprobs, entropy = policy.logprobs(part, entropy_grad=bool(cfg.entropy_coef))
        reference = part.old_logprobs + 0.3 if cfg.kl_coef else None
        loss, sums = grpo_loss(logprobs, entropy, part, cfg, reference)
        loss.backward()
        total += float(loss.detach())
        stats.append(sums)
    return total, [p.grad.clone() for p in policy.parameters()], mean_stats(stats)


def assert_packed_is_padded(policy, batch, cfg, tokens=10**6):
    policy.padding_reason = "a test says so"
    loss, expected, stats = gradients(policy, [batch], cfg)
    policy.padding_reason = ""
    groups = group_rows(batch, tokens, computing_order(batch, True), True)
    parts = [batch.select(rows) for rows in groups]
    packed_loss, actual, packed_stats = gradients(policy, parts, cfg)
    assert packed_loss == pytest.approx(loss, abs=1e-6)
    for ours, theirs in zip(actual, expected, strict=True):
        assert (ours - theirs).abs().max() <= 1e-6
    assert packed_stats == pytest.approx(stats, abs=1e-6)
    assert stats["clip_fraction"] > 0.05
    assert max(float(grad.abs().max()) for grad in expected) > 1e-3


@pytest.fixture(scope="module", params=["llama", "qwen2", "qwen3"])
def policy(request):
    return policy_of(SHARING[request.param], torch.float64)


@pytest.mark.parametrize("context", ["full", "state"])
@pytest.mark.parametrize("aggregate", ["trajectory", "token"])
@pytest.mark.parametrize("credit", ADVANTAGES)
def test_every_credit_and_average_has_the_same_loss_and_gradients(
    policy, credit, aggregate, context
):
    cfg = LossConfig(credit=credit, aggregate=aggregate, pass_k=2)
    batch = scored_batch(policy, context, cfg)
    assert (
        len(share_prefixes(batch.token_ids, batch.attention_mask)) < 0.7 * batch.token_ids.numel()
    )
    assert_packed_is_padded(policy, batch, cfg)


@pytest.mark.parametrize("loss", LOSSES)
def test_every_term_of_the_loss_has_the_same_gradients(policy, loss):
    assert_packed_is_padded(policy, scored_batch(policy, "full", LOSSES[loss]), LOSSES[loss])


def test_tokens_that_are_held_or_left_out_have_the_same_gradients(policy):
    cfg = LossConfig(credit="trajectory")
    batch = scored_batch(policy, "full", cfg)
    assert_packed_is_padded(policy, kl_cov(batch, 0.2), cfg)
    assert_packed_is_padded(policy, clip_cov(batch, 0.2, torch.Generator()), cfg)


@pytest.mark.parametrize("tokens", [1, 90, 150])
def test_micro_batches_of_packed_rows_add_up_to_the_whole(policy, tokens):
    cfg = LossConfig(credit="tree")
    assert_packed_is_padded(policy, scored_batch(policy, "full", cfg), cfg, tokens)


@given(st.lists(trees(), max_size=3), st.integers(1, 60), st.integers(1, 3))
def test_packed_micro_batches_cover_the_rows_within_the_limit(groups, max_tokens, every):
    credits = [credit_of(best_credit, tree, LossConfig()) for tree in groups]
    whole = collate(groups, credits, 0, keep_zero_advantage=True)
    rows = list(range(0, len(whole), every))
    order = [row for row in computing_order(whole, True) if row in rows]
    groups = group_rows(whole, max_tokens, order, True)
    assert sorted(sum(groups, [])) == rows
    for part in map(whole.select, groups):
        assert (
            len(part) == 1 or len(share_prefixes(part.token_ids, part.attention_mask)) <= max_tokens
        )
        assert len(part) == 1 or part.attention_mask.sum() <= MAX_READ * max_tokens


def test_a_run_says_once_why_its_rows_are_padded(tmp_path):
    folder = save_llama(tmp_path / "model")
    config = json.loads((folder / "config.json").read_text())
    config |= {"model_type": "mistral", "architectures": ["MistralForCausalLM"]}
    (folder / "config.json").write_text(json.dumps(config | {"sliding_window": 8}))
    told = []
    for _ in range(2):
        cfg = make_config(folder, "optim.steps=1")
        train(open_session(resolve_auto(cfg), tmp_path / "run"), lambda *_: {}, tell=told.append)
    assert [text for text in told if text.startswith("Rows are padded")] == [
        "Rows are padded and share no prefix, so updates are slower than they could be: "
        "some of its layers do not attend to all earlier tokens."
    ]


@pytest.mark.parametrize("settings", [(), ("model.gradient_checkpointing=true",)])
@pytest.mark.parametrize("context", ["full", "state"])
def test_an_update_is_the_one_of_padded_rows(llama, context, settings):
    words = (f"model.context={context}", *ONE_UPDATE, "sampling.num_tasks=3", *settings)
    cfg = make_config(llama, *words, "loss.kl_coef=0.01", "loss.entropy_coef=0.01")
    start = build_policy(cfg)
    player = step_player(cfg, 0, build_engine(cfg, start), build_dialogue(cfg, start))
    groups = rollout(cfg, 0, player).played
    results = []
    for why in ("", "a test says so"):
        policy, reference = build_policy(cfg), build_policy(cfg)
        policy.padding_reason = reference.padding_reason = why
        learner = Learner(policy, build_optimizer(policy, cfg.optim), reference)
        metrics = learner.update(groups, cfg, Progress())
        results.append((metrics, torch.cat([w.flatten() for w in policy.parameters()])))
    assert results[0][0] == pytest.approx(results[1][0], abs=1e-5, rel=1e-4)
    assert results[0][0]["train/grad_norm"] > 1e-3
    before = torch.cat([w.flatten() for w in start.parameters()])
    step = results[1][1] - before
    assert (results[0][1] - results[1][1]).norm() < 0.01 * step.norm()
