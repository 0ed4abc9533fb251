"""The loop: it runs on every game and model, and a run that was killed is the run that was not."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
import yaml
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from sesa_agent.agents.engines.base import Completion
from sesa_agent.agents.engines.scripted import ScriptedEngine
from sesa_agent.agents.policy import Policy
from sesa_agent.configs.load import config_to_dict, env_names
from sesa_agent.environments.splits import training_seeds
from sesa_agent.runs import read_run
from sesa_agent.sampling.trajectory import ROOT, Task, TrajectoryTree
from sesa_agent.training.checkpoint_files import read_state
from sesa_agent.training.progress import Progress
from sesa_agent.training.rollout import rollout, step_player
from sesa_agent.training.setup import build_dialogue, resolve_auto
from sesa_agent.training.trainer import open_session
from sesa_agent.training.update import Learner

from ..helpers.runs import (
    DAPO,
    ONE_UPDATE,
    make_config,
    newest,
    read_metrics,
    read_weights,
    run,
    run_and_kill,
)
from ..helpers.tiny_models import MOVES, save_llama, save_qwen2
from ..helpers.toy_game import ENV_ID

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.mark.parametrize("method", ["sesa", "ragen"])
@pytest.mark.parametrize("env", env_names())
def test_two_steps_run_in_every_game(llama, tmp_path, env, method):
    run(make_config(llama, "env.max_turns=2", env=env, method=method), tmp_path)
    lines = read_metrics(tmp_path)
    assert [line["step"] for line in lines] == [0, 1]
    assert lines[1]["progress/policy_calls"] > lines[0]["progress/policy_calls"] > 0
    assert "eval/success_rate" in lines[0]
    assert "eval/success_rate" not in lines[1]
    assert all(value is not None for line in lines for value in line.values())


@pytest.mark.parametrize("context", ["full", "window", "state"])
@pytest.mark.parametrize("save_model", [save_qwen2, save_llama])
def test_two_steps_run_with_every_model(tmp_path, save_model, context):
    model = save_model(tmp_path / "model")
    cfg = make_config(model, f"model.context={context}", "sampling.num_tasks=6")
    run(cfg, tmp_path / "run")
    lines = read_metrics(tmp_path / "run")
    assert max(line["train/tokens"] for line in lines) > 0
    assert read_weights(tmp_path / "run") != (model / "model.safetensors").read_bytes()
    Policy.load(str(newest(tmp_path / "run") / "model"))


@pytest.mark.slow
def test_three_steps_a_kill_and_three_more_are_six_steps(llama, tmp_path):
    """Bit for bit. The kill comes when step 3 is logged but not saved; it is run again."""
    words = ("optim.steps=6", "optim.checkpoint_every=3", "loss.kl_coef=0.01", "optim.cooldown=0.8")
    cfg = make_config(llama, *words)
    run(cfg, tmp_path / "whole")

    run_and_kill(cfg, tmp_path / "killed", step=4)
    assert len(read_metrics(tmp_path / "killed")) == 4
    assert [p.name for p in (tmp_path / "killed" / "checkpoints").iterdir()] == ["step-000003"]

    run(cfg, tmp_path / "killed")
    assert read_weights(tmp_path / "killed") == read_weights(tmp_path / "whole")
    expected = read_metrics(tmp_path / "whole", times=False)
    assert read_metrics(tmp_path / "killed", times=False) == expected
    assert len(expected) == 6
    assert len({line.get("train/grad_norm") for line in expected}) > 1  # something was learnt


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_a_run_with_an_adapter_resumes_bit_for_bit(llama, tmp_path, dtype):
    words = ("model.lora_rank=2", f"model.dtype={dtype}", "optim.lr=0.01", "sampling.num_tasks=6")
    cfg = make_config(llama, *words, "optim.steps=4", "optim.checkpoint_every=2")
    run(cfg, tmp_path / "whole")
    run(cfg, tmp_path / "stopped", lambda progress, _: progress.step == 2)
    run(cfg, tmp_path / "stopped")
    files = [
        newest(tmp_path / name) / "model" / "adapter_model.safetensors"
        for name in ("whole", "stopped")
    ]
    assert files[0].read_bytes() == files[1].read_bytes()
    expected = read_metrics(tmp_path / "whole", times=False)
    assert read_metrics(tmp_path / "stopped", times=False) == expected
    assert max(line["train/tokens"] for line in expected) > 0


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_without_the_optimizer_a_run_resumes_with_moments_of_zero(llama, tmp_path, caplog, dtype):
    words = (f"model.dtype={dtype}", "optim.steps=2", "optim.lr=0.01", "sampling.num_tasks=6")
    cfg = make_config(llama, *words, "optim.save_optimizer=false", "optim.checkpoint_every=1")
    run(cfg, tmp_path, lambda progress, _: progress.step == 1)
    session = open_session(cfg, tmp_path)
    assert session.progress.step == 1 and session.learner.optimizer.state == {}
    (message,) = caplog.messages
    assert "step-000001 holds no state of the optimizer: its moments start from zero" in message
    before = read_weights(tmp_path)
    run(cfg, tmp_path)
    assert len(read_metrics(tmp_path)) == 2 and read_weights(tmp_path) != before
    assert not [*tmp_path.rglob("optimizer.safetensors")]


def test_the_likelihood_ratio_is_one_at_the_first_minibatch(llama, tmp_path):
    words = (*ONE_UPDATE, "sampling.num_tasks=6", "engine.temperature=1.3")
    for method in ("sesa", "ragen"):
        run(make_config(llama, *words, method=method), tmp_path / method)
        lines = [line for line in read_metrics(tmp_path / method) if line["train/tokens"]]
        assert lines
        for line in lines:
            assert line["train/ratio"] == pytest.approx(1, abs=1e-6)
            assert line["train/approx_kl"] == pytest.approx(0, abs=1e-6)
            assert line["train/clip_fraction"] == 0


def test_a_first_proposal_has_no_history_gap(llama, tmp_path):
    run(make_config(llama, "sampling.num_tasks=6"), tmp_path)
    lines = read_metrics(tmp_path)
    gaps = [line["gap/proposal_1"] for line in lines if "gap/proposal_1" in line]
    assert gaps and gaps == pytest.approx([0] * len(gaps), abs=1e-5)


@pytest.mark.parametrize("credit", ["trajectory", "tree", "best"])
def test_a_rewarded_action_gets_likelier_and_a_failure_less(llama, tmp_path, credit):
    words = (f"loss.credit={credit}", "optim.lr=0.05", "optim.warmup_steps=0")
    cfg = make_config(llama, *words)
    policy = Policy.load(str(llama))
    dialogue = build_dialogue(cfg, policy)
    tree = TrajectoryTree(Task(ENV_ID, 0))
    start = dialogue.start(tree.task)
    good, bad = policy.tokenizer.convert_tokens_to_ids(["<answer>Right</answer>", MOVES[2]])

    def probabilities() -> torch.Tensor:
        with torch.no_grad():
            logits = policy.model(torch.tensor([start.prompt_ids])).logits[0, -1]
        return torch.log_softmax(logits, dim=-1)[[good, bad]]

    before = probabilities()
    nodes = []
    for place, (token, text) in enumerate(zip((good, bad), ("Right", "Left"), strict=True)):
        completion = Completion(f"<answer>{text}</answer>", (token,), (-1.4,), "stop")
        turn, after = dialogue.play(start, completion, place)
        nodes.append((tree.add(ROOT, turn), after))
    completion = Completion("<answer>Right</answer>", (good,), (-1.4,), "stop")
    turn, _ = dialogue.play(nodes[0][1], completion)
    tree.add(nodes[0][0], turn)
    assert turn.success
    optimizer = torch.optim.SGD(policy.parameters())
    metrics = Learner(policy, optimizer).update([tree], cfg, Progress())
    change = probabilities() - before
    assert change[0] > 0 > change[1]
    assert metrics["train/tokens"] == 3


def test_equal_returns_teach_nothing(llama, tmp_path):
    cfg = make_config(llama, "sampling.num_tasks=1")
    policy = Policy.load(str(llama))
    dialogue = build_dialogue(cfg, policy)
    tree = TrajectoryTree(Task(ENV_ID, 0))
    completion = Completion("<answer>Left</answer>", (5,), (-1.0,), "stop")
    tree.add(ROOT, dialogue.play(dialogue.start(tree.task), completion)[0])
    optimizer = torch.optim.AdamW(policy.parameters())
    assert Learner(policy, optimizer).update([tree], cfg, Progress()) == {"train/tokens": 0.0}


def scripted_rollout(llama: Path, moves: str, *overrides: str):
    """Trees of step 0, all and taught, where the policy says the moves in order, L and R."""
    cfg = make_config(llama, *DAPO, *overrides, method="dapo")
    policy = Policy.load(str(llama))
    replies = [f"<answer>{ {'L': 'Left', 'R': 'Right'}[move] }</answer>" for move in moves]
    engine = ScriptedEngine(policy.tokenizer, replies)
    sampled = rollout(cfg, 0, step_player(cfg, 0, engine, build_dialogue(cfg, policy)))
    assert engine.usage.calls == len(moves) == sum(tree.num_calls for tree in sampled.trees)
    return sampled.trees, sampled.taught


def test_groups_without_signal_are_drawn_again(llama):
    # Two groups of two a round. First round: both lose; one wins (with its second move). Second
    # round: in each group one wins. There is no third one, and the last group is one too many.
    trees, taught = scripted_rollout(llama, "LLRL" + "R" + "RLRL" + "RR")
    assert [tree.success for tree in trees] == [False, True, True, True]
    assert taught == trees[1:3]
    assert [tree.task.seed for tree in trees] == training_seeds(0, 0, 6)[:4]
    assert not set(training_seeds(0, 0, 6)) & set(training_seeds(0, 1, 6))


def test_redraws_end_at_their_bound(llama):
    trees, taught = scripted_rollout(llama, "LLLL" + "LLRR" + "RR" + "LLLL")
    assert [tree.success for tree in trees] == [False, False, False, True, False, False]
    assert taught == []  # all win or all lose: nothing to tell apart


def test_without_redraws_every_group_is_learnt_from(llama):
    trees, taught = scripted_rollout(llama, "LLRL" + "R", "sampling.max_redraws=0")
    assert taught == trees
    assert [tree.task.seed for tree in trees] == training_seeds(0, 0, 2)


@pytest.mark.parametrize(
    ("max_calls", "seeds", "num_rounds", "num_taught"),
    # Calls of the groups: 2 (LL), 3 (RL R), 3 (RL R), 3 (LR R).
    [(None, 4, 2, 2), (11, 4, 2, 2), (10, 3, 2, 2), (7, 2, 2, 1), (4, 1, 1, 0), (1, 0, 1, 0)],
)
def test_groups_beyond_the_budget_are_left_out(llama, max_calls, seeds, num_rounds, num_taught):
    moves = "LLRL" + "R" + ("RLLR" + "RR") * (num_rounds - 1)
    cfg = make_config(llama, *DAPO, method="dapo")
    policy = Policy.load(str(llama))
    replies = [f"<answer>{ {'L': 'Left', 'R': 'Right'}[move] }</answer>" for move in moves]
    player = step_player(
        cfg, 0, ScriptedEngine(policy.tokenizer, replies), build_dialogue(cfg, policy)
    )
    sampled = rollout(cfg, 0, player, max_calls)
    assert [tree.task.seed for tree in sampled.within] == training_seeds(0, 0, 6)[:seeds]
    assert len(sampled.trees) == 2 * num_rounds
    assert len(sampled.taught) == num_taught
    within = {tree.task for tree in sampled.within}
    assert all(tree.task in within for tree in sampled.taught)
    assert sum(tree.num_calls for tree in sampled.within) <= (max_calls or 11)


@pytest.mark.parametrize(
    ("step", "max_calls", "num_within", "num_taught"), [(1, 4, 2, 2), (1, 3, 1, 0), (0, 3, 1, 1)]
)
def test_few_groups_of_a_last_step_are_not_learnt_from(
    llama, step, max_calls, num_within, num_taught
):
    """A single one moved the weights as far as a whole step, and spoilt a run at its very end."""
    words = (*DAPO, "sampling.num_tasks=3", "sampling.max_redraws=0")
    cfg, policy = make_config(llama, *words, method="dapo"), Policy.load(str(llama))
    engine = ScriptedEngine(policy.tokenizer, ["<answer>Left</answer>"] * 6)
    player = step_player(cfg, step, engine, build_dialogue(cfg, policy))
    sampled = rollout(cfg, step, player, max_calls)  # each of the 3 groups takes 2 calls
    assert (len(sampled.within), len(sampled.taught)) == (num_within, num_taught)


def test_no_group_with_signal_is_a_step_without_an_update(llama):
    cfg = make_config(llama, *DAPO, method="dapo")
    policy = Policy.load(str(llama))
    optimizer = torch.optim.AdamW(policy.parameters())
    assert Learner(policy, optimizer).update([], cfg, Progress()) == {"train/tokens": 0.0}


def test_a_response_that_fills_its_limit_is_pushed_down(llama):
    """Two losers alike but for their length: without the punishment there is nothing to learn."""
    for buffer, num_tokens in ((0, 0), (1, 3)):
        cfg = make_config(llama, *DAPO, f"loss.overlong_buffer={buffer}", method="dapo")
        policy = Policy.load(str(llama))
        dialogue = build_dialogue(cfg, policy)
        tree = TrajectoryTree(Task(ENV_ID, 0))
        for ids in ((5,), (5, 6)):  # engine.max_new_tokens is 2
            completion = Completion("<answer>Left</answer>", ids, (-1.0,) * len(ids), "stop")
            tree.add(ROOT, dialogue.play(dialogue.start(tree.task), completion)[0])
        optimizer = torch.optim.AdamW(policy.parameters())
        assert (
            Learner(policy, optimizer).update([tree], cfg, Progress())["train/tokens"] == num_tokens
        )


def test_a_run_with_redraws_that_stops_goes_on_as_if_it_had_not(llama, tmp_path):
    words = (*DAPO, "optim.steps=3", "sampling.max_trajectories=6", "optim.lr=0.01")
    cfg = make_config(llama, *words, method="dapo")
    run(cfg, tmp_path / "whole")
    run(cfg, tmp_path / "stopped", lambda progress, _: progress.step == 2)
    run(cfg, tmp_path / "stopped")
    assert read_weights(tmp_path / "stopped") == read_weights(tmp_path / "whole")
    lines = read_metrics(tmp_path / "stopped", times=False)
    assert lines == read_metrics(tmp_path / "whole", times=False)
    assert max(line["train/tokens"] for line in lines) > 0


def test_the_penalty_is_towards_the_initial_policy(llama, tmp_path):
    """After a step with a large learning rate the distance is there; a resume keeps its origin."""
    cfg = make_config(llama, *ONE_UPDATE, "loss.kl_coef=0.1", "optim.lr=0.01", method="ragen")
    run(cfg, tmp_path)
    run(replace(cfg, optim=replace(cfg.optim, steps=3)), tmp_path)
    distances = [line["train/kl"] for line in read_metrics(tmp_path)]
    assert distances[0] == pytest.approx(0, abs=1e-6)
    assert distances[1] > 1e-4
    assert distances[2] > 1e-4


def test_settings_have_the_last_word_over_a_checkpoint(llama, tmp_path):
    cfg = make_config(llama, "sampling.num_tasks=6")
    run(cfg, tmp_path)
    before = read_weights(tmp_path)
    run(replace(cfg, optim=replace(cfg.optim, steps=3, lr=1e-30)), tmp_path)
    assert read_state(newest(tmp_path))["step"] == 3
    assert read_metrics(tmp_path)[2]["train/tokens"] > 0
    assert read_weights(tmp_path) == before


def test_a_run_folder_holds_everything(llama, tmp_path):
    cfg = make_config(llama, "optim.steps=3", "optim.checkpoint_every=1")
    run(cfg, tmp_path)
    names = {path.name for path in tmp_path.iterdir()}
    assert names == {"metrics.jsonl", "tensorboard", "trees", "checkpoints"}
    checkpoints = sorted(path.name for path in (tmp_path / "checkpoints").iterdir())
    assert checkpoints == ["step-000002", "step-000003"]

    events = EventAccumulator(str(tmp_path / "tensorboard"))
    events.Reload()
    lines = read_metrics(tmp_path)
    assert set(events.Tags()["scalars"]) == {k for line in lines for k in line} - {"step", "time_s"}
    read = [event.value for event in events.Scalars("rollout/tree_size")]
    assert read == pytest.approx([line["rollout/tree_size"] for line in lines])

    files = sorted((tmp_path / "trees").iterdir())
    assert [file.name for file in files] == [f"step-{step:06d}.json" for step in range(3)]
    trees = [TrajectoryTree.from_json(tree) for tree in json.loads(files[0].read_text())]
    assert [tree.task.env_id for tree in trees] == [ENV_ID] * 2
    firsts = [turn for tree in trees for turn in tree.turns if turn.proposal_index == 0]
    for turn in firsts:  # drawn under the plain prompt, by the policy before the update
        assert turn.plain_logprob == pytest.approx(sum(turn.sampling_logprobs), abs=1e-4)


def test_a_stop_is_saved_and_goes_on(llama, tmp_path):
    cfg = make_config(llama, "optim.steps=4", "optim.checkpoint_every=100")
    run(cfg, tmp_path / "stopped", lambda progress, _: progress.step == 1)
    assert len(read_metrics(tmp_path / "stopped")) == 1
    run(cfg, tmp_path / "stopped")
    run(cfg, tmp_path / "whole")
    assert read_weights(tmp_path / "stopped") == read_weights(tmp_path / "whole")


def test_a_run_goes_on_with_another_method(llama, tmp_path):
    cfg = make_config(llama, "optim.checkpoint_every=1", "optim.lr=0.002", method="ragen")
    run(cfg, tmp_path)
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(config_to_dict(cfg)))
    switched = read_run(tmp_path, "", "sesa", ["optim.steps=3"])
    expected = make_config(llama, "optim.lr=0.002", "optim.checkpoint_every=1", "optim.steps=3")
    assert switched == expected
    run(switched, tmp_path)
    roots = []
    for step in range(3):
        file = tmp_path / "trees" / f"step-{step:06d}.json"
        roots.append([tree["parents"].count(ROOT) for tree in json.loads(file.read_text())])
    assert roots == [[3, 3], [3, 3], [2, 2]]  # U independent rollouts, then G proposals


def test_auto_is_decided_by_the_environment(llama):
    still, slippery = make_config(llama), make_config(llama, env="frozen_lake")
    assert (still.sampling.merge_states, still.loss.credit) == ("on", "best")
    apart = make_config(llama, "sampling.merge_states=off", env="frozen_lake")
    assert (slippery.sampling.merge_states, slippery.loss.credit) == ("on", "expected")
    assert (apart.sampling.merge_states, apart.loss.credit) == ("off", "tree")
    for cfg in (still, slippery, apart):
        assert "auto" not in yaml.safe_dump(config_to_dict(cfg))
        assert resolve_auto(cfg) == cfg


def test_no_metric_is_infinite(llama, tmp_path):
    """The log writes what is not finite as null."""
    run(make_config(llama, "optim.lr=1.0", "optim.steps=3"), tmp_path)
    lines = read_metrics(tmp_path)
    assert len(lines) == 3
    assert [key for line in lines for key, value in line.items() if value is None] == []
