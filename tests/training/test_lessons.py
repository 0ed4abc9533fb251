"""What a warm start teaches: prompts of training, readable answers, assistants alone, successes."""

import json
import random
from itertools import islice

import pytest

from sesa_agent.agents.chat import ChatFormat
from sesa_agent.configs.errors import SettingError
from sesa_agent.environments import TextEnv, make_env
from sesa_agent.sampling.dialogue import Dialogue
from sesa_agent.sampling.trajectory import ROOT, Task
from sesa_agent.training.lessons import (
    check_player,
    mixed,
    played_moves,
    read_chats,
    repeated,
    successful_moves,
)

from ..helpers.strategies import make_tree, make_turn
from ..helpers.tiny_models import FORGETFUL, byte_tokenizer, chatml_tokenizer
from ..helpers.toy_game import CorridorGame

CHAT = ChatFormat(chatml_tokenizer())
END = "<|im_end|>"


class GuidedGame(CorridorGame):
    """A corridor with a player who knows the way."""

    def scripted_action(self, rng):
        return "Right"

    def fork(self):
        twin = type(self)()
        twin.place = self.place
        return twin


def dialogue(game: type[CorridorGame] = GuidedGame, chat=CHAT, **settings):
    return Dialogue(lambda: TextEnv(game(), 4), chat, **{"max_turns": 4, **settings})


def texts(moves, chat=CHAT):
    return [tuple(map(chat.tokenizer.decode, move)) for move in moves]


def first_moves(dialogue, count, env_id="Corridor-v0", seed=0):
    return list(islice(played_moves(dialogue, env_id, random.Random(seed)), count))


# ---- a scripted player ----


@pytest.mark.parametrize("thinking", [False, True])
def test_a_player_is_shown_the_prompt_of_training_and_writes_the_answer_that_is_read(thinking):
    player = dialogue(thinking=thinking)
    prompt, response = first_moves(player, 1)[0]
    assert prompt == player.start(Task("Corridor-v0", 0)).prompt_ids
    thoughts = "<think></think>" if thinking else ""
    assert CHAT.tokenizer.decode(response) == f"{thoughts}<answer>Right</answer>{END}"


def test_later_prompts_show_what_training_would_show():
    """With `model.context=full` a prompt continues the one before it, without a second end."""
    moves = texts(first_moves(dialogue(window=4), 40))
    later = [prompt for prompt, _ in moves if "Turn 2:" in prompt]
    assert later and all(f"</answer>{END}\n<|im_start|>user\nReward: 0" in p for p in later)


def test_now_and_then_another_action_is_played_but_never_learned():
    player = dialogue(window=4)
    moves = texts(first_moves(player, 300))
    assert {response for _, response in moves} == {f"<answer>Right</answer>{END}"}
    strays = sum("<answer>Up</answer>" in prompt for prompt, _ in moves)
    assert 0 < strays < 100


def test_an_answer_has_as_many_actions_as_a_turn():
    answers = [response for _, response in texts(first_moves(dialogue(actions_per_turn=3), 5))]
    assert answers[0] == f"<answer>Right || Right</answer>{END}"  # the second one wins


@pytest.mark.parametrize(
    ("env_id", "settings"),
    [
        ("sesa/Sokoban-v0", {}),
        ("sesa/FrozenLake-v0", {}),
        ("sesa/Countdown-v0", {"max_turns": 1, "layout": "short"}),
        ("sesa/Sudoku-v0", {"actions_per_turn": 2}),
        ("sesa/PathExploration-v0", {"max_turns": 1}),
        ("sesa/Math-v0", {"max_turns": 1}),
        ("sesa/SqlQuestions-v0", {"window": 10}),
    ],
)
def test_every_own_environment_can_be_taught(env_id, settings):
    player = Dialogue(lambda: make_env(env_id), CHAT, **settings)
    check_player(player, env_id)
    moves = first_moves(player, 12, env_id)
    assert all(text.endswith(f"</answer>{END}") for _, text in texts(moves))
    assert moves == first_moves(player, 12, env_id) != first_moves(player, 12, env_id, seed=1)


class Mute(GuidedGame):
    def scripted_action(self, rng):
        return None


class Mumbling(GuidedGame):
    def scripted_action(self, rng):
        return "over there"


@pytest.mark.parametrize(
    ("game", "said"),
    [(Mute, "had no answer in 20 puzzles"), (Mumbling, "'over there' in puzzle .* no action")],
)
def test_a_player_that_cannot_teach_is_refused(game, said):
    with pytest.raises(SettingError, match=said):
        first_moves(dialogue(game), 1)


def test_an_environment_without_a_player_is_refused_with_what_else_can_teach():
    with pytest.raises(SettingError, match="no scripted player .* --chats .* --from .* scripted_"):
        check_player(dialogue(CorridorGame), "Corridor-v0")


# ---- chats ----


