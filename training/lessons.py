"""What a warm start teaches: moves of a scripted player, of chats in a file, or of a run.

A move is a prompt and the response that is learned. A player's prompts are those that training
shows, because `Dialogue` writes them, and its responses are in the format that training reads. The
puzzles are those of the pretraining split, which no run measures or trains on.
"""

import random
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from pathlib import Path

from ..agents.chat import ChatFormat, Messages
from ..agents.engines.base import Completion
from ..agents.prompts import SEPARATOR
from ..agents.tool_prompts import ToolPromptStyle
from ..configs.errors import SettingError, first_line
from ..configs.json_text import read_json
from ..environments import EnvError, close_env, fork
from ..environments.splits import puzzle_seeds
from ..environments.text_env import scripted_player, text_spec
from ..sampling.dialogue import Dialogue, Position
from ..sampling.replies import has_listed_actions
from ..sampling.trajectory import Task, TrajectoryTree

Move = tuple[tuple[int, ...], tuple[int, ...]]
"""Token ids of a prompt and of the response that is learned."""

NUM_PUZZLES = 100_000
"""Puzzles that a player is asked to play, in random order and again and again."""
MAX_EMPTY = 20
"""Puzzles without a single move after which a player is given up."""
WANDER_SHARE = 0.2
"""Share of turns in which another action is played than the one that is learned, so that lessons
show states off the player's path too."""
NUM_MIXED = 64
"""Moves that wait to be drawn at random, so that those of one episode are far apart."""
ROLES = ("system", "user", "assistant")


# ---- a scripted player ----


def check_player(dialogue: Dialogue, env_id: str) -> None:
    """Check that an environment has a player whose answers can be written for this model.

    Raises:
        SettingError: with the other sources of moves.
    """
    env = dialogue.make()
    has_player = scripted_player(env) is not None
    close_env(env)
    others = "Teach with --chats FILE.jsonl or --from RUN"
    if not has_player:
        raise SettingError(
            f"--env {env_id} has no scripted player to learn from. {others}, or give the "
            "environment a method scripted_action(self, rng)."
        )
    style = dialogue.style
    if isinstance(style, ToolPromptStyle) and style.call_format:
        raise SettingError(
            f"--env {env_id} has a scripted player that writes tool calls as text, but this model "
            f"has a format of its own ({style.call_format}). {others}."
        )


def played_moves(dialogue: Dialogue, env_id: str, rng: random.Random) -> Iterator[Move]:
    """Yield the moves of an environment's own player, puzzle after puzzle, without end.

    Args:
        dialogue: writes the prompts and plays the answers.
        env_id: the environment, which has a player (`check_player`).
        rng: chooses the puzzles; the player's random numbers come from it too.

    Raises:
        SettingError: if the player fails, answers with no action, or has no answers.
    """
    seeds, num_empty = puzzle_seeds("pretraining", NUM_PUZZLES), 0
    while True:
        task = Task(env_id, *dialogue.find_puzzles([rng.choice(seeds)]))
        try:
            moves = list(_episode(dialogue, task, rng))
        except EnvError as error:
            raise SettingError(
                f"The scripted player of {env_id} fails in puzzle {task.seed}: {error}."
            ) from error
        finally:
            dialogue.release()
        num_empty = 0 if moves else num_empty + 1
        if num_empty == MAX_EMPTY:
            raise SettingError(
                f"The scripted player of {env_id} had no answer in {MAX_EMPTY} puzzles. Mend its "
                "scripted_action(), or teach with --chats FILE.jsonl or --from RUN."
            )
        yield from moves


def _episode(dialogue: Dialogue, task: Task, rng: random.Random) -> Iterator[Move]:
    """Play a puzzle and yield the player's moves."""
    chat = chat_of(dialogue)
    position, is_over = dialogue.start(task), False
    while not is_over:
        answer = _answer(dialogue, position, rng)
        if answer is None:
            return
        played = _other_action(dialogue, position, rng) or answer
        text = dialogue.style.write_answer(played)
        completion = Completion(text, chat.response(text), (), "stop")
        if played == answer and dialogue.read(position, completion) is None:
            raise SettingError(
                f"The scripted player of {task.env_id} answered {answer[:60]!r} in puzzle "
                f"{task.seed}, which is no action. Mend its scripted_action()."
            )
        response = chat.response(dialogue.style.write_answer(answer))
        yield position.prompt_ids, (*response, *chat.end_of_turn)
        turn, position = dialogue.play(position, completion, in_place=True)
        is_over = turn.terminated or turn.truncated


def chat_of(dialogue: Dialogue) -> ChatFormat:
    """The chat format of a dialogue with a model that is trained."""
    assert isinstance(dialogue.chat, ChatFormat)
    return dialogue.chat


def _answer(dialogue: Dialogue, position: Position, rng: random.Random) -> str | None:
    """As many of the player's next actions as an answer may have; None if it knows none."""
    env, actions = position.env, list[str]()
    for _ in range(min(dialogue.style.actions_per_turn, position.actions_left)):
        if actions:  # the next one follows from where the last one leads
            env = fork(env) if env is position.env else env
            _, _, terminated, truncated, _ = env.step(actions[-1])
            if terminated or truncated:
                break
        play = scripted_player(env)
        action = None if play is None else play(rng)
        if action is None:
            break
        actions.append(action)
    if env is not position.env:
        close_env(env)
    return SEPARATOR.join(actions) or None


