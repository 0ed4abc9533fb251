"""Two steps of the train command in plug-ins that are slow, crash, or limit their sessions."""

import subprocess
import sys
from pathlib import Path

import pytest

from sesa_agent.configs.yaml_text import read_yaml
from tests.helpers.runs import read_metrics
from tests.helpers.tiny_models import SMALL_GROUPS

PLUGINS = Path(__file__).parents[2] / "plugins"


def train(env, folder, *settings):
    """The command, as a user types it in the folder of the plug-ins."""
    small = ("optim.steps=2", "eval.episodes=4", "eval.final_episodes=4", "env.max_turns=3")
    words = [sys.executable, "-m", "sesa_agent", "train", "--env", env, "--output", str(folder)]
    words += [*small, *SMALL_GROUPS, "eval.every=2", *settings]
    words = [word for word in words if not word.startswith("optim.steps")] + ["--steps", "2"]
    return subprocess.run(words, cwd=PLUGINS, capture_output=True, text=True, timeout=300)


def test_a_run_with_limited_sessions_closes_them_all(tmp_path, plugins):
    import sessions  # pyright: ignore[reportMissingImports]

    done = train(
        "sessions:Game-v0",
        tmp_path / "run",
        f"env.options.folder={tmp_path}",
        "sampling.max_trajectories=8",
        "sampling.num_tasks=4",
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "is played in 4 worker processes: at most 4 of it may live at once" in done.stdout
    num_open, most, _ = sessions.num_sessions(tmp_path)
    assert num_open == 0 and 1 < most <= sessions.LIMIT
    assert [line["rollout/env_errors"] for line in read_metrics(tmp_path / "run")] == [0, 0]
    text = (tmp_path / "run" / "config.yaml").read_text()
    assert read_yaml(text, "config.yaml")["env"]["workers"] == 4


@pytest.mark.slow
def test_a_run_survives_crashes_of_its_environment(tmp_path):
    settings = ("env.workers=2", "env.step_timeout=2", "env.options.how=segfault")
    done = train("crashing:Crash-v0", tmp_path / "run", *settings)
    assert done.returncode == 0, done.stdout + done.stderr
    assert len(read_metrics(tmp_path / "run")) == 2
