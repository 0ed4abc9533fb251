import itertools
import math
from collections import Counter
from dataclasses import replace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from sesa_agent.agents.engines import load_engine
from sesa_agent.agents.engines.base import Completion, SamplingParams
from sesa_agent.agents.engines.hf import HFEngine
from sesa_agent.agents.engines.token_sampling import keep_top_p, without_excluded
from sesa_agent.configs.schema import EngineConfig

from ...helpers.model_families import ARCHITECTURES, make_rows, random_policy, table_policy

PROMPTS = [[5, 6, 7], [9] * 17, [3, 1, 4, 1, 5, 9, 2, 6], [8], [7, 7], [200, 100, 50, 25]]


@pytest.fixture(scope="module", params=ARCHITECTURES)
def policy(request):
    return random_policy(request.param)


def token_ids(completions):
    return [completion.token_ids for completion in completions]


# ---- a transformer ----


def test_sampled_logprobs_are_the_policys_under_the_same_prompt(policy):
    params = SamplingParams(temperature=0.7, max_new_tokens=12, seed=3)
    completions = HFEngine(policy).generate(PROMPTS, params)
    rows = [
        ([*prompt, *completion.token_ids], len(prompt))
        for prompt, completion in zip(PROMPTS, completions, strict=True)
    ]
    scorer = type(policy)(policy.model, policy.tokenizer, temperature=0.7)
    with torch.no_grad():
        logprobs, _ = scorer.logprobs(make_rows(rows, policy.tokenizer.pad_token_id))
    for row, (prompt, completion) in enumerate(zip(PROMPTS, completions, strict=True)):
        ours = logprobs[row, len(prompt) : len(prompt) + len(completion.token_ids)]
        assert completion.logprobs == pytest.approx(ours.tolist(), abs=1e-5)
        assert completion.raw_logprobs == pytest.approx(completion.logprobs, abs=1e-12)


def test_a_very_low_temperature_samples_the_greedy_response_of_transformers(policy):
    params = SamplingParams(temperature=1e-5, max_new_tokens=10)
    completions = HFEngine(policy).generate(PROMPTS, params)
    for prompt, completion in zip(PROMPTS, completions, strict=True):
        expected = policy.model.generate(
            torch.tensor([prompt]),
            attention_mask=torch.ones(1, len(prompt), dtype=torch.long),
            do_sample=False,
            max_new_tokens=10,
        )
        assert completion.token_ids == tuple(expected[0, len(prompt) :].tolist())


def test_one_seed_gives_one_set_of_completions_and_another_seed_another(policy):
    engine, params = HFEngine(policy), SamplingParams(max_new_tokens=8, seed=1)
    first = engine.generate(PROMPTS, params)
    assert engine.generate(PROMPTS, params) == first
    other = engine.generate(PROMPTS, replace(params, seed=2))
    assert all(a != b for a, b in zip(token_ids(first), token_ids(other), strict=True))


def test_equal_prompts_of_one_call_are_sampled_independently(policy):
    completions = HFEngine(policy).generate([[5, 6]] * 8, SamplingParams(max_new_tokens=8))
    assert len(set(token_ids(completions))) == 8


def test_equal_prompts_are_prefilled_once_and_the_samples_stay_the_same(policy):
    params, seen = SamplingParams(max_new_tokens=6, seed=4), []
    hook = policy.model.register_forward_pre_hook(
        lambda *call: seen.append(call[2]["input_ids"].shape), with_kwargs=True
    )
    together = HFEngine(policy).generate([PROMPTS[0], PROMPTS[4], PROMPTS[0]], params)
    hook.remove()
    assert seen[0] == (2, 3) and seen[1][0] <= 3
    # The third row, with its own random numbers, beside a prompt of another wording.
    apart = HFEngine(policy).generate([PROMPTS[1], PROMPTS[4], PROMPTS[0]], params)
    assert token_ids(together)[1:] == token_ids(apart)[1:]
    assert together[2].logprobs == pytest.approx(apart[2].logprobs, abs=1e-5)


