"""A tool: a Python function, what the model is told about it, and how its arguments are checked.

    @tool
    def multiply(self, a: int, b: int) -> int:
        "Multiply two numbers."

The name, the annotations and the docstring say it all; a Google-style section "Args" describes the
arguments.
"""

import inspect
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar, get_type_hints

from ...configs.errors import SettingError
from .kinds import example_of, fit_argument, in_words, is_supported, schema_of

Function = TypeVar("Function", bound=Callable[..., Any])
ALLOWED = "str, int, float, bool, list, dict, Literal or Optional of these"
_SECTION = re.compile(r"^(Args|Arguments|Returns|Raises|Yields|Examples?):[ \t]*$", re.MULTILINE)
_ARGUMENT = re.compile(r"^ +(\w+)(?: \([^()\n]*\))?: (.*)$", re.MULTILINE)


def tool(function: Function) -> Function:
    """Mark a method of a `ToolEnv` as a tool that the model can call."""
    function.is_tool = True  # pyright: ignore[reportFunctionMemberAccess]
    return function


@dataclass(frozen=True)
class Parameter:
    """One argument of a tool."""

    name: str
    kind: Any
    """Its annotation."""
    is_required: bool
    description: str = ""


@dataclass(frozen=True)
class Tool:
    """A function that the model can call."""

    name: str
    description: str
    parameters: tuple[Parameter, ...]
    function: Callable[..., Any]
    is_method: bool
    """Whether the function takes the environment first."""

    def schema(self) -> dict[str, Any]:
        """Return the description that chat templates take: a function with a JSON schema."""
        properties = {
            item.name: schema_of(item.kind)
            | ({"description": item.description} if item.description else {})
            for item in self.parameters
        }
        required = [item.name for item in self.parameters if item.is_required]
        schema = {"type": "object", "properties": properties, "required": required}
        function = {"name": self.name, "description": self.description, "parameters": schema}
        return {"type": "function", "function": function}

    @property
    def body(self) -> Parameter | None:
        """The argument that the text of a call stands for: the only one, or only required one."""
        required = [item for item in self.parameters if item.is_required]
        candidates = required if len(self.parameters) > 1 else list(self.parameters)
        return candidates[0] if len(candidates) == 1 else None

    def describe(self) -> str:
        """Describe the tool with the form of its call, as in a prompt without a template."""
        lines = [f"{self.written({p.name: in_words(p.kind) for p in self.parameters})}"]
        lines[0] += f" {self.description}".rstrip()
        for item in self.parameters:
            optional = "" if item.is_required else " (may be left out)"
            if item.description or optional:
                lines.append(f"  {item.name}{optional}: {item.description or in_words(item.kind)}")
        return "\n".join(lines)

    def written(self, arguments: Mapping[str, str]) -> str:
        """Write a call as text (`text_calls.py`)."""
        only = self.body if len(self.parameters) == 1 else None
        inner = "".join(f"<{name}>{text}</{name}>" for name, text in arguments.items())
        return f'<tool name="{self.name}">{arguments[only.name] if only else inner}</tool>'

    def example(self) -> str:
        """Write a call with some value for every required argument."""
        needed = [item for item in self.parameters if item.is_required or item is self.body]
        return self.written({item.name: f"{example_of(item.kind)}".lower() for item in needed})

    def fit(self, arguments: Mapping[str, Any]) -> dict[str, Any]:
        """Return the arguments as the types ask for them.

        Raises:
            ValueError: in one line, if one is unknown, missing or does not fit.
        """
        known = {item.name: item for item in self.parameters}
        names = ", ".join(known) or "none"
        fitted = {}
        for name, value in arguments.items():
            if name not in known:
                raise ValueError(f"{self.name} has no argument {name!r}; it has {names}")
            try:
                fitted[name] = fit_argument(value, known[name].kind)
            except ValueError as error:
                raise ValueError(f"{self.name}: {name} {error}") from None
        for item in self.parameters:
            if item.is_required and item.name not in fitted:
                raise ValueError(f"{self.name} needs the argument {item.name}")
        return fitted


def make_tool(function: Callable[..., Any], is_method: bool = False) -> Tool:
    """Make the tool of a function.

    Raises:
        SettingError: if an argument has no annotation, or one that JSON has no type for.
    """
    name = getattr(function, "__name__", type(function).__name__)
    try:
        kinds = get_type_hints(function)
    except Exception as error:  # an annotation in quotes may raise anything
        raise SettingError(f"Tool {name} has an annotation that fails: {error!r}.") from error
    text = inspect.getdoc(function) or ""
    head, *sections = _SECTION.split(text)
    described = dict(_ARGUMENT.findall(sections[1])) if sections and "Arg" in sections[0] else {}
    own = list(inspect.signature(function).parameters.values())[is_method:]
    parameters = []
    for item in own:
        kind = kinds.get(item.name)
        by_name = item.kind in (item.POSITIONAL_OR_KEYWORD, item.KEYWORD_ONLY)
        if kind is None or not by_name or not is_supported(kind):
            raise SettingError(
                f"Tool {name}: the argument {item.name} must have an annotation of {ALLOWED}."
            )
        required = item.default is item.empty
        parameters.append(Parameter(item.name, kind, required, described.get(item.name, "")))
    return Tool(name, " ".join(head.split()), tuple(parameters), function, is_method)
