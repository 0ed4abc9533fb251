"""Two-stage sampling (paper, Algorithm 1), for tasks settled by a single answer.

Stage I samples G short sketches in sequence; each prompt shows the earlier ones:
s_j ~ pi(. | x, s_1, ..., s_{j-1}). Stage II samples one solution per sketch in parallel, from x and
that sketch: y_j ~ pi(. | x, s_j). Only pi(y_j | x) is trained; sketches are not.

A duplicate sketch is sampled again a bounded number of times, then dropped, so a group may be
smaller than G. A prompt over the length limit loses its earliest sketches in Stage I, or the last
words of its sketch in Stage II; both are counted.
"""

from collections.abc import Sequence
from dataclasses import replace

from ..agents.engines.base import Completion
from ..agents.parsing import read_sketch
from ..agents.prompts import SKETCH_STOP
from ..configs.schema import SamplingConfig
from .dialogue import check_single_answer
from .player import Player, together
from .proposer import Decision, fill
from .trajectory import ROOT, Task, TrajectoryTree


async def sample_two_stage(
    tasks: Sequence[Task], player: Player, cfg: SamplingConfig
) -> list[TrajectoryTree]:
    """Sample `cfg.num_proposals` sketches for every task and a solution along each.

    All tasks are sampled together. A solution is a child of the root and keeps its `sketch`.
    Proposals are numbered from 1, since none is sampled under x alone.

    Raises:
        SettingError: if an episode has several turns.
    """
    check_single_answer("two_stage", player.dialogue.max_turns)
    trees = [TrajectoryTree(task) for task in tasks]
    starts = await player.each([player.open(tree) for tree in trees])
    drafts = [
        (tree, Decision(start, cfg.num_proposals))
        for tree, start in zip(trees, starts, strict=True)
        if start
    ]
    await together(*(draft_sketches(draft, own, cfg) for (_, draft), own in player.split(drafts)))
    await together(*(_solve(tree, draft, own) for (tree, draft), own in player.split(drafts)))
    return trees


async def draft_sketches(draft: Decision, player: Player, cfg: SamplingConfig) -> None:
    """Stage I: fill a draft's `actions` with up to `width` distinct sketches.

    Args:
        draft: a task's first decision, filled in place.
        player: samples the sketches.
        cfg: `sketch_tokens`, `proposer` and `max_retries`.
    """

    async def read(completion: Completion) -> str | None:
        sketch = read_sketch(completion.text)
        known = {earlier.casefold(): earlier for earlier in draft.readable}
        return sketch and known.get(sketch.casefold(), sketch)

    same_prompt = cfg.proposer == "without_replacement"
    await fill(
        draft,
        player.with_params(stop=(SKETCH_STOP,), max_new_tokens=cfg.sketch_tokens),
        cfg,
        request=lambda: player.dialogue.sketch_prompt(
            draft.position, [] if same_prompt else draft.readable
        ),
        read=read,
    )


async def _solve(tree: TrajectoryTree, draft: Decision, player: Player) -> None:
    """Stage II: one solution per sketch; one under x alone if there is no sketch."""
    sketches = draft.readable or [""]
    requests = [player.dialogue.solve_prompt(draft.position, sketch) for sketch in sketches]
    completions = await together(*(player.ask(request.prompt_ids) for request in requests))
    tree.num_calls = draft.num_calls + len(completions)
    tree.num_duplicates = draft.num_duplicates
    tree.num_cut_prompts += draft.num_cut_prompts + sum(request.is_cut for request in requests)
    plays = [
        player.play(draft.position, completion, index if sketch else 0)
        for index, (sketch, completion) in enumerate(
            zip(sketches, completions, strict=True), start=1
        )
    ]
    played = await player.each(plays)
    for sketch, (turn, after) in zip(sketches, played, strict=True):
        tree.add(ROOT, replace(turn, sketch=sketch))
        player.dialogue.close(after)
    player.dialogue.close(draft.position)
