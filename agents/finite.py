"""Whether tensors hold finite numbers alone."""

import math
from collections.abc import Iterable

from torch import Tensor
from torch.nn.utils import get_total_norm

from .sharding import own_part


def all_finite(tensors: Iterable[Tensor]) -> bool:
    """Return whether no tensor holds NaN or infinity, in one pass and with one wait for the GPU.

    Args:
        tensors: of any shape; those that hold no floating point numbers are left out, and what
            other processes hold of them.
    """
    parts = [own_part(tensor.detach()) for tensor in tensors]
    floats = [part for part in parts if part.is_floating_point() and part.numel()]
    return math.isfinite(float(get_total_norm(floats, math.inf)))
