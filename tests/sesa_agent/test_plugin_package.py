"""A package of somebody else: built, installed by pip outside the repository, trained by its id."""

import base64
import hashlib
import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from ..helpers.runs import read_metrics
from ..helpers.tiny_models import SMALL_GROUPS

GAME = '''
import gymnasium
from gymnasium.spaces import Discrete, MultiDiscrete


class Cellar(gymnasium.Env):
    """Find the barrel in a cellar of three by three rooms."""

    observation_space, action_space = MultiDiscrete([3, 3]), Discrete(4)
    action_names = ("Up", "Down", "Left", "Right")
    max_steps = 4

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.place, self.barrel = [1, 1], int(self.np_random.integers(3))
        return tuple(self.place), {}

    def step(self, action):
        axis, way = ((0, -1), (0, 1), (1, -1), (1, 1))[action]
        self.place[axis] = min(2, max(0, self.place[axis] + way))
        found = self.place == [0, self.barrel]
        return tuple(self.place), float(found), found, False, {}
'''
REGISTRATION = """
import gymnasium


def register():
    gymnasium.register("cellars/Cellar-v0", "{package}.game:Cellar")
"""


def write_wheel(folder: Path, package: str, init: str, entry_points: str) -> Path:
    """Write a wheel as any build tool would; none need be installed for it."""
    info = f"{package}-1.0.dist-info"
    files = {
        f"{package}/__init__.py": init,
        f"{package}/game.py": GAME,
        f"{package}/registration.py": REGISTRATION.format(package=package),
        f"{info}/METADATA": f"Metadata-Version: 2.1\nName: {package}\nVersion: 1.0\n",
        f"{info}/WHEEL": "Wheel-Version: 1.0\nGenerator: by hand\nRoot-Is-Purelib: true\n"
        "Tag: py3-none-any\n",
        f"{info}/entry_points.txt": entry_points,
    }
    record = f"{info}/RECORD"
    lines = [f"{name},{_digest(text)},{len(text)}" for name, text in files.items()]
    wheel = folder / f"{package}-1.0-py3-none-any.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        for name, text in {**files, record: "\n".join([*lines, f"{record},,"]) + "\n"}.items():
            archive.writestr(name, text)
    return wheel


def _digest(text: str) -> str:
    digest = base64.urlsafe_b64encode(hashlib.sha256(text.encode()).digest())
    return "sha256=" + digest.rstrip(b"=").decode()


def install(wheel: Path, site: Path) -> None:
    words = [sys.executable, "-m", "pip", "install", "--quiet", "--no-index", "--no-deps"]
    subprocess.run([*words, "--target", str(site), str(wheel)], check=True, timeout=120)


CASES = {
    "module": ("cellar_a", "", "cellar_a:Cellar-v0"),
    "entry_point": (
        "cellar_b",
        "[gymnasium.envs]\ncellars = cellar_b.registration:register\n",
        "cellars/Cellar-v0",
    ),
}


@pytest.mark.slow
@pytest.mark.parametrize("form", CASES)
def test_an_installed_package_is_trained_by_its_id_alone(form, llama, tmp_path):
    package, entry_points, env_id = CASES[form]
    init = f'import gymnasium\n\ngymnasium.register("Cellar-v0", "{package}.game:Cellar")\n'
    site, run = tmp_path / "site", tmp_path / "run"
    install(write_wheel(tmp_path, package, init if form == "module" else "", entry_points), site)
    small = (*SMALL_GROUPS, "eval.episodes=2", "eval.final_episodes=2", "env.max_turns=3")
    words = [sys.executable, "-m", "sesa_agent", "train", "--env", env_id, "--model", str(llama)]
    answer = subprocess.run(
        [*words, "--steps", "2", "--output", str(run), *small, "engine.max_new_tokens=2"],
        env={**os.environ, "PYTHONPATH": str(site)},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert answer.returncode == 0, answer.stderr
    lines = read_metrics(run)
    assert [line["step"] for line in lines] == [0, 1]
    assert all(line["rollout/env_errors"] == 0 for line in lines)
    assert any(line["rollout/readable_rate"] > 0 for line in lines)
    assert "name: tree" in (run / "config.yaml").read_text()
