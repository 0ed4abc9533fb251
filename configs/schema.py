"""Every setting, with its meaning and unit. The defaults are tested settings.

A run's configuration is built in layers, and the last one wins: these defaults, the method's preset
(`configs/methods/<method>.yaml`), the environment's file (`configs/<env>.yaml`, with a section for
each method that needs other values), the scale's file if one is chosen
(`configs/scales/<scale>.yaml`, with sections likewise), and what the user types as
`group.key=value`. Each "auto" is resolved when the run starts; the result is written to the run
folder.

A group checks the type and range of each of its settings, so that every layer is checked by itself;
`Config` checks how settings fit together.
"""

from dataclasses import dataclass, field
from typing import Any

from .errors import check, check_choice
from .typed import fit_fields, plain

NUM_PUZZLES = 100_000
"""Number of puzzles reserved for validation, and as many again for the reported results."""

MAX_WORKERS = 1000
"""Most processes that play an environment."""


def check_temperature(key: str, temperature: float) -> None:
    """Refuse temperatures with which logits, divided by them, overflow or become equal.

    Raises:
        SettingError: if the temperature is out of range.
    """
    check(0.0001 <= temperature <= 1000, key, temperature, "from 0.0001 to 1000")


@dataclass
class EnvConfig:
    """The environment, and how many messages it exchanges with the policy."""

    id: str = ""
    """Gymnasium id, also as `module:Name-v0`."""
    options: dict[str, Any] = field(default_factory=dict)
    """Keyword arguments of the environment: difficulty, reward, step limit."""
    max_turns: int = 10
    """Maximum number of responses in one episode."""
    actions_per_turn: int = 1
    """Maximum number of actions in one response, separated by " || " if there may be several."""
    step_timeout: float = 60.0
    """Seconds within which an environment of another package must answer each call; after that the
    trajectory ends with an error. 0 for no limit."""
    success: str = ""
    """What counts as success in an environment that does not say it: `terminated` (the game ended),
    `truncated` (its own limit was reached), `reward>N` (the game ended with such a reward) or
    `return>=N` (the sum of the rewards reached N). Empty for what the environment says, else its
    `reward_threshold`, else an end with a positive reward."""
    workers: int | str = "auto"
    """Processes that play the environment side by side and whose crash ends a trajectory, not the
    run; 0 plays it in this process. `auto`: 8 for an environment of another package that is slow,
    cannot be copied or limits its instances, else 0."""

    def __post_init__(self) -> None:
        fit_fields(self, "env")
        is_number = isinstance(self.workers, int) and 0 <= self.workers <= MAX_WORKERS
        is_allowed = is_number or self.workers == "auto"
        check(is_allowed, "env.workers", self.workers, f"auto, or from 0 to {MAX_WORKERS}")
        self.options = plain(self.options, "env.options")
        check(self.max_turns >= 1, "env.max_turns", self.max_turns, "at least 1")
        check(self.step_timeout >= 0, "env.step_timeout", self.step_timeout, "at least 0")
        check(
            self.actions_per_turn >= 1, "env.actions_per_turn", self.actions_per_turn, "at least 1"
        )


