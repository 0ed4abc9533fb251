"""The progress of a run: its counters and the monitor's memory. Saved in checkpoints."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, get_args, get_origin, get_type_hints

from ..configs.schema import OptimConfig
from .tree_summary import TreeSummary


@dataclass(frozen=True)
class Budget:
    """Something that training spends and that can be limited, with all its names."""

    name: str
    """In logs (`progress/...`) and results."""
    option: str
    """In `sesa-agent compare --budget`."""
    words: str
    """In tables and pictures."""

    @property
    def limit(self) -> str:
        """The setting in `optim` that limits it."""
        return f"max_{self.name}"

    @property
    def count(self) -> str:
        """The field of `Progress` that counts it."""
        return f"num_{self.name}"


BUDGETS = (
    Budget("policy_calls", "calls", "policy calls"),
    Budget("response_tokens", "tokens", "response tokens"),
    Budget("env_steps", "env_steps", "environment steps"),
    Budget("seconds", "seconds", "seconds of training"),
)


@dataclass
class Progress:
    """The progress of a run; `Watcher` sees it after every step."""

    step: int = 0
    """Number of finished steps."""
    num_policy_calls: int = 0
    """Responses generated in training rollouts, without puzzles that were left out."""
    num_response_tokens: int = 0
    """Their tokens, including those of duplicates."""
    num_env_steps: int = 0
    """Actions played in training rollouts."""
    num_seconds: float = 0.0
    """Seconds of rollouts and updates, without evaluation."""
    num_cpu_seconds: float = 0.0
    """Processor time of this process in them, all threads: what else a machine does, and pauses, do
    not count."""
    success_rate: float = float("nan")
    """The latest success rate on the validation puzzles."""
    entropy_coef: float | None = None
    """The coefficient of `loss.exploration=adaptive_entropy`; None before its first change."""
    entropy_anchor: float | None = None
    """The entropy that `loss.exploration=siren` returns to, in nats; None before its first step."""
    turn_entropies: list[float] = field(default_factory=list)
    """With `loss.exploration=epo`: mean entropy at each turn over all steps, in nats."""
    turn_entropy_steps: list[int] = field(default_factory=list)
    """The number of steps in each of these means."""
    sampler: str = ""
    """The sampler of the steps in `history`; another sampler starts a new history."""
    history: list[dict[str, float]] = field(default_factory=list)
    """The monitor's metrics of the first and the latest steps."""
    symptoms: list[str] = field(default_factory=list)
    """Kinds of the present symptoms; each was reported when it appeared."""
    is_rescued: bool = False
    """Whether `monitor.rescue=auto` has replaced the sampler."""
    has_env_errors: bool = False
    """Whether the environment has ever failed; only the first failure is reported."""
    has_cut_prompts: bool = False
    """Whether a prompt was ever too long; that too is reported once."""
    next_calls: int = 0
    """Calls of the first puzzle that the last step left out; 0 if it left out none."""

    @classmethod
    def from_json(cls, values: Any) -> "Progress":
        """Read the progress that was saved with a checkpoint, which may be of an earlier version.

        Raises:
            ValueError: naming a counter that is missing, or a field that is wrong.
        """
        hints = get_type_hints(cls)
        if not isinstance(values, dict):
            raise ValueError(f"no object but {values!r:.40}")
        for name in ("step", "num_policy_calls", "num_response_tokens", "num_env_steps"):
            if name not in values:
                raise ValueError(f"no {name}")
        for name, value in values.items():
            if name not in hints or not _fits(value, hints[name]):
                raise ValueError(f"{name} must not be {value!r:.40}")
        return cls(**values)

    def add_rollout(self, trees: Sequence[TreeSummary], num_tokens: int) -> None:
        """Count one step and its rollout; the trainer adds its `num_seconds` after the update.

        Args:
            trees: all sampled trees within the budget.
            num_tokens: tokens of all responses sampled for them.
        """
        self.step += 1
        self.num_policy_calls += sum(tree.num_calls for tree in trees)
        self.num_response_tokens += num_tokens
        self.num_env_steps += sum(tree.num_env_steps for tree in trees)

    def remember_entropies(self, entropies: Sequence[float]) -> None:
        """Add a step's mean entropies at the turns of a trajectory to those of all steps.

        >>> progress = Progress()
        >>> progress.remember_entropies([1.0])
        >>> progress.remember_entropies([2.0, 3.0])
        >>> progress.turn_entropies, progress.turn_entropy_steps
        ([1.5, 3.0], [2, 1])
        """
        missing = max(0, len(entropies) - len(self.turn_entropies))
        means = [*self.turn_entropies, *[0.0] * missing]
        steps = [*self.turn_entropy_steps, *[0] * missing]
        for turn, entropy in enumerate(entropies):
            steps[turn] += 1
            means[turn] += (entropy - means[turn]) / steps[turn]
        self.turn_entropies, self.turn_entropy_steps = means, steps

    def counts(self) -> dict[str, float]:
        """The counters as metrics."""
        counts = {f"progress/{budget.name}": getattr(self, budget.count) for budget in BUDGETS}
        return counts | {"progress/cpu_seconds": self.num_cpu_seconds}

    def calls_left(self, optim: OptimConfig) -> int | None:
        """Policy calls left of the budget; None if they are not limited."""
        limit = optim.max_policy_calls
        return max(0, limit - self.num_policy_calls) if limit else None

    def share_done(self, optim: OptimConfig) -> float:
        """The finished share of a run by its most used budget; at least 1 at the end."""
        calls_left = self.calls_left(optim)
        if calls_left is not None and self.next_calls > calls_left:
            return 1.0
        pairs = [(self.step, optim.steps)]
        pairs += [(getattr(self, b.count), getattr(optim, b.limit)) for b in BUDGETS]
        return max(count / limit for count, limit in pairs if limit)


def _fits(value: Any, hint: Any) -> bool:
    """Whether a value from JSON has the type of a field of `Progress`; counters are not below 0."""
    if get_origin(hint) is list:
        return isinstance(value, list) and all(_fits(item, get_args(hint)[0]) for item in value)
    if get_origin(hint) is dict:
        is_dict = isinstance(value, dict)
        return is_dict and all(_fits(item, get_args(hint)[1]) for item in value.values())
    if get_args(hint):
        return any(_fits(value, option) for option in get_args(hint))
    if hint is int:
        return type(value) is int and value >= 0
    return type(value) in ((int, float) if hint is float else (hint,))