@pytest.mark.parametrize("max_batch_tokens", [1, 40, 70])
def test_a_row_does_not_depend_on_the_rows_beside_it(policy, max_batch_tokens):
    params = SamplingParams(max_new_tokens=12, seed=5)
    together = HFEngine(policy).generate(PROMPTS, params)
    apart = HFEngine(policy, max_batch_tokens).generate(PROMPTS, params)
    assert token_ids(apart) == token_ids(together)
    for a, b in zip(apart, together, strict=True):
        assert a.logprobs == pytest.approx(b.logprobs, abs=1e-5)


@given(
    sizes=st.lists(st.tuples(st.integers(1, 50), st.integers(1, 4)), min_size=1, max_size=20),
    new_tokens=st.integers(1, 20),
    max_batch_tokens=st.integers(1, 300),
)
def test_batches_hold_each_row_once_and_keep_the_limit(sizes, new_tokens, max_batch_tokens):
    engine = HFEngine(table_policy([[1.0]], "a"), max_batch_tokens)
    lengths, counts = zip(*sizes, strict=True)
    batches = engine._batches([[0] * length for length in lengths], counts, new_tokens)
    assert sorted(row for batch in batches for row in batch) == list(range(len(lengths)))
    for batch in batches:
        num_rows = sum(counts[row] for row in batch)
        padded = num_rows * (max(lengths[row] for row in batch) + new_tokens)
        assert len(batch) == 1 or padded <= max_batch_tokens


def test_usage_counts_responses_and_tokens(policy):
    engine, params = HFEngine(policy), SamplingParams(max_new_tokens=4)
    completions = engine.generate(PROMPTS, params) + engine.generate(PROMPTS[:1], params)
    assert engine.usage.calls == 7
    assert engine.usage.prompt_tokens == sum(map(len, PROMPTS)) + 3
    assert engine.usage.response_tokens == sum(len(ids) for ids in token_ids(completions))


def test_no_prompts_give_no_completions(policy):
    assert HFEngine(policy).generate([], SamplingParams()) == []


def test_the_engine_samples_with_the_loaded_weights():
    old, new = table_policy([[1.0, 0.0]] * 2, "ab"), table_policy([[0.0, 1.0]] * 2, "ab")
    engine = load_engine(old, EngineConfig(max_batch_tokens=100))
    assert engine.generate([[0]], SamplingParams(max_new_tokens=2))[0].text == "aa"
    engine.load_weights(new)
    assert engine.generate([[0]], SamplingParams(max_new_tokens=2))[0].text == "bb"


@pytest.fixture
def lengths_read(policy):
    """(rows, tokens) of every forward pass."""
    seen: list[tuple[int, int]] = []
    hook = policy.model.register_forward_pre_hook(
        lambda *call: seen.append(tuple(call[2]["input_ids"].shape)), with_kwargs=True
    )
    yield seen
    hook.remove()


def test_repeated_prompts_come_from_the_cache_and_the_samples_stay_the_same(policy, lengths_read):
    params = SamplingParams(max_new_tokens=6, seed=1)
    again = replace(params, seed=2)
    engine = HFEngine(policy)
    first = engine.generate(PROMPTS, params, [[]] * len(PROMPTS))
    rows = [4, 0, 2, 2]  # some of them, in another order
    prompts, excluded = [PROMPTS[row] for row in rows], [[first[row]] for row in rows]
    for _ in range(2):  # what is sampled in between leaves no trace
        lengths_read.clear()
        second = engine.generate(prompts, again, excluded)
        assert max(width for _, width in lengths_read) == 1
        afresh = HFEngine(policy).generate(prompts, again, excluded)
        assert token_ids(second) == token_ids(afresh)
        for a, b in zip(second, afresh, strict=True):
            assert a.logprobs == pytest.approx(b.logprobs, abs=1e-5)


