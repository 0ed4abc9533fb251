"""Different responses to a prompt, drawn in one pass."""

import itertools
import math
from collections import Counter, defaultdict

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import chisquare

from sesa_agent.agents.engines.base import DistinctEngine, SamplingParams
from sesa_agent.agents.engines.gumbel import perturb_children, perturb_tokens
from sesa_agent.agents.engines.hf import HFEngine

from ...helpers.model_families import table_policy

# After the prompt "a" come a, b or the end c; after b only the end.
TABLE = [[0.3, 0.5, 0.2], [0.0, 0.0, 1.0], [0.4, 0.4, 0.2]]
PARAMS = SamplingParams(max_new_tokens=3)
RESPONSES = {"c": 0.2, "bc": 0.5, "ac": 0.06, "abc": 0.15, "aac": 0.018, "aab": 0.045, "aaa": 0.027}


def engine(max_batch_tokens=65536):
    return HFEngine(table_policy(TABLE, "abc", eos_token_id=2), max_batch_tokens)


def draw(counts, seed=0, excluded=None, max_batch_tokens=65536):
    params = SamplingParams(max_new_tokens=3, seed=seed)
    avoided = excluded or [[] for _ in counts]
    maker = engine(max_batch_tokens)
    return maker.generate_distinct([(0,)] * len(counts), counts, params, avoided), maker


def texts(drawn):
    return ["".join("abc"[i] for i in one.token_ids) for one in drawn]


@given(
    st.lists(st.floats(0.01, 1), min_size=2, max_size=6),
    st.floats(-5, 5),
    st.integers(0, 2**20),
)
def test_the_largest_child_has_the_number_of_its_parent(weights, parent, seed):
    masses = torch.tensor([[*weights, 0.0]], dtype=torch.float64)
    generator = torch.Generator().manual_seed(seed)
    noise = torch.empty_like(masses).exponential_(generator=generator)
    parents = torch.tensor([parent], dtype=torch.float64)
    count = masses.shape[1]
    tokens, perturbed = perturb_children(masses.log(), parents, noise, count)
    assert float(perturbed[0, 0]) == pytest.approx(parent)
    assert sorted(tokens[0].tolist()) == list(range(count))
    assert (tokens[0, -1], perturbed[0, -1]) == (count - 1, -math.inf)  # what has no probability
    ordered = perturbed[0].tolist()
    assert ordered == sorted(ordered, reverse=True)


def test_all_responses_are_drawn_once_and_told_with_their_probability():
    [drawn], maker = draw([20])
    assert isinstance(maker, DistinctEngine)
    assert sorted(texts(drawn)) == sorted(RESPONSES)
    for text, one in zip(texts(drawn), drawn, strict=True):
        assert math.exp(math.fsum(one.raw_logprobs)) == pytest.approx(RESPONSES[text])
        assert one.logprobs == one.raw_logprobs
        assert one.finish_reason == ("eos" if text.endswith("c") else "length")
    assert maker.usage.calls == 7
    assert maker.usage.response_tokens == sum(map(len, RESPONSES))


@pytest.mark.parametrize("place", [0, 1, 2])
def test_draws_follow_the_law_of_draws_one_after_another(place):
    number = 4000
    drawn, _ = draw([3] * number, seed=5)
    found = Counter(texts(group)[place] for group in drawn)
    exact: defaultdict[str, float] = defaultdict(float)
    for order in itertools.permutations(RESPONSES, place + 1):
        left, chance = 1.0, 1.0
        for text in order:
            chance *= RESPONSES[text] / left
            left -= RESPONSES[text]
        exact[order[-1]] += chance * number
    names = sorted(RESPONSES)
    result = chisquare([found[n] for n in names], [exact[n] for n in names])
    assert result.pvalue > 0.01


def test_excluded_responses_are_not_drawn_and_the_others_as_without_them():
    [everything], _ = draw([20])
    avoided = [
        one
        for one, text in zip(everything, texts(everything), strict=True)
        if text in ("bc", "aab")
    ]
    [drawn], _ = draw([20], excluded=[avoided])
    assert sorted(texts(drawn)) == sorted(set(RESPONSES) - {"bc", "aab"})
    firsts = Counter(texts(group)[0] for group in draw([1] * 4000, excluded=[avoided] * 4000)[0])
    left = {text: chance for text, chance in RESPONSES.items() if text not in ("bc", "aab")}
    names, total = sorted(left), sum(left.values())
    result = chisquare([firsts[n] for n in names], [4000 * left[n] / total for n in names])
    assert result.pvalue > 0.01


@given(st.lists(st.integers(1, 7), min_size=1, max_size=5), st.integers(0, 99))
def test_what_a_prompt_gets_does_not_depend_on_the_batches(counts, seed):
    together, _ = draw(counts, seed)
    apart, _ = draw(counts, seed, max_batch_tokens=1)
    assert [texts(group) for group in together] == [texts(group) for group in apart]
    assert [len(group) for group in together] == counts
    assert all(len(set(texts(group))) == len(group) for group in together)


def test_tokens_of_a_large_vocabulary_follow_the_same_law():
    """Three tokens of different blocks, drawn twice without replacement."""
    size, number, chances = 5000, 3000, {7: 0.5, 300: 0.3, 4999: 0.2}
    masses = torch.zeros(number, size, dtype=torch.float64)
    for token, chance in chances.items():
        masses[:, token] = chance
    generator = torch.Generator().manual_seed(3)

    def noise(count):
        return torch.empty(number, count, dtype=torch.float64).exponential_(generator=generator)

    tokens, perturbed = perturb_tokens(masses, torch.zeros(number).double(), noise, 4)
    assert perturbed[:, 0].tolist() == pytest.approx([0.0] * number, abs=1e-9)
    assert (perturbed.diff(dim=1) <= 0).all() and (perturbed[:, 3] == -math.inf).all()
    assert {tuple(sorted(row)) for row in tokens[:, :3].tolist()} == {(7, 300, 4999)}
    orders = Counter(map(tuple, tokens[:, :2].tolist()))
    pairs = list(itertools.permutations(chances, 2))
    exact = [number * chances[a] * chances[b] / (1 - chances[a]) for a, b in pairs]
    assert chisquare([orders[pair] for pair in pairs], exact).pvalue > 0.01
