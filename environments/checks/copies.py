"""Checks of what trajectory trees rely on: seeds, forks, state keys, noise.

Forks are compared with an episode replayed from its seed. That separates a fork that lost part of
the state from a fork that is still tied to the original.
"""

import random
from collections.abc import Hashable, Iterator, Sequence

from ..text_env import fork_kind, has_state_key, is_deterministic, puzzle_content
from .fork_cost import FORK_KINDS
from .parts import fingerprint, listed_attributes
from .subject import (
    Finding,
    Outcome,
    Subject,
    TextEnvironment,
    fork_env,
    passed,
    play,
    read_state_key,
    require,
    reset,
    skipped,
    step,
)

NUM_DEPTHS = 3
"""Forks are made after 0, 1 and 2 actions."""
NUM_ACTIONS = 10
"""Number of actions over which two futures are compared."""
NUM_LONG = 50
"""Number of actions in which what forks share must not change."""
NUM_PLAYS = 4
"""Random plays of a puzzle, in search of states with the same key."""
SEEDING_ADVICE = (
    "Draw every random number from self.np_random, and call super().reset(seed=seed) first."
)
COPY_ADVICE = (
    "Copy everything that step() changes, including the random generator; share nothing that "
    "changes, such as a module-level generator."
)
KEY_ADVICE = (
    "Put into the key everything that can change and affects what is shown or happens next."
)


def check_seeding(subject: Subject) -> Finding:
    """The same seed and actions give the same episode."""
    env = subject.env
    for seed in subject.seeds:
        texts = random.Random(seed).choices(subject.actions, k=20)
        first, first_outcomes = reset(env, seed), play(env, texts)
        reset(env)
        second, second_outcomes = reset(env, seed), play(env, texts)
        require(
            first == second and first_outcomes == second_outcomes,
            f"reset(seed={seed}) with the same actions gave two different episodes.",
            SEEDING_ADVICE,
        )
    starts = {reset(env, seed) for seed in range(20)}
    told = f"equal episodes; 20 seeds gave {len(starts)} different starts"
    return passed(f"{told}; {_check_contents(env, len(starts))}")


def _check_contents(env: TextEnvironment, num_starts: int) -> str:
    """Check `puzzle_content`, and say what decides the split of a puzzle."""
    read = puzzle_content(env)
    if read is None:
        by_seed = "splits differ by seed only, as it has no puzzle_content(seed)"
        return "splits are by the first observation" if num_starts > 1 else by_seed
    contents = [[read(seed) for seed in seeds] for seeds in (range(20), range(19, -1, -1))]
    require(
        contents[0] == contents[1][::-1],
        "puzzle_content(seed) gave two different values for one seed.",
        "It must depend on the seed alone.",
    )
    if None in contents[0]:
        return "splits are by seed"
    return f"puzzle_content gave {len(set(contents[0]))} contents"


def check_forks(subject: Subject) -> Finding:
    """A fork has the original's future: its state and random generator were copied."""
    num_forks = 0
    for prefix, future, seed in _places(subject):
        expected = _replay(subject.env, seed, [*prefix, *future])[len(prefix) :]
        _replay(subject.env, seed, prefix)
        twin = fork_env(subject.env)
        outcomes = play(twin, future)
        _require_equal(f"After {len(prefix)} actions a fork", "the original", outcomes, expected)
        num_forks += 1
    kind = FORK_KINDS[fork_kind(subject.env)]
    return passed(f"{num_forks} forks by {kind} had the original's future")


def check_siblings(subject: Subject) -> Finding:
    """Stepping or resetting a fork leaves the original unchanged, and the other way round."""
    env, num_forks = subject.env, 0
    _require_unchanged(subject)
    for prefix, future, seed in _places(subject):
        expected = _replay(env, seed, [*prefix, *future])[len(prefix) :]
        _replay(env, seed, prefix)
        twin, sibling = fork_env(env), fork_env(env)
        play(twin, future[::-1])
        require(
            fork_env(twin).reset()[0] == fork_env(twin).reset()[0],
            "Two forks started different puzzles at reset(): they share a random generator.",
            COPY_ADVICE,
        )
        reset(twin)
        what = f"After {len(prefix)} actions, stepping a fork changed the original, which"
        _require_equal(what, "its replay", play(env, future), expected)
        what = f"After {len(prefix)} actions, stepping the original changed its fork, which"
        _require_equal(what, "its replay", play(sibling, future), expected)
        num_forks += 2
    return passed(f"{num_forks} forks and their originals did not affect each other")


