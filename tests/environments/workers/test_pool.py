"""Worker processes: side by side, equal to the loop, and what they survive."""

import os
import re
import signal
import subprocess
import sys
import time
from functools import partial
from pathlib import Path
from typing import Any

import gymnasium
import pytest

from sesa_agent.agents.engines.base import SamplingParams
from sesa_agent.configs.schema import SamplingConfig
from sesa_agent.environments import EnvError, fork, make_env, state_key
from sesa_agent.environments.workers.pool import make_pool
from sesa_agent.environments.workers.pooled_env import PooledEnv
from sesa_agent.sampling import SAMPLERS
from sesa_agent.sampling.dialogue import Dialogue
from sesa_agent.sampling.player import Player
from sesa_agent.sampling.trajectory import Task
from tests.helpers.games import (
    CHAT,
    RecordingEngine,
    StreamingEngine,
    at_random,
    generator,
)

MOVES = ("Up", "Down", "Left", "Right")


@pytest.fixture
def pool_of():
    """Makes pools that are closed at the end."""
    pools = []

    def make(env_id, num_workers, **options):
        pools.append(make_pool(env_id, num_workers, **options))
        return pools[-1]

    yield make
    for pool in pools:
        pool.close()


def draw(env_id, pool=None, name="tree", engine=RecordingEngine, actions=MOVES, **options):
    """Sample four trees."""
    make = partial(make_env, env_id, **options) if pool is None else partial(PooledEnv, pool)
    dialogue = Dialogue(make, CHAT, max_turns=4, pool=pool)
    cfg = SamplingConfig(name=name, num_proposals=3, max_trajectories=6)
    params = SamplingParams(temperature=1.0, max_new_tokens=8)
    player = Player(engine(at_random(*actions)), dialogue, params, generator(1))
    return player.run(SAMPLERS[name].sample, [Task(env_id, seed) for seed in range(4)], cfg)


@pytest.mark.parametrize("engine", [RecordingEngine, StreamingEngine])
@pytest.mark.parametrize("name", ["tree", "parallel"])
@pytest.mark.parametrize("env_id", ["sesa/Sokoban-v0", "Taxi-v4"])
def test_trees_in_workers_are_those_of_the_loop(pool_of, env_id, name, engine):
    actions = MOVES if "Sokoban" in env_id else ("South", "East", "North", "Pickup")
    inside = draw(env_id, None, name, engine, actions)
    pooled = draw(env_id, pool_of(env_id, 3), name, engine, actions)
    assert pooled == inside
    assert sum(len(tree) for tree in inside) > 20


def test_noisy_outcomes_in_workers_are_those_of_the_loop(pool_of):
    """Forks with noise of their own, equal states merged, every outcome counted."""
    env_id = "sesa/FrozenLake-v0"
    inside = draw(env_id, slippery=True)
    assert draw(env_id, pool_of(env_id, 3, slippery=True)) == inside
    assert any(turn.outcome for tree in inside for turn in tree.turns)


def test_what_cannot_be_copied_is_replayed_to_the_same_trees(pool_of, tmp_path):
    env_id, options = "sessions:Game-v0", {"folder": str(tmp_path), "limit": 1}
    replayed = draw(env_id, pool_of(env_id, 1, **options), actions=("Left", "Right"))
    copied = draw("slow:Slow-v0", actions=("Left", "Right"), step_s=0.0)
    assert [tree.turns for tree in replayed] == [tree.turns for tree in copied]


def test_steps_do_not_wait_for_each_other(pool_of):
    """Eight steps of half a second took four seconds."""
    pool = pool_of("slow:Slow-v0", 8)
    env = PooledEnv(pool)
    env.reset(seed=1)
    for work in [pool.submit(partial(fork(env).step, "Left")) for _ in range(8)]:
        work.result()  # starts all workers
    start = time.monotonic()
    works = [pool.submit(partial(fork(env).step, "Left")) for _ in range(8)]
    shown = {work.result()[0] for work in works}
    assert len(shown) == 1
    assert time.monotonic() - start < 2.5


@pytest.mark.parametrize("reusable", [False, True])
def test_a_server_is_never_over_its_limit_and_every_session_is_closed(pool_of, tmp_path, reusable):
    """No environment was ever closed: after one rollout the server refused everybody."""
    import sessions  # pyright: ignore[reportMissingImports]

    options = {"folder": str(tmp_path), "reusable": reusable}
    pool = pool_of("sessions:Game-v0", sessions.LIMIT, **options)
    num_opened = most = 0
    for _ in range(2):
        trees = draw("sessions:Game-v0", pool, "parallel", actions=("Left", "Right"))
        assert not [error for tree in trees for error in tree.env_errors]
        num_open, most, num_opened = sessions.num_sessions(tmp_path)
        assert num_open == (most if reusable else 0)
        assert 1 <= most <= sessions.LIMIT
    assert num_opened <= most or not reusable
    pool.close()
    assert sessions.num_sessions(tmp_path)[0] == 0


CRASHES = {
    "exit": r"ended its process \(exit code 3\)",
    "segfault": r"ended its process \(signal SIG(SEGV|BUS)\)",
    "loop": "took longer than env.step_timeout=0.5 seconds",
    "callback": "took longer than env.step_timeout=0.5 seconds",
    "lock": "took longer than env.step_timeout=0.5 seconds",
}


