"""A part of each kind, added from outside the package, trains two steps: docs/extending.md."""

import re
import sys
from pathlib import Path
from typing import Any

import pytest

from sesa_agent.agents.engines import ENGINES
from sesa_agent.sampling import SAMPLERS
from sesa_agent.training.advantages import ADVANTAGES
from sesa_agent.training.exploration import EXPLORATIONS
from sesa_agent.training.losses import LOSSES

from .helpers.runs import SMALL

PAGE = Path(__file__).parents[1] / "docs" / "extending.md"
DICTS: tuple[dict[str, Any], ...] = (ENGINES, SAMPLERS, ADVANTAGES, EXPLORATIONS, LOSSES)


def blocks(language: str) -> list[str]:
    text = PAGE.read_text(encoding="utf-8")
    return re.findall(rf"```{language}\n(.*?)```", text, flags=re.DOTALL)


@pytest.fixture
def parts(tmp_path, monkeypatch):
    """The page's module and preset in a folder of their own; what it adds is taken out again."""
    before = [dict(names) for names in DICTS]
    *module, _ = blocks("python")
    (tmp_path / "my_parts.py").write_text("\n\n".join(module), encoding="utf-8")
    (tmp_path / "my_method.yaml").write_text(*blocks("yaml"), encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    yield tmp_path
    sys.modules.pop("my_parts", None)
    for names, old in zip(DICTS, before, strict=True):
        names.clear()
        names.update(old)


def test_parts_from_outside_train_two_steps(parts, llama):
    *_, script = blocks("python")
    small = [*SMALL, f"model.path={llama}", "eval.final_episodes=4", "sampling.max_trajectories=4"]
    run = f"run = train('sokoban', 'my_method.yaml', settings={small!r})"
    told = {}
    exec(script.replace(re.findall(r"train\(.*\)", script)[0], run), told)
    finished = told["run"]
    cfg = finished.config
    assert (cfg.sampling.name, cfg.engine.name, cfg.loss.credit) == (
        "until_success",
        "counting",
        "median",
    )
    assert (cfg.loss.exploration, cfg.loss.name) == ("unsure_tokens", "damped")
    assert len(finished.history()) == 2
    assert finished.metrics["progress/policy_calls"] > 0
    assert finished.results["trained"].num_episodes == 4


def test_what_is_not_imported_is_refused_by_its_name(parts, llama):
    from sesa_agent import SettingError, train

    with pytest.raises(SettingError, match="sampling.name must be one of parallel, tree"):
        train("sokoban", "my_method.yaml", steps=2, model=llama)
