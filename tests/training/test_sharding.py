"""Processes that split the weights between them come to what one process comes to."""

import json
from dataclasses import replace

import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM

from sesa_agent.agents.engines.hf import HFEngine
from sesa_agent.agents.policy import Policy
from sesa_agent.agents.sharded_files import shapes_in
from sesa_agent.agents.sharding import decoder_layers
from sesa_agent.configs.errors import SettingError
from sesa_agent.configs.load import config_to_dict
from sesa_agent.training.checkpoint import latest_checkpoint
from sesa_agent.training.checkpoint_files import PARTS
from sesa_agent.training.damage import find_damage
from sesa_agent.training.distributed import check_processes
from sesa_agent.training.setup import build_policy

from ..helpers.runs import REPOSITORY, make_config, run_python
from ..helpers.several_processes import (
    TASKS,
    UPDATES,
    check_learned,
    grow,
    read_case,
    update,
)
from ..helpers.sharded import PARAMS, load_and_go_on, max_logits, save_and_go_on
from ..helpers.tiny_models import save_llama

pytestmark = pytest.mark.usefixtures("one_thread")

ONE_ROW = "optim.max_batch_tokens=1"
"""Rounding is then the same however rows are dealt."""
CASES = UPDATES | {
    "no rows, and one by one": ("sesa", "optim.num_minibatches=100", ONE_ROW),
    "checkpointing": ("sesa", "model.gradient_checkpointing=true"),
    "chunks": ("sesa", "optim.num_minibatches=1"),
    "tied": ("sesa", "loss.kl_coef=0.01"),
    "tied chunks, checkpointing": ("sesa", "model.gradient_checkpointing=true"),
    "reference in bfloat16": ("sesa", "model.dtype=bfloat16", "loss.kl_coef=0.01", ONE_ROW),
    "adapter in bfloat16": ("sesa", "model.dtype=bfloat16", "model.lora_rank=2", ONE_ROW),
}
FEW = ["tree", "no rows, and one by one", "lora", "float32 copies"]
SAVED = ["tree", "float32 copies", "lora"]
SAVED_BY_ONE = {"by one": UPDATES["tree"], "by one, in bfloat16": UPDATES["float32 copies"]}
NAMES = {(2, 0): list(CASES), (2, 1): FEW, (4, 0): FEW, (4, 2): FEW}
"""Cases by the number of processes and `optim.shard`."""


@pytest.fixture(scope="module")
def folder(llama, tmp_path_factory):
    """What two and four processes wrote about the cases."""
    folder = tmp_path_factory.mktemp("sharded")
    tied = save_llama(folder / "tied", is_tied=True)
    for name, (method, *words) in (CASES | SAVED_BY_ONE).items():
        cfg = make_config(llama, *TASKS, *words, method=method)
        trees = [tree.to_json() for tree in grow(cfg)]  # the tied model hardly wins
        if "tied" in name:
            cfg = replace(cfg, model=replace(cfg.model, path=str(tied)))
        case = {"config": config_to_dict(cfg), "trees": trees}
        (folder / f"case-{name}.json").write_text(json.dumps(case))
    asked = {"two": list(CASES), "copies": FEW, "four": FEW}
    asked |= {"saved": SAVED, "loaded": [*SAVED, *SAVED_BY_ONE], "samples": ["tree", "lora"]}
    (folder / "asked.json").write_text(json.dumps(asked))
    for name in SAVED_BY_ONE:
        save_and_go_on(folder, name)
    for stage in ("two", "four"):
        done = run_python("-m", "tests.helpers.sharded", folder, stage, cwd=REPOSITORY)
        assert done.returncode == 0, done.stderr
    return folder


@pytest.fixture(scope="module")
def alone(folder):
    """What one process comes to, by case."""
    found = {}
    for name in CASES:
        cfg, trees = read_case(folder / f"case-{name}.json")
        found[name] = update(cfg, trees, max_logits(name))
        check_learned(cfg, found[name][0])
    return found


