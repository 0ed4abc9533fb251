"""What `sesa-agent view` says of a run's trees, in the page's data and in the terminal."""

import base64
import json
import zlib
from dataclasses import replace

import pytest

from sesa_agent.configs.load import load_config
from sesa_agent.sampling.trajectory import ROOT, Task, TrajectoryTree
from sesa_agent.training.monitor import RESCUE
from sesa_agent.training.run_log import RunLog
from sesa_agent.training.setup import resolve_auto
from sesa_agent.view.facts import gap_weight, summary, turn_advantages, turn_ends, turn_facts
from sesa_agent.view.page import render
from sesa_agent.view.payload import pack, tree_payload
from sesa_agent.view.saved import SavedTree, read_saved

from ..helpers.report_files import NUM_STEPS, write_run
from ..helpers.view_trees import BESIDE, SOLVED, START, large_tree, seen_tree, turn

BEST = ("loss.credit=best", "loss.discount=0.5", "loss.history_correction=negatives")
"""With the discount of a half, values are powers of it."""


def settings(*overrides, method="sesa"):
    return resolve_auto(load_config("sokoban", method, list(overrides)))


def saved_tree(tree, *overrides, **options):
    return SavedTree(3, 1, tree, settings(*overrides, **options))


@pytest.fixture
def run(tmp_path):
    folder = write_run(tmp_path / "run", trees=(seen_tree(), seen_tree(plain=False)), settings=BEST)
    with RunLog(folder, resume_step=NUM_STEPS) as log:
        log.write_trees(2, [seen_tree()])
    return folder


# ---- facts ----


def test_every_branch_has_its_end():
    assert turn_ends(seen_tree()) == ["", "merged", "out of turns", "won"]
    lost = turn("Up", START, START, None, -0.1, terminated=True)
    left = turn("Up", START, START, None, -0.1)
    tree = TrajectoryTree(Task("Mine-v0", 0), [ROOT, ROOT], [lost, left])
    assert turn_ends(tree) == ["lost", "not expanded"]


def test_values_and_advantages_are_those_of_the_credit_rule():
    """Values: a success in two turns is worth 1/4; advantages: twice the distance to the mean."""
    facts = turn_facts(seen_tree(), settings(*BEST))
    assert [fact.value for fact in facts] == [0.25, 0.0, 0.0, 0.25]
    assert [fact.advantage for fact in facts] == [0.25, -0.25, -0.25, 0.25]
    facts = turn_facts(seen_tree(), settings("loss.normalize_std=false", method="sesa-paper"))
    assert [fact.value for fact in facts] == pytest.approx([0.5, 0.0, 0.0, 1.0])
    assert [fact.advantage for fact in facts] == pytest.approx([1 / 6, -1 / 3, -1 / 3, 2 / 3])


def test_a_tree_without_a_success_has_no_learning_signal():
    tree = seen_tree()
    tree.turns[3] = replace(tree.turns[3], success=False, reward=0.0)
    assert [fact.advantage for fact in turn_facts(tree, settings(*BEST))] == [None] * 4


def test_outcomes_share_the_advantage_of_their_action():
    merged = {"merged_into": ROOT, "num_draws": 2}
    turns = [
        turn("Up", START, SOLVED, -0.1, -0.1, reward=1.0, terminated=True, success=True),
        turn("Up", START, START, -0.1, -0.1, outcome=1, **merged),
        turn("Down", START, START, -2.0, -0.1, proposal_index=1, **merged),
    ]
    tree = TrajectoryTree(Task("sesa/FrozenLake-v0", 0), [ROOT] * 3, turns)
    cfg = load_config("frozen_lake", "sesa", ["loss.credit=expected"])
    first, second, other = turn_advantages(tree, cfg.loss)
    assert first is not None and other is not None
    assert first == second == pytest.approx(-other)
    assert first > 0


