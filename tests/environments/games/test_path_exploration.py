"""Path Exploration: the places, their many spellings, the game."""

import random
import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sesa_agent.environments import check_text_env, fork, make_env, state_key
from sesa_agent.environments.games.path_exploration import (
    OTHER,
    PathExplorationGame,
    make_path_exploration,
    normalise,
)
from sesa_agent.environments.games.places import PLACES, TREASURES

UNLISTED = "Sichuan Province – Mianyang City – Fucheng District"
canonical = make_path_exploration().canonical_action


# ---- places ----


def test_the_world_has_200_places_and_20_treasures_among_them():
    assert len(PLACES) == len(set(PLACES)) == 200
    assert len(TREASURES) == len(set(TREASURES)) == 20
    assert set(TREASURES) < set(PLACES)


def test_no_two_places_have_one_normalised_name_even_without_spaces():
    names = [normalise(place) for place in PLACES]
    assert all(names)
    assert len({name.replace(" ", "") for name in names if name}) == 200


def test_every_listed_spelling_is_canonical():
    assert [canonical(place) for place in PLACES] == list(PLACES)


def test_places_have_the_levels_of_the_papers_list():
    for place in PLACES:
        province, *cities, district = place.split(" – ")
        assert province.endswith((" Province", " Municipality", " Autonomous Region"))
        assert all(city.endswith(" City") for city in cities)
        assert len(cities) == (not province.endswith(" Municipality"))
        assert district.endswith((" District", " County", " City", " Zone", " Area"))


# ---- names ----

HARBIN_ZONE = (
    "Heilongjiang Province – Harbin City – Harbin Economic & Technological Development Zone"
)
TIANJIN_ZONE = "Tianjin Municipality – Tianjin Economic-Technological Development Area"
SHENZHEN_ZONE = "Guangdong Province – Shenzhen City – Shenzhen High-tech Zone"
NANSHAN = "Guangdong Province – Shenzhen City – Nanshan District"
YINCHUAN_ZONE = (
    "Ningxia Hui Autonomous Region – Yinchuan City – "
    "Yinchuan Economic & Technological Development Zone"
)


@pytest.mark.parametrize(
    ("place", "spelling"),
    [
        (NANSHAN, "Guangdong–Shenzhen–Nanshan"),
        (NANSHAN, "guangdong-shenzhen-nanshan"),
        (NANSHAN, "GUANGDONG PROVINCE, SHENZHEN CITY, NANSHAN DISTRICT."),
        (NANSHAN, "Guangdong -> Shenzhen => Nan Shan"),
        (NANSHAN, "Guangdong → Shenzhen / Nanshan County"),
        (NANSHAN, "- **Guangdong Province — Shenzhen City — Nanshan District**"),
        (NANSHAN, '  12. "Guangdong － Shenzhen ， Nánshān"\n'),
        (HARBIN_ZONE, "Heilongjiang-Harbin-Economic-Technological Development Zone"),
        (HARBIN_ZONE, "Heilongjiang – Harbin – Economic and Technological Development Area"),
        (HARBIN_ZONE, "Heilongjiang – Harbin – Harbin City Economic Development Zone"),
        (HARBIN_ZONE, "Heilongjiang – Harbin – Economic & Technical Development Zone"),
        (TIANJIN_ZONE, "Tianjin – Tianjin – Economic Development Zone"),
        (
            TIANJIN_ZONE,
            "Tianjin City – Tianjin City – Tianjin Economic & Technological Development Zone",
        ),
        (SHENZHEN_ZONE, "Guangdong-Shenzhen-High-tech Zone"),
        (SHENZHEN_ZONE, "Guangdong – Shenzhen – Shenzhen Hi-Tech Industrial Park"),
        (SHENZHEN_ZONE, "Guangdong – Shenzhen – High and New Technology Industry Development Zone"),
        (SHENZHEN_ZONE, "Guangdong – Shenzhen – High-tech Industrial Development Zone"),
        (YINCHUAN_ZONE, "Ningxia – Yinchuan – Economic Development Zone"),
        (YINCHUAN_ZONE, "Ningxia Hui – Yinchuan – Economic Development Zone"),
        (YINCHUAN_ZONE, "Ningxia Autonomous Region – Yinchuan – Economic Development Zone"),
        ("Beijing Municipality – Haidian District", "Beijing – Haidian"),
        ("Beijing Municipality – Haidian District", "Beijing City – Beijing – Haidian District"),
        ("Shanghai Municipality – Pudong New Area", "Shanghai – Shanghai – Pudong New District"),
        ("Shaanxi Province – Xi'an City – Yanta District", "shaanxi – xi’an – yan ta"),
        ("Hunan Province – Changsha City – Changsha County", "Hunan – Changsha – Changsha"),
        ("Jilin Province – Jilin City – Chuanying District", "Jilin – Jilin – Chuanying"),
        (
            "Xinjiang Uyghur Autonomous Region – Urumqi City – Tianshan District",
            "Xinjiang Uygur Autonomous Region – Ürümqi – Tianshan",
        ),
    ],
)
def test_spellings_of_one_place(place, spelling):
    assert place in PLACES
    assert canonical(spelling) == place


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("Henan – Luoyang – Xigong", "Hunan – Luoyang – Xigong"),
        ("Shanxi – Xi'an – Beilin", "Shaanxi – Xi'an – Beilin"),
        ("Jiangxi – Nanchang – Jinggangshan", "Jiangxi – Ji'an – Jinggangshan"),
        ("Hubei – Wuhan – High-tech Zone", "Hubei – Wuhan – Economic Development Zone"),
        ("Guangdong – Shenzhen – High-tech Zone", "Guangdong – Guangzhou – High-tech Zone"),
        ("Sichuan – Deyang – Development Zone", "Sichuan – Deyang – Economic Development Zone"),
        ("Tianjin – Hebei", "Hebei – Tianjin – Hebei"),
    ],
)
def test_different_places_stay_apart(one, other):
    assert canonical(one) != canonical(other)
    assert None not in (canonical(one), canonical(other))


