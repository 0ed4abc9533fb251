"""AdamW for weights of any dtype.

bfloat16 keeps eight bits of a weight: an update below 1/256 of it is rounded away, as are nearly
all updates with the learning rates of language models. As usual in mixed precision training,
16-bit weights therefore get a float32 master copy: gradients are accumulated in float32, the copy
is updated, and the model gets its rounded values. float32 parameters are updated by plain AdamW.
"""

from collections.abc import Iterable
from functools import partial
from typing import Any

import torch
from torch import Tensor

MASTER = "master"
"""Name of the float32 copy in the optimiser's saved state."""


def parameters_of(optimizer: torch.optim.Optimizer) -> list[Tensor]:
    """Return what an optimizer updates, in the order of its groups."""
    return [weight for group in optimizer.param_groups for weight in group["params"]]


class MasterAdamW(torch.optim.AdamW):
    """AdamW that keeps a float32 master copy of each 16-bit parameter.

    Its parameter groups contain the copies, which also hold the gradients: the model's gradients
    are moved there and freed as soon as they are computed.

    Args:
        parameters: of the model.
        are_masters: whether they are such copies already, as those that are split over processes,
            which the model rounds whenever it computes.
        options: passed to AdamW.
    """

    def __init__(
        self, parameters: Iterable[torch.nn.Parameter], are_masters: bool = False, **options: Any
    ):
        self.copies: dict[int, tuple[Tensor, torch.nn.Parameter | None]] = {}
        masters: list[Tensor] = []
        for index, parameter in enumerate(parameters):
            is_short = parameter.dtype in (torch.bfloat16, torch.float16)
            masters.append(parameter.detach().float() if is_short else parameter)
            if is_short:
                self.copies[index] = (masters[index], parameter)
                parameter.register_post_accumulate_grad_hook(partial(_move_grad, masters[index]))
            elif are_masters:
                self.copies[index] = (parameter.detach(), None)
        super().__init__(masters, **options)

    def step(self, closure: Any = None) -> Any:
        """Update the copies, then the model."""
        loss = super().step(closure)
        self._update_model()
        return loss

    @torch.no_grad()
    def set_beta2(self, beta2: float) -> None:
        """Change the decay of the mean of squared gradients, between two steps.

        AdamW stores that mean times 1 - beta2^step. Without a correction the steps after the change
        would be too large by the root of the ratio of both factors: early in a run, from .999 to
        .95, several times.
        """
        for group in self.param_groups:
            beta1, before = group["betas"]
            group["betas"] = (beta1, beta2)
            for state in (self.state[weight] for weight in group["params"] if weight in self.state):
                if beta2 != before:
                    step = float(state["step"])
                    state["exp_avg_sq"] *= (1 - beta2**step) / (1 - before**step)

    def state_dict(self) -> dict[str, Any]:
        """AdamW's state together with the copies."""
        content = super().state_dict()
        state = dict(content["state"])
        for index, (master, _) in self.copies.items():
            state[index] = {**state.get(index, {}), MASTER: master}
        return {**content, "state": state}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Load AdamW's state and the copies, and set the model to their values."""
        state = {
            index: {name: value for name, value in values.items() if name != MASTER}
            for index, values in state_dict["state"].items()
        }
        started = {index: values for index, values in state.items() if values}
        super().load_state_dict({**state_dict, "state": started})
        for index, (master, _) in self.copies.items():
            master.copy_(state_dict["state"][index][MASTER])
        self._update_model()

    @torch.no_grad()
    def _update_model(self) -> None:
        for master, parameter in self.copies.values():
            if parameter is not None:
                parameter.copy_(master)


def _move_grad(master: Tensor, parameter: Tensor) -> None:
    """Add a parameter's gradient to that of its copy, and free it."""
    assert parameter.grad is not None
    grad = parameter.grad.float()
    master.grad = grad if master.grad is None else master.grad.add_(grad)
    parameter.grad = None
