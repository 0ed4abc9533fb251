"""Every setting, with its meaning and unit. Defaults are the vetted ones.

A run's configuration is these defaults, then the method's preset (`configs/methods/<method>.yaml`),
then the environment's file (`configs/<env>.yaml`, with a section per method where one needs other
numbers), then that of the scale if one is asked for (`configs/scales/<scale>.yaml`, likewise), then
what the user typed as `group.key=value`. Each "auto" is resolved when the run starts, and the
result is written to the run folder.
"""

from dataclasses import dataclass, field
from typing import Any

NUM_PUZZLES = 100_000
"""Puzzles that are kept for validation, and as many for the figures that are reported."""


class SettingError(ValueError):
    """A user's mistake, told in one line: the setting, its value, what is allowed and what to do.

    The command line prints the line and exits with code 2; every other exception is a bug.
    """


def check(condition: bool, key: str, value: Any, allowed: str, advice: str = "") -> None:
    """Refuse a setting in one line: the key as it was typed, what is allowed and what it was.

    Raises:
        SettingError: if `condition` does not hold.
    """
    if not condition:
        raise SettingError(
            f"{key} must be {allowed}, got {value!r}.{' ' + advice if advice else ''}"
        )


def check_choice(key: str, value: str, choices: tuple[str, ...]) -> None:
    """Refuse a name that is not among the choices."""
    check(value in choices, key, value, "one of " + ", ".join(choices))


@dataclass
class EnvConfig:
    """The world: which environment, and how many words pass between it and the policy."""

    id: str = ""
    """Gymnasium id, also as `module:Name-v0`."""
    options: dict[str, Any] = field(default_factory=dict)
    """Keyword arguments of the environment: difficulty, reward, step limit."""
    max_turns: int = 10
    """Responses of the policy in one episode."""
    actions_per_turn: int = 1
    """Actions that one response may hold, separated by " || "."""
    step_timeout: float = 60.0
    """Seconds in which an environment of another package must answer each call, before its
    trajectory ends as an error; 0 for no limit."""

    def __post_init__(self) -> None:
        check(self.max_turns >= 1, "env.max_turns", self.max_turns, "at least 1")
        check(self.step_timeout >= 0, "env.step_timeout", self.step_timeout, "at least 0")
        check(
            self.actions_per_turn >= 1, "env.actions_per_turn", self.actions_per_turn, "at least 1"
        )


@dataclass
class ModelConfig:
    """The policy and what it is shown."""

    path: str = "sesa-tiny"
    """`sesa-tiny` or `sesa-tiny-answers` (bundled: games, single answers), a folder in Hugging Face
    format, or the name of a model on a hub."""
    dtype: str = "float32"
    """What the model computes in: float32 or bfloat16, which then updates float32 copies."""
    lora_rank: int = 0
    """Rank of a LoRA adapter (scaled by 32 / rank) on all linear layers, trained instead of the
    weights; 0 for none. Checkpoints hold it alone. Needs `pip install 'sesa-agent[lora]'`."""
    gradient_checkpointing: bool = False
    """Keep only the inputs of the model's layers for the backward pass and compute the rest again:
    about a third slower, for a fraction of the memory of the activations."""
    device: str = "auto"
    """`auto` (a GPU if there is one), `cpu` or `cuda`."""
    thinking: bool = False
    """Ask for `<think> ... </think>` before the answer."""
    context: str = "state"
    """What a prompt holds: `state` (the present observation), `window` (the last turns) or `full`
    (all turns)."""
    window: int = 3
    """Turns that `context=window` shows, the present one included."""
    trust_remote_code: bool = False
    """Run code that comes with a model. Only for models whose authors you trust."""

    def __post_init__(self) -> None:
        check_choice("model.dtype", self.dtype, ("float32", "bfloat16"))
        check_choice("model.context", self.context, ("state", "window", "full"))
        check_choice("model.device", self.device, ("auto", "cpu", "cuda"))
        check(self.lora_rank >= 0, "model.lora_rank", self.lora_rank, "at least 0")
        check(self.window >= 1, "model.window", self.window, "at least 1")


@dataclass
class EngineConfig:
    """How responses are generated."""

    name: str = "hf"
    """Engine: `hf` (transformers, any device) or `vllm`."""
    temperature: float = 1.0
    """Sampling temperature of training rollouts; the trainer divides its logits by the same
    number."""
    max_new_tokens: int = 24
    """Longest response, in tokens."""
    max_prompt_tokens: int = 4096
    """Longest prompt, in tokens, as far as the model's positions reach. A longer first prompt loses
    its beginning; an episode that would outgrow it is truncated."""
    max_batch_tokens: int = 32768
    """Prompt and response tokens that are generated at once; bounds memory."""
    memory_fraction: float = 0.4
    """Share of a GPU's memory that vLLM takes for weights and cache while it generates."""

    def __post_init__(self) -> None:
        check_choice("engine.name", self.name, ("hf", "vllm"))
        check(
            0 < self.memory_fraction < 1,
            "engine.memory_fraction",
            self.memory_fraction,
            "above 0 and below 1",
        )
        check(self.temperature > 0, "engine.temperature", self.temperature, "above 0")
        for key in ("max_new_tokens", "max_prompt_tokens", "max_batch_tokens"):
            check(getattr(self, key) >= 1, f"engine.{key}", getattr(self, key), "at least 1")


