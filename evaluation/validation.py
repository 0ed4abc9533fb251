"""The `eval/` metrics of a run: its policy on validation puzzles."""

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
        cfg: the run's configuration; `eval` has the number of attempts and the temperature.
        engine: generates the responses.
        dialogue: plays them.
        seeds: the puzzles.
        ks: values of k for pass@k and Coverage@k, ignored above `eval.samples`; by default
            `eval.samples` itself.

    Returns:
        Numbers by name; pass@k and its relatives only with several attempts at each puzzle.
    """
    num_samples = cfg.eval.samples
    ks = [k for k in ks if k <= num_samples] or [num_samples]
    params = sampling_params(cfg.engine, cfg.eval.temperature, stop=dialogue.style.stop)
    result = evaluate(engine, dialogue, cfg.env.id, seeds, params, num_samples, ks)
    metrics = {
        "eval/success_rate": result.success_rate,
        "eval/return": result.mean_return or 0.0,
        "eval/readable_rate": result.readable_rate,
        "eval/legal_rate": result.legal_rate,
        "eval/turns": result.mean_turns,
    }
    return metrics | _metrics_of_attempts(result) if num_samples > 1 else metrics


def _metrics_of_attempts(result: Evaluation) -> dict[str, float]:
    """The metrics of several attempts at each puzzle, those that exist."""
    metrics = {f"eval/pass_at_{k}": value for k, value in result.pass_at_k.items()}
    metrics |= {f"eval/coverage_at_{k}": value for k, value in result.coverage_at_k.items()}
    metrics["eval/distinct_answers"] = result.distinct_answers
    if result.pass_ratio is not None:
        metrics["eval/pass_ratio"] = result.pass_ratio
    return metrics
