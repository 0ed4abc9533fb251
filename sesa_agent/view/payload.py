"""A saved tree in the format of the page: columns instead of objects, each text once, compressed.

A page may hold many trees with thousands of turns; it decompresses a tree when it is shown. The
data is base64, so no text of a game or a model can close the element that holds it.
"""

import base64
import json
import math
import zlib
from collections.abc import Iterable, Sequence
from os.path import commonprefix
from typing import Any

from sesa_agent.sampling.trajectory import ROOT, DuplicateProposal, TrajectoryTree, Turn
from sesa_agent.view.facts import turn_facts
from sesa_agent.view.saved import Decode, SavedTree


class Texts:
    """A table of texts without duplicates."""

    def __init__(self) -> None:
        self.places: dict[str, int] = {}

    def place(self, text: str) -> int:
        """The index of a text in the table; adds a new text."""
        return self.places.setdefault(text, len(self.places))


def tree_payload(saved: SavedTree, decode: Decode | None) -> dict[str, Any]:
    """Convert a tree to columns.

    Args:
        saved: the tree and its settings.
        decode: decodes the ids of a prompt; None leaves prompts out.

    Returns:
        Plain lists and dicts. `turns` has a list for every quantity, in the order of the tree's
        turns; numbers are rounded, texts are indices into `texts`, unknown numbers are null.
    """
    tree, texts = saved.tree, Texts()
    facts = turn_facts(tree, saved.cfg)
    children = tree.children()
    columns = {
        **_answers(tree.turns, texts),
        "before": [texts.place(turn.observation) for turn in tree.turns],
        "after": [texts.place(turn.next_observation) for turn in tree.turns],
        "sketch": [texts.place(turn.sketch) for turn in tree.turns],
        "index": [turn.proposal_index for turn in tree.turns],
        "outcome": [turn.outcome for turn in tree.turns],
        "draws": [turn.num_draws for turn in tree.turns],
        "reward": _numbers(turn.reward for turn in tree.turns),
        "legal": [int(turn.legal) for turn in tree.turns],
        "merged": [turn.merged_into for turn in tree.turns],
        "end": [fact.end for fact in facts],
        "value": _numbers(fact.value for fact in facts),
        "advantage": _numbers(fact.advantage for fact in facts),
        "weight": _numbers(fact.weight for fact in facts),
    }
    repeats = {
        **_answers(tree.duplicates, texts),
        "parent": [said.parent for said in tree.duplicates],
        "earlier": [said.num_earlier for said in tree.duplicates],
    }
    firsts = {parent: tree.turns[nodes[0]] for parent, nodes in children.items()}
    return {
        "env": tree.task.env_id,
        "seed": str(tree.task.seed),
        "calls": tree.num_calls,
        "duplicates": tree.num_duplicates,
        "parents": tree.parents,
        "turns": columns,
        "repeats": repeats,
        "prompts": [] if decode is None else _prompts(tree, firsts, decode),
        "texts": list(texts.places),
    }


def pack(values: Any) -> str:
    """JSON, deflated (RFC 1950), in base64."""
    text = json.dumps(values, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    data = text.encode("utf-8", "surrogatepass")
    return base64.b64encode(zlib.compress(data, 9)).decode("ascii")


def _answers(
    said: Sequence[Turn] | Sequence[DuplicateProposal], texts: Texts
) -> dict[str, list[Any]]:
    """What turns and repeats have in common."""
    return {
        "response": [texts.place(one.response) for one in said],
        "action": [None if one.action is None else texts.place(one.action) for one in said],
        "sampled": _numbers(math.fsum(one.sampling_logprobs) for one in said),
        "plain": _numbers(one.plain_logprob for one in said),
        "tokens": [len(one.response_ids) for one in said],
    }


def _numbers(values: Iterable[float | None]) -> list[float | None]:
    """Rounded to five decimals; None for numbers that are unknown or not finite."""
    return [
        None if value is None or not math.isfinite(value) else round(value, 5) for value in values
    ]


def _prompts(tree: TrajectoryTree, firsts: dict[int, Turn], decode: Decode) -> list[list[Any]]:
    """The plain prompt of every decision.

    Returns:
        A list for each decision: the turn before it, the decision whose prompt shares a prefix
        with this one, the length of that prefix in UTF-16 units, and the rest of the prompt.
    """
    texts: dict[int, str] = {}
    packed = []
    for parent in sorted(firsts):  # parents have lower numbers than their children
        like = parent if parent == ROOT else tree.parents[parent]
        text = texts[parent] = decode(firsts[parent].prompt_ids)
        shared = 0 if like == parent else len(commonprefix([text, texts[like]]))
        units = len(text[:shared].encode("utf-16-le", "surrogatepass")) // 2  # as a browser counts
        packed.append([parent, like, units, text[shared:]])
    return packed