@pytest.mark.slow
@pytest.mark.parametrize(
    ("num", "shard", "name"), [(*key, name) for key, names in NAMES.items() for name in names]
)
def test_the_update_is_that_of_one_process(folder, alone, num, shard, name):
    weights, metrics = alone[name]
    stems = [folder / f"{name}-{num}-{shard}-{rank}" for rank in range(num)]
    logged = [json.loads(stem.with_suffix(".json").read_text()) for stem in stems]
    assert all(lines == logged[0] for lines in logged)
    for line, expected in zip(logged[0], metrics, strict=True):
        # Rows that are grouped otherwise are rounded otherwise, at -10 nats by 1e-6.
        assert line == pytest.approx(expected, rel=1e-4, abs=2e-6)
    assert metrics[0]["train/tokens"] > 0
    for stem in stems:
        found = load_file(stem.with_suffix(".safetensors"))
        assert found.keys() == weights.keys()
        for key, weight in weights.items():
            torch.testing.assert_close(found[key], weight.float(), atol=1e-6, rtol=0)


@pytest.mark.slow
@pytest.mark.parametrize("rank", [0, 1])
def test_each_of_two_processes_holds_half_of_the_numbers(folder, rank):
    """A whole copy of weights and moments used to be in each."""
    for name in ("tree", "float32 copies"):
        assert json.loads((folder / f"share-{name}-{rank}.json").read_text()) <= 1 / 2 + 0.01


@pytest.mark.slow
@pytest.mark.parametrize("name", [*SAVED, *SAVED_BY_ONE])
@pytest.mark.parametrize("num", [2, 4])
def test_any_number_of_processes_reads_what_two_or_one_have_saved(folder, name, num):
    saved, after = (load_file(folder / f"{kind}-{name}.safetensors") for kind in ("saved", "after"))
    loaded = load_file(folder / f"loaded-{name}-{num}.safetensors")
    went_on = load_file(folder / f"went-on-{name}-{num}.safetensors")
    assert loaded.keys() == saved.keys()
    assert all(torch.equal(loaded[key].to(saved[key].dtype), saved[key]) for key in saved)
    is_same_run = num == 2 and name in SAVED
    for key, weight in after.items():
        atol = 0 if is_same_run else 1e-6 if weight.dtype == torch.float32 else 1e-3
        found = went_on[key].to(weight.dtype)
        torch.testing.assert_close(found, weight, atol=atol, rtol=0)


@pytest.mark.slow
@pytest.mark.parametrize("name", SAVED)
def test_one_process_reads_what_two_have_saved(folder, name):
    saved, after = (load_file(folder / f"{kind}-{name}.safetensors") for kind in ("saved", "after"))
    loaded, went_on = load_and_go_on(folder, name)
    assert loaded.keys() == saved.keys()
    for key, weight in loaded.items():
        assert torch.equal(weight, saved[key].to(weight.dtype))
    for key, weight in went_on.items():
        atol = 1e-6 if weight.dtype == torch.float32 else 1e-3
        torch.testing.assert_close(weight, after[key].to(weight.dtype), atol=atol, rtol=0)


@pytest.mark.slow
@pytest.mark.parametrize("name", SAVED)
def test_files_are_whole_and_none_is_a_pickle(folder, name):
    (checkpoint,) = (folder / f"run-{name}" / "checkpoints").iterdir()
    assert find_damage(checkpoint, PARTS) == ""
    files = [path for path in checkpoint.rglob("*") if path.is_file()]
    parts = [path for path in files if path.name.startswith("shard-")]
    assert len(parts) == (2 if name == "lora" else 4)  # an adapter is small and written whole
    for path in files:
        if path.suffix == ".safetensors":
            load_file(path)
        else:
            path.read_text(encoding="utf-8")
            assert path.suffix in (".json", ".jinja", "")


@pytest.mark.slow
@pytest.mark.parametrize("name", ["tree", "float32 copies"])
def test_the_export_is_an_ordinary_model(folder, name):
    saved = load_file(folder / f"saved-{name}.safetensors")
    model = AutoModelForCausalLM.from_pretrained(folder / f"export-{name}", dtype="auto")
    assert model.dtype == (torch.float32 if name == "tree" else torch.bfloat16)
    for key, weight in model.named_parameters():
        assert torch.equal(weight, saved[key].to(weight.dtype))


