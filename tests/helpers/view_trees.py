"""Small and large trees for the tests of the tree explorer."""

import random
from typing import Any

from sesa_agent.sampling.trajectory import ROOT, DuplicateProposal, Task, TrajectoryTree, Turn

START = "#####\n#_PXO\n#####"
BESIDE = "#####\n#P_XO\n#####"
SOLVED = "#####\n#__P√\n#####"
SOKOBAN = "sesa/Sokoban-v0"


def turn(action: str | None, before: str, after: str, plain: float | None, drawn: float, **fields):
    """A turn with one response token; log-probabilities under both prompts."""
    defaults: dict[str, Any] = {"reward": 0.0, "terminated": False, "truncated": False}
    return Turn(
        observation=before,
        prompt_ids=(5, 6, 7),
        response_ids=(8,),
        sampling_logprobs=(drawn,),
        response=f"<answer>{action}</answer>",
        action=action,
        next_observation=after,
        plain_logprob=plain,
        **{**defaults, **fields},
    )


def seen_tree(plain: bool = True) -> TrajectoryTree:
    """Left, then Up fails and Down wins; Wait changes nothing, a second Left is a duplicate."""
    won = {"reward": 1.0, "terminated": True, "success": True, "proposal_index": 1}
    grown = TrajectoryTree(Task(SOKOBAN, 17), num_calls=5, num_duplicates=1)
    first = grown.add(ROOT, turn("Left", START, BESIDE, -0.2 if plain else None, -0.2))
    merged = {"proposal_index": 1, "merged_into": ROOT}
    grown.add(ROOT, turn("Wait", START, START, -2.0 if plain else None, -0.1, **merged))
    grown.add(first, turn("Up", BESIDE, BESIDE, -0.3 if plain else None, -0.3, truncated=True))
    grown.add(first, turn("Down", BESIDE, SOLVED, -3.0 if plain else None, -0.5, **won))
    logprob = -0.2 if plain else None
    grown.duplicates.append(
        DuplicateProposal(ROOT, 2, (8,), (-0.7,), "<answer>left</answer>", "Left", logprob)
    )
    return grown


def large_tree(num_turns: int) -> TrajectoryTree:
    """Four proposals at every decision, on random boards; one turn in fifty wins."""
    numbers = random.Random(0)
    grown = TrajectoryTree(Task(SOKOBAN, 1), num_calls=num_turns)
    boards, frontier = {ROOT: _board(numbers)}, [ROOT]
    while len(grown) < num_turns:
        parent = frontier.pop(0 if numbers.random() < 0.7 else -1)
        for index in range(4):
            luck = numbers.random() if len(frontier) > 4 else 1.0
            after, action = _board(numbers), numbers.choice(("Up", "Down", "Left", "Right"))
            node = grown.add(
                parent,
                turn(
                    action,
                    boards[parent],
                    after,
                    -2 * numbers.random(),
                    -numbers.random(),
                    reward=float(luck < 0.02),
                    terminated=luck < 0.02,
                    success=luck < 0.02,
                    proposal_index=index,
                    merged_into=ROOT if 0.02 <= luck < 0.3 else None,
                ),
            )
            boards[node] = after
            if luck >= 0.3:
                frontier.append(node)
    return grown


def _board(numbers: random.Random) -> str:
    rows = ["".join(numbers.choice("____OX#") for _ in range(6)) for _ in range(6)]
    return "\n".join(("########", *(f"#{row}#" for row in rows), "########"))
