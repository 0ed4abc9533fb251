"""`ToolEnv`: a task that an agent solves by calling tools, written as plain Python methods.

    class Products(ToolEnv):
        "Work out the product."

        def start(self):
            self.a, self.b = self.np_random.integers(10, 99, 2)
            return f"What is {self.a} * {self.b}?"

        @tool
        def multiply(self, a: int, b: int) -> int:
            "Multiply two numbers."
            return a * b

        @tool
        def submit(self, answer: int):
            "Give the answer; this ends the task."
            self.finish(answer == self.a * self.b)

Whatever a model calls, nothing raises: unknown tools, arguments that do not fit and exceptions of a
tool are texts that the model reads, with `info["legal"] = False`.
"""

import json
import re
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from typing import Any

import gymnasium

from ..adapters.adapter import AnyText
from ..descriptions import describe_message
from ..text_env import TextSpec
from .text_calls import ToolCall, read_calls
from .tool import Tool, make_tool

_CONTROL = re.compile(r"[\x00-\x09\x0b-\x1f\x7f-\x9f\ud800-\udfff]")
NO_CALL = "Error: the reply has no tool call that can be read."


class ToolEnv(gymnasium.Env[str, str]):
    """A task to be solved with tools; a subclass gives `start` and some methods with `@tool`.

    Observation: at first the task, then the results of the last calls.
    Actions: one or more calls, in either form of `text_calls.py`; all are run, in order.
    Reward: what a tool passes to `finish`; 0 before.
    Episode end: terminated when a tool calls `finish`, truncated after `max_steps` actions.
    Info: `success` (see `finish`) and `legal` (every call ran without an error).
    """

    tools: Sequence[Callable[..., Any]] = ()
    """Functions that are tools too, besides the methods with `@tool`."""
    instruction: str = ""
    """The goal, in one line; by default the first paragraph of the class's docstring."""
    max_steps: int = 10
    """Number of actions after which an episode is truncated."""
    max_calls: int = 8
    """Most calls of one action that are run."""
    max_result_chars: int = 2000
    """Length of a result, in characters; the middle of a longer one is left out."""
    is_deterministic: bool = False
    """Whether a state and an action determine the next state."""
    examples: Sequence[str] = ()
    """Calls that the conformance checks play; by default one of each tool."""
    render_mode = None
    observation_space, action_space = AnyText(), AnyText()
    num_steps = 0
    _outcome: tuple[float, bool] | None = None

    def start(self) -> str:
        """Set up an episode and return its task; random numbers come from `self.np_random`."""
        raise NotImplementedError(f"{type(self).__name__} needs a method start().")

    def finish(self, reward: float, success: bool | None = None) -> None:
        """End the episode; for tools.

        Args:
            reward: the reward of the episode; True counts as 1.
            success: whether the task is solved; by default, whether the reward is at least 1.
        """
        self._outcome = float(reward), bool(reward >= 1 if success is None else success)

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[str, dict[str, Any]]:
        """Start the task of `seed`."""
        super().reset(seed=seed)
        self.num_steps, self._outcome = 0, None
        return self.start(), {"success": False, "legal": True}

    def step(self, action: str) -> tuple[str, float, bool, bool, dict[str, Any]]:
        """Run the calls of a text, up to one that ends the episode."""
        self.num_steps += 1
        results, legal = self._run_all(read_calls(action, self.tools_by_name))
        reward, success = self._outcome or (0.0, False)
        terminated = self._outcome is not None
        truncated = not terminated and self.num_steps >= self.max_steps
        return results, reward, terminated, truncated, {"success": success, "legal": legal}

    def canonical_action(self, text: str) -> str | None:
        """Return the calls of a text as JSON, a line each; None if it has none."""
        calls = read_calls(text, self.tools_by_name)
        return "\n".join(call.canonical() for call in calls) or None

    @property
    def tools_by_name(self) -> Mapping[str, Tool]:
        """All tools by their names."""
        return _collect(type(self), tuple(self.tools))

    @property
    def tool_specs(self) -> tuple[Tool, ...]:
        """All tools, as prompts show them."""
        return tuple(self.tools_by_name.values())

    @property
    def text_spec(self) -> TextSpec:
        """What a player is told."""
        forms = [tool.example() for tool in self.tool_specs]
        documented = (type(self).__doc__ or "").strip().split("\n\n")[0]
        goal = " ".join((self.instruction or documented).split())
        return TextSpec(
            instruction=goal or "Solve the task with the tools.",
            legend="",
            actions=f"tool calls, such as {' or '.join(forms)}",
            sketch="which tools to call for what",
            examples=tuple(self.examples) or tuple(forms),
        )

    # ---- calls ----

    def _run_all(self, calls: Sequence[ToolCall]) -> tuple[str, bool]:
        """Run the calls; return their results as text, and whether all ran without an error."""
        if not calls:
            return f"{NO_CALL} Tools: {', '.join(self.tools_by_name)}.", False
        results: list[tuple[str, str]] = []
        legal = len(calls) <= self.max_calls
        for call in calls[: self.max_calls]:
            if self._outcome is not None:
                break
            result, ran = self._run(call)
            legal = legal and ran
            results.append((call.name, shorten(clean(result), self.max_result_chars)))
        if len(calls) > self.max_calls and self._outcome is None:
            results.append(("Error", f"only the first {self.max_calls} calls were run."))
        if len(results) == 1:
            return results[0][1], legal
        return "\n".join(f"{name}: {result}" for name, result in results), legal

    def _run(self, call: ToolCall) -> tuple[str, bool]:
        """Run one call; return its result, and whether it ran without an error."""
        tool = self.tools_by_name.get(call.name)
        if tool is None:
            known = ", ".join(self.tools_by_name)
            return f"Error: there is no tool {call.name!r}. Tools: {known}.", False
        try:
            arguments = tool.fit(call.arguments)
        except ValueError as error:
            return f"Error: {error}.", False
        try:
            owner = (self,) if tool.is_method else ()
            return as_text(tool.function(*owner, **arguments)), True
        except Exception as error:  # the tool's own, or of what it was given
            message = describe_message(error)
            return f"Error: {type(error).__name__}{': ' if message else ''}{message}", False


