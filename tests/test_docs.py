"""The pages say what the code does."""

import json
import re
import runpy
import sys
from functools import partial
from pathlib import Path

import pytest

from sesa_agent.agents.chat import ChatFormat
from sesa_agent.configs.load import load_config
from sesa_agent.environments import check_text_env, make_env
from sesa_agent.evaluation.validation import validate
from sesa_agent.sampling.dialogue import Dialogue
from sesa_agent.sampling.trajectory import Task
from sesa_agent.training.setup import resolve_auto
from sesa_agent.training.trainer import open_session, train

from .helpers.documented_commands import python_blocks
from .helpers.tiny_models import chatml_tokenizer
from .helpers.toy_game import ENV_ID

DOCS = Path(__file__).parents[1] / "docs"
SMALL = ("sampling.num_tasks=6", "optim.steps=2", "eval.every=2", "eval.episodes=8")
SMALL = (*SMALL, "engine.max_new_tokens=2", "loss.kl_coef=0.01", "eval.samples=2")
SMALL = (*SMALL, "sampling.proposer=history")


def read(page: str) -> str:
    return (DOCS / page).read_text(encoding="utf-8")


def run(env: str, model: Path, folder: Path, *settings: str) -> list[dict[str, float]]:
    cfg = resolve_auto(load_config(env, "sesa", [f"model.path={model}", *SMALL, *settings]))
    train(open_session(resolve_auto(cfg), folder), partial(validate, cfg))
    return [json.loads(text) for text in (folder / "metrics.jsonl").read_text().splitlines()]


def test_settings_are_up_to_date():
    page = runpy.run_path(str(DOCS.parent / "scripts" / "generate_settings.py"))["settings_page"]()
    assert read("settings.md") == page, "Run `python scripts/generate_settings.py`."


def test_every_metric_is_explained_and_every_explained_metric_is_written(llama, tmp_path):
    settings = ("env.options.num_targets=1", "loss.exploration=adaptive_entropy")
    lines = run(ENV_ID, llama, tmp_path / "adaptive", *settings)
    lines += run(ENV_ID, llama, tmp_path / "kl_cov", "loss.exploration=kl_cov")
    lines += run(ENV_ID, llama, tmp_path / "parallel", "sampling.name=parallel")
    names = {name.replace("_at_2", "_at_K") for line in lines for name in line}
    written = {re.sub(r"^(gap/proposal_)\d+", r"\1N", name) for name in names}
    explained = set(re.findall(r"^\| `([\w/]+)` \|", read("metrics.md"), flags=re.MULTILINE))
    assert explained == written | {"rollout/lag"}  # needs a server: `test_lag.py`


def test_the_prompts_of_the_method_are_the_real_ones():
    tokenizer = chatml_tokenizer()
    dialogue = Dialogue(lambda: make_env("sesa/Sokoban-v0"), ChatFormat(tokenizer))
    start = dialogue.start(Task("sesa/Sokoban-v0", 0))
    prompts = (start.prompt_ids, dialogue.proposal_prompt(start, ["Up", "Left"]).prompt_ids)
    blocks = re.findall(r"```\n(.*?)\n```", read("method.md"), flags=re.DOTALL)
    assert len(blocks) == 2
    for prompt, block in zip(prompts, blocks, strict=True):
        assert block + "<|im_end|>" in tokenizer.decode(prompt)


def test_the_environment_of_the_quickstart_can_be_trained(llama, tmp_path, monkeypatch):
    code = re.search(r"```python\n(.*?)```", read("quickstart.md"), flags=re.DOTALL)
    assert code
    (tmp_path / "guess.py").write_text(code[1], encoding="utf-8")
    monkeypatch.syspath_prepend(tmp_path)
    assert len(run("guess:Guess-v0", llama, tmp_path / "run")) == 2
    sys.modules.pop("guess")


@pytest.mark.parametrize("name", ["treasure:Treasure-v0", "my_taxi:MyTaxi-v0"])
def test_the_environments_of_the_page_keep_the_contract_and_can_be_trained(
    name, llama, tmp_path, monkeypatch
):
    module = name.partition(":")[0]
    code = python_blocks(DOCS / "environments.md")[module]
    (tmp_path / f"{module}.py").write_text(code, encoding="utf-8")
    monkeypatch.syspath_prepend(tmp_path)
    check_text_env(make_env(name))
    # Each branch copies the game, and Gymnasium's taxi is a table of all its moves: few and short.
    few = ("sampling.num_tasks=2", "env.max_turns=2", "eval.episodes=2")
    lines = run(name, llama, tmp_path / "run", *few)
    assert [line["rollout/env_errors"] for line in lines] == [0.0, 0.0]
    sys.modules.pop(module)


def test_the_adapter_of_the_page_has_at_most_twenty_lines():
    lines = python_blocks(DOCS / "environments.md")["my_taxi"].splitlines()
    assert len([line for line in lines if line.strip()]) <= 20


@pytest.mark.parametrize("page", sorted(path.name for path in DOCS.glob("*.md")))
def test_links_and_named_files_exist(page):
    text = read(page)
    for target in re.findall(r"\]\(([^)#:]+)\)", text):
        assert (DOCS / target).exists(), target
    for name in re.findall(r"`((?:\w+/)+\w+\.py)`", text):
        assert (DOCS.parent / name).exists(), name


def test_every_setting_that_a_page_names_exists():
    known = set(re.findall(r"^\| `([\w.]+)` \|", read("settings.md"), flags=re.MULTILINE))
    groups = "env|model|engine|sampling|loss|optim|eval|monitor|log"
    pages = (
        "quickstart",
        "environments",
        "python",
        "models",
        "gpu",
        "method",
        "metrics",
        "collapse",
        "rivals",
    )
    for page in (f"{name}.md" for name in pages):
        for name in re.findall(rf"(?<![\w-])((?:{groups})\.[a-z_]+)(?![\w.(]|\.py)", read(page)):
            assert name in known or name == "env.options", (page, name)
