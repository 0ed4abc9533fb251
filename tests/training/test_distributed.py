"""Two processes of torchrun come to what one comes to, and to the same as each other."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
import yaml
from safetensors.torch import load_file

from sesa_agent.agents.policy import Policy
from sesa_agent.configs.errors import SettingError
from sesa_agent.configs.load import config_to_dict
from sesa_agent.training.distributed import check_processes, own_rng

from ..helpers.runs import (
    DAPO,
    REPOSITORY,
    SMALL,
    TORCHRUN,
    make_config,
    newest,
    read_metrics,
    run_python,
)
from ..helpers.several_processes import (
    NUM_UPDATES,
    TASKS,
    UPDATES,
    check_learned,
    grow,
    read_case,
    update,
)

pytestmark = pytest.mark.usefixtures("one_thread")

TRAIN = ("-m", "sesa_agent", "train", "--env", "sokoban")
RUN = (*DAPO, "optim.steps=4", "optim.lr=0.01", "loss.kl_coef=0.01", "eval.episodes=5")


def write_case(llama, folder, name):
    """Write the settings of an update and the trees that it is taught."""
    method, *words = UPDATES[name]
    cfg = make_config(llama, *TASKS, *words, method=method)
    case = {"config": config_to_dict(cfg), "trees": [tree.to_json() for tree in grow(cfg)]}
    (folder / f"case-{name}.json").write_text(json.dumps(case))


def run_together(folder):
    """Two processes do what is written in a folder."""
    module = "tests.helpers.several_processes"
    done = run_python(*TORCHRUN, "-m", module, folder, cwd=REPOSITORY)
    assert done.returncode == 0, done.stderr


@pytest.fixture(scope="module")
def folder(llama, tmp_path_factory):
    """What both processes wrote about whole runs."""
    folder = tmp_path_factory.mktemp("processes")
    write_case(llama, folder, "tree")
    cfg = make_config(llama, *RUN, method="dapo")
    (folder / "config.yaml").write_text(yaml.safe_dump(config_to_dict(cfg)))
    run_together(folder)
    return folder


def results(folder, rank):
    return json.loads((folder / f"results-{rank}.json").read_text())


def test_the_update_of_a_tree_is_that_of_one_process(llama, tmp_path):
    """The other cases are in test_sharding.py."""
    write_case(llama, tmp_path, "tree")
    run_together(tmp_path)
    cfg, trees = read_case(tmp_path / "case-tree.json")
    weights, metrics = update(cfg, trees)
    found = [load_file(tmp_path / f"case-tree-{rank}.safetensors") for rank in range(2)]
    for key, weight in weights.items():
        assert torch.equal(found[0][key], found[1][key])
        torch.testing.assert_close(found[0][key], weight, atol=1e-6, rtol=0)
    logged = [results(tmp_path, rank)["case-tree"] for rank in range(2)]
    assert logged[0] == logged[1]
    assert len(metrics) == NUM_UPDATES
    for line, expected in zip(logged[0], metrics, strict=True):
        assert line == pytest.approx(expected, rel=1e-4, abs=1e-6)
    assert metrics[0]["train/tokens"] > 0
    check_learned(cfg, weights)


@pytest.mark.slow
def test_whole_runs_agree_in_what_they_are_shown_and_where_they_end(folder):
    shown = [results(folder, rank)["whole"] for rank in range(2)]
    assert shown[0] == shown[1]
    assert len(shown[0]) == 4
    assert max(line["train/tokens"] for line in shown[0]) > 0
    weights = [load_file(folder / f"whole-{rank}.safetensors") for rank in range(2)]
    assert weights[0].keys() == weights[1].keys()
    assert all(torch.equal(weights[0][name], weights[1][name]) for name in weights[0])
    saved = Policy.load(str(newest(folder / "whole") / "model"), device="cpu")
    assert all(torch.equal(weight, weights[1][name]) for name, weight in saved.weights())


@pytest.mark.slow
def test_one_process_writes_what_all_were_shown(folder):
    lines = read_metrics(folder / "whole", times=False)
    shown = results(folder, 1)["whole"]
    assert [{"step": step, **line} for step, line in enumerate(shown)] == lines
    calls = [line["progress/policy_calls"] for line in lines]
    assert calls[0] >= 2 * 2  # trees of both processes: 2 tasks of 2 rollouts or more
    assert len(list((folder / "whole" / "tensorboard").iterdir())) == 1


@pytest.mark.slow
def test_a_stopped_run_goes_on_bit_for_bit(folder):
    """One process, and not the one that writes, asked for the stop."""
    stopped = [results(folder, rank)["stopped"] for rank in range(2)]
    assert stopped[0] == stopped[1] == results(folder, 0)["whole"]
    weights = [load_file(folder / f"{name}-0.safetensors") for name in ("whole", "stopped")]
    assert all(torch.equal(weights[0][name], weights[1][name]) for name in weights[0])
    assert read_metrics(folder / "stopped", times=False) == read_metrics(
        folder / "whole", times=False
    )


@pytest.mark.slow
def test_the_command_line_speaks_once(llama, tmp_path):
    words = (*SMALL, f"model.path={llama}", "eval.final_episodes=5", "--output", tmp_path / "run")
    done = run_python(*TORCHRUN, *TRAIN, *words, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("2 processes") == done.stdout.count("Curves") == 1
    assert json.loads((tmp_path / "run" / "result.json").read_text())["base"]["num_episodes"] == 5


@pytest.mark.slow
@pytest.mark.parametrize("words", ["sampling.num_tasks=3", "model.path=nowhere"])
def test_a_mistake_is_one_line(tmp_path, words):
    done = run_python(*TORCHRUN, *TRAIN, words, cwd=tmp_path)
    assert done.returncode != 0
    said = [line for line in done.stderr.splitlines() if line.startswith("sesa-agent: ")]
    assert len(said) == 1
    assert words.partition("=")[0] in said[0]
    assert "sesa_agent/" not in done.stderr  # no traceback of ours
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("device", "num_tasks", "num", "num_gpus", "word"),
    [
        ("cuda", 16, 8, 2, "torchrun --nproc-per-node must be at most 2, .* got 8"),
        ("cpu", 12, 8, 0, "sampling.num_tasks must be a multiple of 8, .* got 12"),
        ("cpu", 4, 8, 0, "sampling.num_tasks must be a multiple of 8, .* got 4"),
    ],
)
def test_a_number_of_processes_that_does_not_fit_is_refused(
    llama, device, num_tasks, num, num_gpus, word
):
    cfg = make_config(llama, f"sampling.num_tasks={num_tasks}")
    cfg = replace(cfg, model=replace(cfg.model, device=device))
    with pytest.raises(SettingError, match=word):
        check_processes(cfg, num, num, num_gpus)


def test_a_single_process_draws_as_without_torchrun():
    assert own_rng(3, 4).integers(2**62) == np.random.default_rng([3, 4]).integers(2**62)
    assert own_rng(0).integers(2**62) == np.random.default_rng(0).integers(2**62)
