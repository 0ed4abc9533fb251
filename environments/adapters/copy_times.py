"""Chooses between a deep copy of an environment and a replay of its actions, by time.

Either way gives the same state, so the choice changes how long a fork takes and nothing else. To
be sure of that, a guard replays only what claims to be deterministic and has a `state_key`, whose
equality means an equal future, and compares the keys and the random generators after each replay.
In doubt it makes a deep copy.
"""

from dataclasses import dataclass

SLOW_COPY_S = 0.002
"""A deep copy that takes less than this is good enough, in seconds."""
MARGIN = 2
"""How many times faster a replay must be: times on a busy machine vary."""


@dataclass
class CopyTimes:
    """How long copies and replays of one environment took. Its forks share this record."""

    copy_s: float = 0.0
    """The last deep copy, in seconds."""
    replay_s: float = 0.0
    """The last replay, in seconds; 0 before the first, so that one is tried."""
    num_calls: int = 1
    """Number of calls in that replay."""
    is_wrong: bool = False
    """Whether a replay led to another state, so that none is tried again."""

    def prefers_replay(self, num_calls: int) -> bool:
        """Return whether a replay of so many calls should take much less time than a copy.

        >>> CopyTimes(copy_s=0.02, replay_s=0.001, num_calls=4).prefers_replay(4)
        True
        >>> CopyTimes(copy_s=0.02, replay_s=0.001, num_calls=4).prefers_replay(40)
        False
        """
        expected = self.replay_s * max(1.0, num_calls / self.num_calls)
        return not self.is_wrong and SLOW_COPY_S < self.copy_s > MARGIN * expected
