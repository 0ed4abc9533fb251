"""Countries: the names, their other spellings, the game."""

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sesa_agent.environments import check_text_env, make_env
from sesa_agent.environments.games.countries import (
    ALIASES,
    COUNTRIES,
    TREASURES,
    CountriesGame,
    make_countries,
    plain_name,
)

canonical = make_countries().canonical_action


def test_the_world_has_195_countries_and_20_treasures_among_them():
    assert len(COUNTRIES) == len(set(COUNTRIES)) == 195
    assert len(TREASURES) == len(set(TREASURES)) == 20
    assert set(TREASURES) < set(COUNTRIES)
    assert list(COUNTRIES) == sorted(COUNTRIES)


def test_every_name_is_canonical_and_none_is_read_as_another():
    assert [canonical(name) for name in COUNTRIES] == list(COUNTRIES)
    assert not {plain_name(name) for name in COUNTRIES} & set(ALIASES)
    assert all(plain_name(alias) == alias for alias in ALIASES)
    assert set(ALIASES.values()) <= set(COUNTRIES)


@pytest.mark.parametrize(
    ("country", "spelling"),
    [
        ("Ivory Coast", "Côte d’Ivoire"),
        ("United States", "the U.S.A."),
        ("Gambia", " The Gambia. "),
        ("Saint Lucia", "St. Lucia"),
        ("Trinidad and Tobago", "TRINIDAD & TOBAGO"),
        ("Guinea-Bissau", "Guinea Bissau"),
        ("Sao Tome and Principe", "São Tomé and Príncipe"),
        ("Turkey", "Türkiye"),
        ("Brazil", "**Brazil**\n"),
        ("Republic of the Congo", "Congo (Brazzaville)"),
        ("Democratic Republic of the Congo", "DRC"),
    ],
)
def test_spellings_of_one_country(country, spelling):
    assert canonical(spelling) == country


@pytest.mark.parametrize(
    "text",
    ["", " ", "Atlantis", "Paris", "Brazil, Peru", "Brazil or Peru", "the", "brazilian", "巴西"]
    + ["Brazil" * 40, "Brazil" + " " * 100_000],
    ids=lambda text: text[:12],
)
def test_text_that_is_no_country_is_refused_quickly(text):
    start = time.perf_counter()
    assert canonical(text) is None
    assert time.perf_counter() - start < 1


@given(st.text() | st.sampled_from([*COUNTRIES, *ALIASES]).map(str.upper))
def test_what_is_read_reads_as_itself(text):
    assert plain_name(plain_name(text)) == plain_name(text)
    answer = canonical(text)
    assert answer is None or canonical(answer) == answer


def test_exactly_the_treasures_are_rewarded():
    env = make_env("sesa/Countries-v0")
    check_text_env(env, actions=[*TREASURES, "France"])
    found = []
    for name in COUNTRIES:
        env.reset(seed=0)
        _, reward, terminated, truncated, info = env.step(name)
        assert terminated and not truncated and info == {"success": reward == 1, "legal": True}
        found += [name] * bool(reward)
    assert tuple(found) == TREASURES
    assert CountriesGame().num_targets == 20


def test_the_prompt_gives_nothing_away_and_its_examples_hold_no_treasure():
    env = make_countries()
    spec = env.text_spec
    words = f"{spec.instruction}{spec.legend}{spec.actions}{env.reset(seed=3)[0]}"
    assert not any(name in words for name in TREASURES)
    assert not set(spec.examples) & set(TREASURES)
    assert env.reset(seed=3)[0] == env.reset(seed=4)[0]
