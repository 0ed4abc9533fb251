"""The command line. Each command imports its work when it is called, so `--help` answers at once.

What a user got wrong is one line and exit code 2; anything else that raises is a bug and shows its
traceback.
"""

import os
import sys
import time
from pathlib import Path
from typing import Annotated

import typer

from sesa_agent import __version__
from sesa_agent.agents.engines.base import EngineError
from sesa_agent.configs.errors import SettingError, check

app = typer.Typer(
    help="Train LLM agents in text games, with sequential instead of parallel exploration (SESA).",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
)

Overrides = Annotated[
    list[str] | None,
    typer.Argument(metavar="[KEY=VALUE]...", help="Settings, as optim.lr=3e-4 (docs/settings.md)."),
]
FIRST_TELLS_S = 30
"""The processes of torchrun mostly fail alike: the first tells, and torchrun then ends the others.
They tell it themselves if they are still there after this time."""
API_PANEL = "With api:MODEL"
EnvName = Annotated[str, typer.Option(help="A short name, or a Gymnasium id (module:Name-v0).")]
ScaleName = Annotated[
    str, typer.Option(help="Preset of a real model and its machine, as 0.5b-1gpu (docs/gpu.md).")
]


def main() -> None:
    """Run the command line."""
    # Threads that wait by spinning bring a shared machine to a standstill; read when torch loads.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    sys.path.append(os.getcwd())  # --env my_file:MyGame-v0, wherever the command is installed
    try:
        app()
    except (SettingError, EngineError) as error:
        if os.environ.get("LOCAL_RANK", "0") != "0":
            time.sleep(FIRST_TELLS_S)
        typer.echo(f"sesa-agent: {error}", err=True)
        raise SystemExit(2 if isinstance(error, SettingError) else 1) from None


def show_version(wanted: bool) -> None:
    """Print the version and end, if that was asked for."""
    if wanted:
        typer.echo(f"sesa-agent {__version__}")
        raise typer.Exit


@app.callback()
def options(
    version: Annotated[
        bool,
        typer.Option("--version", help="Show the version.", callback=show_version, is_eager=True),
    ] = False,
) -> None:
    """What can stand before a command."""


@app.command()
def train(
    overrides: Overrides = None,
    env: EnvName = "",
    method: Annotated[
        str,
        typer.Option(
            help="Preset: sesa (default), sesa-paper, ragen, ragen-entropy, dapo or another "
            "of docs/settings.md."
        ),
    ] = "",
    scale: ScaleName = "",
    model: Annotated[str, typer.Option(help="Folder or hub name of a causal LM.")] = "",
    steps: Annotated[int | None, typer.Option(help="Rollout-and-update steps.")] = None,
    seed: Annotated[int | None, typer.Option(help="Seed of everything random.")] = None,
    output: Annotated[Path | None, typer.Option(help="Run folder; runs/... by default.")] = None,
    resume: Annotated[Path | None, typer.Option(help="Run folder to go on with.")] = None,
) -> None:
    """Train a policy: sesa-agent train --env sokoban."""
    from sesa_agent.commands.train import run_training
    from sesa_agent.runs import new_run, resumed_run

    typed = list(overrides or [])
    named = {"model.path": model or None, "optim.steps": steps, "seed": seed}
    typed += [f"{key}={value}" for key, value in named.items() if value is not None]
    if resume is not None:
        check(output is None, "--output", str(output), "left out with --resume")
        check(not scale, "--scale", scale, "left out with --resume", "A run keeps its own.")
        run_training(*resumed_run(resume, env, method, typed))
    else:
        run_training(*new_run(env, method or "sesa", typed, output, scale))


