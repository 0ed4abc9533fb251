"""The episodes that a report shows: a solved and a failed one from the saved trees of a run."""

from dataclasses import dataclass

from sesa_agent.run_files import RunFiles, newest_trees
from sesa_agent.sampling.trajectory import Turn
from sesa_agent.screen import differs_from_success


@dataclass(frozen=True)
class Episode:
    """A trajectory that was sampled in training."""

    label: str
    seed: int
    """The puzzle's."""
    step: int
    turns: tuple[Turn, ...]

    @property
    def is_solved(self) -> bool:
        """Whether the puzzle was solved."""
        return self.turns[-1].success

    @property
    def outcome(self) -> str:
        """How the episode ended, in words."""
        last = self.turns[-1]
        if self.is_solved:
            return "solved"
        if last.terminated:
            return "failed"
        return "out of turns" if last.truncated else "not played further"

    @property
    def shown_return(self) -> str:
        """The sum of its rewards, in words; empty if success says as much."""
        total = sum(turn.reward for turn in self.turns)
        return f", return {total:.3g}" if differs_from_success(total, self.is_solved) else ""


def sample_episodes(run: RunFiles) -> list[Episode]:
    """Choose the newest solved and the newest failed trajectory.

    If a group has both, they come from the same puzzle, which shows best what made the difference.
    """
    newest: dict[bool, Episode] = {}
    for step, tree in newest_trees(run.folder):
        ends: dict[bool, Episode] = {}
        episodes = (
            Episode(run.line.label, tree.task.seed, step, path.turns)
            for path in tree.trajectories()
        )
        # Among the failed ones prefer those that were played to their end, and long ones.
        for episode in sorted(episodes, key=_worth, reverse=True):
            ends.setdefault(episode.is_solved, episode)
        newest = ends if len(ends) == 2 else ends | newest
        if len(newest) == 2:
            break
    return [newest[key] for key in (True, False) if key in newest]


def board(text: str) -> list[str]:
    r"""Return the rows of a text that is a board of characters, equally long; otherwise none.

    >>> board("#P_\n#__"), board("Reach 24 with 3, 8")
    (['#P_', '#__'], [])
    """
    rows = text.splitlines()
    is_even = len({len(row) for row in rows}) == 1
    return rows if len(rows) > 1 and is_even and len(rows[0]) <= 24 and " " not in text else []


def _worth(episode: Episode) -> tuple[bool, int]:
    last = episode.turns[-1]
    return last.terminated or last.truncated, len(episode.turns)