@dataclass
class SamplingConfig:
    """How experience is drawn."""

    name: str = "tree"
    """`parallel` (independent rollouts, RAGEN), `tree` (action-level SESA, paper section 3.1), and
    for tasks that one answer settles `single_pass` (whole answers one after another, section 2.2)
    and `two_stage` (sketches in sequence, solutions in parallel, Algorithm 1)."""
    num_tasks: int = 24
    """Puzzles a step; each is one GRPO group."""
    max_redraws: int = 0
    """Rounds of `num_tasks` fresh puzzles that a step may add while fewer than `num_tasks` groups
    have returns that differ; only such groups are learnt from then (DAPO's dynamic sampling)."""
    num_proposals: int = 3
    """G, distinct actions proposed at a decision (tree), answers (single_pass) or sketches
    (two_stage)."""
    max_trajectories: int = 16
    """U, cap on the trajectories of a tree; the group size of `parallel`."""
    proposer: str = "history"
    """How proposals are kept apart: `history` (asked for with the earlier ones in view),
    `one_response` (listed in one reply), `without_replacement` (distinct draws from the plain
    prompt); `independent` does not (a repeated draw is paid for and dropped): for ablations."""
    max_retries: int = 2
    """Times a proposal that repeats an earlier action is asked for again before it is dropped."""
    sketch_tokens: int = 24
    """Longest sketch of two_stage, in tokens."""
    allocation: str = "early"
    """Where a tree spends U: `early` (as soon as it can) or `even` (the cap grows evenly with
    depth)."""
    merge_states: str = "auto"
    """Expand a state only once in a tree: `on`, `off`, `auto` (on where the environment has a
    `state_key`)."""
    noise_draws: int = 8
    """Times each proposal is played, with noise of its own, where states are merged and the
    environment is not deterministic: costs environment steps, no calls of the policy."""
    stop_on_success: str = "auto"
    """Stop growing a tree at the turn in which a trajectory wins: `on`, `off`, `auto` (on where the
    environment is deterministic; elsewhere it would count luck and hide failures)."""
    fork_noise: str = "shared"
    """Random numbers of branches in a slippery world: `shared` (all slip alike) or
    `independent`."""

    def __post_init__(self) -> None:
        check_choice("sampling.name", self.name, ("parallel", "tree", "single_pass", "two_stage"))
        proposers = ("history", "one_response", "without_replacement", "independent")
        check_choice("sampling.proposer", self.proposer, proposers)
        check(
            self.name != "two_stage" or self.proposer in ("history", "without_replacement"),
            "sampling.proposer",
            self.proposer,
            "history or without_replacement with sampling.name=two_stage",
        )
        check_choice("sampling.allocation", self.allocation, ("early", "even"))
        check_choice("sampling.merge_states", self.merge_states, ("on", "off", "auto"))
        check_choice("sampling.stop_on_success", self.stop_on_success, ("on", "off", "auto"))
        check_choice("sampling.fork_noise", self.fork_noise, ("shared", "independent"))
        counts = "num_tasks", "num_proposals", "max_trajectories", "sketch_tokens", "noise_draws"
        for key in counts:
            check(getattr(self, key) >= 1, f"sampling.{key}", getattr(self, key), "at least 1")
        for key in ("max_retries", "max_redraws"):
            check(getattr(self, key) >= 0, f"sampling.{key}", getattr(self, key), "at least 0")
        check(
            self.name != "tree" or self.max_trajectories >= self.num_proposals,
            "sampling.max_trajectories",
            self.max_trajectories,
            f"at least sampling.num_proposals ({self.num_proposals})",
            "Raise the cap or lower num_proposals.",
        )


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
        credits = "trajectory", "tree", "best", "expected", "auto", "pass_at_k"
        check_choice("loss.credit", self.credit, credits)
        check_choice("loss.baseline", self.baseline, ("mean", "max"))
        check_choice("loss.aggregate", self.aggregate, ("trajectory", "token"))
        check_choice("loss.history_gap", self.history_gap, ("none", "negatives", "truncated"))
        check(
            self.engine_gap_cap == 0 or self.engine_gap_cap >= 1,
            "loss.engine_gap_cap",
            self.engine_gap_cap,
            "0 (off) or at least 1",
        )
        ways = ("none", "adaptive_entropy", "entropy_advantage", "kl_cov", "clip_cov")
        check_choice("loss.exploration", self.exploration, (*ways, "top_entropy"))
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


