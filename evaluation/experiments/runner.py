"""Runs many arms at once, in processes of one thread each; stopped, they can go on later."""

import multiprocessing
import os
import queue
import signal
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from ...configs.errors import SettingError
from .arms import Arm, Result, read_result, run_arm


@dataclass(frozen=True)
class Report:
    """News of an arm that is running."""

    arm: Arm
    share_done: float
    """Of its training, from 0 to 1."""
    metrics: dict[str, float]
    """Of its newest step."""


def run_arms(
    arms: Sequence[Arm],
    runs: Path,
    jobs: int,
    on_report: Callable[[Report], None] = lambda _: None,
    on_result: Callable[[Arm, Result], None] = lambda *_: None,
    wants_stop: Callable[[], bool] = lambda: False,
) -> dict[Arm, Result]:
    """Run arms in processes of one thread each, every arm after the one that it starts from.

    Args:
        arms: arms; those that others start from are among them.
        runs: the folder of the experiment's runs.
        jobs: arms at once.
        on_report: told of the progress of running arms.
        on_result: told of every finished arm.
        wants_stop: asked a few times a second; once True, running arms end their step and are
            saved, and no other is begun.

    Returns:
        The results by arm; after a stop only of those that were finished.

    Raises:
        SettingError: of the first arm whose settings or model do not fit; the others are stopped.
    """
    results: dict[Arm, Result] = {}
    arms = list(dict.fromkeys(arms))
    for arm in arms:  # finished ones cost no process
        result = read_result(arm, runs)
        if result is not None:
            results[arm] = result
            on_result(arm, result)
    waiting = [arm for arm in arms if arm not in results]
    if not waiting:
        return results
    context = multiprocessing.get_context("spawn")
    reports, stop = context.Queue(), context.Event()
    jobs = min(jobs, len(waiting))
    with ProcessPoolExecutor(jobs, context, _begin_worker, (reports, stop)) as pool:
        running: dict[Future[Result | None], Arm] = {}
        try:
            while running or (waiting and not stop.is_set()):
                if wants_stop():
                    stop.set()
                for arm in _startable(waiting, results, jobs - len(running), stop.is_set()):
                    waiting.remove(arm)
                    running[pool.submit(_run_in_worker, arm, runs)] = arm
                finished, _ = wait(running, timeout=0.2, return_when=FIRST_COMPLETED)
                for report in _drain(reports):
                    on_report(report)
                for future in finished:
                    arm, result = running.pop(future), future.result()
                    if result is not None:
                        results[arm] = result
                        on_result(arm, result)
        except SettingError:
            stop.set()
            raise
        except BaseException:  # a second Ctrl-C: the pool would wait for its workers otherwise
            for process in multiprocessing.active_children():
                process.terminate()
            raise
    return results


def _startable(
    waiting: Sequence[Arm], results: dict[Arm, Result], num_free: int, is_stopping: bool
) -> list[Arm]:
    """The arms that can be begun now, as many as there is room for."""
    ready = [arm for arm in waiting if arm.start_from is None or arm.start_from in results]
    return [] if is_stopping else ready[:num_free]


def _drain(reports: Any) -> list[Report]:
    found = []
    while True:
        try:
            found.append(reports.get_nowait())
        except queue.Empty:
            return found


_channel: tuple[Any, Any] | None = None
"""In a worker: where its reports go, and the event that asks it to stop."""


def _begin_worker(reports: Any, stop: Any) -> None:
    global _channel
    _channel = reports, stop
    torch.set_num_threads(1)
    # Ctrl-C reaches every process of a shell's job; the parent passes it on as the event.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    """End a worker whose parent was killed; it would work on unseen and then wait for ever."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


def _run_in_worker(arm: Arm, runs: Path) -> Result | None:
    assert _channel is not None, "runs in a worker alone"
    reports, stop = _channel

    def watch(share_done: float, metrics: dict[str, float]) -> bool:
        reports.put(Report(arm, share_done, metrics))
        return stop.is_set()

    return run_arm(arm, runs, watch)
