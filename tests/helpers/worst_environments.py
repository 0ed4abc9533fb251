"""Environments that do the worst, as a table: what each does, and how that must end.

Every row is a class of its own, registered as `worst/<name>-v0`: the game of `LineGame` with one
method or attribute replaced.
"""

import asyncio
import gc
import itertools
import locale
import os
import random
import signal
import sys
import threading
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

import gymnasium
import numpy as np
import torch

from sesa_agent.environments import TextEnv, TextSpec
from sesa_agent.environments.time_limit import TimeUp

from .games import LineGame


class Sound(TextEnv):
    """Nothing is wrong with it. Its copies are deepcopies if `fork` is deleted."""

    def __init__(self):
        super().__init__(LineGame(), max_steps=10)


@dataclass(frozen=True)
class Bad:
    """A bad environment and its end."""

    parts: dict[str, Any]
    """Its methods and attributes."""
    ends: str
    """Where a rollout meets it: "made" (refused), "opened" (no tree), "turn" (the turn fails) or
    "nowhere" (the rollout does not notice)."""
    message: str = ""
    """A regular expression for the start of the error."""
    check: str = ""
    """The check of check-env that fails or warns; empty for none, or if it is refused."""
    hangs: bool = False


def hang_asleep(*_: Any) -> Any:
    time.sleep(600)


def hang_busily(*_: Any) -> Any:
    while True:
        pass


def hang_stubbornly(*_: Any) -> Any:
    while True:
        try:
            time.sleep(600)
        except BaseException:
            pass


def hang_in_layers(*_: Any) -> Any:
    while True:
        try:
            try:
                hang_stubbornly()
            except BaseException:
                continue
        except BaseException:
            continue


def hang_in_new_frames(*_: Any) -> Any:
    for _none in map(_swallow, itertools.repeat(0)):
        pass


def _swallow(_: Any) -> None:
    try:
        try:
            time.sleep(600)
        except BaseException:
            return
    except BaseException:
        return


def recurse(*_: Any) -> Any:
    return recurse()


class Private(BaseException):
    """An exception that is no `Exception`."""


class Unspeakable(Exception):
    """An exception that cannot be written."""

    def __str__(self) -> str:
        raise ValueError("no words")

    __repr__ = __str__


def raising(error: BaseException) -> Callable[..., Any]:
    def act(*_: Any, **__: Any) -> Any:
        raise error

    return act


def returning(**changes: Any) -> Callable[[Any, str], Any]:
    """A step with some of its results replaced."""

    def step(self: Any, action: str) -> Any:
        names = ("observation", "reward", "terminated", "truncated", "info")
        results: dict[str, Any] = dict(zip(names, TextEnv.step(self, action), strict=True))
        for name in ("success", "legal"):
            if name in changes:
                results["info"] = {**results["info"], name: changes[name]}
        return tuple({**results, **changes}[name] for name in names)

    return step


def numpy_step(self: Any, action: str) -> Any:
    observation, reward, terminated, truncated, info = TextEnv.step(self, action)
    flags = np.bool_(terminated), np.bool_(truncated)
    return observation, np.float32(reward), *flags, info  # pyright: ignore[reportArgumentType]


def after(act: Callable[[], Any]) -> Callable[[Any, str], Any]:
    """A step that does something first."""

    def step(self: Any, action: str) -> Any:
        act()
        return TextEnv.step(self, action)

    return step


def second_time(error: Exception) -> Callable[[Any], Any]:
    """A `state_key` that works once for each state."""

    def key(self: Any) -> Any:
        self.num_keys = getattr(self, "num_keys", 0) + 1
        if self.num_keys > 1:
            raise error
        return self.game.state_key()

    return key


def old_reset(self: Any) -> Any:
    return TextEnv.reset(self)


def reset_alone(self: Any, *, seed: Any = None, options: Any = None) -> Any:
    return TextEnv.reset(self, seed=seed)[0]


def reset_by_chance(self: Any, *, seed: Any = None, options: Any = None) -> Any:
    observation, info = TextEnv.reset(self, seed=seed)
    self.game.cell = int(np.random.default_rng().integers(1, 5))
    return self.game.to_text(), info


def fork_process() -> None:
    if next(_num_forks) < 30:  # each takes some milliseconds in a large process
        os.fork()


_num_forks, _minds = itertools.count(), itertools.count()


def close_stdout() -> None:
    print("bye")
    sys.stdout.close()


