"""A warm start ends by its rule, and its loss is the mean over the tokens of responses alone."""

import itertools
from dataclasses import dataclass

import pytest
import torch

from sesa_agent.agents.policy import Policy
from sesa_agent.configs.schema import OptimConfig
from sesa_agent.training.update import build_optimizer
from sesa_agent.training.warm_start import LESSON_MOVES, Lesson, StopRule, give_lessons, teach

OPTIM = OptimConfig(lr=1e-2, warmup_steps=1)
MOVES = [((1, 2, 3), (4, 5)), ((1, 2, 3), (6,)), ((2, 3), (4, 5, 6))]


@dataclass(frozen=True)
class Seen:
    readable_rate: float
    answer_entropy: float | None = 3.0


@pytest.fixture
def policy(llama):
    return Policy.load(str(llama), device="cpu")


def by_hand(policy, moves):
    """-log p of every token of the responses, from the plain model, one row at a time."""
    losses = []
    for prompt, response in moves:
        with torch.no_grad():
            logits = policy.model(input_ids=torch.tensor([[*prompt, *response]])).logits[0]
        logprobs = logits.log_softmax(-1)
        for place, token in enumerate(response, len(prompt)):
            losses.append(-float(logprobs[place - 1, token]))
    return losses


RULE = StopRule(readable_rate=0.9, min_entropy=0.5, max_lessons=10)


@pytest.mark.parametrize(
    ("lessons", "seen", "reason"),
    [
        (2, Seen(0.5), ""),
        (2, Seen(0.8999), ""),
        (2, Seen(0.9), "90% of the answers are readable (90% is enough)"),
        (2, Seen(1.0, 0.1), "100% of the answers are readable"),
        (2, Seen(0.5, 0.5), ""),
        (2, Seen(0.5, 0.49), "answers hardly vary: 0.49 nats each, below 0.5, with 50% of them"),
        (2, Seen(0.5, None), ""),
        (9, Seen(0.5), ""),
        (10, Seen(0.5), "10 lessons are the most, with 50% of the answers readable"),
        (10, Seen(0.95), "95% of the answers are readable"),
    ],
)
def test_the_rule_says_why_it_ends(lessons, seen, reason):
    found = RULE.reason(lessons, seen)
    assert found.startswith(reason) and bool(found) == bool(reason)


def test_the_loss_is_the_mean_over_the_tokens_of_responses(policy):
    expected = by_hand(policy, MOVES)
    assert len(expected) == 2 + 1 + 3
    loss = teach(policy, build_optimizer(policy, OPTIM), MOVES, OPTIM)
    assert loss == pytest.approx(sum(expected) / len(expected), abs=1e-5)


def test_the_gradient_is_that_of_the_loss_in_parts_and_with_equal_rows(policy):
    moves = [*MOVES, MOVES[0], MOVES[0]]
    rows = [torch.tensor([[*prompt, *response]]) for prompt, response in moves]
    num_tokens = sum(len(response) for _, response in moves)
    for row, (prompt, response) in zip(rows, moves, strict=True):
        logprobs = policy.model(input_ids=row).logits[0].log_softmax(-1)
        start = len(prompt)
        chosen = logprobs[start - 1 : -1].gather(1, torch.tensor(response)[:, None])
        (-chosen.sum() / num_tokens).backward()
    weight = policy.model.get_output_embeddings().weight
    expected, found = weight.grad.clone(), []
    policy.model.zero_grad()
    optimizer = torch.optim.SGD(policy.parameters(), lr=0.0)
    optimizer.register_step_pre_hook(lambda *_: found.append(weight.grad.clone()))
    teach(policy, optimizer, moves, OptimConfig(max_grad_norm=1e9, max_batch_tokens=6))
    torch.testing.assert_close(found[0], expected, atol=1e-6, rtol=1e-5)


def test_lessons_make_what_is_taught_likelier(policy):
    before = sum(by_hand(policy, MOVES))
    rule = StopRule(max_lessons=6)
    given = give_lessons(policy, itertools.cycle(MOVES), OPTIM, rule, lambda: Seen(0.0))
    assert given == (6, "6 lessons are the most, with 0% of the answers readable")
    assert sum(by_hand(policy, MOVES)) < 0.7 * before


def test_bfloat16_learns_by_float32_copies(llama):
    policy = Policy.load(str(llama), dtype="bfloat16", device="cpu")
    before = sum(by_hand(policy, MOVES))
    optim = OptimConfig(lr=1e-3, warmup_steps=1)
    give_lessons(policy, itertools.cycle(MOVES), optim, StopRule(max_lessons=8), lambda: Seen(0.0))
    assert sum(by_hand(policy, MOVES)) < before


def test_it_is_measured_every_few_lessons_and_stops_by_what_is_seen(policy):
    seen = iter([Seen(0.3), Seen(0.96)])
    taken, lessons = [], list[Lesson]()

    def moves():
        for move in itertools.cycle(MOVES):
            taken.append(move)
            yield move

    def watch(lesson):
        lessons.append(lesson)
        return False

    number, reason = give_lessons(policy, moves(), OPTIM, StopRule(), lambda: next(seen), watch)
    assert (number, reason[:3]) == (4, "96%")
    assert len(taken) == 4 * LESSON_MOVES
    assert [lesson.number for lesson in lessons] == [1, 2, 3, 4]
    assert [lesson.measured and lesson.measured.readable_rate for lesson in lessons] == [
        *(None, None),
        *(0.3, 0.3),
    ]


def test_who_watches_can_stop_it_at_once(policy):
    def never():
        raise AssertionError("measured after a stop")

    stop_at_2 = lambda lesson: lesson.number == 2  # noqa: E731
    moves = itertools.cycle(MOVES)
    assert give_lessons(policy, moves, OPTIM, StopRule(), never, stop_at_2) == (2, "")


def test_gradients_that_are_not_finite_stop_before_the_weights(policy):
    with torch.no_grad():
        policy.model.get_output_embeddings().weight[4] = float("inf")
    before = policy.model.get_input_embeddings().weight.clone()
    with pytest.raises(FloatingPointError, match="gradients"):
        teach(policy, build_optimizer(policy, OPTIM), MOVES, OPTIM)
    assert torch.equal(policy.model.get_input_embeddings().weight, before)
