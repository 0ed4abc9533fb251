"""Frozen Lake as a text game: cross the ice to the goal without falling into a hole.

Moves and slips equal those of Gymnasium's `FrozenLakeEnv` number for number, without the table that
it builds for every map. This file adds the puzzles (random maps, each proved solvable), the text
interface and the exact solvers: `shortest_path` without slips, and `optimal_success` for any lake,
from Gymnasium's table. Slips are drawn from the game's `np_random`, which has the map's seed: one
seed gives one map and one sequence of slips.
"""

import random
from collections import deque
from collections.abc import Hashable, Sequence
from functools import lru_cache
from typing import Any, cast

import numpy as np
from gymnasium.envs.toy_text.frozen_lake import DOWN, RIGHT, FrozenLakeEnv
from gymnasium.spaces import Box, Discrete, Space
from numpy.typing import NDArray

from ...configs.errors import check, check_choice
from ..options import options_of
from ..text_env import DEFAULT_STEPS, RenderMode, TextEnv, TextGame, TextSpec
from .symbols import check_symbols

ACTIONS = ("Left", "Down", "Right", "Up")
"""The canonical action names, at Gymnasium's numbers."""
SYMBOLS = "_OGPX√"
"""Frozen, hole, goal; then the player on each. A symbol's index is its code in the observation."""
PLAYER = 3
"""Added to the code of the cell that the player is on."""
COLOURS = np.array([(214, 234, 248), (40, 70, 120), (60, 160, 90), (230, 120, 40)], np.uint8)
"""Frozen, hole, goal, player, as RGB."""
CELL_PIXELS = 16
MAX_MAPS = 10_000
"""Most maps drawn in search of one with a long enough solution."""

Lake = tuple[str, ...]
"""A map in Gymnasium's letters: rows of S (start), F (frozen), H (hole) and G (goal)."""
Outcome = tuple[float, int, float, bool]
"""Probability, next cell, reward, terminated: an entry of Gymnasium's table `P`."""


def generate_map(
    seed: int, size: int = 4, frozen_probability: float = 0.8, min_solution: int = 1
) -> Lake:
    """Draw the map of a seed: start and goal anywhere, the goal reachable.

    Args:
        seed: any integer; the same seed gives the same map in every process.
        size: cells along a side.
        frozen_probability: probability that a cell other than start and goal is frozen.
        min_solution: fewest moves from start to goal without slips.

    Raises:
        ValueError: if none of `MAX_MAPS` maps has such a solution.

    >>> generate_map(seed=3)
    ('FFFF', 'FFFH', 'GFSF', 'HFFF')
    """
    return _draw_map(seed, size, frozen_probability, min_solution)[0]


def _draw_map(
    seed: int, size: int, frozen_probability: float, min_solution: int
) -> tuple[Lake, list[int]]:
    """Draw the map of a seed, and return it with the shortest path from its start to its goal."""
    draw = random.Random(seed).random  # the only stream that all Python versions share
    num_cells = size * size
    for _ in range(MAX_MAPS):
        cells = ["F" if draw() < frozen_probability else "H" for _ in range(num_cells)]
        start, shift = int(draw() * num_cells), 1 + int(draw() * (num_cells - 1))
        cells[start], cells[(start + shift) % num_cells] = "S", "G"
        lake = tuple("".join(cells[row : row + size]) for row in range(0, num_cells, size))
        path = shortest_path(lake)
        if path is not None and len(path) >= min_solution:
            return lake, path
    raise ValueError(
        f"min_solution={min_solution} found no {size}x{size} lake in {MAX_MAPS} draws at "
        f"frozen_probability={frozen_probability}. Lower min_solution or raise frozen_probability."
    )


