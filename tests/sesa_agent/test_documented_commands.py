"""Every command that a page shows can be typed, and those of the pages to begin with are run."""

import json
import re
import shutil
import subprocess
import sys
from importlib.util import find_spec

import gymnasium
import pytest

from sesa_agent.commands.compare import CompareOptions, comparison_arms
from sesa_agent.configs.load import env_names, load_config, method_names
from sesa_agent.configs.task_files import is_task_file
from sesa_agent.environments import make_env
from sesa_agent.evaluation.experiments.paper import EXPERIMENTS
from sesa_agent.evaluation.experiments.real_llm import REAL_LLM

from ..helpers.chat_server import serving
from ..helpers.collections import JAVA
from ..helpers.documented_commands import (
    PAGES,
    PLACEHOLDERS,
    ROOT,
    fenced_commands,
    inline_commands,
    parse,
    python_blocks,
    settings,
)
from ..helpers.sudokus import relabelled, write_csv

COMMANDS = [(page, words) for page in PAGES for words in fenced_commands(page)]
COMMANDS += [(page, words) for page in PAGES for words in inline_commands(page)]
PACKAGES = {
    "minigrid:": "minigrid",
    "reasoning_gym/": "reasoning_gym",
    "textarena/": "textarena",
    "gem/": "gem",
    "textworld/": "textworld",
    "textworld_express/": "textworld_express",
    "scienceworld/": "scienceworld",
    "babyai/": "minigrid",
    "openenv:": "openenv",
    "alfworld/": "alfworld",
}
"""What must be installed for the environments of a namespace."""
ELSEWHERE = ("my_game:", "openenv:", "alfworld/")
"""Environments that need more than a package: the game of `new-env` (test_new_env.py), a server, or
games to download (tests/environments/adapters)."""
RUN_PAGES = ("quickstart.md", "environments.md", "check-env.md")
SMALL = (
    "sampling.num_tasks=2",
    "sampling.num_proposals=2",
    "sampling.max_trajectories=3",
    "optim.checkpoint_every=1",
    "eval.episodes=2",
    "eval.final_episodes=4",
)
"""A run of a step takes a second or two."""


@pytest.fixture
def here(here, monkeypatch):
    """A folder with the files that the pages have the reader write."""
    monkeypatch.syspath_prepend(here)
    known = set(gymnasium.registry)
    for page in PAGES:
        for name, code in python_blocks(page).items():
            (here / f"{name}.py").write_text(code, encoding="utf-8")
    rows = [{"question": f"{n}?", "answer": n} for n in range(30)]
    (here / "tasks.jsonl").write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    modules = set(sys.modules)
    yield here
    for name in set(sys.modules) - modules:
        if str(here) in str(getattr(sys.modules[name], "__file__", "")):
            del sys.modules[name]
    for env_id in set(gymnasium.registry) - known:
        if not str(gymnasium.registry[env_id].entry_point).startswith("minigrid."):
            del gymnasium.registry[env_id]  # minigrid registers its games only once


def name_of(words):
    return re.sub(r"[^\w.-]+", "_", " ".join(words))[:60]


def preset_of_run(folder, method):
    """The environment and the method that a run folder is named after, or the usual ones."""
    for env in env_names():
        for name in method_names():
            if folder and folder.name == f"{env}-{name}-0":
                return env, method or name
    return "sokoban", method or "sesa"


def is_installed(words):
    """Whether the package of other people's games that a command needs is here."""
    line = " ".join(words)
    needed = [package for word, package in PACKAGES.items() if f" {word}" in f" {line}"]
    has_java = shutil.which("java") is not None or not {*needed} & {*JAVA}
    return has_java and all(find_spec(package) for package in needed)


def typed_commands():
    """The commands as cases; of the comparisons, which resolve many settings, one is not slow."""
    is_first = True
    for page, words in COMMANDS:
        marks = []
        if words[0] == "compare":
            marks, is_first = [] if is_first else [pytest.mark.slow], False
        yield pytest.param(page, words, id=f"{page.stem}-{name_of(words)}", marks=marks)