def _require_unchanged(subject: Subject) -> None:
    """Require that no step and no reset changes what `shared_on_fork` lists, if anything."""
    env = subject.env
    for seed in subject.seeds:
        reset(env, seed)
        shared = listed_attributes(env)
        if not shared:
            return
        before = {name: fingerprint(value) for name, value in shared.items()}
        play(fork_env(env), random.Random(seed).choices(subject.actions, k=NUM_LONG))
        play(env, random.Random(-seed).choices(subject.actions, k=NUM_LONG))
        reset(env)
        for name, value in shared.items():
            require(
                fingerprint(value) == before[name],
                f"shared_on_fork lists {name!r}, which reset() or step() changed.",
                "Take it from the list: forks share what is listed.",
            )


def _places(subject: Subject) -> list[tuple[list[str], list[str], int]]:
    """List where to fork: the actions before, the actions after, the seed."""
    places = []
    for seed in subject.seeds:
        rng = random.Random(seed)
        for depth in range(NUM_DEPTHS):
            texts = rng.choices(subject.actions, k=depth + NUM_ACTIONS)
            if len(_replay(subject.env, seed, texts)) > depth:  # not over before the fork
                places.append((texts[:depth], texts[depth:], seed))
    return places


def _replay(env: TextEnvironment, seed: int, texts: Sequence[str]) -> list[Outcome]:
    reset(env, seed)
    return play(env, texts)


def _require_equal(
    name: str, other: str, outcomes: Sequence[Outcome], expected: Sequence[Outcome]
) -> None:
    for outcome, right in zip(outcomes, expected, strict=False):
        require(outcome == right, f"{name} gave {outcome}; {other} gave {right}.", COPY_ADVICE)


def check_state_key(subject: Subject) -> Finding:
    """Equal states have equal keys, and states of a puzzle with equal keys are equal."""
    if not has_state_key(subject.env):
        return skipped("no state_key(): equal states cannot be merged")
    num_states = num_repeated = 0
    for seed in subject.seeds:
        visited: dict[Hashable, tuple[str, TextEnvironment | None]] = {}
        for observation, live in _visited_states(subject, seed):
            key = read_state_key(subject.env)
            num_states += 1
            if key not in visited:
                visited[key] = observation, live
                continue
            num_repeated += 1
            require(
                observation == visited[key][0],
                f"Two states with the state_key() {key!r} showed {visited[key][0]!r} and "
                f"{observation!r}.",
                KEY_ADVICE,
            )
            if is_deterministic(subject.env):
                _require_one_future(key, visited[key][1], live, subject.actions)
    return passed(f"{num_states} states visited, {num_repeated} of them repeated")


def _visited_states(subject: Subject, seed: int) -> Iterator[tuple[str, TextEnvironment | None]]:
    """Play a puzzle at random several times; yield each observation, and a fork unless it ended."""
    env, rng = subject.env, random.Random(seed)
    for _ in range(NUM_PLAYS):
        observation, is_end = reset(env, seed), False
        for _ in range(NUM_ACTIONS):
            twin = fork_env(env)
            key, copied = read_state_key(env), read_state_key(twin)
            require(
                key == copied,
                f"A fork must have the original's state_key(), got {copied!r}, not {key!r}.",
                "Make the key of what the state holds, not of the object.",
            )
            yield observation, None if is_end else twin
            if is_end:
                break
            outcome = step(env, rng.choice(subject.actions))
            observation, is_end = outcome.observation, outcome.is_end


def _require_one_future(
    key: Hashable,
    first: TextEnvironment | None,
    second: TextEnvironment | None,
    actions: Sequence[str],
) -> None:
    """Play the same text in forks of both states and compare; skipped if either is over."""
    if first is None or second is None:
        return
    text = random.Random(0).choice(actions)
    one, other = step(fork_env(first), text), step(fork_env(second), text)
    require(
        one._replace(truncated=False) == other._replace(truncated=False),
        f"From two states with the state_key() {key!r}, {text!r} led to {one} and {other}.",
        KEY_ADVICE,
    )


def check_noise(subject: Subject) -> Finding:
    """`is_deterministic` tells the truth, and the noise of a fork follows its seed."""
    env, num_parted = subject.env, 0
    deterministic = is_deterministic(env)
    for prefix, future, seed in _places(subject):
        _replay(env, seed, prefix)
        first, same, other = (play(fork_env(env, noise), future) for noise in (1, 1, 2))
        require(
            first == same,
            "Two forks with the same noise seed gave different futures.",
            "Draw all noise from self.np_random.",
        )
        num_parted += first != other
        require(
            not (deterministic and first != other),
            "is_deterministic is True, but forks with different noise gave different futures.",
            "Set is_deterministic = False, or training will credit actions for chance.",
        )
    if deterministic:
        return passed("deterministic, as is_deterministic says")
    if num_parted:
        return passed("noisy; the noise of a fork follows its seed")
    return passed("no noise found; if there is none, set is_deterministic = True")
