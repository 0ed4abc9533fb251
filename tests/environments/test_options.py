"""`env.options`: what a constructor's signature allows, for our games and those of others."""

import inspect
import math
from functools import partial
from typing import Any, Literal

import gymnasium
import numpy as np
import pytest
from gymnasium.envs.registration import load_env_creator

from sesa_agent.configs.errors import SettingError
from sesa_agent.configs.load import load_config
from sesa_agent.environments import ENVIRONMENTS, make_env
from sesa_agent.environments.options import fit_options
from sesa_agent.training.setup import build_env, check_env_opens

from ..helpers.bad_environments import CoinEnv

OPTIONS = [
    (env_id, name)
    for env_id, entry_point in ENVIRONMENTS.items()
    for name in inspect.signature(load_env_creator(entry_point)).parameters
]
"""Every option of every game."""
ODD = {
    "negative": -1,
    "zero": 0,
    "huge": 10**9,
    "too huge": 10**30,
    "fraction": 1.5,
    "float": 2.0,
    "nan": math.nan,
    "infinite": math.inf,
    "true": True,
    "null": None,
    "empty text": "",
    "a word": "flase",
    "signs": "--",
    "half a character": "\udc80",
    "list": [1],
    "mapping": {"a": 1},
    "object": object(),
}
TAKEN = {
    ("sesa/Sokoban-v0", "wall_probability"): {"zero"},
    ("sesa/Sokoban-v0", "max_steps"): {"huge", "null"},
    ("sesa/FrozenLake-v0", "slippery"): {"true"},
    ("sesa/FrozenLake-v0", "max_steps"): {"huge", "null"},
    ("sesa/Sudoku-v0", "max_steps"): {"huge", "null"},
    ("sesa/Sudoku-v0", "max_rows"): {"huge"},
    ("sesa/Sudoku-v0", "num_blanks"): {"null"},
    ("sesa/Sudoku-v0", "size"): {"null"},
    ("sesa/Sudoku-v0", "unique"): {"true"},
    ("sesa/Sudoku-v0", "path"): {"empty text"},
    ("sesa/Math-v0", "path"): {"empty text"},
    ("sesa/Math-v0", "test_path"): {"empty text"},
}
"""The odd values that an option has a use for; every other one is refused."""


@pytest.mark.parametrize(("env_id", "name"), OPTIONS)
def test_an_option_takes_no_odd_value(env_id, name):
    """`slippery=flase` was true, `max_steps=1.5` was taken, and `path=[1]` ended in a traceback."""
    common = {"max_steps": {"huge"}, "render_mode": {"null"}}.get(name, set())
    taken = TAKEN.get((env_id, name), common)
    cfg = load_config(env_id)
    for kind, value in ODD.items():
        cfg.env.options = {name: value}
        if kind in taken:
            check_env_opens(cfg, build_env(cfg))
            continue
        with pytest.raises(SettingError, match=name if "path" not in name else ".") as error:
            check_env_opens(cfg, build_env(cfg))
        assert str(error.value).isprintable()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("frozen_lake slippery=flase", "env.options.slippery must be true or false, got 'flase'."),
        ("frozen_lake slippery=null", "env.options.slippery must be true or false, got None."),
        ("sudoku unique=no", "env.options.unique must be true or false, got 'no'."),
        ("sokoban max_steps=1.5", "max_steps must be a whole number or null, got 1.5."),
        ("sokoban max_steps=true", "max_steps must be a whole number or null, got True."),
        ("math num_terms=2.5", "env.options.num_terms must be a whole number, got 2.5."),
        ("sudoku size=1e3", "env.options.size must be a whole number or null, got 1000.0."),
        ("countdown operators=--", "env.options.operators must be one or more of +-*/, each once"),
        ("countdown operators=[+]", "env.options.operators must be text, got ['+']."),
        ("math path=3", "env.options.path must be text, got 3. Quote it to pass it as text, as in"),
        ("math path=" + "a" * 5000, "sesa/Math-v0 fails when made: OSError: "),
        ("sokoban render_mode=fast", "render_mode must be 'ansi' or 'rgb_array' or null"),
        ("sokoban max_stps=3", "is not an option of sesa/Sokoban-v0. Did you mean max_steps?"),
        ("sokoban id=3", "env.options.id is not an option of sesa/Sokoban-v0."),
        ("path_exploration qqq=3", "It has max_episode_steps, disable_env_checker, max_steps, "),
    ],
)  # fmt: skip
def test_a_wrong_option_is_reported_as_it_was_typed(words, message):
    env, _, word = words.partition(" ")
    cfg = load_config(env, overrides=[f"env.options.{word}"])
    with pytest.raises(SettingError) as error:
        build_env(cfg)
    assert message in str(error.value) and str(error.value).isprintable()


