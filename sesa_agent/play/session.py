"""A person plays: what each key or line does, and what the screen shows after it."""

from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import gymnasium
from rich.console import Console

from sesa_agent.environments import close_env
from sesa_agent.environments.games.solvers import find_solver
from sesa_agent.environments.text_env import TextSpec
from sesa_agent.play.bindings import COMMANDS, bind_keys, describe_keys
from sesa_agent.play.frame import draw_board, has_colours, show, words
from sesa_agent.play.game import Place, Puzzle, count_actions
from sesa_agent.play.keys import Read, in_terminal
from sesa_agent.sampling.replies import canonical_action, has_listed_actions
from sesa_agent.screen import say

MAX_ECHO = 40
"""Maximum number of typed characters to quote."""


@dataclass(frozen=True)
class Game:
    """A game as a person plays it."""

    env_id: str
    make: Callable[[], gymnasium.Env[Any, Any]]
    spec: TextSpec
    bindings: Mapping[str, str]
    """Action by key; empty if actions are typed as lines of text."""


def open_game(env_id: str, make: Callable[[], gymnasium.Env[Any, Any]]) -> Game:
    """Find out how a person plays an environment: with keys or with lines."""
    env = make()
    spec: TextSpec = env.unwrapped.text_spec  # pyright: ignore[reportAttributeAccessIssue]
    keys = bind_keys(spec.listed_actions()) if has_listed_actions(env) else {}
    close_env(env)
    return Game(env_id, make, spec, keys)


def play_puzzles(game: Game, seed: int, read: Read, console: Console) -> None:
    """Play puzzles, beginning with `seed`, until the person quits; the last line is a summary.

    Raises:
        EnvError: if a guarded environment fails.
    """
    puzzle, message = Puzzle(game.make(), seed), ""
    _show(game, puzzle, message, is_new=True, console=console)
    with suppress(KeyboardInterrupt):
        while (typed := read()) is not None and (command := _command(game, typed)) != "q":
            if command == "n":
                puzzle.close()
                puzzle, message = Puzzle(game.make(), puzzle.seed + 1), ""
            else:
                message = respond(game, puzzle, typed)
            _show(game, puzzle, message, command == "n", console)
    if message or not puzzle.place.is_over:  # otherwise it is on the screen already
        say(puzzle.summary())
    puzzle.close()


def respond(game: Game, puzzle: Puzzle, typed: str) -> str:
    """Do what was typed, and return a message about it, if any.

    A readable action is played, legal or not; unreadable text has no effect.
    """
    command = _command(game, typed)
    if command == "h":
        return describe_hint(game.env_id, puzzle.place)
    if command == "u":
        return "" if puzzle.undo() else "There is nothing to undo."
    if command == "r":
        puzzle.restart()
        return ""
    if puzzle.place.is_over:
        return "The puzzle is over: u undoes the last action, r restarts, n is the next, q quits."
    action = game.bindings.get(typed.lower()) or canonical_action(
        puzzle.place.env, typed.strip(), puzzle.place.available
    )
    if action is None or not typed.strip():
        echo = typed if len(typed) <= MAX_ECHO else f"{typed[:MAX_ECHO]}..."
        return f"{echo!r} is not an action here. Actions: {game.spec.actions}."
    puzzle.play(action)
    return ""


def describe_hint(env_id: str, place: Place) -> str:
    """The action that the solver of the game would play here."""
    solver = find_solver(place.env)
    if solver is None:
        return f"No hint: {env_id} has no solver."
    if place.is_over:
        return "No hint: the puzzle is over."
    game = place.env.unwrapped.game  # pyright: ignore[reportAttributeAccessIssue]
    left = place.actions_left or 0
    action = solver(game, left)
    if action is None:
        return f"No hint: the solver finds no solution with {count_actions(left)} left. u undoes."
    return f"Hint: {action}"


def _command(game: Game, typed: str) -> str:
    """The typed command; empty for an action, or for a line that begins with a space."""
    key = typed.lower()
    return key if key in COMMANDS and key not in game.bindings else ""


def _show(game: Game, puzzle: Puzzle, message: str, is_new: bool, console: Console) -> None:
    """Draw the screen; outside a terminal rules and keys are printed once per puzzle."""
    place, spec = puzzle.place, game.spec
    legend = f"Symbols: {spec.legend}." if spec.legend else ""
    head = [
        words(f"{game.env_id}, puzzle {puzzle.seed}", "bold"),
        words(spec.instruction),
        words(legend, "dim"),
        words(f"Actions: {spec.actions}." if not game.bindings else "", "dim"),
        words(describe_keys(game.bindings), "dim"),
    ]
    outcome = puzzle.summary() if place.is_over else ""
    show(
        console,
        [
            *(head if is_new or in_terminal() else []),
            draw_board(game.env_id, place.observation, has_colours(console)),
            words(describe_place(place)),
            words(message or outcome, "bold green" if place.success else "bold"),
        ],
    )


def describe_place(place: Place) -> str:
    """Describe the state of the episode and the last action in one line.

    Turn t comes after t - 1 actions.
    """
    reward = f"reward {place.episode_return:g}"
    if place.is_over:
        line = f"Over after {count_actions(place.num_actions)}, {reward}."
    else:
        left = place.actions_left
        limit = "" if left is None else f"{count_actions(left)} left, "
        line = f"Turn {place.num_actions + 1}, {limit}{reward}."
    if place.action:
        refused = "" if place.legal else ", not allowed"
        line += f" Last: {place.action}, reward {place.reward:g}{refused}."
    return line
