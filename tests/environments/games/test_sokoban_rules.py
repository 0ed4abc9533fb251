"""The solver: its solutions are the shortest, and its limits hold."""

import random

import pytest

from sesa_agent.environments.games.sokoban import SokobanKnobs, generate_level
from sesa_agent.environments.games.sokoban_rules import push_distances, read_board, solve

from ...helpers.sokoban_boards import brute_force_length, corridor


def random_board(rng, num_rows, num_columns, num_boxes):
    """Any placement, solvable or not, boxes on targets included."""
    cells = [
        [r in (0, num_rows - 1) or c in (0, num_columns - 1) or rng.random() < 0.15
         for c in range(num_columns)]
        for r in range(num_rows)
    ]  # fmt: skip
    free = [(r, c) for r in range(num_rows) for c in range(num_columns) if not cells[r][c]]
    if len(free) < 2 * num_boxes + 1:
        return None
    targets = set(rng.sample(free, num_boxes))
    player, *boxes = rng.sample(free, num_boxes + 1)
    symbols = {(False, False): "_", (True, False): "O", (True, True): "√", (False, True): "X"}

    def symbol(cell):
        if cell not in free:
            return "#"
        if cell == player:
            return "S" if cell in targets else "P"
        return symbols[cell in targets, cell in boxes]

    return "\n".join("".join(symbol((r, c)) for c in range(num_columns)) for r in range(num_rows))


@pytest.mark.parametrize(
    "num_rows, num_columns, num_boxes", [(5, 6, 1), (6, 6, 1), (5, 6, 2), (5, 5, 3)]
)
def test_the_solver_agrees_with_brute_force(num_rows, num_columns, num_boxes):
    rng, num_solved = random.Random(num_boxes), 0
    for _ in range(60):
        text = random_board(rng, num_rows, num_columns, num_boxes)
        if text is None:
            continue
        solution = solve(read_board(text), max_length=12)
        num_solved += solution is not None
        assert (None if solution is None else len(solution)) == brute_force_length(text, 12), text
    assert num_solved >= 1


@pytest.mark.parametrize("max_length, expected", [(2, None), (3, 3), (50, 3)])
def test_the_solver_keeps_to_its_length_limit(max_length, expected):
    solution = solve(read_board(corridor("P_X_O")), max_length)
    assert (None if solution is None else len(solution)) == expected


def test_the_solver_gives_up_at_its_state_limit():
    board = generate_level(0, SokobanKnobs(min_solution=6)).board
    assert solve(board, max_length=50, max_states=3) is None


def test_a_solved_board_needs_no_move():
    assert solve(read_board(corridor("P√")), max_length=5) == []


def test_push_distances_know_dead_cells():
    ground = read_board("#######\n#__O__#\n#P____#\n#__X__#\n#######").translate(
        bytes([0, 1, 2, 2, 1, 1, 2, 7]).ljust(256, b"\0")
    )
    rows = [push_distances(ground)[8 * row + 1 : 8 * row + 6] for row in (1, 2, 3)]
    dead = 1_000_000
    assert rows == [[dead, 1, 0, 1, dead], [dead, 2, 1, 2, dead], [dead] * 5]
