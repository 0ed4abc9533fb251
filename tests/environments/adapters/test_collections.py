"""Games of reasoning-gym, TextArena and GEM keep the text contract."""

import inspect
import random
import re
import sys
from collections import deque

import gymnasium
import numpy as np
import pytest

from sesa_agent.configs.errors import SettingError
from sesa_agent.environments import check_text_env, fork, fork_kind, is_deterministic, make_env
from sesa_agent.environments.adapters import collections
from sesa_agent.environments.adapters.collections import COLLECTIONS, register_collection
from sesa_agent.environments.adapters.reasoning_gym_env import READERS
from tests.helpers.collections import ids, module_of, need

ALL = ids("reasoning_gym", "textarena", "gem")
GAMES = ids("textarena", "gem")


def opened(env_id: str, seed: int = 0, **options) -> gymnasium.Env:
    """A game on its first observation; skips if its package is missing."""
    need(env_id.partition("/")[0])
    env = make_env(env_id, **options)
    env.reset(seed=seed)
    return env


@pytest.mark.parametrize("env_id", ALL)
def test_a_game_that_was_taken_out_of_the_registry_is_found_again(env_id):
    """Tests of the documentation clean the registry; a collection was then lost for good."""
    opened(env_id)
    namespace = env_id.partition("/")[0]
    for known in [name for name in gymnasium.registry if name.startswith(f"{namespace}/")]:
        del gymnasium.registry[known]
    opened(env_id)


@pytest.mark.parametrize("env_id", ALL)
def test_they_keep_the_text_contract(env_id):
    check_text_env(opened(env_id), num_episodes=2)


@pytest.mark.parametrize("name", COLLECTIONS)
def test_a_missing_package_is_one_line_that_says_what_to_install(name, monkeypatch):
    package = module_of(name)
    parts = ("", ".factory", ".envs.registration", ".constants")
    for part in parts:
        monkeypatch.setitem(sys.modules, f"{package}{part}", None)  # as Python notes what it misses
    collections._games.cache_clear()
    extra = COLLECTIONS[name].extra
    with pytest.raises(SettingError, match=rf"needs the package .*sesa-agent\[{extra}\]'\.$"):
        make_env(f"{name}/Game-v0")


def test_an_unknown_game_names_the_nearest():
    need("reasoning_gym")
    with pytest.raises(gymnasium.error.NameNotFound, match="Did you mean: `leg_counting`"):
        make_env("reasoning_gym/leg_countin")


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("TicTacToe-v0", "it is for several players"),
        ("TwentyQuestions-v0", "it asks a language model on the internet"),
        ("Sudoku-v0-raw", "this variant shows no text"),
    ],
)
def test_a_game_that_textarena_has_and_we_do_not_is_refused_with_the_reason(name, reason):
    need("textarena")
    with pytest.raises(SettingError, match=rf"env.id textarena/{name} is not played: {reason}"):
        make_env(f"textarena/{name}")


def test_a_namespace_that_is_not_played_is_one_line_with_the_reason():
    with pytest.raises(SettingError, match=r"^--env verifiers/\.\.\. is not played: .* no step"):
        make_env("verifiers/gsm8k")


def test_a_namespace_of_no_collection_registers_nothing():
    assert register_collection("sesa") == ()


@pytest.mark.parametrize("env_id", ALL)
def test_the_global_random_generators_are_not_disturbed(env_id):
    env = opened(env_id)
    random.seed(5)
    np.random.seed(5)
    before = random.getstate(), np.random.get_state()[1].tolist()  # pyright: ignore
    env.reset(seed=1)
    for text in env.unwrapped.text_spec.examples:  # pyright: ignore[reportAttributeAccessIssue]
        fork(env).step(text)
    assert (random.getstate(), np.random.get_state()[1].tolist()) == before  # pyright: ignore


@pytest.mark.parametrize("env_id", ["textarena/2048-v0", "gem/Game2048-v0-easy"])
def test_games_played_side_by_side_have_their_own_noise(env_id):
    alone, one, other = (opened(env_id) for _ in range(3))
    moves = ["up", "left", "down", "right"] * 3
    expected = [alone.step(move)[0] for move in moves]
    other.reset(seed=1)
    seen = []
    for move in moves:
        other.step(move)
        seen.append(one.step(move)[0])
    assert seen == expected
    assert not is_deterministic(one)


def test_a_reseeded_fork_gets_other_tiles():
    env = opened("textarena/2048-v0")
    futures = [
        [twin.step(move)[0] for move in ("up", "left", "down", "right")]
        for twin in (fork(env), fork(env), fork(env, reseed=1), fork(env, reseed=1))
    ]
    assert futures[0] == futures[1] != futures[2] == futures[3]
    assert fork_kind(env) == "deepcopy"


def test_a_solution_of_a_problem_succeeds_and_anything_else_fails():
    env = opened("reasoning_gym/leg_counting", min_animals=2, max_animals=3)
    game = env.unwrapped.game  # pyright: ignore[reportAttributeAccessIssue]
    text, reward, terminated, truncated, info = fork(env).step(game.problem["answer"])
    assert (reward, terminated, truncated, info["success"], info["legal"]) == (1, True, False, 1, 1)
    assert text == game.to_text()
    assert fork(env).step("many")[1:4] == (0.0, True, False)
    assert fork(env).step(" ")[4] == {"success": False, "legal": False}


def test_success_may_ask_for_less_than_the_full_score():
    name = "reasoning_gym/spiral_matrix"
    strict, mild = opened(name), opened(name, success_score=0.1)
    answer = strict.unwrapped.game.problem["answer"]  # pyright: ignore
    as_list = f"[{answer.replace(' ', ', ')}]"
    assert [env.step(as_list)[4]["success"] for env in (strict, mild)] == [False, True]
    for score in (0, 1.5):
        with pytest.raises(ValueError, match="success_score must be above 0 and at most 1"):
            opened(name, success_score=score)


