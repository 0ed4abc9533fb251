"""Values get the type of an annotation, and no other."""

from collections.abc import Sequence
from typing import Annotated, Any, Dict, List, Literal, Optional, Tuple, Union  # noqa: UP035

import numpy as np
import pytest

from sesa_agent.configs.errors import SettingError
from sesa_agent.configs.typed import fit, plain

FITTING: list[tuple[Any, Any, Any]] = [
    (True, bool, True),
    (3, int, 3),
    (np.int64(3), int, 3),
    (3, float, 3.0),
    (np.float32(0.5), float, 0.5),
    ("3", str, "3"),
    (None, Optional[int], None),  # noqa: UP045
    (3, Union[str, int], 3),  # noqa: UP007
    (3, float | int, 3),
    (3, float | None, 3.0),
    ("b", Literal["a", "b"], "b"),
    ([1, 2], list[float], [1.0, 2.0]),
    ((1, 2), list, [1, 2]),
    ([1, 2], tuple[int, int], (1, 2)),
    ([1, 2, 3], tuple[int, ...], (1, 2, 3)),
    ([[1]], list[tuple[int]], [(1,)]),
    ([1], List, [1]),  # noqa: UP006
    ([1], Tuple, (1,)),  # noqa: UP006
    (["a"], Sequence[str], ["a"]),
    ({"a": 1}, dict[str, float], {"a": 1.0}),
    ({"a": 1}, Dict, {"a": 1}),  # noqa: UP006
    (3, Annotated[int, "steps"], 3),
    ([1], Any, [1]),
    ("x", np.ndarray, "x"),
    ("x", "int", "x"),
]
REFUSED: list[tuple[Any, Any, str]] = [
    ("yes", bool, "true or false, got 'yes'."),
    (1, bool, "true or false, got 1."),
    (True, int, "a whole number, got True."),
    (2.0, int, "a whole number, got 2.0."),
    (2**63, int, "a whole number of at most 64 bits, got 9223372036854775808."),
    (10**5000, float, "a number of at most 64 bits, got a very long number."),
    ("1", float, "a number, got '1'."),
    (3, str, "text, got 3. Quote it to pass it as text, as in '\"3\"'."),
    ("\udc80", str, r"text in UTF-8, got '\udc80'."),
    ("a\0", str, r"text in UTF-8, got 'a\x00'."),
    ("a", int | None, "a whole number or null, got 'a'."),
    (1, Literal["a", 2], "'a' or 2, got 1."),
    (True, Literal[1], "1, got True."),
    (3, list[int], "a list, each item a whole number, got 3."),
    ("ab", Sequence[str], "a list, each item text, got 'ab'."),
    ([1, "a"], list[int], "a list, each item a whole number, got [1, 'a']."),
    ([1], tuple[int, int], "a list of 2: a whole number, a whole number, got [1]."),
    ([1], dict[str, int], "a mapping whose keys are text, got [1]."),
    (3, dict, "a mapping, got 3."),
]


@pytest.mark.parametrize(("value", "wanted", "fitted"), FITTING, ids=str)
def test_a_value_is_converted_where_nothing_is_lost(value, wanted, fitted):
    again = fit(value, wanted, "key")
    assert again == fitted and type(again) is type(fitted)


@pytest.mark.parametrize(("value", "wanted", "message"), REFUSED, ids=range(len(REFUSED)))
def test_any_other_value_is_refused_with_what_is_allowed(value, wanted, message):
    with pytest.raises(SettingError) as error:
        fit(value, wanted, "key")
    assert str(error.value) == f"key must be {message}"


def test_plain_values_are_copied_and_others_refused():
    shared: dict[str, Any] = {"a": (1, np.float64(2.5)), "b": {"c": None}}
    copied = plain(shared, "key")
    assert copied == {"a": [1, 2.5], "b": {"c": None}} and copied["b"] is not shared["b"]
    shared["b"]["c"] = shared  # a circle
    for wrong in (shared, {1: 2}, {"a": object()}, {"a": [2**64]}):
        with pytest.raises(SettingError, match="^key"):
            plain(wrong, "key")
