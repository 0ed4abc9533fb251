"""The recipe of the bundled model, on a few puzzles."""

import dataclasses
import random

import torch

from sesa_agent.agents.bundled import build_tokenizer
from sesa_agent.agents.chat import ChatFormat
from sesa_agent.training import pretrain as recipe
from sesa_agent.training.pretrain import COURSES, PretrainConfig, phrases, play_course


def small(course, num_puzzles=3):
    return dataclasses.replace(course, num_puzzles=num_puzzles, batch_size=8)


def test_examples_are_prompts_with_answers_and_lists_are_learnt_from_their_first_item():
    tokenizer = build_tokenizer(phrases())
    chat = ChatFormat(tokenizer)
    for course in COURSES:
        for example in play_course(small(course), chat, 0.5, random.Random(0)):
            learnt = tokenizer.decode(example.token_ids[example.start :])
            text = tokenizer.decode(example.token_ids)
            assert learnt.endswith("</answer><|end|>")
            if "Already proposed" in text:
                assert text.endswith("Already proposed: " + learnt)
            else:
                assert learnt.startswith("<answer>")


def test_listed_proposals_differ_from_the_answer():
    tokenizer = build_tokenizer(phrases())
    for example in play_course(small(COURSES[0], 10), ChatFormat(tokenizer), 0.9, random.Random(0)):
        text = tokenizer.decode(example.token_ids)
        if "Already proposed" in text:
            listed = text.split("Already proposed: ")[1].split(". Propose")[0].split("; ")
            answer = text.split("<answer>")[-1].split("</answer>")[0]
            assert answer not in listed


def test_training_lowers_the_loss_and_writes_a_loadable_model(tmp_path, monkeypatch):
    monkeypatch.setattr(recipe, "COURSES", tuple(small(course) for course in COURSES))
    losses = []
    cfg = PretrainConfig(steps=12, hidden_size=32, num_layers=1)
    policy = recipe.pretrain(tmp_path, cfg, lambda step, loss: losses.append(loss))
    assert losses[-1] < losses[0] - 0.5
    loaded = recipe.Policy.load(str(tmp_path))
    for name, weight in policy.model.state_dict().items():
        assert torch.equal(weight, loaded.model.state_dict()[name])
