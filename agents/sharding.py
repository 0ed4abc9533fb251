"""A model whose weights, gradients and optimiser state are split over processes: torch's FSDP2.

Every decoder layer is a group of weights, and what is left (embeddings, last norm, head) is one
more. A group is gathered right before it computes and dropped right after, in forward and backward
passes; gradients are summed over all processes, in float32. So all processes must pass through the
model equally often. Along the mesh's last dimension each process holds a part of one copy of the
weights; along the first one the processes hold copies.
"""

from collections.abc import Callable
from types import MethodType
from typing import Any

import torch
from torch import Tensor
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.fsdp import (
    FSDPModule,
    MixedPrecisionPolicy,
    fully_shard,
    register_fsdp_forward_method,
)
from torch.distributed.tensor import DTensor

from ..configs.errors import SettingError

Tensors = tuple[Tensor, ...]


def split_weights(model: Any, mesh: DeviceMesh, dtype: torch.dtype | None = None) -> None:
    """Split a model's weights over the processes of a mesh, in place.

    Args:
        model: a causal language model of transformers, the same in every process.
        mesh: of the processes, with the device of the parts.
        dtype: that weights are gathered in and computed with; their own by default.

    Raises:
        SettingError: in one line, if its decoder layers cannot be told.
    """
    layers = decoder_layers(model)
    # Inputs are left as they are: the masks of rows with shared prefixes are among them.
    policy = MixedPrecisionPolicy(dtype, reduce_dtype=torch.float32, cast_forward_inputs=False)
    for module in (*layers, model):
        fully_shard(module, mesh=mesh, mp_policy=policy)
    for group in _groups(model):
        group.set_gradient_divide_factor(1.0)  # a sum, not a mean
        group.set_force_sum_reduction_for_comms(True)
    model.with_root = MethodType(_call, model)
    register_fsdp_forward_method(model, "with_root")


def _call(model: Any, work: Callable[[], Tensors]) -> Tensors:
    # Copies, since torch gathers the weights for the backward pass when it comes to these tensors,
    # which it would miss if they were views and changed in place.
    return tuple(tensor.clone() for tensor in work())


def with_root(model: Any, work: Callable[[], Tensors]) -> Tensors:
    """Do work that calls parts of a model, with the weights at hand that belong to no layer.

    Args:
        model: of which `work` calls parts, such as its decoder and its head, or `forward`.
        work: returns tensors; gradients flow through them.
    """
    if not is_split(model):
        return work()
    tensors = model.with_root(work)
    if not torch.is_grad_enabled():
        model.reshard()  # torch keeps these weights for a backward pass
    return tensors


def decoder_layers(model: Any) -> list[torch.nn.Module]:
    """List a model's decoder layers.

    Raises:
        SettingError: in one line, if transformers does not mark them.
    """
    layers = marked_layers(model)
    if not layers:
        raise SettingError(
            "torchrun splits the weights by decoder layers, which transformers does not mark in "
            f"models of type {model.config.model_type}. Train it in one process."
        )
    return layers


def marked_layers(model: Any) -> list[torch.nn.Module]:
    """List the decoder layers that transformers marks in a model."""
    from transformers.modeling_layers import GradientCheckpointingLayer

    return [module for module in model.modules() if isinstance(module, GradientCheckpointingLayer)]


def is_split(model: Any) -> bool:
    """Return whether a model's weights are split over processes."""
    return isinstance(model, FSDPModule)


def own_part(tensor: Tensor) -> Tensor:
    """Return what this process holds of a tensor: all of it, unless it is split."""
    return tensor.to_local() if isinstance(tensor, DTensor) else tensor


def whole(tensor: Tensor) -> Tensor:
    """Return all of a tensor. All processes must ask for a split one, at the same time."""
    return tensor.full_tensor() if isinstance(tensor, DTensor) else tensor


def round_to(tensor: Tensor, dtype: torch.dtype | None) -> Tensor:
    """Return a tensor in another dtype, unless there is none or it holds no real numbers."""
    return tensor.to(dtype) if dtype and tensor.is_floating_point() else tensor


def gather_weights(model: Any) -> None:
    """Gather a split model's weights in every process until `release_weights`.

    Each process can then generate on its own, as often as it likes.
    """
    if is_split(model):
        model.set_reshard_after_forward(False)
        for group in _groups(model):
            group.unshard()


def release_weights(model: Any) -> None:
    """Take back `gather_weights`."""
    if is_split(model):
        for group in _groups(model):
            # The root's weights are kept between the passes: the backward pass begins with them.
            group.set_reshard_after_forward(group is not model, recurse=False)
            group.reshard()


def _groups(model: Any) -> list[FSDPModule]:
    return [module for module in model.modules() if isinstance(module, FSDPModule)]