def shortest_path(lake: Sequence[str]) -> list[int] | None:
    """Return a shortest list of moves from start to goal without slips; None if there is none.

    >>> shortest_path(["SH", "FG"])
    [1, 2]
    """
    cells, targets = "".join(lake), _move_targets(len(lake))
    start = cells.index("S")
    seen = {start}
    queue: deque[tuple[int, list[int]]] = deque([(start, [])])
    while queue:
        cell, path = queue.popleft()
        if cells[cell] == "G":
            return path
        for action, target in enumerate(targets[cell]):
            if target not in seen and cells[target] != "H":
                seen.add(target)
                queue.append((target, [*path, action]))
    return None


@lru_cache
def _move_targets(size: int) -> list[tuple[int, int, int, int]]:
    """Return where Left, Down, Right and Up lead from each cell without a slip."""
    last = size - 1
    return [
        (
            row * size + max(column - 1, 0),
            min(row + 1, last) * size + column,
            row * size + min(column + 1, last),
            max(row - 1, 0) * size + column,
        )
        for row in range(size)
        for column in range(size)
    ]


@lru_cache(maxsize=256)
def build_lake(lake: Lake, slippery: bool) -> FrozenLakeEnv:
    """Build Gymnasium's environment of a map, for its table `P`."""
    return FrozenLakeEnv(desc=list(lake), is_slippery=slippery)


