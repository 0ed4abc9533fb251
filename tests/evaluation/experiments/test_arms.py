"""Arms of an experiment run once, to one budget, and their results are those of the run."""

import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file

from sesa_agent.agents.chat import ChatFormat
from sesa_agent.agents.engines.base import SamplingParams
from sesa_agent.agents.engines.scripted import ScriptedEngine
from sesa_agent.configs.errors import SettingError
from sesa_agent.environments import make_env
from sesa_agent.environments.games.places import PLACES
from sesa_agent.evaluation.diversity import distinct_counts, draw_sets
from sesa_agent.evaluation.experiments.arms import (
    BASE,
    RESULT_FILE,
    Arm,
    Measurement,
    arm_folder,
    curve,
    read_result,
    resolve_arm,
    run_arm,
)
from sesa_agent.evaluation.experiments.paper import CALLS, EXPERIMENTS, experiment_arms
from sesa_agent.evaluation.experiments.runner import run_arms
from sesa_agent.sampling.dialogue import Dialogue
from sesa_agent.training.checkpoint import latest_checkpoint
from sesa_agent.training.checkpoint_files import read_state

from ...helpers.runs import read_metrics
from ...helpers.tiny_models import chatml_tokenizer
from ...helpers.toy_game import ENV_ID

pytestmark = pytest.mark.usefixtures("one_thread")

SMALL = (
    "sampling.num_tasks=2",
    "sampling.num_proposals=2",
    "sampling.max_trajectories=3",
    "engine.max_new_tokens=2",
    "optim.max_policy_calls=12",
    "optim.checkpoint_every=1",
    "optim.keep_checkpoints=9",
    "loss.overlong_buffer=0",
    "eval.every=2",
    "eval.episodes=2",
    "eval.samples=2",
    "eval.final_episodes=3",
)
MEASUREMENTS = (Measurement(0.5, 4), Measurement(1.0, 2, num_samples=2, ks=(2,)))


def make_arm(model: Path, *settings: str, label="sesa", method="sesa", env=ENV_ID, **options):
    common = (f"model.path={model}", *SMALL)
    return Arm(label, env, method, settings, 0, MEASUREMENTS, **{"common": common, **options})


def finish(arm: Arm, runs: Path):
    result = run_arm(arm, runs)
    assert result is not None
    return result


def refuse_step(*_):
    raise AssertionError("a step was trained")


# ---- one arm ----


def test_an_arm_is_trained_to_its_budget_and_measured(llama, tmp_path):
    arm = make_arm(llama, "optim.lr=1e-3")
    result = finish(arm, tmp_path)
    lines = read_metrics(arm_folder(arm, tmp_path))
    calls = [line["progress/policy_calls"] for line in lines]
    assert calls[-2] < calls[-1] == result["policy_calls"] <= 12
    assert result["steps"] == len(lines)
    assert result["response_tokens"] == lines[-1]["progress/response_tokens"]
    assert result["env_steps"] == lines[-1]["progress/env_steps"]
    times = [line["time/rollout_s"] + line["time/learn_s"] for line in lines]
    assert result["seconds"] == pytest.approx(sum(times), abs=0.06)
    assert (result["label"], result["method"], result["seed"]) == ("sesa", "sesa", 0)
    assert result["settings"] == ["optim.lr=1e-3"]
    cold, warm = result["measured"]["T=0.5"], result["measured"]["T=1"]
    assert (cold["num_episodes"], cold["num_samples"], cold["temperature"]) == (3, 1, 0.5)
    assert (warm["num_episodes"], warm["num_samples"], list(warm["pass_at_k"])) == (2, 2, ["2"])


def test_a_finished_arm_is_read_and_not_run_again(llama, tmp_path):
    arm = make_arm(llama)
    result = finish(arm, tmp_path)
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")}
    assert run_arm(arm, tmp_path, refuse_step) == read_result(arm, tmp_path) == result
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")} == before


def test_another_measurement_takes_no_training(llama, tmp_path):
    arm = make_arm(llama)
    result = finish(arm, tmp_path)
    other = replace(arm, measurements=(Measurement(1.0, 1),))
    assert read_result(other, tmp_path) is None
    again = run_arm(other, tmp_path, refuse_step)
    assert again is not None
    assert list(again["measured"]) == ["T=1"]
    assert again["curve"] == result["curve"]


