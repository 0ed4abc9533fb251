"""`sesa-agent report`: the page claims what was measured, needs nothing else and trusts no text."""

import json
import re
import shlex
from dataclasses import replace
from functools import partial
from html.parser import HTMLParser

import pytest
import yaml

from sesa_agent.configs.load import config_to_dict, load_config
from sesa_agent.report.comparison import comparison_page, find_runs
from sesa_agent.report.episodes import sample_episodes
from sesa_agent.report.page import Value
from sesa_agent.report.panels import MAX_POINTS, page_panels, thin, tree_layout
from sesa_agent.report.render import render, save_pictures
from sesa_agent.report.run import are_apart, repeat_command, run_page
from sesa_agent.run_files import read_run_files
from sesa_agent.sampling.trajectory import ROOT
from sesa_agent.training.setup import resolve_auto

from ..helpers.report_files import (
    NUM_STEPS,
    arm,
    arms,
    evaluation,
    metrics,
    tree,
    write_comparison,
    write_run,
)
from ..helpers.toy_game import ENV_ID as CORRIDOR

ATTACK = "</pre><script>alert(1)</script><img src=x onerror=alert(2)>'\"&"


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    result = {"base": evaluation(0.12), "trained": evaluation(0.4)}
    return write_run(tmp_path_factory.mktemp("runs") / "a", result=result)


@pytest.fixture(scope="module")
def comparison(tmp_path_factory):
    return write_comparison(tmp_path_factory.mktemp("results") / "sokoban.json", arms())


@pytest.fixture
def call(sesa_agent):
    return partial(sesa_agent, "report")


class Elements(HTMLParser):
    """Every start tag of a page with its attributes."""

    def __init__(self, text):
        super().__init__()
        self.found = []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.found.append((tag, dict(attrs)))


# ---- runs ----


def test_a_run_is_one_page_that_refers_to_nothing_else(run, call, tmp_path):
    code, out, err = call(run, "--output", tmp_path / "a.html", "--png", tmp_path / "png")
    assert (code, err) == (0, "")
    assert "a.html" in out
    page = Elements((tmp_path / "a.html").read_text(encoding="utf-8"))
    tags = {tag for tag, _ in page.found}
    assert not tags & {"script", "link", "img", "iframe", "object", "base", "form", "image"}
    links = [value for _, attrs in page.found for key, value in attrs.items() if "href" in key]
    assert all(value.startswith("#") for value in links)
    names = {path.stem for path in (tmp_path / "png").iterdir()}
    assert names == {"success", "curves", "exploration", "tree"}


def test_without_an_option_the_page_is_written_beside_the_run(run, call):
    assert call(run)[0] == 0
    assert (run / "report.html").is_file()


def test_a_curve_shows_what_was_spent_before_its_evaluation(run):
    rows = read_run_files(run).line.rows
    assert [row["policy_calls"] for row in rows] == [100 * step for step in range(NUM_STEPS)]
    assert [row["seconds"] for row in rows] == [3.0 * step for step in range(NUM_STEPS)]


def test_seconds_of_older_logs_are_added_up_without_evaluation(tmp_path):
    folder = write_run(tmp_path / "old")
    lines = [metrics(step) | {"step": step, "time/evaluate_s": 50.0} for step in range(3)]
    texts = [
        json.dumps({k: v for k, v in line.items() if k != "progress/seconds"}) for line in lines
    ]
    (folder / "metrics.jsonl").write_text("\n".join(texts), encoding="utf-8")
    assert [row["seconds"] for row in read_run_files(folder).line.rows] == [0, 3.0, 6.0]


def test_an_arm_with_a_start_shows_its_own_steps_after_what_its_start_spent(tmp_path):
    folder = write_run(tmp_path / "b")
    went_on = arm("sokoban", "ragen, then sesa", 0, 0.4) | {"steps": 3, "start_from": "ragen"}
    (folder / "arm.json").write_text(json.dumps(went_on), encoding="utf-8")
    line = read_run_files(folder).line
    assert line.label == "ragen, then sesa"
    assert [row["policy_calls"] for row in line.rows] == [600, 700, 800]


def test_the_verdict_claims_no_more_than_the_intervals_allow(run, tmp_path):
    assert run_page(read_run_files(run), {}).verdict == (
        "Training lifted success on 200 held-out puzzles from 0.120 to 0.400; "
        "the 95 % intervals do not overlap."
    )
    close = {"base": evaluation(0.12), "trained": evaluation(0.15)}
    page = run_page(read_run_files(write_run(tmp_path / "close", result=close)), {})
    assert page.verdict.startswith("No significant change on 200 held-out puzzles")
    worse = {"base": evaluation(0.4), "trained": evaluation(0.1)}
    page = run_page(read_run_files(write_run(tmp_path / "worse", result=worse)), {})
    assert page.verdict.startswith("Training lowered success")
    page = run_page(read_run_files(write_run(tmp_path / "unmeasured")), {})
    assert "On validation puzzles success went from 0.100 to 0.500" in page.verdict


