"""`sesa-agent warm-start`: lessons, figures, the model folder, its card, and what is refused."""

import json
import re
import shlex
import signal
from pathlib import Path

import pytest
import yaml

from sesa_agent import warm_start
from sesa_agent.commands import warm_start as command
from sesa_agent.commands.warm_start_options import WarmStartOptions
from sesa_agent.configs.load import config_to_dict, load_config
from sesa_agent.environments.splits import puzzle_seeds
from sesa_agent.evaluation import warm_start as measuring
from sesa_agent.sampling.trajectory import ROOT, Task, TrajectoryTree
from sesa_agent.training.setup import build_policy, resolve_auto

from ...helpers.strategies import make_turn
from ...helpers.toy_game import ENV_ID

SMALL = ("--episodes", "2", "--lessons", "2", "engine.max_new_tokens=3", "env.max_turns=2")
SMALL = (*SMALL, "model.dtype=bfloat16")
"""Two lessons that take a second."""
START = ("warm-start", "--env", "sokoban")
CHAT = {"messages": [{"role": "user", "content": "Go"}, {"role": "assistant", "content": "Up"}]}


def weights(folder):
    return (Path(folder) / "model.safetensors").read_bytes()


@pytest.fixture
def run_folder(tmp_path, model):
    """A run whose saved trees hold one success and one failure of its model."""
    words = [f"model.path={model}", "engine.max_new_tokens=3"]
    cfg = resolve_auto(load_config("sokoban", "sesa", words))
    tokenizer = build_policy(cfg).tokenizer
    tree = TrajectoryTree(Task("sesa/Sokoban-v0", 1_000_000))
    for answer, won in (("<answer>Up</answer>", True), ("<answer>Down</answer>", False)):
        prompt, response = (tuple(tokenizer.encode(text)) for text in ("a state", answer))
        fields = {"prompt_ids": prompt, "response_ids": response, "response": answer}
        tree.add(ROOT, make_turn(**fields, success=won, terminated=True))
    folder = tmp_path / "run"
    (folder / "trees").mkdir(parents=True)
    (folder / "config.yaml").write_text(yaml.safe_dump(config_to_dict(cfg)))
    (folder / "trees" / "step-000001.json").write_text(json.dumps([tree.to_json()]))
    return folder


@pytest.mark.usefixtures("wide_screen")
def test_it_writes_a_model_that_can_be_used_at_once(call, model):
    code, out, err = call(*START, "--model", model, *SMALL)
    assert code == 0, err
    folder = Path("warm") / f"sokoban-{model.name}"
    assert "taught by its scripted player" in out
    assert "sesa/Sokoban-v0: 2 validation puzzles, 8 attempts each, T = 1" in out
    assert re.search(r"before.*│.*\n.*after", out) and "pass@8" in out and "entropy (nats)" in out
    assert "Stopped after 2 lessons of 16 moves: " in out
    assert f"sesa-agent train --env sokoban --model {folder} engine.max_new_tokens=3" in out
    files = {path.name for path in folder.iterdir()}
    assert {"README.md", "config.json", "model.safetensors", "tokenizer.json"} <= files
    assert "chat_template.jinja" in files
    assert json.loads((folder / "config.json").read_text())["dtype"] == "bfloat16"
    words = ("--env", "sokoban", "--episodes", "2", "engine.max_new_tokens=3", "env.max_turns=2")
    assert call("evaluate", folder, *words)[0] == 0


def test_the_card_says_where_the_model_comes_from(call, model):
    call(*START, "--model", model, *SMALL, "--seed", "3")
    card = (Path("warm") / f"sokoban-{model.name}" / "README.md").read_text()
    assert f"{model} after a warm start for sesa/Sokoban-v0: 2 supervised lessons" in card
    assert "taught by its scripted player" in card and "| before |" in card and "| after |" in card
    [line] = re.findall(r"^sesa-agent .*", card, flags=re.MULTILINE)
    words = ["warm-start", "--env", "sokoban", "--lessons", "2", "--episodes", "2", "--seed", "3"]
    words += [*SMALL[4:], f"model.path={model}"]
    assert shlex.split(line)[1:] == words


