import signal
import threading
import time

import pytest

from sesa_agent.environments import EnvError, GuardedEnv, fork, make_env
from sesa_agent.environments.time_limit import time_limit
from tests.helpers.bad_games import ENV_ID, FAULTS


def bad(fault: str) -> GuardedEnv:
    env = make_env(ENV_ID, step_timeout=0.2, fault=fault)
    assert isinstance(env, GuardedEnv)
    env.reset(seed=0)
    return env


@pytest.mark.parametrize("fault", [name for name in FAULTS if name not in ("fork", "read")])
def test_every_fault_of_a_step_is_one_error_that_says_what_happened(fault):
    with pytest.raises(EnvError, match=FAULTS[fault]):
        bad(fault).step("Left")


def test_faults_of_reading_forking_and_resetting_are_reported_too():
    with pytest.raises(EnvError, match=FAULTS["read"]):
        bad("read").canonical_action("Left")
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