@app.command()
def evaluate(
    target: Annotated[
        str,
        typer.Argument(
            metavar="RUN_OR_MODEL", help="Run folder, model, or api:MODEL of an endpoint."
        ),
    ],
    overrides: Overrides = None,
    env: EnvName = "",
    episodes: Annotated[int, typer.Option(help="Held-out puzzles.")] = 1024,
    samples: Annotated[int, typer.Option(help="Attempts at each puzzle, for pass@k.")] = 1,
    k: Annotated[
        str, typer.Option(help="The k of pass@k, as 1,5,10; by default 1, 2, 4, ... and --samples.")
    ] = "",
    temperature: Annotated[
        float | None, typer.Option(help="Sampling temperature; .5 by default.")
    ] = None,
    seed: Annotated[int, typer.Option(help="Seed of the draws.")] = 0,
    json_file: Annotated[Path | None, typer.Option("--json", help="Write the result here.")] = None,
    base_url: Annotated[
        str, typer.Option(help="As http://localhost:8000/v1.", rich_help_panel=API_PANEL)
    ] = "",
    api_key_env: Annotated[
        str, typer.Option(help="Environment variable of the key.", rich_help_panel=API_PANEL)
    ] = "OPENAI_API_KEY",
    concurrency: Annotated[
        int, typer.Option(help="Requests at the same time.", rich_help_panel=API_PANEL)
    ] = 8,
    requests_per_minute: Annotated[
        float, typer.Option(help="At most; 0 for no limit.", rich_help_panel=API_PANEL)
    ] = 0.0,
    timeout: Annotated[
        float, typer.Option(help="Seconds for one answer.", rich_help_panel=API_PANEL)
    ] = 60.0,
    request: Annotated[
        str,
        typer.Option(
            help="JSON laid over every request; null takes a field out.", rich_help_panel=API_PANEL
        ),
    ] = "",
    price_in: Annotated[
        float, typer.Option(help="Per million prompt tokens.", rich_help_panel=API_PANEL)
    ] = 0.0,
    price_out: Annotated[
        float, typer.Option(help="Per million response tokens.", rich_help_panel=API_PANEL)
    ] = 0.0,
) -> None:
    """Measure the success of a trained run, or of any model, on held-out puzzles."""
    from sesa_agent.commands.evaluate import run_evaluation
    from sesa_agent.commands.evaluate_api import ApiOptions

    typed = list(overrides or [])
    typed += [f"eval.temperature={temperature}"] if temperature is not None else []
    api = ApiOptions(
        base_url=base_url,
        key_env=api_key_env,
        concurrency=concurrency,
        requests_per_minute=requests_per_minute,
        timeout_s=timeout,
        request=request,
        price_in=price_in,
        price_out=price_out,
    )
    run_evaluation(target, env, typed, episodes, samples, k, seed, json_file, api)