def test_options_are_converted_where_nothing_is_lost():
    env: Any = make_env("sesa/Sokoban-v0", wall_probability=0, num_rows=np.int64(7))
    assert repr(env.unwrapped.game.knobs.wall_probability) == "0.0"
    assert type(env.unwrapped.game.knobs.num_rows) is int


def test_gymnasium_makes_the_games_as_before():
    env: Any = gymnasium.make("sesa/Sokoban-v0", num_rows=np.int64(7), render_mode="rgb_array_list")
    assert env.unwrapped.game.knobs.num_rows == 7


# ---- environments of others ----


class Typed(CoinEnv):
    """Takes typed options."""

    def __init__(
        self,
        size: int = 4,
        *,
        speed: "float | None" = None,
        kind: Literal["a", "b"] = "a",
        shape: tuple[int, int] = (1, 1),
        limit: int = None,  # pyright: ignore[reportArgumentType]
        plain=None,
    ):
        super().__init__()
        self.given = size, speed, kind, shape, limit, plain
        if size == 13:
            raise ValueError("size must not be 13.\nIt is unlucky.")


class Unknown(CoinEnv):
    """Has an annotation that Python cannot evaluate, and passes other options on."""

    def __init__(self, size: "NoSuchClass" = 3, **others: Any):  # noqa: F821  # pyright: ignore
        super().__init__()
        self.given = size, others


@pytest.fixture(autouse=True)
def registered():
    """The ids of these environments."""
    makers = {"Typed-v0": Typed, "Unknown-v0": Unknown, "Partial-v0": partial(Typed, 5)}
    for env_id, maker in makers.items():
        gymnasium.register(env_id, maker, disable_env_checker=True)
    yield
    for env_id in makers:
        gymnasium.registry.pop(env_id)


def given(env_id, **options):
    env: Any = make_env(env_id, **options)
    return env.unwrapped.given


def test_the_annotations_of_other_packages_are_read():
    assert given("Typed-v0", size=3, speed=1, kind="b", shape=[2, 3]) == (
        3,
        1.0,
        "b",
        (2, 3),
        None,
        None,
    )
    assert given("Typed-v0", plain="1", limit=None, max_episode_steps=7)[-2:] == (None, "1")
    assert given("Partial-v0", speed=2) == (5, 2.0, "a", (1, 1), None, None)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"size": "4"}, "env.options.size must be a whole number, got '4'."),
        ({"speed": "fast"}, "env.options.speed must be a number or null, got 'fast'."),
        ({"kind": "c"}, "env.options.kind must be 'a' or 'b', got 'c'."),
        ({"shape": [1]}, "env.options.shape must be a list of 2: a whole number, a whole number"),
        ({"sise": 4}, "env.options.sise is not an option of Typed-v0. Did you mean size?"),
        ({"max_episode_steps": 1.5}, "env.options.max_episode_steps must be a whole number"),
        ({"size": 13}, "env.options does not fit Typed-v0: size must not be 13."),
    ],
)  # fmt: skip
def test_wrong_options_of_other_packages_are_reported_in_one_line(options, message):
    cfg = load_config("Typed-v0")
    cfg.env.options = options
    with pytest.raises(SettingError) as error:
        build_env(cfg)
    assert message in str(error.value) and str(error.value).isprintable()


def test_options_that_a_signature_does_not_explain_are_passed_on():
    assert given("Unknown-v0", size="x", other=[1]) == ("x", {"other": [1]})


def test_a_constructor_without_a_signature_takes_every_option():
    spec = gymnasium.spec("Unknown-v0")
    spec.entry_point = dict.fromkeys  # pyright: ignore[reportAttributeAccessIssue]
    spec.entry_point = type  # pyright: ignore[reportAttributeAccessIssue]  # has none
    assert fit_options(spec, {"a": 1}) == {"a": 1}