@dataclass
class ModelConfig:
    """The policy model, what its prompts contain and how its answers are read."""

    path: str = "sesa-tiny"
    """A bundled model (`sesa-tiny` for games, `sesa-tiny-answers` for tasks with a single answer),
    a fetched one (`smollm2`), a folder in Hugging Face format, or the name of a model on the
    Hugging Face Hub."""
    dtype: str = "float32"
    """Floating-point type of the model: `float32`, `bfloat16` or `auto` (bfloat16 where this
    machine computes it clearly faster). With bfloat16 the optimizer updates a float32 copy of the
    weights."""
    lora_rank: int = 0
    """Rank of a LoRA adapter (scaled by 32 / rank) on all linear layers, trained instead of the
    weights; 0 trains all weights. Checkpoints then contain the adapter alone. Needs
    `pip install 'sesa-agent[lora]'`."""
    gradient_checkpointing: bool = False
    """Store only the inputs of the model's layers for the backward pass and recompute the rest:
    about a third slower, but activations take a fraction of the memory."""
    device: str = "auto"
    """`auto` (a GPU if there is one), `cpu` or `cuda`."""
    thinking: bool = False
    """Ask for `<think> ... </think>` before the answer."""
    prefill: bool = False
    """End every prompt with an opened `<answer>`, so that the reply begins inside the answer: an
    instruction-tuned model that was never taught the format is then read more often. Without
    thoughts, tools, sketches (`two_stage`) and lists (`one_response`)."""
    answer_format: str = "auto"
    """What counts as an answer: `strict` (a response in exactly the format that the prompt asks
    for), `tolerant` (also an answer behind other text or unasked thoughts, with an action in quotes
    or code marks, or without its last tag), `auto` (strict for the bundled models, which were
    trained on the format, and tolerant for all others)."""
    context: str = "auto"
    """What a prompt contains: `state` (the current observation), `window` (the last turns), `full`
    (all turns) or `auto` (`full` with tools, `state` where the observation tells everything, else
    `window`; see "What the model is told" in environments.md)."""
    window: int = 10
    """Number of turns in the prompt with `context=window`, including the current one."""
    layout: str = "auto"
    """Wording of the prompt: `game` (turns, states and actions left), `short` (for single answers:
    the question and the form of its answer) or `auto` (`short` for single answers of models that
    were not trained on the other, as the bundled ones were)."""
    trust_remote_code: bool = False
    """Run code that comes with a model, if you trust its authors. Counts only where it is typed: a
    run's `config.yaml` or a method file cannot set it."""

    def __post_init__(self) -> None:
        fit_fields(self, "model")
        check_choice("model.dtype", self.dtype, ("float32", "bfloat16", "auto"))
        check_choice("model.context", self.context, ("state", "window", "full", "auto"))
        check_choice("model.layout", self.layout, ("game", "short", "auto"))
        check_choice("model.device", self.device, ("auto", "cpu", "cuda"))
        check_choice("model.answer_format", self.answer_format, ("auto", "strict", "tolerant"))
        check(self.lora_rank >= 0, "model.lora_rank", self.lora_rank, "at least 0")
        check(self.window >= 1, "model.window", self.window, "at least 1")


@dataclass
class EngineConfig:
    """How responses are generated."""

    name: str = "hf"
    """Inference engine: `hf` (transformers, any device), `vllm` (in this process) or `server` (vLLM
    on other GPUs or machines, engines.md)."""
    urls: str = ""
    """Of `server`: the servers' URLs, separated by commas; `sesa-agent serve` starts one."""
    handover: str = "folder"
    """Of `server`: how the servers get new weights: through a `folder`, or over the `network`, for
    servers that share no disk with the trainer (NCCL between GPUs, else gloo)."""
    weights_folder: str = ""
    """Of `handover=folder`: where it is, for trainer and servers; empty for a temporary one on this
    machine."""
    temperature: float = 1.0
    """Sampling temperature of training rollouts; the trainer divides its logits by the same
    number."""
    max_new_tokens: int = 24
    """Maximum length of a response, in tokens."""
    max_prompt_tokens: int = 4096
    """Maximum length of a prompt, in tokens, within the model's context length. A longer prompt
    loses its oldest turns, then the middle of its observation."""
    max_batch_tokens: int = 32768
    """Maximum number of prompt and response tokens that are generated at once; bounds memory."""
    memory_fraction: float = 0.4
    """Fraction of a GPU's memory that vLLM uses for weights and KV cache while it generates."""

    def __post_init__(self) -> None:
        fit_fields(self, "engine")
        check(
            0 < self.memory_fraction < 1,
            "engine.memory_fraction",
            self.memory_fraction,
            "above 0 and below 1",
        )
        check_choice("engine.handover", self.handover, ("folder", "network"))
        check_temperature("engine.temperature", self.temperature)
        for key in ("max_new_tokens", "max_prompt_tokens", "max_batch_tokens"):
            check(getattr(self, key) >= 1, f"engine.{key}", getattr(self, key), "at least 1")