def test_new_weights_sleep_or_other_prompts_empty_the_cache(policy, lengths_read):
    engine, params = HFEngine(policy), SamplingParams(max_new_tokens=2)
    ways = (
        lambda: engine.load_weights(policy),
        engine.sleep,
        lambda: engine.generate(PROMPTS[2:3], params, [[]]),
    )
    for change in ways:
        engine.generate(PROMPTS[:2], params, [[], []])
        change()
        lengths_read.clear()
        engine.generate(PROMPTS[1:2], params, [[]])
        assert lengths_read[0] == (1, len(PROMPTS[1]))


def test_weights_changed_in_place_empty_the_cache():
    policy = random_policy("llama")
    engine, params = HFEngine(policy), SamplingParams(max_new_tokens=4, seed=1)
    before = engine.generate(PROMPTS, params)
    with torch.no_grad():
        for weight in policy.parameters():
            weight.mul_(1.5)
    after = engine.generate(PROMPTS, params)
    assert after == HFEngine(policy).generate(PROMPTS, params) != before


@pytest.mark.parametrize("has_exclusions", [True, False])
def test_prompts_that_extend_cached_ones_reuse_the_cache_and_the_samples_stay_the_same(
    policy, lengths_read, has_exclusions
):
    """The turns of trees and of episodes in context `full`: none is read twice."""

    def excluded(prompts):
        return [[]] * len(prompts) if has_exclusions else None

    params = SamplingParams(max_new_tokens=6, seed=1)
    engine, prompts = HFEngine(policy), [tuple(prompt) for prompt in PROMPTS]
    said = engine.generate(prompts, params, excluded(prompts))
    for turn in range(3):
        rows = [row for row in (3, 0, 0, 1, 5) if row < len(prompts)]  # one goes on in two ways
        told = [(10 + turn, 20 + place)[: 1 + place % 2] for place in range(len(rows))]
        prompts = [
            (*prompts[row], *said[row].token_ids, *words)
            for row, words in zip(rows, told, strict=True)
        ]
        lengths_read.clear()
        said = engine.generate(prompts, params, excluded(prompts))
        assert lengths_read[0][1] <= params.max_new_tokens + 2
        afresh = HFEngine(policy).generate(prompts, params, excluded(prompts))
        assert token_ids(said) == token_ids(afresh)
        for a, b in zip(said, afresh, strict=True):
            assert a.logprobs == pytest.approx(b.logprobs, abs=1e-5)


# ---- the end of a response ----


def test_a_response_ends_at_a_stop_string_at_the_end_token_or_at_its_length():
    table = [[0.4, 0.4, 0.2]] * 3
    engine = HFEngine(table_policy(table, "ab$", eos_token_id=2))
    params = SamplingParams(max_new_tokens=6, stop=("bab", "aa"))
    completions = engine.generate([[0]] * 300, params)
    assert Counter(c.finish_reason for c in completions).keys() == {"stop", "eos", "length"}
    for completion in completions:
        letters = "".join("ab$"[token] for token in completion.token_ids)
        ends = [
            end for end in range(1, len(letters) + 1) if letters[:end].endswith(("bab", "aa", "$"))
        ]
        assert ends == ([] if completion.finish_reason == "length" else [len(letters)])
        assert completion.text == letters.rstrip("$")
        assert (completion.finish_reason == "eos") == letters.endswith("$")
        if completion.finish_reason == "length":
            assert len(letters) == 6


def test_every_end_token_of_the_models_generation_settings_ends_a_response():
    policy = table_policy([[0.0, 0.0, 1.0]] * 3, "ab$", eos_token_id=1)
    policy.model.generation_config = type(policy.model.generation_config)(eos_token_id=[0, 2])
    completion = HFEngine(policy).generate([[0]], SamplingParams(max_new_tokens=5))[0]
    assert (completion.token_ids, completion.finish_reason) == ((2,), "eos")


# ---- the distribution that is sampled from ----


