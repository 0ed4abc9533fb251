"""Where a run stands: what it has spent, and what its monitor remembers. Saved in checkpoints."""

from collections.abc import Sequence
from dataclasses import dataclass, field

from ..configs.schema import OptimConfig
from ..sampling.trajectory import TrajectoryTree


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
    """Where a run stands; `Watcher` sees it after every step."""

    step: int = 0
    """Steps that are finished."""
    num_policy_calls: int = 0
    """Responses generated in training rollouts so far."""
    num_response_tokens: int = 0
    """Their tokens, those of repetitions that were asked again included."""
    num_env_steps: int = 0
    """Actions played in training rollouts."""
    num_seconds: float = 0.0
    """Time of rollouts and updates; evaluation is not counted."""
    success_rate: float = float("nan")
    """The last measured success on the validation puzzles."""
    entropy_coef: float | None = None
    """The entropy bonus as `loss.exploration=adaptive_entropy` has moved it; None before that."""
    sampler: str = ""
    """The sampler that `history` is about; with another one a history begins anew."""
    history: list[dict[str, float]] = field(default_factory=list)
    """What the monitor remembers of the first and of the newest steps."""
    symptoms: list[str] = field(default_factory=list)
    """Kinds of what is wrong at present; each was told of when it began."""
    is_rescued: bool = False
    """Whether `monitor.rescue=auto` has replaced the sampler."""
    has_env_errors: bool = False
    """Whether the environment has failed; the first failure was told of."""

    def add_rollout(self, trees: Sequence[TrajectoryTree], num_tokens: int) -> None:
        """Count the rollout of one step; its seconds are added to `num_seconds` at its end.

        Args:
            trees: all that were sampled.
            num_tokens: of all responses that were sampled for them.
        """
        self.step += 1
        self.num_policy_calls += sum(tree.num_calls for tree in trees)
        self.num_response_tokens += num_tokens
        self.num_env_steps += sum(tree.num_env_steps for tree in trees)

    def counts(self) -> dict[str, float]:
        """What was spent so far, as metrics."""
        return {f"progress/{budget.name}": getattr(self, budget.count) for budget in BUDGETS}

    def share_done(self, optim: OptimConfig) -> float:
        """How much of a run is done, at least 1 at its end: by the budget that is nearest to it."""
        pairs = [(self.step, optim.steps)]
        pairs += [(getattr(self, b.count), getattr(optim, b.limit)) for b in BUDGETS]
        return max(count / limit for count, limit in pairs if limit)