@dataclass
class SamplingConfig:
    """How trajectories are sampled."""

    name: str = "tree"
    """Sampler: `parallel` (independent rollouts, as in RAGEN), `tree` (action-level SESA, paper
    section 3.1), those of other methods (rivals.md: `tree_grpo`, `tree_rl`, `cure`, `arpo` and
    `go_explore` play on from earlier states, `dars` and `dars_hw` play hard puzzles more often)
    and, for tasks with a single answer, `single_pass` (whole answers one after another, section
    2.2) or `two_stage` (sketches in sequence, solutions in parallel, Algorithm 1)."""
    num_tasks: int = 24
    """Puzzles per step; the trajectories of a puzzle form one GRPO group."""
    max_redraws: int = 0
    """Dynamic sampling (DAPO): maximum number of further rounds of `num_tasks` new puzzles while
    fewer than `num_tasks` groups have returns that differ. If above 0, only groups whose returns
    differ are trained on."""
    num_proposals: int = 3
    """G: distinct actions proposed at a decision (tree), answers (single_pass) or sketches
    (two_stage)."""
    max_trajectories: int = 16
    """U: maximum number of trajectories in a tree, not counting those that end in an unreadable
    response; the group size with `parallel`, and with `dars` before hard puzzles get more."""
    proposer: str = "history"
    """How proposals are made distinct: `history` (the prompt lists the earlier ones),
    `one_response` (one response lists them all), `without_replacement` (sampling actions without
    replacement from the plain prompt). Two do not: with `independent`, for ablations, a duplicate
    counts against the budget and is dropped; with `with_replacement`, for `spo_tree` and `tree_po`
    credit, it is played like any other."""
    max_retries: int = 2
    """How often in a row a proposal that duplicates an earlier action is sampled again before the
    decision ends."""
    sketch_tokens: int = 24
    """Maximum length of a sketch (two_stage), in tokens."""
    allocation: str = "early"
    """Where a tree spends U: `early` (as soon as possible) or `even` (the cap grows evenly with
    depth)."""
    merge_states: str = "auto"
    """Expand each state only once in a tree: `on`, `off`, `auto` (on where the environment has a
    `state_key`)."""
    noise_draws: int = 8
    """How often each proposal is played, each time with its own random numbers, where states are
    merged and the environment is stochastic. Costs environment steps, but no policy calls."""
    stop_on_success: str = "auto"
    """Stop growing a tree at the turn in which a trajectory succeeds: `on`, `off`, `auto` (on where
    the environment is deterministic; in a stochastic one this would count luck and hide
    failures)."""
    fork_noise: str = "shared"
    """Random numbers of the branches in a stochastic environment: `shared` (the same in all
    branches) or `independent`."""

    def __post_init__(self) -> None:
        fit_fields(self, "sampling")
        distinct = ("history", "one_response", "without_replacement")
        proposers = (*distinct, "independent", "with_replacement")
        check_choice("sampling.proposer", self.proposer, proposers)
        check_choice("sampling.allocation", self.allocation, ("early", "even"))
        check_choice("sampling.merge_states", self.merge_states, ("on", "off", "auto"))
        check_choice("sampling.stop_on_success", self.stop_on_success, ("on", "off", "auto"))
        check_choice("sampling.fork_noise", self.fork_noise, ("shared", "independent"))
        counts = "num_tasks", "num_proposals", "max_trajectories", "sketch_tokens", "noise_draws"
        for key in counts:
            check(getattr(self, key) >= 1, f"sampling.{key}", getattr(self, key), "at least 1")
        for key in ("max_retries", "max_redraws"):
            check(getattr(self, key) >= 0, f"sampling.{key}", getattr(self, key), "at least 0")


