"""Checks the options of an environment (`env.options`) before it is made.

The signature of its constructor says which options there are and of which type: `slippery: bool`
takes true or false, and nothing else. Options without an annotation, and those of a constructor
with `**kwargs`, are passed on as they are. Ranges are the constructor's own business.
"""

import difflib
import inspect
from collections.abc import Callable, Hashable, Mapping
from typing import Any, TypeVar

import gymnasium
from gymnasium.envs.registration import EnvSpec, load_env_creator

from ..configs.errors import SettingError
from ..configs.typed import fit

Maker = TypeVar("Maker", bound=Callable[..., Any])


def fit_options(spec: EnvSpec, options: Mapping[str, Any]) -> dict[str, Any]:
    """Return options as the types that the constructor of an environment asks for.

    Args:
        spec: the registration of the environment.
        options: keyword arguments for `gymnasium.make`.

    Raises:
        SettingError: in one line, if there is no such option, or its value has another type.
    """
    accepted, takes_others = _parameters(spec)
    fitted: dict[str, Any] = {}
    for name, value in options.items():
        if name in accepted:
            fitted[name] = _fit(accepted[name], value)
        elif takes_others:
            fitted[name] = value
        else:
            near = difflib.get_close_matches(name, accepted, n=1)
            hint = f"Did you mean {near[0]}?" if near else f"It has {', '.join(accepted)}."
            raise SettingError(f"env.options.{name} is not an option of {spec.id}. {hint}")
    return fitted


def options_of(*sources: Callable[..., Any]) -> Callable[[Maker], Maker]:
    """Decorate a function that passes its `**options` on, so that its signature lists them.

    Args:
        sources: what the options are passed on to; those with defaults are listed.
    """

    def list_options(make: Maker) -> Maker:
        own = inspect.signature(make).parameters.values()
        passed_on = [
            parameter.replace(kind=inspect.Parameter.KEYWORD_ONLY)
            for source in sources
            for parameter in inspect.signature(source).parameters.values()
            if parameter.default is not parameter.empty
        ]
        listed = [parameter for parameter in own if parameter.kind is not parameter.VAR_KEYWORD]
        make.__signature__ = inspect.Signature([*listed, *passed_on])  # pyright: ignore[reportFunctionMemberAccess]
        return make

    return list_options


def _parameters(spec: EnvSpec) -> tuple[dict[str, inspect.Parameter], bool]:
    """The parameters of a constructor and of `gymnasium.make`; whether others are passed on too."""
    make = spec.entry_point
    signature = _signature(load_env_creator(make) if isinstance(make, str) else make)
    if signature is None:
        return {}, True
    common = inspect.signature(gymnasium.make, eval_str=True).parameters
    named = {**common, **signature.parameters}
    named = {name: item for name, item in named.items() if item.kind in _BY_NAME and name != "id"}
    kinds = {parameter.kind for parameter in signature.parameters.values()}
    return named, inspect.Parameter.VAR_KEYWORD in kinds


_BY_NAME = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)


def _signature(make: Any) -> inspect.Signature | None:
    """The signature of a function or class, without annotations that Python cannot evaluate."""
    for evaluates in (True, False):
        try:
            return inspect.signature(make, eval_str=evaluates)
        except Exception:  # noqa: BLE001, S112  an annotation in quotes may raise anything
            continue
    return None


def _fit(parameter: inspect.Parameter, value: Any) -> Any:
    wanted = parameter.annotation
    is_default = value is None and parameter.default is None
    if is_default or wanted is parameter.empty or not isinstance(wanted, Hashable):
        return value
    return fit(value, wanted, f"env.options.{parameter.name}")
