"""A run survives every bad environment, or ends in one line, and its process is as before."""

import gc
import locale
import os
import random
import re
import signal
import sys
import time
import warnings

import pytest

from sesa_agent.agents.engines.base import SamplingParams
from sesa_agent.configs.errors import SettingError
from sesa_agent.configs.load import load_config
from sesa_agent.configs.schema import SamplingConfig
from sesa_agent.environments.checks import CHECKS, TIMED, run_checks
from sesa_agent.sampling.dialogue import Dialogue
from sesa_agent.sampling.parallel import sample_parallel
from sesa_agent.sampling.player import Player
from sesa_agent.sampling.trajectory import Task
from sesa_agent.sampling.tree import grow_trees
from sesa_agent.training.setup import build_env
from tests.helpers.worst_environments import WORST

from ..helpers.games import CHAT, RecordingEngine, generator

SAMPLERS = {"tree": grow_trees, "parallel": sample_parallel}
REFUSED = [name for name, bad in WORST.items() if bad.ends == "made"]
PLAYED = [name for name in WORST if name not in REFUSED]


def make(name):
    seconds = 0.5 if WORST[name].hangs else 60
    return build_env(load_config(f"worst/{name}-v0", overrides=[f"env.step_timeout={seconds}"]))


def play(name, sampler="tree"):
    """Grow a small tree in which every response is Left."""
    engine = RecordingEngine(lambda text, rng: "<answer>Left</answer>")
    dialogue = Dialogue(lambda: make(name), CHAT, max_turns=2)
    params = SamplingParams(temperature=1.0, max_new_tokens=8)
    cfg = SamplingConfig(
        num_proposals=1, max_trajectories=2, noise_draws=2, fork_noise="independent"
    )
    player = Player(engine, dialogue, params, generator(1))
    return player.run(SAMPLERS[sampler], [Task(f"worst/{name}-v0", 0)], cfg)[0]


def process_state():
    return {
        "folder": os.getcwd(),
        "recursion": sys.getrecursionlimit(),
        "garbage": gc.isenabled(),
        "trace": sys.gettrace(),
        "errors": [f for f in warnings.filters if f[0] == "error"],
        "alarm": (signal.getsignal(signal.SIGALRM), signal.getitimer(signal.ITIMER_REAL)),
        "interrupt": signal.getsignal(signal.SIGINT),
        "output": (sys.stdout, sys.stderr, sys.stdout.closed),
        "process": os.getpid(),
    }


@pytest.fixture(autouse=True)
def same_process():
    """The process is as before; what environments may change is put back by the test."""
    before, chance, language = process_state(), random.getstate(), locale.setlocale(locale.LC_ALL)
    yield
    assert process_state() == before
    random.setstate(chance)
    locale.setlocale(locale.LC_ALL, language)
    os.environ.pop("WORST", None)


@pytest.mark.parametrize("name", REFUSED)
def test_an_environment_that_cannot_be_made_is_refused_in_one_line(name):
    with pytest.raises(SettingError) as refusal:
        make(name)
    line = str(refusal.value)
    assert re.search(WORST[name].message, line)
    assert line.isprintable() and len(line) < 600


@pytest.mark.parametrize("name", PLAYED)
@pytest.mark.parametrize("sampler", SAMPLERS)
def test_a_failure_ends_its_trajectory_and_nothing_else(name, sampler):
    bad = WORST[name]
    tree = play(name, sampler)
    if bad.ends == "opened":
        assert not len(tree) and re.match(bad.message, tree.error)
        return
    assert len(tree) and not tree.error
    errors = [turn.error for turn in tree.turns]
    if bad.ends == "nowhere":
        assert not any(errors)
        return
    failed = next(turn for turn in tree.turns if turn.error)
    assert re.match(bad.message, failed.error)
    assert failed.error.isprintable() and len(failed.error) < 600
    assert failed.truncated and not failed.success and failed.reward == 0.0


@pytest.mark.parametrize("name", PLAYED)
def test_the_checks_find_it(name):
    bad = WORST[name]
    start = time.monotonic()
    names = [check for check in CHECKS if check not in TIMED]
    findings = run_checks(make(name), 2, actions=["Left", "Right"], checks=names)
    wrong = [key for key, found in findings.items() if found.status in ("failed", "warned")]
    assert wrong[:1] == ([bad.check] if bad.check else [])
    assert all(finding.seen.isprintable() for finding in findings.values())
    assert time.monotonic() - start < 60
