"""The prompts around a game, in RAGEN's layout with our own wording. Pure text, no tokens.

A prompt has one system message and a first user message with the rules, the symbols, the actions
and the state. Each reply of the policy is followed by a user message with the reward and the new
state. Sequential sampling appends its request (another proposal, a list, an outline, a solution
that follows an outline) to the end of the last user message, so that everything before it is the
plain prompt, token for token. `ShortStyle` is the layout of tasks that a single answer settles.
"""

from collections.abc import Sequence
from dataclasses import dataclass

SYSTEM = "You are a careful player of text games."
GAME_PHRASE = " actions left. "
"""Words of the layout of games, a single token for the models that were made for it."""
ANSWER_SYSTEM = "You solve problems carefully."
"""The system message of tasks that a single answer settles, in the short layout."""
SEPARATOR = " || "
"""Separates the actions of one answer."""
ANSWER_START = "<answer>"
"""What a prompt ends with under `model.prefill`: the reply begins inside the answer."""
STOP = "</answer>"
"""The end of a response."""
SKETCH_STOP = "</sketch>"
"""The end of an outline."""


@dataclass(frozen=True)
class PromptStyle:
    """What the prompt says about a game, and how the policy must answer."""

    instruction: str
    """The goal and the rules, in one line."""
    legend: str
    """The meaning of each symbol; may be empty."""
    actions: str
    """The names of the actions, or the form of a free answer."""
    actions_per_turn: int = 1
    """Most actions in one answer."""
    thinking: bool = False
    """Whether to ask for thoughts before the answer."""
    sketch: str = ""
    """What an outline of a solution says."""

    @property
    def system(self) -> str:
        """The system message."""
        return SYSTEM

    @property
    def stop(self) -> tuple[str, ...]:
        """The texts that end a response."""
        return (STOP,)

    def rules(self) -> str:
        """Return the lines that come before the first state."""
        lines = [self.instruction]
        if self.legend:
            lines.append(f"Symbols: {self.legend}.")
        lines.append(f"Actions: {self.actions}.")
        if self.actions_per_turn > 1:
            lines.append(
                f'You may give up to {self.actions_per_turn} actions, separated by "{SEPARATOR}".'
            )
        return "\n".join(lines) + "\n"

    def request(self) -> str:
        """Return the last sentence of every user message."""
        if self.thinking:
            return "Reply with <think>your thoughts</think><answer>your answer</answer>."
        return "Reply with <answer>your answer</answer>."

    def write_answer(self, answer: str) -> str:
        """Return a response that gives an answer, as the request wants it; it has no thoughts."""
        thoughts = "<think></think>" if self.thinking else ""
        return f"{thoughts}<answer>{answer}{STOP}"

    def first_message(self, observation: str, turn: int, actions_left: int) -> str:
        """Return the user message that opens a prompt; `turn` counts from 1."""
        return self.rules() + self._state(observation, turn, actions_left)

    def next_message(self, reward: float, observation: str, turn: int, actions_left: int) -> str:
        """Return the user message after a reply."""
        return f"Reward: {reward:g}\n" + self._state(observation, turn, actions_left)

    def _state(self, observation: str, turn: int, actions_left: int) -> str:
        return (
            f"Turn {turn}:\nState:\n{observation}\n"
            f"You have {actions_left} actions left. {self.request()}"
        )


class ShortStyle(PromptStyle):
    """The layout of tasks that a single answer settles: no turns, states or numbers of actions."""

    @property
    def system(self) -> str:
        """The system message."""
        return ANSWER_SYSTEM

    def rules(self) -> str:
        """Return the lines that come before the question."""
        legend = f"\nSymbols: {self.legend}." if self.legend else ""
        return f"{self.instruction}{legend}\n"

    def _state(self, observation: str, turn: int, actions_left: int) -> str:
        return f"{observation}\nAnswer with: {self.actions}. {self.request()}"


def propose_another(earlier: Sequence[str]) -> str:
    """Return the end of a user message that asks for an action different from earlier ones."""
    return f"\nAlready proposed: {'; '.join(earlier)}. Propose a different answer."


def list_answers(count: int) -> str:
    """Return the end of a user message that asks for several answers in one reply."""
    return f"\nGive {count} different answers, one after another."


def outline(what: str, earlier: Sequence[str]) -> str:
    """Return the end of a user message that asks for an outline different from earlier ones.

    Args:
        what: what an outline says, as in `PromptStyle.sketch`.
        earlier: the earlier outlines, the paper's S_{j-1} (Algorithm 1, PromptSketch).
    """
    request = f"\nDo not answer yet. Outline {what} in a few words: <sketch>your outline</sketch>."
    if earlier:
        request += f" Already outlined: {'; '.join(earlier)}. Outline a different one."
    return request


def follow(sketch: str) -> str:
    """Return the end of a user message that asks to follow an outline (PromptSolve)."""
    return f"\nDo it this way: {sketch}."


def replace_surrogates(text: str) -> str:
    r"""Write lone surrogates, which neither tokenizers nor servers take, as question marks.

    >>> replace_surrogates("a\ud800b")
    'a?b'
    """
    return text if text.isascii() else text.encode(errors="replace").decode()
