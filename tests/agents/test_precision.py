"""The floating-point type of `model.dtype=auto`."""

import pytest

from sesa_agent.agents import precision
from sesa_agent.agents.precision import fastest_dtype, product_speed
from sesa_agent.configs.load import load_config
from sesa_agent.training.setup import resolve_auto


@pytest.mark.parametrize(
    ("float32", "bfloat16", "fastest"),
    [(70e9, 8e9, "float32"), (70e9, 80e9, "float32"), (70e9, 140e9, "bfloat16")],
)
def test_bfloat16_must_be_clearly_faster(monkeypatch, float32, bfloat16, fastest):
    speeds = {"float32": float32, "bfloat16": bfloat16}
    monkeypatch.setattr(precision, "product_speed", speeds.__getitem__)
    assert fastest_dtype("cpu") == fastest
    cfg = resolve_auto(load_config("sokoban", "sesa", ["model.dtype=auto", "model.device=cpu"]))
    assert cfg.model.dtype == fastest


@pytest.mark.parametrize("is_fast", [True, False])
def test_on_a_gpu_its_kind_decides(monkeypatch, is_fast):
    monkeypatch.setattr(precision.torch.cuda, "is_bf16_supported", lambda **_: is_fast)
    assert fastest_dtype("cuda") == ("bfloat16" if is_fast else "float32")


def test_the_speed_of_a_product_is_that_of_a_processor():
    for dtype in ("float32", "bfloat16"):
        assert 1e7 < product_speed(dtype) < 1e14
