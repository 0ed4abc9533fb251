"""`sesa-agent pretrain`: trains a bundled model, measures it, writes its model card."""

from dataclasses import replace
from pathlib import Path

from sesa_agent.commands.evaluate import evaluate_policy
from sesa_agent.commands.model_card import write_model_card
from sesa_agent.configs.errors import check
from sesa_agent.configs.load import choose, env_names, load_config, override_word
from sesa_agent.environments.splits import puzzle_seeds
from sesa_agent.outputs import check_writable
from sesa_agent.screen import console, progress_bar, result_table
from sesa_agent.training.pretraining.recipes import RECIPES
from sesa_agent.training.pretraining.recipes import pretrain as pretrain_model
from sesa_agent.training.setup import build_policy


def run_pretraining(
    name: str, output: Path | None, steps: int | None, seed: int, episodes: int
) -> None:
    """Train a bundled model and write its card, with its success in each of its games."""
    recipe = RECIPES[choose("MODEL", name, list(RECIPES), "")]
    check(steps is None or steps >= 1, "--steps", steps, "at least 1")
    check(episodes >= 1, "--episodes", episodes, "at least 1")
    check(0 <= seed < 2**32, "--seed", seed, "from 0 to 2^32 - 1")
    puzzle_seeds("test", episodes)  # raises if there are not enough puzzles
    output = output or Path(name)
    check_writable(output, "--output")
    recipe = replace(recipe, seed=seed, steps=recipe.steps if steps is None else steps)
    with progress_bar() as bar:
        task = bar.add_task("collecting play", total=recipe.steps, success="")
        pretrain_model(
            output,
            recipe,
            lambda step, loss: bar.update(
                task, completed=step, description="pre-training", success=f"loss {loss:.3f}"
            ),
        )
    names = {load_config(env).env.id: env for env in env_names()}
    results = {}
    for course in recipe.courses:
        options = {f"env.options.{key}": value for key, value in course.options.items()}
        options |= {"env.max_turns": course.max_turns, "model.path": str(output)}
        options |= {"model.answer_format": "strict"}  # it was trained on the format
        words = [override_word(key, value) for key, value in options.items()]
        cfg = load_config(names[course.env_id], "ragen", words)
        results[course.env_id] = evaluate_policy(cfg, build_policy(cfg), episodes)
        console.print(result_table(course.env_id, {name: results[course.env_id]}))
    write_model_card(output, name, recipe, results)
