import csv
import gzip
import json
import logging
import sys
from fractions import Fraction

import pyarrow
import pyarrow.parquet
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sesa_agent.environments.games.data_files import (
    SPLITS,
    column_names,
    deal_rows,
    read_rows,
    row_of,
    split_of,
)

ROWS = [{"Question": f"What is {n} + {n}?", "Answer": str(2 * n), "id": str(n)} for n in range(5)]
WANTED = [{"question": row["Question"], "answer": row["Answer"]} for row in ROWS]


def write(folder, ending, rows=ROWS):
    path = folder / f"problems.{ending}"
    if ending == "parquet":
        pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), path)
    elif ending == "csv":
        with path.open("w", encoding="utf-8", newline="") as file:
            writer = csv.DictWriter(file, rows[0])
            writer.writeheader()
            writer.writerows(rows)
    else:
        path.write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    return path


every_format = pytest.mark.parametrize("ending", ["parquet", "jsonl", "json", "csv"])


# ---- rows ----


@every_format
def test_rows_are_numbered_from_one_and_columns_found_in_any_case(tmp_path, ending):
    path = write(tmp_path, ending)
    rows = read_rows(path, ["question", "answer"])
    assert list(rows) == list(enumerate(WANTED, 1))
    assert (rows.num_read, rows.num_broken) == (5, 0)
    assert column_names(str(path)) == ["Question", "Answer", "id"]


@every_format
def test_missing_columns_are_named_with_those_that_are_there(tmp_path, ending):
    message = "must have the columns question, gold; it has no gold, only Question, Answer, id"
    with pytest.raises(ValueError, match=message):
        read_rows(write(tmp_path, ending), ["question", "gold"])


@every_format
def test_max_rows_is_the_number_of_rows_read(tmp_path, ending):
    rows = read_rows(write(tmp_path, ending), ["answer"], max_rows=2)
    assert [number for number, _ in rows] == [1, 2]


def test_a_column_of_the_exact_name_comes_before_one_of_another_case(tmp_path):
    path = write(tmp_path, "jsonl", [{"ANSWER": 1, "answer": 2}])
    assert [row for _, row in read_rows(path, ["answer"])] == [{"answer": 2}]


def test_nested_values_of_a_parquet_file_arrive_whole(tmp_path):
    row = {"prompt": [{"role": "user", "content": "1 + 1?"}], "reward_model": {"style": "rule"}}
    path = write(tmp_path, "parquet", [row])
    assert list(read_rows(path, list(row))) == [(1, row)]


BROKEN = {
    "jsonl": (
        b'{"question": "a", "answer": "1"}\n\nnot json\n[1]\n{"question": "b"}\n'
        b'{"question": "\xff", "answer": "1"}\n{"question": "c", "answer": null}\n'
        b'{"question": "\\ud800", "answer": "1"}\n' + b"[" * 100_000 + b"\n"
        b'{"question": "d", "answer": "2"}\n',
        [1, 10],
        ["row 3 is not JSON", 7],
    ),
    "csv": (
        b'question,answer\na,1\n\nb\nc,2,3\n\xff,1\n"d" e,2\nf,4\n',
        [1, 6],
        ["row 2 has 1 fields, not 2", 4],
    ),
}


@pytest.mark.parametrize("ending", BROKEN)
def test_broken_rows_are_skipped_counted_and_reported_in_one_line(tmp_path, ending, caplog):
    content, good, (first, count) = BROKEN[ending]
    path = tmp_path / f"rows.{ending}"
    path.write_bytes(content)
    rows = read_rows(path, ["question", "answer"])
    with caplog.at_level(logging.WARNING):
        assert [number for number, _ in rows] == good
    assert (rows.num_broken, rows.first_broken) == (count, first)
    assert rows.num_read == count + len(good)
    lines = [record.getMessage() for record in caplog.records]
    assert len(lines) == 1 and f"{count} of {rows.num_read} rows are broken" in lines[0]


@pytest.mark.parametrize("ending", BROKEN)
def test_broken_rows_can_be_refused_with_their_number(tmp_path, ending):
    content, _, (first, _) = BROKEN[ending]
    path = tmp_path / f"rows.{ending}"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=first) as caught:
        list(read_rows(path, ["question", "answer"], "refuse"))
    assert "\n" not in str(caught.value)


def test_a_null_in_a_parquet_file_is_a_broken_row(tmp_path):
    rows = read_rows(write(tmp_path, "parquet", [{"a": None}, {"a": "x"}]), ["a"])
    assert list(rows) == [(2, {"a": "x"})] and rows.first_broken == "row 1 has no a"


def test_a_row_that_its_reader_rejects_is_counted_or_refused(tmp_path):
    path = write(tmp_path, "jsonl")
    rows = read_rows(path, ["answer"])
    for number, _ in rows:
        rows.drop(number, "is odd")
    assert (rows.num_broken, rows.first_broken) == (5, "row 1 is odd")
    with pytest.raises(ValueError, match="row 2 is odd. Mend it, or set broken_rows=skip"):
        read_rows(path, ["answer"], "refuse").drop(2, "is odd")


