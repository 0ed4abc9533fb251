import signal
import subprocess
import sys
import threading
import time

import gymnasium
import pytest

from sesa_agent.agents.engines.base import SamplingParams
from sesa_agent.configs.schema import SamplingConfig
from sesa_agent.environments import EnvError, GuardedEnv, TextAdapter, TextEnv, fork, make_env
from sesa_agent.environments.time_limit import TimeUp, time_limit
from sesa_agent.sampling import SAMPLERS
from sesa_agent.sampling.dialogue import Dialogue
from sesa_agent.sampling.player import Player
from sesa_agent.sampling.replies import canonical_action
from sesa_agent.sampling.trajectory import Task
from tests.helpers.bad_games import ENV_ID, FAULTS
from tests.helpers.games import CHAT, LineGame, RecordingEngine, at_random, generator


class Stubborn(TextEnv):
    """Sleeps, or counts, in a loop that catches everything."""

    def __init__(self, after_s: float):
        super().__init__(LineGame(), max_steps=10)
        self.after_s = after_s

    def step(self, action):
        num_lines = 0
        while True:
            try:
                time.sleep(60 if self.after_s else 0.0)
                num_lines += 1
            except BaseException:
                time.sleep(self.after_s)


def bad(fault: str) -> GuardedEnv:
    seconds = 0.2 if fault in ("hang", "swallow") else 60.0  # a busy machine pauses
    env = make_env(ENV_ID, step_timeout=seconds, fault=fault)
    assert isinstance(env, GuardedEnv)
    env.reset(seed=0)
    return env


@pytest.mark.parametrize("fault", [name for name in FAULTS if name not in ("fork", "read")])
def test_every_fault_of_a_step_is_one_error_that_says_what_happened(fault):
    with pytest.raises(EnvError, match=FAULTS[fault]):
        bad(fault).step("Left")


def test_faults_of_reading_forking_and_resetting_are_reported_too():
    with pytest.raises(EnvError, match=FAULTS["read"]):
        canonical_action(bad("read"), "Left")
    with pytest.raises(EnvError, match=FAULTS["fork"]):
        fork(bad("fork"))
    with pytest.raises(EnvError, match=r"reset\(seed=0\) raised OSError: no such level"):
        bad("every_seed")


def test_printed_text_is_not_shown(capfd):
    assert bad("print").step("Left")[0] == "You are at 2."
    assert capfd.readouterr().out == ""


def test_a_slow_step_within_the_limit_is_not_interrupted():
    with time_limit(5.0):
        time.sleep(0.01)


def test_a_time_limit_resumes_an_alarm_that_was_running():
    before = signal.signal(signal.SIGALRM, lambda *_: None)
    try:
        signal.setitimer(signal.ITIMER_REAL, 100.0)
        with time_limit(1.0):
            pass
        assert 90 < signal.getitimer(signal.ITIMER_REAL)[0] <= 100
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0.0)
        signal.signal(signal.SIGALRM, before)


@pytest.mark.parametrize("after_s", [0.0, 0.3])
def test_a_ctrl_c_interrupts_a_game_that_catches_everything(after_s):
    """`except BaseException` in a game's loop swallowed Ctrl-C: the run could only be killed."""
    env = GuardedEnv(lambda: Stubborn(after_s), step_timeout=60.0)
    env.reset(seed=0)
    main_thread = threading.get_ident()
    timer = threading.Timer(0.2, signal.pthread_kill, [main_thread, signal.SIGINT])
    timer.start()
    start = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        env.step("Left")
    assert time.monotonic() - start < 10
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    assert signal.getitimer(signal.ITIMER_REAL) == (0.0, 0.0)


def test_a_ctrl_c_that_is_only_noted_interrupts_nothing():
    """`train` notes the first Ctrl-C, finishes the step, and lets the second one interrupt."""
    noted = []

    def note(signum, frame):
        noted.append(signum)
        signal.signal(signal.SIGINT, before)

    before = signal.signal(signal.SIGINT, note)
    try:
        with time_limit(10.0):
            signal.raise_signal(signal.SIGINT)
        assert noted == [signal.SIGINT]
        assert signal.getsignal(signal.SIGINT) is before
    finally:
        signal.signal(signal.SIGINT, before)


def test_code_that_catches_and_keeps_every_exception_is_stopped():
    """Exceptions that are kept cannot tell that they were caught; the timer raises again."""
    caught = []

    def hang():
        while True:
            try:
                time.sleep(60)
            except BaseException as error:
                caught.append(error)

    with pytest.raises(TimeUp), time_limit(0.05):
        hang()
    assert caught
    assert sys.gettrace() is None


def test_a_time_limit_that_was_swallowed_is_told_at_the_end():
    with pytest.raises(TimeUp), time_limit(0.05):
        try:
            time.sleep(60)
        except BaseException:
            pass


def assert_ends_in_one_line(code):
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
    assert done.returncode == 1
    assert done.stderr.count("\n") == 1 and "did not stop after 0.05 seconds" in done.stderr