class FrozenLakeGame(TextGame[int]):
    """Gymnasium's Frozen Lake on random maps, with a text interface.

    Rules: a move goes one cell; the border stops the player. On slippery ice a move goes in its own
        direction with probability 1/3 and to each side with 1/3. Holes and the goal end the game.
    Observation: the codes of the cells (indices in `SYMBOLS`), uint8, shape (size, size).
    Actions: 0 Left, 1 Down, 2 Right, 3 Up.
    Reward: 1 on reaching the goal, else 0; "dense" gives the same, as in RAGEN.
    Episode end: terminated in a hole (lost) or on the goal (won); never truncated, see `TextEnv`.
    Info: `success` and `legal` after a move; `puzzle_seed` (None for a map given by hand) and
        `optimal_length`, the fewest moves without slips (None if there is no way), after a reset.
    Arguments: see below. `reset(seed=s)` starts puzzle s; `reset()` draws s from the generator;
        `reset(options={"level": text})` starts a map given in the symbols `P _ O G`.
    Version history: v0, first version.

    Args:
        size: cells along a side, 2 to 16.
        frozen_probability: probability that a cell is frozen, above 0 and at most 1.
        slippery: whether moves may slip.
        min_solution: fewest moves from start to goal without slips, 1 to 2 * size - 2.
        reward: "success" or "dense".
        symbols: those of the text, in the order of `SYMBOLS`.

    Raises:
        ValueError: if an argument is outside its range.
    """

    metadata = {"render_modes": ["rgb_array"], "render_fps": 4}

    def __init__(
        self,
        size: int = 4,
        frozen_probability: float = 0.8,
        slippery: bool = True,
        min_solution: int = 1,
        reward: str = "success",
        symbols: str = SYMBOLS,
    ):
        check(2 <= size <= 16, "size", size, "from 2 to 16")
        is_share = 0 < frozen_probability <= 1
        check(is_share, "frozen_probability", frozen_probability, "above 0 and at most 1")
        longest = 2 * size - 2
        moves = f"from 1 to {longest} at size={size}"
        check(1 <= min_solution <= longest, "min_solution", min_solution, moves)
        check_choice("reward", reward, ("success", "dense"))
        check_symbols(symbols, len(SYMBOLS))
        self.charset = symbols + "\n"
        self.size = size
        self.longest_solution = longest
        self.frozen_probability = frozen_probability
        self.slippery = slippery
        self.min_solution = min_solution
        self.is_deterministic = not slippery
        self.max_text_length = size * (size + 1)
        self.text_spec = _text_spec(slippery, symbols)
        self.observation_space = Box(0, len(SYMBOLS) - 1, (size, size), np.uint8)
        self.action_space = cast(Space[int], Discrete(len(ACTIONS)))

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[NDArray[np.uint8], dict[str, Any]]:
        """Start puzzle `seed`, the next one in the generator's order, or the map in `options`.

        Raises:
            ValueError: if the map cannot be read or has another size than this game.
        """
        super().reset(seed=seed)
        puzzle_seed = None
        if options and "level" in options:
            lake = self._read_level(options["level"])
            path = shortest_path(lake)
        else:
            puzzle_seed = int(self.np_random.integers(2**31)) if seed is None else int(seed)
            knobs = self.size, self.frozen_probability, self.min_solution
            lake, path = _draw_map(puzzle_seed, *knobs)
        self._enter(lake)
        optimal_length = None if path is None else len(path)
        return self._observe(), {"puzzle_seed": puzzle_seed, "optimal_length": optimal_length}

    def _read_level(self, text: str) -> Lake:
        text = text.strip().translate(str.maketrans(self.charset, SYMBOLS + "\n"))
        lake = tuple(text.translate(_TO_GYMNASIUM).split("\n"))
        is_square = [len(row) for row in lake] == [self.size] * self.size
        cells = "".join(lake)
        if not is_square or set(cells) - set("SFHG") or cells.count("S") * cells.count("G") != 1:
            raise ValueError(
                f"level must be {self.size} lines of {self.size} symbols P _ O G with one P and "
                f"one G, got {text!r}."
            )
        return lake

    def _enter(self, lake: Lake) -> None:
        self.lake = lake
        self._cells = "".join(lake)
        self.position = self._cells.index("S")
        self._goal = self._cells.index("G")
        picture = "\n".join(lake).translate(_FROM_GYMNASIUM)
        codes = [SYMBOLS.index(symbol) for symbol in picture if symbol != "\n"]
        self._codes = np.array(codes, dtype=np.uint8)
        self._picture = picture.translate(str.maketrans(SYMBOLS, self.charset[:-1]))

    def step(self, action: int) -> tuple[NDArray[np.uint8], float, bool, bool, dict[str, Any]]:
        """Move, and perhaps slip on slippery ice; in a hole or on the goal nothing moves."""
        reward = 0.0
        if self._cells[self.position] in "SF":
            slip = _slip(self.np_random.random()) if self.slippery else 0
            targets = _move_targets(self.size)[self.position]
            self.position = targets[(int(action) + slip) % len(ACTIONS)]
            reward = float(self.position == self._goal)
        terminated = self._cells[self.position] in "HG"
        info = {"success": self.position == self._goal, "legal": True}
        return self._observe(), reward, terminated, False, info

    def _observe(self) -> NDArray[np.uint8]:
        codes = self._codes.copy()
        codes[self.position] += PLAYER
        return codes.reshape(self.size, self.size)

    def to_text(self) -> str:
        """Draw the map, one line per row."""
        place = self.position + self.position // self.size  # each row ends in a line break
        symbol = self.charset[self.charset.index(self._picture[place]) + PLAYER]
        return self._picture[:place] + symbol + self._picture[place + 1 :]

    def read_action(self, text: str) -> tuple[str, int] | None:
        """Read the name of a direction, in any case."""
        return _READINGS.get(text.strip().lower())

    def render(self) -> NDArray[np.uint8]:
        """Draw the map, uint8 of shape (16 * size, 16 * size, 3), with the player as a square."""
        cells = COLOURS[self._codes].reshape(self.size, self.size, 3)
        image = cells.repeat(CELL_PIXELS, axis=0).repeat(CELL_PIXELS, axis=1)
        top, left = (CELL_PIXELS * index for index in divmod(self.position, self.size))
        image[top + 4 : top + CELL_PIXELS - 4, left + 4 : left + CELL_PIXELS - 4] = COLOURS[PLAYER]
        return image

    def state_key(self) -> Hashable:
        """Return the map and the player's cell; future slips are not part of the key."""
        return self.lake, self.position

    def puzzle_content(self, seed: int) -> str:
        """Return the map of a seed."""
        return "\n".join(generate_map(seed, self.size, self.frozen_probability, self.min_solution))

    def scripted_action(self, rng: random.Random) -> str:
        """Answer with the move that is most likely to lead to the goal."""
        return ACTIONS[expert_action(self)]


