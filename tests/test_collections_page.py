"""The table of tried environments in docs/collections.md comes from results/collections.json."""

import json
import runpy
from pathlib import Path

from sesa_agent.environments.adapters.collections import COLLECTIONS

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "docs" / "collections.md").read_text(encoding="utf-8")


SCRIPT = runpy.run_path(str(ROOT / "scripts" / "try_collections.py"))


def test_the_table_is_what_the_results_say():
    rows = json.loads((ROOT / "results" / "collections.json").read_text(encoding="utf-8"))
    shown = PAGE.partition(SCRIPT["START"])[2].partition(SCRIPT["END"])[0]
    assert shown.strip() == SCRIPT["table"](rows)


def test_every_collection_is_tried_and_has_its_command_on_the_page():
    tried = [trial.words for trial in SCRIPT["TRIALS"]]
    for name, collection in COLLECTIONS.items():
        assert any(words.startswith((f"{name}/", f"{name}:")) for words in tried), name
        assert f"sesa-agent[{collection.extra}]" in PAGE


def test_an_outcome_is_read_from_a_check():
    rows = ("speed │ warned │ 3 steps/s", "noise │ warned │ never parted", "api │ passed │ fine")
    out = "".join(f"│ {row} │\n" for row in rows)
    assert SCRIPT["outcome_of"](0, out, "") == ("plays", "noise: never parted")
    assert SCRIPT["outcome_of"](1, out.replace("warned", "failed"), "")[0] == "fails"
    assert SCRIPT["outcome_of"](2, "", "a\nsesa-agent: no.\n") == ("refused", "no.")
    assert SCRIPT["outcome_of"](1, "", "Traceback: x")[0] == "crashes"
