"""A policy plays and a person watches: as in an evaluation, with one response per decision.

Each turn shows the response, its action, its probability and the next observation.
"""

import time
from contextlib import suppress
from dataclasses import dataclass

import numpy as np
from rich.console import Console

from sesa_agent.agents.engines.base import Engine, SamplingParams
from sesa_agent.environments import EnvError
from sesa_agent.play.frame import draw_board, has_colours, show, words
from sesa_agent.play.game import count_actions
from sesa_agent.play.keys import Read, in_terminal
from sesa_agent.sampling.dialogue import Dialogue
from sesa_agent.sampling.player import reseeded
from sesa_agent.sampling.trajectory import Task, Turn
from sesa_agent.screen import say, show_probability

KEYS = "any key or line: continue, r: the same puzzle again, n: next puzzle, q: quit"


@dataclass(frozen=True)
class PolicyPlayer:
    """A policy and how it plays."""

    name: str
    engine: Engine
    dialogue: Dialogue
    params: SamplingParams
    """Temperature, limits and seed of sampling."""


class WatchedEpisode:
    """An episode that a policy plays turn by turn.

    Raises:
        EnvError: if the environment fails.
    """

    def __init__(self, player: PolicyPlayer, task: Task):
        self.player, self.task = player, task
        self.turns: list[Turn] = []
        self.position = player.dialogue.start(task)

    @property
    def is_over(self) -> bool:
        """Whether the last turn ended the episode."""
        return bool(self.turns) and (self.turns[-1].terminated or self.turns[-1].truncated)

    def play(self, rng: np.random.Generator) -> None:
        """Sample a response and play it.

        Raises:
            EnvError: if the environment fails.
        """
        player = self.player
        params = reseeded(player.params, rng)
        completion = player.engine.generate([self.position.prompt_ids], params)[0]
        turn, self.position = player.dialogue.play(self.position, completion, in_place=True)
        if turn.error:
            raise EnvError(turn.error)
        self.turns.append(turn)

    def summary(self) -> str:
        """A sentence: whether the puzzle is solved, after how many turns and with what return."""
        won = bool(self.turns) and self.turns[-1].success
        number = f"{len(self.turns)} turn{'' if len(self.turns) == 1 else 's'}"
        reward = sum(turn.reward for turn in self.turns)
        return f"{'Solved' if won else 'Not solved'} after {number}, reward {reward:g}."


def watch_policy(
    player: PolicyPlayer, task: Task, read: Read, delay_s: float | None, console: Console
) -> None:
    """Show a policy's episodes, beginning with one puzzle; the last line is a summary.

    Args:
        player: the policy.
        task: the first puzzle.
        read: waits for the next command after each turn.
        delay_s: seconds between turns; one episode is shown, without commands. None waits for
            commands.
        console: the screen.

    Raises:
        EnvError: if the environment fails.
    """
    rng = np.random.default_rng(player.params.seed)
    episode = WatchedEpisode(player, task)
    keys = KEYS if delay_s is None else ""
    _show(episode, keys, console)
    with suppress(KeyboardInterrupt):
        while (command := _next(episode, read, delay_s)) != "q":
            if command in ("r", "n"):
                player.dialogue.release()
                seed = episode.task.seed + (command == "n")
                episode = WatchedEpisode(player, Task(task.env_id, seed))
            elif not episode.is_over:
                episode.play(rng)
            _show(episode, keys, console)
    player.dialogue.release()
    if not episode.is_over:  # otherwise the summary is on the screen already
        say(episode.summary())


def _next(episode: WatchedEpisode, read: Read, delay_s: float | None) -> str:
    """The next command: "r", "n", "q", or anything else to continue."""
    if delay_s is None:
        typed = read()
        return "q" if typed is None else typed.strip().lower()
    if episode.is_over:
        return "q"
    time.sleep(delay_s)
    return ""


def describe_turn(turn: Turn, temperature: float) -> list[str]:
    """The response, its action and reward, and its probability, one line each."""
    logprob = sum(turn.sampling_logprobs)
    action = "unreadable" if turn.action is None else turn.action
    refused = "" if turn.legal or turn.action is None else ", not allowed"
    return [
        f"Response: {turn.response}",
        f"Action: {action}{refused}, reward {turn.reward:g}",
        f"Probability of the response: {show_probability(logprob)} (log {logprob:.2f}) at "
        f"T = {temperature:g}",
    ]


def _show(episode: WatchedEpisode, keys: str, console: Console) -> None:
    player, task, position = episode.player, episode.task, episode.position
    last = episode.turns[-1] if episode.turns else None
    told = describe_turn(last, player.params.temperature) if last else []
    won = last is not None and last.success
    where = f"Turn {position.turn}, {count_actions(position.actions_left)} left."
    show(
        console,
        [
            words(f"{player.name} plays {task.env_id}, puzzle {task.seed}", "bold"),
            words(player.dialogue.style.instruction if last is None else ""),
            words(keys if last is None or in_terminal() else "", "dim"),
            draw_board(task.env_id, position.observation, has_colours(console)),
            *(words(line) for line in told),
            words(episode.summary(), "bold green" if won else "bold")
            if episode.is_over
            else words(where),
        ],
    )
