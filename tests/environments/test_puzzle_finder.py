"""Held-out puzzles are held out by their content."""

import subprocess
import sys
from typing import Any

import gymnasium
import pytest
from gymnasium.spaces import Text
from hypothesis import given, settings
from hypothesis import strategies as st

from sesa_agent.configs.errors import SettingError
from sesa_agent.environments import EnvError, GuardedEnv, TextSpec, make_env
from sesa_agent.environments.checks import run_checks
from sesa_agent.environments.games.data_files import SPLITS
from sesa_agent.environments.puzzle_finder import (
    MAX_RESETS,
    NUM_ALIKE,
    SHARES,
    STRIDE,
    PuzzleFinder,
    TooFewPuzzles,
    find_seed,
    share_of,
    substitutes,
    wanted_share,
)
from sesa_agent.environments.splits import puzzle_seeds, training_seeds
from sesa_agent.environments.text_env import puzzle_content

GAMES = {
    "Sokoban": ("sesa/Sokoban-v0", {}),
    "Sokoban 4x5": ("sesa/Sokoban-v0", {"num_rows": 4, "num_columns": 5, "min_solution": 1}),
    "Countdown": ("sesa/Countdown-v0", {"max_number": 20}),
    "Countdown of small numbers": (
        "sesa/Countdown-v0",
        {"min_count": 2, "max_count": 2, "max_number": 9},
    ),
    "FrozenLake": ("sesa/FrozenLake-v0", {}),
    "FrozenLake 3x3": ("sesa/FrozenLake-v0", {"size": 3}),
    "FrozenLake 2x2": ("sesa/FrozenLake-v0", {"size": 2}),
    "Sudoku": ("sesa/Sudoku-v0", {}),
    "Sudoku of one blank": ("sesa/Sudoku-v0", {"num_blanks": 1}),
    "Math": ("sesa/Math-v0", {}),
    "Math of two terms": ("sesa/Math-v0", {"num_terms": 2, "max_number": 9}),
    "SqlQuestions": ("sesa/SqlQuestions-v0", {}),
}
SPEC = TextSpec("Guess the colour.", legend="", actions="Red, Blue")


def finder_of(env_id, **options):
    return PuzzleFinder(lambda: make_env(env_id, **options))


class Colours(gymnasium.Env):
    """Shows one of `num` colours; every reset is noted."""

    text_spec = SPEC
    observation_space, action_space = Text(20), Text(20)

    def __init__(self, num, resets=None):
        self.num, self.resets = num, [] if resets is None else resets

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.resets.append(seed)
        self.colour = int(self.np_random.integers(self.num))
        return self.first_text(), {}

    def first_text(self):
        return f"colour {self.colour}"

    def step(self, action):
        return self.first_text(), 0.0, True, False, {"success": False}


class HiddenColours(Colours):
    def first_text(self):
        return "Which colour?"


class ToldColours(HiddenColours):
    def puzzle_content(self, seed):
        self.reset(seed=seed)
        return str(self.colour)


def reader(env_id, **options):
    """What a game says of the puzzle of a seed; checks that it says something."""
    read = puzzle_content(make_env(env_id, **options))
    assert read is not None

    def content(seed):
        told = read(seed)
        assert told is not None
        return told

    return content


def guarded(make):
    return PuzzleFinder(lambda: GuardedEnv(make, step_timeout=10))


# ---- shares ----


def test_shares_are_a_half_a_quarter_and_a_quarter():
    assert [len(share) for share in SHARES.values()] == [128, 64, 64]
    assert sorted(byte for share in SHARES.values() for byte in share) == list(range(256))


@given(st.text() | st.binary())
def test_every_content_has_one_share(content):
    assert share_of(content) in SHARES


def test_pretraining_puzzles_have_the_share_of_training():
    seeds = {split: seeds.start for split, seeds in SPLITS.items()}
    shares = {split: wanted_share(seed) for split, seed in seeds.items()}
    assert shares == {split: split for split in SPLITS} | {"pretraining": "training"}


@given(st.sampled_from(["test", "validation", "pretraining"]), st.data())
def test_substitutes_of_two_seeds_that_are_not_for_training_differ(split, data):
    one, other = (data.draw(st.sampled_from(SPLITS[split])) for _ in range(2))
    shared = set(substitutes(one, 200)) & set(substitutes(other, 200))
    assert bool(shared) == (one == other)
    assert SPLITS["pretraining"].stop <= STRIDE


# ---- our games ----


