"""The rules of Sokoban on a board, and a solver.

A board is a byte string of cell codes. Each line of the grid ends in `NEWLINE`, so that one call
turns codes into text.
"""

import codecs
from collections.abc import Iterator
from typing import Any

from ...configs.errors import check

SYMBOLS = "#_O√XPS\n"
"""The character of every cell code."""
WALL, FLOOR, TARGET, BOX_ON_TARGET, BOX, PLAYER, PLAYER_ON_TARGET, NEWLINE = range(8)
UP, DOWN, LEFT, RIGHT = range(4)

MAX_STATES = 50_000
"""Number of states that the solver visits before it gives up."""
DEAD = 1_000_000
"""Push distance of a cell from which no box reaches a target; larger than any limit."""

Board = bytes | bytearray
State = tuple[int, frozenset[int]]
"""The player's cell and the boxes' cells."""

GROUND = bytes([WALL, FLOOR, TARGET, TARGET, FLOOR, FLOOR, TARGET, NEWLINE]).ljust(256, b"\0")
"""What lies under each cell code."""


def board_text(board: Board, symbols: str = SYMBOLS) -> str:
    """Draw a board in symbols, lines joined by newlines."""
    return codecs.charmap_decode(board, "strict", symbols)[0][:-1]  # pyright: ignore[reportArgumentType]


def read_board(text: str) -> bytes:
    """Read a board from the symbols `# _ O √ X P S`.

    Raises:
        ValueError: unless it is closed by walls, with one player and a target for every box.
    """
    lines = text.strip("\n").split("\n")
    board = bytes(max(SYMBOLS.find(symbol), 0) for line in lines for symbol in line + "\n")
    players = board.count(PLAYER) + board.count(PLAYER_ON_TARGET)
    targets = board.count(TARGET) + board.count(PLAYER_ON_TARGET)
    edge = "".join([lines[0], lines[-1], *(line[:1] + line[-1:] for line in lines)])
    check(set("".join(lines)) <= set(SYMBOLS), "level", text, "made of the symbols # _ O √ X P S")
    check(len(set(map(len, lines))) == 1, "level", text, "lines of equal length")
    check(set(edge) == {"#"}, "level", text, "closed by walls")
    check(players == 1, "level", text, "a board with one player")
    check(board.count(BOX) == targets, "level", text, "a board with as many boxes as targets")
    return board


def directions(board: Board) -> tuple[int, int, int, int]:
    """Return the differences of cell indices for Up, Down, Left, Right."""
    width = board.index(NEWLINE) + 1
    return -width, width, -1, 1


def player_cell(board: Board) -> int:
    """Return the index of the player's cell."""
    cell = board.find(PLAYER)
    return cell if cell >= 0 else board.index(PLAYER_ON_TARGET)


def move(board: bytearray, ground: bytes, player: int, direction: int) -> int:
    """Walk or push one cell, in place.

    Args:
        board: cell codes, changed by the move.
        ground: the same board without player and boxes.
        player: index of the player's cell.
        direction: difference of cell indices.

    Returns:
        The player's new cell; the old one if the move is blocked.
    """
    cell = player + direction
    code = board[cell]
    if code == WALL:
        return player
    if code == BOX or code == BOX_ON_TARGET:
        beyond = board[cell + direction]
        if beyond != FLOOR and beyond != TARGET:
            return player
        board[cell + direction] = BOX_ON_TARGET if beyond == TARGET else BOX
    board[cell] = PLAYER_ON_TARGET if ground[cell] == TARGET else PLAYER
    board[player] = ground[player]
    return cell


# ---- solver ----


def push_distances(ground: bytes) -> list[int]:
    """Return the fewest pushes from each cell to a target for a lone box; `DEAD` if impossible.

    Found by pulling boxes away from the targets, as if the player could walk anywhere in between,
    so it is a lower bound.
    """
    steps = directions(ground)
    distances = [0 if code == TARGET else DEAD for code in ground]
    reached = [cell for cell, distance in enumerate(distances) if distance == 0]
    for cell in reached:
        for step in steps:
            pulled = cell + step
            if ground[pulled] == WALL or ground[pulled + step] == WALL:
                continue
            if distances[pulled] == DEAD:
                distances[pulled] = distances[cell] + 1
                reached.append(pulled)
    return distances


def solve(board: Board, max_length: int, max_states: int = MAX_STATES) -> list[int] | None:
    """Find a shortest solution.

    A* with the sum of the boxes' push distances as the heuristic. A move lowers it by at most one
    (it is consistent), so the first solved state that is visited is optimal.

    Args:
        board: cell codes.
        max_length: longest solution of interest, in moves.
        max_states: number of states visited before the search gives up.

    Returns:
        Actions; None if no solution has at most `max_length` moves or the search gave up.
    """
    return search(board, max_length, max_states)[0]


def search(
    board: Board, max_length: int, max_states: int = MAX_STATES
) -> tuple[list[int] | None, int]:
    """What `solve` returns, and the number of states that were visited."""
    ground = bytes(board).translate(GROUND)
    steps, distances = directions(board), push_distances(ground)
    boxes = frozenset(i for i, code in enumerate(board) if code == BOX or code == BOX_ON_TARGET)
    estimate = sum([distances[box] for box in boxes])
    if estimate > max_length:
        return None, 0
    # waiting[n] holds the states whose path so far plus estimate is n moves.
    waiting: list[list[Any]] = [[] for _ in range(max_length + 1)]
    waiting[estimate].append(((player_cell(board), boxes), None, 0, estimate))
    came_from: dict[State, tuple[State | None, int]] = {}
    for total, bucket in enumerate(waiting):
        while bucket and len(came_from) < max_states:
            state, previous, action, estimate = bucket.pop()
            if state in came_from:
                continue
            came_from[state] = previous, action
            if estimate == 0:
                return _path(state, came_from), len(came_from)
            for action, child, pushed in _children(state, ground, steps):
                left = estimate + distances[pushed] - distances[child[0]] if pushed else estimate
                child_total = total + 1 + left - estimate
                if child_total <= max_length and child not in came_from:
                    waiting[child_total].append((child, state, action, left))
    return None, len(came_from)


def _children(
    state: State, ground: bytes, steps: tuple[int, ...]
) -> Iterator[tuple[int, State, int]]:
    """Yield every move from a state: action, next state, the cell that a box was pushed to or 0."""
    player, boxes = state
    for action, step in enumerate(steps):
        cell = player + step
        if cell in boxes:
            beyond = cell + step
            if ground[beyond] != WALL and beyond not in boxes:
                yield action, (cell, boxes - {cell} | {beyond}), beyond
        elif ground[cell] != WALL:
            yield action, (cell, boxes), 0


def _path(state: State, came_from: dict[State, tuple[State | None, int]]) -> list[int]:
    actions = []
    previous, action = came_from[state]
    while previous is not None:
        actions.append(action)
        previous, action = came_from[previous]
    return actions[::-1]
