"""Gives a value the type that an annotation asks for, or refuses it in one line.

The fields of `schema.py` and the options of environments are read with it, whether they come from
the command line, a file or Python. A value is converted only where nothing is lost: 3 to 3.0, a
list to a tuple, numpy's numbers to Python's. `true` is not a number, 2.0 not a whole number, 3 not
text. An annotation of any other type accepts every value.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import fields
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from .errors import check

NAMES = {bool: "true or false", int: "a whole number", float: "a number", str: "text"}
NAMES |= {NoneType: "null", list: "a list", tuple: "a list", dict: "a mapping"}
MAX_DEPTH = 20
"""How deeply lists and mappings may be nested."""


def fit_fields(settings: Any, group: str) -> None:
    """Give each field of a dataclass its type, in place.

    Raises:
        SettingError: for a value of another type, or a number that is infinite or NaN.
    """
    for field in fields(settings):
        key = f"{group}.{field.name}" if group else field.name
        value = fit(getattr(settings, field.name), field.type, key)
        check(not isinstance(value, float) or math.isfinite(value), key, value, "finite")
        setattr(settings, field.name, value)


def fit(value: Any, wanted: Any, key: str) -> Any:
    """Return a value as the type `wanted`.

    Args:
        value: a value from YAML or Python.
        wanted: an annotation.
        key: the setting, as it is typed.

    Raises:
        SettingError: if the value has another type, is a whole number of more than 64 bits, or text
            that UTF-8 cannot hold.

    >>> fit(3, float, "optim.lr"), fit([1, 2], tuple[int, int], "shape"), fit(None, int | None, "n")
    (3.0, (1, 2), None)
    """
    try:
        return _convert(value, wanted)
    except _MisfitError:
        members = get_args(wanted) if get_origin(wanted) in (Union, UnionType) else (wanted,)
        allowed, advice = describe(wanted), ""
        if str in members and isinstance(value, str):
            allowed += " in UTF-8"
        elif str in members and isinstance(value, int | float):
            advice = "Quote it to pass it as text, as in '\"3\"'."
        elif isinstance(value, int) and not _is_whole_number(value) and type(value) is not bool:
            allowed += " of at most 64 bits"
        check(False, key, value, allowed, advice)


def describe(wanted: Any) -> str:
    """What a type accepts, in words.

    >>> describe(int | None), describe(list[str]), describe(Literal["a", "b"])
    ('a whole number or null', 'a list, each item text', "'a' or 'b'")
    """
    origin, args = get_origin(wanted), get_args(wanted)
    if origin in (Union, UnionType):
        return " or ".join(map(describe, args))
    if origin is Literal:
        return " or ".join(map(repr, args))
    if origin is Annotated:
        return describe(args[0])
    if origin is tuple and args and ... not in args:
        return f"a list of {len(args)}: {', '.join(map(describe, args))}"
    if origin in (list, tuple, Sequence) and args:
        return f"a list, each item {describe(args[0])}"
    if origin in (dict, Mapping) and args[:1] == (str,):
        return "a mapping whose keys are text"
    kind = origin or wanted
    return NAMES.get(_CONTAINERS.get(kind, kind), str(wanted))


def plain(value: Any, key: str, depth: int = MAX_DEPTH) -> Any:
    """Copy a value that YAML can hold: null, true, false, a number, text, a list or a mapping.

    Raises:
        SettingError: if it is or contains something else, or is nested too deeply.
    """
    check(depth > 0, key, value, f"nested at most {MAX_DEPTH} deep")
    value = _to_python(value)
    if isinstance(value, Mapping):
        for name in value:
            check(isinstance(name, str), key, value, "a mapping whose keys are text")
        return {name: plain(item, f"{key}.{name}", depth - 1) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item, key, depth - 1) for item in value]
    kinds = bool | int | float | str | NoneType
    check(
        isinstance(value, kinds), key, value, "a number, text, true, false, null, list or mapping"
    )
    return fit(value, kinds, key)


class _MisfitError(Exception):
    """A value does not have the wanted type."""


def _convert(value: Any, wanted: Any) -> Any:
    origin, args = get_origin(wanted), get_args(wanted)
    kind = origin or wanted
    given, value = value, _to_python(value)
    if kind in (Union, UnionType):
        return _convert_to_one_of(value, given, args)
    if kind is Annotated:
        return _convert(given, args[0])
    if kind is Literal:
        _require(any(type(value) is type(choice) and value == choice for choice in args))
    elif kind in (bool, NoneType):
        _require(isinstance(value, kind))
    elif kind is int:
        _require(_is_whole_number(value))
        return int(value)  # also of IntEnum and the like, which YAML cannot write
    elif kind is float:
        _require(isinstance(value, float) or _is_whole_number(value))
        return float(value)
    elif kind is str:
        _require(isinstance(value, str) and _is_utf8(value))
        return str.__str__(value)
    elif kind in _CONTAINERS:
        return _convert_items(value, _CONTAINERS[kind], args)
    else:
        return given
    return value


def _convert_to_one_of(value: Any, given: Any, kinds: Sequence[Any]) -> Any:
    """Convert to the type that the value has already if it is among them, else to the first."""
    fitting = []
    for kind in kinds:
        try:
            fitting.append(_convert(given, kind))
        except _MisfitError:
            continue
    _require(bool(fitting))
    return next((item for item in fitting if type(item) is type(value)), fitting[0])


_CONTAINERS = {list: list, Sequence: list, tuple: tuple, dict: dict, Mapping: dict}


def _convert_items(value: Any, kind: Any, args: Sequence[Any]) -> Any:
    if kind is dict:
        _require(isinstance(value, Mapping))
        of_key, of_item = args or (Any, Any)
        return {_convert(name, of_key): _convert(item, of_item) for name, item in value.items()}
    _require(isinstance(value, list | tuple))
    is_fixed = kind is tuple and args and ... not in args
    wanted = list(args) if is_fixed else [args[0] if args else Any] * len(value)
    _require(len(wanted) == len(value))
    return kind(_convert(*pair) for pair in zip(value, wanted, strict=True))


def _require(condition: bool) -> None:
    if not condition:
        raise _MisfitError


def _to_python(value: Any) -> Any:
    """Return numpy's numbers and arrays as Python's."""
    return value.tolist() if hasattr(value, "tolist") else value


def _is_whole_number(value: Any) -> bool:
    is_whole = isinstance(value, int) and not isinstance(value, bool)
    return is_whole and -(2**63) <= value < 2**63


def _is_utf8(text: str) -> bool:
    r"""Whether text can be written to a file or named in a path: no half characters, no `\0`."""
    return text.encode("utf-8", "ignore").decode() == text and "\0" not in text
