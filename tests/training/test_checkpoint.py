import json
import shutil
import subprocess
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from sesa_agent.configs.errors import SettingError
from sesa_agent.training.checkpoint import latest_checkpoint, save_checkpoint, tidy_checkpoints
from sesa_agent.training.checkpoint_files import (
    OPTIMIZER_FILE,
    PARTS,
    STATE_FILE,
    SUMS_FILE,
    has_optimizer,
    read_state,
)
from sesa_agent.training.damage import find_damage
from sesa_agent.training.optimizer_files import load_optimizer
from sesa_agent.training.progress import Progress

WEIGHTS_FILE = "model/model.safetensors"


def make_model(dtype: torch.dtype = torch.float32) -> torch.nn.Module:
    torch.manual_seed(0)
    return torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.Tanh(), torch.nn.Linear(4, 1)).to(
        dtype
    )


def make_optimizer(model: torch.nn.Module, **options) -> torch.optim.AdamW:
    weights = [p for p in model.parameters() if p.ndim == 2]
    biases = [p for p in model.parameters() if p.ndim == 1]
    groups = [{"params": weights, "weight_decay": 0.1}, {"params": biases, "weight_decay": 0.0}]
    return torch.optim.AdamW(groups, lr=3e-3, betas=(0.9, 0.95), **options)


def take_steps(model: torch.nn.Module, optimizer: torch.optim.Optimizer, num: int) -> None:
    """Steps on random inputs, so that the random state matters too."""
    dtype = next(model.parameters()).dtype
    for _ in range(num):
        loss = model(torch.randn(5, 3).to(dtype)).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()


def save(folder: Path, step: int, optimizer: torch.optim.Optimizer | None, keep: int = 2, text="w"):
    def save_model(path: Path) -> None:
        (path / "config.json").write_text(json.dumps({"text": text}))
        (path / "tokenizer_config.json").write_text("{}")
        save_file({"weight": torch.arange(12.0).reshape(3, 4)}, path / "model.safetensors")

    return save_checkpoint(
        folder,
        save_model=save_model,
        optimizer=optimizer,
        state=vars(Progress(step=step, num_policy_calls=10 * step)),
        keep=keep,
    )


@pytest.fixture
def optimizer():
    model = make_model()
    optimizer = make_optimizer(model)
    take_steps(model, optimizer, 1)
    return optimizer


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("options", [{}, {"amsgrad": True}])
def test_six_steps_are_three_a_checkpoint_and_three_more(tmp_path, dtype, options):
    whole = make_model(dtype)
    whole_optimizer = make_optimizer(whole, **options)
    take_steps(whole, whole_optimizer, 6)

    first = make_model(dtype)
    first_optimizer = make_optimizer(first, **options)
    take_steps(first, first_optimizer, 3)
    checkpoint = save(tmp_path, 3, first_optimizer)

    second = make_model(dtype)
    second.load_state_dict(first.state_dict())
    second_optimizer = make_optimizer(second, **options)
    torch.manual_seed(99)  # a new process would stand anywhere
    load_optimizer(checkpoint, second_optimizer)
    take_steps(second, second_optimizer, 3)

    for expected, actual in zip(whole.parameters(), second.parameters(), strict=True):
        assert torch.equal(expected, actual)
    expected, actual = whole_optimizer.state_dict(), second_optimizer.state_dict()
    assert actual["param_groups"] == expected["param_groups"]
    for index, values in expected["state"].items():
        for name, value in values.items():
            assert torch.equal(actual["state"][index][name], value), name
            assert actual["state"][index][name].dtype == value.dtype


def test_an_optimizer_without_a_step_and_plain_numbers_survive(tmp_path):
    optimizer = make_optimizer(make_model())
    load_optimizer(save(tmp_path, 0, optimizer), optimizer)
    assert optimizer.state_dict()["state"] == {}

    parameter = torch.nn.Parameter(torch.ones(2))
    averaged = torch.optim.ASGD([parameter])
    parameter.grad = torch.ones(2)
    averaged.step()
    averaged.state[parameter]["note"] = 0.1  # a state that is no tensor
    restored = torch.optim.ASGD([parameter])
    load_optimizer(save(tmp_path, 1, averaged), restored)
    assert restored.state[parameter]["note"] == 0.1
    assert torch.equal(restored.state[parameter]["ax"], averaged.state[parameter]["ax"])


def test_another_model_is_refused(tmp_path, optimizer):
    checkpoint = save(tmp_path, 1, optimizer)
    with pytest.raises(ValueError, match="does not fit the model"):
        load_optimizer(checkpoint, torch.optim.AdamW(make_model().parameters()))