@cache
def _collect(owner: type, functions: tuple[Callable[..., Any], ...]) -> dict[str, Tool]:
    """The tools of a class: plain functions, then methods in the order in which they are written.

    A method that overrides a tool is one too.
    """
    names = {
        name: None
        for base in reversed(owner.__mro__)
        for name, item in vars(base).items()
        if getattr(item, "is_tool", False)
    }
    methods = [make_tool(getattr(owner, name), is_method=True) for name in names]
    return {tool.name: tool for tool in (*map(make_tool, functions), *methods)}


def as_text(result: Any) -> str:
    """Write what a tool returned: text as it is, nothing as "Done.", other values as JSON.

    >>> as_text("a b"), as_text([1, None]), as_text(None)
    ('a b', '[1, null]', 'Done.')
    """
    if isinstance(result, str):
        return result or "(empty)"
    if result is None:
        return "Done."
    try:
        return json.dumps(result, ensure_ascii=False, default=str)
    except TypeError:  # a dict with tuples as keys
        return str(result)


def clean(text: str) -> str:
    r"""Replace control characters and lone surrogates, except for line breaks.

    >>> clean("a\tb\r\n\x1b[1m")
    'a    b\n?[1m'
    """
    text = text.replace("\r\n", "\n").replace("\t", "    ")
    return _CONTROL.sub("?", text)


def shorten(text: str, limit: int) -> str:
    r"""Leave out the middle of a long text.

    >>> shorten("abcdefgh", 4)
    'ab\n... 4 characters left out ...\ngh'
    """
    if len(text) <= limit:
        return text
    head, tail = (limit + 1) // 2, limit // 2
    left_out = len(text) - head - tail
    return f"{text[:head]}\n... {left_out} characters left out ...\n{text[len(text) - tail :]}"