@pytest.mark.parametrize(
    ("first", "second", "apart"),
    [
        ((0.1, 0.2), (0.3, 0.4), True),
        ((0.3, 0.4), (0.1, 0.2), True),
        ((0.1, 0.3), (0.2, 0.4), False),
    ],
)
def test_intervals_are_apart_if_they_do_not_overlap(first, second, apart):
    assert are_apart(Value(0.2, first), Value(0.3, second)) is apart
    assert not are_apart(Value(0.2), Value(0.3, second))


def test_the_command_of_a_run_reproduces_its_settings():
    words = ["optim.lr=3e-05", "sampling.merge_states=off", "env.options.max_steps=7"]
    words += ["loss.filter_ratio=0.5", "optim.checkpoint_every=3", "seed=4", "eval.samples=2"]
    settings = config_to_dict(resolve_auto(load_config("sokoban", "sesa", words)))
    command = shlex.split(repeat_command(settings))
    assert command[:6] == ["sesa-agent", "train", "--env", "sokoban", "--method", "sesa"]
    assert sorted(command[6:]) == sorted(words)
    again = resolve_auto(load_config("sokoban", "sesa", command[6:]))
    assert config_to_dict(again) == settings


def test_the_command_of_a_run_with_a_method_file_reproduces_its_settings(tmp_path):
    """Without the file it lists all that differs from another preset."""
    path = tmp_path / "mine.yaml"
    path.write_text("extends: ragen\nloss: {kl_coef: 0.01}\n")
    settings = config_to_dict(resolve_auto(load_config("sokoban", str(path), ["optim.lr=0.5"])))
    command = shlex.split(repeat_command(settings))
    assert command == [
        *("sesa-agent", "train", "--env", "sokoban", "--method", "mine.yaml"),
        "optim.lr=0.5",
    ]
    path.unlink()
    command = shlex.split(repeat_command(settings))
    assert command[5] == "sesa" and {"loss.kl_coef=0.01", "sampling.name=parallel"} <= {*command}
    typed = resolve_auto(load_config("sokoban", "sesa", command[6:]))
    assert config_to_dict(typed) | {"method": ""} == settings | {"method": ""}


def test_a_run_with_a_method_file_and_old_names_is_labelled_and_read(tmp_path):
    folder = write_run(tmp_path / "run")
    values = yaml.safe_load((folder / "config.yaml").read_text())
    values["method"] = "my/mine.yaml"
    values["loss"]["history_gap"] = values["loss"].pop("history_correction")
    (folder / "config.yaml").write_text(yaml.safe_dump(values))
    files = read_run_files(folder)
    assert files.title == "Sokoban: mine, seed 0"
    assert files.settings["loss"]["history_correction"] == "none"


def test_the_command_of_a_run_names_its_scale():
    words = ["optim.lr=3e-05", "model.lora_rank=4"]
    settings = config_to_dict(resolve_auto(load_config("countdown", "ragen", words, "3b-8gpu")))
    command = shlex.split(repeat_command(settings))
    assert command[6:8] == ["--scale", "3b-8gpu"]
    assert sorted(command[8:]) == sorted(words)


def test_the_command_of_a_run_in_an_own_environment_reproduces_its_settings():
    words = ["optim.lr=3e-05", "sampling.merge_states=off", "loss.credit=best"]
    settings = config_to_dict(resolve_auto(load_config(CORRIDOR, "sesa", words)))
    command = shlex.split(repeat_command(settings))
    assert {*words} <= {*command[6:]}
    again = resolve_auto(load_config(CORRIDOR, "sesa", command[6:]))
    assert config_to_dict(again) == settings


def test_a_page_has_no_paths_of_this_machine(tmp_path):
    folder = write_run(tmp_path / "c", settings=("model.path=/data/secret/tiny",))
    page = render(run_page(read_run_files(folder), {}))
    assert "secret" not in page
    assert "model.path=tiny" in page


# ---- untrusted text ----


