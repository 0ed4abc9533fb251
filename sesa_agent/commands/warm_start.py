"""`sesa-agent warm-start`: a short supervised start that makes a model answer readably.

The lessons are moves of the environment's scripted player, chats of a file, or what succeeded in a
run (`training/lessons.py`). The result is a model folder, ready for `--model`. Nothing here plays a
held-out puzzle: figures are those of validation puzzles, and lessons end by training puzzles.
"""

import random
import shlex
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from sesa_agent.agents.response_text import ResponseDecoder
from sesa_agent.commands.train import stop_on_interrupt
from sesa_agent.commands.warm_start_options import WarmStartOptions
from sesa_agent.commands.warm_start_result import NUM_SAMPLES, WarmStart, start_table, write_card
from sesa_agent.configs.errors import SettingError, check
from sesa_agent.configs.load import load_config, short_env_name
from sesa_agent.configs.schema import Config
from sesa_agent.configs.writing import writing
from sesa_agent.environments.ood_sets import refuse_ood_set
from sesa_agent.environments.workers.pool import close_pools
from sesa_agent.evaluation.evaluate import Evaluation
from sesa_agent.evaluation.warm_start import check_answers, lesson_optim, measure_answers
from sesa_agent.outputs import check_writable
from sesa_agent.run_files import newest_trees
from sesa_agent.runs import env_label, read_run
from sesa_agent.screen import console, progress_bar, say, say_success, show_number
from sesa_agent.training.lessons import (
    Move,
    chat_of,
    check_player,
    mixed,
    played_moves,
    read_chats,
    repeated,
    successful_moves,
)
from sesa_agent.training.prompt_choices import describe_choice
from sesa_agent.training.setup import (
    Agent,
    build_agent,
    build_chat,
    resolve_auto,
    settle_prompts,
)
from sesa_agent.training.warm_start import LESSON_MOVES, Lesson, give_lessons


def run_warm_start(options: WarmStartOptions, overrides: list[str]) -> WarmStart:
    """Give a model its lessons, measure it before and after, and write it with a model card.

    Args:
        options: what to teach.
        overrides: `group.key=value` words.

    Raises:
        SettingError: in one line, for a user error.
        KeyboardInterrupt: if it is interrupted before the first lesson is over.
    """
    options.check()
    cfg = _settings(options, overrides)
    folder = _output(options, cfg)
    try:
        with stop_on_interrupt() as interrupt:
            return _run(options, cfg, folder, overrides, interrupt)
    finally:
        close_pools()


def _settings(options: WarmStartOptions, overrides: list[str]) -> Config:
    """The settings that training would have, sampled at T = 1."""
    if options.run:
        cfg = read_run(options.run, options.env, "", overrides)
    else:
        has_dtype = any(word.startswith("model.dtype=") for word in overrides)
        words = overrides if has_dtype else ["model.dtype=auto", *overrides]
        cfg = resolve_auto(load_config(options.env, "sesa", words))
    refuse_ood_set(cfg)
    return replace(cfg, engine=replace(cfg.engine, temperature=1.0))


def _output(options: WarmStartOptions, cfg: Config) -> Path:
    """The folder to write, which must be new or empty."""
    name = f"{env_label(options.env or cfg.env.id)}-{Path(cfg.model.path).name}"
    folder = options.output or Path("warm") / name
    check_writable(folder, "--output")
    is_free = not folder.exists() or (folder.is_dir() and not any(folder.iterdir()))
    check(is_free, "--output", str(folder), "a new or empty folder", "Choose another one.")
    return folder


def _run(
    options: WarmStartOptions, cfg: Config, folder: Path, words: list[str], interrupt: list[int]
) -> WarmStart:
    """`run_warm_start` with checked settings; `interrupt` is not empty after Ctrl-C."""
    agent = build_agent(cfg)
    settled = settle_prompts(cfg, build_chat(cfg, agent.policy))
    model = f"{cfg.model.path} ({cfg.model.dtype})"
    say(f"warm start of {model} for {cfg.env.id}, taught by {options.source}")
    say_success(cfg)
    if choice := describe_choice(cfg, settled):
        say(choice)
    rng = random.Random(options.seed)
    moves = _moves(options, cfg, agent, rng)
    before = _measure_start(agent, cfg, options, "before")
    number, reason = _teach(agent, cfg, options, moves, interrupt)
    if not number:
        say("Stopped before the first lesson was over: nothing was written.")
        raise KeyboardInterrupt
    with writing(folder):
        agent.policy.save(folder)
    after = _measure_start(agent, cfg, options, "after") if reason else None
    result = WarmStart(folder, number, reason or "it was interrupted", before, after)
    write_card(result, cfg.model.path, cfg.env.id, options.source, options.command(words))
    console.print(start_table(cfg.env.id, result.results))
    state = "" if reason else " as it was then"
    lessons = f"{number} lesson{'s' if number > 1 else ''} of {LESSON_MOVES} moves"
    say(f"Stopped after {lessons}: {result.reason}.")
    say(f"Wrote the model{state} to {folder}.")
    say(f"Train it: {_next_command(options, cfg, result, words)}")
    return result