@dataclass
class LossConfig:
    """How credit is assigned and which loss is minimized."""

    name: str = "grpo"
    """What is minimised: `grpo` (the clipped surrogate of Eq. 1, with an entropy bonus and a KL
    penalty where their coefficients are set)."""
    credit: str = "auto"
    """Credit assignment: `trajectory` (GRPO over the leaves), `tree` (mean backup), `best` (best
    discounted return; deterministic environments), `expected` (best expected return over the merged
    states of a stochastic environment), `pass_at_k` (GRPO over subsets of `pass_k` leaves),
    `gigpo` and `hgpo` (turns with the same observation are compared), `tree_grpo`, `tree_po`,
    `tree_rl` and `spo_tree` (branching rivals), `max_rl` (the rarer the successes, the more each
    counts; all of rivals.md), `auto` (`best` in deterministic environments; in others `expected`,
    or `tree` if states are not merged)."""
    pass_k: int = 4
    """Size of the subsets of trajectories in `pass_at_k` credit, below `sampling.max_trajectories`.
    A subset scores as its best trajectory: the larger it is, the weaker the gradient of groups that
    often succeed."""
    baseline: str = "mean"
    """Group baseline of trajectory credit: `mean` (GRPO) or `max` (Eq. 1 as printed, with which no
    advantage is ever positive)."""
    normalize_std: bool = True
    """Divide advantages by the group's standard deviation (not in best and expected credit)."""
    group_std: str = "population"
    """That standard deviation: `population` (of the G returns themselves, divided by G) or `sample`
    (divided by G - 1, as in RAGEN, verl and TRL; larger by 3 % at G = 16, by 41 % at G = 2)."""
    discount: float = 0.9
    """Discount factor per turn (best, expected, gigpo and hgpo credit)."""
    clip_low: float = 0.2
    """Lower clipping of the probability ratio: 1 - clip_low."""
    clip_high: float = 0.28
    """Upper clipping of the probability ratio: 1 + clip_high."""
    dual_clip: float = 0.0
    """Bound of the probability ratio where the advantage is negative (dual-clip PPO,
    arXiv:1912.09729; RAGEN: 3): the loss of a token is at most `dual_clip` times its |advantage|,
    and beyond that it has no gradient. Above 1 + clip_high; 0 for no bound."""
    aggregate: str = "trajectory"
    """How the loss is averaged: `trajectory` (each trajectory has the same weight, Eq. 1; in tree,
    best and expected credit each turn) or `token` (each token has, as in DAPO)."""
    entropy_coef: float = 0.0
    """Coefficient of the entropy bonus, per token in nats."""
    exploration: str = "none"
    """Exploration method from the literature, on top of the entropy bonus: `none`,
    `adaptive_entropy` (the coefficient starts at `entropy_coef` and moves by .005 per step to hold
    `entropy_target`), `entropy_advantage` (advantages grow with the entropy), `kl_cov` and
    `clip_cov` (KL penalty on, or no gradient from, the tokens that reduce the entropy most),
    `top_entropy` (gradient only from the 20 % of tokens with the highest entropy), `steer` (weights
    from .8 to 1.2, the smaller the more a token would change the entropy), `lp_reg` (rare tokens of
    failures are held), `ucas` (certain successes count less, certain failures more), `dcpo`
    (successes as at another temperature), `siren` (the bonus becomes the squared distance of the
    most uncertain tokens' entropy from that in the first step) or `epo` (the bonus keeps the
    entropy of each turn near its mean so far); the last two need `entropy_coef`."""
    entropy_target: float = 0.2
    """Mean entropy per token, in nats, below which `adaptive_entropy` applies its bonus."""
    exploration_share: float = 0.02
    """Fraction of the trained tokens that `kl_cov` and `clip_cov` act on. The paper uses .0002 of
    millions of tokens; of the few thousand in a batch here that would be one or two."""
    kl_coef: float = 0.0
    """Coefficient of the KL penalty towards the initial policy, per token in nats."""
    engine_importance_cap: float = 0.0
    """Truncated importance sampling for the mismatch between engine and trainer: each token of a
    first proposal is weighted by min(cap, pi_old / mu), with mu its probability in the engine. 0
    for no correction, or for 2 with `optim.lag=1`; 2 is common."""
    replay_coef: float = 0.0
    """Weight of self-imitation (SPEAR, rivals.md): trajectories more than a standard deviation
    above their group are trained on again for five steps, beside each step's own. It rises from 0
    over the first two thirds of the run; 0 for none."""
    history_correction: str = "negatives"
    """Importance weight of proposals that were sampled under another prompt than the plain one, pi
    and mu being the probabilities of the response under both: `none`, `negatives` (negative
    advantages are multiplied by min(1, pi / mu)) or `truncated` (all are multiplied by min(2, pi /
    mu))."""
    filter_ratio: float = 1.0
    """Fraction of groups to keep, those with the highest standard deviation of the return (RAGEN's
    rollout filter: 0.25)."""
    filter_top_p: float = 0.0
    """Instead of `filter_ratio`, keep the fewest groups whose standard deviations add up to this
    fraction of all (RAGEN-2's filter: 0.9), so that steps with few telling groups keep few. Groups
    of equal returns are never kept. 0 for no such filter."""
    drop_flat_groups: bool = False
    """Leave out groups without any advantage, as where all returns are equal: they carry only the
    entropy bonus and the KL penalty. Their rows are not computed; what the other groups are taught
    stays the same to the bit, as they count in its mean."""
    format_penalty: float = 0.0
    """Subtracted from a trajectory's return for each turn without a readable action; in `best`
    credit, the value of such a turn is minus this."""
    overlong_buffer: int = 0
    """DAPO's soft overlong punishment: number of tokens before `engine.max_new_tokens` over which a
    penalty on the response grows from 0 to 1 (trajectory and tree credit). 0 for no penalty."""

    def __post_init__(self) -> None:
        fit_fields(self, "loss")
        check_choice("loss.baseline", self.baseline, ("mean", "max"))
        check_choice("loss.group_std", self.group_std, ("population", "sample"))
        check_choice("loss.aggregate", self.aggregate, ("trajectory", "token"))
        corrections = ("none", "negatives", "truncated")
        check_choice("loss.history_correction", self.history_correction, corrections)
        check(
            self.engine_importance_cap == 0 or self.engine_importance_cap >= 1,
            "loss.engine_importance_cap",
            self.engine_importance_cap,
            "0 (off) or at least 1",
        )
        check(self.entropy_target > 0, "loss.entropy_target", self.entropy_target, "above 0")
        share = self.exploration_share
        check(0 <= share <= 1, "loss.exploration_share", share, "from 0 to 1")
        check(self.pass_k >= 1, "loss.pass_k", self.pass_k, "at least 1")
        check(0 < self.discount <= 1, "loss.discount", self.discount, "above 0 and at most 1")
        check(0 < self.filter_ratio <= 1, "loss.filter_ratio", self.filter_ratio, "in (0, 1]")
        check(0 <= self.filter_top_p < 1, "loss.filter_top_p", self.filter_top_p, "in [0, 1)")
        check(
            self.filter_top_p == 0 or self.filter_ratio == 1,
            "loss.filter_top_p",
            self.filter_top_p,
            f"0 with loss.filter_ratio={self.filter_ratio:g}",
            "Set one of the two filters.",
        )
        check(0 < self.clip_low < 1, "loss.clip_low", self.clip_low, "between 0 and 1")
        check(self.clip_high > 0, "loss.clip_high", self.clip_high, "above 0")
        for key in ("entropy_coef", "kl_coef", "format_penalty", "overlong_buffer", "replay_coef"):
            check(getattr(self, key) >= 0, f"loss.{key}", getattr(self, key), "at least 0")


