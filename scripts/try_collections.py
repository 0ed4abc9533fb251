"""Tries environments of other packages, and writes what came of it (docs/collections.md).

    python scripts/try_collections.py                  # all that are installed: minutes to an hour
    python scripts/try_collections.py --only Taxi-v4   # one, in the table of the others
    python scripts/try_collections.py --table          # only the table in the page, no playing

Each is given to `sesa-agent check-env`, as a user would, with one puzzle. The answers are kept in
results/collections.json. What is not installed keeps its last answer. For its row, an OpenEnv
server is started (tests/helpers/openenv_server.py).
"""

import argparse
import json
import os
import re
import subprocess
import sys
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "results" / "collections.json"
PAGE = ROOT / "docs" / "collections.md"
START, END = "<!-- tried: begin -->", "<!-- tried: end -->"
LIMIT_S = 900
"""Seconds after which a check is given up."""


@dataclass(frozen=True)
class Trial:
    """An environment to try."""

    package: str
    """Its package in the package index."""
    words: str
    """What is typed after `check-env`."""
    how: str = "unmodified"
    """unmodified: any Gymnasium id; words: with the words of `known_games.py`; adapter: one of the
    collections here."""


TRIALS = (
    Trial("gymnasium", "Blackjack-v1", "words"),
    Trial("gymnasium", "CliffWalkingSlippery-v1", "words"),
    Trial("gymnasium", "Taxi-v4", "words"),
    Trial("gymnasium", "CartPole-v1"),
    Trial("gymnasium", "MountainCarContinuous-v0"),
    Trial("minigrid", "minigrid:BabyAI-GoToObj-v0", "words"),
    Trial("minigrid", "minigrid:BabyAI-BossLevel-v0", "words"),
    Trial("minigrid", "babyai/GoToLocal-v0", "adapter"),
    Trial("reasoning-gym", "reasoning_gym/leg_counting", "adapter"),
    Trial("gem-llm", "gem/GuessTheNumber-v0-easy", "adapter"),
    Trial("textarena", "textarena/FrozenLake-v0-train", "adapter"),
    Trial("textarena", "textarena/TicTacToe-v0", "adapter"),
    Trial("textworld", "textworld/treasure_hunter", "adapter"),
    Trial("textworld-express", "textworld_express/coin", "adapter"),
    Trial("scienceworld", "scienceworld/boil", "adapter"),
    Trial("openenv-core", "openenv:URL", "adapter"),
    Trial("alfworld", "alfworld/train", "adapter"),
    Trial("verifiers", "verifiers/gsm8k"),
    Trial("gym-simplegrid", "gym_simplegrid:SimpleGrid-8x8-v0"),
    Trial("popgym", "popgym:popgym-BattleshipEasy-v0"),
    Trial("highway-env", "highway_env:highway-v0"),
    Trial("tetris-gymnasium", "tetris_gymnasium.envs:tetris_gymnasium/Tetris"),
    Trial("nasim", "nasim:Tiny-v0"),
    Trial("mo-gymnasium", "mo_gymnasium:deep-sea-treasure-v0"),
    Trial("ale-py", "ale_py:ALE/Pong-v5"),
    Trial("gymnasium-robotics", "gymnasium_robotics:FetchReach-v4"),
    Trial("gym-sokoban", "gym_sokoban:Sokoban-v0"),
    Trial("crafter", "crafter:CrafterReward-v1"),
    Trial("pettingzoo", "pettingzoo:tictactoe_v3"),
    Trial("rlcard", "rlcard:blackjack"),
)


def try_it(trial: Trial) -> dict[str, str] | None:
    """Check one environment; None if its package is not installed."""
    try:
        number = version(trial.package)
    except PackageNotFoundError:
        number = ""
    if not number and trial.package != "verifiers":
        return None
    with ExitStack() as stack:
        words = trial.words
        if "URL" in words:
            sys.path.insert(0, str(ROOT))
            from tests.helpers.openenv_server import openenv_server

            words = words.replace("URL", stack.enter_context(openenv_server(sessions=512))[0])
        command = [sys.executable, "-m", "sesa_agent", "check-env", "--episodes", "1"]
        env = {**os.environ, "COLUMNS": "500", "NO_COLOR": "1"}
        try:
            answer = subprocess.run(
                [*command, *words.split()],
                capture_output=True,
                text=True,
                timeout=LIMIT_S,
                env=env,
            )
        except subprocess.TimeoutExpired:
            outcome, why = "too slow", f"not checked within {LIMIT_S} seconds"
        else:
            outcome, why = outcome_of(answer.returncode, answer.stdout, answer.stderr)
    return {**asdict(trial), "version": number, "outcome": outcome, "why": why}


def outcome_of(code: int, out: str, errors: str) -> tuple[str, str]:
    """What came of a check, in a word, and why.

    >>> outcome_of(2, "", "sesa-agent: env.id Pong has pixels.")
    ('refused', 'env.id Pong has pixels.')
    """
    if code == 2:
        return "refused", errors.strip().splitlines()[-1].removeprefix("sesa-agent: ")
    rows = re.findall(r"│ ([\w ]+?) +│ (failed|warned) +│ (.+?) *│", out)
    # The speed is that of this machine at this time.
    notes = "; ".join(f"{name}: {seen.strip()}" for name, _, seen in rows if name != "speed")[:300]
    if code == 0:
        return "plays", notes
    return ("fails", notes) if code == 1 and rows else ("crashes", errors.strip()[-300:])


def table(rows: list[dict[str, str]]) -> str:
    """The table of the page."""
    lines = [
        "| package | `check-env` | outcome | why, or what the check says |",
        "|---|---|---|---|",
    ]
    for row in rows:
        how = "" if row["outcome"] == "refused" else f", {HOW[row['how']]}"
        why = row["why"].replace("|", "\\|").replace("<", "&lt;")
        package = f"{row['package']} {row['version']}".strip()
        lines.append(f"| {package} | `{row['words']}` | {row['outcome']}{how} | {why} |")
    return "\n".join(lines)


HOW = {"unmodified": "unmodified", "words": "with our words", "adapter": "collection"}
"""How an environment was played, as the table says it."""


def write_page(rows: list[dict[str, str]]) -> None:
    """Put the table into the page."""
    before, _, rest = PAGE.read_text(encoding="utf-8").partition(START)
    _, _, after = rest.partition(END)
    PAGE.write_text(f"{before}{START}\n{table(rows)}\n{END}{after}", encoding="utf-8")


def main() -> None:
    """Try them and write results and page."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", default="", help="part of what is typed, to try only these")
    parser.add_argument("--table", action="store_true", help="write only the table")
    options = parser.parse_args()
    rows = {}
    if RESULTS.exists():
        rows = {row["words"]: row for row in json.loads(RESULTS.read_text(encoding="utf-8"))}
    for trial in TRIALS:
        if options.table or options.only not in trial.words:
            continue
        row = try_it(trial)
        print(trial.words, "is not installed" if row is None else f"{row['outcome']}: {row['why']}")
        if row is not None:
            rows[trial.words] = row
        ordered = [rows[trial.words] for trial in TRIALS if trial.words in rows]
        RESULTS.write_text(json.dumps(ordered, indent=1) + "\n", encoding="utf-8")
    if PAGE.exists():
        write_page([rows[trial.words] for trial in TRIALS if trial.words in rows])


if __name__ == "__main__":
    main()