@pytest.mark.parametrize("name", GAMES)
def test_no_puzzle_is_in_two_splits(name):
    """Of 1024 test puzzles in a 3x3 lake 546 were training puzzles when splits differed by seed."""
    env_id, options = GAMES[name]
    finder, read = finder_of(env_id, **options), reader(env_id, **options)
    found = {split: finder.find(list(SPLITS[split][:150])) for split in SPLITS}
    contents = {split: {read(seed) for seed in seeds} for split, seeds in found.items()}
    held_out = contents["test"], contents["validation"], contents["training"]
    assert sum(map(len, held_out)) == len(set.union(*held_out))
    assert contents["pretraining"].isdisjoint(contents["test"] | contents["validation"])
    assert {share_of(content) for content in contents["pretraining"]} == {"training"}


@pytest.mark.parametrize("name", GAMES)
def test_the_content_of_a_seed_is_what_its_reset_shows(name):
    """The seed that is found is a plain seed of the registered environment."""
    env_id, options = GAMES[name]
    one, read = make_env(env_id, **options), reader(env_id, **options)
    contents = {seed: read(seed) for seed in range(40)}
    shown = {seed: one.reset(seed=seed)[0] for seed in range(40)}
    pairs = {(contents[seed], shown[seed]) for seed in shown}
    if "Sql" not in name:  # the rows of its tables are shown later
        assert len({text for _, text in pairs}) == len(pairs)
    if "Countdown" not in name:  # its numbers may come in another order
        assert len({content for content, _ in pairs}) == len(pairs)


def test_a_countdown_with_its_numbers_in_another_order_is_the_same_puzzle():
    read = reader("sesa/Countdown-v0", max_number=3, max_count=3)
    shown = make_env("sesa/Countdown-v0", max_number=3, max_count=3)
    orders = {}
    for seed in range(200):
        orders.setdefault(read(seed), set()).add(shown.reset(seed=seed)[0])
    assert any(len(texts) > 1 for texts in orders.values())


def test_a_seed_of_its_split_is_kept_and_others_get_the_next_substitute():
    finder = finder_of("sesa/FrozenLake-v0")
    read = reader("sesa/FrozenLake-v0")
    for seed, found in zip(range(50), finder.find(range(50)), strict=True):
        tried = [share_of(read(one)) for one in substitutes(seed, 100)]
        assert found == seed + STRIDE * tried.index("test")


def test_half_of_the_training_puzzles_are_those_of_their_seeds():
    seeds = training_seeds(0, 0, 400)
    found = finder_of("sesa/Math-v0").find(seeds)
    assert 150 < sum(a == b for a, b in zip(seeds, found, strict=True)) < 250


def test_puzzles_are_found_in_any_order_and_again():
    one, other = finder_of("sesa/Sokoban-v0"), finder_of("sesa/Sokoban-v0")
    seeds = puzzle_seeds("validation", 20)
    assert one.find(seeds) == other.find(seeds[::-1])[::-1] == one.find(seeds)


def test_a_game_that_is_too_small_is_refused_in_one_line():
    finder = finder_of("sesa/Sokoban-v0", num_rows=3, num_columns=5, min_solution=1)
    with pytest.raises(SettingError, match="too few different puzzles: none of 2000 seeds") as told:
        [finder.find(list(SPLITS[split][:1])) for split in ("test", "validation", "training")]
    assert "sesa/Sokoban-v0" in str(told.value) and "larger size" in str(told.value)


def test_path_exploration_has_one_puzzle_for_all_splits():
    seeds = puzzle_seeds("test", 5)
    assert finder_of("sesa/PathExploration-v0").find(seeds) == seeds


@pytest.mark.parametrize("hash_seed", ["1", "2"])
def test_puzzles_are_the_same_in_every_process(hash_seed):
    """Python's own `hash` of a text differs from process to process."""
    code = (
        "from sesa_agent.environments import make_env\n"
        "from sesa_agent.environments.puzzle_finder import PuzzleFinder\n"
        "finder = PuzzleFinder(lambda: make_env('sesa/FrozenLake-v0'))\n"
        "print(finder.find(range(12)))\n"
    )
    told = subprocess.run(
        [sys.executable, "-c", code],
        env={"PYTHONHASHSEED": hash_seed, "PATH": ""},
        capture_output=True,
        text=True,
        check=True,
    )
    assert told.stdout.strip() == str(finder_of("sesa/FrozenLake-v0").find(range(12)))


# ---- data files ----


