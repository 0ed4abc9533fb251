"""Warm starts of an experiment: made once for each seed, shared by its arms, as by the command."""

from dataclasses import replace
from pathlib import Path

import pytest

from sesa_agent.commands.warm_start import run_warm_start
from sesa_agent.commands.warm_start_options import WarmStartOptions
from sesa_agent.configs.errors import SettingError
from sesa_agent.configs.yaml_text import read_yaml
from sesa_agent.evaluation.experiments.arms import (
    BASE,
    WARM_START,
    Arm,
    arm_folder,
    read_result,
    resolve_arm,
    run_arm,
)
from sesa_agent.evaluation.experiments.results import Measurement
from sesa_agent.evaluation.experiments.runner import _startable, run_arms
from sesa_agent.evaluation.experiments.starts import START_FILE, is_complete, make_start, read_start
from sesa_agent.training.checkpoint import latest_checkpoint
from sesa_agent.training.checkpoint_files import has_optimizer

from ...helpers.toy_game import ENV_ID

pytestmark = pytest.mark.usefixtures("one_thread")

WORDS = ("env.max_turns=2", "engine.max_new_tokens=3")
SMALL = (
    *WORDS,
    "sampling.num_tasks=1",
    "sampling.num_proposals=2",
    "sampling.max_trajectories=2",
    "optim.max_policy_calls=8",
    "optim.checkpoint_every=1",
    "eval.every=9",
    "eval.episodes=1",
    "eval.final_episodes=1",
)


def make_arm(model: Path, *settings: str, label="sesa", method="sesa", seed=0, **options):
    common = (f"model.path={model}", *SMALL)
    arm = Arm(label, "frozen_lake", method, settings, seed, (Measurement(1.0, 1),), common)
    return replace(arm, **{"lessons": 2, **options})


def start_of(arm: Arm):
    assert arm.warm_start is not None
    return arm.warm_start


def weights(folder: Path):
    return (folder / "model.safetensors").read_bytes()


def test_it_is_the_warm_start_of_the_command(llama, tmp_path):
    start = start_of(make_arm(llama, seed=3))
    assert make_start(start, tmp_path)
    folder = start.folder(tmp_path)
    assert folder.name.startswith("frozen_lake-start-seed3-")
    options = WarmStartOptions(
        "frozen_lake", lessons=2, seed=3, episodes=1, output=tmp_path / "its"
    )
    run_warm_start(options, [f"model.path={llama}", "model.dtype=float32", *WORDS])
    assert weights(folder) == weights(tmp_path / "its") != weights(llama)
    found = read_start(folder)
    assert found["lessons"] == 2 and "100% of the answers are readable" in found["reason"]


def test_arms_of_one_seed_share_it_and_what_decides_it_is_in_its_name(llama, tmp_path):
    arm = make_arm(llama)
    same = (
        make_arm(llama, "sampling.num_tasks=2", "optim.lr=1e-5"),
        make_arm(llama, method="ragen", label="ragen"),
        make_arm(llama, label=WARM_START),
    )
    others = (
        make_arm(llama, seed=1),
        make_arm(llama, lessons=3),
        make_arm(llama, "env.options.size=5"),
        make_arm(llama, "model.prefill=true"),
    )
    folder = start_of(arm).folder(tmp_path)
    assert {start_of(each).folder(tmp_path) for each in same} == {folder}
    assert len({folder, *(start_of(each).folder(tmp_path) for each in others)}) == 5
    assert make_arm(llama, lessons=0).warm_start is None
    names = {arm_folder(each, tmp_path) for each in (arm, *same, *others)}
    assert arm_folder(make_arm(llama, lessons=0), tmp_path) not in names and len(names) == 8


def test_an_arm_is_trained_from_it_and_keeps_what_it_is_told_to(llama, tmp_path):
    arm = make_arm(llama, left_over="weights")
    lessons = []

    def watch(share, news):
        lessons.append(news.get("lesson"))
        return False

    result = run_arm(arm, tmp_path, watch)
    assert result is not None and lessons[:3] == [1, 2, None]
    assert result["warm_start"] == read_start(start_of(arm).folder(tmp_path))
    assert set(result["rollout"]) == {"distinct_answers", "signal_groups", "readable_rate"}
    folder = arm_folder(arm, tmp_path)
    path = read_yaml((folder / "config.yaml").read_text(), "config.yaml")["model"]["path"]
    assert path == str(start_of(arm).folder(tmp_path))
    assert resolve_arm(arm).model.path == str(llama)
    newest = latest_checkpoint(folder)
    assert newest is not None and not has_optimizer(newest)
    assert read_result(arm, tmp_path) == result

    base = run_arm(make_arm(llama, label=WARM_START), tmp_path)
    plain = run_arm(make_arm(llama, label=BASE, lessons=0), tmp_path)
    assert base is not None and plain is not None
    assert (base["policy_calls"], base["rollout"]) == (0, {})
    assert "warm_start" in base and "warm_start" not in plain


def test_a_stopped_one_is_made_again_and_a_complete_one_is_not(llama, tmp_path):
    arm = make_arm(llama, left_over="nothing")
    folder = start_of(arm).folder(tmp_path)
    assert run_arm(arm, tmp_path, lambda *_: True) is None
    assert not is_complete(folder) and not arm_folder(arm, tmp_path).exists()
    assert run_arm(arm, tmp_path) is not None
    assert list((arm_folder(arm, tmp_path) / "checkpoints").iterdir()) == []
    before = (folder / START_FILE).stat().st_mtime_ns
    assert make_start(start_of(arm), tmp_path, lambda _: pytest.fail("a lesson was given"))
    assert (folder / START_FILE).stat().st_mtime_ns == before


def test_an_environment_without_a_player_is_refused(llama, tmp_path):
    with pytest.raises(SettingError, match="has no scripted player to learn from"):
        run_arm(replace(make_arm(llama), env=ENV_ID), tmp_path)


def test_nobody_waits_but_those_whose_start_is_being_made(llama, tmp_path):
    first, second = make_arm(llama), make_arm(llama, label="ragen", method="ragen")
    other, plain = make_arm(llama, seed=1), make_arm(llama, label=BASE, lessons=0)
    starts = {arm: start_of(arm).folder(tmp_path) for arm in (first, second, other)}
    assert _startable([first, second, other, plain], [], {}, starts) == [first, other, plain]
    assert _startable([second, other], [first], {}, starts) == [other]
    starts[first].mkdir()
    (starts[first] / START_FILE).write_text('{"lessons": 2, "reason": "it is enough"}')
    assert _startable([second, other], [first], {}, starts) == [second, other]


@pytest.mark.slow
def test_arms_in_processes_make_it_once(llama, tmp_path):
    arms = [make_arm(llama, label=WARM_START), make_arm(llama), make_arm(llama, seed=1)]
    news = []
    results = run_arms(arms, tmp_path, 2, on_report=news.append)
    assert set(results) == {*arms}
    lessons = [(each.arm.seed, each.metrics["lesson"]) for each in news if "lesson" in each.metrics]
    assert sorted(lessons) == [(0, 1), (0, 2), (1, 1), (1, 2)]
    assert len(list(tmp_path.glob("*-start-seed*/start.json"))) == 2