def test_text_of_games_and_models_stays_text(tmp_path):
    folder = write_run(tmp_path / "d", trees=(tree(ATTACK, ATTACK),))
    with (folder / "events.jsonl").open("a", encoding="utf-8") as file:
        file.write(json.dumps({"step": 5, "kind": ATTACK, "text": ATTACK}) + "\n")
    text = render(run_page(read_run_files(folder), {"torch": ATTACK}))
    page = Elements(text)
    assert "&lt;script&gt;alert(1)" in text
    assert not [tag for tag, _ in page.found if tag in ("script", "img")]
    assert not [key for _, attrs in page.found for key in attrs if key.startswith("on")]


def test_labels_and_commands_of_a_comparison_stay_text(comparison, tmp_path):
    text = comparison.read_text(encoding="utf-8")
    values = json.loads(text.replace('"ragen"', json.dumps(ATTACK)))
    path = tmp_path / "sokoban.json"
    path.write_text(
        json.dumps(values | {"command": ATTACK, "experiment": ATTACK}), encoding="utf-8"
    )
    page = Elements(render(comparison_page(path, tmp_path / "none")))
    assert not [tag for tag, _ in page.found if tag in ("script", "img")]
    assert not [key for _, attrs in page.found for key in attrs if key.startswith("on")]


def test_a_label_is_not_parsed_as_tex(tmp_path):
    """matplotlib reads text between dollar signs as TeX, and refuses what it cannot read."""
    found = [arm("sokoban", r"$\frac$", 0, 0.2), arm("sokoban", "sesa", 0, 0.5)]
    path = write_comparison(tmp_path / "sokoban.json", found)
    page = comparison_page(path, tmp_path / "none")
    assert r"$\frac$" in re.sub(r"<[^>]*>", "", render(page))
    assert save_pictures(page, tmp_path)


# ---- episodes and trees ----


def test_a_solved_and_a_failed_episode_are_shown(run):
    solved, failed = sample_episodes(read_run_files(run))
    assert (solved.is_solved, solved.outcome, len(solved.turns)) == (True, "solved", 1)
    assert (failed.is_solved, failed.outcome, len(failed.turns)) == (False, "out of turns", 2)
    assert [turn.action for turn in failed.turns] == ["Left", "Up"]


def test_both_episodes_are_of_one_puzzle_if_a_group_has_both(tmp_path):
    folder = write_run(tmp_path / "e")
    lost = replace(tree(), parents=[ROOT], turns=[replace(tree().turns[0], success=False)])
    text = json.dumps([lost.to_json()])
    (folder / "trees" / "step-000020.json").write_text(text, encoding="utf-8")
    assert [episode.step for episode in sample_episodes(read_run_files(folder))] == [8, 8]
    (folder / "trees" / f"step-{NUM_STEPS - 1:06d}.json").unlink()
    assert [episode.step for episode in sample_episodes(read_run_files(folder))] == [20]


def test_trees_of_another_version_are_left_out(tmp_path):
    folder = write_run(tmp_path / "f")
    values = tree().to_json()
    values["turns"][0]["is_from_the_future"] = True
    text = json.dumps([values])
    (folder / "trees" / "step-000020.json").write_text(text, encoding="utf-8")
    assert {episode.step for episode in sample_episodes(read_run_files(folder))} == {8}


def test_a_turn_is_at_the_mean_height_of_its_children():
    depths, heights = tree_layout(tree())
    assert depths == {ROOT: 0, 0: 1, 1: 1, 2: 2}
    assert heights == {ROOT: -0.5, 0: 0.0, 1: -1.0, 2: -1.0}


# ---- comparisons ----


def test_a_comparison_shows_its_tests(comparison, tmp_path):
    page = comparison_page(comparison, tmp_path)
    assert re.fullmatch(
        r"Sokoban: sesa reaches 0\.\d+ and is above ragen \(p < \.05\)\.", page.verdict
    )
    values = json.loads(comparison.read_text(encoding="utf-8"))
    text = render(page)
    for sentence in values["comparison"]["sentences"]:
        assert sentence.replace("<", "&lt;").replace("+", "&#43;") in text.replace("+", "&#43;")
    assert [row.label for row in page.rows] == ["base", "ragen", "sesa"]
    assert page.command == values["command"]


def test_curves_are_plotted_against_every_budget(comparison, tmp_path):
    page = comparison_page(comparison, tmp_path)
    titles = [panel.title for panel in page_panels(page)["curves"]]
    budgets = ("policy calls", "response tokens", "environment steps", "seconds of training")
    assert titles == [f"success against {budget}" for budget in budgets]
    assert "sesa from 0.1 to 0.4" in page_panels(page)["curves"][0].alt


