"""A saved tree as lines in the terminal, without control characters of the model's text."""

from rich.console import Console
from rich.text import Text
from rich.tree import Tree

from sesa_agent.sampling.trajectory import ROOT, DuplicateProposal, Turn
from sesa_agent.screen import printable, show_probability
from sesa_agent.view.facts import LOST, MERGED, WON, TurnFacts, summary, turn_facts
from sesa_agent.view.saved import SavedTree

MAX_LETTERS = 48
"""Maximum length of an action or a response in a line."""
KEY = (
    "plain: probability under the plain prompt; sampled: under the prompt it was sampled from; "
    "V: value; A: advantage; merged: reached a state again."
)


def print_tree(console: Console, saved: SavedTree, title: str) -> None:
    """Print the start of a tree, and a line for each response in the order of sampling."""
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
    """The line of a turn: its rank among the proposals, its action and its facts.

    Args:
        rank: rank, from 1.
        turn: the turn.
        facts: its facts.
        is_winning: whether there is a success at or below it.
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
    """Add the responses that were dropped after so many proposals."""
    while dropped and dropped[0].num_earlier <= num_earlier:
        said = dropped.pop(0)
        line = Text(f"  {_name(said)}", style="dim strike")
        branch.add(line.append(f"  duplicate, dropped  {_probabilities(said)}", style="not strike"))


def _name(said: Turn | DuplicateProposal) -> str:
    if said.action is not None:
        return _plain(said.action)
    return f"unreadable: {_plain(said.response)}"


def _probabilities(said: Turn | DuplicateProposal) -> str:
    sampled = show_probability(sum(said.sampling_logprobs))
    plain = "not saved" if said.plain_logprob is None else show_probability(said.plain_logprob)
    return f"plain {plain} sampled {sampled}"


def _plain(text: str, keep_lines: bool = False) -> str:
    """Text without control characters; on one line of limited length, unless `keep_lines`."""
    if keep_lines:
        return printable("\n".join(text.splitlines()))
    line = printable(" ".join(text.split()))
    return line if len(line) <= MAX_LETTERS else f"{line[: MAX_LETTERS - 1]}…"