@pytest.mark.parametrize(
    "text",
    [
        *("", " ", "hello", "Shenzhen", "Guangdong – Shenzhen", "Guangdong – Nanshan District"),
        *("Province – City – District", "Beijing – Beijing", "Tianjin Municipality – Tianjin City"),
        *("Guangdong – Shenzhen – Nanshan – Yuehai", "Guangdong – – Nanshan", "广东–深圳–南山"),
        *(f"{NANSHAN}\n{HARBIN_ZONE}", f"{NANSHAN}; {HARBIN_ZONE}", "1 – 2 – 3", "9-9-9"),
        *("__import__('os') – a – b", "a – b – " + "c" * 200, "–" * 10_000, "a" * 100_000),
    ],
    ids=lambda text: text[:12],
)
def test_text_that_is_not_a_place_is_refused_quickly(text):
    start = time.perf_counter()
    assert canonical(text) is None
    assert time.perf_counter() - start < 1


@st.composite
def spellings(draw):
    """A listed place and another spelling of it."""
    place = draw(st.sampled_from(PLACES))
    levels = place.split(" – ")
    if len(levels) == 2 and draw(st.booleans()):
        levels.insert(1, levels[0])
    kinds = (" Province", " Municipality", " Autonomous Region", " City", " District", " County")
    for number, level in enumerate(levels):
        kind = next((kind for kind in kinds if level.endswith(kind)), None)
        if kind and draw(st.booleans()):
            levels[number] = level.removesuffix(kind)
    separator = draw(st.sampled_from([" – ", "–", " — ", ", ", "，", " -> ", " → ", " / ", " > "]))
    change_case = draw(st.sampled_from([str, str.lower, str.upper, str.title]))
    text = change_case(separator.join(levels))
    if draw(st.booleans()):
        text = text.replace("&", "and").replace("'", "’").replace(" ", "  ")
    return place, draw(st.sampled_from(["", "- ", "3. ", '"'])) + text + draw(
        st.sampled_from(["", ".", " ", '"\n'])
    )


@given(spellings())
def test_any_mix_of_spelling_habits_reads_as_the_place(pair):
    place, text = pair
    assert canonical(text) == place


WORDS = (
    "tianjin shenzhen economic technological technology development high hi tech new industrial "
    "zone area park city district county province municipality autonomous region hui and & a nd "
    "– - -> , . 1. ' é i"
).split()


@settings(max_examples=500)
@given(
    st.text()
    | st.lists(st.sampled_from(WORDS), max_size=15).map(" ".join)
    | st.lists(st.sampled_from([*WORDS, " ", " – "]), max_size=25).map("".join)
)
def test_what_is_read_reads_as_itself(text):
    name = normalise(text)
    assert name is None or normalise(name) == name
    answer = canonical(text)
    assert (answer is None) == (name is None)
    assert answer is None or canonical(answer) == answer