@app.command()
def compare(
    words: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[RUN]... | [KEY=VALUE]...",
            help="Finished run folders, or with --env settings of all arms.",
        ),
    ] = None,
    env: EnvName = "",
    scale: ScaleName = "",
    methods: Annotated[
        str,
        typer.Option(help="Arms, as base,ragen,sesa; by default those of the paper's Table 1."),
    ] = "",
    ablate: Annotated[
        bool, typer.Option("--ablate", help="Instead: sesa with one ingredient changed at a time.")
    ] = False,
    seeds: Annotated[
        int | None, typer.Option(help="N for the seeds 0 to N-1; 5 for sokoban, else 3.")
    ] = None,
    budget: Annotated[
        str,
        typer.Option(help="Of every arm: calls=N, tokens=N, env_steps=N or seconds=N."),
    ] = "",
    episodes: Annotated[int, typer.Option(help="Held-out puzzles.")] = 1024,
    reference: Annotated[
        str, typer.Option(help="The arm that the others are tested against; sesa by default.")
    ] = "",
    jobs: Annotated[
        int | None,
        typer.Option(help="Runs at a time, of one thread each: 2, or with --scale 1."),
    ] = None,
    output: Annotated[Path, typer.Option(help="Folder of the results.")] = Path("results"),
    runs: Annotated[Path, typer.Option(help="Folder of the training runs.")] = Path("runs/compare"),
) -> None:
    """Compare methods at one budget, or finished runs: sesa-agent compare --env sokoban."""
    from sesa_agent.commands.compare import comparison_arms, run_comparison
    from sesa_agent.commands.compare_runs import compare_runs
    from sesa_agent.commands.experiment_files import file_name

    folders = [Path(word) for word in words or [] if "=" not in word or Path(word).is_dir()]
    if folders:
        options = {
            "--env": env,
            "--scale": scale,
            "--methods": methods,
            "--ablate": ablate,
            "--budget": budget,
            "--seeds": seeds,
        }
        settings = [word for word in words or [] if Path(word) not in folders]
        for option, value in {**options, "KEY=VALUE": settings}.items():
            check(not value, option, value, "left out with run folders")
        compare_runs(folders, episodes, reference, output)
        return
    check(bool(env), "--env", env, "given, or two run folders or more", "Try --env sokoban.")
    settings = words or []
    arms = comparison_arms(env, methods, ablate, seeds, budget, episodes, settings, scale)
    name = file_name(env)
    parts = [name, *([scale] if scale else []), *(["ablation"] if ablate else [])]
    results_name = "-".join(parts)
    jobs = jobs if jobs is not None else 1 if scale else 2  # a GPU has room for one
    run_comparison(arms, results_name, reference, jobs, output, runs / name)


@app.command()
def envs(
    collection: Annotated[
        str,
        typer.Argument(metavar="[COLLECTION]", help="All ids of reasoning_gym, textarena or gem."),
    ] = "",
) -> None:
    """List the environments that come with the package, and the collections that can be added."""
    from sesa_agent.commands.envs import run_envs

    run_envs(collection)


@app.command("check-env")
def check_env(
    env: Annotated[
        str, typer.Argument(metavar="ID", help="A short name, or a Gymnasium id (module:Name-v0).")
    ],
    overrides: Overrides = None,
    action: Annotated[
        list[str] | None,
        typer.Option(help="A text to play; again for more. By default what the game lists."),
    ] = None,
    episodes: Annotated[int, typer.Option(help="Puzzles that each check plays.")] = 3,
    seed: Annotated[int, typer.Option(help="The first puzzle.")] = 0,
    model: Annotated[str, typer.Option(help="Tell lengths in the tokens of this model too.")] = "",
) -> None:
    """Check an environment and say what to do about each failure; exit code 1 if there is one."""
    from sesa_agent.commands.check_env import run_check_env

    if not run_check_env(env, list(overrides or []), action or [], episodes, seed, model):
        raise typer.Exit(1)


@app.command("new-env")
def new_env(
    name: Annotated[str, typer.Argument(metavar="NAME", help="Of the package, as my_game.")],
    folder: Annotated[Path, typer.Option(help="Where the package's folder goes.")] = Path("."),
) -> None:
    """Write a small package with a game of your own, ready to train: sesa-agent new-env my_game."""
    from sesa_agent.commands.new_env import run_new_env

    run_new_env(name, folder)


@app.command()
def doctor(
    overrides: Overrides = None,
    model: Annotated[str, typer.Option(help="Folder or hub name; no weights are loaded.")] = "",
    env: EnvName = "",
    method: Annotated[str, typer.Option(help="Preset, as for train.")] = "",
    scale: ScaleName = "",
    gpu_gb: Annotated[
        float,
        typer.Option(help="Ask for a GPU of this size, in GB (10^9 bytes), that need not be here."),
    ] = 0.0,
) -> None:
    """Show what this machine can use and whether a run would fit into its memory."""
    from sesa_agent.commands.doctor import run_doctor

    run_doctor(model, env, method, list(overrides or []), scale, gpu_gb)