def test_coverage_is_plotted_at_its_largest_k(tmp_path):
    folder = write_run(tmp_path / "h")
    found = {"eval/coverage_at_1": 0.1, "eval/coverage_at_32": 0.4, "eval/pass_at_1": 0.2}
    lines = [json.dumps(metrics(step) | found | {"step": step}) for step in range(3)]
    (folder / "metrics.jsonl").write_text("\n".join(lines), encoding="utf-8")
    panels = page_panels(run_page(read_run_files(folder), {}))["curves"]
    assert [panel.title for panel in panels][4:] == ["coverage@32"]


@pytest.mark.slow
def test_each_environment_has_its_own_panels_and_verdict(tmp_path):
    found = [
        arm(env, label, 0, rate)
        for env in ("sokoban", "frozen_lake")
        for label, rate in (("base", 0.1), ("sesa", 0.5), ("ragen", 0.2))
    ]
    page = comparison_page(write_comparison(tmp_path / "agents.json", found), tmp_path / "none")
    assert page.verdict.count("not significantly different from ragen") == 2  # one seed each
    titles = [panel.title for panel in page_panels(page)["success"]]
    assert titles[0].startswith("Sokoban: ") and titles[-1].startswith("Frozen lake: ")


def test_the_run_folders_of_a_comparison_show_more(comparison, tmp_path):
    found = arms()
    folder = write_run(tmp_path / "runs" / "compare" / "sokoban" / "sesa-seed0")
    sesa = next(result for result in found if result["label"] == "sesa")
    (folder / "arm.json").write_text(json.dumps(sesa), encoding="utf-8")
    other = write_run(tmp_path / "runs" / "other")
    (other / "arm.json").write_text(json.dumps(sesa | {"seconds": 28.0}), encoding="utf-8")
    assert [run.folder for run in find_runs(found, tmp_path / "runs")] == [folder]
    (other / "arm.json").write_text(json.dumps(sesa)[:-9], encoding="utf-8")  # being written
    assert [run.folder for run in find_runs(found, tmp_path / "runs")] == [folder]
    page = comparison_page(comparison, tmp_path / "runs")
    assert [episode.is_solved for episode in page.episodes] == [True, False]
    assert "entropy of the policy, nats" in [p.title for p in page_panels(page)["exploration"]]
    assert not comparison_page(comparison, tmp_path / "none").episodes


def test_a_file_without_tests_names_the_highest_mean(comparison, tmp_path):
    values = json.loads(comparison.read_text(encoding="utf-8"))
    del values["comparison"]
    path = tmp_path / "sokoban.json"
    path.write_text(json.dumps(values), encoding="utf-8")
    page = comparison_page(path, tmp_path / "none")
    assert page.verdict.startswith("Sokoban: sesa has the highest success")


def test_long_lines_are_joined_to_their_means():
    line = [(float(x), 2.0 * x) for x in range(6 * MAX_POINTS)]
    joined = thin(line)
    assert len(joined) == MAX_POINTS
    assert joined[0] == (2.5, 5.0)
    assert thin(line[:MAX_POINTS]) == line[:MAX_POINTS]


# ---- mistakes ----


def test_mistakes_are_one_line(run, call, tmp_path):
    (tmp_path / "words.json").write_text('{"words": 1}', encoding="utf-8")
    (tmp_path / "half.json").write_text('{"arms": [', encoding="utf-8")
    (tmp_path / "list.json").write_text("[1]", encoding="utf-8")
    (tmp_path / "arms.json").write_text('{"arms": [3], "table": [4]}', encoding="utf-8")
    (tmp_path / "words.md").write_text("words", encoding="utf-8")
    damaged = write_run(tmp_path / "damaged")
    (damaged / "arm.json").write_text('{"label": "x", "start_from": "y"}', encoding="utf-8")
    for words, hint in (
        ((tmp_path / "nothing",), "does not exist"),
        ((tmp_path,), "is not a run folder: it has no config.yaml"),
        ((tmp_path / "words.json",), "is not a comparison"),
        ((tmp_path / "half.json",), "is damaged"),
        ((tmp_path / "list.json",), "must hold a JSON object, got list"),
        ((tmp_path / "arms.json",), "is damaged"),
        ((tmp_path / "words.md",), "report must be a run folder or a .json file"),
        ((damaged,), "is damaged"),
        ((run, "--output", tmp_path), "--output must be a file, not a folder"),
    ):
        code, _, err = call(*words)
        assert (code, err.count("\n")) == (2, 1), (words, err)
        assert hint in err


def test_settings_that_are_not_a_mapping_are_reported_as_damaged(tmp_path, call):
    folder = write_run(tmp_path / "g")
    (folder / "config.yaml").write_text(yaml.safe_dump([1]), encoding="utf-8")
    code, _, err = call(folder)
    assert (code, err.count("\n")) == (2, 1)
