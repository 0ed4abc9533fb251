"""Policy collapse is found where it happens, not where a policy learns; a rescue is exact."""

import json
import math
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sesa_agent.configs.errors import SettingError
from sesa_agent.configs.load import load_config
from sesa_agent.training.checkpoint_files import read_state
from sesa_agent.training.monitor import (
    INDICATORS,
    WATCHED,
    Symptom,
    advise,
    diagnose,
    is_collapsing,
    remember,
    rescued_config,
)
from sesa_agent.training.setup import resolve_auto

from ..helpers.runs import make_config, newest, read_metrics, read_weights, run, run_and_kill

pytestmark = pytest.mark.usefixtures("one_thread")

NAMES = {
    "entropy": "train/entropy",
    "ratio": "rollout/pass_ratio",
    "actions": "rollout/actions_per_state",
    "signal": "rollout/signal_groups",
    "success": "rollout/success_rate",
    "eval": "eval/success_rate",
}
HEALTHY = {"entropy": 0.3, "ratio": 4.0, "actions": 1.6, "signal": 0.6, "success": 0.15}


def steps(count: int = 1, /, **numbers: float) -> list[dict[str, float]]:
    """Steps of a healthy beginning but for `numbers`."""
    return [{NAMES[name]: value for name, value in {**HEALTHY, **numbers}.items()}] * count


def kinds(history, window=1, standing=()):
    return {symptom.kind for symptom in diagnose(history, window, standing)}


@pytest.mark.parametrize(
    ("now", "expected"),
    [
        ({"entropy": 0.099}, {"entropy"}),  # a third of .3 is .1
        ({"entropy": 0.101}, set()),
        ({"actions": 1.19}, {"alike"}),  # .19 <= .6 / 3
        ({"actions": 1.21}, set()),
        ({"signal": 0.19}, {"no_signal"}),
        ({"signal": 0.21}, set()),
        ({"ratio": 1.9}, {"pass_ratio"}),  # .9 <= 3 / 3
        ({"ratio": 2.1}, set()),
        # At a success of .5 the ratio is 2 at most: .3 <= 1 / 3, while .4 is not.
        ({"success": 0.5, "ratio": 1.3}, {"pass_ratio"}),
        ({"success": 0.5, "ratio": 1.4}, set()),
        ({"success": 0.049}, {"forgetting"}),
        ({"success": 0.051}, set()),
    ],
)
def test_a_sign_stands_where_a_third_is_left(now, expected):
    assert kinds(steps() + steps(**now)) == expected


def test_a_dead_policy_shows_every_sign_in_plain_words():
    history = steps() + steps(entropy=0.01, ratio=1.02, actions=1.01, signal=0.02)
    symptoms = diagnose(history, 1)
    assert [symptom.kind for symptom in symptoms] == [sign.kind for sign in INDICATORS]
    assert is_collapsing(symptoms)
    assert "is 0.010 nats per token, 0.300 at first" in symptoms[0].text
    assert "is 1.02, 4.00 at first" in symptoms[2].text


def test_a_policy_that_solves_everything_is_not_dead():
    """Its rollouts are alike because they are right; a tree's are forced to be wrong at times."""
    dead = {"entropy": 0.01, "ratio": 1.0, "actions": 1.0, "signal": 0.0}
    assert kinds(steps() + steps(**dead, success=0.95)) == set()
    assert kinds(steps() + steps(**dead, success=0.3, eval=0.95)) == set()
    assert kinds(steps() + steps(**dead, success=0.85)) != set()


def test_a_hopeless_beginning_is_too_hard_and_no_collapse():
    hopeless = {"signal": 0.01, "success": 0.0}
    symptoms = diagnose(steps(**hopeless) + steps(**hopeless, entropy=0.01), 1)
    assert [symptom.kind for symptom in symptoms] == ["too_hard"]
    assert not is_collapsing(symptoms)
    assert kinds(steps(**hopeless) + steps()) == set()  # it has found its way


@pytest.mark.parametrize(
    ("now", "expected"),
    [
        ({"entropy": 0.01, "actions": 1.01}, False),  # so far they only grow alike
        ({"success": 0.01}, False),
        ({"signal": 0.01}, True),
        ({"ratio": 1.01}, True),
    ],
)
def test_a_policy_has_collapsed_when_nothing_is_left_to_learn(now, expected):
    symptoms = diagnose(steps() + steps(**now), 1)
    assert symptoms
    assert is_collapsing(symptoms) == expected