def draw_at_every_hundredth(monkeypatch, probabilities, **params):
    """Tokens sampled at the uniform numbers .005, .015, ... .995, each worth a hundredth."""
    grid = (torch.arange(100, dtype=torch.float64)[:, None] + 0.5) / 100
    monkeypatch.setattr(torch, "rand", lambda *size, **_: grid)
    policy = table_policy([probabilities] * len(probabilities), "abcdef")
    completions = HFEngine(policy).generate([[0]] * 100, SamplingParams(max_new_tokens=1, **params))
    for completion in completions:
        yield completion.token_ids[0], completion.logprobs[0]


@pytest.mark.parametrize(
    "params, expected",
    [
        ({}, [0.1, 0.2, 0.7]),
        ({"temperature": 0.5}, [1 / 54, 4 / 54, 49 / 54]),
        ({"temperature": 1e6}, [1 / 3, 1 / 3, 1 / 3]),
        ({"top_p": 0.75}, [0, 2 / 9, 7 / 9]),
        ({"top_p": 0.65}, [0, 0, 1]),
        ({"top_p": 0.95}, [0.1, 0.2, 0.7]),
        ({"temperature": 0.5, "top_p": 0.95}, [0, 4 / 53, 49 / 53]),
    ],
)
def test_tokens_are_sampled_with_the_frequencies_of_temperature_and_top_p(
    monkeypatch, params, expected
):
    draws = list(draw_at_every_hundredth(monkeypatch, [0.1, 0.2, 0.7], **params))
    counts = Counter(token for token, _ in draws)
    for token, probability in enumerate(expected):
        assert abs(counts[token] - 100 * probability) <= 1
    for token, logprob in draws:
        assert logprob == pytest.approx(math.log(expected[token]), abs=1e-5)


def test_a_token_without_probability_is_never_sampled(monkeypatch):
    draws = draw_at_every_hundredth(monkeypatch, [0.0, 0.5, 0.0, 0.5, 0.0])
    assert Counter(token for token, _ in draws) == {1: 50, 3: 50}


def test_top_p_keeps_the_fewest_tokens_with_that_probability():
    probs = torch.tensor([[0.5, 0.3, 0.2], [0.2, 0.2, 0.6]], dtype=torch.float64)
    kept = keep_top_p(probs, 0.75)
    assert kept[0].tolist() == pytest.approx([0.625, 0.375, 0])
    assert sorted(kept[1].tolist()) == pytest.approx([0, 0.25, 0.75])


# ---- completions that must not be sampled again ----

VOCABULARY, LENGTH, END = range(3), 3, 2
"""Token 2 ends a completion, so do three tokens."""

tables = st.lists(st.lists(st.integers(1, 20), min_size=3, max_size=3), min_size=3, max_size=3).map(
    lambda rows: [[value / sum(row) for value in row] for row in rows]
)


def all_sequences():
    for ids in itertools.product(VOCABULARY, repeat=LENGTH):
        end = ids.index(END) + 1 if END in ids else LENGTH
        yield ids[:end]


SEQUENCES = sorted(set(all_sequences()))


def token_probs(table, ids):
    """Probability of each token of a completion; the prompt ends in token 0."""
    return [table[last][token] for last, token in zip((0, *ids), ids, strict=False)]


def as_completion(table, ids):
    raw = tuple(math.log(p) for p in token_probs(table, ids))
    return Completion("", ids, raw, "length", raw)


def prob_without(table, ids, excluded):
    """Probability of a completion when token after token is sampled from `without_excluded`."""
    result = 1.0
    for place, token in enumerate(ids):
        last = ids[place - 1] if place else 0
        row = torch.tensor(table[last], dtype=torch.float64)
        left = without_excluded(row, ids[:place], excluded)
        result *= float(left[token] / left.sum())
    return result


