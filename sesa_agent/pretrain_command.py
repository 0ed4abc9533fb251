"""`sesa-agent pretrain`: makes the bundled model, measures it, writes its card."""

from dataclasses import replace
from pathlib import Path

from sesa_agent.agents.policy import BUNDLED
from sesa_agent.configs.load import env_names, load_config
from sesa_agent.configs.schema import check
from sesa_agent.evaluate_command import evaluate_policy
from sesa_agent.evaluation.model_card import write_model_card
from sesa_agent.runs import check_writable
from sesa_agent.screen import console, progress_bar, result_table
from sesa_agent.training.pretrain import COURSES, PretrainConfig
from sesa_agent.training.pretrain import pretrain as pretrain_model
from sesa_agent.training.setup import build_policy


def run_pretraining(output: Path, steps: int | None, seed: int, episodes: int) -> None:
    """Make the bundled model and write its card, with measured success in every game."""
    check(steps is None or steps >= 1, "--steps", steps, "at least 1")
    check(episodes >= 1, "--episodes", episodes, "at least 1")
    check_writable(output, "--output")
    recipe = PretrainConfig(seed=seed)
    recipe = replace(recipe, steps=steps) if steps is not None else recipe
    with progress_bar() as bar:
        task = bar.add_task("collecting play", total=recipe.steps, success="")
        pretrain_model(
            output,
            recipe,
            lambda step, loss: bar.update(
                task, completed=step, description="pre-training", success=f"loss {loss:.3f}"
            ),
        )
    names = {load_config(name).env.id: name for name in env_names()}
    results = {}
    for course in COURSES:
        cfg = load_config(names[course.env_id], "sesa", [f"model.path={output}"])
        results[course.env_id] = evaluate_policy(cfg, build_policy(cfg), episodes)
        console.print(result_table(course.env_id, {BUNDLED: results[course.env_id]}))
    write_model_card(output, recipe, results)
