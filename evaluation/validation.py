"""What a run logs about its policy on validation puzzles: names under `eval/`."""

from collections.abc import Sequence

from ..agents.engines.base import Engine
from ..configs.schema import Config
from ..sampling.dialogue import Dialogue
from ..training.setup import sampling_params
from .evaluate import Evaluation, evaluate


def validate(
    cfg: Config, engine: Engine, dialogue: Dialogue, seeds: Sequence[int], ks: Sequence[int] = ()
) -> dict[str, float]:
    """Measure the policy on validation puzzles, as the trainer logs it.

    Args:
        cfg: the run's configuration; `eval` says how often and at which temperature.
        engine: draws the responses.
        dialogue: plays them.
        seeds: the puzzles.
        ks: the k of pass@k and Coverage@k, those above `eval.samples` left out; by default
            `eval.samples` itself.

    Returns:
        Numbers by name, those of several attempts only where there are several.
    """
    num_samples = cfg.eval.samples
    ks = [k for k in ks if k <= num_samples] or [num_samples]
    params = sampling_params(cfg.engine, cfg.eval.temperature)
    result = evaluate(engine, dialogue, cfg.env.id, seeds, params, num_samples, ks)
    metrics = {
        "eval/success_rate": result.success_rate,
        "eval/readable_rate": result.readable_rate,
        "eval/legal_rate": result.legal_rate,
        "eval/turns": result.mean_turns,
    }
    return metrics | _metrics_of_attempts(result) if num_samples > 1 else metrics


def _metrics_of_attempts(result: Evaluation) -> dict[str, float]:
    """What several attempts at each puzzle say; what does not exist is left out."""
    metrics = {f"eval/pass_at_{k}": value for k, value in result.pass_at_k.items()}
    metrics |= {f"eval/coverage_at_{k}": value for k, value in result.coverage_at_k.items()}
    metrics["eval/distinct_answers"] = result.distinct_answers
    if result.pass_ratio is not None:
        metrics["eval/pass_ratio"] = result.pass_ratio
    return metrics