def write_bytes() -> None:
    sys.stdout.reconfigure(encoding="utf-8")  # pyright: ignore[reportAttributeAccessIssue]
    sys.stdout.buffer.write(b"left")
    sys.stdout.flush()


def seed_everything() -> None:
    random.seed(0)
    np.random.seed(0)
    torch.manual_seed(0)


def take_signals() -> None:
    signal.signal(signal.SIGALRM, signal.SIG_IGN)
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def leave_a_thread() -> None:
    threading.Thread(target=time.sleep, args=(5.0,), daemon=True).start()


class Quarrelsome:
    """A key that cannot be compared."""

    def __hash__(self) -> int:
        return 1

    def __eq__(self, other: object) -> bool:
        raise ValueError("The truth value of an array is ambiguous.")


def step(act: Callable[..., Any], message: str, check: str = "api", **more: Any) -> Bad:
    return Bad({"step": act}, "turn", rf"step\('Left'\) {message}", check, **more)


def result(message: str, check: str = "api", **changes: Any) -> Bad:
    return step(returning(**changes), f"must return {message}", check)


def fine(check: str = "", **parts: Any) -> Bad:
    return Bad(parts, "nowhere", check=check)


def property_that(act: Callable[[Any], Any]) -> Any:
    return property(act, lambda self, value: None)  # TextEnv sets some of them


