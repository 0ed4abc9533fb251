"""Sokoban: push every box onto a target. The generator comes first, then the environment.

Every generated puzzle is proved solvable by `solve` (`sokoban_rules.py`), which also gives the
length of its shortest solution. A puzzle depends only on its seed and the knobs.

Symbols and dense reward are RAGEN's. RAGEN's rooms come from gym-sokoban's reverse play; ours are
uniform random placements that the solver accepts, so that the solution length can be chosen.
"""

import random
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, cast

import numpy as np
from gymnasium.spaces import Box, Discrete, Space
from numpy.typing import NDArray

from ...configs.errors import check
from ..options import options_of
from ..text_env import DEFAULT_STEPS, RenderMode, TextEnv, TextGame, TextSpec
from .sokoban_rules import (
    BOX,
    BOX_ON_TARGET,
    DOWN,
    FLOOR,
    GROUND,
    LEFT,
    NEWLINE,
    PLAYER,
    PLAYER_ON_TARGET,
    RIGHT,
    SYMBOLS,
    TARGET,
    UP,
    WALL,
    board_text,
    directions,
    move,
    player_cell,
    read_board,
    search,
    solve,
)
from .symbols import check_symbols

ACTION_NAMES = ("Up", "Down", "Left", "Right")
REWARDS = ("success", "dense")

MAX_DRAWS = 200_000
"""Boards drawn for one puzzle before its knobs are declared impossible."""
MAX_WORK = 5_000_000
"""Visited states, and cells of drawn boards, before they are: half a minute on large boards."""
DETOUR = 4
"""Number of moves that `expert_action` searches beyond the longest puzzle."""
TILE = 16
"""Side of a drawn cell, in pixels."""

_READINGS = {name.lower(): (name, action) for action, name in enumerate(ACTION_NAMES)}


# ---- generator ----


@dataclass(frozen=True)
class SokobanKnobs:
    """What puzzles are generated.

    Raises:
        ValueError: if a knob is out of its range.
    """

    num_rows: int = 6
    """Height with the border, in cells."""
    num_columns: int = 6
    """Width with the border, in cells."""
    num_boxes: int = 1
    """Number of boxes, and of targets."""
    min_solution: int = 2
    """Fewest moves of the shortest solution."""
    max_solution: int = 8
    """Most moves of the shortest solution."""
    wall_probability: float = 0.1
    """Probability that an inner cell is a wall."""

    def __post_init__(self) -> None:
        check(3 <= self.num_rows <= 50, "num_rows", self.num_rows, "from 3 to 50")
        check(3 <= self.num_columns <= 50, "num_columns", self.num_columns, "from 3 to 50")
        room = ((self.num_rows - 2) * (self.num_columns - 2) - 1) // 2
        boxes = f"from 1 to {room} (for {self.num_rows}x{self.num_columns} cells)"
        check(1 <= self.num_boxes <= room, "num_boxes", self.num_boxes, boxes)
        check(self.min_solution >= 1, "min_solution", self.min_solution, "at least 1")
        longest = f"from min_solution ({self.min_solution}) to 200"
        is_ordered = self.min_solution <= self.max_solution <= 200
        check(is_ordered, "max_solution", self.max_solution, longest)
        is_share = 0 <= self.wall_probability < 1
        check(is_share, "wall_probability", self.wall_probability, "from 0 to below 1")


@dataclass(frozen=True)
class Level:
    """A board to start from."""

    board: bytes
    """Cell codes line by line, each line closed by `NEWLINE`."""
    optimal_length: int | None
    """Length of the shortest solution in moves; None if the solver found none."""

    def __str__(self) -> str:
        return board_text(self.board)


@lru_cache(maxsize=1024)  # the members of a group start the same puzzle
def generate_level(seed: int, knobs: SokobanKnobs | None = None) -> Level:
    """Make the puzzle of a seed: the same in every process.

    Inner walls are independent. Player, boxes and targets stand on distinct free cells, with every
    placement equally likely among those whose shortest solution has an allowed length. All random
    numbers come from `Random.random`, whose stream is the same in all versions of Python.

    Raises:
        ValueError: if none of `MAX_DRAWS` boards fits the knobs, or the search takes `MAX_WORK`.
    """
    knobs = knobs or SokobanKnobs()
    rng, work = random.Random(seed), 0
    for _ in range(MAX_DRAWS):
        if work > MAX_WORK:
            break
        board = _draw_board(rng, knobs)
        solution, num_states = search(board, knobs.max_solution) if board else (None, 0)
        work += len(board) // 4 + num_states
        if solution is not None and len(solution) >= knobs.min_solution:
            return Level(bytes(board), len(solution))
    raise ValueError(
        f"max_solution must be within reach, got {knobs}. Raise max_solution, or lower "
        "min_solution, num_boxes or wall_probability."
    )


