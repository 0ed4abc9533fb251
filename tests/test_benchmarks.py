"""The benchmarks run; their measurements are in `results/`."""

import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"


@pytest.fixture(scope="module")
def table():
    command = [sys.executable, BENCHMARKS / "speed" / "environments.py", "--quick"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_environments_are_compared_with_gymnasium(table):
    assert table.count("Gymnasium") == 2


@pytest.mark.parametrize("peer", ["textarena", "gem", "reasoning_gym", "gym_sokoban"])
def test_a_peer_that_is_not_installed_is_left_out_in_one_line(table, peer):
    lines = [line for line in table.splitlines() if f"No module named '{peer}'" in line]
    assert bool(lines) == (find_spec(peer) is None)
    assert all(line.startswith("Left out: ") and ".[bench]" in line for line in lines)
