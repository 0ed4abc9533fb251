"""The stopwatch: phases add up to the time that passed, and none is counted twice."""

import time

import pytest

from sesa_agent.training.stopwatch import PHASES, Stopwatch, profile, time_metrics


@pytest.fixture
def now(monkeypatch):
    """A clock that is set by hand."""
    now = [0.0]
    monkeypatch.setattr(time, "perf_counter", lambda: now[0])
    return now


class Game:
    def __init__(self, now):
        self.now = now

    def play(self, seconds: float) -> str:
        self.now[0] += seconds
        return "played"


def test_phases_and_the_rest_add_up_to_the_time_that_passed(now):
    clock = Stopwatch()
    with clock.phase("generate"):
        now[0] += 3.0
    now[0] += 1.0
    with clock.phase("generate"):
        now[0] += 0.5
    lap = clock.lap()
    assert lap["generate"] == 3.5
    assert lap["other"] == 1.0
    assert sum(lap.values()) == now[0]


def test_a_phase_within_another_counts_as_the_outer_one(now):
    clock = Stopwatch()
    with clock.phase("evaluate"):
        now[0] += 1.0
        with clock.phase("generate"):
            now[0] += 2.0
    assert clock.lap() == {**dict.fromkeys(PHASES, 0.0), "evaluate": 3.0}


def test_a_phase_that_fails_has_ended(now):
    clock = Stopwatch()
    with pytest.raises(RuntimeError, match="engine died"), clock.phase("generate"):
        now[0] += 1.0
        raise RuntimeError("the engine died")
    with clock.phase("score"):
        now[0] += 2.0
    lap = clock.lap()
    assert (lap["generate"], lap["score"]) == (1.0, 2.0)


def test_a_lap_begins_anew(now):
    clock = Stopwatch()
    with clock.phase("score"):
        now[0] += 1.0
    clock.lap()
    now[0] += 2.0
    assert clock.lap() == {**dict.fromkeys(PHASES, 0.0), "other": 2.0}


def test_the_profile_is_of_all_steps_and_leaves_out_older_lines(now):
    lines = []
    for seconds in (1.0, 2.0):
        clock = Stopwatch()
        with clock.phase("backward"):
            now[0] += seconds
        now[0] += 1.0
        lines.append(time_metrics(clock.lap()))
    shares = profile([{"time/rollout_s": 9.0}, *lines])
    assert shares["backward"] == pytest.approx(0.6)
    assert shares["other"] == pytest.approx(0.4)
    assert sum(shares.values()) == pytest.approx(1.0)
    assert profile([{"time/rollout_s": 9.0}]) == {}