@dataclass
class OptimConfig:
    """How long and how fast the policy is trained."""

    steps: int = 60
    """Training steps, each a rollout and an update."""
    max_policy_calls: int = 0
    """Budget of generated responses in training rollouts; 0 for no limit. It is never exceeded: the
    last step leaves out the puzzles that no longer fit, in their order. They are neither learned
    from nor counted (but for the time they took and, in two_stage, the tokens of their sketches),
    so that less than one puzzle's calls are left. From less than half of a step's puzzles nothing
    is learned: a few would move the weights as far as all do. Of this and the following budgets
    the first that is reached ends the run; the others do so after the step in which they are
    reached."""
    max_response_tokens: int = 0
    """Budget of response tokens in training rollouts; 0 for no limit."""
    max_env_steps: int = 0
    """Budget of environment steps in training rollouts; 0 for no limit."""
    max_seconds: float = 0.0
    """Budget of seconds spent in rollouts and updates, without evaluation; 0 for no limit. Where
    the run ends then depends on the machine."""
    lr: float = 1e-3
    """Learning rate of AdamW."""
    warmup_steps: int = 10
    """Steps over which the learning rate rises to `lr`: the first updates of AdamW are its
    largest."""
    cooldown: float = 0.0
    """Fraction of the run, at its end, over which the learning rate decays linearly to 0, so that
    the last few updates matter less: 0 for a constant rate, 1 for a linear schedule."""
    weight_decay: float = 0.0
    """Weight decay of AdamW."""
    beta2: float = 0.95
    """Decay per update of AdamW's mean of squared gradients: .95 remembers some 20 updates, .999
    (PyTorch's default, and RAGEN's) some 1000."""
    max_grad_norm: float = 1.0
    """Gradients are clipped to this norm."""
    num_minibatches: int = 2
    """Optimizer steps per pass over a rollout."""
    num_epochs: int = 2
    """Passes over a rollout; clipping bounds how far they can move the policy away from it."""
    max_batch_tokens: int = 16384
    """Maximum number of tokens, of shared-prefix or padded rows, in one forward and backward pass;
    changes memory use, not the result."""
    checkpoint_every: int = 10
    """Steps between checkpoints."""
    keep_checkpoints: int = 2
    """Number of newest checkpoints to keep. Only the newest holds the state of the optimizer, most
    of a checkpoint's size; a run resumed from an older one starts the moments of AdamW from
    zero."""
    save_optimizer: bool = True
    """Save the state of the optimizer, two to six times the size of the weights. Without it a run
    is resumed with moments of zero and not bit for bit: for little disk, and runs that nobody
    resumes."""
    shard: int = 0
    """Processes of torchrun that share one copy of the weights, gradients and optimizer state, each
    holding a part; with several such groups every group has a copy. 0 for all processes, which
    takes the least memory; 1 for a copy in each of them. Changes memory and speed, not the
    result."""
    lag: int = 0
    """Updates by which a rollout may be behind: 0, or 1 to sample the puzzles of the next step
    while the policy learns from those of this one (`engine.name=server`; see engines.md)."""
    patience: int = 1800
    """Seconds that the processes of torchrun wait for the slowest of them; then the run ends and
    names it."""

    def __post_init__(self) -> None:
        fit_fields(self, "optim")
        advice = "Try 1e-3 for sesa-tiny, 1e-6 for a 0.5B model."
        check(self.lr > 0, "optim.lr", self.lr, "above 0", advice)
        budgets = ("max_policy_calls", "max_response_tokens", "max_env_steps", "max_seconds")
        for key in ("weight_decay", *budgets, "warmup_steps", "shard"):
            check(getattr(self, key) >= 0, f"optim.{key}", getattr(self, key), "at least 0")
        check(0 <= self.cooldown <= 1, "optim.cooldown", self.cooldown, "from 0 to 1")
        check(self.lag in (0, 1), "optim.lag", self.lag, "0 or 1")
        check(0 < self.beta2 < 1, "optim.beta2", self.beta2, "between 0 and 1")
        check(self.max_grad_norm > 0, "optim.max_grad_norm", self.max_grad_norm, "above 0")
        for key in (
            "steps",
            "num_minibatches",
            "num_epochs",
            "max_batch_tokens",
            "checkpoint_every",
            "keep_checkpoints",
            "patience",
        ):
            check(getattr(self, key) >= 1, f"optim.{key}", getattr(self, key), "at least 1")


