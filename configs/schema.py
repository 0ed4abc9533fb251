"""Every setting, with its meaning and unit. Defaults are the vetted ones.

A run's configuration is these defaults, then the method's preset (`configs/methods/<method>.yaml`),
then the environment's file (`configs/<env>.yaml`, with a section per method where one needs other
numbers), then that of the scale if one is asked for (`configs/scales/<scale>.yaml`, likewise), then
what the user typed as `group.key=value`. Each "auto" is resolved when the run starts, and the
result is written to the run folder.
"""

from dataclasses import dataclass, field
from typing import Any

from .errors import check, check_choice
from .learning import LossConfig, OptimConfig

NUM_PUZZLES = 100_000
"""Puzzles that are kept for validation, and as many for the figures that are reported."""


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
