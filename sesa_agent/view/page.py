"""Writes the tree explorer: one page that needs nothing else.

Scripts and styles stand in it, the trees are packed data. The page's own policy lets no script run
but that one, by its hash, and nothing be fetched; its script writes texts as texts, never as HTML.
"""

import base64
import hashlib
import re
from collections.abc import Sequence
from importlib.resources import files

import jinja2
from markupsafe import Markup

from sesa_agent.view.facts import MEAN_WORDS, VALUE_WORDS, summary, turn_facts
from sesa_agent.view.payload import pack, tree_payload
from sesa_agent.view.saved import Decode, SavedTree

SCRIPTS = (
    "tree",
    "layout",
    "words",
    "boards",
    "cards",
    "draw",
    "overview",
    "legend",
    "panel",
    "explorer",
)
"""The page's script, in the order in which its parts need each other."""


def render(title: str, saved: Sequence[SavedTree], first: SavedTree, decode: Decode | None) -> str:
    """Return the page as HTML.

    Args:
        title: of the run.
        saved: all trees that can be chosen in the page.
        first: the one that it opens with.
        decode: turns ids of a prompt into text; None leaves prompts out.
    """
    script = "\n".join(_file(f"{name}.js") for name in SCRIPTS)
    script = f'(() => {{\n"use strict";\n{script}\n}})();'
    index = [_entry(one) for one in saved]
    template = jinja2.Environment(
        autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
    ).from_string(_file("page.html"))
    return template.render(
        title=title,
        style=Markup(_file("page.css")),
        script=Markup(script),
        script_hash=base64.b64encode(hashlib.sha256(script.encode()).digest()).decode(),
        index=Markup(pack({"trees": index, "first": saved.index(first)})),
        trees=[Markup(pack(tree_payload(one, decode))) for one in saved],
    )


def _entry(saved: SavedTree) -> dict[str, object]:
    """What the page says of a tree before it is unpacked."""
    tree, loss = saved.tree, saved.cfg.loss
    return {
        "step": saved.step,
        "number": saved.number,
        "seed": str(tree.task.seed),
        "turns": len(tree),
        "won": tree.success,
        "sentence": summary(tree, turn_facts(tree, saved.cfg)),
        "notes": _notes(saved),
        "sampler": saved.cfg.sampling.name,
        "proposer": saved.cfg.sampling.proposer,
        "credit": loss.credit,
        "gap": loss.history_correction,
        "value": VALUE_WORDS.get(loss.credit, MEAN_WORDS),
    }


def _notes(saved: SavedTree) -> list[str]:
    """What a reader of these numbers has to know."""
    tree, loss, notes = saved.tree, saved.cfg.loss, []
    if loss.filter_ratio < 1:
        notes.append(
            f"Training kept {loss.filter_ratio:.0%} of the groups; the file does not say whether "
            "this one was among them."
        )
    if any(turn.plain_logprob is None for turn in tree.turns):
        notes.append(
            "Log-probabilities under the plain prompt were not saved: an older version wrote this "
            "file, or the run was stopped here."
        )
    num_unseen = tree.num_duplicates - len(tree.duplicates)
    if num_unseen > 0:
        notes.append(f"{num_unseen} dropped responses were counted but not saved.")
    return notes


def _file(name: str) -> str:
    """A file beside this one, a script without its lines of comment."""
    text = (files("sesa_agent.view") / name).read_text(encoding="utf-8")
    return re.sub(r"^\s*(//.*)?\n", "", text, flags=re.MULTILINE) if name.endswith(".js") else text