def test_a_stopped_arm_ends_like_one_that_was_not_stopped(llama, tmp_path):
    arm = make_arm(llama)
    whole = finish(arm, tmp_path / "whole")
    assert run_arm(arm, tmp_path / "parts", lambda *_: True) is None
    assert read_result(arm, tmp_path / "parts") is None
    resumed = finish(arm, tmp_path / "parts")
    times = {"seconds": 0, "cpu_seconds": 0}
    assert resumed | times == whole | times


def test_the_watcher_is_called_after_every_step(llama, tmp_path):
    seen = []

    def watch(share_done, metrics):
        seen.append((share_done, metrics["progress/policy_calls"]))
        return False

    arm = make_arm(llama)
    run_arm(arm, tmp_path, watch)
    lines = read_metrics(arm_folder(arm, tmp_path))
    calls = [line["progress/policy_calls"] for line in lines]
    assert seen[:-1] == [(count / 12, count) for count in calls[:-1]]
    assert seen[-1] == (1, calls[-1]) and calls[-1] <= 12  # no more puzzle fits into what is left


def test_the_base_is_measured_and_not_trained(llama, tmp_path):
    result = run_arm(make_arm(llama, label=BASE), tmp_path, refuse_step)
    assert result is not None
    assert (result["policy_calls"], result["steps"], result["curve"]) == (0, 0, [])
    assert set(result["measured"]) == {"T=0.5", "T=1"}


def test_an_arm_continues_from_the_last_checkpoint_of_another(llama, tmp_path):
    first = make_arm(llama, label="ragen", method="ragen")
    start = finish(first, tmp_path)
    source = arm_folder(first, tmp_path)
    before = {path: path.read_bytes() for path in source.rglob("*") if path.is_file()}
    second = make_arm(llama, label="ragen, then sesa", start_from=first)
    result = finish(second, tmp_path)
    assert {path: path.read_bytes() for path in before} == before

    folder = arm_folder(second, tmp_path)
    lines, earlier = read_metrics(folder), read_metrics(source)
    assert lines[: len(earlier)] == earlier
    assert (len(lines), result["steps"]) == (start["steps"] + result["steps"], result["steps"])
    total = lines[-1]["progress/policy_calls"]
    assert result["policy_calls"] == total - start["policy_calls"]
    assert 0 < result["policy_calls"] <= 12
    assert result["start_from"] == "ragen"
    name = f"step-{start['steps']:06d}"
    weights = Path("checkpoints", name, "model", "model.safetensors")
    assert (folder / weights).read_bytes() == (source / weights).read_bytes()
    # The first point is the last evaluation of the policy it starts from; all others are its own.
    own = [row["step"] >= start["steps"] for row in result["curve"]]
    assert own == [False] + [True] * (len(own) - 1)
    assert result["curve"][0] == start["curve"][-1]


def test_a_damaged_result_is_measured_again(llama, tmp_path):
    """A result that was cut off ended every later comparison with a traceback."""
    arm = make_arm(llama)
    path = arm_folder(arm, tmp_path) / RESULT_FILE
    path.parent.mkdir()
    for text in ('{"label": "se', "null", "{}"):
        path.write_text(text)
        assert read_result(arm, tmp_path) is None


