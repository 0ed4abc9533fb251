"""Self-imitation: what is kept, what it teaches, and that a resumed run remembers it."""

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sesa_agent.configs.load import load_config
from sesa_agent.configs.schema import LossConfig
from sesa_agent.sampling.trajectory import ROOT
from sesa_agent.training.advantages import leaf_returns, trajectory_credit
from sesa_agent.training.batch import collate
from sesa_agent.training.checkpoint_files import read_replay
from sesa_agent.training.damage import find_damage
from sesa_agent.training.replay import MAX_AGE, ReplayBuffer

from ..helpers.credits import credit_of
from ..helpers.runs import make_config, newest, read_metrics, read_weights, run
from ..helpers.strategies import make_tree, make_turn, trees

CFG = LossConfig(replay_coef=1.0, aggregate="token")


def group(*returns):
    """Independent rollouts of one turn with these returns."""
    return make_tree([ROOT] * len(returns), [make_turn(reward=value) for value in returns])


def add(buffer, step, *trees):
    buffer.add(trees, [leaf_returns(tree, 0.0) for tree in trees], CFG, step)


def test_only_what_stands_out_is_kept():
    """A lone success of four is 1.7 standard deviations above its group, one of two is 1."""
    buffer = ReplayBuffer()
    add(buffer, 0, group(0.0, 1.0, 0.0, 0.0), group(1.0, 0.0), group(1.0, 1.0))
    assert [(replay.episode_return, replay.step) for replay in buffer.replays] == [(1.0, 0)]
    assert buffer.means == [0.25, 0.5, 1.0] and buffer.baseline == 0.5


def test_old_trajectories_are_forgotten():
    buffer = ReplayBuffer()
    for step in range(MAX_AGE + 2):
        add(buffer, step, group(0.0, 0.0, 1.0, 0.0))
    assert [replay.step for replay in buffer.replays] == [2, 3, 4, 5, 6]


def test_the_credit_by_hand():
    """Means 1/4, 1/2, 1/2: the replay has A = 1/2; weight 1, halfway up the ramp, of 6 tokens."""
    buffer = ReplayBuffer()
    add(buffer, 0, group(0.0, 1.0, 0.0, 0.0), group(1.0, 0.0), group(1.0, 0.0))
    replayed, (credit,) = buffer.credits(CFG, share_done=1 / 3, denominator=6.0)
    assert [turn.reward for turn in replayed[0].turns] == [1.0]
    assert credit.positive.tolist() == pytest.approx([0.5 * 0.5 * 6.0 / 1.0])
    assert (credit.negative.tolist(), credit.denominator) == ([0.0], 0.0)
    batch = collate([group(1.0, 0.0), *replayed], [_plain(6.0), credit], 0)
    assert batch.positive.sum().item() == pytest.approx(0.25)  # of their mean, whatever the step's


def _plain(denominator):
    credit = credit_of(trajectory_credit, group(1.0, 0.0), CFG)
    return type(credit)(0 * credit.positive, credit.negative, credit.weight, denominator)


def test_where_the_policy_has_become_better_nothing_is_imitated():
    buffer = ReplayBuffer()
    add(buffer, 0, group(0.0, 0.5, 0.0, 0.0))
    assert buffer.credits(CFG, 0.9, 1.0)[1][0].positive[0] > 0
    add(buffer, 1, group(1.0, 1.0), group(1.0, 1.0))
    assert buffer.credits(CFG, 0.9, 1.0) == ([], [])


@pytest.mark.parametrize(("share", "denominator"), [(0.0, 1.0), (0.5, 0.0)])
def test_at_the_start_and_beside_nothing_there_are_no_replays(share, denominator):
    buffer = ReplayBuffer()
    add(buffer, 0, group(0.0, 1.0, 0.0, 0.0))
    assert buffer.credits(CFG, share, denominator) == ([], [])


@given(st.lists(trees(), max_size=4))
def test_a_buffer_survives_its_file_exactly(grown):
    buffer = ReplayBuffer()
    for step, tree in enumerate(grown):
        add(buffer, step, tree)
    again = ReplayBuffer.from_json(json.loads(json.dumps(buffer.to_json())))
    assert again == buffer
    for replay in buffer.replays:
        assert replay.episode_return == pytest.approx(sum(t.reward for t in replay.tree.turns))
        assert len(replay.tree.leaves()) == 1


WORDS = ("optim.steps=4", "optim.lr=0.01", "sampling.num_tasks=6", "sampling.max_trajectories=6")


def test_a_run_that_stops_imitates_on_as_if_it_had_not(llama, tmp_path):
    cfg = make_config(llama, *WORDS, method="spear")
    run(cfg, tmp_path / "whole")
    run(cfg, tmp_path / "stopped", lambda progress, _: progress.step == 2)
    kept = read_replay(newest(tmp_path / "stopped"))
    assert kept["replays"] and len(kept["means"]) == 12
    run(cfg, tmp_path / "stopped")
    assert read_weights(tmp_path / "stopped") == read_weights(tmp_path / "whole")
    whole, stopped = (read_metrics(tmp_path / name, times=False) for name in ("whole", "stopped"))
    assert whole == stopped
    run(make_config(llama, *WORDS, "loss.replay_coef=0", method="spear"), tmp_path / "none")
    assert read_weights(tmp_path / "none") != read_weights(tmp_path / "whole")
    first = (line["train/tokens"] for line in (read_metrics(tmp_path / "none")[0], whole[0]))
    assert len(set(first)) == 1  # there is nothing to imitate yet


def test_a_damaged_buffer_is_found(llama, tmp_path):
    run(make_config(llama, *WORDS, "optim.steps=1", method="spear"), tmp_path)
    checkpoint = newest(tmp_path)
    (checkpoint / "replay.json").write_text("{}")
    assert find_damage(checkpoint, ("replay.json",)) == "replay.json does not match its checksum"


def test_no_other_method_keeps_anything(llama, tmp_path):
    run(make_config(llama, "optim.steps=1", method="ragen"), tmp_path)
    assert not (newest(tmp_path) / "replay.json").exists()
    loss = load_config("sokoban", "spear").loss
    assert (loss.replay_coef, loss.normalize_std) == (1.0, False)
    assert np.isfinite(read_metrics(tmp_path)[0]["train/tokens"])
