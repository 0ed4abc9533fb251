"""TextArena's games of one player (MIT): `sesa-agent train --env textarena/FrozenLake-v0`.

Every variant of their registry: `-v0` shows all that was said so far, `-v0-train` only what is
needed to go on, as their own wrappers have it. Keyword arguments of a game are options
(`env.options.clues=75`).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ..text_env import TextSpec
from .collection_game import CollectionGame, Reply, needing_word_lists, one_line

MOVES = ("up", "down", "left", "right")


@dataclass(frozen=True)
class Game:
    """What TextArena's registry does not tell of a game."""

    moves: Sequence[str]
    """Texts that can be moves, for the checks."""
    is_deterministic: bool = True
    """Whether nothing is drawn after the start."""


GAMES: Mapping[str, Game] = {
    "2048": Game(MOVES, is_deterministic=False),
    "Bandit": Game(("red", "blue", "green", "yellow"), is_deterministic=False),
    "Blackjack": Game(("Hit", "Stand"), is_deterministic=False),
    "Countdown": Game(("0 1 +", "2 3 *", "1 2 -")),
    "Crosswords": Game(("0 0 d", "1 2 g", "0 1 a")),
    "Cryptarithm": Game(("S 9", "E 5", "M 1")),
    "FifteenPuzzle": Game(MOVES),
    "FrozenLake": Game(MOVES),
    "GuessTheNumber": Game(("5", "12", "17")),
    "Hangman": Game(("e", "a", "t")),
    "LightsOut": Game(("0 0", "2 3", "4 4")),
    "LogicPuzzle": Game(("park Alice X", "park Alice O")),
    "Mastermind": Game(("1 2 3 4", "2 5 1 3", "6 1 4 2")),
    "Minesweeper": Game(("0 0", "3 2", "1 4"), is_deterministic=False),
    "PegJump": Game(("4 1", "6 1", "1 4")),
    "RushHour": Game(("A+", "B-", "X+")),
    "Secretary": Game(("accept", "continue")),
    "Set": Game(("1, 2, 3", "4, 5, 6")),
    "Slitherlink": Game(("h 0 0", "v 1 2", "h 2 1")),
    "Sokoban": Game(MOVES),
    "Sudoku": Game(("1 1 5", "4 7 2", "9 9 1")),
    "ThreeCardMonte": Game(("0", "1", "2")),
    "TowerOfHanoi": Game(("A C", "A B", "B C", "C B")),
    "WordLadder": Game(("cold", "cord")),
    "WordSearch": Game(("0 0 0 4", "1 1 5 1")),
    "Wordle": Game(("crane", "slate")),
}
"""Games of one player by the name before `-v0`. Left out are those that ask a language model on the
internet (GuessWho, TwentyQuestions) and one that Python cannot read (Klondike)."""
LEFT_OUT = ("LightsOut-v0-train",)
"""Variants that fail in this version of TextArena."""
RAW = "-raw"
"""Ends the ids of variants that show no text."""
WORD_LISTS = "words averaged_perceptron_tagger_eng"
"""What the games of words need."""


def game_names() -> Sequence[str]:
    """Ids of TextArena's registry that one person plays.

    Raises:
        ModuleNotFoundError: if TextArena is not installed.
    """
    from textarena.envs.registration import ENV_REGISTRY  # pyright: ignore[reportMissingImports]

    names = [name for name in ENV_REGISTRY if _base(name) in GAMES]
    return [name for name in names if name not in LEFT_OUT and not name.endswith(RAW)]


def _base(name: str) -> str:
    return name.partition("-v0")[0]


def make(name: str, max_steps: int = 200, **options: Any) -> "TextArenaGame":
    """Make a game.

    Args:
        name: its id in TextArena.
        max_steps: actions after which it is truncated, if its own limit is not reached before.
        options: keyword arguments of the game.

    Raises:
        SettingError: if it needs word lists that are not there.
        TypeError: if the game has no such option.
    """
    import textarena  # pyright: ignore[reportMissingImports]

    with needing_word_lists(f"textarena/{name}", WORD_LISTS):
        return TextArenaGame(textarena.make(name, **options), name, max_steps)


class TextArenaGame(CollectionGame):
    """A game of TextArena's for one player.

    Actions: the move, with or without its brackets.
    Reward: what the game gives at its end, at most 1; 0 before.
    Episode end: terminated by the game, also at its own limit of turns and at the second move in a
    row that its rules do not allow. Success is the full reward.

    Args:
        game: as `textarena.make` makes it.
        name: its id in TextArena.
        max_steps: actions after which it is truncated.
    """

    def __init__(self, game: Any, name: str, max_steps: int):
        known = GAMES[_base(name)]
        text_spec = TextSpec(
            instruction="Play the game that is described below.",
            legend="",
            actions="a move, as the description asks for it",
            examples=tuple(known.moves),
        )
        super().__init__(text_spec, max_steps)
        self.game, self.is_deterministic = game, known.is_deterministic

    def open(self, seed: int) -> str:
        """Start a puzzle."""
        if hasattr(self.game, "full_observations"):  # their wrappers keep those of the last episode
            self.game.full_observations.clear()
        self.game.reset(num_players=1, seed=seed)
        return self.game.get_observation()[1]

    def play(self, action: str) -> Reply:
        """Make a move."""
        terminated, _ = self.game.step(action=action)
        text = self.game.get_observation()[1]
        state = self.game.state
        reward = state.rewards[0] if terminated else 0.0
        if not isinstance(reward, int | float):  # some games confuse reward and reason
            reward = 0.0
        is_lost = state.game_info[0]["invalid_move"]
        return Reply(
            text,
            float(reward),
            terminated=bool(terminated),
            success=bool(terminated) and reward >= 1,
            legal=not (is_lost or state.error_count),
        )

    def canonical_action(self, text: str) -> str | None:
        """The move in brackets, one space between its parts."""
        words = one_line(text)
        has_brackets = "[" in words or "]" in words
        return (words if has_brackets else f"[{words}]") if words else None
