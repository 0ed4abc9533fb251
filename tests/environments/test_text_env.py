import copy

import gymnasium
import numpy as np
import pytest
from gymnasium.spaces import Box, Discrete
from gymnasium.wrappers import OrderEnforcing, RecordEpisodeStatistics, TimeLimit

from sesa_agent.environments.games.frozen_lake import make_frozen_lake
from sesa_agent.environments.text_env import (
    TextEnv,
    TextGame,
    TextSpec,
    action_reader,
    fork,
    has_state_key,
    is_deterministic,
    max_steps,
    num_puzzles,
    num_targets,
    state_key,
    text_game,
    text_spec,
)

CORNER = "P___\n____\n____\n___G"


class CountingGame(TextGame[int]):
    """Counts up to three; a step of chance is counted apart."""

    text_spec = TextSpec("Count to three.", "", "Up, Down")
    observation_space = Box(0, 9, (2,), np.int64)
    action_space = Discrete(2)  # pyright: ignore[reportAssignmentType]

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.count, self.chance = 0, 0
        return np.array([0, 0]), {"origin": seed}

    def step(self, action):
        moved = action == 0 or self.count > 0
        self.count += (1 if action == 0 else -1) * moved
        self.chance = int(self.np_random.integers(10))
        info = {"success": self.count == 3, "legal": moved}
        observation = np.array([self.count, self.chance])
        return observation, float(self.count), self.count == 3, False, info

    def to_text(self):
        return str(self.count)

    def read_action(self, text):
        return {"up": ("Up", 0), "down": ("Down", 1)}.get(text.strip().lower())

    def fork(self):
        return copy.deepcopy(self)

    def state_key(self):
        return self.count

    def render(self):
        return np.full((2, 2, 3), self.count, dtype=np.uint8)


class ForeignEnv(gymnasium.Env):
    """Someone else's environment: it knows nothing of forks, keys or determinism."""

    observation_space = Discrete(100)
    action_space = Discrete(2)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.visited = [0]
        return 0, {}

    def step(self, action):
        self.visited.append(int(self.np_random.integers(100)))
        return self.visited[-1], 0.0, False, False, {}


def counting(max_steps=5, render_mode=None) -> TextEnv:
    env = TextEnv(CountingGame(), max_steps, render_mode)
    env.reset(seed=0)
    return env


def test_text_actions_are_played_and_observations_are_text():
    env = counting()
    observation, info = env.reset(seed=7)
    assert (observation, info) == ("0", {"origin": 7, "success": False, "legal": True})
    assert env.step(" UP ") == ("1", 1.0, False, False, {"success": False, "legal": True})


def test_winning_terminates_with_success():
    env = counting()
    replies = [env.step("Up") for _ in range(3)]
    assert [reply[2] for reply in replies] == [False, False, True]
    assert replies[-1][4] == {"success": True, "legal": True}


def test_unreadable_text_changes_nothing_but_uses_up_an_action():
    env = counting(max_steps=2)
    env.step("Up")
    observation, reward, terminated, truncated, info = env.step("fly\x00 \U0001f600")
    assert (observation, reward, terminated, truncated) == ("1", 0.0, False, True)
    assert info == {"success": False, "legal": False}


def test_a_move_against_the_rules_is_readable_but_not_legal():
    env = counting()
    assert env.canonical_action("down") == "Down"
    assert env.step("down")[4]["legal"] is False


def test_win_on_the_last_permitted_action_is_not_truncated():
    env = counting(max_steps=3)
    env.step("Up")
    env.step("Up")
    assert env.step("Up")[2:4] == (True, False)


def test_reset_restarts_the_action_count():
    env = counting(max_steps=1)
    assert env.step("Up")[3]
    env.reset()
    assert env.num_steps == 0


def test_canonical_action_returns_one_spelling_or_none():
    env = counting()
    assert [env.canonical_action(text) for text in ("up", " Up\n", "Up Up")] == ["Up", "Up", None]


@pytest.mark.parametrize("first", ["original", "fork"])
def test_a_fork_and_its_original_draw_the_same_numbers_in_either_order(first):
    """They share one generator until a number is drawn."""
    env = make_frozen_lake()
    env.reset(seed=0)
    twin = fork(env)
    pair = (env, twin) if first == "original" else (twin, env)
    expected = np.random.default_rng(0).random(3).tolist()
    for side in pair:
        assert side.np_random.random(3).tolist() == expected
        assert side.np_random is side.game.np_random


def test_a_fork_of_a_fork_has_its_own_generator():
    env = make_frozen_lake()
    env.reset(seed=0)
    twins = [env, fork(env), fork(fork(env))]
    assert len({twin.np_random.random() for twin in twins}) == 1
    assert len({id(twin.np_random) for twin in twins}) == 3


def test_a_generator_of_another_kind_is_copied_too():
    env = make_frozen_lake()
    env.reset(seed=0)
    env.np_random = np.random.Generator(np.random.MT19937(5))
    assert fork(env).np_random.random() == env.np_random.random()


def test_max_steps_below_one_is_refused():
    with pytest.raises(ValueError, match="max_steps must be at least 1, got 0"):
        TextEnv(CountingGame(), max_steps=0)