def test_what_cannot_be_stopped_ends_the_process_in_one_line():
    """A callback of compiled code: what it raises is ignored, and it is called again."""
    code = (
        "import ctypes, sys, time\n"
        "from sesa_agent.environments import time_limit as limits\n"
        "sys.unraisablehook = id\n"  # compiled: no signal is handled inside it
        "limits.REPEAT_S = 0.001\n"
        "Compare = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_void_p, ctypes.c_void_p)\n"
        "compare = Compare(lambda *_: time.sleep(60) or 0)\n"
        "with limits.time_limit(0.05):\n"
        "    ctypes.CDLL(None).qsort((ctypes.c_int * 99999)(), 99999, 4, compare)\n"
    )
    assert_ends_in_one_line(code)


def test_compiled_code_that_never_returns_ends_the_process_in_one_line():
    code = (
        "import ctypes\n"
        "from sesa_agent.environments import time_limit as limits\n"
        "limits.REPEAT_S, limits.WATCH_S = 0.001, 0.01\n"
        "with limits.time_limit(60.0):\n"
        "    with limits.time_limit(0.05):\n"
        "        library, mutex = ctypes.CDLL(None), (ctypes.c_long * 16)()\n"
        "        library.pthread_mutex_lock(mutex), library.pthread_mutex_lock(mutex)\n"
    )
    assert_ends_in_one_line(code)


def test_outside_the_main_thread_there_is_no_limit():
    seen = []

    def work() -> None:
        with time_limit(0.01):
            time.sleep(0.05)
        seen.append("done")

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert seen == ["done"]


@pytest.mark.parametrize("method", ["close", "render"])
def test_closing_and_drawing_are_limited_too(method):
    class Hangs(TextEnv):
        def __init__(self):
            super().__init__(LineGame(), max_steps=10)

    setattr(Hangs, method, lambda self: time.sleep(60))
    env = GuardedEnv(Hangs, step_timeout=0.05)
    with pytest.raises(EnvError, match=rf"{method}\(\) took longer"):
        getattr(env, method)()


class Lent(gymnasium.Env):
    """Count to three; counts what it has opened and closed."""

    observation_space = action_space = gymnasium.spaces.Discrete(4)
    opened: list["Lent"] = []
    closed: list["Lent"] = []

    def __init__(self, lock: object = None):
        self.lock, self.count = lock, 0
        self.opened.append(self)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.count = 0
        return 0, {}

    def step(self, action):
        self.count += 1
        if action == 3:
            raise OSError("gone")
        return self.count, 0.0, False, False, {}

    def close(self):
        assert self not in self.closed
        self.closed.append(self)


@pytest.fixture
def lent():
    Lent.opened.clear()
    Lent.closed.clear()

    def make(lock: object = None) -> GuardedEnv:
        env = GuardedEnv(lambda: TextAdapter(Lent(lock)), step_timeout=60.0)
        env.reset(seed=0)
        return env

    return make


def test_every_replay_is_closed_once(lent):
    """None was ever closed: each fork of a Java game left a JVM behind."""
    env = lent(threading.Lock())
    twins = [fork(env) for _ in range(3)]
    assert len(Lent.opened) == 4 and not Lent.closed
    for one in (env, *twins):
        one.close()
        one.close()
    assert set(Lent.closed) == set(Lent.opened)


def test_plain_copies_are_closed_with_the_last_of_them(lent):
    """They may share what they hold by name, such as a folder that `close` removes."""
    env = lent()
    twin = fork(env)
    env.close()
    assert not Lent.closed
    assert twin.step("1")[0] == "1"
    twin.close()
    assert len(Lent.closed) == 1


def test_what_is_dropped_is_closed(lent):
    env = lent(threading.Lock())
    fork(env)
    assert len(Lent.closed) == 1
    del env
    assert set(Lent.closed) == set(Lent.opened)


def test_an_environment_whose_replay_fails_is_closed(lent):
    env = lent(threading.Lock())
    with pytest.raises(EnvError):
        env.step("3")
    with pytest.raises(EnvError, match="a replay raised OSError: gone"):
        fork(env)
    env.close()
    assert set(Lent.closed) == set(Lent.opened) and len(Lent.opened) == 2


@pytest.mark.parametrize("sampler", ["tree", "parallel", "two_stage"])
def test_a_rollout_closes_every_environment(lent, sampler):
    dialogue = Dialogue(
        lambda: GuardedEnv(lambda: TextAdapter(Lent(threading.Lock())), 60.0),
        CHAT,
        max_turns=1 if sampler == "two_stage" else 3,
    )
    engine = RecordingEngine(at_random("1", "2", "3", nonsense=0.1))
    player = Player(engine, dialogue, SamplingParams(), generator())
    cfg = SamplingConfig(num_proposals=3, max_trajectories=5)
    trees = player.run(SAMPLERS[sampler].sample, [Task("Lent", seed) for seed in range(2)], cfg)
    assert any(tree.env_errors for tree in trees)
    assert set(Lent.closed) == set(Lent.opened) and len(Lent.opened) > 4