def _draw_board(rng: random.Random, knobs: SokobanKnobs) -> bytearray:
    """Draw a random board; an empty one if the walls leave too few cells."""
    draw, width = rng.random, knobs.num_columns + 1
    free = [
        cell
        for row in range(width, width * (knobs.num_rows - 1), width)
        for cell in range(row + 1, row + knobs.num_columns - 1)
        if draw() >= knobs.wall_probability
    ]
    things = [PLAYER] + [BOX] * knobs.num_boxes + [TARGET] * knobs.num_boxes
    if len(free) < len(things):
        return bytearray()
    board = bytearray([WALL] * knobs.num_columns + [NEWLINE]) * knobs.num_rows
    for cell in free:
        board[cell] = FLOOR
    for thing in things:
        board[free.pop(int(draw() * len(free)))] = thing
    return board


# ---- environment ----


class SokobanEnv(TextGame[int]):
    """Push every box onto a target.

    Rules: the player walks up, down, left and right. Walking into a box pushes it, if the cell
    behind it is free. A box cannot be pulled.

    Observation: uint8 of shape (num_rows, num_columns): 0 wall, 1 floor, 2 target, 3 box on a
    target, 4 box, 5 player, 6 player on a target. As text: the grid in the symbols # _ O √ X P S.

    Actions: 0 up, 1 down, 2 left, 3 right. As text: the names, in any case. A blocked move changes
    nothing and is illegal.

    Reward: "success": 1 for the solved puzzle, else 0. "dense" (RAGEN): -.1 a move, 1 for a box
    pushed onto a target, -1 for one pushed off, 10 for the solved puzzle.

    Episode end: terminated when every box stands on a target. Truncated: never; `TextEnv` limits
    the moves.

    Arguments: reward ("success" or "dense"), symbols (the seven of the text, in the order of the
    codes) and the fields of `SokobanKnobs`. The info of `reset` holds `puzzle_seed` and
    `optimal_length`, the length of the shortest solution in moves; its option "level" is a board
    in symbols to play instead of a generated one.

    Version history: v0, the first one.
    """

    metadata = {"render_modes": ["rgb_array"], "render_fps": 4}

    def __init__(self, reward: str = "success", symbols: str = SYMBOLS[:-1], **knobs: Any):
        check(reward in REWARDS, "reward", reward, "one of " + ", ".join(REWARDS))
        check_symbols(symbols, len(SYMBOLS) - 1)
        self.charset = symbols + "\n"
        self.text_spec = _text_spec(symbols)
        self.render_mode = "rgb_array"
        self.knobs = SokobanKnobs(**knobs)
        self.reward = reward
        self.longest_solution = self.knobs.max_solution
        shape = self.knobs.num_rows, self.knobs.num_columns
        self.max_text_length = shape[0] * (shape[1] + 1) - 1
        self.observation_space = Box(0, PLAYER_ON_TARGET, shape, np.uint8)
        self.action_space = cast(Space[int], Discrete(len(ACTION_NAMES)))
        self._shape, self._strides = shape, (shape[1] + 1, 1)
        self._start(generate_level(0, self.knobs))

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[NDArray[np.uint8], dict[str, Any]]:
        """Start the puzzle of `seed`, or of a seed drawn from the generator, or a given level.

        Raises:
            ValueError: if `options["level"]` is no board of this environment's size.
        """
        super().reset(seed=seed)
        puzzle_seed = int(self.np_random.integers(2**31)) if seed is None else int(seed)
        if options and "level" in options:
            level, puzzle_seed = self._read_level(options["level"]), None
        else:
            level = generate_level(puzzle_seed, self.knobs)
        self._start(level)
        info = {"puzzle_seed": puzzle_seed, "optimal_length": level.optimal_length}
        return self._observation(), info

    def step(self, action: int) -> tuple[NDArray[np.uint8], float, bool, bool, dict[str, Any]]:
        """Walk or push one cell."""
        board, before = self._board, self._player
        is_dense = self.reward == "dense"
        num_off_before = board.count(BOX) if is_dense else 0
        self._player = move(board, self._ground, before, self._steps[action])
        success = BOX not in board
        reward = 1.0 if success else 0.0
        if is_dense:
            reward = 10.0 * success + num_off_before - board.count(BOX) - 0.1
        info = {"success": success, "legal": self._player != before}
        return self._observation(), reward, success, False, info

    def _start(self, level: Level) -> None:
        self._board = bytearray(level.board)
        self._ground = level.board.translate(GROUND)
        self._player = player_cell(level.board)
        self._steps = directions(level.board)

    def _read_level(self, text: str) -> Level:
        board = read_board(text.translate(str.maketrans(self.charset, SYMBOLS)))
        num_columns = board.index(NEWLINE)
        num_rows = len(board) // (num_columns + 1)
        size = "a board of {}x{} cells, the size of this environment".format(*self._shape)
        check((num_rows, num_columns) == self._shape, "level", text, size)
        solution = solve(board, max_length=200)
        return Level(board, None if solution is None else len(solution))

    def _observation(self) -> NDArray[np.uint8]:
        return np.ndarray(self._shape, np.uint8, self._board, 0, self._strides).copy()

    def board(self) -> bytes:
        """Return the cell codes, ready for `solve`."""
        return bytes(self._board)

    def to_text(self) -> str:
        """Draw the board in symbols, lines joined by newlines."""
        return board_text(self._board, self.charset)

    def read_action(self, text: str) -> tuple[str, int] | None:
        """Read a direction; case and surrounding spaces do not matter."""
        return _READINGS.get(text.strip().lower())

    def state_key(self) -> bytes:
        """Return the whole board, because two puzzles may differ only in walls or targets."""
        return bytes(self._board)

    def puzzle_content(self, seed: int) -> bytes:
        """Return the board of a seed."""
        return generate_level(seed, self.knobs).board

    def scripted_action(self, rng: random.Random) -> str | None:
        """Answer with the first move of a shortest solution; None if there is none nearby."""
        action = expert_action(self)
        return None if action is None else ACTION_NAMES[action]

    def fork(self) -> "SokobanEnv":
        """Copy the game and its board, because moves change the board in place."""
        twin = super().fork()
        twin._board = self._board[:]
        return twin

    def render(self) -> NDArray[np.uint8]:
        """Draw the board, uint8 of shape (num_rows * TILE, num_columns * TILE, 3)."""
        tiles = _TILES[self._observation()]
        return tiles.swapaxes(1, 2).reshape(self._shape[0] * TILE, self._shape[1] * TILE, 3)


