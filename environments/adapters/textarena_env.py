"""TextArena's single-player games (MIT): `sesa-agent train --env textarena/FrozenLake-v0`.

Every variant of its registry: as its own wrappers define them, `-v0` shows the whole conversation
and `-v0-train` only what the next move needs. Keyword arguments of a game are options
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
    """What TextArena's registry does not say about a game."""

    moves: Sequence[str]
    """Texts that can be moves, for the checks."""
    is_deterministic: bool = True
    """Whether nothing random happens after the start."""


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
"""Single-player games by the part of their name before `-v0`. Left out: games that query a language
model over the internet (`ASKING`), and one that Python cannot parse (Klondike)."""
ASKING = ("GuessWho", "TwentyQuestions")
"""Games that query a language model over the internet."""
LEFT_OUT = ("LightsOut-v0-train",)
"""Variants that fail in this version of TextArena."""
RAW = "-raw"
"""End of the ids of variants that show no text."""
WORD_LISTS = "words averaged_perceptron_tagger_eng"
"""NLTK's word lists that the word games need."""


def game_names() -> Sequence[str]:
    """Return the ids of the single-player games in TextArena's registry.

    Raises:
        ModuleNotFoundError: if TextArena is not installed.
    """
    from textarena.envs.registration import ENV_REGISTRY  # pyright: ignore[reportMissingImports]

    names = [name for name in ENV_REGISTRY if _base(name) in GAMES]
    return [name for name in names if name not in LEFT_OUT and not name.endswith(RAW)]


def why_left_out(name: str) -> str:
    """Return why a game of TextArena's registry is not played; "" if it is none."""
    from textarena.envs.registration import ENV_REGISTRY  # pyright: ignore[reportMissingImports]

    if name not in ENV_REGISTRY:
        return ""
    if _base(name) in GAMES:
        return "this variant shows no text, or fails in this version of TextArena"
    if _base(name) == "Klondike":
        return "Python cannot parse it in this version of TextArena"
    if _base(name) in ASKING:
        return "it asks a language model on the internet"
    return "it is for several players"


def _base(name: str) -> str:
    return name.partition("-v0")[0]


def make(name: str, max_steps: int = 200, **options: Any) -> "TextArenaGame":
    """Make a game.

    Args:
        name: its id in TextArena.
        max_steps: number of actions after which it is truncated, unless its own limit comes first.
        options: keyword arguments of the game.

    Raises:
        SettingError: if it needs word lists that are not installed.
        TypeError: if the game has no such option.
    """
    import textarena  # pyright: ignore[reportMissingImports]

    with needing_word_lists(f"textarena/{name}", WORD_LISTS):
        return TextArenaGame(textarena.make(name, **options), name, max_steps)


class TextArenaGame(CollectionGame):
    """A single-player game of TextArena.

    Actions: the move, with or without its brackets.
    Reward: the game's reward at its end, at most 1; 0 before.
    Episode end: terminated by the game, also at its own turn limit and at the second illegal move
    in a row. Success: the full reward.

    Args:
        game: what `textarena.make` returned.
        name: its id in TextArena.
        max_steps: number of actions after which it is truncated.
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
        if hasattr(self.game, "full_observations"):  # TextArena's wrappers keep the last episode's
            self.game.full_observations.clear()
        self.game.reset(num_players=1, seed=seed)
        return self.game.get_observation()[1]

    def play(self, action: str) -> Reply:
        """Make a move."""
        terminated, _ = self.game.step(action=action)
        text = self.game.get_observation()[1]
        state = self.game.state
        reward = state.rewards[0] if terminated else 0.0
        if not isinstance(reward, int | float):  # some games swap reward and reason
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
        """Return the move in brackets, with single spaces between its parts."""
        move = one_line(text)
        has_brackets = "[" in move or "]" in move
        return (move if has_brackets else f"[{move}]") if move else None