def test_rows_of_a_file_are_dealt_and_their_seeds_stay(tmp_path):
    path = tmp_path / "sums.jsonl"
    rows = [f'{{"question": "{n} + {n}?", "answer": "{2 * n}"}}' for n in range(60)]
    path.write_text("\n".join(rows), encoding="utf-8")
    games: dict[str, dict[str, Any]] = {str(path): {}, "sesa/Math-v0": {"path": str(path)}}
    for env_id, options in games.items():
        finder = finder_of(env_id, **options)
        shown = {}
        for split in ("training", "validation", "test"):
            seeds = list(SPLITS[split][:40])
            assert finder.find(seeds) == seeds
            env = make_env(env_id, **options)
            shown[split] = {env.reset(seed=seed)[0] for seed in seeds}
        assert all(shown.values())
        assert sum(map(len, shown.values())) == len(set.union(*shown.values()))


# ---- other environments ----


def test_an_environment_without_contents_is_split_by_its_first_observation():
    finder = guarded(lambda: Colours(1000))
    env = Colours(1000)
    for split in ("training", "validation", "test"):
        seeds = finder.find(list(SPLITS[split][:30]))
        assert {share_of(env.reset(seed=seed)[0]) for seed in seeds} == {split}


def test_an_environment_may_say_what_its_puzzles_are():
    """Its first observation is always the same."""
    finder, env = guarded(lambda: ToldColours(1000)), ToldColours(1000)
    seeds = finder.find(list(SPLITS["test"][:30]))
    assert {share_of(env.puzzle_content(seed)) for seed in seeds} == {"test"}


def test_puzzles_that_look_alike_are_split_by_seed_after_a_warning(caplog):
    resets = []
    finder = guarded(lambda: HiddenColours(1000, resets))
    seeds = [list(SPLITS[split][:20]) for split in ("training", "validation", "test")]
    assert [finder.find(part) for part in seeds] == seeds
    [first, second] = caplog.messages
    assert "do not tell its puzzles apart" in first and "puzzle_content(self, seed)" in second
    assert len(resets) <= 2 * NUM_ALIKE + 20 < MAX_RESETS


def test_a_failing_environment_is_left_to_fail_where_it_is_played():
    class Broken(Colours):
        def reset(self, *, seed=None, options=None):
            raise OSError("gone")

    assert guarded(lambda: Broken(3)).find([1, 2]) == [1, 2]


def test_an_environment_that_broke_in_one_puzzle_is_made_anew_for_the_next():
    class Fragile(Colours):
        is_broken = False

        def reset(self, *, seed=None, options=None):
            self.is_broken |= seed == 0
            if self.is_broken:
                raise OSError("gone")
            return super().reset(seed=seed, options=options)

    first, *others = guarded(lambda: Fragile(1000)).find(range(20))
    env = Colours(1000)
    assert first == 0
    assert {share_of(env.reset(seed=seed)[0]) for seed in others} == {"test"}


@pytest.mark.parametrize("given", [3, ("P", "O")])
def test_a_content_of_another_type_is_the_environments_failure(given):
    class Odd(Colours):
        def puzzle_content(self, seed):
            return given

    env = GuardedEnv(lambda: Odd(3), step_timeout=10)
    read = env.puzzle_content
    assert read is not None
    with pytest.raises(EnvError, match="must return a str, bytes or None"):
        read(0)


def test_check_env_says_what_decides_the_split_and_refuses_a_content_that_changes():
    class Changing(Colours):
        def puzzle_content(self, seed):
            self.resets.append(seed)
            return str(len(self.resets))

    told = {}
    for env in (Colours(1000), HiddenColours(9), ToldColours(1000), Changing(1000)):
        found = run_checks(env, checks=("api", "seeding"))["seeding"]
        told[type(env).__name__] = found.status, found.seen
    assert "by the first observation" in told["Colours"][1]
    assert "no puzzle_content(seed)" in told["HiddenColours"][1]
    assert "puzzle_content gave 20 contents" in told["ToldColours"][1]
    assert told["Changing"][0] == "failed"
    assert "two different values for one seed" in told["Changing"][1]


@settings(max_examples=20)
@given(st.integers(0, 99_999), st.integers(1, 40))
def test_the_number_of_tries_is_bounded(seed, max_tries):
    tried = []
    wrong = next(text for text in map(str, range(99)) if share_of(text) != "test")

    def read(candidate):
        tried.append(candidate)
        return wrong

    with pytest.raises(TooFewPuzzles):
        find_seed(seed, read, max_tries)
    assert tried == list(substitutes(seed, max_tries))
