"""A corridor in which Right ends the process: `crashing:Crash-v0`, in several ways."""

import ctypes
import os
import time

import gymnasium
from gymnasium.spaces import Discrete


def exit_at_once():
    os._exit(3)


def read_nowhere():
    ctypes.string_at(0)


def count_forever():
    while True:
        try:
            while True:
                pass
        except BaseException:
            continue


def sort_forever():
    """Compiled code that ignores what its callback raises and never ends."""
    compare = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_void_p, ctypes.c_void_p)(lambda *_: 0)
    while True:
        ctypes.CDLL(None).qsort((ctypes.c_int * 9999)(), 9999, 4, compare)


def wait_in_compiled_code():
    """With the interpreter's lock held, so that no signal is handled."""
    ctypes.PyDLL(None).sleep(600)


WAYS = {
    "exit": exit_at_once,
    "segfault": read_nowhere,
    "loop": count_forever,
    "callback": sort_forever,
    "lock": wait_in_compiled_code,
    "sleep": lambda: time.sleep(600),
}


class Crash(gymnasium.Env):
    """Walk to the first of eight rooms; Right crashes."""

    observation_space, action_space = Discrete(8), Discrete(2)
    action_names = ("Left", "Right")
    max_steps = 4
    is_deterministic = True

    def __init__(self, how: str = "exit"):
        self.how = how

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.room = 2
        return self.room, {}

    def step(self, action):
        if action:
            WAYS[self.how]()
        self.room -= 1
        return self.room, float(self.room == 0), self.room == 0, False, {"success": self.room == 0}


gymnasium.register("Crash-v0", "crashing:Crash")