# ---- game ----


@pytest.mark.parametrize("world", ["closed", "open"])
def test_the_text_contract_holds_in_both_worlds(world):
    env = make_env("sesa/PathExploration-v0", world=world)
    check_text_env(env, actions=[*TREASURES, "Beijing – Haidian", "anywhere – at – all"])


@pytest.mark.parametrize("world", ["closed", "open"])
def test_exactly_the_treasures_are_rewarded(world):
    env = make_path_exploration(world=world)
    rewarded = []
    for place in PLACES:
        env.reset(seed=0)
        _, reward, terminated, truncated, info = env.step(place)
        assert terminated and not truncated and info == {"success": reward == 1, "legal": True}
        if reward:
            rewarded.append(place)
    assert set(rewarded) == set(TREASURES)
    assert env.num_targets == len(rewarded) == 20


@pytest.mark.parametrize(("world", "legal"), [("closed", False), ("open", True)])
def test_an_unlisted_place_is_readable_and_legal_only_in_the_open_world(world, legal):
    env = make_path_exploration(world=world)
    env.reset(seed=0)
    assert env.canonical_action(UNLISTED) == "sichuan – mianyang – fucheng"
    assert env.step(UNLISTED)[1:] == (0, True, False, {"success": False, "legal": legal})


def test_an_answer_that_cannot_be_read_loses():
    env = make_path_exploration()
    env.reset(seed=0)
    assert env.step("somewhere")[1:] == (0, True, False, {"success": False, "legal": False})


def test_numeric_and_text_actions_are_judged_alike():
    game = PathExplorationGame()
    for number in range(game.action_space.n):  # pyright: ignore
        game.reset(seed=0)
        observation, reward, terminated, _, info = game.step(number)
        assert observation == 0 and terminated
        assert reward == (number != OTHER and PLACES[number] in TREASURES)
        assert info["legal"] == (number != OTHER)
    assert game.read_action(PLACES[7]) == (PLACES[7], 7)
    assert game.read_action(UNLISTED) == ("sichuan – mianyang – fucheng", OTHER)


def test_every_seed_is_the_same_puzzle_and_its_text_gives_nothing_away():
    env = make_path_exploration()
    rng = random.Random(0)
    starts = [env.reset(seed=rng.randrange(2**31)) for _ in range(20)]
    assert len({observation for observation, _ in starts}) == 1
    assert len({info["puzzle_seed"] for _, info in starts}) == 20
    spec = env.text_spec
    words = f"{spec.instruction}{spec.legend}{spec.actions}{starts[0][0]}"
    assert not any(treasure in words for treasure in TREASURES)


def test_the_example_of_an_answer_is_a_listed_place():
    for world in ("closed", "open"):
        example = make_path_exploration(world=world).text_spec.actions.partition("such as ")[2]
        assert canonical(example) == example in PLACES


def test_only_the_closed_world_mentions_200_places():
    closed, opened = (make_path_exploration(world=world) for world in ("closed", "open"))
    assert "200" in closed.text_spec.instruction
    assert closed.text_spec.instruction.startswith(opened.text_spec.instruction)
    assert "200" not in opened.text_spec.instruction


def test_listed_spellings_are_in_the_action_space():
    env = make_path_exploration()
    assert all(place in env.action_space for place in PLACES)


def test_fork_leaves_the_original_alone():
    env = make_path_exploration()
    env.reset(seed=1)
    key, twin = state_key(env), fork(env)
    twin.step(NANSHAN)
    assert state_key(env) == key != state_key(twin)
    assert twin.reset()[1]["puzzle_seed"] == env.reset()[1]["puzzle_seed"]


def test_the_picture_shows_the_number_of_the_answer():
    env = make_path_exploration(render_mode="rgb_array")
    env.reset(seed=0)
    before = env.render()
    env.step(NANSHAN)
    after = env.render()
    assert before.dtype == np.uint8 and before.ndim == 3
    assert before.shape != after.shape and after.min() < after.max()


@pytest.mark.parametrize(
    ("knobs", "message"),
    [
        ({"world": "flat"}, "world must be one of closed, open, got 'flat'"),
        ({"max_steps": 0}, "max_steps must be at least 1, got 0"),
    ],
)
def test_wrong_knobs_are_refused(knobs, message):
    with pytest.raises(ValueError, match=message):
        make_path_exploration(**knobs)