@pytest.mark.parametrize(
    ("advantage", "mode", "weight"),
    [
        (-1.0, "negatives", 0.5),
        (1.0, "negatives", 1.0),
        (1.0, "truncated", 0.5),
        (-1.0, "none", 1.0),
    ],
)
def test_the_gap_weight_is_that_of_training(advantage, mode, weight):
    later = turn("Up", START, START, -1.0 - 0.6931472, -1.0, proposal_index=1)
    assert gap_weight(later, advantage, mode) == pytest.approx(weight)
    assert gap_weight(replace(later, proposal_index=0), advantage, mode) == 1.0
    unknown = gap_weight(replace(later, plain_logprob=None), advantage, mode)
    assert unknown == (None if weight != 1.0 else 1.0)


def sentence(tree, *overrides):
    return summary(tree, turn_facts(tree, settings(*BEST, *overrides)))


def test_the_sentence_says_what_branching_found():
    assert sentence(seen_tree()) == (
        "1 of 3 branches won, 1 reached a state again, 1 duplicate dropped. "
        "First proposals alone, an ordinary rollout, ran out of turns. "
        "The shortest win takes 2 turns, 1 of them by a later proposal; the least likely of "
        "these is Down at turn 2, with probability .050 under the plain prompt."
    )
    assert sentence(seen_tree(plain=False)).endswith("1 of them by a later proposal.")


def test_the_sentence_says_when_there_is_no_learning_signal():
    tree = seen_tree()
    tree.turns[3] = replace(tree.turns[3], success=False, reward=0.0)
    assert sentence(tree).startswith("None of 3 branches won")
    assert sentence(tree).endswith(
        "There is no learning signal: no proposal was better than another."
    )


def test_of_independent_rollouts_the_sentence_claims_no_branching():
    tree = seen_tree()
    tree.turns[:] = [replace(one, proposal_index=0, merged_into=None) for one in tree.turns]
    tree.parents[:], tree.duplicates[:] = [ROOT] * 4, []
    assert sentence(tree, "loss.credit=trajectory") == (
        "1 of 4 branches won. They were sampled independently."
    )


# ---- the page's data ----


def unpack(text):
    return json.loads(zlib.decompress(base64.b64decode(text)))


def test_a_payload_holds_every_text_once_and_all_numbers():
    values = unpack(pack(tree_payload(saved_tree(seen_tree(), *BEST), decode=None)))
    texts, turns = values["texts"], values["turns"]
    assert len(texts) == len(set(texts))
    assert [texts[place] for place in turns["after"]] == [BESIDE, START, BESIDE, SOLVED]
    assert [texts[place] for place in turns["action"]] == ["Left", "Wait", "Up", "Down"]
    assert (turns["plain"], turns["sampled"]) == (
        [-0.2, -2.0, -0.3, -3.0],
        [-0.2, -0.1, -0.3, -0.5],
    )
    assert turns["merged"] == [None, ROOT, None, None]
    assert values["repeats"]["parent"] == [ROOT] and values["repeats"]["earlier"] == [2]
    assert values["prompts"] == []


def test_prompts_are_those_of_the_decisions_and_share_their_beginning():
    tree = seen_tree()
    tree.turns[:] = [
        replace(one, prompt_ids=(1,) if node < 2 else (2,)) for node, one in enumerate(tree.turns)
    ]
    words: dict[tuple[int, ...], str] = {(1,): "Play 🎲 well: a", (2,): "Play 🎲 well: b"}
    values = tree_payload(saved_tree(tree, *BEST), lambda ids: words[tuple(ids)])
    assert values["prompts"] == [[ROOT, ROOT, 0, "Play 🎲 well: a"], [0, ROOT, 14, "b"]]


def test_numbers_that_are_not_finite_and_torn_letters_do_not_break_a_page():
    tree = seen_tree()
    tree.turns[0] = replace(tree.turns[0], reward=float("nan"), response="\ud83d", action="\ud83d")
    values = unpack(pack(tree_payload(saved_tree(tree, "loss.credit=best"), decode=None)))
    assert values["turns"]["reward"][0] is None


def test_a_large_tree_makes_a_small_page():
    tree = large_tree(2000)
    text = render("large", [saved := saved_tree(tree, *BEST)], saved, decode=None)
    assert len(text) < 100 * len(tree)


# ---- the command ----