def test_render_gives_text_picture_or_nothing():
    assert counting(render_mode="ansi").render() == "0"
    assert counting(render_mode="rgb_array").render().shape == (2, 2, 3)
    assert counting().render() is None


def wrapped(env: gymnasium.Env) -> gymnasium.Env:
    return RecordEpisodeStatistics(TimeLimit(OrderEnforcing(env), max_episode_steps=3))


@pytest.mark.parametrize("wrap", [lambda env: env, wrapped], ids=["bare", "wrapped"])
def test_stepping_a_fork_leaves_the_original_alone(wrap):
    env = wrap(make_frozen_lake(slippery=False))
    env.reset(seed=0, options={"level": CORNER})
    env.step("Right")
    key = state_key(env)
    twin = fork(env)
    assert type(twin) is type(env) and state_key(twin) == key
    twin.step("Down")
    assert state_key(env) == key != state_key(twin)
    assert env.step("Right")[0] == "__P_\n____\n____\n___G"


def test_forked_wrappers_count_their_own_steps():
    """A counter shared by the branches would truncate the later ones early."""
    env = wrapped(make_frozen_lake(slippery=False))
    env.reset(seed=0, options={"level": CORNER})
    twins = [fork(env) for _ in range(3)]
    for twin in twins:
        assert [twin.step("Up")[3] for _ in range(3)] == [False, False, True]
    assert env.step("Up")[3] is False


def test_fork_counts_its_own_actions():
    env = counting(max_steps=2)
    twin = fork(env)
    twin.step("Up")
    assert (env.num_steps, twin.num_steps) == (0, 1)


def chances(env: TextEnv, length: int = 8) -> list[int]:
    game = env.game
    assert isinstance(game, CountingGame)
    values = []
    for _ in range(length):
        env.step("Down")
        values.append(game.chance)
    return values


def test_forks_share_the_noise_unless_they_are_reseeded():
    env = counting(max_steps=100)
    shared, again = fork(env), fork(env)
    assert chances(shared) == chances(again)
    first, second, repeated = fork(env, reseed=1), fork(env, reseed=2), fork(env, reseed=1)
    noise = chances(first)
    assert noise != chances(second)
    assert noise == chances(repeated)


def test_reseeding_a_fork_leaves_the_noise_of_the_original():
    env, untouched = counting(max_steps=100), counting(max_steps=100)
    chances(fork(env, reseed=1))
    assert chances(env) == chances(untouched)


def test_reseeded_forks_slip_apart_on_the_lake():
    env = make_frozen_lake(max_steps=10)
    env.reset(seed=0, options={"level": "____\n_P__\n____\n___G"})
    places = set()
    for seed in range(30):
        twin = fork(env, reseed=seed)
        places.add(twin.step("Left")[0])
    assert len(places) == 3


def test_foreign_environment_is_deep_copied():
    env = wrapped(ForeignEnv())
    env.reset(seed=3)
    env.step(0)
    twin, reseeded = fork(env), fork(env, reseed=5)
    assert twin.step(0)[0] == env.step(0)[0]
    reseeded.step(0)
    twin.step(0)
    foreign = env.unwrapped
    assert isinstance(foreign, ForeignEnv) and len(foreign.visited) == 3


def test_state_key_ignores_the_number_of_steps():
    env = counting()
    start = state_key(env)
    env.step("Up")
    env.step("Down")
    assert state_key(env) == start
    assert hash(start) == hash(state_key(env))


def test_missing_state_key_says_what_to_do():
    with pytest.raises(TypeError, match=r"has no state_key\(\): give it one, or set sampling"):
        state_key(wrapped(ForeignEnv()))


def test_only_environments_that_say_so_are_deterministic():
    assert is_deterministic(wrapped(make_frozen_lake(slippery=False)))
    assert not is_deterministic(wrapped(make_frozen_lake(slippery=True)))
    assert not is_deterministic(ForeignEnv())


def test_optional_parts_of_the_contract_are_read_through_wrappers():
    env = counting(max_steps=7)
    wrapped = TimeLimit(env, max_episode_steps=3)
    assert text_spec(wrapped) is env.text_spec
    assert (max_steps(wrapped), num_targets(wrapped), num_puzzles(wrapped)) == (7, 0, {})
    assert text_game(wrapped) is env.game
    assert has_state_key(wrapped)
    read = action_reader(wrapped)
    assert read is not None and read(" UP ") == "Up"


def test_an_environment_without_the_optional_parts_gets_their_defaults():
    env = ForeignEnv()
    assert [text_spec(env), max_steps(env), text_game(env), action_reader(env)] == [None] * 4
    assert (num_targets(env), num_puzzles(env), has_state_key(env)) == (0, {}, False)


def test_the_step_limit_may_be_a_numpy_integer_and_nothing_but_an_integer():
    env = ForeignEnv()
    env.max_steps = np.int64(9)  # pyright: ignore[reportAttributeAccessIssue]
    assert max_steps(env) == 9
    env.max_steps = "many"  # pyright: ignore[reportAttributeAccessIssue]
    assert max_steps(env) is None