def test_a_sign_is_over_when_half_is_back():
    """.14 of .3 is above a third, but not above half: whoever was told is not told again."""
    between, well = steps() + steps(entropy=0.14), steps() + steps(entropy=0.16)
    assert kinds(between) == set()
    assert kinds(between, standing=["entropy"]) == {"entropy"}
    assert kinds(well, standing=["entropy"]) == set()


def test_a_ratio_is_averaged_as_a_ratio_of_means():
    """pass@k is .2 and 1.02 in the two steps, pass@1 .05 and .85; the mean ratio would be 2.6."""
    lucky, other = steps(success=0.05, ratio=4.0), steps(success=0.85, ratio=1.2)
    (symptom,) = diagnose(steps(2, ratio=9.0) + lucky + other, 2, standing=["pass_ratio"])
    assert "is 1.36, 9.00 at first" in symptom.text  # (.05 * 4 + .85 * 1.2) / (.05 + .85)


def test_nothing_is_said_before_two_windows_are_over():
    dead = steps(3, entropy=0.0)
    assert kinds(steps(3) + dead[:2], window=3) == set()
    assert kinds(steps(3) + dead, window=3) == {"entropy"}


def test_numbers_that_do_not_exist_are_no_sign():
    assert kinds([{}, {}]) == set()
    assert kinds(steps() + [{}]) == set()
    assert kinds([{}] + steps(entropy=0.0)) == set()


@pytest.mark.parametrize("seed", range(20))
def test_noise_is_no_sign(seed):
    """Groups of 16 drawn anew with the same chances in every step, 8 a step, as a run has them."""
    rng = np.random.default_rng(seed)
    chances = rng.beta(0.3, 1.5, size=(120, 8))  # success of each group's puzzle
    wins = rng.binomial(16, chances)
    history = [
        {
            "rollout/success_rate": row.mean() / 16,
            "rollout/signal_groups": ((row > 0) & (row < 16)).mean(),
            "rollout/pass_ratio": (row > 0).mean() / (row.mean() / 16),
            "train/entropy": rng.normal(0.15, 0.03),
        }
        for row in wins
        if row.any()
    ]
    assert len(history) > 100
    for end in range(40, len(history) + 1):
        assert kinds(history[:end], window=20) == set()


numbers = st.floats(0, 1e3) | st.just(math.nan)


@given(
    st.lists(st.dictionaries(st.sampled_from([*sorted(WATCHED), "time_s"]), numbers), max_size=12),
    st.integers(1, 4),
)
def test_what_is_remembered_says_the_same_as_the_whole_history(log, window):
    history, whole = [], []
    for line in log:
        history = remember(history, line, window)
        whole.append({k: v for k, v in line.items() if k in WATCHED and not math.isnan(v)})
        assert len(history) <= 2 * window
        assert diagnose(history, window) == diagnose(whole, window)
        assert json.loads(json.dumps(history)) == history


def test_advice_fits_the_run(llama):
    early, late, other = (
        Symptom("alike", ""),
        Symptom("no_signal", "", True),
        Symptom("too_hard", ""),
    )
    parallel = make_config(llama, method="ragen")
    rescue = make_config(llama, "monitor.rescue=auto", method="ragen")
    assert "--method sesa" in advise(early, parallel)
    assert "takes over if" in advise(early, rescue)
    assert advise(late, rescue) == ""  # it is taking over
    assert "sampling.num_proposals" in advise(late, make_config(llama))
    assert advise(other, parallel) == ""


# ---- rescue ----


def test_a_rescue_takes_sampling_and_loss_of_sesa_and_keeps_the_rest():
    words = ["monitor.rescue=auto", "sampling.num_tasks=7", "loss.discount=0.8"]
    cfg = resolve_auto(load_config("sokoban", "ragen-entropy", words))
    sesa = resolve_auto(load_config("sokoban", "sesa", words[1:]))
    rescued = rescued_config(cfg)
    assert (rescued.sampling, rescued.loss) == (sesa.sampling, sesa.loss)
    assert (rescued.sampling.max_trajectories, rescued.sampling.num_tasks) == (8, 7)
    assert rescued.optim == cfg.optim
    assert rescued.optim.lr != sesa.optim.lr
    assert rescued.monitor.rescue == "off"


