"""The methods on a small pre-trained model, as data: `sesa-agent reproduce real-llm`.

One experiment for each game, on two cores of a laptop. A pre-trained model hardly keeps the form of
an answer, so every seed begins with a warm start of its own (`starts.py`), which all arms of that
seed share: one lucky start decides nothing. The arms of a game have the same number of policy
calls, and the same groups and learning rate, or each the best settings of as many tuning trials.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from .arms import BASE, WARM_START, Arm
from .paper import ROLLOUT, Experiment, Metric, Plan, plan_arms
from .results import Measurement

REAL_LLM = "real-llm"
"""The name of the command's experiment, and the beginning of its results' names."""
SCALE = "135m-cpu"
"""The preset of the model and its machine, unless another one is chosen."""
NUM_SEEDS = 3
CALLS = 1280
"""Policy calls of every trained arm: ten minutes of `sesa` on one core, in float32."""
LESSONS = 12
"""Most lessons of a warm start: in Countries the readable rate stays near .8 after eight; in the
other games lessons end earlier by themselves."""
QUICK_SHARE = 20
"""`--quick` divides the calls and the held-out puzzles by this, and uses one seed: a step or two,
which show that everything runs."""
RIVALS = {"countries": "maxrl", "countdown": "maxrl", "sokoban": "gigpo"}
"""The rival of each game: GiGPO compares the turns of an episode, so it needs several."""
COMMON = ("optim.warmup_steps=2", "eval.temperature=1.0")
"""Settings of all arms of all games; a run has 10 to 20 steps."""
HEADLINE = Metric("success, T = 1", "T=1", "success_rate")


@dataclass(frozen=True)
class Game:
    """A game for a pre-trained model."""

    experiment: Experiment
    words: tuple[str, ...]
    """Settings of all arms, which those of tuning replace."""


def _experiment(
    env: str, title: str, how: Measurement, found: Metric, dapo: bool, success: str = "success"
) -> Experiment:
    """The experiment of a game.

    Args:
        env: the environment.
        title: of table and plot.
        how: its measurement, at T = 1.
        found: what repeated attempts find.
        dapo: whether DAPO takes part.
        success: the name of its success.
    """
    rival = RIVALS[env]
    curve = f"eval/{found.field.removesuffix('k')}{found.k}"
    return Experiment(
        source="a pre-trained model",
        title=title,
        envs=(env,),
        plans=(
            Plan(BASE, has_lessons=False),
            Plan(WARM_START),
            Plan("ragen", "ragen"),
            Plan("ragen-entropy", "ragen-entropy"),
            *([Plan("dapo", "dapo")] if dapo else []),
            Plan(rival, rival),
            Plan("sesa"),
            Plan("sesa, history", settings=("sampling.proposer=history",)),
        ),
        measurements=(how,),
        metrics=(
            replace(HEADLINE, name=f"{success}, T = 1"),
            found,
            Metric("readable", "T=1", "readable_rate"),
            Metric("distinct answers of a group", ROLLOUT, "distinct_answers"),
            Metric("groups with signal", ROLLOUT, "signal_groups"),
        ),
        curves=((curve, found.name), ("eval/success_rate", f"{success}, T = 1")),
        has_one_puzzle=env == "countries",
        note="Answers of groups and signal: means over the steps of training.",
        quick_share=QUICK_SHARE,
        spent=("policy_calls", "response_tokens", "seconds"),
    )


GAMES = {
    "countries": Game(
        _experiment(
            "countries",
            "Countries: 20 treasures among 195 names",
            Measurement(1.0, num_puzzles=4, num_samples=128, ks=(128,)),
            Metric("coverage@128", "T=1", "coverage_at_k", 128),
            dapo=True,
            success="hit rate",
        ),
        words=(
            "sampling.num_tasks=4",
            "sampling.num_proposals=16",
            "sampling.max_trajectories=16",
            "eval.every=5",
            "eval.episodes=1",
            "eval.samples=128",
        ),
    ),
    "countdown": Game(
        _experiment(
            "countdown",
            "Countdown: three numbers up to 10",
            Measurement(1.0, num_puzzles=64, num_samples=8, ks=(8,)),
            Metric("pass@8", "T=1", "pass_at_k", 8),
            dapo=True,
        ),
        words=(
            "env.options.max_number=10",
            "env.options.min_count=3",
            "env.options.max_count=3",
            "eval.every=8",
            "eval.episodes=16",
            "eval.samples=8",
        ),
    ),
    "sokoban": Game(
        _experiment(
            "sokoban",
            "Sokoban: rooms that take at most four moves",
            Measurement(1.0, num_puzzles=32, num_samples=4, ks=(4,)),
            Metric("pass@4", "T=1", "pass_at_k", 4),
            dapo=False,
        ),
        words=(
            "env.options.max_solution=4",
            "env.max_turns=5",
            "sampling.num_tasks=4",
            "sampling.num_proposals=3",
            "sampling.max_trajectories=8",
            "eval.every=4",
            "eval.episodes=8",
            "eval.samples=4",
        ),
    ),
}
"""The games, by their environment."""


def real_llm_arms(
    env: str,
    seeds: Sequence[int] = (),
    is_quick: bool = False,
    overrides: Sequence[str] = (),
    scale: str = SCALE,
    tuned: Mapping[str, Sequence[str]] | None = None,
) -> list[Arm]:
    """Return the arms of a game.

    Args:
        env: one of `GAMES`.
        seeds: training seeds; by default `NUM_SEEDS`, with `is_quick` one.
        is_quick: use a fraction of the calls and puzzles.
        overrides: `group.key=value` words for all arms; they override everything else.
        scale: the preset of a model size and its machine.
        tuned: the best settings of each method, from a ledger of `sesa-agent tune`.
    """
    game = GAMES[env]
    experiment, share = game.experiment, game.experiment.quick_share if is_quick else 1
    (how,) = experiment.measurements
    how = replace(how, num_puzzles=max(1, how.num_puzzles // share))
    best = {} if tuned is None else tuned
    plans = [
        replace(
            plan,
            settings=(*game.words, *best.get(plan.method, ()), *plan.settings),
            calls=CALLS // share,
        )
        for plan in experiment.plans
    ]
    return plan_arms(
        plans,
        env,
        seeds or range(1 if is_quick else NUM_SEEDS),
        (how,),
        ("optim.steps=1000000", *COMMON, *overrides),
        is_comparison=False,
        scale=scale,
        lessons=LESSONS,
        left_over="weights",
    )