@dataclass
class EvalConfig:
    """How success is measured: plain prompt, one response per decision."""

    every: int = 10
    """Steps between evaluations on the validation puzzles."""
    episodes: int = 256
    """Number of validation puzzles."""
    samples: int = 1
    """Attempts at each puzzle, validation and held-out. With more than one, pass@k and the metrics
    that belong to it are computed too."""
    final_episodes: int = 1024
    """Number of held-out puzzles for the final comparison of base and trained policy."""
    split: str = "test"
    """Held-out puzzles that `sesa-agent evaluate` measures on: `test`, or a set outside of the
    training distribution by its name, such as `large` (see "Out-of-distribution sets" in
    environments.md)."""
    temperature: float = 0.5
    """Sampling temperature of evaluation (RAGEN's)."""

    def __post_init__(self) -> None:
        fit_fields(self, "eval")
        for key in ("every", "samples"):
            check(getattr(self, key) >= 1, f"eval.{key}", getattr(self, key), "at least 1")
        for key in ("episodes", "final_episodes"):
            num = getattr(self, key)
            check(1 <= num <= NUM_PUZZLES, f"eval.{key}", num, f"from 1 to {NUM_PUZZLES}")
        check_temperature("eval.temperature", self.temperature)


@dataclass
class MonitorConfig:
    """How a run is monitored for policy collapse: rollouts that become alike leave no gradient."""

    window: int = 20
    """Number of steps whose means are compared: the newest against the first of the run."""
    rescue: str = "off"
    """What to do about policy collapse: `off` (warn) or `auto` (replace independent rollouts by
    those of `sesa`, with its credit and loss; the learning rate stays)."""

    def __post_init__(self) -> None:
        fit_fields(self, "monitor")
        check(self.window >= 1, "monitor.window", self.window, "at least 1")
        check_choice("monitor.rescue", self.rescue, ("off", "auto"))


