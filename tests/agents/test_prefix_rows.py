"""Shared-prefix rows: every row can be recovered, and each shared prefix appears once."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from sesa_agent.agents.prefix_rows import MIN_RUN, lexicographic_order, new_lengths, share_prefixes

from ..helpers.model_families import make_rows

rows = st.lists(st.lists(st.integers(1, 2), min_size=1, max_size=12), min_size=1, max_size=8)
"""Rows of two different tokens, so that many share prefixes, are equal, or are a prefix."""
min_runs = st.integers(1, 5)


def share(rows, min_run=MIN_RUN):
    tensors = make_rows([(row, 0) for row in rows])
    return share_prefixes(tensors.token_ids, tensors.attention_mask, min_run)


def num_prefixes(rows):
    """Number of different prefixes of the rows: the nodes of a trie of single tokens."""
    return len({tuple(row[:end]) for row in rows for end in range(1, len(row) + 1)})


@given(rows, min_runs)
def test_every_row_can_be_recovered_with_its_positions(rows, min_run):
    shared = share(rows, min_run)
    for row, places in zip(rows, shared.places, strict=True):
        assert shared.token_ids[places[: len(row)]].tolist() == row
        assert shared.position_ids[places[: len(row)]].tolist() == list(range(len(row)))
        assert not places[len(row) :].any()


@given(rows, min_runs)
def test_every_token_attends_to_the_prefix_of_its_rows_and_nothing_else(rows, min_run):
    """Goes through the groups in the order in which attention returns their outputs."""
    shared = share(rows, min_run)
    seen = []
    for group in shared.groups:
        for own, path, num_before in zip(*vars(group).values(), strict=True):
            ends = num_before + torch.arange(len(own))
            seen += [
                (int(token), path[: int(end) + 1].tolist())
                for token, end in zip(own, ends, strict=True)
            ]
    assert [seen[place][0] for place in shared.outputs.tolist()] == list(range(len(shared)))
    for row, places in zip(rows, shared.places.tolist(), strict=True):
        for t in range(len(row)):
            assert seen[shared.outputs[places[t]]] == (places[t], places[: t + 1])


@given(rows)
def test_runs_of_any_length_make_the_smallest_sequence(rows):
    assert len(share(rows, min_run=1)) == num_prefixes(rows)


@given(rows, min_runs)
def test_a_row_adds_at_most_the_predicted_number_of_tokens(rows, min_run):
    """The bound on memory: rows in lexicographic order, added one by one."""
    tensors = make_rows([(row, 0) for row in rows])
    ids, mask = tensors.token_ids, tensors.attention_mask
    order = lexicographic_order(ids, mask)
    assert [rows[n] for n in order] == sorted(rows)
    added = new_lengths(ids, mask, order, min_run)
    for end in range(1, len(order) + 1):
        assert len(share([rows[n] for n in order[:end]], min_run)) <= sum(added[:end])


@pytest.mark.parametrize("length, num_tokens", [(MIN_RUN, MIN_RUN + 2), (MIN_RUN - 1, 2 * MIN_RUN)])
def test_a_short_prefix_is_computed_for_each_row(length, num_tokens):
    beginning = list(range(3, 3 + length))
    assert len(share([[*beginning, 1], [*beginning, 2]])) == num_tokens


def test_turns_that_continue_one_another_are_one_run():
    """A stretch of several turns that no other row leaves is a single run."""
    shared = share([list(range(1, 90)), list(range(1, 41)) + [200] * 30])
    assert len(shared) == 89 + 30
    assert sorted(len(group.keys) for group in shared.groups) == [1, 2]


def test_rows_of_very_different_length_do_not_pad_each_other():
    shared = share([[n] * length for n, length in enumerate([900, 30, 31, 32], start=1)])
    assert [tuple(group.queries.shape) for group in shared.groups] == [(1, 900), (3, 32)]
