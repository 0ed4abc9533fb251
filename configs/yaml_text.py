"""Reads and writes YAML 1.2, whose values are those that people expect.

PyYAML reads YAML 1.1, in which `010` is 8, `1:30` is 90, `1_000` a number, `1e-4` text and `on`
true. Here values are those of the core schema of YAML 1.2. Repeated keys are refused, and so are
tags and aliases: settings need neither, and aliases can make a short text enormous.
"""

import re
from typing import Any

import yaml

from .errors import SettingError

_PATTERNS = {
    "null": r"~|null|Null|NULL|",
    "bool": r"true|True|TRUE|false|False|FALSE",
    "int": r"[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+",
    "float": r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?"
    r"|[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)",
}
_RESOLVERS = [
    (f"tag:yaml.org,2002:{name}", re.compile(rf"({pattern})\Z"))
    for name, pattern in _PATTERNS.items()
]
"""What words without quotes are, tried in this order; every other word is text."""


def read_yaml(text: str, name: str) -> Any:
    """Read a YAML text; None if it is empty.

    Args:
        text: the text.
        name: what it is, for messages.

    Raises:
        SettingError: in one line, if it is not YAML or holds something that is refused here.

    >>> read_yaml("{a: 010, b: 1e-4, c: on, d: 2024-01-01}", "text")
    {'a': 10, 'b': 0.0001, 'c': 'on', 'd': '2024-01-01'}
    """
    try:
        return yaml.load(text, _Loader)
    except RecursionError:
        reason = "it is nested too deeply"
    except yaml.MarkedYAMLError as error:
        reason = ", ".join(filter(None, (error.context, error.problem)))
        if error.problem_mark and "\n" in text:
            reason += f" in line {error.problem_mark.line + 1}"
    except yaml.YAMLError as error:  # characters that YAML does not allow
        reason = str(error).partition("\n")[0]
    raise SettingError(f"{name} could not be read: {reason}.")


def read_value(text: str, name: str) -> Any:
    """Read a value that the user typed: a list or mapping in brackets, text in quotes, or a word.

    A word is a number, true, false or null as in YAML; any other is text, whatever its signs.

    Raises:
        SettingError: as `read_yaml`.

    >>> read_value("[1, a]", "key"), read_value("'3'", "key"), read_value("3", "key")
    ([1, 'a'], '3', 3)
    >>> read_value("-", "key"), read_value("a: *b", "key")
    ('-', 'a: *b')
    """
    word = text.strip()
    is_value = any(pattern.match(word) for _, pattern in _RESOLVERS) and word
    return read_yaml(word, name) if is_value or word.startswith(tuple("[{\"'")) else text


def write_yaml(values: Any) -> str:
    """Write values that YAML can hold; `read_yaml` returns the same."""
    return yaml.dump(values, Dumper=_Dumper)


class _Loader(yaml.SafeLoader):
    """The core schema of YAML 1.2, without tags and aliases."""

    yaml_implicit_resolvers = {None: _RESOLVERS}

    def compose_node(self, parent: Any, index: Any) -> Any:
        event = self.peek_event()
        if isinstance(event, yaml.AliasEvent):
            raise _refusal(f"write out what *{event.anchor} stands for", event)
        if event.tag is not None:
            raise _refusal(f"tags such as {event.tag} are not allowed", event)
        return super().compose_node(parent, index)

    def construct_mapping(self, node: Any, deep: bool = False) -> Any:
        names: set[Any] = set()
        for key, _ in node.value:
            if isinstance(key.value, str) and key.value in names:
                raise _refusal(f"{key.value} is set twice", key)
            names.add(str(key.value))
        return super().construct_mapping(node, deep)

    def read_int(self, node: Any) -> int:
        base = {"0o": 8, "0x": 16}.get(node.value[:2], 10)
        # The longest number of 64 bits has 22 digits; Python refuses to read very long ones.
        digits = node.value[2:] if base != 10 else node.value
        value = int(digits, base) if len(digits) < 100 else 2**63
        if not -(2**63) <= value < 2**63:
            raise _refusal("a whole number has more than 64 bits", node)
        return value

    def read_float(self, node: Any) -> float:
        return float(re.sub(r"\.(?=[in])", "", node.value.lower()))


class _Dumper(yaml.SafeDumper):
    """Quotes every text that YAML 1.1 or 1.2 would read as something else."""

    def ignore_aliases(self, data: Any) -> bool:
        return True


for _name, _reader in {"int": _Loader.read_int, "float": _Loader.read_float}.items():
    _Loader.add_constructor(f"tag:yaml.org,2002:{_name}", _reader)
for _tag, _pattern in _RESOLVERS:
    _Dumper.add_implicit_resolver(_tag, _pattern, None)


def _refusal(problem: str, place: Any) -> yaml.MarkedYAMLError:
    return yaml.MarkedYAMLError(problem=problem, problem_mark=place.start_mark)