def _other_action(dialogue: Dialogue, position: Position, rng: random.Random) -> str | None:
    """Return a random action to play instead of the player's; mostly none."""
    if dialogue.max_turns == 1 or rng.random() >= WANDER_SHARE:
        return None
    if position.available:
        return rng.choice(position.available)
    spec = text_spec(position.env)
    names = spec.listed_actions() if spec and has_listed_actions(position.env) else []
    return rng.choice(names) if names else None


# ---- chats in a file ----


def read_chats(path: Path, chat: ChatFormat, max_tokens: int) -> list[Move]:
    """Read chats from a JSON Lines file, each `{"messages": [{"role": ..., "content": ...}]}`.

    Args:
        path: the file; empty lines are skipped.
        chat: the model's chat format.
        max_tokens: most tokens of a prompt and its response.

    Returns:
        A move for every message of the assistant; its prompt is all that comes before.

    Raises:
        SettingError: naming the file and the line that cannot be used.
    """
    moves: list[Move] = []
    try:
        with path.open(encoding="utf-8-sig") as file:
            for number, line in enumerate(file, 1):
                if line.strip():
                    moves += _moves_of_line(
                        f"--chats {path}: line {number}", line, chat, max_tokens
                    )
    except UnicodeDecodeError as error:
        raise SettingError(f"--chats {path} is not UTF-8 text. Save it as UTF-8.") from error
    except OSError as error:
        raise SettingError(f"--chats {path} cannot be read: {error.strerror}.") from error
    if not moves:
        raise SettingError(f"--chats {path} holds no chats. Write one in each line, as JSON.")
    return moves


def _moves_of_line(place: str, line: str, chat: ChatFormat, max_tokens: int) -> list[Move]:
    """The moves of a line; `place` names it in errors."""
    try:
        messages = _read_messages(line)
        moves: list[Move] = []
        for number, (role, text) in enumerate(messages):
            if role == "assistant":
                prompt = chat.conversation(messages[:number])
                moves.append((prompt, (*chat.response(text), *chat.end_of_turn)))
        longest = max(len(prompt) + len(response) for prompt, response in moves)
        if longest > max_tokens:
            raise ValueError(f"has {longest} tokens, more than the {max_tokens} that fit")
    except SettingError as error:  # of the chat template
        raise SettingError(f"{place}: {error}") from error
    except ValueError as error:
        raise SettingError(f"{place} {first_line(error)}. Mend or delete it.") from error
    return moves


def _read_messages(line: str) -> Messages:
    """Read role and content of each message.

    Raises:
        ValueError: with what is wrong, to follow the name of the line.
    """
    try:
        chat = read_json(line)
    except ValueError:
        raise ValueError("is not JSON") from None
    given = chat.get("messages") if isinstance(chat, dict) else None
    if not isinstance(given, list) or not all(isinstance(message, dict) for message in given):
        raise ValueError('is not of the form {"messages": [{"role": ..., "content": ...}]}')
    messages = [(message.get("role"), message.get("content")) for message in given]
    before = ""
    for number, (role, text) in enumerate(messages, 1):
        if role not in ROLES:
            raise ValueError(f"has the role {role!r} in message {number}, not {', '.join(ROLES)}")
        if not isinstance(text, str) or not text.strip():
            raise ValueError(f"has no text in message {number}")
        if role == "assistant" and before != "user":
            raise ValueError(f"has an assistant in message {number} who answers no user")
        before = role
    if "assistant" not in dict(messages):
        raise ValueError("has no message of the assistant, who is to learn")
    return messages


# ---- a run ----


def successful_moves(trees: Iterable[TrajectoryTree]) -> list[Move]:
    """Return the turns of all trajectories that succeeded, each different one once.

    Prompts are the plain ones, whatever a response was sampled under. Unreadable responses on the
    way to a success are left out.
    """
    moves: dict[Move, None] = {}
    for tree in trees:
        for trajectory in tree.trajectories() if len(tree) else ():
            if trajectory.success:
                readable = (turn for turn in trajectory.turns if turn.action is not None)
                moves |= {(turn.prompt_ids, turn.response_ids): None for turn in readable}
    return list(moves)


# ---- order ----


def repeated(moves: Sequence[Move], rng: random.Random) -> Iterator[Move]:
    """Yield moves in random order, again and again."""
    while True:
        yield from rng.sample(moves, len(moves))


def mixed(moves: Iterator[Move], rng: random.Random, num_mixed: int = NUM_MIXED) -> Iterator[Move]:
    """Return an endless sequence in another order: each time one of the next `num_mixed` moves.

    The first ones are drawn at once, so that a player that cannot teach fails early.
    """
    waiting = list(islice(moves, num_mixed))

    def draw() -> Iterator[Move]:
        for move in moves:
            place = rng.randrange(num_mixed)
            yield waiting[place]
            waiting[place] = move

    return draw()