def test_the_folder_holds_model_state_and_no_pickle(tmp_path, optimizer):
    checkpoint = save(tmp_path, 10, optimizer)
    assert checkpoint == tmp_path / "checkpoints" / "step-000010"
    names = {str(p.relative_to(checkpoint)) for p in checkpoint.rglob("*") if p.is_file()}
    model = {"model/config.json", "model/tokenizer_config.json", WEIGHTS_FILE}
    assert names == {*model, OPTIMIZER_FILE, STATE_FILE, SUMS_FILE}
    state = read_state(checkpoint)
    assert (state["step"], state["num_policy_calls"]) == (10, 100)
    assert Progress.from_json(state).num_policy_calls == 100


def test_only_the_newest_are_kept(tmp_path, optimizer):
    for step in (1, 2, 10):
        save(tmp_path, step, optimizer, keep=2)
    assert sorted(p.name for p in (tmp_path / "checkpoints").iterdir()) == [
        "step-000002",
        "step-000010",
    ]
    assert latest_checkpoint(tmp_path) == tmp_path / "checkpoints" / "step-000010"


def test_only_the_newest_keeps_the_optimizer(tmp_path, optimizer, caplog):
    for step in (1, 2, 3):
        save(tmp_path, step, optimizer, keep=3)
    found = [tmp_path / "checkpoints" / f"step-00000{step}" for step in (1, 2, 3)]
    assert [(path / OPTIMIZER_FILE).exists() for path in found] == [False, False, True]
    assert [has_optimizer(path) for path in found] == [False, False, True]
    assert [find_damage(path, PARTS) for path in found] == ["", "", ""]
    assert [len(check_with_sha256sum(path)) for path in found] == [4, 4, 5]
    assert latest_checkpoint(tmp_path, repair=True) == found[2]
    assert caplog.messages == []


def test_a_checkpoint_without_the_optimizer_is_whole_and_says_so(tmp_path, optimizer, caplog):
    checkpoint = save(tmp_path, 1, None)
    assert not (checkpoint / OPTIMIZER_FILE).exists()
    assert latest_checkpoint(tmp_path) == checkpoint
    assert caplog.messages == []  # whoever only plays does not need it
    assert latest_checkpoint(tmp_path, repair=True) == checkpoint
    (message,) = caplog.messages
    assert "moments start from zero" in message and "\n" not in message
    save(tmp_path, 2, optimizer)
    assert find_damage(checkpoint, PARTS) == ""


def test_a_kill_before_the_file_is_deleted_leaves_it_unlisted(tmp_path, optimizer):
    """The checksums are changed first; the file that is left is swept up with the next save."""
    older = save(tmp_path, 1, optimizer, keep=3)
    content = (older / OPTIMIZER_FILE).read_bytes()
    save(tmp_path, 2, optimizer, keep=3)
    (older / OPTIMIZER_FILE).write_bytes(content)
    assert find_damage(older, PARTS) == "" and not has_optimizer(older)
    save(tmp_path, 3, optimizer, keep=3)
    assert not (older / OPTIMIZER_FILE).exists()


def test_a_wrong_name_among_the_checksums_is_damage(tmp_path, optimizer):
    """With a flipped bit in the optimiser's name it would count as left out."""
    sums = save(tmp_path, 1, optimizer) / SUMS_FILE
    sums.write_text(sums.read_text().replace(OPTIMIZER_FILE, "optimizer.sagetensors"))
    assert find_damage(sums.parent, PARTS) == "SHA256SUMS has a wrong line"


def test_a_failure_while_writing_leaves_the_old_checkpoint_alone(tmp_path, optimizer):
    """Half a checkpoint stayed until the next one: on a full disk, what filled it."""

    def fail(path: Path) -> None:
        (path / "half").write_text("...")
        raise KeyboardInterrupt

    old = save(tmp_path, 1, optimizer, keep=1)
    state = vars(Progress(step=2))
    with pytest.raises(KeyboardInterrupt):
        save_checkpoint(tmp_path, save_model=fail, optimizer=optimizer, state=state, keep=1)
    assert list(old.parent.iterdir()) == [old]


def test_what_a_killed_run_left_is_swept_up(tmp_path, optimizer):
    (tmp_path / "checkpoints" / ".step-000002.tmp" / "model").mkdir(parents=True)
    new = save(tmp_path, 2, optimizer, keep=1)
    assert list(new.parent.iterdir()) == [new]


