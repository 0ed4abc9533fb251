"""What to say if hardly any response can be read as an action: an example, and what helps."""

from collections.abc import Sequence

from ..agents.prompts import PromptStyle
from ..configs.schema import Config
from ..environments.descriptions import describe_value
from .monitor import Symptom
from .tree_summary import TreeSummary

UNREADABLE = 0.02
"""Largest share of readable responses that is reported."""
MAX_QUOTE = 120
"""Length of the part of a response that is quoted, in characters."""


def is_unreadable(readable_rate: float) -> bool:
    """Whether so few responses are readable that something is wrong with their format."""
    return readable_rate <= UNREADABLE


def describe_unreadable(response: str, cut_rate: float, cfg: Config) -> str:
    """Say that responses cannot be read, with an example, the wanted format and what helps.

    Args:
        response: an unreadable response.
        cut_rate: share of the responses that are as long as `engine.max_new_tokens` allows.
        cfg: the settings they were generated with.
    """
    style = PromptStyle("", "", "", thinking=cfg.model.thinking)
    quote = describe_value(response[-MAX_QUOTE:])
    part = "ends with" if len(response) > MAX_QUOTE else "is"
    texts = [
        f"Hardly any response can be read as an action; one {part} {quote}. The prompt asks: "
        f"{style.request()}"
    ]
    if cut_rate >= 0.5:
        limit = cfg.engine.max_new_tokens
        texts.append(f"Responses are cut off: raise engine.max_new_tokens ({limit}).")
    if cfg.model.answer_format != "tolerant":
        texts.append("model.answer_format=tolerant also reads answers in other forms.")
    texts.append(
        "Choose a --model that is tuned to follow instructions, or teach it the format before: "
        "sesa-agent warm-start."
    )
    return " ".join(texts)


def find_unreadable(
    readable_rates: Sequence[float], trees: Sequence[TreeSummary], cfg: Config
) -> list[Symptom]:
    """Detect that the responses of the latest steps cannot be read.

    Args:
        readable_rates: of these steps; empty to detect nothing.
        trees: of the last of them.
        cfg: the settings of the run.
    """
    unreadable = [tree for tree in trees if tree.num_unreadable]
    if not unreadable or not readable_rates or not all(map(is_unreadable, readable_rates)):
        return []
    num, num_cut = (
        sum(getattr(tree, name) for tree in unreadable)
        for name in ("num_unreadable", "num_unreadable_cut")
    )
    text = describe_unreadable(unreadable[0].unreadable, num_cut / num, cfg)
    return [Symptom("unreadable", text)]