def test_an_arm_that_another_comparison_trains_is_refused(llama, tmp_path):
    arm = make_arm(llama)
    folder = arm_folder(arm, tmp_path)
    script = "import pathlib, sys; from sesa_agent.training.run_lock import locked\n"
    script += "with locked(pathlib.Path(sys.argv[1])): print(flush=True); input()"
    command = [sys.executable, "-c", script, str(folder)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as other:
        assert other.stdout is not None
        other.stdout.readline()
        with pytest.raises(SettingError, match="another process trains"):
            run_arm(arm, tmp_path)
        other.kill()


@pytest.mark.slow
def test_an_arm_whose_start_has_lost_its_checkpoints_says_so(llama, tmp_path):
    first = make_arm(llama)
    finish(first, tmp_path)
    shutil.rmtree(arm_folder(first, tmp_path) / "checkpoints")
    with pytest.raises(SettingError, match="continues from sesa, which has no checkpoint in"):
        run_arm(make_arm(llama, label="next", start_from=first), tmp_path)


def test_the_folder_of_an_arm_depends_on_all_that_determines_its_weights(llama, tmp_path):
    arm = make_arm(llama)
    model = shutil.copytree(llama, tmp_path / "model")
    others = [
        make_arm(llama, "optim.lr=1e-5"),
        make_arm(llama, label="other"),
        make_arm(llama, method="ragen"),
        make_arm(model),
        make_arm(llama, start_from=arm),
        make_arm(llama, start_from=make_arm(llama, "optim.lr=1e-5")),
        replace(arm, seed=1),
    ]
    places = {arm_folder(each, tmp_path) for each in (arm, *others)}
    assert len(places) == 1 + len(others)
    assert arm_folder(make_arm(llama, "eval.final_episodes=2"), tmp_path) in places
    before = arm_folder(make_arm(model), tmp_path)
    weights = load_file(model / "model.safetensors")
    weights["model.norm.weight"] += 1
    save_file(weights, model / "model.safetensors", {"format": "pt"})
    assert arm_folder(make_arm(model), tmp_path) != before


def test_a_curve_counts_the_calls_before_an_evaluation():
    lines = [
        {"step": step, "progress/policy_calls": 10 * (step + 1), "rollout/signal_groups": 0.5}
        | ({"eval/success_rate": step / 10} if step % 2 == 0 else {})
        for step in range(5)
    ]
    rows = curve(lines)
    assert [(row["step"], row["policy_calls"]) for row in rows] == [(0, 0), (2, 20), (4, 40)]
    assert [row["eval/success_rate"] for row in rows] == [0, 0.2, 0.4]
    assert [row["step"] for row in curve(lines, start_step=3)] == [2, 4]


# ---- many arms ----


@pytest.mark.slow
def test_arms_run_in_processes_each_after_the_one_it_starts_from(llama, tmp_path):
    enough = (f"model.path={llama}", *SMALL, "optim.max_policy_calls=40")
    first = make_arm(llama, env="frozen_lake", common=enough)
    second = make_arm(llama, label="then", env="frozen_lake", common=enough, start_from=first)
    base = make_arm(llama, label=BASE, env="frozen_lake", common=enough)
    news, finished = [], []
    results = run_arms(
        [second, first, base, first],
        tmp_path,
        jobs=2,
        on_report=news.append,
        on_result=lambda arm, _: finished.append(arm.label),
    )
    assert set(results) == {first, second, base}
    assert finished.index("sesa") < finished.index("then")
    assert {report.arm for report in news} <= {first, second}
    assert results[first] == read_result(first, tmp_path)
    again = run_arms([first, second, base], tmp_path, jobs=2, on_report=refuse_step)
    assert again == results


@pytest.mark.slow
def test_stopped_arms_are_saved_and_no_other_is_started(llama, tmp_path):
    endless = (f"model.path={llama}", *SMALL, "optim.max_policy_calls=0", "optim.steps=99999")
    arms = [replace(make_arm(llama, env="frozen_lake", common=endless), seed=n) for n in (0, 1)]
    news = []
    found = run_arms(arms, tmp_path, 1, on_report=news.append, wants_stop=lambda: bool(news))
    assert found == {}
    folder = arm_folder(arms[0], tmp_path)
    checkpoint = latest_checkpoint(folder)
    assert checkpoint is not None
    assert read_state(checkpoint)["step"] == len(read_metrics(folder))
    assert not arm_folder(arms[1], tmp_path).exists()


def test_a_mistake_found_in_the_process_of_an_arm_is_reported(llama, tmp_path):
    arms = [make_arm(tmp_path / "nothing", env="frozen_lake")]
    with pytest.raises(SettingError, match="does not exist"):
        run_arms(arms, tmp_path, jobs=1)


# ---- the paper's experiments ----


EVERY_EXPERIMENT = [
    pytest.param(name, marks=[pytest.mark.slow] if place else [])
    for place, name in enumerate(sorted(EXPERIMENTS, key=lambda name: len(EXPERIMENTS[name].plans)))
]
"""All experiments; the smallest is not slow."""


def planned_calls(name: str, arm: Arm) -> int:
    (calls,) = (plan.calls for plan in EXPERIMENTS[name].plans if plan.label == arm.label)
    return calls or CALLS[arm.env]


@pytest.mark.parametrize("name", EVERY_EXPERIMENT)
def test_the_arms_of_an_experiment_fit_and_have_their_budget(name):
    arms = experiment_arms(name, (0, 1))
    for arm in arms:
        cfg = resolve_arm(arm)
        assert cfg.optim.max_policy_calls == planned_calls(name, arm)
        assert cfg.seed == arm.seed
        assert arm.start_from is None or arms.index(arm.start_from) < arms.index(arm)
        assert arm.start_from is None or arm.start_from.seed == arm.seed
        if EXPERIMENTS[name].curves:  # what is shown along training has to be measured there
            assert cfg.eval.samples >= max(k for how in arm.measurements for k in how.ks)
    trained = [arm for arm in arms if arm.is_trained]
    assert len({(arm.env, arm.label) for arm in trained}) * 2 == len(trained)


@pytest.mark.parametrize("name", EVERY_EXPERIMENT)
def test_quick_uses_a_fraction_of_the_calls_and_overrides_win(name):
    for arm in experiment_arms(name, (0,), is_quick=True):
        assert (
            resolve_arm(arm).optim.max_policy_calls
            == planned_calls(name, arm) // EXPERIMENTS[name].quick_share
        )
    for arm in experiment_arms(name, (0,), True, ("optim.max_policy_calls=7", "eval.every=3")):
        cfg = resolve_arm(arm)
        assert (cfg.optim.max_policy_calls, cfg.eval.every) == (7, 3)


# ---- diversity ----


@given(st.lists(st.none() | st.sampled_from("abcde")))
def test_distinct_counts_rise_by_one_with_a_new_answer(answers):
    counts = distinct_counts(answers)
    assert len(counts) == len(answers)
    for place, answer in enumerate(answers):
        is_new = answer is not None and answer not in answers[:place]
        assert counts[place] - (counts[place - 1] if place else 0) == is_new


def explorer(choose):
    """An engine that answers with the place of a number, and the dialogue that reads it."""
    tokenizer = chatml_tokenizer()
    env_id = "sesa/PathExploration-v0"
    dialogue = Dialogue(lambda: make_env(env_id), ChatFormat(tokenizer), max_turns=1)
    engine = ScriptedEngine(tokenizer, lambda _: f"<answer>{PLACES[choose()]}</answer>")
    return engine, dialogue, env_id


def draw(choose, per_set, num_answers):
    engine, dialogue, env_id = explorer(choose)
    params = SamplingParams()
    return draw_sets(engine, dialogue, env_id, per_set, params, num_answers), engine.usage


def test_answers_are_distinct_within_a_set_but_not_across_sets():
    rng = np.random.default_rng(0)
    sets, usage = draw(lambda: rng.integers(6), per_set=3, num_answers=12)
    assert usage.calls > 12  # duplicates were rejected
    assert [len({*answers}) for answers in sets] == [len(answers) for answers in sets]
    assert sum(map(len, sets)) == 12
    assert len({answer for answers in sets for answer in answers}) <= 6


def test_independent_answers_are_one_call_each():
    sets, usage = draw(lambda: 0, per_set=1, num_answers=7)
    assert sets == [[PLACES[0]]] * 7
    assert usage.calls == 7


def test_short_sets_are_made_up_for_by_more_sets():
    sets, _ = draw(lambda: 0, per_set=5, num_answers=10)
    assert sets == [[PLACES[0]]] * 10


def scripted_draw(reply, num_answers=300, per_set=10):
    tokenizer, env_id = chatml_tokenizer(), "sesa/PathExploration-v0"
    dialogue = Dialogue(lambda: make_env(env_id), ChatFormat(tokenizer), max_turns=1)
    engine = ScriptedEngine(tokenizer, reply)
    progress = []
    sets = draw_sets(
        engine, dialogue, env_id, per_set, SamplingParams(), num_answers, watch=progress.append
    )
    return sets, progress, engine.usage.calls


def test_a_model_that_reads_nothing_is_given_up_after_a_hundred_answers():
    """It redrew three duplicates for each of 500 answers, three times over, without a word."""
    with pytest.raises(SettingError) as caught:
        scripted_draw(lambda _: "I like trees.")  # in rounds of 30, 27, 25 and 22 sets of one
    message = str(caught.value)
    assert "not one of 104 answers can be read" in message and "'I like trees.'" in message
    assert "warm-start" in message and "--model" in message and "\n" not in message


def test_every_answer_takes_a_bounded_number_of_calls_and_is_reported():
    # A set is one answer and three duplicates of it: 2 retries and the first try. Sets are planned
    # for 10 answers each: 30, then 27 for the 270 that are missing, 25, ... until there are 300.
    sets, progress, calls = scripted_draw(lambda _: f"<answer>{PLACES[0]}</answer>")
    assert (len(sets), calls) == (300, 300 * 4)
    assert progress[:3] == [30, 57, 82] and progress[-1] == 300


def test_the_last_set_is_cut_to_the_number_asked_for():
    numbers = iter(range(200))
    sets, _ = draw(lambda: next(numbers), per_set=4, num_answers=6)
    assert [len(answers) for answers in sets] == [4, 2]