def test_incomplete_and_foreign_folders_are_ignored(tmp_path, optimizer):
    assert latest_checkpoint(tmp_path) is None
    whole = save(tmp_path, 1, optimizer)
    (whole.parent / "step-000009" / "model").mkdir(parents=True)
    (whole.parent / "step-x").mkdir()
    assert latest_checkpoint(tmp_path) == whole


def test_a_saved_step_is_left_as_it_is(tmp_path, optimizer):
    save(tmp_path, 1, optimizer, text="first")
    checkpoint = save(tmp_path, 1, optimizer, text="second")
    assert json.loads((checkpoint / "model" / "config.json").read_text()) == {"text": "first"}


# ---- damage ----


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def flip_a_bit(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[-5] ^= 1
    path.write_bytes(content)


DAMAGES = {
    "missing": Path.unlink,
    "empty": lambda path: path.write_bytes(b""),
    "cut off": cut,
    "a flipped bit": flip_a_bit,
}
WRONG_STATES = {
    "empty": {},
    "of another step": vars(Progress(step=1)),
    "without counters": {"step": 2},
    "no object": None,
    "a text": vars(Progress(step=2)) | {"num_policy_calls": "many"},
    "a negative number": vars(Progress(step=2)) | {"num_env_steps": -1},
    "a wrong history": vars(Progress(step=2)) | {"history": [[1]]},
    "an unknown field": vars(Progress(step=2)) | {"nothing": 0},
}


def content_of(folder: Path) -> dict[str, bytes]:
    files = [path for path in folder.rglob("*") if path.is_file()]
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}


def check_the_older_one_is_used(folder: Path, caplog, optimizer, name="") -> None:
    """Of checkpoints 1 and 2 the second is damaged: it is told, put aside, and written again."""
    before = content_of(folder)
    older = folder / "checkpoints" / "step-000001"
    # Whoever only plays does not need the optimiser.
    assert latest_checkpoint(folder) == (newest(folder) if name == OPTIMIZER_FILE else older)
    assert content_of(folder) == before  # reading changes nothing
    caplog.clear()
    assert latest_checkpoint(folder, repair=True) == older
    message, moments = caplog.messages
    assert "step-000002" in message and "step-000002.damaged" in message and "\n" not in message
    assert "step-000001" in moments and "moments start from zero" in moments
    assert len(content_of(folder)) == len(before)
    assert find_damage(save(folder, 2, optimizer), PARTS) == ""
    caplog.clear()
    assert latest_checkpoint(folder, repair=True) == newest(folder)
    assert caplog.messages == []


def newest(folder: Path) -> Path:
    return folder / "checkpoints" / "step-000002"


@pytest.fixture
def saved(tmp_path, optimizer):
    """A run folder with the checkpoints of steps 1 and 2."""
    for step in (1, 2):
        save(tmp_path, step, optimizer)
    return tmp_path


@pytest.mark.parametrize("damage", DAMAGES)
@pytest.mark.parametrize("name", [STATE_FILE, OPTIMIZER_FILE, WEIGHTS_FILE, "model/config.json"])
def test_a_damaged_file_costs_one_checkpoint(saved, optimizer, caplog, name, damage):
    """Such files were loaded, or ended every resume with a traceback until they were deleted."""
    DAMAGES[damage](newest(saved) / name)
    check_the_older_one_is_used(saved, caplog, optimizer, name)


@pytest.mark.parametrize("damage", ["empty", "cut off", "a flipped bit"])
def test_damaged_checksums_cost_one_checkpoint(saved, optimizer, caplog, damage):
    DAMAGES[damage](newest(saved) / SUMS_FILE)
    check_the_older_one_is_used(saved, caplog, optimizer)


@pytest.mark.parametrize("has_sums", [True, False])
@pytest.mark.parametrize("name", WRONG_STATES)
def test_a_wrong_state_costs_one_checkpoint(saved, optimizer, caplog, name, has_sums):
    """With `{}` as its state a run began at step 0 again, with trained weights."""
    (newest(saved) / STATE_FILE).write_text(json.dumps(WRONG_STATES[name]))
    if not has_sums:
        (newest(saved) / SUMS_FILE).unlink()
    check_the_older_one_is_used(saved, caplog, optimizer)


@pytest.mark.parametrize("damage", ["missing", "empty", "cut off"])
@pytest.mark.parametrize("name", [STATE_FILE, OPTIMIZER_FILE, WEIGHTS_FILE])
def test_without_checksums_what_cannot_be_read_is_damaged(saved, optimizer, caplog, name, damage):
    (newest(saved) / SUMS_FILE).unlink()
    DAMAGES[damage](newest(saved) / name)
    check_the_older_one_is_used(saved, caplog, optimizer, name)


