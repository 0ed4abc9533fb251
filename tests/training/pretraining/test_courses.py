"""What the bundled models are shown is what the courses say."""

import hashlib
import random
from collections import Counter
from dataclasses import replace
from typing import Any

import pytest

from sesa_agent.agents.chat import ChatFormat
from sesa_agent.agents.engines.base import Completion
from sesa_agent.agents.parsing import read_answer, read_sketch
from sesa_agent.environments import make_env
from sesa_agent.environments.splits import puzzle_seeds
from sesa_agent.sampling.dialogue import Dialogue
from sesa_agent.sampling.trajectory import Task
from sesa_agent.training.pretraining.courses import GameCourse, ListCourse, MethodCourse
from sesa_agent.training.pretraining.players import PLAYERS, MethodPlayer
from sesa_agent.training.pretraining.recipes import RECIPES
from sesa_agent.training.pretraining.tiny_model import build_tokenizer

GAMES: Any = RECIPES["sesa-tiny"].courses
ANSWERS: Any = RECIPES["sesa-tiny-answers"].courses
LISTS, *METHODS = ANSWERS
CHATS = [
    ChatFormat(build_tokenizer(recipe.phrases(recipe)))
    for recipe in (RECIPES["sesa-tiny"], RECIPES["sesa-tiny-answers"])
]
TAIL = CHATS[0].tail
END = CHATS[0].tokenizer.eos_token
NAMES = [course.env_id for course in GAMES]


def chat_of(course):
    """The chat format of the model that learns such a course."""
    return CHATS[0 if isinstance(course, GameCourse) else 1]


def read(course, seed=0):
    """Prompt and learnt part of every example, as texts."""
    chat = chat_of(course)
    for example in course.examples(chat, random.Random(seed)):
        ids = example.token_ids
        assert 0 < example.start < len(ids)
        parts = ids[: example.start], ids[example.start :]
        yield tuple(map(chat.tokenizer.decode, parts))


def starts(course, count=1):
    """Dialogue and first positions of the course's first puzzles."""
    dialogue = Dialogue(
        lambda: make_env(course.env_id, **course.options),
        chat_of(course),
        max_turns=course.max_turns,
    )
    seeds = dialogue.find_puzzles(puzzle_seeds("pretraining", count))
    return dialogue, [dialogue.start(Task(course.env_id, seed)) for seed in seeds]


def written(text):
    return Completion(text, (), (), "stop")


def text_of(prompt_ids, course):
    return chat_of(course).tokenizer.decode(prompt_ids)


def answer_of(text):
    return text.rpartition("<answer>")[2].partition("</answer>")[0]


@pytest.mark.parametrize("course", [*GAMES, LISTS, *METHODS], ids=lambda course: course.env_id)
def test_examples_follow_from_their_random_numbers(course):
    few = {"num_lists": 3} if isinstance(course, ListCourse) else {"num_puzzles": 3}
    shown = replace(course, **few).examples
    examples = [list(shown(chat_of(course), random.Random(seed))) for seed in (0, 0, 1)]
    assert examples[0] == examples[1] != examples[2]


@pytest.mark.parametrize(
    ("courses", "expected"), [(GAMES, "cdcb4fec60f98b43"), (ANSWERS, "7ec0f4ca46b071be")]
)
def test_courses_are_shown_as_the_shipped_model_saw_them(courses, expected, monkeypatch):
    """Else `sesa-agent pretrain` would make another model: change the digest with the model.

    The shipped ones were made when splits differed by seed only, from each seed's own puzzle.
    """
    monkeypatch.setattr(Dialogue, "find_puzzles", lambda dialogue, seeds: list(seeds))
    assert digest_of(courses).startswith(expected)


@pytest.mark.parametrize(
    ("courses", "expected"), [(GAMES, "2209747463cc49d4"), (ANSWERS, "531364363ba7b60e")]
)
def test_courses_show_no_puzzle_of_validation_or_test(courses, expected):
    assert digest_of(courses).startswith(expected)


def digest_of(courses):
    digest, rng = hashlib.sha256(), random.Random(0)
    for course in courses:
        few = {"num_lists": 20} if isinstance(course, ListCourse) else {"num_puzzles": 20}
        for example in replace(course, **few).examples(chat_of(course), rng):
            digest.update(repr((example.token_ids, example.start)).encode())
    return digest.hexdigest()


# ---- games ----


@pytest.mark.parametrize("course", GAMES, ids=NAMES)
def test_moves_are_learnt_after_their_prompt_and_lists_from_their_first_item(course):
    num_lists = 0
    for prompt, learnt in read(replace(course, num_puzzles=6)):
        assert learnt.endswith("</answer>" + END)
        if "Already proposed: " not in prompt:
            assert learnt.startswith("<answer>") and prompt.endswith(TAIL)
            continue
        num_lists += 1
        listed, _, answer = learnt.partition(". Propose a different answer." + TAIL)
        assert prompt.endswith("\nAlready proposed: ")
        assert answer_of(answer) not in listed.split("; ")
        assert len(set(listed.split("; "))) == len(listed.split("; ")) < course.num_proposals
    assert num_lists > 0


@pytest.mark.parametrize("course", GAMES, ids=NAMES)
def test_half_of_the_examples_ask_for_another_proposal(course):
    prompts = [prompt for prompt, _ in read(replace(course, num_puzzles=60))]
    share = sum("Already proposed" in prompt for prompt in prompts) / len(prompts)
    assert share == pytest.approx(course.list_share, abs=0.1)


