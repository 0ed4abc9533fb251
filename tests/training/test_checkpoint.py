import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
import torch

from sesa_agent.training.checkpoint import (
    latest_checkpoint,
    load_optimizer,
    read_state,
    save_checkpoint,
)


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


def save(folder: Path, step: int, optimizer: torch.optim.Optimizer, keep: int = 2, text="w"):
    def save_model(path: Path) -> None:
        (path / "weights").write_text(text)

    return save_checkpoint(
        folder,
        save_model=save_model,
        optimizer=optimizer,
        state={"step": step, "num_policy_calls": 10 * step},
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
    with pytest.raises(ValueError, match="parameter group"):
        load_optimizer(checkpoint, torch.optim.AdamW(make_model().parameters()))


def test_the_folder_holds_model_state_and_no_pickle(tmp_path, optimizer):
    checkpoint = save(tmp_path, 10, optimizer)
    assert checkpoint == tmp_path / "checkpoints" / "step-000010"
    names = {str(p.relative_to(checkpoint)) for p in checkpoint.rglob("*") if p.is_file()}
    assert names == {"model/weights", "optimizer.safetensors", "state.json"}
    assert read_state(checkpoint) == {"step": 10, "num_policy_calls": 100}


def test_only_the_newest_are_kept(tmp_path, optimizer):
    for step in (1, 2, 10):
        save(tmp_path, step, optimizer, keep=2)
    assert sorted(p.name for p in (tmp_path / "checkpoints").iterdir()) == [
        "step-000002",
        "step-000010",
    ]
    assert latest_checkpoint(tmp_path) == tmp_path / "checkpoints" / "step-000010"


def test_a_failure_while_writing_leaves_the_old_checkpoint_alone(tmp_path, optimizer):
    """Half a checkpoint stayed until the next one: on a full disk, what filled it."""

    def fail(path: Path) -> None:
        (path / "half").write_text("...")
        raise KeyboardInterrupt

    old = save(tmp_path, 1, optimizer, keep=1)
    with pytest.raises(KeyboardInterrupt):
        save_checkpoint(tmp_path, save_model=fail, optimizer=optimizer, state={"step": 2}, keep=1)
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
    assert (checkpoint / "model" / "weights").read_text() == "first"


def test_a_kill_at_any_moment_leaves_a_whole_checkpoint(tmp_path):
    """Processes that save without pause are killed, each 7 ms later in its life than the last."""
    script = textwrap.dedent(
        """
        import itertools, os, pathlib, signal, sys, time, torch
        from sesa_agent.training.checkpoint import (
            latest_checkpoint, load_optimizer, read_state, save_checkpoint
        )
        torch.set_num_threads(1)  # a forked child has no pool of threads to wait for
        folder = pathlib.Path(sys.argv[1])
        parameter = torch.nn.Parameter(torch.ones(20_000))
        parameter.grad = torch.ones(20_000)
        optimizer = torch.optim.AdamW([parameter])

        def save(step):
            optimizer.step()
            save_checkpoint(folder, save_model=lambda path: (path / "w").write_text("w"),
                            optimizer=optimizer, state={"step": step}, keep=1)

        def names():
            entries = (folder / "checkpoints").iterdir()
            return [entry.name for entry in entries if entry.name.startswith("step-")]

        save(0)
        for attempt in range(8):
            step = read_state(latest_checkpoint(folder))["step"]
            print(step)
            child = os.fork()
            if child == 0:
                for later in itertools.count(step + 1):
                    save(later)
            while max(names(), default="") <= f"step-{step:06d}":  # until it has saved once
                time.sleep(0.002)
            time.sleep(0.007 * attempt)
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)
            load_optimizer(latest_checkpoint(folder), optimizer)
        """
    )
    command = [sys.executable, "-c", script, str(tmp_path)]
    result = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert result.returncode == 0, result.stderr
    steps = [int(line) for line in result.stdout.split()]
    assert len(steps) == 8
    assert steps == sorted(steps)
    assert steps[-1] > 0
