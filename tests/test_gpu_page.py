"""docs/gpu.md and docs/scale.md: the estimate's figures, the settings of the files."""

import re
import subprocess
from pathlib import Path

import pytest

from sesa_agent.commands.doctor import run_doctor, show_bytes
from sesa_agent.commands.memory import MemoryEstimate, estimate_memory, vllm_cache_tokens
from sesa_agent.configs.load import env_names, load_config, method_names, scale_names
from sesa_agent.configs.schema import Config

from .helpers.qwen import num_processes, qwen_shape, write_qwen

DOCS = Path(__file__).parents[1] / "docs"
PAGE = (DOCS / "gpu.md").read_text(encoding="utf-8")
SCALE_PAGE = (DOCS / "scale.md").read_text(encoding="utf-8")
GPU = 80 * 10**9
SCALES = [name for name in scale_names() if name.endswith("gpu")]
ONE_GPU = [name for name in SCALES if name.endswith("-1gpu")]
SEVERAL = sorted({*SCALES} - {*ONE_GPU})


def estimate(scale: str, num_gpus: int) -> MemoryEstimate:
    cfg, shape = load_config("sokoban", scale=scale), qwen_shape(scale.split("-")[0])
    return estimate_memory(shape, cfg, GPU, num_gpus)


def row(scale: str) -> str:
    """A line of a page's table."""
    cfg, shape = load_config("sokoban", scale=scale), qwen_shape(scale.split("-")[0])
    memory, whole = estimate(scale, num_processes(scale)), estimate(scale, 1)
    has_lora, has_server = bool(cfg.model.lora_rank), cfg.engine.name == "server"
    # An adapter is in float32, as large as its gradients.
    saved = whole.gradients if has_lora else whole.weights + whole.float32_copies
    what = f"LoRA, rank {cfg.model.lora_rank}" if has_lora else "all weights"
    who = "servers" if has_server else "each GPU"
    room = f"{vllm_cache_tokens(shape, cfg, GPU) // 1000} thousand"
    cells = (
        f"`{scale}`",
        what if scale in ONE_GPU else who,
        show_bytes(memory.libraries + memory.weights + memory.float32_copies + memory.optimizer),
        show_bytes(memory.learning),
        show_bytes(memory.generating),
        "the servers' own" if has_server else room,
        show_bytes(saved + whole.optimizer),
    )
    return f"| {' | '.join(cells)} |"


@pytest.mark.parametrize("scale", SCALES)
def test_the_table_of_memory_is_that_of_the_estimate(scale):
    assert row(scale) in (PAGE if scale in ONE_GPU else SCALE_PAGE)


@pytest.mark.parametrize("scale", [s for s in SEVERAL if s.split("b-")[0] not in ("0.5", "3")])
def test_the_table_of_more_gpus_is_that_of_the_estimate(scale):
    peaks = [estimate(scale, num_gpus).learning / 2**30 for num_gpus in (8, 16, 32, 64)]
    assert f"| `{scale}` | {' | '.join(f'{peak:.0f}' for peak in peaks)} |" in SCALE_PAGE


def test_scripts_on_the_page_are_bash():
    blocks = re.findall(r"^```(?:bash)?\n(.*?)^```", SCALE_PAGE, flags=re.MULTILINE | re.DOTALL)
    assert len(blocks) >= 6
    for block in blocks:
        subprocess.run(["bash", "-n"], input=block, text=True, check=True)


def test_what_doctor_prints_is_what_the_page_shows(tmp_path, capsys):
    model = str(write_qwen(tmp_path, "0.5b"))
    run_doctor(model, "sokoban", "", ["model.device=auto"], "0.5b-1gpu", gpu_gb=24.0)
    assert "\n".join(capsys.readouterr().out.splitlines()[-3:]) in PAGE


def value(cfg: Config, key: str) -> str:
    group, name = key.split(".")
    found = getattr(getattr(cfg, group), name)
    return f"{found:g}".replace("e-0", "e-") if isinstance(found, float) else str(found).lower()


def test_the_table_of_settings_is_that_of_the_files():
    cfg = load_config("sokoban", "ragen", scale="0.5b-1gpu")
    sesa = load_config("sokoban", "sesa", scale="0.5b-1gpu")
    rows = re.findall(r"^\| `(\w+\.\w+)` \| (\S+) \|", PAGE, flags=re.MULTILINE)
    assert len(rows) >= 8
    for key, shown in rows:
        assert shown == value(cfg, key), key
    assert f"| {sesa.sampling.proposer} | without_replacement |" in PAGE
    assert f"| {cfg.optim.num_minibatches}, {cfg.optim.num_epochs} | 2, 2; 4, 4 in" in PAGE
    assert (cfg.loss.filter_ratio, cfg.loss.entropy_coef) == (0.25, 0.001)
    sampling = cfg.sampling
    most = sampling.num_tasks * sampling.max_trajectories * cfg.env.max_turns
    assert f"= {most}" in PAGE


def test_the_numbers_of_the_bundled_models_lie_within_those_on_the_page():
    plain = [load_config(env, method) for env in env_names() for method in method_names()]
    for key, low, high in (
        ("optim.lr", 3e-5, 1e-3),
        ("optim.steps", 50, 120),
        ("engine.max_new_tokens", 24, 128),
        ("sampling.num_tasks", 4, 128),
    ):
        group, name = key.split(".")
        found = {getattr(getattr(cfg, group), name) for cfg in plain}
        assert (min(found), max(found)) == (low, high), key
    passes = {cfg.env.id: (cfg.optim.num_minibatches, cfg.optim.num_epochs) for cfg in plain}
    larger = {name for name, found in passes.items() if found == (4, 4)}
    assert larger == {"sesa/Sokoban-v0", "sesa/Countdown-v0"}
    assert set(passes.values()) == {(2, 2), (4, 4)}