def test_a_player_wanders_through_the_states_of_its_puzzles():
    course = replace(GAMES[0], num_puzzles=1)
    dialogue, [start] = starts(course)
    prompts = [prompt for prompt, _ in read(course) if "Already proposed" not in prompt]
    assert prompts[0] == text_of(start.prompt_ids, course)
    assert 1 < len(prompts) == len(set(prompts)) <= dialogue.max_turns


def test_games_are_played_by_their_own_players():
    assert {course.env_id for course in GAMES if isinstance(course, GameCourse)} == set(PLAYERS)


# ---- lists ----


def lists(**fields):
    course = ListCourse("sesa/PathExploration-v0", {}, "abcde", (8, 4, 2, 1, 1), 4, 100, 8)
    return replace(course, **fields)


def test_a_list_is_shown_by_its_first_item_another_one_and_in_one_reply():
    course = lists()
    dialogue, [start] = starts(course)
    examples = list(read(course))
    assert len(examples) == 3 * course.num_lists
    for first, another, whole in zip(*[iter(examples)] * 3, strict=True):
        names = whole[1].removesuffix("</answer>" + END).removeprefix("<answer>")
        names = names.split("</answer><answer>")
        assert len(set(names)) == course.list_length and set(names) <= set(course.answers)
        question = dialogue.list_prompt(start, course.list_length, []).prompt_ids
        assert whole[0] == text_of(question, course)
        assert first == (text_of(start.prompt_ids, course), f"<answer>{names[0]}</answer>{END}")
        shown, _, answer = another[1].partition(". Propose a different answer." + TAIL)
        earlier = shown.split("; ")
        assert names[: len(earlier)] == earlier and 1 <= len(earlier) < course.list_length
        assert answer == f"<answer>{names[len(earlier)]}</answer>{END}"


def test_first_items_come_by_weight_and_second_ones_from_what_is_left():
    course = lists(num_lists=2000)
    wholes = [learnt for _, learnt in list(read(course))[2::3]]
    firsts, seconds = Counter(), Counter()
    for whole in wholes:
        first, second = whole.split("<answer>")[1][:1], whole.split("<answer>")[2][:1]
        firsts[first] += 1
        seconds[second] += first == "a"
    for name, weight in zip(course.answers, course.weights, strict=True):
        assert firsts[name] / len(wholes) == pytest.approx(weight / 16, abs=0.03)
        if name != "a":
            assert seconds[name] / firsts["a"] == pytest.approx(weight / 8, abs=0.04)


def test_every_listed_place_can_be_read_by_its_game():
    dialogue, [start] = starts(LISTS)
    for name in LISTS.answers:
        assert dialogue.read(start, written(f"<answer>{name}</answer>")) == name


# ---- methods ----


def methods(env_id="sesa/Math-v0", **fields):
    ways = {way: lambda game, rng, way=way: f"{sum(game.terms)} {way}" for way in ("x", "y", "z")}
    course = MethodCourse(env_id, {}, MethodPlayer(ways, 0.8), 300, 8, sketch_share=1.0)
    return replace(course, **fields)


def test_a_puzzle_is_shown_by_a_plain_answer_one_along_a_sketch_and_a_sketch():
    course = methods()
    dialogue, positions = starts(course, course.num_puzzles)
    examples = list(read(course))
    assert len(examples) == 3 * course.num_puzzles
    for position, (plain, along, sketch) in zip(
        positions, zip(*[iter(examples)] * 3, strict=True), strict=True
    ):
        total = str(sum(position.env.unwrapped.game.terms))  # pyright: ignore
        assert plain[0] == text_of(position.prompt_ids, course)
        way = along[0].removesuffix("." + TAIL).rpartition("Do it this way: ")[2]
        assert along[0] == text_of(dialogue.solve_prompt(position, way).prompt_ids, course)
        assert along[1] == f"<answer>{total} {way}</answer>{END}"
        own = read_sketch(sketch[1].removesuffix(END))
        shown = sketch[0].partition("Already outlined: ")[2].partition(". Outline")[0]
        earlier = shown.split("; ") if shown else []
        assert own in course.player.methods and own not in earlier
        prompt = dialogue.sketch_prompt(position, earlier).prompt_ids
        assert sketch[0] == text_of(prompt, course)


def test_plain_answers_keep_to_the_habit_and_sketches_ask_for_all_ways_alike():
    course = methods(num_puzzles=900)
    examples = list(read(course))
    plain = Counter(learnt.partition("</answer>")[0][-1] for _, learnt in examples[::3])
    along = Counter(learnt.partition("</answer>")[0][-1] for _, learnt in examples[1::3])
    places = Counter(prompt.count("; ") + ("Already" in prompt) for prompt, _ in examples[2::3])
    assert plain["x"] / 900 == pytest.approx(0.8, abs=0.04)
    for count in (*along.values(), *places.values()):
        assert count / 900 == pytest.approx(1 / 3, abs=0.06)


def test_sketches_are_shown_for_some_puzzles():
    prompts = [prompt for prompt, _ in read(methods(num_puzzles=400, sketch_share=0.25))]
    num_sketches = sum("Outline" in prompt for prompt in prompts)
    assert len(prompts) == 2 * 400 + num_sketches
    assert num_sketches / 400 == pytest.approx(0.25, abs=0.08)


@pytest.mark.parametrize("course", METHODS, ids=lambda course: course.env_id)
def test_the_answers_of_the_methods_can_be_read_by_their_game(course):
    dialogue, positions = starts(course, 20)
    examples = list(read(replace(course, num_puzzles=20, sketch_share=1.0)))
    for position, triple in zip(positions, zip(*[iter(examples)] * 3, strict=True), strict=True):
        for _, learnt in triple[:2]:
            assert dialogue.read(position, written(learnt.removesuffix(END))) is not None
        assert read_answer(triple[2][1], thinking=False) is None