@given(table=tables, chosen=st.sets(st.sampled_from(SEQUENCES), max_size=len(SEQUENCES) - 1))
def test_exclusion_leaves_exactly_the_conditional_distribution(table, chosen):
    excluded = [as_completion(table, ids) for ids in sorted(chosen)]
    left = 1 - sum(math.prod(token_probs(table, ids)) for ids in chosen)
    for ids in set(SEQUENCES) - chosen:
        expected = math.prod(token_probs(table, ids)) / left
        assert prob_without(table, ids, excluded) == pytest.approx(expected, rel=1e-6)
    for ids in chosen:
        assert prob_without(table, ids, excluded) == pytest.approx(0, abs=1e-9)


def test_a_completion_that_is_excluded_twice_is_removed_once():
    table = [[0.5, 0.3, 0.2]] * 3
    once = [as_completion(table, (0, 1, 2))]
    assert prob_without(table, (0, 0, 0), 2 * once) == prob_without(table, (0, 0, 0), once)


def test_if_nothing_is_left_the_plain_distribution_is_used():
    table = [[0.5, 0.3, 0.2]] * 3
    everything = [as_completion(table, ids) for ids in SEQUENCES]
    probs = torch.tensor(table[0], dtype=torch.float64)
    assert without_excluded(probs, (), everything) is probs


@pytest.mark.parametrize("top_p", [1.0, 0.75])
def test_the_engine_samples_only_what_is_not_excluded_and_its_logprobs_add_up(top_p):
    table = [[0.5, 0.3, 0.2], [0.1, 0.2, 0.7], [1 / 3, 1 / 3, 1 / 3]]
    engine = HFEngine(table_policy(table, "ab$", eos_token_id=END))
    kept = table if top_p == 1 else [[5 / 8, 3 / 8, 0], [0, 2 / 9, 7 / 9], [1 / 3] * 3]
    params = SamplingParams(max_new_tokens=LENGTH, top_p=top_p)
    sampled: list[Completion] = []
    for seed in range(5):
        completion = engine.generate([[0]], replace(params, seed=seed), [sampled])[0]
        left = 1 - sum(math.prod(token_probs(kept, c.token_ids)) for c in sampled)
        plain = math.prod(token_probs(kept, completion.token_ids))
        assert completion.token_ids not in token_ids(sampled)
        assert sum(completion.raw_logprobs) == pytest.approx(math.log(plain), abs=1e-5)
        assert sum(completion.logprobs) == pytest.approx(math.log(plain / left), abs=1e-5)
        sampled.append(completion)


def test_rows_that_exclude_nothing_are_not_affected_by_rows_that_do():
    engine = HFEngine(table_policy([[0.5, 0.3, 0.2]] * 3, "abc"))
    params = SamplingParams(max_new_tokens=2)
    plain = engine.generate([[0]] * 4, params)
    mixed = engine.generate([[0]] * 4, params, [[], [plain[1]], [], []])
    assert [mixed[row] == plain[row] for row in range(4)] == [True, False, True, True]


def test_sampling_without_replacement_gives_every_completion_exactly_once():
    engine = HFEngine(table_policy([[0.9, 0.09, 0.01]] * 3, "ab$", eos_token_id=END))
    sampled: list[Completion] = []
    for seed in range(len(SEQUENCES)):
        params = SamplingParams(max_new_tokens=LENGTH, seed=seed)
        sampled += engine.generate([[0]], params, [sampled])
    assert sorted(token_ids(sampled)) == SEQUENCES


def test_responses_that_begin_alike_are_computed_once():
    """Of ten responses half go on with a and half with b, and then all end."""
    policy = table_policy(
        [[0.5, 0.5, 0.0], [0.0, 0.0, 1.0], [0.0, 0.0, 1.0]], "abc", eos_token_id=2
    )
    num_rows, forward = [], policy.model.forward

    def counted(input_ids, **options):
        num_rows.append(len(input_ids))
        return forward(input_ids, **options)

    policy.model.__class__ = type(
        "Counted", (type(policy.model),), {"__call__": staticmethod(counted)}
    )
    drawn = HFEngine(policy).generate([(0,)] * 10, SamplingParams(max_new_tokens=2, seed=3))
    assert {one.token_ids[0] for one in drawn} == {0, 1}
    assert num_rows == [1, 2]