@pytest.mark.parametrize("how", CRASHES)
def test_a_crash_costs_its_own_trajectory_only(pool_of, how):
    env_id = "crashing:Crash-v0"
    pool = pool_of(env_id, 2, step_timeout=0.5, how=how)
    env = PooledEnv(pool)
    env.reset(seed=0)
    crashed, whole = fork(env), fork(env)
    with pytest.raises(EnvError, match=rf"step\('Right'\) {CRASHES[how]}"):
        crashed.step("Right")
    assert whole.step("Left")[0] == "1"
    assert env.step("Left")[0] == "1"


def test_a_rollout_goes_on_after_a_crash(pool_of):
    pool = pool_of("crashing:Crash-v0", 2, step_timeout=5.0)
    trees = draw("crashing:Crash-v0", pool, "parallel", actions=("Left", "Left", "Right"))
    turns = [turn for tree in trees for turn in tree.turns]
    assert any(turn.success for turn in turns) and any(turn.error for turn in turns)
    for turn in turns:
        assert bool(turn.error) == ("Right" in turn.response)
        assert turn.truncated or not turn.error


def test_a_worker_that_was_killed_from_outside_is_replaced(pool_of):
    """Its game is replayed in a new one."""
    pool = pool_of("sesa/Sokoban-v0", 1)
    pooled, inside = PooledEnv(pool), make_env("sesa/Sokoban-v0")
    assert pooled.reset(seed=0)[0] == inside.reset(seed=0)[0]
    assert pooled.step("Left") == inside.step("Left")
    process = pool._slots[0].process.process
    os.kill(process.pid, signal.SIGKILL)
    process.join(5)
    assert pooled.step("Up") == inside.step("Up")


def test_a_class_registered_at_run_time_is_known_in_a_worker(pool_of):
    class Local(gymnasium.Env):
        """Go to room 3."""

        observation_space = action_space = gymnasium.spaces.Discrete(4)

        def reset(self, *, seed=None, options=None):
            super().reset(seed=seed)
            return 0, {}

        def step(self, action):
            return int(action), float(action == 3), action == 3, False, {"game": self, "moves": [1]}

    gymnasium.register("LocalClass-v0", entry_point(Local))
    env = PooledEnv(pool_of("LocalClass-v0", 1))
    env.reset(seed=0)
    observation, reward, terminated, _, info = env.step("3")
    assert (observation, reward, terminated) == ("3", 1.0, True)
    assert info == {"moves": [1], "success": True, "legal": True}


def entry_point(game: Any) -> Any:
    return game


SCRIPT = """
import sys, time
import gymnasium
from gymnasium.spaces import Discrete
from sesa_agent.environments.workers.pool import make_pool
from sesa_agent.environments.workers.pooled_env import PooledEnv

class Mine(gymnasium.Env):
    observation_space, action_space = Discrete(2), Discrete(2)
    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        return 0, {}
    def step(self, action):
        print("noise"); print("noise", file=sys.stderr)
        if action:
            time.sleep(600)
        return 1, 0.0, False, False, {}

gymnasium.register("Mine-v0", Mine)
pool = make_pool("Mine-v0", 1)
env = PooledEnv(pool)
print(env.reset(seed=0)[0], env.step("0")[0], pool._slots[0].process.process.pid, flush=True)
"""


def test_a_script_without_a_main_guard_can_have_workers():
    """multiprocessing would run the script again in each of them."""
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT], capture_output=True, text=True, timeout=120
    )
    assert re.fullmatch(r"0 1 \d+\n", done.stdout) and done.stderr == ""
    assert not is_running(int(done.stdout.split()[2]))


@pytest.mark.skipif(not Path("/proc").exists(), reason="needs /proc")
def test_workers_end_with_a_parent_that_is_killed_while_a_step_hangs():
    words = [sys.executable, "-c", f"{SCRIPT}\nenv.step('1')"]
    with subprocess.Popen(words, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        worker = int(process.stdout.readline().split()[2])
        time.sleep(0.2)
        process.kill()
    start = time.monotonic()
    while is_running(worker) and time.monotonic() - start < 30:
        time.sleep(0.05)
    assert not is_running(worker)


def is_running(pid: int) -> bool:
    try:
        return "Z" not in Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return False


def test_the_parts_of_the_contract_are_those_of_a_guard(pool_of):
    guard: Any = make_env("Taxi-v4")
    pooled = PooledEnv(pool_of("Taxi-v4", 1))
    for env in (guard, pooled):
        env.reset(seed=3)
    for name in ("text_spec", "max_steps", "is_deterministic", "name", "max_instances"):
        assert getattr(pooled, name) == getattr(guard, name)
    assert state_key(pooled) == state_key(guard)
    assert pooled.canonical_action and guard.canonical_action
    assert pooled.canonical_action(" south ") == guard.canonical_action("south") == "South"
    assert pooled.canonical_action("fly") is None
    noise = generator(5)
    pooled.np_random = noise
    assert pooled.np_random.random() == generator(5).random()


def test_a_replay_that_shows_something_else_is_an_error(pool_of):
    """A server with chance of its own would otherwise go on from another state."""

    class Drifting(gymnasium.Env):
        observation_space = action_space = gymnasium.spaces.Discrete(100_000)
        max_instances = 4  # so it is never copied

        def reset(self, *, seed=None, options=None):
            super().reset(seed=seed)
            return time.time_ns() // 1000 % 100_000, {}

        def step(self, action):
            return 0, 0.0, False, False, {}

    gymnasium.register("Drifting-v0", entry_point(Drifting))
    env = PooledEnv(pool_of("Drifting-v0", 1))
    env.reset(seed=0)
    twin = fork(env)
    env.step("1")
    with pytest.raises(EnvError, match="does not follow from its seed"):
        twin.step("1")
