"""Runs arms in parallel, in processes of one thread each; stopped arms can be resumed."""

import multiprocessing
import os
import queue
import signal
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from ...configs.errors import SettingError
from .arms import Arm, Result, read_result, run_arm
from .starts import is_complete


@dataclass(frozen=True)
class Report:
    """Progress of a running arm."""

    arm: Arm
    share_done: float
    """Share of its training that is done, from 0 to 1."""
    metrics: dict[str, float]
    """The metrics of its newest step, or the `lesson` of its warm start."""


def run_arms(
    arms: Sequence[Arm],
    runs: Path,
    jobs: int,
    on_report: Callable[[Report], None] = lambda _: None,
    on_result: Callable[[Arm, Result], None] = lambda *_: None,
    wants_stop: Callable[[], bool] = lambda: False,
) -> dict[Arm, Result]:
    """Run arms in processes of one thread each, every arm after the one that it starts from.

    Of several arms with the same warm start the first makes it, and the others wait for that.

    Args:
        arms: arms, including those that others start from.
        runs: the folder of the experiment's runs.
        jobs: number of arms to run in parallel.
        on_report: called with the progress of running arms.
        on_result: called with every finished arm.
        wants_stop: polled a few times per second; once it returns True, running arms finish their
            step and are saved, and no further arm is started.

    Returns:
        The results by arm; after a stop only those of finished arms.

    Raises:
        SettingError: of the first arm with a wrong setting or model, or a file that could not be
            written; the others are stopped.
    """
    results: dict[Arm, Result] = {}
    arms = list(dict.fromkeys(arms))
    for arm in arms:  # finished ones need no process
        result = read_result(arm, runs)
        if result is not None:
            results[arm] = result
            on_result(arm, result)
    waiting = [arm for arm in arms if arm not in results]
    if waiting:
        _run_in_pool(waiting, results, runs, jobs, on_report, on_result, wants_stop)
    return results


def _run_in_pool(
    waiting: list[Arm],
    results: dict[Arm, Result],
    runs: Path,
    jobs: int,
    on_report: Callable[[Report], None],
    on_result: Callable[[Arm, Result], None],
    wants_stop: Callable[[], bool],
) -> None:
    """Run the arms that are waiting and add their results."""
    context = multiprocessing.get_context("spawn")
    reports, stop = context.Queue(), context.Event()
    jobs = min(jobs, len(waiting))
    starts = {arm: arm.warm_start.folder(runs) for arm in waiting if arm.warm_start}
    with ProcessPoolExecutor(jobs, context, _begin_worker, (reports, stop)) as pool:
        running: dict[Future[Result | None], Arm] = {}
        try:
            while running or (waiting and not stop.is_set()):
                if wants_stop():
                    stop.set()
                num_free = 0 if stop.is_set() else jobs - len(running)
                for arm in _startable(waiting, running.values(), results, starts)[:num_free]:
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


def _startable(
    waiting: Sequence[Arm],
    running: Iterable[Arm],
    results: Mapping[Arm, Result],
    starts: Mapping[Arm, Path],
) -> list[Arm]:
    """The arms that can be started now: what they start from exists, or nobody makes it yet.

    Args:
        waiting: arms that are not started.
        running: those that are.
        results: of finished arms.
        starts: the folder of the warm start of each arm that has one.
    """
    taken = {starts[arm] for arm in running if arm in starts}
    ready = []
    for arm in waiting:
        start = starts.get(arm)
        is_free = start is None or start not in taken or is_complete(start)
        if is_free and (arm.start_from is None or arm.start_from in results):
            ready.append(arm)
            taken |= {start} - {None}
    return ready


def _drain(reports: Any) -> list[Report]:
    found = []
    while True:
        try:
            found.append(reports.get_nowait())
        except queue.Empty:
            return found


_channel: tuple[Any, Any] | None = None
"""In a worker: the queue of its reports, and the event that asks it to stop."""


def _begin_worker(reports: Any, stop: Any) -> None:
    global _channel
    _channel = reports, stop
    torch.set_num_threads(1)
    # Ctrl-C reaches every process of a shell's job; the parent passes it on as the event.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    """Exit when the parent was killed: the worker would otherwise run on and then wait forever."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


def _run_in_worker(arm: Arm, runs: Path) -> Result | None:
    assert _channel is not None, "runs only in a worker"
    reports, stop = _channel

    def watch(share_done: float, metrics: dict[str, float]) -> bool:
        reports.put(Report(arm, share_done, metrics))
        return stop.is_set()

    return run_arm(arm, runs, watch)