def write(path, *chats):
    lines = [chat if isinstance(chat, str) else json.dumps({"messages": chat}) for chat in chats]
    path.write_text("\n".join(lines), encoding="utf-8")
    return path


def says(role, content):
    return {"role": role, "content": content}


HELLO = [says("user", "Hello"), says("assistant", "Hi")]


def test_only_messages_of_the_assistant_are_learned_each_after_all_before_it(tmp_path):
    file = write(
        tmp_path / "chats.jsonl",
        [says("system", "Be brief."), *HELLO, says("user", "Bye"), says("assistant", "See you")],
        "",
        HELLO,
    )
    first, second, third = texts(read_chats(file, CHAT, 1000))
    head = "<|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user\nHello<|im_end|>\n"
    assert first == (f"{head}<|im_start|>assistant\n", f"Hi{END}")
    turn = f"Hi{END}\n<|im_start|>user\nBye{END}\n<|im_start|>assistant\n"
    assert second == (first[0] + turn, f"See you{END}")
    assert third[1] == f"Hi{END}"


def test_control_tokens_in_a_chat_are_plain_text(tmp_path):
    file = write(tmp_path / "chats.jsonl", [says("user", END), says("assistant", f"a{END}b")])
    (end,) = CHAT.end_of_turn
    [(_, response)] = read_chats(file, CHAT, 1000)
    assert response.index(end) == len(response) - 1


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("{", "is not JSON"),
        ("[]", "is not of the form"),
        ('{"messages": ["Hi"]}', "is not of the form"),
        ('{"prompt": "Hi"}', "is not of the form"),
        ([says("user", "Hi")], "has no message of the assistant"),
        ([says("assistant", "Hi")], "has an assistant in message 1 who answers no user"),
        ([says("user", "Hi"), says("tool", "3")], "has the role 'tool' in message 2"),
        ([says("user", "Hi"), says("assistant", None)], "has no text in message 2"),
        ([says("user", "Hi " * 500), says("assistant", "Hi")], "more than the 1000 that fit"),
    ],
)
def test_a_bad_line_is_named_with_its_file_and_number(tmp_path, line, said):
    file = write(tmp_path / "chats.jsonl", HELLO, line)
    with pytest.raises(SettingError) as refusal:
        read_chats(file, CHAT, 1000)
    assert str(refusal.value).startswith(f"--chats {file}: line 2 ")
    assert said in str(refusal.value)


def test_a_template_that_refuses_a_chat_is_named_with_the_line(tmp_path):
    template = (
        "{% if messages | length > 2 %}{{ raise_exception('too long') }}{% endif %}" + FORGETFUL
    )
    chat = ChatFormat(byte_tokenizer(template, ("<|im_start|>", END), eos=END))
    file = write(tmp_path / "chats.jsonl", [*HELLO, *HELLO])
    with pytest.raises(SettingError, match="line 1: .*too long"):
        read_chats(file, chat, 1000)


@pytest.mark.parametrize(
    ("content", "said"), [(b"", "holds no chats"), (b"\xff", "not UTF-8"), (None, "No such file")]
)
def test_a_file_that_cannot_be_used_is_named(tmp_path, content, said):
    file = tmp_path / "chats.jsonl"
    if content is not None:
        file.write_bytes(content)
    with pytest.raises(SettingError, match=f"--chats {file} .*{said}"):
        read_chats(file, CHAT, 1000)


# ---- a run ----


def turn(token, **fields):
    return make_turn(prompt_ids=(1, token), response_ids=(token,), **fields)


def test_of_a_run_only_successful_trajectories_are_learned():
    """Turn 10 leads to a success (11) and a failure (12); 13 fails; 14 wins after nonsense."""
    tree = make_tree(
        [ROOT, 0, 0, ROOT, ROOT, 4],
        [
            turn(10),
            turn(11, success=True, terminated=True),
            turn(12, terminated=True),
            turn(13, truncated=True),
            turn(14, action=None),
            turn(15, success=True, terminated=True),
        ],
    )
    moves = successful_moves([tree, make_tree([]), tree])
    assert moves == [((1, n), (n,)) for n in (10, 11, 15)]


# ---- order ----


def test_given_moves_come_again_and_again_in_new_orders():
    moves = [((n,), (n,)) for n in range(8)]
    drawn = list(islice(repeated(moves, random.Random(0)), 24))
    rounds = [drawn[start : start + 8] for start in (0, 8, 16)]
    assert all(sorted(one) == moves for one in rounds)
    assert rounds[0] != rounds[1] != rounds[2]


def test_mixing_loses_no_move_and_separates_neighbours():
    moves = [((n,), (n,)) for n in range(1000)]
    drawn = list(mixed(iter(moves), random.Random(0), num_mixed=64))
    assert len(drawn) == len(set(drawn)) == 1000 - 64
    gaps = [
        abs(one[0][0] - next_one[0][0]) for one, next_one in zip(drawn, drawn[1:], strict=False)
    ]
    assert sum(gaps) / len(gaps) > 20
