"""YAML 1.2 as the settings use it: what values are, what is refused, and that all is read back."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sesa_agent.configs.errors import SettingError
from sesa_agent.configs.yaml_text import read_value, read_yaml, write_yaml

VALUES = {
    "010": 10,
    "0o10": 8,
    "0x10": 16,
    "+3": 3,
    "-0": 0,
    "1e-4": 1e-4,
    "1e5": 1e5,
    ".5": 0.5,
    "5.": 5.0,
    "-.inf": float("-inf"),
    "true": True,
    "FALSE": False,
    "~": None,
    "null": None,
    "1:30": "1:30",
    "1_000": "1_000",
    "0b11": "0b11",
    "yes": "yes",
    "on": "on",
    "inf": "inf",
    "nan": "nan",
    "2024-01-01": "2024-01-01",
    "=": "=",
    "'010'": "010",
    '"~"': "~",
}


@pytest.mark.parametrize("text", VALUES)
def test_values_are_those_of_yaml_1_2(text):
    """PyYAML reads YAML 1.1: `seed=010` was 8, `seed=1:30` was 90 and `thinking=on` true."""
    for value in (read_value(text, "key"), read_yaml(f"[{text}]", "text")[0]):
        assert value == VALUES[text] and type(value) is type(VALUES[text])


@pytest.mark.parametrize(
    "text", ["-", "--", "*x", "&x", "!!int 3", "a: 1", "# 3", "%", "@", "", "- a"]
)
def test_a_word_that_is_no_value_is_text_whatever_its_signs(text):
    """`env.options.operators=-` was a list with a null in it."""
    assert read_value(text, "key") == text


LAUGHS = "".join(f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]\n" for n in range(1, 10))
REFUSED = {
    "a: [": "expected the node content",
    "a: 1\na: 2": "a is set twice in line 2",
    "{a: {b: 1, b: 1}}": "b is set twice",
    "a0: &a0 lol\n" + LAUGHS: r"write out what \*a0 stands for in line 2",
    "a: &a [*a]": r"write out what \*a stands for",
    "a: !!python/object/apply:os.system [ls]": "tags such as .*os.system are not allowed",
    "a: !!binary aGk=": "tags such as .* are not allowed",
    "a: !mine 3": "tags such as !mine are not allowed",
    "a: 9223372036854775808": "a whole number has more than 64 bits",
    "a: " + "9" * 10_000: "a whole number has more than 64 bits",
    "a: 0x" + "f" * 10_000: "a whole number has more than 64 bits",
    "[" * 1000: "it is nested too deeply",
    "a: \0": "unacceptable character",
    "a: '\udc80'": "unacceptable character",
    "--- 1\n--- 2": "found another document",
    "? [1]\n: 2": "found unhashable key",
}


@pytest.mark.parametrize("text", REFUSED, ids=lambda text: text[:20].encode("unicode_escape"))
def test_what_settings_do_not_need_is_refused_in_one_line(text):
    with pytest.raises(SettingError, match=f"file could not be read: .*{REFUSED[text]}") as error:
        read_yaml(text, "file")
    assert len(str(error.value).splitlines()) == 1


def test_a_byte_order_mark_is_no_part_of_a_key():
    assert read_yaml("\ufeffa: 1", "file") == {"a": 1}


PLAIN = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**63 - 1)
    | st.floats(allow_nan=False)
    | st.text(max_size=20)
    | st.sampled_from([*VALUES, "1e-4", "0o17", "<<", "-", "\x85", "\u2028"]),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=5,
)


@given(PLAIN)
def test_what_is_written_is_read_back(value):
    """The text "1e-4" was written without quotes, and a run's config.yaml returned a number."""
    again = read_yaml(write_yaml(value), "file")
    assert json.dumps(again, sort_keys=True) == json.dumps(value, sort_keys=True)


def test_a_value_that_occurs_twice_is_written_twice():
    size = [4, 4]
    assert read_yaml(write_yaml({"a": size, "b": size}), "file") == {"a": size, "b": size}