def test_without_checksums_a_missing_config_is_damage(saved, optimizer, caplog):
    (newest(saved) / SUMS_FILE).unlink()
    (newest(saved) / "model" / "config.json").unlink()
    check_the_older_one_is_used(saved, caplog, optimizer)


@pytest.mark.parametrize("name", [OPTIMIZER_FILE, WEIGHTS_FILE])
def test_without_checksums_numbers_that_are_not_finite_are_damage(saved, optimizer, caplog, name):
    """A run that diverged used to save NaN as its newest checkpoint."""
    path = newest(saved) / name
    metadata = {"param_groups": "[]", "scalars": "{}"}
    tensors = {
        key: value / 0 if value.is_floating_point() else value
        for key, value in load_file(path).items()
    }
    save_file(tensors, path, metadata=metadata)
    (newest(saved) / SUMS_FILE).unlink()
    check_the_older_one_is_used(saved, caplog, optimizer, name)


def test_a_checkpoint_of_an_earlier_version_is_whole_without_checksums(saved):
    (newest(saved) / SUMS_FILE).unlink()
    early = {"step": 2, "num_policy_calls": 5, "num_response_tokens": 9, "num_env_steps": 7}
    (newest(saved) / STATE_FILE).write_text(json.dumps(early))
    assert latest_checkpoint(saved, repair=True) == newest(saved)


def test_an_unfinished_folder_is_in_nobodys_way(saved, optimizer, caplog):
    """Its step, reached again, could not be saved: the rename failed on the folder."""
    shutil.rmtree(newest(saved))
    (newest(saved) / "model").mkdir(parents=True)
    check_the_older_one_is_used(saved, caplog, optimizer)
    shutil.rmtree(newest(saved))
    (newest(saved) / "model").mkdir(parents=True)
    assert find_damage(save(saved, 2, optimizer), PARTS) == ""  # also if nobody looked before
    names = sorted(path.name for path in (saved / "checkpoints").iterdir())
    assert names[-2:] == ["step-000002.damaged", "step-000002.damaged-2"]


def test_if_none_is_whole_the_run_says_so_and_nothing_changes(saved):
    for checkpoint in (saved / "checkpoints").iterdir():
        cut(checkpoint / STATE_FILE)
    before = content_of(saved)
    for repair in (False, True):
        with pytest.raises(SettingError, match="no whole checkpoint: step-000002 is damaged"):
            latest_checkpoint(saved, repair)
    assert content_of(saved) == before


def test_the_checksums_are_those_of_sha256sum(saved):
    assert len(check_with_sha256sum(newest(saved))) == 5


def check_with_sha256sum(checkpoint: Path) -> list[str]:
    """The lines of the program, one per file, each of which must be right."""
    command = ["sha256sum", "--check", "--strict", SUMS_FILE]
    if not shutil.which(command[0]):
        pytest.skip("sha256sum is not installed")
    done = subprocess.run(command, cwd=checkpoint, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert all(line.endswith(": OK") for line in lines)
    return lines


@pytest.mark.parametrize("shape", [(1,), (3, 4), (4, 3, 1)])
def test_a_moment_of_another_shape_is_refused(saved, shape):
    """Torch's fused AdamW read past the end of such a tensor, and the process died of it."""
    path = newest(saved) / OPTIMIZER_FILE
    content = load_file(path) | {"0.exp_avg": torch.ones(shape)}
    optimizer = make_optimizer(make_model())
    groups = json.dumps(optimizer.state_dict()["param_groups"])
    save_file(content, path, metadata={"param_groups": groups, "scalars": "{}"})
    with pytest.raises(SettingError, match="0.exp_avg has shape"):
        load_optimizer(newest(saved), optimizer)


def test_of_a_run_that_has_ended_the_newest_weights_may_stay_or_nothing(tmp_path, optimizer):
    for step in (1, 2):
        save(tmp_path, step, optimizer)
    tidy_checkpoints(tmp_path, keep_weights=True)
    newest = latest_checkpoint(tmp_path)
    assert newest is not None and not has_optimizer(newest)
    assert [path.name for path in (tmp_path / "checkpoints").iterdir()] == ["step-000002"]
    assert (newest / WEIGHTS_FILE).is_file() and not (newest / OPTIMIZER_FILE).exists()
    tidy_checkpoints(tmp_path, keep_weights=False)
    assert list((tmp_path / "checkpoints").iterdir()) == []
    tidy_checkpoints(tmp_path / "empty", keep_weights=True)  # a base has none