LIMIT = r"took longer than env.step_timeout=0.5 seconds"
TRUE = "True or False as "
RESET = r"reset\(seed=\d+\)"
NO_COPY = "a fork must return a copy"
NO_FORK: dict[str, Any] = {"fork": property()}
WORST: dict[str, Bad] = {
    # Hangs.
    "HangsWhenMade": Bad(
        {"__init__": hang_stubbornly}, "made", "making it took longer than 10 times", hangs=True
    ),
    "HangsInReset": Bad(
        {"reset": lambda *_, **__: hang_stubbornly()},
        "opened",
        rf"{RESET} {LIMIT}",
        "api",
        hangs=True,
    ),
    "Sleeps": step(hang_asleep, LIMIT, hangs=True),
    "IsBusy": step(hang_busily, LIMIT, hangs=True),
    "IsStubborn": step(hang_stubbornly, LIMIT, hangs=True),
    "IsStubbornInLayers": step(hang_in_layers, LIMIT, hangs=True),
    "IsStubbornInNewFrames": step(hang_in_new_frames, LIMIT, hangs=True),
    "HangsInFork": Bad({"fork": hang_stubbornly}, "turn", f"a fork {LIMIT}", "forks", hangs=True),
    "HangsInDeepcopy": Bad({**NO_FORK, "__deepcopy__": hang_asleep}, "nowhere", hangs=True),
    "HangsInStateKey": Bad(
        {"state_key": hang_asleep}, "opened", rf"{RESET} {LIMIT}", "state key", hangs=True
    ),
    "HangsInReading": Bad(
        {"canonical_action": hang_asleep},
        "turn",
        rf"canonical_action\('Left'\) {LIMIT}",
        "actions",
        hangs=True,
    ),
    "HangsInAnAttribute": Bad(
        {"is_deterministic": property_that(hang_asleep)},
        "made",
        f"is_deterministic {LIMIT}",
        hangs=True,
    ),
    # Exceptions.
    "Exits": step(raising(SystemExit(0)), "raised SystemExit: 0"),
    "ExitsWhenMade": Bad(
        {"__init__": raising(SystemExit(0))}, "made", "making it raised SystemExit: 0"
    ),
    "InterruptsWhenMade": Bad(
        {"__init__": raising(KeyboardInterrupt())}, "made", "making it raised KeyboardInterrupt"
    ),
    "RaisesLinesWhenMade": Bad({"__init__": raising(OSError("a\nb"))}, "made", "OSError: a b"),
    "RefusesOptionsInLines": Bad({"__init__": raising(ValueError("a\nb\ud800"))}, "made", ""),
    "ExitsInReset": Bad(
        {"reset": raising(SystemExit(2))},
        "opened",
        rf"{RESET} raised SystemExit: 2",
        "api",
    ),
    "Interrupts": step(raising(KeyboardInterrupt()), "raised KeyboardInterrupt"),
    "EndsGenerators": step(raising(GeneratorExit()), "raised GeneratorExit"),
    "StopsIteration": step(raising(StopIteration(3)), "raised StopIteration: 3"),
    "StopsAsyncIteration": step(raising(StopAsyncIteration()), "raised StopAsyncIteration"),
    "Cancels": step(raising(asyncio.CancelledError()), "raised CancelledError"),
    "RaisesItsOwn": step(raising(Private("mine")), "raised Private: mine"),
    "SaysTimeIsUp": step(raising(TimeUp()), "(raised TimeUp|took longer)"),
    "Recurses": step(recurse, "raised RecursionError"),
    "IsOutOfMemory": step(raising(MemoryError()), "raised MemoryError"),
    "IsUnspeakable": step(raising(Unspeakable()), "raised Unspeakable: a Unspeakable that cannot"),
    "SaysMegabytes": step(raising(ValueError("no " * 3_000_000)), r"raised ValueError: no no"),
    "SaysLines": step(raising(ValueError("a\nb\r\n\x1b[31mc")), r"raised ValueError: a b \\x1b"),
    "SaysHalfACharacter": step(raising(ValueError("\ud800")), r"raised ValueError: \\ud800"),
    "StopsReading": Bad(
        {"canonical_action": raising(StopIteration())},
        "turn",
        r"canonical_action\('Left'\) raised StopIteration",
        "actions",
    ),
    # Optional attributes.
    "DoubtsItsNoise": Bad(
        {"is_deterministic": property_that(raising(RuntimeError("who knows")))},
        "made",
        "is_deterministic raised RuntimeError: who knows",
    ),
    "SaysYesAboutItsNoise": fine("api", is_deterministic=property_that(lambda self: "no")),
    "ChangesItsMind": fine("api", is_deterministic=property_that(lambda _: next(_minds) % 2 == 0)),
    "HasWordsForLimit": fine("api", max_steps=property_that(lambda self: 10.5)),
    "HasManyTargets": fine("api", num_targets=property_that(lambda self: "many")),
    "HasNoNumbers": fine("api", num_puzzles=property_that(lambda self: None)),
    "HasANumberAsKey": fine("api", state_key=3),
    "HasANumberAsReader": fine("api", canonical_action=3),
    "HasANumberAsSpec": Bad({"text_spec": property_that(lambda self: 7)}, "made", ""),
    "HasNumbersInItsSpec": Bad(
        {"text_spec": property_that(lambda self: TextSpec(1, 2, 3))},  # pyright: ignore
        "made",
        "",
    ),
    "HidesItsSpaces": Bad(
        {"observation_space": property_that(raising(OSError("none")))}, "made", "observation_space"
    ),
    "RaisesInStateKey": Bad(
        {"state_key": raising(SystemExit())}, "opened", rf"{RESET} raised", "state key"
    ),
    "RaisesInTheSecondKey": Bad(
        {"state_key": second_time(OSError("gone"))},
        "turn",
        r"step\('Left'\) raised OSError: gone",
        "state key",
    ),
    "HasAListAsKey": Bad(
        {"state_key": lambda self: [3]},
        "opened",
        r".* a hashable state_key\(\), got \[3\]",
        "state key",
    ),
    "HasAQuarrelsomeKey": fine("state key", state_key=lambda self: Quarrelsome()),
    # Forks.
    "ForksToNone": Bad(
        {"fork": lambda self: None},
        "turn",
        f"{NO_COPY}.* None",
        "forks",
    ),
    "ForksToItself": Bad(
        {"fork": lambda self: self},
        "turn",
        f"{NO_COPY}.* the environment itself",
        "forks",
    ),
    "ForksToAnother": Bad({"fork": lambda self: Sound()}, "turn", NO_COPY, "forks"),
    "CopiesToNone": fine(**NO_FORK, __deepcopy__=lambda self, memo: None),
    "CopiesToItself": fine(**NO_FORK, __deepcopy__=lambda self, memo: self),
    "ForksTheProcess": fine("side effects", step=after(fork_process)),
    "TakesNoGenerator": Bad(
        {
            "np_random": property(lambda self: np.random.default_rng(0)),
            "is_deterministic": property_that(lambda _: False),
        },
        "turn",
        "np_random raised AttributeError",
        "noise",
    ),
    # What step returns.
    "RewardsNothing": result("a finite number as reward, got None", reward=None),
    "RewardsNaN": result("a finite number as reward, got nan", "rewards", reward=float("nan")),
    "RewardsInfinity": result("a finite number as reward, got inf", "rewards", reward=np.inf),
    "RewardsWords": result("a finite number as reward, got '1'", reward="1"),
    "RewardsArrays": result("a finite number as reward, got array", reward=np.array([1.0, 2.0])),
    "RewardsTensors": result("a finite number as reward, got tensor", reward=torch.ones(2)),
    "RewardsComplex": result("a finite number as reward, got 1j", reward=1j),
    "RewardsTooMuch": result("a finite number as reward, got 1000", reward=10**400),
    "RewardsOneTensor": fine(step=returning(reward=torch.tensor(0.5))),
    "RewardsTrue": fine(step=returning(reward=True)),
    "RewardsDecimals": fine(step=returning(reward=Decimal("0.5"))),
    "EndsInWords": result(f"{TRUE}terminated, got 'yes'", terminated="yes"),
    "EndsInNone": result(f"{TRUE}truncated, got None", truncated=None),
    "EndsTwice": result(f"{TRUE}terminated, got 2", terminated=2),
    "EndsInArrays": result(f"{TRUE}terminated, got array", terminated=np.array([True, False])),
    "EndsAsNumpySays": fine(step=numpy_step),
    "InformsNone": result("a dict as info, got None", info=None),
    "InformsLists": result(r"a dict as info, got \[1\]", info=[1]),
    "SucceedsInWords": result(rf"{TRUE}info\['success'\], got 'yes'", "info", success="yes"),
    "SucceedsInNone": result(rf"{TRUE}info\['success'\], got None", "info", success=None),
    "SucceedsInArrays": result(rf"{TRUE}info\['success'\], got array", "info", success=np.ones(2)),
    "IsLegalAsNumbers": result(rf"{TRUE}info\['legal'\], got 0.5", "info", legal=0.5),
    "ReturnsNone": step(lambda *_: None, r"must return \(observation, .*, got None"),
    "ReturnsFour": step(lambda *_: ("", 0.0, False, {}), r"must return \(observation, .*, got"),
    "ReturnsSix": step(lambda *_: ("", 0.0, 0, 0, {}, 0), r"must return \(observation, .*, got"),
    "ShowsBytes": result("a str as observation, got b'x'", observation=b"x"),
    "ShowsNone": result("a str as observation, got None", observation=None),
    "ShowsNumbers": result("a str as observation, got 7", observation=7),
    "ShowsDicts": result("a str as observation, got {}", observation={}),
    "ShowsMegabytes": result(
        "at most 200,000 characters as observation, got 100,000,000 characters",
        observation="x" * 100_000_000,
    ),
    "ShowsHalfACharacter": result(
        r"a text that UTF-8 can encode as observation, got one with '\\ud800'",
        observation="a\ud800b",
    ),
    "ShowsNothing": fine("observations", step=returning(observation="")),
    "ShowsNUL": fine("observations", step=returning(observation="\0")),
    # What reset does.
    "TakesNoSeed": Bad({"reset": old_reset}, "opened", rf"{RESET} raised TypeError", "api"),
    "ResetsWithoutInfo": Bad(
        {"reset": reset_alone},
        "opened",
        rf"{RESET} must return \(observation, info\)",
        "api",
    ),
    "IgnoresTheSeed": fine("seeding", reset=reset_by_chance),
    # What it does to the process.
    "Prints": fine(step=after(lambda: print("left! " * 500_000))),
    "ClosesItsOutput": fine(step=after(close_stdout)),
    "WritesBytes": fine(step=after(write_bytes)),
    "MovesAway": fine("side effects", step=after(lambda: os.chdir("/"))),
    "SetsTheEnvironment": fine(
        "side effects", step=after(lambda: os.environ.update(WORST=str(time.time())))
    ),
    "SeedsEverything": fine("side effects", step=after(seed_everything)),
    "SpeaksC": fine("side effects", step=after(lambda: locale.setlocale(locale.LC_ALL, "C.UTF-8"))),
    "TakesSignals": fine(step=after(take_signals)),
    "LowersTheStack": fine("side effects", step=after(lambda: sys.setrecursionlimit(120))),
    "LeavesThreads": fine("side effects", step=after(leave_a_thread)),
    "FailsOnWarnings": fine("side effects", step=after(lambda: warnings.simplefilter("error"))),
    "KeepsGarbage": fine("side effects", step=after(gc.disable)),
    "Traces": fine("side effects", step=after(lambda: sys.settrace(lambda *_: None))),
}
"""Every bad environment by its name."""
for _name, _bad in WORST.items():
    _class: Any = type(_name, (Sound,), dict(_bad.parts))
    gymnasium.register(f"worst/{_name}-v0", _class, order_enforce=False, disable_env_checker=True)
