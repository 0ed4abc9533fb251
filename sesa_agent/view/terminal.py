"""A saved tree in a terminal, in lines; control characters of a model's text do not reach it."""

from rich.console import Console
from rich.text import Text
from rich.tree import Tree

from sesa_agent.sampling.trajectory import ROOT, DuplicateProposal, Turn
from sesa_agent.screen import printable
from sesa_agent.view.facts import (
    LOST,
    MERGED,
    WON,
    TurnFacts,
    show_probability,
    summary,
    turn_facts,
)
from sesa_agent.view.saved import SavedTree

MAX_LETTERS = 48
"""Of an action or a response in a line."""
KEY = (
    "plain: probability under the plain prompt; drawn: as it was drawn; V: value; A: advantage; "
    "merged: led to a state met before."
)


def print_tree(console: Console, saved: SavedTree, title: str) -> None:
    """Print a tree with its start, a line for each response in the order they were drawn."""
    tree = saved.tree
    facts = turn_facts(tree, saved.cfg)
    head = f"{title}; step {saved.step}, tree {saved.number}, puzzle {tree.task.seed}"
    console.print(Text(head, style="bold"), soft_wrap=True)
    console.print(Text(summary(tree, facts)))
    console.print(Text(_plain(tree.turns[0].observation, keep_lines=True)))
    children = tree.children()
    repeats: dict[int, list[DuplicateProposal]] = {}
    for said in tree.duplicates:
        repeats.setdefault(said.parent, []).append(said)
    winning = {
        above for node, fact in enumerate(facts) if fact.end == WON for above in tree.path(node)
    }
    root = Tree(Text("start"), guide_style="dim")
    branches = {ROOT: root}
    for parent in sorted(children):
        indices: list[int] = []
        dropped = list(repeats.get(parent, ()))
        for node in children[parent]:
            turn = tree.turns[node]
            if turn.proposal_index not in indices:
                _add_dropped(branches[parent], dropped, len(indices))
                indices.append(turn.proposal_index)
            line = turn_line(len(indices), turn, facts[node], node in winning)
            branches[node] = branches[parent].add(line)
        _add_dropped(branches[parent], dropped, len(indices))
    console.print(root, soft_wrap=True)
    console.print(Text(KEY, style="dim"), soft_wrap=True)
    console.print()


def turn_line(rank: int, turn: Turn, facts: TurnFacts, is_winning: bool) -> Text:
    """The line of a turn: its rank among the proposals, the action and what is known of it.

    Args:
        rank: from 1.
        turn: the turn.
        facts: what is computed about it.
        is_winning: whether a success lies at or below it.
    """
    style = "bold green" if is_winning else "dim" if facts.end == MERGED else ""
    line = Text(f"{rank} {_name(turn)}", style=style)
    if facts.end:
        mark = {WON: "★ ", LOST: "✕ "}.get(facts.end, "")
        line.append(f"  {mark}{facts.end}")
    if turn.num_draws > 1 or turn.outcome:
        line.append(f"  outcome {turn.outcome + 1}, {turn.num_draws} times", style="dim")
    line.append(f"  {_probabilities(turn)}", style="dim")
    if facts.value is not None:
        line.append(f"  V {facts.value:.3f}", style="dim")
    if facts.advantage:
        colour = "blue" if facts.advantage > 0 else "yellow"
        line.append(f"  A {facts.advantage:+.2f}", style=f"not dim {colour}")
    return line


def _add_dropped(branch: Tree, dropped: list[DuplicateProposal], num_earlier: int) -> None:
    """Add the responses that were dropped when so many proposals stood."""
    while dropped and dropped[0].num_earlier <= num_earlier:
        said = dropped.pop(0)
        line = Text(f"  {_name(said)}", style="dim strike")
        branch.add(
            line.append(f"  said again, dropped  {_probabilities(said)}", style="not strike")
        )


def _name(said: Turn | DuplicateProposal) -> str:
    if said.action is not None:
        return _plain(said.action)
    return f"unreadable: {_plain(said.response)}"


def _probabilities(said: Turn | DuplicateProposal) -> str:
    drawn = show_probability(sum(said.sampling_logprobs))
    plain = "not saved" if said.plain_logprob is None else show_probability(said.plain_logprob)
    return f"plain {plain} drawn {drawn}"


def _plain(text: str, keep_lines: bool = False) -> str:
    """Text without what a terminal would obey; in one line, and not too long, unless kept."""
    if keep_lines:
        return printable("\n".join(text.splitlines()))
    line = printable(" ".join(text.split()))
    return line if len(line) <= MAX_LETTERS else f"{line[: MAX_LETTERS - 1]}…"
