"""The types of a tool's arguments: their JSON schema, and values that fit them. Pure.

Supported are `str`, `int`, `float`, `bool`, `list`, `dict` (also `list[int]` and so on), `Literal`
of texts and numbers, and `Optional` of all these. A value comes from JSON, or as text.
"""

import json
import math
import types
from typing import Any, Literal, Union, get_args, get_origin

from ...configs.json_text import read_json

_TYPES: dict[Any, tuple[str, str]] = {
    str: ("string", "text"),
    int: ("integer", "integer"),
    float: ("number", "number"),
    bool: ("boolean", "true or false"),
    list: ("array", "JSON list"),
    dict: ("object", "JSON object"),
}
"""The name of each type in JSON schema, and in words."""
_FLAGS = {"true": True, "false": False}


def is_supported(kind: Any) -> bool:
    """Return whether arguments can have this type."""
    inner = without_none(kind)
    if get_origin(inner) is Literal:
        return all(isinstance(choice, str | int | float) for choice in get_args(inner))
    return _outer(inner) in _TYPES and all(map(is_supported, _items(inner)))


def without_none(kind: Any) -> Any:
    """Return the type X of `Optional[X]`; any other type as it is."""
    if get_origin(kind) not in (Union, types.UnionType):
        return kind
    others = [part for part in get_args(kind) if part is not type(None)]
    return others[0] if len(others) == 1 else kind


def schema_of(kind: Any) -> dict[str, Any]:
    """Return the JSON schema of a supported type.

    >>> schema_of(list[int])
    {'type': 'array', 'items': {'type': 'integer'}}
    """
    inner = without_none(kind)
    nullable = {} if inner is kind else {"nullable": True}  # as Hugging Face writes Optional
    if get_origin(inner) is Literal:
        choices = get_args(inner)
        is_text = all(isinstance(choice, str) for choice in choices)
        return {**({"type": "string"} if is_text else {}), "enum": list(choices), **nullable}
    schema = {"type": _TYPES[_outer(inner)][0], **nullable}
    for item in _items(inner):
        schema["items" if _outer(inner) is list else "additionalProperties"] = schema_of(item)
    return schema


def in_words(kind: Any) -> str:
    """Describe a supported type in a few words.

    >>> in_words(Literal["red", "green"]), in_words(int | None)
    ('red or green', 'integer')
    """
    inner = without_none(kind)
    if get_origin(inner) is Literal:
        return " or ".join(map(str, get_args(inner)))
    return _TYPES[_outer(inner)][1]


def example_of(kind: Any) -> Any:
    """Return a value of a supported type."""
    inner = without_none(kind)
    if get_origin(inner) is Literal:
        return get_args(inner)[0]
    return {str: "a", int: 1, float: 1.5, bool: True, list: [], dict: {}}[_outer(inner)]


def fit_argument(value: Any, kind: Any) -> Any:
    """Return a value of JSON, or a text, as the type asks for it.

    Raises:
        ValueError: if it does not fit; the message says what is allowed.

    >>> fit_argument("17", int), fit_argument(3, float), fit_argument("[1]", list[int])
    (17, 3.0, [1])
    """
    inner = without_none(kind)
    if inner is not kind and (value is None or value in ("null", "None")):
        return None
    fitted = _fit(value, inner)
    if fitted is None:
        raise ValueError(f"must be {in_words(kind)}, got {_shown(value)}")
    return fitted


def _fit(value: Any, kind: Any) -> Any:
    """Return the fitted value; None if there is none."""
    if get_origin(kind) is Literal:
        same = [choice for choice in get_args(kind) if str(choice) == str(value).strip()]
        return same[0] if same and isinstance(value, str | int | float) else None
    outer = _outer(kind)
    if outer is str:
        return value if isinstance(value, str) else None
    if isinstance(value, str):
        value = _read(value.strip(), outer)
    if outer in (int, float):
        return _fit_number(value, outer)
    return _fit_items(value, kind) if isinstance(value, outer) else None


def _fit_items(value: Any, kind: Any) -> Any:
    """Fit what is inside of a list or dict, if its type says what that is."""
    for item in _items(kind):
        try:
            if isinstance(value, list):
                return [fit_argument(entry, item) for entry in value]
            return {key: fit_argument(entry, item) for key, entry in value.items()}
        except ValueError:
            return None
    return value


def _read(text: str, outer: type) -> Any:
    """Read the text of an argument that is no text."""
    if outer is bool:
        return _FLAGS.get(text.lower())
    try:
        return outer(text) if outer in (int, float) else read_json(text)
    except ValueError:
        return None


def _fit_number(value: Any, outer: type) -> Any:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    try:
        number = float(value)
    except OverflowError:  # a whole number of hundreds of digits
        return value if outer is int else None
    if not math.isfinite(number):
        return None
    if outer is float:
        return number
    return int(value) if value == int(value) else None


def _outer(kind: Any) -> Any:
    return get_origin(kind) or kind


def _items(kind: Any) -> tuple[Any, ...]:
    """The types inside of a list or a dict whose keys are texts."""
    return get_args(kind)[-1:]


def _shown(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 60 else f"{text[:57]}..."
