"""Writes the tree explorer: one self-contained page.

Script and styles are inline, the trees are compressed data. The page's content security policy only
allows this script, by its hash, and no requests; the script inserts texts as text, never as HTML.
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
"""The parts of the page's script, each after those that it needs."""


def render(title: str, saved: Sequence[SavedTree], first: SavedTree, decode: Decode | None) -> str:
    """Return the page as HTML.

    Args:
        title: title of the run.
        saved: all trees of the page.
        first: the tree to show first.
        decode: decodes the ids of a prompt; None leaves prompts out.
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
    """The description of a tree that the page shows before it decompresses the tree."""
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
    """What a reader should know about these numbers."""
    tree, loss, notes = saved.tree, saved.cfg.loss, []
    if loss.filter_ratio < 1:
        notes.append(
            f"Training kept {loss.filter_ratio:.0%} of the groups; whether this one was kept is "
            "not saved."
        )
    if any(turn.plain_logprob is None for turn in tree.turns):
        notes.append(
            "Log-probabilities under the plain prompt are missing: an older version wrote this "
            "file, or the run was stopped here."
        )
    num_unseen = tree.num_duplicates - len(tree.duplicates)
    if num_unseen > 0:
        notes.append(f"{num_unseen} dropped responses were counted but not saved.")
    return notes


def _file(name: str) -> str:
    """The text of a file in this folder; a script without its comment lines."""
    text = (files("sesa_agent.view") / name).read_text(encoding="utf-8")
    return re.sub(r"^\s*(//.*)?\n", "", text, flags=re.MULTILINE) if name.endswith(".js") else text
