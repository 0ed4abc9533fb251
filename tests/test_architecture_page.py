"""docs/architecture.md names functions that exist, where it says that they are."""

import ast
import re
from pathlib import Path

import pytest
import torch

from sesa_agent.agents.chat import ChatFormat
from sesa_agent.agents.policy import Policy
from sesa_agent.environments import make_env
from sesa_agent.sampling.dialogue import Dialogue
from sesa_agent.sampling.trajectory import Task

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
NAMED = re.findall(r"`([\w/]+\.py)` ((?:`[\w.]+`(?:, )?)+)", PAGE)
"""A file and the names after it, as in: `sampling/tree.py` `decide`, `allocate_widths`."""


def names_in(path: Path) -> set[str]:
    """Functions and classes of a file, methods as `Class.method`."""
    found = set()
    for node in ast.parse(path.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            found.add(node.name)
        if isinstance(node, ast.ClassDef):
            functions = (ast.FunctionDef, ast.AsyncFunctionDef)
            found |= {f"{node.name}.{f.name}" for f in node.body if isinstance(f, functions)}
    return found


@pytest.mark.parametrize(("file", "names"), NAMED)
def test_what_the_life_of_a_turn_names_exists(file, names):
    assert set(re.findall(r"`([\w.]+)`", names)) <= names_in(ROOT / file)


def test_names_are_found_on_the_page():
    assert len(NAMED) >= 10


def test_every_folder_with_code_is_in_the_tree():
    tree = re.findall(r"^ *([\w/]+)/ {2,}", PAGE, flags=re.MULTILINE)
    folders = {path.parent.name for path in ROOT.glob("[a-z]*/**/__init__.py")}
    folders -= {path.name for path in (ROOT / "tests").rglob("*")}
    assert folders - {"methods", "scales"} <= set(tree)


def test_the_probabilities_of_the_example_are_those_of_the_bundled_model():
    policy, env_id = Policy.load("sesa-tiny", device="cpu"), "sesa/Sokoban-v0"
    dialogue = Dialogue(lambda: make_env(env_id, max_steps=10), ChatFormat(policy.tokenizer))
    start = dialogue.start(Task(env_id, 1000036))
    assert f"```\n{start.observation}\n```" in PAGE
    for action, probability in re.findall(r"─ [012] (\w+) +x (\.\d+)", PAGE):
        answer = policy.tokenizer.encode(f"<answer>{action}</answer>", add_special_tokens=False)
        ids = torch.tensor([[*start.prompt_ids, *answer]])
        with torch.no_grad():
            logprobs = policy.model(input_ids=ids).logits[0, -len(answer) - 1 : -1].log_softmax(-1)
        total = logprobs.gather(1, torch.tensor(answer)[:, None]).sum().exp()
        assert float(total) == pytest.approx(float(probability), abs=6e-4)
