"""The settings of learning: credit, loss, optimiser. Part of `schema.py`."""

from dataclasses import dataclass

from .errors import check, check_choice


@dataclass
class LossConfig:
    """How the policy is credited and what is minimised."""

    credit: str = "auto"
    """`trajectory` (GRPO over the leaves), `tree` (mean backup), `best` (discounted best return;
    deterministic worlds), `expected` (best expected return over the merged states of a noisy
    world), `auto` (best where the environment is deterministic, elsewhere expected, or tree without
    merged states), `pass_at_k` (GRPO over subsets of `pass_k` leaves)."""
    pass_k: int = 4
    """Trajectories of a subset in `pass_at_k` credit, below `sampling.max_trajectories`. Only the
    best of each counts: the larger, the less do groups teach in which success is common."""
    baseline: str = "mean"
    """Group baseline of trajectory credit: `mean` (GRPO), or `max` (Eq. 1 as printed; it teaches
    nothing)."""
    normalize_std: bool = True
    """Divide advantages by the group's standard deviation (trajectory and tree credit)."""
    discount: float = 0.9
    """Value lost per turn on the way to a success (best and expected credit)."""
    clip_low: float = 0.2
    """A likelihood ratio counts down to 1 - clip_low."""
    clip_high: float = 0.28
    """A likelihood ratio counts up to 1 + clip_high."""
    aggregate: str = "trajectory"
    """Averaging: `trajectory` (each unit of credit weighs the same, Eq. 1) or `token` (each token
    does, DAPO)."""
    entropy_coef: float = 0.0
    """Weight of the entropy bonus, per token in nats."""
    exploration: str = "none"
    """What else keeps the policy exploring, from the literature: `none`, `adaptive_entropy` (the
    bonus starts at `entropy_coef` and moves by .005 a step to hold `entropy_target`),
    `entropy_advantage` (advantages rise with the entropy), `kl_cov`, `clip_cov` (tokens that
    sharpen the policy most are held back, or not taught) or `top_entropy` (only the fifth of the
    tokens with the highest entropy is taught)."""
    entropy_target: float = 0.2
    """Mean entropy per token, in nats, below which `adaptive_entropy` gives its bonus."""
    exploration_share: float = 0.02
    """Share of the trained tokens that `kl_cov` and `clip_cov` act on. The paper's .0002 is of
    millions of tokens; a batch here has some thousands, of which it would choose one or two."""
    kl_coef: float = 0.0
    """Weight of the KL penalty towards the initial policy, per token in nats."""
    engine_gap_cap: float = 0.0
    """Weigh the tokens of first proposals by min(this, pi_old / mu) where the engine's likelihoods
    differ from the trainer's (truncated importance sampling); 0 for no correction, 2 is common."""
    history_gap: str = "negatives"
    """Correction for proposals drawn under another prompt: `none`, `negatives` (failures weigh
    min(1, pi/mu)), `truncated` (all weigh min(2, pi/mu))."""
    filter_ratio: float = 1.0
    """Share of groups kept, those of the highest standard deviation of return (RAGEN's rollout
    filter: 0.25)."""
    format_penalty: float = 0.0
    """Subtracted from a trajectory's return for each turn without a readable action."""
    overlong_buffer: int = 0
    """Tokens before `engine.max_new_tokens` over which the reward of a long response falls, by 1 in
    the end (DAPO's overlong shaping; trajectory and tree credit); 0 for no such punishment."""

    def __post_init__(self) -> None:
        check_choice("loss.baseline", self.baseline, ("mean", "max"))
        check_choice("loss.aggregate", self.aggregate, ("trajectory", "token"))
        check_choice("loss.history_gap", self.history_gap, ("none", "negatives", "truncated"))
        check(
            self.engine_gap_cap == 0 or self.engine_gap_cap >= 1,
            "loss.engine_gap_cap",
            self.engine_gap_cap,
            "0 (off) or at least 1",
        )
        check(self.entropy_target > 0, "loss.entropy_target", self.entropy_target, "above 0")
        share = self.exploration_share
        check(0 <= share <= 1, "loss.exploration_share", share, "from 0 to 1")
        check(self.pass_k >= 1, "loss.pass_k", self.pass_k, "at least 1")
        check(0 < self.discount <= 1, "loss.discount", self.discount, "above 0 and at most 1")
        check(0 < self.filter_ratio <= 1, "loss.filter_ratio", self.filter_ratio, "in (0, 1]")
        check(0 < self.clip_low < 1, "loss.clip_low", self.clip_low, "between 0 and 1")
        check(self.clip_high > 0, "loss.clip_high", self.clip_high, "above 0")
        for key in ("entropy_coef", "kl_coef", "format_penalty", "overlong_buffer"):
            check(getattr(self, key) >= 0, f"loss.{key}", getattr(self, key), "at least 0")


@dataclass
class OptimConfig:
    """How long and how fast the policy learns."""

    steps: int = 60
    """Rollout-and-update steps."""
    max_policy_calls: int = 0
    """Stop after this many generated responses in training rollouts; 0 for no such limit, here and
    below. The step in which a budget is reached is the last."""
    max_response_tokens: int = 0
    """Stop after this many tokens of responses in training rollouts."""
    max_env_steps: int = 0
    """Stop after this many actions played in training rollouts."""
    max_seconds: float = 0.0
    """Stop after this many seconds of rollouts and updates, evaluation not counted; where a run
    ends then depends on the machine."""
    lr: float = 1e-3
    """Learning rate of AdamW."""
    warmup_steps: int = 10
    """Steps over which the learning rate rises to `lr`: AdamW's first updates are its longest."""
    cooldown: float = 0.0
    """Share of the run, at its end, over which the learning rate falls in a line to 0, so that the
    policy hangs less on its last few updates. 1 is a linear schedule, 0 none."""
    weight_decay: float = 0.0
    """Weight decay of AdamW."""
    max_grad_norm: float = 1.0
    """Gradients are scaled down to this norm."""
    num_minibatches: int = 2
    """Optimiser steps per pass over a rollout."""
    num_epochs: int = 2
    """Passes over a rollout; the clipped ratio bounds how far they can lead away from it."""
    max_batch_tokens: int = 16384
    """Tokens (packed or padded) in one forward and backward pass; bounds memory, nothing else."""
    checkpoint_every: int = 10
    """Steps between checkpoints."""
    keep_checkpoints: int = 2
    """Newest checkpoints that are kept."""

    def __post_init__(self) -> None:
        check(
            0 < self.lr < float("inf"),
            "optim.lr",
            self.lr,
            "above 0 and finite",
            "Try 1e-3 for sesa-tiny, 1e-6 for a 0.5B model.",
        )
        budgets = ("max_policy_calls", "max_response_tokens", "max_env_steps", "max_seconds")
        for key in ("weight_decay", *budgets, "warmup_steps"):
            check(getattr(self, key) >= 0, f"optim.{key}", getattr(self, key), "at least 0")
        check(0 <= self.cooldown <= 1, "optim.cooldown", self.cooldown, "from 0 to 1")
        check(self.max_grad_norm > 0, "optim.max_grad_norm", self.max_grad_norm, "above 0")
        for key in (
            "steps",
            "num_minibatches",
            "num_epochs",
            "max_batch_tokens",
            "checkpoint_every",
            "keep_checkpoints",
        ):
            check(getattr(self, key) >= 1, f"optim.{key}", getattr(self, key), "at least 1")