def refusal(path, **options):
    with pytest.raises(ValueError) as caught:
        list(read_rows(path, ["answer"], **options))
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_files_that_cannot_be_used_are_refused_in_one_line(tmp_path):
    assert "absent.csv does not exist" in refusal(tmp_path / "absent.csv")
    folder = tmp_path / "folder.csv"
    folder.mkdir()
    assert "is not a file" in refusal(folder)
    for name, content, message in [
        ("rows.txt", b"", "must end in .parquet, .jsonl, .json, .csv"),
        ("rows.parquet", b"PAR1 damaged PAR1", "cannot be read as parquet"),
        ("empty.jsonl", b"", "empty.jsonl is empty"),
        ("empty.csv", b"\n \n", "empty.csv is empty"),
        ("empty.parquet", b"", "empty.parquet is empty"),
        ("list.json", b"[1, 2]", "one JSON object per line, or one list of objects"),
        ("one.json", b'{\n"data": [\n{\n"answer": 1\n}]}', "list of objects, and its first"),
        ("header.csv", b'"a" b\n', "the first line is not CSV"),
        ("wide.jsonl", '{"answer": 1}'.encode("utf-16"), "is UTF-16 text. Save it as UTF-8"),
        ("wide.csv", "answer\n1".encode("utf-16"), "is UTF-16 text. Save it as UTF-8"),
        ("wide_le.csv", "answer\n1".encode("utf-16-le"), "is not UTF-8 text"),
        ("packed.jsonl", gzip.compress(b'{"answer": 1}'), "is compressed with gzip. Unpack it"),
        ("packed.parquet", gzip.compress(b"PAR1"), "is compressed with gzip. Unpack it"),
        ("zipped.csv", b"PK\x03\x04\x14", "is a zip archive. Unpack it"),
        ("named.csv", b"PAR1\x15", "is a parquet file. Give it a name that ends in .parquet"),
        ("binary.csv", bytes(range(256)), "is not UTF-8 text"),
        ("twice.csv", b"answer,answer\n1,2\n", "has the column answer twice. Rename one"),
    ]:
        path = tmp_path / name
        path.write_bytes(content)
        assert message in refusal(path)


@pytest.mark.parametrize("ending", ["json", "jsonl"])
@pytest.mark.parametrize("indent", [None, 2])
def test_a_json_file_may_hold_one_list(tmp_path, ending, indent):
    """Hugging Face and pandas write such files; they were refused as "not JSON"."""
    path = tmp_path / f"rows.{ending}"
    path.write_text("\ufeff" + json.dumps(ROWS, indent=indent), encoding="utf-8")
    rows = read_rows(path, ["question", "answer"])
    assert list(rows) == list(enumerate(WANTED, 1))
    path.write_text(json.dumps([*ROWS, 7, *ROWS], indent=indent)[:-20], encoding="utf-8")
    rows = read_rows(path, ["question", "answer"])
    assert len(list(rows)) == 9 and rows.num_broken == 2
    assert rows.first_broken == "row 6 is not a JSON object"


@pytest.mark.parametrize(("ending", "num_whole"), [("jsonl", 4), ("csv", 4)])
def test_a_text_file_that_was_cut_short_loses_its_last_row_alone(tmp_path, ending, num_whole):
    path = write(tmp_path, ending)
    path.write_bytes(path.read_bytes().rstrip()[:-5])
    rows = read_rows(path, ["question", "answer", "id"])
    assert len(list(rows)) == num_whole and rows.num_broken == 1
    with pytest.raises(ValueError, match="row 5 "):
        list(read_rows(path, ["question", "answer", "id"], "refuse"))


def test_numbers_of_a_file_keep_their_digits(tmp_path):
    """0.00005 became 5e-05, and 0.1234567890123456789 lost digits: right answers were wrong."""
    numbers = ["0.00005", "1e22", "0.1234567890123456789", "12345678901234567890123", "2.50"]
    path = tmp_path / "rows.jsonl"
    path.write_text("\n".join(f'{{"answer": {number}}}' for number in numbers))
    values = [row["answer"] for _, row in read_rows(path, ["answer"])]
    assert [Fraction(value) for value in values] == [Fraction(number) for number in numbers]
    table = pyarrow.table({"answer": pyarrow.array([0.1, 2.5, None], pyarrow.float32())})
    pyarrow.parquet.write_table(table, tmp_path / "rows.parquet")
    rows = read_rows(tmp_path / "rows.parquet", ["answer"])
    assert [str(row["answer"]) for _, row in rows] == ["0.1", "2.5"]


@pytest.mark.parametrize("number", ["NaN", "Infinity", "-Infinity"])
def test_a_number_that_is_none_is_absent(tmp_path, number):
    path = tmp_path / "rows.jsonl"
    path.write_text(f'{{"answer": {number}}}\n{{"answer": 1}}')
    rows = read_rows(path, ["answer"])
    assert len(list(rows)) == 1 and rows.first_broken == "row 1 has no answer"
    table = pyarrow.table({"answer": [float("nan"), 1.0]})
    pyarrow.parquet.write_table(table, tmp_path / "rows.parquet")
    rows = read_rows(tmp_path / "rows.parquet", ["answer"])
    assert len(list(rows)) == 1 and rows.first_broken == "row 1 has no answer"