def test_sesa_with_independent_rollouts_is_rescued_too():
    words = ["monitor.rescue=auto", "sampling.name=parallel"]
    rescued = rescued_config(resolve_auto(load_config("frozen_lake", "sesa", words)))
    assert (rescued.sampling.name, rescued.sampling.proposer) == ("tree", "without_replacement")


@pytest.mark.parametrize("method", ["sesa", "sesa-paper", "sesa-two-stage"])
def test_what_is_sequential_cannot_be_rescued(method):
    with pytest.raises(SettingError, match="monitor.rescue must be off with sampling.name="):
        load_config("countdown", method, ["monitor.rescue=auto"])


COLLAPSING = (
    "sampling.num_tasks=4",
    "sampling.max_trajectories=4",
    "optim.steps=9",
    "optim.lr=0.2",
    "optim.warmup_steps=0",
    "optim.checkpoint_every=3",
    "loss.filter_ratio=1.0",
    "loss.entropy_coef=0.0",
    "monitor.window=2",
    "seed=7",
)
"""A policy that this learning rate kills as soon as the monitor may speak, in the fourth or fifth
step: after the first checkpoint."""


def read(folder: Path) -> tuple[list[dict], list[dict], bytes]:
    """Metrics without times, events and weights of a run."""
    events = [json.loads(text) for text in (folder / "events.jsonl").read_text().splitlines()]
    return read_metrics(folder, times=False), events, read_weights(folder)


@pytest.fixture(scope="module")
def rescued_run(llama, tmp_path_factory):
    """A run that was rescued and never stopped."""
    folder = tmp_path_factory.mktemp("whole")
    cfg = make_config(llama, *COLLAPSING, "monitor.rescue=auto", method="ragen")
    told = []
    run(cfg, folder, tell=told.append)
    return cfg, folder, told


def test_a_collapsing_run_is_rescued_and_says_so(rescued_run):
    _, folder, told = rescued_run
    lines, events, _ = read(folder)
    (step,) = (event["step"] for event in events if event["kind"] == "rescue")
    assert 0 < step < len(lines) - 1
    assert [event["text"] for event in events] == told
    assert {"no_signal", "pass_ratio"} & {
        event["kind"] for event in events if event["step"] == step
    }
    for line in lines:
        is_parallel = line["step"] <= step
        assert ("rollout/actions_per_state" in line) == is_parallel
    assert max(line["rollout/actions_per_decision"] for line in lines[: step + 1]) <= 4
    assert read_state(newest(folder))["is_rescued"]


@pytest.mark.parametrize("stop", [3, 8])
def test_a_rescued_run_that_stops_goes_on_as_if_it_had_not(rescued_run, tmp_path, stop):
    """Stopped before and after the sampler changed."""
    cfg, whole, _ = rescued_run
    run(cfg, tmp_path, lambda progress, _: progress.step == stop)
    assert len(read_metrics(tmp_path)) == stop
    run(cfg, tmp_path)
    assert read(tmp_path) == read(whole)


@pytest.mark.slow
def test_a_rescue_that_was_killed_before_it_was_saved_happens_again(rescued_run, tmp_path):
    """The kill leaves log and events of steps after the last checkpoint, the rescue among them."""
    cfg, whole, _ = rescued_run
    folder = tmp_path / "killed"
    run_and_kill(cfg, folder, step=5)
    assert [path.name for path in (folder / "checkpoints").iterdir()] == ["step-000003"]
    assert '"rescue"' in (folder / "events.jsonl").read_text()
    run(cfg, folder)
    assert read(folder) == read(whole)


def test_without_rescue_a_collapse_is_only_reported(llama, tmp_path, rescued_run):
    _, whole, _ = rescued_run
    run(make_config(llama, *COLLAPSING, method="ragen"), tmp_path)
    lines, events, _ = read(tmp_path)
    _, expected, _ = read(whole)
    (rescue,) = (event["step"] for event in expected if event["kind"] == "rescue")
    early = [(e["step"], e["kind"]) for e in expected if e["step"] <= rescue]
    assert [(e["step"], e["kind"]) for e in events if e["step"] <= rescue] == early[:-1]
    deadly = next(e for e in events if e["kind"] in ("no_signal", "pass_ratio"))
    assert "--method sesa" in deadly["text"]
    assert all("rollout/actions_per_state" in line for line in lines)
