"""Packed rows: every row can be read off again, and what is shared stands once."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from sesa_agent.agents.prefix_rows import MIN_RUN, lexicographic_order, new_lengths, share_prefixes

from ..helpers.model_families import make_rows

rows = st.lists(st.lists(st.integers(1, 2), min_size=1, max_size=12), min_size=1, max_size=8)
"""Rows of two kinds of tokens, so that many begin alike, are equal, or begin another one."""
min_runs = st.integers(1, 5)


def packed_rows(rows, min_run=MIN_RUN):
    tensors = make_rows([(row, 0) for row in rows])
    return share_prefixes(tensors.token_ids, tensors.attention_mask, min_run)


def num_prefixes(rows):
    """Different beginnings of the rows: as many as a trie of single tokens has nodes."""
    return len({tuple(row[:end]) for row in rows for end in range(1, len(row) + 1)})


@given(rows, min_runs)
def test_every_row_can_be_read_off_with_its_positions(rows, min_run):
    packed = packed_rows(rows, min_run)
    for row, places in zip(rows, packed.places, strict=True):
        assert packed.token_ids[places[: len(row)]].tolist() == row
        assert packed.position_ids[places[: len(row)]].tolist() == list(range(len(row)))
        assert not places[len(row) :].any()


@given(rows, min_runs)
def test_every_token_sees_the_beginning_of_its_rows_and_nothing_else(rows, min_run):
    """Read off the groups in the order in which attention returns their outputs."""
    packed = packed_rows(rows, min_run)
    seen = []
    for group in packed.groups:
        for own, path, num_before in zip(*vars(group).values(), strict=True):
            ends = num_before + torch.arange(len(own))
            seen += [
                (int(token), path[: int(end) + 1].tolist())
                for token, end in zip(own, ends, strict=True)
            ]
    assert [seen[place][0] for place in packed.outputs.tolist()] == list(range(len(packed)))
    for row, places in zip(rows, packed.places.tolist(), strict=True):
        for t in range(len(row)):
            assert seen[packed.outputs[places[t]]] == (places[t], places[: t + 1])


@given(rows)
def test_runs_of_any_length_make_the_smallest_sequence(rows):
    assert len(packed_rows(rows, min_run=1)) == num_prefixes(rows)


@given(rows, min_runs)
def test_a_row_adds_no_more_tokens_than_was_said(rows, min_run):
    """The bound on memory: rows in alphabetical order, added one by one."""
    tensors = make_rows([(row, 0) for row in rows])
    ids, mask = tensors.token_ids, tensors.attention_mask
    order = lexicographic_order(ids, mask)
    assert [rows[n] for n in order] == sorted(rows)
    added = new_lengths(ids, mask, order, min_run)
    for end in range(1, len(order) + 1):
        assert len(packed_rows([rows[n] for n in order[:end]], min_run)) <= sum(added[:end])


@pytest.mark.parametrize("length, num_packed", [(MIN_RUN, MIN_RUN + 2), (MIN_RUN - 1, 2 * MIN_RUN)])
def test_a_short_beginning_is_computed_for_each_row(length, num_packed):
    beginning = list(range(3, 3 + length))
    assert len(packed_rows([[*beginning, 1], [*beginning, 2]])) == num_packed


def test_turns_that_continue_one_another_are_one_run():
    """A row of whole turns that no other row leaves is as long as its tokens, and one run."""
    packed = packed_rows([list(range(1, 90)), list(range(1, 41)) + [200] * 30])
    assert len(packed) == 89 + 30
    assert sorted(len(group.keys) for group in packed.groups) == [1, 2]


def test_rows_of_very_different_length_do_not_pad_each_other():
    packed = packed_rows([[n] * length for n, length in enumerate([900, 30, 31, 32], start=1)])
    assert [tuple(group.queries.shape) for group in packed.groups] == [(1, 900), (3, 32)]
