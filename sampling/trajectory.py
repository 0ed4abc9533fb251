"""The data of a rollout: tasks, turns and trees. No torch.

Every turn is stored once, with the token ids of its plain prompt and of the sampled response;
nothing is tokenised again later. A trajectory is a path from the root to a leaf. One tree is one
GRPO group: independent rollouts are a tree that branches only at its root.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

ROOT = -1
"""The parent of a first turn."""


@dataclass(frozen=True)
class Task:
    """One puzzle: an environment and a seed."""

    env_id: str
    seed: int


@dataclass(frozen=True)
class Turn:
    """One response of the policy and the environment's reaction.

    P prompt tokens, L response tokens.
    """

    observation: str
    """The text before the response."""
    prompt_ids: tuple[int, ...]
    """(P,) the plain context x, as the policy sees it at evaluation."""
    response_ids: tuple[int, ...]
    """(L,) the sampled tokens y."""
    sampling_logprobs: tuple[float, ...]
    """(L,) natural log-probabilities under the prompt that y was sampled from: x for the first
    proposal."""
    response: str
    """The sampled tokens as text."""
    action: str | None
    """The canonical action that was played; None if the response was unreadable."""
    reward: float
    """Sum of the rewards over the actions of this turn."""
    terminated: bool
    """The game ended, won or lost."""
    truncated: bool
    """A limit ended the episode."""
    success: bool = False
    """This turn won the game."""
    legal: bool = True
    """Every action of this turn was readable and allowed by the rules."""
    num_env_steps: int = 0
    """Actions that were played in the environment for this turn."""
    proposal_index: int = 0
    """Index among the proposals of its decision. Index 0 was sampled under x alone; if none was,
    counting starts at 1."""
    merged_into: int | None = None
    """The earlier turn of the tree that reached the same state (`ROOT`: the start), so that this
    one was not expanded; None for a new state, and if states are not merged."""
    outcome: int = 0
    """Index among the distinct outcomes of its response, if that was played several times with
    independent noise; each outcome is a turn."""
    num_draws: int = 1
    """Number of those plays that had this outcome."""
    sketch: str = ""
    """The sketch shown in its prompt (two-stage sampling); empty if there was none."""
    next_observation: str = ""
    """The text after the response."""
    plain_logprob: float | None = None
    """log pi(y | x) summed over its tokens, under the policy before the update that learns from it;
    None if not computed."""
    error: str = ""
    """The environment error that truncated the episode; empty if there was none."""

    @property
    def is_merged(self) -> bool:
        """Whether its state was already in its tree."""
        return self.merged_into is not None


@dataclass(frozen=True)
class DuplicateProposal:
    """A response with the same action as an earlier proposal of its decision. It is not played."""

    parent: int
    """The turn before its decision; `ROOT` for the start."""
    num_earlier: int
    """Proposals that its decision already had."""
    response_ids: tuple[int, ...]
    """This and the following fields are as in `Turn`."""
    sampling_logprobs: tuple[float, ...]
    response: str
    action: str | None
    plain_logprob: float | None = None


@dataclass(frozen=True)
class Trajectory:
    """A path from the root to a leaf."""

    task: Task
    turns: tuple[Turn, ...]

    @property
    def episode_return(self) -> float:
        """Sum of the rewards."""
        return sum(turn.reward for turn in self.turns)

    @property
    def success(self) -> bool:
        """Whether the game was won."""
        return self.turns[-1].success

    @property
    def num_response_tokens(self) -> int:
        """Sampled tokens of the whole trajectory."""
        return sum(len(turn.response_ids) for turn in self.turns)


@dataclass
class TrajectoryTree:
    """All trajectories of one task. Node n is turn n; parents have lower numbers than children."""

    task: Task
    parents: list[int] = field(default_factory=list)
    turns: list[Turn] = field(default_factory=list)
    num_calls: int = 0
    """Responses generated for this tree, including duplicates and sketches."""
    num_duplicates: int = 0
    """Responses or sketches that duplicated an earlier one of their decision."""
    num_cut_prompts: int = 0
    """Prompts that were too long and lost earlier turns, the middle of an observation, earlier
    proposals or words of a sketch."""
    num_failed: int = 0
    """Independent rollouts that stopped early because the engine gave no response."""
    duplicates: list[DuplicateProposal] = field(default_factory=list)
    """The duplicates that answer x (so no sketches), in the order they were sampled."""
    error: str = ""
    """Why the environment could not open the puzzle, so that nothing was played; empty if it
    could."""
    num_updates: int | None = None
    """Steps that the policy had learned from when it sampled the tree, with `optim.lag=1`; None
    without."""

    def add(self, parent: int, turn: Turn) -> int:
        """Append a child turn of `parent` (`ROOT` for the start) and return its number."""
        self.parents.append(parent)
        self.turns.append(turn)
        return len(self.turns) - 1

    def __len__(self) -> int:
        return len(self.turns)

    def leaves(self) -> list[int]:
        """Turns without a child, in the order they were added."""
        inner = set(self.parents)
        return [node for node in range(len(self)) if node not in inner]

    def children(self) -> dict[int, list[int]]:
        """Children of every node that has any, `ROOT` included."""
        children: dict[int, list[int]] = {}
        for node, parent in enumerate(self.parents):
            children.setdefault(parent, []).append(node)
        return children

    def path(self, node: int) -> list[int]:
        """Turns from the first one to `node`, inclusive."""
        path = []
        while node != ROOT:
            path.append(node)
            node = self.parents[node]
        return path[::-1]

    def trajectory(self, leaf: int) -> Trajectory:
        """The path to `leaf` as a trajectory."""
        return Trajectory(self.task, tuple(self.turns[node] for node in self.path(leaf)))

    def trajectories(self) -> Iterator[Trajectory]:
        """One trajectory per leaf."""
        return (self.trajectory(leaf) for leaf in self.leaves())

    @property
    def num_env_steps(self) -> int:
        """Actions that were played in the environment."""
        return sum(turn.num_env_steps for turn in self.turns)

    @property
    def num_response_tokens(self) -> int:
        """Tokens of the responses that answer x (so not of sketches), duplicates included."""
        turns = (len(turn.response_ids) for turn in self.turns if turn.outcome == 0)
        return sum(turns) + sum(len(one.response_ids) for one in self.duplicates)

    @property
    def env_errors(self) -> list[str]:
        """Environment errors: at the start, or at the end of a trajectory."""
        errors = [self.error, *(turn.error for turn in self.turns)]
        return [error for error in errors if error]

    @property
    def success(self) -> bool:
        """Whether any trajectory won."""
        return any(turn.success for turn in self.turns)

    def to_json(self) -> dict[str, Any]:
        """Convert to plain values, ready for `json.dump`.

        A prompt or observation shared by several turns is written once; see `_shared_texts`.
        """
        turns = [dict(vars(turn)) for turn in self.turns]
        for node, key, first, first_key in _shared_texts(self.parents):
            if turns[node][key] == getattr(self.turns[first], first_key):
                del turns[node][key]
        duplicates = [vars(one) for one in self.duplicates]
        values = {**vars(self), "task": vars(self.task), "turns": turns, "duplicates": duplicates}
        if self.num_updates is None:
            del values["num_updates"]
        return values

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> "TrajectoryTree":
        """Rebuild a tree from `to_json`; older files call the duplicates repeats.

        Raises:
            ValueError: if a turn's parent is not an earlier turn: its path would not end.
        """
        values = dict(data)
        parents = data["parents"]
        are_earlier = all(ROOT <= parent < node for node, parent in enumerate(parents))
        if not are_earlier or len(parents) != len(data["turns"]):
            raise ValueError("every turn must have one parent, an earlier turn or the start")
        duplicates = values.pop("repeats", None) or values.get("duplicates", ())
        turns: list[dict[str, Any]] = [dict(turn) for turn in data["turns"]]
        for node, key, first, first_key in _shared_texts(data["parents"]):
            turns[node].setdefault(key, turns[first][first_key])
        return cls(
            **{
                **values,
                "task": Task(**data["task"]),
                "turns": [Turn(**_with_tuples(turn)) for turn in turns],
                "duplicates": [DuplicateProposal(**_with_tuples(one)) for one in duplicates],
            }
        )


def _shared_texts(parents: Sequence[int]) -> Iterator[tuple[int, str, int, str]]:
    """Yield fields with equal values as (turn, field, first turn, its field).

    Turns of one decision share its observation and prompt; a turn's next observation is its
    child's observation.
    """
    firsts: dict[int, int] = {}
    for node, parent in enumerate(parents):
        first = firsts.setdefault(parent, node)
        if first != node:
            yield node, "observation", first, "observation"
            yield node, "prompt_ids", first, "prompt_ids"
    for parent, first in firsts.items():
        if parent != ROOT:
            yield parent, "next_observation", first, "observation"


def _with_tuples(data: dict[str, Any]) -> dict[str, Any]:
    return {key: tuple(value) if isinstance(value, list) else value for key, value in data.items()}