def _text_spec(symbols: str) -> TextSpec:
    wall, floor, target, box_on_target, box, player, player_on_target = symbols
    return TextSpec(
        instruction="You are solving a Sokoban puzzle: push every box onto a target. "
        "You cannot pull a box.",
        legend=f"{wall} wall, {floor} empty, {target} target, {box} box, {box_on_target} box on "
        f"target, {player} player, {player_on_target} player on target",
        actions=", ".join(ACTION_NAMES),
    )


@options_of(SokobanEnv, SokobanKnobs)
def make_sokoban(
    max_steps: int | None = None, render_mode: RenderMode = None, **knobs: Any
) -> TextEnv:
    """Build the text environment; see `SokobanEnv` and `SokobanKnobs` for the arguments.

    By default an episode has 10 actions, or `max_solution` if that is more.
    """
    game = SokobanEnv(**knobs)
    most = max(DEFAULT_STEPS, game.longest_solution)
    return TextEnv(game, most if max_steps is None else max_steps, render_mode)


def _draw_tiles() -> NDArray[np.uint8]:
    """Draw one tile per cell code, uint8 of shape (7, TILE, TILE, 3)."""
    tiles = np.full((PLAYER_ON_TARGET + 1, TILE, TILE, 3), (236, 228, 210), np.uint8)
    tiles[WALL] = 92, 75, 60
    tiles[[TARGET, BOX_ON_TARGET, PLAYER_ON_TARGET], 1:-1, 1:-1] = 214, 84, 84
    tiles[[BOX, BOX_ON_TARGET], 3:-3, 3:-3] = 190, 134, 72
    offset = np.arange(TILE) - (TILE - 1) / 2
    disc = offset[:, None] ** 2 + offset**2 < (TILE / 3) ** 2
    for code in (PLAYER, PLAYER_ON_TARGET):
        tiles[code, disc] = 60, 110, 190
    return tiles


_TILES = _draw_tiles()


# ---- scripted players ----


def expert_action(game: SokobanEnv) -> int | None:
    """Return the first move of a shortest solution; None if solved, lost or too far from it."""
    solution = solve(game.board(), game.knobs.max_solution + DETOUR)
    return solution[0] if solution else None


def habit_action(game: SokobanEnv) -> int:
    """Return the move of a short-sighted player.

    It walks straight towards the nearest box that is not on a target, along the longer axis first,
    and pushes the box without looking ahead.
    """
    board, width = game.board(), game.knobs.num_columns + 1
    row, column = divmod(player_cell(board), width)
    boxes = [divmod(cell, width) for cell, code in enumerate(board) if code == BOX]
    if not boxes:
        return UP
    gaps = [(box_row - row, box_column - column) for box_row, box_column in boxes]
    down, right = min(gaps, key=lambda gap: abs(gap[0]) + abs(gap[1]))
    if abs(down) >= abs(right):
        return DOWN if down > 0 else UP
    return RIGHT if right > 0 else LEFT
