"""The recipes of the bundled models, on a few puzzles."""

import dataclasses

import pytest
import torch

from sesa_agent.agents.chat import ChatFormat
from sesa_agent.agents.model_folder import BUNDLED
from sesa_agent.agents.parsing import read_sketch
from sesa_agent.agents.policy import Policy
from sesa_agent.configs.load import env_names, load_config
from sesa_agent.environments import make_env
from sesa_agent.sampling.dialogue import Dialogue
from sesa_agent.sampling.trajectory import Task
from sesa_agent.training.pretraining.courses import ListCourse, MethodCourse
from sesa_agent.training.pretraining.players import METHOD_PLAYERS
from sesa_agent.training.pretraining.recipes import RECIPES, Recipe, pretrain
from sesa_agent.training.pretraining.tiny_model import build_tokenizer


def small(course):
    few = {"num_lists": 6} if isinstance(course, ListCourse) else {"num_puzzles": 3}
    return dataclasses.replace(course, batch_size=8, **few)


def brief(name: str, **changes) -> Recipe:
    """The recipe with all its courses, in a second or two."""
    recipe = RECIPES[name]
    courses = tuple(small(course) for course in recipe.courses)
    changes = {"steps": 12, "hidden_size": 32, "num_layers": 1, "courses": courses} | changes
    return dataclasses.replace(recipe, **changes)


@pytest.fixture(scope="module")
def answers_tokenizer():
    recipe = RECIPES["sesa-tiny-answers"]
    return build_tokenizer(recipe.phrases(recipe))


@pytest.mark.parametrize("name", BUNDLED)
def test_training_lowers_the_loss_and_writes_a_loadable_model(tmp_path, name):
    losses = []
    policy = pretrain(tmp_path, brief(name), lambda step, loss: losses.append((step, loss)))
    assert [step for step, _ in losses] == list(range(1, 13))
    assert losses[-1][1] < losses[0][1] - 0.5
    loaded = Policy.load(str(tmp_path))
    for key, weight in policy.model.state_dict().items():
        assert torch.equal(weight, loaded.model.state_dict()[key])


def test_a_recipe_makes_the_same_model_again_and_another_from_another_seed(tmp_path):
    recipe = brief("sesa-tiny-answers", steps=2)
    seeds = enumerate((0, 0, 1))
    models = [
        pretrain(tmp_path / str(number), dataclasses.replace(recipe, seed=seed)).model.state_dict()
        for number, seed in seeds
    ]
    same = [
        all(torch.equal(models[0][key], other[key]) for key in models[0]) for other in models[1:]
    ]
    assert same == [True, False]


@pytest.mark.parametrize("name", BUNDLED)
def test_every_environment_of_a_recipe_has_a_configuration(name):
    """`sesa-agent pretrain` measures the model with it."""
    known = {load_config(env).env.id for env in env_names()}
    assert {course.env_id for course in RECIPES[name].courses} <= known


@pytest.mark.parametrize("number", range(3))
def test_prompts_of_single_answers_are_short(answers_tokenizer, number):
    """The words of every request are single tokens, so that a small model can tell them apart."""
    course = RECIPES["sesa-tiny-answers"].courses[number]
    dialogue = Dialogue(
        lambda: make_env(course.env_id, **course.options), ChatFormat(answers_tokenizer), 1
    )
    start = dialogue.start(Task(course.env_id, 0))
    assert len(start.prompt_ids) < 60
    if isinstance(course, MethodCourse):
        sketch = next(iter(course.player.methods))
        request = dialogue.solve_prompt(start, sketch)
        assert len(request.prompt_ids) == len(start.prompt_ids) + 3  # "Do it this way", it, "."
        assert len(dialogue.sketch_prompt(start, []).prompt_ids) == len(start.prompt_ids) + 1
    else:
        request = dialogue.list_prompt(start, 16, [])
        assert len(request.prompt_ids) == len(start.prompt_ids) + 1


def test_every_method_is_one_token_and_reads_as_the_sketch_it_is(answers_tokenizer):
    courses = [c for c in RECIPES["sesa-tiny-answers"].courses if isinstance(c, MethodCourse)]
    assert len(courses) == len(METHOD_PLAYERS)
    for method in (method for course in courses for method in course.player.methods):
        assert len(answers_tokenizer.encode(method, add_special_tokens=False)) == 1
        assert read_sketch(f"<sketch>{method}</sketch>") == method


def test_every_place_is_three_tokens_at_most(answers_tokenizer):
    [course] = [c for c in RECIPES["sesa-tiny-answers"].courses if isinstance(c, ListCourse)]
    for place in course.answers:
        assert len(answers_tokenizer.encode(place, add_special_tokens=False)) <= 3, place