@dataclass
class EvalConfig:
    """How success is measured: the plain prompt, one response per decision."""

    every: int = 10
    """Steps between evaluations on the validation puzzles."""
    episodes: int = 256
    """Validation puzzles."""
    samples: int = 1
    """Attempts at each puzzle, validation and held-out; with more than one, pass@k and what comes
    with it are measured too."""
    final_episodes: int = 1024
    """Held-out puzzles for the table of base against trained."""
    temperature: float = 0.5
    """Sampling temperature of evaluation (RAGEN's)."""

    def __post_init__(self) -> None:
        for key in ("every", "samples"):
            check(getattr(self, key) >= 1, f"eval.{key}", getattr(self, key), "at least 1")
        for key in ("episodes", "final_episodes"):
            num = getattr(self, key)
            check(1 <= num <= NUM_PUZZLES, f"eval.{key}", num, f"from 1 to {NUM_PUZZLES}")
        check(self.temperature > 0, "eval.temperature", self.temperature, "above 0")


@dataclass
class MonitorConfig:
    """How a run is watched for signs that its rollouts grow alike and leave nothing to learn."""

    window: int = 20
    """Steps whose means are compared: the newest against the run's first."""
    rescue: str = "off"
    """What is done about a dying policy: `off` (a warning), `auto` (independent rollouts give way
    to those of `sesa`, with its credit and loss; the learning rate stays)."""

    def __post_init__(self) -> None:
        check(self.window >= 1, "monitor.window", self.window, "at least 1")
        check_choice("monitor.rescue", self.rescue, ("off", "auto"))


@dataclass
class LogConfig:
    """Where the metrics of a run go besides its folder, which always holds them."""

    to: str = ""
    """`wandb` (Weights & Biases), `trackio`, or both as `wandb,trackio`; empty for none. Each needs
    an extra, as `pip install 'sesa-agent[wandb]'`."""
    project: str = "sesa-agent"
    """The project there."""

    def __post_init__(self) -> None:
        known = {"wandb", "trackio"}
        check(known.issuperset(self.names), "log.to", self.to, "wandb, trackio or wandb,trackio")
        check(bool(self.project), "log.project", self.project, "a name")

    @property
    def names(self) -> list[str]:
        """The loggers, each once."""
        return list(dict.fromkeys(name.strip() for name in self.to.split(",") if name.strip()))


@dataclass
class Config:
    """One run."""

    method: str = "sesa"
    """Preset: the name of a file in `configs/methods` (see Methods below)."""
    scale: str = ""
    """Preset of a real model and its machine: the name of a file in `configs/scales` (see Scales
    below); empty for the numbers of the bundled models."""
    seed: int = 0
    """Seed of everything random in the run; every step's random numbers follow from it and the step
    alone."""
    output: str = ""
    """Run folder; empty for `runs/<env>-<method>-<seed>`, with the scale before the seed."""
    env: EnvConfig = field(default_factory=EnvConfig)
    model: ModelConfig = field(default_factory=ModelConfig)
    engine: EngineConfig = field(default_factory=EngineConfig)
    sampling: SamplingConfig = field(default_factory=SamplingConfig)
    loss: LossConfig = field(default_factory=LossConfig)
    optim: OptimConfig = field(default_factory=OptimConfig)
    eval: EvalConfig = field(default_factory=EvalConfig)
    monitor: MonitorConfig = field(default_factory=MonitorConfig)
    log: LogConfig = field(default_factory=LogConfig)

    def __post_init__(self) -> None:
        check(
            self.monitor.rescue == "off" or self.sampling.name == "parallel",
            "monitor.rescue",
            self.monitor.rescue,
            f"off with sampling.name={self.sampling.name}",
            "It replaces independent rollouts, as of --method ragen. Give monitor.rescue=off.",
        )
        check(0 <= self.seed < 10_000, "seed", self.seed, "from 0 to 9999")
        check(
            self.loss.overlong_buffer <= self.engine.max_new_tokens,
            "loss.overlong_buffer",
            self.loss.overlong_buffer,
            f"at most engine.max_new_tokens ({self.engine.max_new_tokens})",
        )
        check(
            self.loss.credit != "pass_at_k" or self.loss.pass_k < self.sampling.max_trajectories,
            "loss.pass_k",
            self.loss.pass_k,
            f"below sampling.max_trajectories ({self.sampling.max_trajectories})",
            "A group has one subset else, and nothing to compare it with.",
        )
