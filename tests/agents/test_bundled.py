"""The bundled models match their cards: small, well-formed, peaked, mostly wrong."""

import json
import random
from functools import partial

import numpy as np
import pytest
import torch

from sesa_agent.agents.chat import ChatFormat
from sesa_agent.agents.engines.base import SamplingParams
from sesa_agent.agents.engines.hf import HFEngine
from sesa_agent.agents.model_folder import BUNDLED, bundled_model_folder
from sesa_agent.agents.policy import Policy
from sesa_agent.configs.load import load_config
from sesa_agent.environments import make_env
from sesa_agent.environments.splits import puzzle_seeds
from sesa_agent.evaluation.evaluate import evaluate
from sesa_agent.sampling.dialogue import Dialogue
from sesa_agent.sampling.player import Player, together
from sesa_agent.sampling.proposer import Decision, propose
from sesa_agent.sampling.trajectory import Task
from sesa_agent.training.pretraining.courses import ListCourse, MethodCourse
from sesa_agent.training.pretraining.players import PLAYERS
from sesa_agent.training.pretraining.recipes import RECIPES
from sesa_agent.training.pretraining.tiny_model import build_model, build_tokenizer
from sesa_agent.training.setup import build_dialogue, sampling_params

from ..helpers.model_families import make_rows

WORDS = {
    "sesa-tiny": [
        *("#", "_", "O", "√", "X", "P", "S", "G", "Up", "Down", "Left", "Right"),
        *("<answer>", "</answer>", "<think>", "</think>", " || "),
    ],
    "sesa-tiny-answers": [
        *("<answer>", "</answer>", "<sketch>", "</sketch>", "; ", "+", "-", "=", "1 2 "),
        *("rows from the top", "left to right", "Hunan Province – ", "Changsha City – "),
    ],
}


@pytest.fixture(scope="module", params=BUNDLED)
def name(request) -> str:
    return request.param


@pytest.fixture(scope="module")
def policy(name) -> Policy:
    return Policy.load(name)


@pytest.fixture(scope="module")
def games() -> Policy:
    return Policy.load("sesa-tiny")


def test_there_is_a_recipe_for_every_model():
    assert list(RECIPES)[: len(BUNDLED)] == list(BUNDLED)


def test_any_text_survives_the_tokenizer(policy):
    tokenizer = policy.tokenizer
    for text in ("#√_P\n", "<answer>Up || Left</answer>", "żółć 𝄞 \t\r\n <|end|>", "a – b", ""):
        ids = tokenizer.encode(text, add_special_tokens=False)
        assert tokenizer.decode(ids) == text


def test_cells_words_tags_and_digits_are_single_tokens(name, policy):
    for word in [*WORDS[name], *"0123456789"]:
        assert len(policy.tokenizer.encode(word, add_special_tokens=False)) == 1, word


def test_the_shipped_tokenizer_is_the_one_that_the_recipe_builds(name, policy):
    recipe = RECIPES[name]
    assert build_tokenizer(recipe.phrases(recipe)).get_vocab() == policy.tokenizer.get_vocab()


def test_the_shipped_model_is_of_the_size_and_kind_that_the_recipe_builds(name):
    recipe = RECIPES[name]
    tokenizer = build_tokenizer(recipe.phrases(recipe))
    model = build_model(tokenizer, recipe.hidden_size, recipe.num_layers, recipe.positions)
    config = bundled_model_folder(name) / "config.json"
    shipped = json.loads(config.read_text(encoding="utf-8"))
    assert shipped["architectures"] == [type(model).__name__]
    assert shipped["vocab_size"] == len(tokenizer)
    for key in ("hidden_size", "num_hidden_layers", "n_embd", "n_layer", "n_positions"):
        assert shipped.get(key) == model.config.to_dict().get(key), key


def test_it_is_under_a_million_weights_and_its_template_only_appends(policy):
    assert sum(p.numel() for p in policy.parameters()) < 1_000_000
    ChatFormat(policy.tokenizer).check_appends()


