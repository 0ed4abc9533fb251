"""A hand-made game of ALFWorld: two places, a mug to move from a desk to a shelf."""

import json
from pathlib import Path

DESK, SHELF = "desk_bar__minus_00_dot_10", "shelf_bar__plus_00_dot_20"
MUG = "mug_bar__plus_00_dot_30"
PROBLEM = f"""
(define (problem tiny)
 (:domain alfred)
 (:objects
    agent1 - agent
    start here there - location
    {DESK} {SHELF} - receptacle
    {MUG} - object
    DeskType ShelfType - rtype
    MugType - otype
 )
 (:init
    (atLocation agent1 start)
    (receptacleAtLocation {DESK} here) (receptacleAtLocation {SHELF} there)
    (receptacleType {DESK} DeskType) (receptacleType {SHELF} ShelfType)
    (objectType {MUG} MugType) (pickupable {MUG})
    (canContain DeskType MugType) (canContain ShelfType MugType)
    (objectAtLocation {MUG} here) (inReceptacle {MUG} {DESK})
    (= (total-cost) 0)
 )
 (:goal (inReceptacle {MUG} {SHELF}))
 (:metric minimize (total-cost))
)
"""


def write_game(folder: Path, name: str = "train", goal: str = "put a mug on the shelf") -> Path:
    """Write the game as `alfworld-download` would, and return its file."""
    import alfworld  # pyright: ignore[reportMissingImports]

    data = Path(str(alfworld.__file__)).parent / "data"
    grammar = (data / "alfred.twl2").read_text(encoding="utf-8").replace("UNKNOWN GOAL", goal)
    game = {
        "pddl_domain": (data / "alfred.pddl").read_text(encoding="utf-8"),
        "grammar": grammar,
        "pddl_problem": PROBLEM,
        "solvable": True,
    }
    place = folder / "json_2.1.1" / name / f"pick_and_place_simple-{goal[:9]}" / "trial_0"
    place.mkdir(parents=True)
    path = place / "game.tw-pddl"
    path.write_text(json.dumps(game), encoding="utf-8")
    kind = json.dumps({"task_type": "pick_and_place_simple"})
    path.with_name("traj_data.json").write_text(kind, encoding="utf-8")
    return path