@pytest.mark.parametrize(("page", "words"), list(typed_commands()))
def test_a_documented_command_can_be_typed(page, words, here):
    params, command = parse(words), words[0]
    env, scale, method = (params.get(key) or "" for key in ("env", "scale", "method"))
    if command == "reproduce" and params["experiment"] != "NAME":
        assert params["experiment"] in {*EXPERIMENTS, REAL_LLM, "diversity"}
    if command == "compare" and env and env not in PLACEHOLDERS:
        names = ("methods", "ablate", "budget", "episodes")
        options = {name: params[name] for name in names}
        options |= {"num_seeds": params["seeds"], "overrides": settings(params), "scale": scale}
        assert comparison_arms(CompareOptions(env, **options))
    elif env in PLACEHOLDERS or not env:
        env, method = preset_of_run(params.get("resume"), method)
        load_config(env, method, settings(params), scale)
    else:
        cfg = load_config(env, method or "sesa", settings(params), scale)
        if env.startswith(ELSEWHERE):
            return
        if not is_installed(words):
            pytest.skip(f"{env} is not installed: make peers, or the extra minigrid")
        if is_task_file(env):
            make_env(cfg.env.id, **cfg.env.options, reward=params["reward"] or None)
            return
        files = {"path", "test_path", "broken_rows"}
        options = {key: value for key, value in cfg.env.options.items() if key not in files}
        make_env(cfg.env.id, **options)


def test_commands_are_found_on_the_pages():
    """So that the tests above cannot pass for want of commands."""
    per_page = {page.name: len(fenced_commands(page)) for page in PAGES}
    assert per_page["quickstart.md"] >= 14
    assert per_page["gpu.md"] >= 9
    assert ["train", "--resume", "runs/sokoban-sesa-0"] in fenced_commands(ROOT / "README.md")
    assert len(COMMANDS) >= 70


@pytest.mark.parametrize(
    "words", [["train", "--enw", "sokoban"], ["trian"], ["compare", "--jobs", "x"]]
)
def test_a_command_that_does_not_exist_is_not_parsed(words):
    with pytest.raises(Exception, match="(?i)no such|should be a valid"):
        parse(words)


def test_every_page_is_in_the_navigation():
    text = (ROOT / "zensical.toml").read_text(encoding="utf-8")
    named = re.findall(r'"([\w-]+\.md)"', text)
    assert sorted(named) == sorted(path.name for path in (ROOT / "docs").glob("*.md"))


def test_the_documentation_is_built_without_a_broken_link(tmp_path):
    pytest.importorskip("zensical", reason="zensical is not installed: make docs")
    shutil.copytree(ROOT / "docs", tmp_path / "docs")
    shutil.copy(ROOT / "zensical.toml", tmp_path)
    words = [sys.executable, "-m", "zensical", "build", "--strict"]
    answer = subprocess.run(words, cwd=tmp_path, capture_output=True, text=True, timeout=120)
    assert answer.returncode == 0, answer.stdout + answer.stderr
    assert "Quickstart" in (tmp_path / "site" / "quickstart.html").read_text(encoding="utf-8")


@pytest.fixture
def replaced(here, model, monkeypatch):
    """What the pages take for granted, by what they call it: a model, problems, an endpoint."""
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setenv("WANDB_MODE", "offline")
    problems = [json.dumps({"problem": f"1+{n}?", "answer": str(n + 1)}) for n in range(40)]
    (here / "train.jsonl").write_text("\n".join(problems[:20]), encoding="utf-8")
    (here / "test.jsonl").write_text("\n".join(problems[20:]), encoding="utf-8")
    with serving(lambda body: "Right") as server:
        write_csv(here / "sudoku-3m.csv", enumerate(map(relabelled, range(9))))
        yield {
            r"path/to/model|~/.*SmolLM2.*": str(model),
            r"dapo-math-17k.parquet": "train.jsonl",
            r"aime24.jsonl": "test.jsonl",
            r"https?://[\w.:]+/v1": server.url,
        }


def shrunk(words, replaced):
    """The command with what is here, and a run of a step."""
    if not find_spec("wandb"):
        words = [word for word in words if word != "log.to=wandb"]
    for what, by in replaced.items():
        words = [re.sub(what, by, word) for word in words]
    if words[0] == "evaluate":
        return [*words, "--episodes", "3"]
    if words[0] == "check-env":
        return [*words, "--episodes", "1"]
    if words[0] == "train":
        small = [*SMALL, *(["env.max_turns=1"] if "smollm2" in words else [])]
        return [*words, *(["--steps", "2"] if "--resume" in words else [*small, "--steps", "1"])]
    return words


@pytest.mark.slow
@pytest.mark.parametrize("name", RUN_PAGES)
def test_the_commands_of_a_page_run_one_after_another(
    name, sesa_agent, here, replaced, monkeypatch
):
    for words in filter(is_installed, fenced_commands(ROOT / "docs" / name)):
        if (here / "my_game").is_dir():
            monkeypatch.syspath_prepend(here / "my_game")  # as after `pip install -e my_game`
        if words[0] == "train" and "--resume" not in words:
            shutil.rmtree("runs", ignore_errors=True)  # a page has several runs of one name
        code, _, errors = sesa_agent(*shrunk(words, replaced))
        assert code == 0, (words, errors)
