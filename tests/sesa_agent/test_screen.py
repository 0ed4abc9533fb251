"""The table of success rates: what stands in it, and that it does not outgrow the screen."""

from dataclasses import replace

import pytest
from rich.console import Console

from sesa_agent.evaluation.evaluate import Evaluation, default_ks
from sesa_agent.screen import result_table

RESULT = Evaluation(
    num_episodes=100,
    num_samples=1,
    temperature=0.5,
    success_rate=0.25,
    wins=(1, 0, 0, 0) * 25,
    low=0.175,
    high=0.343,
    pass_at_k={1: 0.25},
    pass_at_k_interval={1: (0.175, 0.343)},
    coverage_at_k={},
    pass_ratio=None,
    distinct_answers=1.0,
    readable_rate=1.0,
    legal_rate=1.0,
    mean_turns=1.0,
)


def attempts(num_samples: int, num_targets: int = 0) -> Evaluation:
    values = {k: k / 1000 for k in default_ks(num_samples)}
    coverage = {k: k / 2000 for k in values} if num_targets else {}
    return replace(RESULT, num_samples=num_samples, pass_at_k=values, coverage_at_k=coverage)


def columns(result: Evaluation, ks=()) -> list[tuple[str, str]]:
    """Names and cells of what a table says after success and its interval."""
    table = result_table("Game-v0", {"base": result}, ks)
    return [(str(column.header), str(*column.cells)) for column in table.columns][3:]


def test_one_attempt_is_success_and_its_interval():
    table = result_table("Game-v0", {"base": RESULT, "trained": replace(RESULT, high=0.5)})
    cells = {column.header: list(column.cells) for column in table.columns}
    assert cells == {
        "policy": ["base", "trained"],
        "success": ["0.250"] * 2,
        "95 % interval": ["0.175 to 0.343", "0.175 to 0.500"],
    }


@pytest.mark.parametrize(
    ("num_samples", "shown"),
    [(2, [2]), (8, [2, 4, 8]), (16, [4, 16]), (32, [2, 8, 32]), (100, [8, 32, 100])],
)
def test_some_k_are_shown_the_largest_among_them(num_samples, shown):
    names = [name for name, _ in columns(attempts(num_samples))]
    assert names == [f"pass@{k}" for k in shown]


def test_the_cells_are_those_of_their_k():
    assert columns(attempts(32, num_targets=20)) == [
        ("pass@2", "0.002"),
        ("pass@8", "0.008"),
        ("pass@32", "0.032"),
        ("coverage@32", "0.016"),
    ]


def test_chosen_k_are_all_shown():
    assert columns(attempts(8, num_targets=20), ks=[1, 2, 4, 8]) == [
        ("pass@1", "0.001"),
        ("pass@2", "0.002"),
        ("pass@4", "0.004"),
        ("pass@8", "0.008"),
        ("coverage@1", "0.001"),
        ("coverage@2", "0.001"),
        ("coverage@4", "0.002"),
        ("coverage@8", "0.004"),
    ]


def test_the_widest_table_keeps_its_numbers_on_a_screen_of_80_columns():
    console = Console(width=80)
    with console.capture() as capture:
        name = "path_exploration-sesa-0"
        console.print(result_table("Game-v0", {name: attempts(32, num_targets=20)}))
    text = capture.get()
    for word in ("0.250", "0.002", "0.008", "0.032", "0.016"):
        assert word in text
    assert max(map(len, text.splitlines())) <= 80