def test_the_command_on_the_card_makes_the_same_model(call, model):
    call(*START, "--model", model, *SMALL, "--output", "one")
    [line] = re.findall(r"^sesa-agent .*", Path("one/README.md").read_text(), flags=re.MULTILINE)
    assert call(*shlex.split(line)[1:], "--output", "two")[0] == 0
    assert weights("one") == weights("two") != weights(model)


def test_no_held_out_puzzle_is_played(call, model, monkeypatch):
    played = set()
    reset = measuring.evaluate

    def recorded(engine, dialogue, env_id, seeds, *rest):
        played.update(seeds)
        return reset(engine, dialogue, env_id, seeds, *rest)

    monkeypatch.setattr(measuring, "evaluate", recorded)
    call(*START, "--model", model, *SMALL)
    assert played >= set(puzzle_seeds("validation", 2)) | set(puzzle_seeds("training", 2))
    assert min(played) >= 100_000  # test has the seeds below


def test_it_learns_from_chats(call, model):
    Path("chats.jsonl").write_text(json.dumps(CHAT))
    code, out, err = call(*START, "--model", model, "--chats", "chats.jsonl", *SMALL)
    assert code == 0, err
    assert "taught by the chats in chats.jsonl" in out


def test_it_learns_from_a_run_with_the_run_s_own_model(call, model, run_folder):
    code, out, err = call("warm-start", "--from", run_folder, *SMALL)
    assert code == 0, err
    assert f"taught by the successes of {run_folder}" in out
    folder = Path("warm") / f"sesa-Sokoban-v0-{model.name}"
    assert weights(folder) != weights(model)
    assert f"--env sokoban --model {folder}" in " ".join(out.split())


def test_a_run_of_another_tokenizer_is_refused(call, run_folder):
    code, _, err = call("warm-start", "--from", run_folder, "--model", "sesa-tiny", *SMALL)
    assert code == 2
    assert "was sampled with another tokenizer than that of --model sesa-tiny" in err


def test_a_run_without_a_success_is_refused(call, run_folder):
    file = run_folder / "trees" / "step-000001.json"
    file.write_text(file.read_text().replace('"success": true', '"success": false'))
    code, _, err = call("warm-start", "--from", run_folder, *SMALL)
    assert (code, err.count("\n")) == (2, 1)
    assert "has no success among its 1 saved trees" in err


MISTAKES = {
    "no environment": ((), "--env must be given without --from, got ''. Try --env sokoban."),
    "an environment that is unknown": (("--env", "sokban"), "sokoban"),
    "no lessons": (("--lessons", "0"), "--lessons must be from 1 to 10000, got 0"),
    "more than everything": (("--readable", "1.5"), "--readable must be above 0 and at most 1"),
    "a negative entropy": (("--min-entropy", "-1"), "--min-entropy must be at least 0, in nats"),
    "no rate": (("--lr", "0"), "--lr must be above 0 and below 1, got 0.0. Try 1e-4."),
    "no puzzles": (("--episodes", "0"), "--episodes must be at least 1"),
    "too many puzzles": (("--episodes", "100001"), "100000 of the validation puzzles"),
    "a seed below zero": (("--seed", "-1"), "--seed must be 0 or more"),
    "two sources": (
        ("--chats", "x.jsonl", "--from", "y"),
        "--from must be left out with --chats, got 'y'. The lessons come from one source.",
    ),
    "no run": (("--from", "nothing"), "--from nothing is not a run folder: it has no config.yaml"),
    "a folder in use": (("--output", "full"), "--output must be a new or empty folder, got 'full'"),
    "a file as folder": (("--output", "full/file"), "--output full/file is not writable"),
    "two names of a model": (("--model", "a", "model.path=b"), "model.path is set by --model"),
    "another model's environment": (
        ("--env", ENV_ID),
        f"--env {ENV_ID} has no scripted player to learn from. Teach with --chats FILE.jsonl or",
    ),
    "no chats": (("--chats", "nothing.jsonl"), "--chats nothing.jsonl cannot be read: No such"),
}


