"""`sesa-agent play` at a real pseudo-terminal: keys, colours, and a terminal left in order."""

import os
import re
import select
import subprocess
import sys
import time

import pytest

from sesa_agent.environments import make_env
from sesa_agent.environments.games.sokoban_rules import solve

from ..helpers import bad_games

pty = pytest.importorskip("pty", reason="there are no pseudo-terminals on this system")
termios = pytest.importorskip("termios")

COMMAND = (
    "import fcntl, sys, termios\n"
    "fcntl.ioctl(0, termios.TIOCSCTTY, 0)\n"  # so that Control-C reaches it
    "from sesa_agent.cli import main\n"
    "main()\n"
)
ARROWS = ("\x1b[A", "\x1b[B", "\x1b[D", "\x1b[C")
CTRL_C, CTRL_D = "\x03", "\x04"
PATIENCE_S = 60
SLOW = pytest.mark.slow


class Terminal:
    """A person at a terminal who runs a command."""

    def __init__(self, *words):
        self.master, self.slave = pty.openpty()
        self.settings = termios.tcgetattr(self.slave)
        self.seen = ""
        self.process = subprocess.Popen(
            [sys.executable, "-c", COMMAND, *map(str, words)],
            stdin=self.slave,
            stdout=self.slave,
            stderr=self.slave,
            start_new_session=True,
            env={**os.environ, "TERM": "xterm-256color", "COLUMNS": "200"},
        )

    def press(self, keys):
        os.write(self.master, keys.encode())

    def wait_for(self, text):
        """Read on until a text comes; return what was read, and keep what follows the text."""
        deadline = time.monotonic() + PATIENCE_S
        while text not in plain(self.seen):
            assert time.monotonic() < deadline, f"{text!r} does not come: {self.seen}"
            self._read()
        seen, self.seen = self.seen, plain(self.seen).partition(text)[2]
        return seen

    def end(self):
        """Wait for the command; return its exit code and the lines on the last screen."""
        deadline = time.monotonic() + PATIENCE_S
        while self.process.poll() is None:
            assert time.monotonic() < deadline, f"it does not end: {self.seen}"
            self._read()
        self._read()
        return self.process.returncode, plain(self.seen).strip().splitlines()

    def close(self):
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        os.close(self.master)
        os.close(self.slave)

    def _read(self):
        while select.select([self.master], [], [], 0.1)[0]:
            self.seen += os.read(self.master, 65536).decode(errors="replace")


def plain(text):
    """Text without colours and other orders to the terminal."""
    return re.sub(r"\x1b\[[\d;?]*[A-Za-z]", "", text).replace("\r\n", "\n")


@pytest.fixture
def terminal():
    opened = []

    def run(*words):
        opened.append(Terminal("play", *words))
        return opened[-1]

    yield run
    for one in opened:
        one.close()


def test_a_puzzle_is_solved_by_arrow_keys_and_letters(terminal):
    env = make_env("sesa/Sokoban-v0")
    env.reset(seed=3)
    solution = solve(env.unwrapped.game.board(), 10)  # pyright: ignore[reportAttributeAccessIssue]
    assert solution
    screen = terminal("--env", "sokoban", "--seed", "3")
    first = screen.wait_for("Turn 1, 10 actions left")
    assert "\x1b[2J" in first and re.search(r"\x1b\[[\d;]+m##", first)  # redrawn, in colours
    assert termios.tcgetattr(screen.slave) != screen.settings
    screen.press("x")
    screen.wait_for("'x' is not an action here")
    screen.press("h")
    screen.wait_for("Hint: Down")
    screen.press("w")
    screen.wait_for("Turn 2, 9 actions left")
    screen.press("u")
    screen.wait_for("Turn 1, 10 actions left")
    for number, action in enumerate(solution[:-1], start=2):
        screen.press(ARROWS[action] if number % 2 else "wsad"[action])
        screen.wait_for(f"Turn {number}, ")
    screen.press(ARROWS[solution[-1]])
    screen.wait_for("Solved with 7 actions, the fewest possible.")
    screen.press("q")
    assert screen.end() == (0, [])  # nothing more to say
    assert termios.tcgetattr(screen.slave) == screen.settings


@pytest.mark.parametrize(
    "key",
    [pytest.param(CTRL_C, id="Control-C"), pytest.param(CTRL_D, id="Control-D", marks=SLOW)],
)
def test_it_ends_in_order(terminal, key):
    screen = terminal("--env", "sokoban", "--seed", "3")
    screen.wait_for("Turn 1, 10 actions left, reward 0.")
    screen.press(key)
    code, lines = screen.end()
    assert (code, lines[-1]) == (0, "Not solved with 0 actions. It needs 7 actions.")
    assert termios.tcgetattr(screen.slave) == screen.settings


def test_free_answers_are_typed_in_a_line(terminal):
    screen = terminal("--env", "countdown", "--seed", "0")
    screen.wait_for("> ")
    screen.press("h\n")
    screen.wait_for("Hint: 17 + 9 - 2 - 18")
    screen.wait_for("> ")
    screen.press("17 + 9 - 2 - 18\n")
    screen.wait_for("Solved with 1 action, the fewest possible.")
    screen.press(CTRL_C)
    assert screen.end() == (0, ["> ^C"])


@pytest.mark.slow
def test_a_broken_environment_leaves_the_terminal_in_order(terminal):
    screen = terminal("--env", bad_games.ENV_ID, "env.options.fault=raise")
    screen.wait_for("Turn 1, ")
    screen.press("a")
    code, lines = screen.end()
    assert code == 2
    assert [line for line in lines if "raised ValueError: the board broke" in line] == lines[-1:]
    assert termios.tcgetattr(screen.slave) == screen.settings


@pytest.mark.slow
def test_a_policy_is_watched_key_by_key(terminal, model):
    screen = terminal("--policy", model, "--env", "sokoban", "env.max_turns=2")
    screen.wait_for("Turn 1, 2 actions left.")
    screen.press(" ")
    assert "Probability of the response: " in plain(screen.wait_for("Turn 2, 1 action left."))
    screen.press("\n")
    screen.wait_for("olved after 2 turns, reward 0.")
    screen.press("q")
    assert screen.end() == (0, [])
    assert termios.tcgetattr(screen.slave) == screen.settings