def longest_request(course, dialogue: Dialogue) -> int:
    """Tokens of the longest request: all sketches, listed answers or moves are in the prompt."""
    start = dialogue.start(Task(course.env_id, 0))
    if isinstance(course, MethodCourse):
        request = dialogue.sketch_prompt(start, list(course.player.methods))
    elif isinstance(course, ListCourse):
        request = dialogue.proposal_prompt(start, course.answers[:24])
    else:
        game = start.env.unwrapped.game  # pyright: ignore[reportAttributeAccessIssue]
        moves = PLAYERS[course.env_id].choose_distinct(game, random.Random(0), 16)
        request = dialogue.proposal_prompt(start, moves)
    return len(request.prompt_ids)


@pytest.mark.parametrize("name", BUNDLED)
def test_it_has_room_for_its_longest_prompts_and_a_reply(name):
    recipe = RECIPES[name]
    tokenizer = build_tokenizer(recipe.phrases(recipe))
    model = build_model(tokenizer, recipe.hidden_size, recipe.num_layers, recipe.positions)
    for course in recipe.courses:
        make = partial(make_env, course.env_id, **course.options)
        dialogue = Dialogue(make, ChatFormat(tokenizer), course.max_turns)
        room = model.config.max_position_embeddings - longest_request(course, dialogue)
        assert room >= 64, course.env_id


@pytest.mark.parametrize("positions", ["rotary", "learned"])
def test_sampled_and_scored_logprobs_agree_for_both_kinds_of_positions(positions):
    """Prompts of different lengths in one batch: padded left in sampling, right in scoring."""
    tokenizer = build_tokenizer(["Up", "Down"])
    model = build_model(tokenizer, hidden_size=32, num_layers=2, positions=positions)
    with torch.no_grad():
        for weight in model.parameters():
            weight.mul_(5 if weight.ndim > 1 else 1)  # far from uniform
    policy = Policy(model, tokenizer)
    prompts = [[5, 6, 7, 8, 9, 10, 11, 12], [5, 6, 7], [9]]
    sampled = HFEngine(policy).generate(prompts, SamplingParams(max_new_tokens=6, seed=1))
    rows = [
        ([*prompt, *completion.token_ids], len(prompt))
        for prompt, completion in zip(prompts, sampled, strict=True)
    ]
    with torch.no_grad():
        logprobs, _ = policy.logprobs(make_rows(rows))
    for row, ((ids, first), completion) in enumerate(zip(rows, sampled, strict=True)):
        torch.testing.assert_close(
            logprobs[row, first : len(ids)], torch.tensor(completion.logprobs), atol=1e-4, rtol=0
        )


@pytest.mark.parametrize(
    ("env", "low", "high"),
    [("sokoban", 0.05, 0.15), ("countdown", 0.10, 0.20), ("frozen_lake", 0.15, 0.25)],
)
def test_base_success_in_games_is_like_the_papers(games, env, low, high):
    cfg = load_config(env)
    result = evaluate(
        HFEngine(games),
        build_dialogue(cfg, games),
        cfg.env.id,
        puzzle_seeds("test", 400),
        sampling_params(cfg.engine, 0.5),
    )
    # The card's interval, from 2000 puzzles, lies within the bounds; 400 can be .04 off.
    assert low - 0.04 < result.success_rate < high + 0.04
    assert result.readable_rate > 0.99


def test_asked_for_another_move_it_gives_another(games):
    cfg = load_config("sokoban")
    dialogue = build_dialogue(cfg, games)
    decisions = [
        Decision(dialogue.start(Task(cfg.env.id, seed)), width=3)
        for seed in puzzle_seeds("test", 100)
    ]
    params = sampling_params(cfg.engine)
    player = Player(HFEngine(games), dialogue, params, np.random.default_rng(0))
    player.drive(together(*(propose(one, player, cfg.sampling) for one in decisions)))
    num_proposals = sum(len(decision.readable) for decision in decisions)
    num_duplicates = sum(decision.num_duplicates for decision in decisions)
    assert num_proposals == 300
    assert num_duplicates < 0.05 * num_proposals
