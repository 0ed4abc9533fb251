"""Arms at equal budgets: what their curves say at the amount that every run has spent."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sesa_agent.evaluation.experiments.equal_budgets import (
    METRIC,
    equal_budgets,
    equal_budgets_note,
    success_at,
)


def curve(*points) -> list[dict[str, float]]:
    """Evaluations of (calls, environment steps, seconds, success) or with processor time too."""
    names = ("policy_calls", "env_steps", "seconds", "cpu_seconds")
    return [{**dict(zip(names, point[:-1], strict=False)), METRIC: point[-1]} for point in points]


def result(label, *points, env="sokoban"):
    return {"env": env, "label": label, "curve": curve(*points)}


def test_a_method_that_is_faster_per_second_and_slower_per_call_shows_both():
    quick = result("ragen", (0, 0, 0, 0.1), (100, 100, 10, 0.3), (200, 200, 20, 0.5))
    slow = result("sesa", (0, 0, 0, 0.1), (100, 50, 40, 0.5), (150, 75, 80, 0.9))
    (found,) = equal_budgets([quick, slow])
    assert found.amounts == {"policy_calls": 150, "env_steps": 75, "seconds": 20}
    assert found.success["ragen"] == pytest.approx(
        {"policy_calls": 0.4, "env_steps": 0.25, "seconds": 0.5}
    )
    assert found.success["sesa"] == pytest.approx(
        {"policy_calls": 0.9, "env_steps": 0.9, "seconds": 0.3}
    )
    assert "150 policy calls, 75 env steps, 20 seconds" in equal_budgets_note([found])


def test_seeds_are_averaged_and_the_shortest_run_bounds_all():
    runs = [
        result("sesa", (0, 0, 0, 0.0), (100, 100, 10, 0.4)),
        result("sesa", (0, 0, 0, 0.2), (80, 100, 10, 0.4)),
        result("ragen", (0, 0, 0, 0.1), (100, 100, 10, 0.1)),
    ]
    (found,) = equal_budgets(runs)
    assert found.amounts["policy_calls"] == 80
    assert found.success["sesa"]["policy_calls"] == pytest.approx((0.32 + 0.4) / 2)


def test_processor_time_counts_where_all_runs_have_it():
    """One run was paused: only the other clock knows how long it took."""
    paused = result("ragen", (0, 0, 0, 0, 0.1), (100, 100, 400, 10, 0.3))
    other = result("sesa", (0, 0, 0, 0, 0.1), (100, 50, 40, 40, 0.5))
    (found,) = equal_budgets([paused, other])
    assert found.amounts["cpu_seconds"] == 10
    assert found.success["ragen"]["cpu_seconds"] == pytest.approx(0.3)
    assert found.success["sesa"]["cpu_seconds"] == pytest.approx(0.2)
    assert found.success["ragen"]["seconds"] == pytest.approx(0.12)


def test_the_base_and_lone_arms_have_no_table():
    base = {"env": "sokoban", "label": "base"}
    alone = result("sesa", (0, 0, 0, 0.1), (9, 9, 9, 0.2))
    assert equal_budgets([base, alone]) == []
    assert equal_budgets([alone, result("ragen", (0, 0, 0, 0.1), (9, 9, 9, 0.2), env="math")]) == []


@given(amount=st.floats(-10, 200), ends=st.tuples(st.floats(0, 1), st.floats(0, 1)))
def test_success_lies_between_the_evaluations(amount, ends):
    points = curve((0, 0, 0, ends[0]), (100, 0, 0, ends[1]))
    assert min(ends) <= success_at(points, "policy_calls", amount) <= max(ends)