@settings(max_examples=200, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.binary(max_size=80) | st.text(alphabet='{}[]",:\\\n0eantru ', max_size=60).map(str.encode),
    st.sampled_from(["jsonl", "json", "csv", "parquet"]),
)
def test_any_file_is_read_or_refused_in_one_line(tmp_path, content, ending):
    path = tmp_path / f"rows.{ending}"
    path.write_bytes(content)
    try:
        list(read_rows(path, ["answer"]))
    except ValueError as error:
        assert str(error).startswith(str(path)) and "\n" not in str(error)


def test_a_parquet_file_that_was_cut_short_is_refused(tmp_path):
    path = write(tmp_path, "parquet")
    path.write_bytes(path.read_bytes()[:-20])
    assert "cannot be read as parquet" in refusal(path)


def test_wrong_options_are_refused(tmp_path):
    path = write(tmp_path, "jsonl")
    assert "broken_rows must be one of skip, refuse, got 'keep'" in refusal(
        path, broken_rows="keep"
    )
    assert "max_rows must be at least 1, got 0" in refusal(path, max_rows=0)


def test_a_missing_pyarrow_says_what_to_install(tmp_path, monkeypatch):
    path = write(tmp_path, "parquet")
    monkeypatch.setitem(sys.modules, "pyarrow.parquet", None)
    assert "pip install 'sesa-agent[data]'" in refusal(path)


# ---- splits ----


@given(st.integers(0, 2**40))
def test_every_seed_is_in_one_split(seed):
    assert sum(seed in seeds for seeds in SPLITS.values()) == (seed < 2**31)
    assert seed in SPLITS[split_of(seed)] or split_of(seed) == "training"


@given(st.lists(st.integers(), min_size=3, unique=True), st.lists(st.integers(), max_size=5))
def test_no_row_is_in_two_splits_and_none_is_lost(rows, repeats):
    dealt = deal_rows(rows + [row for row in repeats if row in rows])
    parts = [dealt[split] for split in ("test", "validation", "training")]
    assert sorted(sum(parts, [])) == sorted(rows)
    assert all(parts)
    assert dealt["pretraining"] == dealt["training"]
    assert deal_rows(rows) == deal_rows(rows[::-1]) == dealt


def test_a_tenth_of_many_rows_is_held_out_for_test_and_one_for_validation():
    dealt = deal_rows(range(10_000))
    assert 900 < len(dealt["test"]) < 1100 and 900 < len(dealt["validation"]) < 1100


@given(st.integers(200, 400), st.integers(1, 400))
def test_a_row_stays_in_its_split_when_its_file_grows(num_rows, num_more):
    """A shuffle of the whole file dealt training rows to test when one row was added."""
    before, after = deal_rows(range(num_rows)), deal_rows(range(num_rows + num_more))
    assert all(set(before[split]) <= set(after[split]) for split in SPLITS)


@given(st.sets(st.integers(0, 99), min_size=1), st.sets(st.integers(0, 99), min_size=3))
def test_a_test_file_is_all_test_and_nothing_else(tested, others):
    rows = [*tested, *others]
    if len(others - tested) < 2:
        with pytest.raises(ValueError, match="must hold at least 2 different usable rows"):
            deal_rows(rows, list(tested))
        return
    dealt = deal_rows(rows, list(tested))
    assert set(dealt["test"]) == tested
    assert set(dealt["validation"]) | set(dealt["training"]) == others - tested


def test_too_few_rows_are_refused():
    with pytest.raises(ValueError, match="x.csv must hold at least 3 different usable rows, got 2"):
        deal_rows([1, 2, 2, 1], source="x.csv")
    with pytest.raises(ValueError, match="test_path must hold at least one usable row"):
        deal_rows([1, 2, 3], [])


@given(st.integers(3, 50), st.integers(0, 2**31))
def test_a_seed_is_a_row_of_its_split(num_rows, seed):
    dealt = deal_rows(range(num_rows))
    rows = dealt[split_of(seed)]
    assert row_of(seed, dealt) in rows
    if split_of(seed + len(rows)) == split_of(seed) != "training":
        assert row_of(seed + len(rows), dealt) == row_of(seed, dealt)


def test_consecutive_seeds_visit_all_rows():
    dealt = deal_rows(range(100))
    for split in ("test", "validation", "training"):
        start, num_rows = SPLITS[split].start, len(dealt[split])
        rows = [row_of(start + step, dealt) for step in range(2 * num_rows)]
        first, second = rows[:num_rows], rows[num_rows:]
        assert sorted(first) == sorted(second) == sorted(dealt[split])
        assert (first == second) == (split != "training")


def test_a_run_that_skips_seeds_reaches_every_training_row():
    """DAPO sets seeds aside for redraws: with one order it would see a fifth of these rows."""
    dealt = deal_rows(range(100))
    start = SPLITS["training"].start
    seeds = [start + 40 * step + task for step in range(100) for task in range(8)]
    assert {row_of(seed, dealt) for seed in seeds} == set(dealt["training"])