@app.command()
def report(
    source: Annotated[
        Path, typer.Argument(metavar="RUN|COMPARISON", help="Run folder, or results/NAME.json.")
    ],
    output: Annotated[
        Path | None, typer.Option(help="The page; beside what it is about by default.")
    ] = None,
    png: Annotated[Path | None, typer.Option(help="Folder for its pictures as PNG.")] = None,
    runs: Annotated[
        Path, typer.Option(help="Where the run folders of a comparison lie; they show more.")
    ] = Path("runs"),
) -> None:
    """Write a run or a comparison as one HTML page: sesa-agent report runs/sokoban-sesa-0."""
    from sesa_agent.commands.report import run_report

    run_report(source, output, png, runs)


@app.command()
def view(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="Run folder.")],
    step: Annotated[
        int | None, typer.Option(help="The step to begin with; the newest by default.")
    ] = None,
    output: Annotated[
        Path | None, typer.Option(help="The page; RUN/trees.html by default.")
    ] = None,
    opens: Annotated[bool, typer.Option("--open", help="Show the page in a browser.")] = False,
    in_terminal: Annotated[
        bool, typer.Option("--terminal", help="Print the trees of the step instead, as over ssh.")
    ] = False,
) -> None:
    """Write the saved trees of a run as one HTML page to walk through: sesa-agent view RUN."""
    from sesa_agent.commands.view import run_view

    run_view(run, step, output, opens, in_terminal)


@app.command()
def play(
    overrides: Overrides = None,
    env: EnvName = "",
    policy: Annotated[
        str, typer.Option(metavar="RUN", help="Watch it play: a run folder, or a model.")
    ] = "",
    seed: Annotated[int, typer.Option(help="The first puzzle.")] = 0,
    delay: Annotated[
        float | None,
        typer.Option(help="Seconds between the turns of a policy; without, it waits for a key."),
    ] = None,
) -> None:
    """Play a game yourself, or watch a policy play: sesa-agent play --env sokoban."""
    from sesa_agent.commands.play import run_play

    run_play(env, list(overrides or []), policy, seed, delay)


@app.command()
def pretrain(
    model: Annotated[
        str, typer.Argument(metavar="[MODEL]", help="sesa-tiny or sesa-tiny-answers.")
    ] = "sesa-tiny",
    output: Annotated[
        Path | None, typer.Option(help="Where the model goes; a folder of its name by default.")
    ] = None,
    steps: Annotated[
        int | None, typer.Option(help="Optimiser steps; the recipe's by default.")
    ] = None,
    seed: Annotated[int, typer.Option(help="Seed of weights and data.")] = 0,
    episodes: Annotated[int, typer.Option(help="Puzzles per game for the model card.")] = 2000,
) -> None:
    """Make a bundled model anew: train it on scripted play, measure it, write its card."""
    from sesa_agent.commands.pretrain import run_pretraining

    run_pretraining(model, output, steps, seed, episodes)


@app.command()
def reproduce(
    experiment: Annotated[
        str, typer.Argument(help="path-exploration, diversity, sudoku, math, agents or rescue.")
    ],
    overrides: Overrides = None,
    model: Annotated[str, typer.Option(help="Folder or hub name of a causal LM.")] = "",
    seeds: Annotated[str, typer.Option(help="Seeds, as 0,1,2; 3 by default, 5 in Sokoban.")] = "",
    quick: Annotated[bool, typer.Option("--quick", help="A part of it, one seed.")] = False,
    jobs: Annotated[int, typer.Option(help="Runs at a time, of one thread each.")] = 2,
    output: Annotated[Path, typer.Option(help="Folder of tables and plots.")] = Path("results"),
    runs: Annotated[Path, typer.Option(help="Folder of the training runs.")] = Path(
        "runs/reproduce"
    ),
) -> None:
    """Run what a figure or table of the paper compares: sesa-agent reproduce path-exploration."""
    from sesa_agent.commands.reproduce import run_reproduction

    typed = list(overrides or [])
    run_reproduction(experiment, model, seeds, quick, jobs, output, runs, typed)