@pytest.mark.parametrize(("words", "hint"), MISTAKES.values(), ids=MISTAKES)
def test_a_mistake_is_one_line(call, monkeypatch, words, hint):
    Path("full").mkdir()
    Path("full/file").touch()
    env = () if not words or "--env" in words else ("--env", "sokoban")
    code, out, err = call("warm-start", *env, *words)
    assert (code, err.count("\n")) == (2, 1), err
    assert hint in err and not Path("warm").exists()


@pytest.fixture
def interrupting(monkeypatch):
    """Ctrl-C comes after a lesson, or before the first one."""

    def at(lesson):
        give = command.give_lessons

        def give_lessons(policy, moves, optim, rule, measure, watch):
            def watched(given):
                if given.number == lesson:
                    signal.raise_signal(signal.SIGINT)
                return watch(given)

            return give(policy, moves, optim, rule, measure, watched)

        monkeypatch.setattr(command, "give_lessons", give_lessons)

    return at


def test_ctrl_c_writes_what_there_is_and_says_so(call, model, interrupting):
    interrupting(1)
    code, out, _ = call(*START, "--model", model, *SMALL, "--output", "out")
    out = " ".join(out.split())
    assert code == 0
    assert "Stopped after 1 lesson of 16 moves: it was interrupted." in out
    assert "Wrote the model as it was then to out." in out
    assert weights("out") != weights(model)
    card = Path("out/README.md").read_text()
    assert "they ended because it was interrupted" in card.lower() and "| after |" not in card


def test_ctrl_c_before_the_first_lesson_writes_nothing(call, model, monkeypatch):
    measure = command.measure_answers

    def interrupted(*args):
        signal.raise_signal(signal.SIGINT)
        return measure(*args)

    monkeypatch.setattr(command, "measure_answers", interrupted)
    code, out, _ = call(*START, "--model", model, *SMALL, "--output", "out")
    assert code == 130
    assert "nothing was written" in " ".join(out.split()) and not Path("out").exists()


def test_a_rate_that_is_too_high_is_named(call, model, monkeypatch):
    def give_lessons(*args):
        raise FloatingPointError("gradients")

    monkeypatch.setattr(command, "give_lessons", give_lessons)
    code, _, err = call(*START, "--model", model, *SMALL, "--lr", "0.9")
    assert code == 2
    assert "--lr 0.9 is too high: gradients are not finite. Lower it" in err


def test_from_python_it_is_that_of_the_command(call, model, capsys):
    call(*START, "--model", model, *SMALL, "--output", "one")
    settings = [*SMALL[4:]]
    found = warm_start("sokoban", model, lessons=2, episodes=2, output="two", settings=settings)
    assert capsys.readouterr().out == ""
    assert (found.folder, found.lessons) == (Path("two"), 2) and found.after is not None
    assert weights("one") == weights("two")


@pytest.mark.smollm
@pytest.mark.slow
@pytest.mark.usefixtures("one_thread", "here")
def test_a_few_lessons_make_a_real_model_answer(smollm2):
    words = [f"model.path={smollm2}", "model.device=cpu", "env.options.max_number=10"]
    options = WarmStartOptions("countdown", lessons=2, episodes=4, output=Path("out"))
    result = command.run_warm_start(options, words)
    before, after = result.before, result.after
    assert after is not None and before.readable_rate < 0.1 < after.readable_rate
    assert (after.answer_entropy or 0.0) < (before.answer_entropy or 0.0)