def test_view_writes_one_page_of_all_trees(sesa_agent, run):
    code, out, _ = sesa_agent("view", run)
    assert code == 0 and "trees.html (3 trees" in out
    page = (run / "trees.html").read_text(encoding="utf-8")
    assert page.count('<script type="application/octet-stream" id="tree-') == 3
    assert "http" not in page.replace("http-equiv", "")


def test_view_opens_with_the_chosen_step(sesa_agent, run, tmp_path):
    assert sesa_agent("view", run, "--step", 2, "--output", tmp_path / "new" / "a.html")[0] == 0
    page = (tmp_path / "new" / "a.html").read_text(encoding="utf-8")
    index = unpack(page.partition('id="index">')[2].partition("</script>")[0])
    assert [tree["step"] for tree in index["trees"]] == [2, 8, 8]
    assert index["first"] == 0


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--step", "7"), "--step 7 has no saved trees in {run}. Choose one of 2, 8."),
        (("--output", "{run}"), "--output must be a file, not a folder, got '{run}'."),
        (("--terminal", "--open"), "--open must be left out with --terminal, got True."),
    ],
)
def test_a_wrong_option_is_one_line(sesa_agent, run, words, message):
    words = [word.format(run=run) for word in words]
    code, _, error = sesa_agent("view", run, *words)
    assert (code, error) == (2, f"sesa-agent: {message.format(run=run)}\n")


def test_a_folder_without_run_or_trees_is_one_line(sesa_agent, run, tmp_path):
    code, _, error = sesa_agent("view", tmp_path / "none")
    assert code == 2 and "is not a run folder: it has no config.yaml" in error
    for file in (run / "trees").iterdir():
        file.unlink()
    code, _, error = sesa_agent("view", run)
    assert code == 2 and "has no saved trees" in error and "optim.checkpoint_every" in error
    (run / "trees" / "step-000001.json").write_text("[{}]", encoding="utf-8")
    code, _, error = sesa_agent("view", run)
    assert code == 2 and "is damaged" in error


def test_trees_after_a_rescue_are_credited_by_the_settings_of_the_rescue(tmp_path):
    folder = write_run(tmp_path / "a", trees=(seen_tree(),), settings=("monitor.rescue=auto",))
    with RunLog(folder, resume_step=NUM_STEPS) as log:
        log.write_trees(2, [seen_tree()])
        log.write_event(5, RESCUE.kind, RESCUE.text)
    _, saved = read_saved(folder)
    assert [(one.step, one.cfg.loss.credit) for one in saved] == [(2, "trajectory"), (8, "best")]


# ---- the terminal ----


def test_the_terminal_shows_the_trees_of_a_step_in_their_order(sesa_agent, run):
    code, out, _ = sesa_agent("view", run, "--terminal", "--step", "2")
    lines = out.splitlines()
    assert code == 0 and lines[0] == "Sokoban: ragen, seed 0; step 2, tree 1, puzzle 17"
    tree = lines[lines.index("start") : lines.index("start") + 6]
    words = [line.strip("│├└─ ") for line in tree]
    assert words == [
        "start",
        "1 Left  plain .819 sampled .819  V 0.250  A +0.25",
        "1 Up  out of turns  plain .741 sampled .741  V 0.000  A -0.25",
        "2 Down  ★ won  plain .050 sampled .607  V 0.250  A +0.25",
        "2 Wait  merged  plain .135 sampled .905  V 0.000  A -0.25",
        "Left  duplicate, dropped  plain .819 sampled .497",
    ]
    assert START in out


def test_no_control_sequence_of_a_model_reaches_the_terminal(sesa_agent, tmp_path):
    tree = seen_tree()
    evil = "\x1b]0;owned\x07\x1b[2J[bold]x[/bold]"
    tree.turns[0] = replace(tree.turns[0], action=evil, observation=evil)
    tree.turns[3] = replace(tree.turns[3], action=None, response=evil)
    folder = write_run(tmp_path / "b", trees=(tree,), settings=BEST)
    code, out, _ = sesa_agent("view", folder, "--terminal")
    assert code == 0
    assert "\x1b" not in out and "\x07" not in out
    assert "unreadable: �]0;owned��[2J[bold]x[/bold]" in out
