"""One step off: the next rollout is drawn while the policy learns from this one (`optim.lag=1`).

A thread plays this rank's puzzles with an engine elsewhere. It exchanges nothing with other ranks,
and the engine gets new weights only while no rank draws: all turns of a trajectory are sampled by
the same weights, those of one update before.
"""

import threading
from collections.abc import Callable
from concurrent.futures import Future, wait
from dataclasses import dataclass

from ..sampling.trajectory import TrajectoryTree
from .distributed import barrier


@dataclass(frozen=True)
class Drawn:
    """This rank's trees of a rollout."""

    trees: list[TrajectoryTree]
    num_tokens: int
    """Tokens of all responses that were sampled for them."""


class Ahead:
    """The rollout that is being drawn, if there is one."""

    def __init__(self):
        self._coming: Future[Drawn] | None = None

    def start(self, draw: Callable[[], Drawn]) -> None:
        """Start to draw a rollout."""
        coming: Future[Drawn] = Future()

        def run() -> None:
            try:
                coming.set_result(draw())
            except Exception as error:
                coming.set_exception(error)

        self._coming = coming
        # A daemon: nobody waits for it if the run ends by an error or an interrupt.
        threading.Thread(target=run, daemon=True).start()

    def take(self) -> Callable[[], Drawn] | None:
        """Wait until no rank draws any more.

        Returns:
            What gives the rollout, or raises what ended it; None if none was started.
        """
        coming, self._coming = self._coming, None
        if coming is not None:
            wait([coming])
        barrier()
        return coming.result if coming is not None else None
