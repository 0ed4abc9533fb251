"""Which environments are played in workers, and that a run says so and records it."""

import threading

import gymnasium
import pytest
from gymnasium.spaces import Discrete

from sesa_agent.configs.errors import SettingError
from sesa_agent.configs.load import load_config
from sesa_agent.environments import make_env
from sesa_agent.environments.workers.choice import allowed_workers, choose_workers
from sesa_agent.environments.workers.pool import close_pools
from sesa_agent.sampling.dialogue import Dialogue
from sesa_agent.training.setup import build_chat_dialogue, resolve_auto
from tests.helpers.games import CHAT, line_dialogue


class Locked(gymnasium.Env):
    """Hold what cannot be copied."""

    observation_space, action_space = Discrete(2), Discrete(2)
    num_open = 0

    def __init__(self):
        self.lock = threading.Lock()
        Locked.num_open += 1

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        return 0, {}

    def step(self, action):
        return 1, 0.0, False, False, {}

    def close(self):
        Locked.num_open -= 1


gymnasium.register("Locked-v0", f"{__name__}:Locked")


@pytest.mark.parametrize(
    ("env_id", "options", "wanted"),
    [
        ("sesa/Sokoban-v0", {}, (0, "")),
        ("Taxi-v4", {}, (0, "")),
        ("Locked-v0", {}, (8, "it cannot be copied")),
        ("slow:Slow-v0", {"step_s": 0.1}, (8, "a step takes 0.1 s")),
    ],
)
def test_slow_environments_and_those_that_cannot_be_copied_have_workers(env_id, options, wanted):
    number, reason = choose_workers(make_env(env_id, **options))
    assert (number, reason[: len(wanted[1])]) == wanted or "takes 0.1" in reason


def test_workers_are_no_more_than_the_instances_that_may_live(tmp_path):
    env = make_env("sessions:Game-v0", folder=str(tmp_path))
    assert choose_workers(env) == (4, "at most 4 of it may live at once")
    assert choose_workers(env, num_ranks=2)[0] == 2
    assert allowed_workers(8, env) == 4 and allowed_workers(3, env) == 3
    env.close()


def test_a_run_records_its_number_of_workers(tmp_path):
    import sessions  # pyright: ignore[reportMissingImports]

    words = [f"env.options.folder={tmp_path}"]
    cfg = resolve_auto(load_config("sessions:Game-v0", "sesa", words))
    assert cfg.env.workers == 4 and resolve_auto(cfg) == cfg
    explicit = resolve_auto(load_config("sessions:Game-v0", "sesa", [*words, "env.workers=9"]))
    assert explicit.env.workers == 4
    assert sessions.num_sessions(tmp_path)[0] == 0
    pool = build_chat_dialogue(cfg, CHAT, 1000).pool
    assert pool is not None and pool.num_workers == 4 and "at most 4" in pool.reason
    assert resolve_auto(load_config("sokoban")).env.workers == 0


@pytest.mark.parametrize("value", ["-1", "many", "1.5", "true", "2000"])
def test_other_numbers_of_workers_are_refused(value):
    with pytest.raises(SettingError, match="env.workers must be"):
        load_config("sokoban", overrides=[f"env.workers={value}"])


def test_the_loop_is_refused_where_instances_are_limited(tmp_path):
    words = [f"env.options.folder={tmp_path}", "env.workers=0"]
    with pytest.raises(SettingError, match="env.workers must be auto, or from 1 to 4 in sessions"):
        resolve_auto(load_config("sessions:Game-v0", overrides=words))
    close_pools()


def test_a_dialogue_closes_what_it_makes_to_look_at_it():
    before = Locked.num_open
    Dialogue(lambda: make_env("Locked-v0"), CHAT)
    assert Locked.num_open == before
    assert line_dialogue().pool is None
