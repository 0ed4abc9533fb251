"""Small trees for tests: by hand (`make_turn`, `make_tree`) and at random (`trees`)."""

from hypothesis import strategies as st

from sesa_agent.sampling.trajectory import ROOT, Task, TrajectoryTree, Turn

TASK = Task("sesa/Test-v0", 0)
FIRST_SAMPLED = 100
"""Smallest number of a sampled token in `trees`."""


def make_turn(**fields) -> Turn:
    """A turn with two prompt tokens and one response token unless `fields` say otherwise."""
    response_ids = fields.setdefault("response_ids", (7,))
    defaults = {
        "observation": "",
        "prompt_ids": (1, 2),
        "sampling_logprobs": (-1.0,) * len(response_ids),
        "response": "",
        "action": "up",
        "reward": 0.0,
        "terminated": False,
        "truncated": False,
    }
    return Turn(**{**defaults, **fields})


def make_tree(parents: list[int], turns: list[Turn] | None = None) -> TrajectoryTree:
    turns = [make_turn() for _ in parents] if turns is None else turns
    return TrajectoryTree(TASK, list(parents), list(turns))


@st.composite
def trees(draw, max_turns: int = 10, contexts: tuple[str, ...] = ("state", "full")):
    """A random tree; in context `full` a prompt continues its parent's tokens, else it does not.

    Every sampled token has a number of its own, from `FIRST_SAMPLED` on, so that a test can find it
    again in a batch. Prompts are made of small numbers.
    """
    context = draw(st.sampled_from(contexts))
    tree = make_tree([])
    num_sampled = 0
    for node in range(draw(st.integers(1, max_turns))):
        parent = draw(st.integers(ROOT, node - 1))
        length = draw(st.integers(1, 4))
        response_ids = tuple(
            range(FIRST_SAMPLED + num_sampled, FIRST_SAMPLED + num_sampled + length)
        )
        num_sampled += length
        prompt_ids = tuple(draw(st.lists(st.integers(1, 50), min_size=1, max_size=3)))
        if context == "full" and parent != ROOT:
            above = tree.turns[parent]
            prompt_ids = above.prompt_ids + above.response_ids + prompt_ids
        logprobs = st.floats(-3.0, -0.1)
        turn = make_turn(
            prompt_ids=prompt_ids,
            response_ids=response_ids,
            sampling_logprobs=tuple(draw(logprobs) for _ in response_ids),
            action=draw(st.sampled_from(["up", None])),
            reward=draw(st.sampled_from([0.0, 0.0, 1.0, -0.1])),
            success=draw(st.booleans()),
            merged_into=draw(st.sampled_from([None, None, None, ROOT])),
            num_draws=draw(st.integers(1, 3)),
            proposal_index=draw(st.integers(0, 2)),
        )
        tree.add(parent, turn)
    return tree
