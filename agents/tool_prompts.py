"""The prompts around an environment with tools. Pure text, no tokens.

The first user message has the goal, the tools and the task; each reply is followed by a message
with the results of its calls. A chat template that lists tools itself does so in its own words, and
then the first message leaves them out.
"""

from dataclasses import dataclass

from .prompts import STOP, PromptStyle
from .tool_calls import read_tool_response

TOOL_SYSTEM = "You are a careful agent. You solve tasks by calling tools."
FORM = 'A call is written as <tool name="NAME">...</tool>; one answer may have several calls.'


@dataclass(frozen=True)
class ToolPromptStyle(PromptStyle):
    """What the prompt says about a task with tools, and how calls are written."""

    tools: str = ""
    """The description of each tool, one after another."""
    call_format: str = ""
    """The format of the model's own calls (`tool_calls.READERS`); empty for calls as text."""

    @property
    def system(self) -> str:
        """The system message."""
        return TOOL_SYSTEM

    @property
    def stop(self) -> tuple[str, ...]:
        """The ends of a response; calls in the model's own format end with its turn."""
        return () if self.call_format else (STOP,)

    def read_calls(self, response: str) -> list[str]:
        """Return the calls of a response as one action, or nothing."""
        calls = read_tool_response(response, self.call_format, self.thinking)
        return [calls] if calls else []

    def rules(self) -> str:
        """Return the lines that come before the task."""
        if self.call_format:
            return f"{self.instruction}\n"
        return f"{self.instruction}\nTools:\n{self.tools}\n{FORM}\n"

    def request(self) -> str:
        """Return the last sentence of every message."""
        if not self.call_format:
            thoughts = "<think>your thoughts</think>" if self.thinking else ""
            return f"Reply with {thoughts}<answer>your tool calls</answer>."
        thoughts = "Reply with <think>your thoughts</think> first. " if self.thinking else ""
        return f"{thoughts}Call a tool."

    def first_message(self, observation: str, turn: int, actions_left: int) -> str:
        """Return the user message that opens a prompt; `turn` counts from 1."""
        return f"{self.rules()}Task:\n{self._with_request(observation, actions_left)}"

    def next_message(self, reward: float, observation: str, turn: int, actions_left: int) -> str:
        """Return the message after a reply."""
        return self._with_request(observation, actions_left)

    def _with_request(self, observation: str, actions_left: int) -> str:
        return f"{observation}\nYou have {actions_left} turns left. {self.request()}"