@pytest.mark.slow
@pytest.mark.parametrize("name", ["tree", "lora"])
def test_each_process_generates_by_itself(folder, name):
    """With other numbers of prompts they would wait for each other's layers for ever."""
    cfg, _ = read_case(folder / f"case-{name}.json")
    policy = build_policy(cfg)
    engine = HFEngine(policy)
    engine.load_weights(policy)
    for rank in range(2):
        expected = [each.token_ids for each in engine.generate([[5, 6, 7]] * (1 + rank), PARAMS)]
        found = json.loads((folder / f"samples-{name}-{rank}.json").read_text())
        assert [tuple(ids) for ids in found] == expected


@pytest.mark.slow
@pytest.mark.parametrize(
    ("damage", "word"),
    [
        (lambda path: path.unlink(), "No such file"),
        (lambda path: path.write_bytes(path.read_bytes()[:-9]), "does not match its checksum"),
    ],
    ids=["missing", "cut off"],
)
@pytest.mark.parametrize("part", ["model", "optimizer"])
def test_a_damaged_part_is_named(folder, part, damage, word):
    (checkpoint,) = (folder / "run-tree" / "checkpoints").iterdir()
    (path,) = (checkpoint / part).glob("shard-00002-*")
    content = path.read_bytes()
    damage(path)
    try:
        assert word in find_damage(checkpoint, PARTS) and path.name in find_damage(
            checkpoint, PARTS
        )
        with pytest.raises(SettingError, match="no whole checkpoint.*shard-00002"):
            latest_checkpoint(folder / "run-tree", repair=True)
        if part == "model":
            with pytest.raises(SettingError, match="could not be loaded: model"):
                Policy.load(str(checkpoint / "model"), device="cpu")
    finally:
        path.write_bytes(content)


@pytest.mark.slow
def test_parts_without_checksums_are_damage(folder):
    """Nothing else would tell that a file is missing."""
    (checkpoint,) = (folder / "run-tree" / "checkpoints").iterdir()
    sums = (checkpoint / "SHA256SUMS").read_text()
    (checkpoint / "SHA256SUMS").unlink()
    assert find_damage(checkpoint, PARTS).startswith("SHA256SUMS: ")
    (checkpoint / "SHA256SUMS").write_text(sums)


@pytest.mark.slow
def test_a_missing_first_part_is_noticed_without_checksums(folder):
    """The last one ends every tensor: without the first, the shapes are right."""
    model = next((folder / "run-tree" / "checkpoints").iterdir()) / "model"
    (path,) = model.glob("shard-00001-*")
    content = path.read_bytes()
    path.unlink()
    with pytest.raises(ValueError, match="model lacks a file with a part of"):
        shapes_in(model)
    path.write_bytes(content)


@pytest.mark.parametrize("shard", [3, 16])
def test_a_shard_that_does_not_divide_the_processes_is_refused(llama, shard):
    cfg = make_config(llama, "sampling.num_tasks=8")
    cfg = replace(cfg, optim=replace(cfg.optim, shard=shard))
    with pytest.raises(SettingError, match=f"optim.shard must be 0 or a divisor of 8, .* {shard}"):
        check_processes(cfg, 8, 8, 0)


def test_a_model_without_marked_layers_is_refused():
    model = torch.nn.Linear(2, 2)
    model.config = type("Config", (), {"model_type": "odd"})()  # pyright: ignore
    with pytest.raises(SettingError, match="does not mark in models of type odd"):
        decoder_layers(model)


@pytest.mark.slow
def test_handing_over_weights_gathers_one_at_a_time(folder):
    """Of a model of 284 MB; all of them at once take as much again."""
    done = run_python("-m", "tests.helpers.sharded", folder, "hand over", cwd=REPOSITORY)
    assert done.returncode == 0, done.stderr
    assert json.loads((folder / "memory.json").read_text()) <= 40 * 2**20


@pytest.mark.slow
def test_kills_while_saving_leave_a_whole_checkpoint(folder):
    """Both processes are killed while they save, 20 times, each 7 ms later than the last."""
    done = run_python("-m", "tests.helpers.sharded", folder, "kills", cwd=REPOSITORY)
    assert done.returncode == 0, done.stderr
    steps = json.loads((folder / "kills.json").read_text())
    assert len(steps) == 21 and steps == sorted(set(steps))