_READINGS = {name.lower(): (name, number) for number, name in enumerate(ACTIONS)}
_TO_GYMNASIUM = str.maketrans("P_OG", "SFHG")
_FROM_GYMNASIUM = str.maketrans("SFHG", "__OG")


def _slip(uniform: float) -> int:
    """Return the number that a slip adds to the action: -1, 0 or 1, each with probability 1/3.

    The bounds are computed as in Gymnasium, to the last bit: each side has (1 - 1/3) / 2.
    """
    side = (1 - 1 / 3) / 2
    return -1 if uniform < side else 0 if uniform < side + 1 / 3 else 1


def _text_spec(slippery: bool, symbols: str) -> TextSpec:
    frozen, hole, goal, you, in_hole, on_goal = symbols
    slips = " It is slippery: you may go to either side of the way you name." if slippery else ""
    return TextSpec(
        instruction=f"Walk over the frozen lake to the goal without falling into a hole.{slips}",
        legend=f"{you}: you, {frozen}: frozen, {hole}: hole, {goal}: goal, {in_hole}: you in a "
        f"hole, {on_goal}: you on the goal",
        actions="Left, Down, Right, Up",
    )


@options_of(FrozenLakeGame)
def make_frozen_lake(
    max_steps: int | None = None, render_mode: RenderMode = None, **knobs: Any
) -> TextEnv:
    """Build `sesa/FrozenLake-v0`; `knobs` are the arguments of `FrozenLakeGame`.

    By default an episode has 10 actions, or in lakes above 6x6 twice as many as lead from corner to
    corner.
    """
    game = FrozenLakeGame(**knobs)
    is_large = game.longest_solution > DEFAULT_STEPS
    most = 2 * game.longest_solution if is_large else DEFAULT_STEPS
    return TextEnv(game, most if max_steps is None else max_steps, render_mode)


def optimal_success(game: FrozenLakeGame, num_steps: int) -> float:
    """Return the highest possible probability of reaching the goal from here in `num_steps` moves.

    Exact, by value iteration over Gymnasium's table: V_0 = 0 and
    V_h(s) = max_a Σ_s' p(s'|s,a) · (1 if s' is the goal, 0 if it is a hole, else V_{h-1}(s')).
    """
    if num_steps == 0:
        return 0.0
    return max(_action_values(game.lake, game.slippery, num_steps)[-1][game.position])


def expert_action(game: FrozenLakeGame, num_steps: int = 10) -> int:
    """Return the move most likely to win within `num_steps`; ties go to the quickest."""
    horizons = reversed(_action_values(game.lake, game.slippery, num_steps))
    # Rounded, because equal probabilities summed in a different order differ in the last bits.
    values = [[round(value, 9) for value in horizon[game.position]] for horizon in horizons]
    return max(range(len(ACTIONS)), key=lambda action: [horizon[action] for horizon in values])


@lru_cache(maxsize=256)
def _action_values(lake: Lake, slippery: bool, num_steps: int) -> list[list[list[float]]]:
    """Return success probabilities [h][cell][action] with h + 1 moves left."""
    table = build_lake(lake, slippery).P
    horizons, values = [], [0.0] * len(table)
    for _ in range(num_steps):
        horizons.append([[_expect(table[cell][a], values) for a in table[cell]] for cell in table])
        values = [max(actions) for actions in horizons[-1]]
    return horizons


def _expect(outcomes: list[Outcome], values: list[float]) -> float:
    return sum(
        probability * (reward if terminated else values[cell])
        for probability, cell, reward, terminated in outcomes
    )


def habit_action(game: FrozenLakeGame) -> int:
    """Return the move of a player who only knows the classic lake, with the goal lower right.

    The player goes right, then down, whatever is in the way.
    """
    return RIGHT if game.position % game.size < game.size - 1 else DOWN