def _next_command(
    options: WarmStartOptions, cfg: Config, result: WarmStart, words: list[str]
) -> str:
    env = options.env or short_env_name(cfg.env.id)
    same = [word for word in words if not word.startswith(("model.path=", "env.options.reward="))]
    start = ["sesa-agent", "train", "--env", env, "--model", str(result.folder)]
    return shlex.join([*start, *same])


def _moves(
    options: WarmStartOptions, cfg: Config, agent: Agent, rng: random.Random
) -> Iterator[Move]:
    """The moves to teach, without end."""
    if options.chats:
        chat, config = build_chat(cfg, agent.policy), agent.policy.model.config
        positions = getattr(config, "max_position_embeddings", None)
        limit = cfg.engine.max_prompt_tokens + cfg.engine.max_new_tokens
        return repeated(read_chats(options.chats, chat, positions or limit), rng)
    if options.run:
        return repeated(_moves_of_run(options.run, cfg, agent), rng)
    check_player(agent.dialogue, cfg.env.id)
    return mixed(played_moves(agent.dialogue, cfg.env.id, rng), rng)


def _moves_of_run(run: Path, cfg: Config, agent: Agent) -> list[Move]:
    """What succeeded in the saved trees of a run."""
    trees = [tree for _, tree in newest_trees(run)]
    moves = successful_moves(trees)
    if not moves:
        raise SettingError(
            f"--from {run} has no success among its {len(trees)} saved trees. Train it longer, or "
            "choose another run."
        )
    decoder = ResponseDecoder(chat_of(agent.dialogue).tokenizer)
    turns = (turn for tree in trees for turn in tree.turns)
    if any(decoder.text(turn.response_ids) != turn.response for turn in turns):
        raise SettingError(
            f"--from {run} was sampled with another tokenizer than that of --model "
            f"{cfg.model.path}. Leave out --model, or choose one with the run's tokenizer."
        )
    return moves


def _teach(
    agent: Agent,
    cfg: Config,
    options: WarmStartOptions,
    moves: Iterator[Move],
    interrupt: list[int],
) -> tuple[int, str]:
    """Give the lessons with a progress bar; their number, and why they ended ("": interrupted)."""
    if interrupt:
        return 0, ""
    with progress_bar() as bar:
        task = bar.add_task("teaching", total=options.lessons, success="")

        def watch(lesson: Lesson) -> bool:
            shown = f"loss {lesson.loss:.2f}"
            if lesson.measured:
                shown += f", {lesson.measured.readable_rate:.0%} readable"
            name = f"lesson {lesson.number}/{options.lessons}"
            bar.update(task, completed=lesson.number, description=name, success=shown)
            return bool(interrupt)

        def measure() -> Evaluation:
            result = check_answers(agent, cfg, options.seed)
            number = round(bar.tasks[0].completed)
            bar.console.print(_describe(number, result), highlight=False)
            return result

        try:
            return give_lessons(
                agent.policy, moves, lesson_optim(cfg, options.lr), options.rule, measure, watch
            )
        except FloatingPointError as error:
            raise SettingError(
                f"--lr {options.lr:g} is too high: {error} are not finite. Lower it; nothing was "
                "written."
            ) from error


def _describe(number: int, result: Evaluation) -> str:
    """One line about a measurement between lessons."""
    return (
        f"lesson {number:3d}  readable {result.readable_rate:.2f}  success "
        f"{result.success_rate:.2f}  entropy {show_number(result.answer_entropy)} nats"
    )


def _measure_start(agent: Agent, cfg: Config, options: WarmStartOptions, when: str) -> Evaluation:
    """The figures before or after, on validation puzzles."""
    with console.status(f"measuring {options.episodes} validation puzzles {when} the lessons"):
        return measure_answers(
            agent, cfg, "validation", options.episodes, NUM_SAMPLES, options.seed
        )
