"""What a rollout leaves behind: tasks, turns and trees. Pure data, no torch.

Every turn is stored once, with the token ids that the policy would see and the ones that were
sampled; nothing is tokenised again later. A trajectory is a path from the start to a leaf. One tree
is one GRPO group: independent rollouts are simply a tree that branches at its start only.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

ROOT = -1
"""The parent of a first turn."""


@dataclass(frozen=True)
class Task:
    """One puzzle: an environment and the seed that fixes it."""

    env_id: str
    seed: int


@dataclass(frozen=True)
class Turn:
    """One response of the policy and what the environment made of it.

    P prompt tokens, L response tokens.
    """

    observation: str
    """The text before the response."""
    prompt_ids: tuple[int, ...]
    """(P,) the plain context x, as the policy sees it at evaluation."""
    response_ids: tuple[int, ...]
    """(L,) the sampled tokens y, kept as they were drawn."""
    sampling_logprobs: tuple[float, ...]
    """(L,) natural log-probabilities under the prompt that y was drawn from: x for the first
    proposal."""
    response: str
    """The sampled tokens as text."""
    action: str | None
    """The canonical action that was played, None if the response could not be read."""
    reward: float
    """Sum of the environment's rewards over the actions of this turn."""
    terminated: bool
    """The game ended, won or lost."""
    truncated: bool
    """A limit ended the episode."""
    success: bool = False
    """The game was won by this turn."""
    legal: bool = True
    """Every action of this turn could be read and was allowed by the rules."""
    num_env_steps: int = 0
    """Actions that were played in the environment for this turn."""
    proposal_index: int = 0
    """Place among the proposals of its decision. 0 was drawn under x alone; where none was, the
    first is 1."""
    merged_into: int | None = None
    """The turn of its tree that reached the same state before (`ROOT`: the start), in whose place
    it was not expanded; None for a new state, and where states are not merged."""
    outcome: int = 0
    """Place among what its response led to, where it was played several times with noise of its
    own: each outcome is a turn."""
    num_draws: int = 1
    """How often the response led here then."""
    sketch: str = ""
    """The outline that it was drawn under (two-stage sampling); empty if there was none."""
    next_observation: str = ""
    """The text after the response."""
    plain_logprob: float | None = None
    """log pi(y | x) over all its tokens, of the policy that drew it; None where not computed."""
    error: str = ""
    """What went wrong in the environment, which truncated the episode; empty if nothing did."""

    @property
    def is_merged(self) -> bool:
        """Whether its state already stood in its tree."""
        return self.merged_into is not None


@dataclass(frozen=True)
class DuplicateProposal:
    """A response that said what an earlier proposal of its decision had said: it was not played."""

    parent: int
    """The turn that its decision follows, `ROOT` for the start."""
    num_earlier: int
    """Proposals that its decision had by then."""
    response_ids: tuple[int, ...]
    """As those of a turn, like the rest."""
    sampling_logprobs: tuple[float, ...]
    response: str
    action: str | None
    plain_logprob: float | None = None


@dataclass(frozen=True)
class Trajectory:
    """A path from the start to a leaf."""

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
    """Responses generated for this tree, those asked again and dropped included."""
    num_duplicates: int = 0
    """Responses that repeated an earlier proposal of their decision, so were not played."""
    num_cut_prompts: int = 0
    """Prompts that lost earlier proposals, words of a sketch or their beginning, because they would
    have been too long."""
    num_failed: int = 0
    """Independent rollouts that broke off, because the engine could get no response."""
    duplicates: list[DuplicateProposal] = field(default_factory=list)
    """Those of the duplicates that answered x, in the order they were drawn."""
    error: str = ""
    """Why the environment could not open the puzzle, so that nothing was played; empty if it
    could."""

    def add(self, parent: int, turn: Turn) -> int:
        """Append a turn below `parent` (`ROOT` for the start) and return its number."""
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
        """Children of every node that has any, the start (`ROOT`) included."""
        children: dict[int, list[int]] = {}
        for node, parent in enumerate(self.parents):
            children.setdefault(parent, []).append(node)
        return children

    def path(self, node: int) -> list[int]:
        """Turns from the start to `node`, both ends included."""
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
    def env_errors(self) -> list[str]:
        """What went wrong in the environment: at the start, or at the end of a trajectory."""
        errors = [self.error, *(turn.error for turn in self.turns)]
        return [error for error in errors if error]

    @property
    def success(self) -> bool:
        """Whether any trajectory won."""
        return any(turn.success for turn in self.turns)

    def to_json(self) -> dict[str, Any]:
        """Plain values, ready for `json.dump`.

        A prompt or an observation that several turns share is written once: see `_shared_texts`.
        """
        turns = [dict(vars(turn)) for turn in self.turns]
        for node, key, first, first_key in _shared_texts(self.parents):
            if turns[node][key] == getattr(self.turns[first], first_key):
                del turns[node][key]
        duplicates = [vars(one) for one in self.duplicates]
        return {**vars(self), "task": vars(self.task), "turns": turns, "duplicates": duplicates}

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> "TrajectoryTree":
        """The tree that `to_json` wrote; older files call the duplicates repeats."""
        values = dict(data)
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
    """Pairs of fields that are alike: (turn, field) can be left out for (first, its field).

    Turns of one decision have its observation and prompt, and a turn leads to its child's.
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