@dataclass
class LogConfig:
    """Where metrics are logged in addition to the run folder, which always has them."""

    to: str = ""
    """`wandb` (Weights & Biases), `trackio`, or both as `wandb,trackio`; empty for none. Each needs
    an extra, as in `pip install 'sesa-agent[wandb]'`."""
    project: str = "sesa-agent"
    """Project name in these services."""

    def __post_init__(self) -> None:
        fit_fields(self, "log")
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
    """Preset: the name of a file in `configs/methods` (see Methods below), or the path of a YAML
    file of your own."""
    scale: str = ""
    """Preset for a real model and its machine: the name of a file in `configs/scales` (see Scales
    below); empty for the values of the bundled models."""
    seed: int = 0
    """Random seed of the run; the random numbers of a step depend on it and the step alone."""
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
        fit_fields(self, "")
        check(0 <= self.seed < 10_000, "seed", self.seed, "from 0 to 9999")
        sampling = self.sampling
        check(
            sampling.name != "two_stage" or sampling.proposer in ("history", "without_replacement"),
            "sampling.proposer",
            sampling.proposer,
            "history or without_replacement with sampling.name=two_stage",
        )
        check(
            sampling.name != "tree" or sampling.max_trajectories >= sampling.num_proposals,
            "sampling.max_trajectories",
            sampling.max_trajectories,
            f"at least sampling.num_proposals ({sampling.num_proposals})",
            "Raise the cap or lower num_proposals.",
        )
        self._check_prefill()
        loss = self.loss
        check(
            loss.dual_clip == 0 or loss.dual_clip > 1 + loss.clip_high,
            "loss.dual_clip",
            loss.dual_clip,
            f"0 (off) or above 1 + loss.clip_high ({1 + loss.clip_high:g})",
            "RAGEN's is 3.",
        )
        check(
            self.monitor.rescue == "off" or self.sampling.name == "parallel",
            "monitor.rescue",
            self.monitor.rescue,
            f"off with sampling.name={self.sampling.name}",
            "It replaces independent rollouts, as of --method ragen. Set monitor.rescue=off.",
        )
        check(
            self.loss.overlong_buffer <= self.engine.max_new_tokens,
            "loss.overlong_buffer",
            self.loss.overlong_buffer,
            f"at most engine.max_new_tokens ({self.engine.max_new_tokens})",
        )
        self._check_lag()
        check(
            self.loss.credit != "pass_at_k" or self.loss.pass_k < self.sampling.max_trajectories,
            "loss.pass_k",
            self.loss.pass_k,
            f"below sampling.max_trajectories ({self.sampling.max_trajectories})",
            "Otherwise a group has a single subset and nothing to compare it with.",
        )

    def _check_lag(self) -> None:
        """Check that rollouts can be drawn while the policy learns."""
        if not self.optim.lag:
            return
        check(
            self.engine.name == "server",
            "engine.name",
            self.engine.name,
            "server with optim.lag=1",
            "Other engines take turns with the trainer on its GPU. Set optim.lag=0.",
        )
        check(
            self.sampling.max_redraws == 0,
            "sampling.max_redraws",
            self.sampling.max_redraws,
            "0 with optim.lag=1",
            "Whether to draw again shows only when all processes have drawn.",
        )
        check(
            self.monitor.rescue == "off",
            "monitor.rescue",
            self.monitor.rescue,
            "off with optim.lag=1",
            "The next rollout has begun when a rescue is due.",
        )

    def _check_prefill(self) -> None:
        """Check that every reply begins with an answer, if prompts open it."""
        sampling = self.sampling
        lists = sampling.proposer == "one_response" and sampling.name in ("tree", "single_pass")
        for key, is_other in (
            ("model.thinking=true", self.model.thinking),
            ("sampling.name=two_stage", sampling.name == "two_stage"),
            ("sampling.proposer=one_response", lists),
        ):
            check(
                not (self.model.prefill and is_other),
                "model.prefill",
                self.model.prefill,
                f"false with {key}, where a reply does not begin with its only answer",
            )
