"""Out-of-distribution sets and the limits that longer puzzles need."""

from pathlib import Path

import pytest

from sesa_agent.configs.errors import SettingError
from sesa_agent.configs.load import load_config
from sesa_agent.environments import OWN_ENVIRONMENTS, make_env
from sesa_agent.environments.ood_sets import (
    OOD_SETS,
    refuse_ood_set,
    usable_sets,
    with_ood_set,
)
from sesa_agent.environments.text_env import longest_solution, max_steps
from sesa_agent.training.setup import resolve_auto

NAMES = {
    load_config(name).env.id: name
    for name in (
        "sokoban",
        "countdown",
        "frozen_lake",
        "sudoku",
        "math",
        "path_exploration",
        "sql_questions",
    )
}
SETS = [(env_id, name) for env_id, sets in OOD_SETS.items() for name in sets]
DOCS = Path(__file__).parents[2] / "docs"


def test_every_game_has_sets():
    # The treasures of Countries are one puzzle, whose prompt has no other form.
    assert OOD_SETS.keys() | {"sesa/Countries-v0"} == set(OWN_ENVIRONMENTS)
    assert OOD_SETS.keys() == NAMES.keys()


@pytest.mark.parametrize(("env_id", "name"), SETS)
def test_the_puzzles_of_a_set_fit_its_limits_and_differ_from_training(env_id, name):
    cfg = load_config(NAMES[env_id], overrides=[f"eval.split={name}"])
    changed = resolve_auto(with_ood_set(cfg))
    env, before = (make_env(env_id, **one.env.options) for one in (changed, cfg))
    limit = min(max_steps(env) or 10**6, changed.env.max_turns * changed.env.actions_per_turn)
    assert longest_solution(env) <= limit
    prompts = [(one.reset(seed=7)[0], one.unwrapped.text_spec) for one in (env, before)]  # pyright: ignore[reportAttributeAccessIssue]
    assert prompts[0] != prompts[1]


def test_the_page_lists_all_sets():
    page = (DOCS / "environments.md").read_text(encoding="utf-8")
    for env_id, sets in OOD_SETS.items():
        told = ", ".join(f"`{name}` ({one.summary})" for name, one in sets.items())
        assert f"| `{NAMES[env_id]}` | {told} |" in page


def test_the_split_of_training_changes_nothing():
    cfg = load_config("sokoban")
    assert with_ood_set(cfg) is cfg


@pytest.mark.parametrize(
    ("env", "words", "told"),
    [
        ("sokoban", ["eval.split=big"], "one of test, large, boxes, long, symbols in sesa/Sokoban"),
        ("Taxi-v3", ["eval.split=large"], "eval.split must be test in Taxi-v3, got 'large'"),
        (
            "sokoban",
            ["eval.split=boxes", "env.options.num_boxes=2"],
            "training has num_boxes=2",
        ),
        (
            "math",
            ["eval.split=terms", "env.options.path=x.csv"],
            "must be test with the puzzles of env.options.path",
        ),
    ],
)
def test_a_set_that_is_none_is_refused_in_one_line(env, words, told):
    with pytest.raises(SettingError, match=told):
        with_ood_set(load_config(env, overrides=words))


def test_training_on_a_set_is_refused():
    with pytest.raises(SettingError, match="sesa-agent evaluate RUN eval.split=large"):
        refuse_ood_set(load_config("sokoban", overrides=["eval.split=large"]))


@pytest.mark.parametrize(
    ("env", "words", "told"),
    [
        (
            "sokoban",
            ["max_solution=30"],
            "env.max_turns must be at least 30.*Set env.max_turns=30",
        ),
        (
            "sokoban",
            ["max_solution=30", "max_steps=10"],
            "env.options.max_steps must be at least 30.*env.max_turns=30",
        ),
        ("frozen_lake", ["size=8"], "env.max_turns must be at least 14"),
    ],
)
def test_puzzles_longer_than_the_step_limit_are_refused(env, words, told):
    """Of 150 puzzles of an 8x8 Sokoban with two boxes 130 could not be won in 10 steps."""
    words = [f"env.options.{word}" for word in words]
    with pytest.raises(SettingError, match=told):
        resolve_auto(load_config(env, overrides=words))


def test_with_room_for_their_moves_longer_puzzles_are_played():
    words = ["env.options.max_solution=30", "env.max_turns=10", "env.actions_per_turn=3"]
    cfg = resolve_auto(load_config("sokoban", overrides=words))
    assert max_steps(make_env(cfg.env.id, **cfg.env.options)) == 30


@pytest.mark.parametrize("env_id", ["sesa/Sokoban-v0", "sesa/FrozenLake-v0"])
def test_symbols_change_the_words_alone(env_id):
    symbols = OOD_SETS[env_id]["symbols"].options["symbols"]
    plain, other = make_env(env_id), make_env(env_id, symbols=symbols)
    table = str.maketrans(plain.unwrapped.game.charset, other.unwrapped.game.charset)  # pyright: ignore[reportAttributeAccessIssue]
    for seed in range(5):
        assert plain.reset(seed=seed)[0].translate(table) == other.reset(seed=seed)[0]
        text = other.reset(seed=seed)[0]
        assert other.reset(options={"level": text})[0] == text
        for action in ("Up", "Left", "Down"):
            plain.reset(seed=seed)
            other.reset(seed=seed)
            one, two = plain.step(action), other.step(action)
            assert one[0].translate(table) == two[0] and one[1:] == two[1:]


@pytest.mark.parametrize("symbols", ["#_O√XP", "#_O√XPP", "#_O√XP ", "#_O√XP\n"])
def test_symbols_that_cannot_be_told_apart_are_refused(symbols):
    with pytest.raises(ValueError, match="symbols must be 7 different visible characters"):
        make_env("sesa/Sokoban-v0", symbols=symbols)


def test_the_sets_that_training_plays_are_not_usable():
    cfg = load_config("sokoban", overrides=["env.options.num_boxes=2"])
    assert usable_sets(load_config("sokoban")) == ["large", "boxes", "long", "symbols"]
    assert usable_sets(cfg) == ["large", "long", "symbols"]
    assert usable_sets(load_config("Taxi-v3")) == []