@pytest.mark.parametrize("options", [{"min_animals": 0}, {"max_animals": 1}])
def test_options_that_a_dataset_refuses_are_value_errors(options):
    with pytest.raises(ValueError, match="animals must be"):
        opened("reasoning_gym/leg_counting", **options)


@pytest.mark.parametrize("name", READERS)
def test_an_answer_that_a_scorer_would_run_is_read_only_if_it_is_safe(name, tmp_path):
    for seed in range(5):
        env = opened(f"reasoning_gym/{name}", seed)
        answer = env.unwrapped.game.problem["answer"]  # pyright: ignore
        assert env.step(answer)[4] == {"success": True, "legal": True}, answer
    env.reset(seed=0)
    mark = tmp_path / "was_run"
    outcome = env.step(f"__import__('pathlib').Path({str(mark)!r}).touch()")
    assert outcome[4] == {"success": False, "legal": False}
    assert not mark.exists()


def test_every_scorer_that_runs_answers_is_known():
    """If this fails after an update of reasoning-gym, add the dataset to READERS."""
    need("reasoning_gym")
    from reasoning_gym.factory import DATASETS  # pyright: ignore[reportMissingImports]

    runs = re.compile(r"\b(eval|exec|parse_expr|sympify|parse_latex)\(\s*answer")
    sources = {name: inspect.getsource(dataset) for name, (dataset, _) in DATASETS.items()}
    assert {name for name, source in sources.items() if runs.search(source)} == set(READERS)


def test_an_answer_that_makes_a_scorer_raise_is_wrong():
    assert opened("reasoning_gym/boxnet").step("0")[1:3] == (0.0, True)


def test_a_move_of_thousands_of_digits_reaches_no_game():
    env = opened("textarena/GuessTheNumber-v0")
    assert env.step("9" * 10_000)[4] == {"success": False, "legal": False}


def test_a_game_that_swaps_reward_and_reason_gives_no_reward():
    """TextArena 0.7.4 hands over both in the wrong order where these forbid a move."""
    env = opened("textarena/Slitherlink-v0")
    env.step("no move")
    assert env.step("no move")[1:3] == (0.0, True)


def way_through(env: gymnasium.Env, moves: tuple[str, ...]) -> list[str]:
    """The shortest list of moves to success, by trying forks."""
    frontier, seen = deque([([], env)]), set()
    while frontier:
        way, place = frontier.popleft()
        for move in moves:
            twin = fork(place)
            text, _, terminated, _, info = twin.step(move)
            if info["success"]:
                return [*way, move]
            board = text[text.rindex("Current Board") :]
            if not terminated and info["legal"] and board not in seen:
                seen.add(board)
                frontier.append(([*way, move], twin))
    raise AssertionError("there is no way")


def test_a_path_over_the_lake_of_textarena_succeeds():
    env = opened("textarena/FrozenLake-v0-train")
    way = way_through(env, ("up", "down", "left", "right"))
    outcomes = [env.step(move) for move in way]
    assert len(way) == 6
    assert [outcome[1] for outcome in outcomes] == [0.0] * 5 + [1.0]
    assert [outcome[4]["success"] for outcome in outcomes] == [False] * 5 + [True]
    assert outcomes[-1][2] and not outcomes[-1][3]


def test_the_second_illegal_move_in_a_row_loses_in_textarena():
    env = opened("textarena/LightsOut-v0")
    first, second = env.step("9 9"), env.step("no move")
    assert (first[2], first[4]["legal"]) == (False, False)
    assert (second[2], second[4]["legal"], second[4]["success"]) == (True, False, False)
    again = env.step("0 0")
    assert again[0] == second[0] and again[1:3] == (0.0, True)


def test_moves_have_one_canonical_spelling():
    textarena, gem = (opened(f"{name}") for name in (GAMES[0], GAMES[2]))
    read = textarena.unwrapped.canonical_action  # pyright: ignore[reportAttributeAccessIssue]
    assert [read(text) for text in ("up", "[up]", " 1  2", " ")] == ["[up]", "[up]", "[1 2]", None]
    read = gem.unwrapped.canonical_action  # pyright: ignore[reportAttributeAccessIssue]
    assert [read(text) for text in ("5", r"\boxed{5}", "")] == [r"\boxed{5}", r"\boxed{5}", None]


def test_halving_the_range_finds_the_number_of_gem():
    env = opened("gem/GuessTheNumber-v0-easy", max_number=15)
    low, high, terminated = 1, 15, False
    while not terminated:
        guess = (low + high) // 2
        text, reward, terminated, _, info = env.step(str(guess))
        is_lower = f"target number is lower than {guess}" in text
        low, high = (low, guess - 1) if is_lower else (guess + 1, high)
    assert (reward, terminated, info["success"]) == (1.0, True, True)  # pyright: ignore


def test_a_move_in_a_wrong_form_ends_a_game_of_gem():
    outcome = opened("gem/GuessTheNumber-v0-easy").step("the middle")
    assert outcome[1:4] == (-0.1, True, False)
    assert outcome[4] == {"success": False, "legal": False}


def test_an_option_that_a_game_of_gem_would_ignore_is_refused():
    with pytest.raises(TypeError, match="gem/GuessTheNumber-v0-easy has no option 'max_numbr'"):
        opened("gem/GuessTheNumber-v0-easy", max_numbr=15)


def test_importing_gem_leaves_logging_as_it_was():
    need("gem")
    import logging

    register_collection("gem")
    assert logging.getLogger().level == logging.WARNING
