"""Puzzles from a parquet, JSON Lines or CSV file, and the split that each row belongs to.

A row that cannot be used is skipped and counted, or refused with its number; it is never dropped
silently. A seed determines the puzzle here too: each split has its own rows, so no run trains on a
row that it is tested on. Only parquet needs pyarrow.
"""

import csv
import json
import logging
import random
import re
from bisect import bisect_left
from collections.abc import Callable, Hashable, Iterator, Sequence
from dataclasses import dataclass
from decimal import Decimal
from functools import lru_cache
from hashlib import blake2b
from itertools import islice
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from ...configs.errors import first_line

SPLITS = {
    "test": range(0, 100_000),
    "validation": range(100_000, 200_000),
    "pretraining": range(200_000, 1_000_000),
    "training": range(1_000_000, 2**31),
}
"""Puzzle seeds of each split; seeds beyond the last one belong to training too."""
TEST_ROWS, VALIDATION_ROWS = (0.0, 0.1), (0.1, 0.2)
"""Ranges of the hashes of a file's rows for test and for validation."""
BROKEN_ROWS = ("skip", "refuse")
NUM_HEADER_LINES = 100
"""Lines of a JSON Lines file that are searched for the names of its columns."""
BATCH_SIZE = 1024
"""Rows of a parquet file that are in memory at a time."""
_BEGINNINGS = {
    b"\x1f\x8b": "is compressed with gzip. Unpack it",
    b"PK\x03\x04": "is a zip archive. Unpack it",
    b"\x28\xb5\x2f\xfd": "is compressed with zstd. Unpack it",
    b"BZh": "is compressed with bzip2. Unpack it",
    b"\xfd7zXZ": "is compressed with xz. Unpack it",
    b"\xff\xfe": "is UTF-16 text. Save it as UTF-8",
    b"\xfe\xff": "is UTF-16 text. Save it as UTF-8",
}
"""What the first bytes of a file say about its format, if it is none that we read."""

log = logging.getLogger(__name__)

Row = TypeVar("Row", bound=Hashable)


@dataclass(frozen=True)
class BrokenRow:
    """A row that cannot be read."""

    reason: str
    """What is wrong with it, to follow "row 7 "."""


Record = tuple[int, dict[str, Any] | BrokenRow]
"""A row's number, from 1, and its values by column."""


# ---- rows ----


class Rows(Iterator[tuple[int, dict[str, Any]]]):
    """Iterates over the readable rows of a file and counts the broken ones.

    Yields (number, values by column). Numbers count from 1: data rows of a parquet or CSV file,
    lines of a JSON Lines file. After the last row, one line is logged if any rows were skipped.

    Args:
        path: the file.
        columns: the columns that are needed; upper and lower case do not matter.
        broken_rows: "skip" or "refuse".
        max_rows: number of rows to read, including broken ones; None for all.
        keeps_others: yield all columns, named as in the file; `columns` are then names of the file.

    Raises:
        ValueError: in one line, if the file or a column is missing, the file cannot be read, or an
            option is not allowed; while iterating, for a broken row that is refused.
    """

    def __init__(
        self,
        path: str | Path,
        columns: Sequence[str],
        broken_rows: str = "skip",
        max_rows: int | None = None,
        keeps_others: bool = False,
    ):
        if broken_rows not in BROKEN_ROWS:
            choices = ", ".join(BROKEN_ROWS)
            raise ValueError(f"broken_rows must be one of {choices}, got {broken_rows!r}.")
        if max_rows is not None and max_rows < 1:
            raise ValueError(f"max_rows must be at least 1, got {max_rows}.")
        self.path, self.broken_rows = Path(path), broken_rows
        self.num_read = 0
        """Rows read so far, including broken ones."""
        self.num_broken = 0
        """Rows skipped so far."""
        self.first_broken = ""
        """The first skipped row and what is wrong with it."""
        names = _match_columns(self.path, columns, keeps_others)
        self._records = islice(_read_records(self.path, names, keeps_others), max_rows)
        self._rows = self._read()

    def __next__(self) -> tuple[int, dict[str, Any]]:
        return next(self._rows)

    def drop(self, number: int, reason: str) -> None:
        """Skip or refuse a row that was read but cannot be used.

        Args:
            number: the row's number.
            reason: what is wrong with it, to follow "row 7 ", such as "has no answer".

        Raises:
            ValueError: naming the row, if broken rows are refused.
        """
        if self.broken_rows == "refuse":
            raise ValueError(
                f"{self.path}: row {number} {reason}. Mend it, or set broken_rows=skip."
            )
        self.num_broken += 1
        self.first_broken = self.first_broken or f"row {number} {reason}"

    def _read(self) -> Iterator[tuple[int, dict[str, Any]]]:
        for number, row in self._records:
            self.num_read += 1
            if isinstance(row, BrokenRow):
                self.drop(number, row.reason)
            else:
                yield number, row
        if self.num_broken:
            counts = f"{self.num_broken} of {self.num_read} rows are broken and were skipped"
            log.warning("%s: %s; the first: %s.", self.path, counts, self.first_broken)


def read_rows(
    path: str | Path,
    columns: Sequence[str],
    broken_rows: str = "skip",
    max_rows: int | None = None,
    keeps_others: bool = False,
) -> Rows:
    """Read the rows of a .parquet, .jsonl, .json or .csv file; see `Rows`.

    JSON files hold one object per line, or one list of objects. Decimal numbers of JSON arrive as
    `Digits`, with all their digits.
    """
    return Rows(path, columns, broken_rows, max_rows, keeps_others)


def column_names(path: str | Path) -> list[str]:
    """Return the names of a file's columns, as written in the file.

    Raises:
        ValueError: in one line, if the file is missing or cannot be read.
    """
    path = Path(path)
    if not path.is_file():
        raise ValueError(f"{path} {'is not a file' if path.exists() else 'does not exist'}.")
    if path.suffix.lower() not in _FORMATS:
        raise ValueError(f"{path} must end in {', '.join(_FORMATS)}.")
    try:
        _check_beginning(path)
        return _FORMATS[path.suffix.lower()][0](path)
    except OSError as error:
        raise ValueError(f"{path} cannot be read: {error.strerror or error}.") from error


def _check_beginning(path: Path) -> None:
    """Refuse a file that is empty or visibly of another format than its name says."""
    with path.open("rb") as file:
        start = file.read(4096)
    if not start.strip():
        raise ValueError(f"{path} is empty.")
    for beginning, reason in _BEGINNINGS.items():
        if start.startswith(beginning):
            raise ValueError(f"{path} {reason}.")
    if path.suffix.lower() == ".parquet":
        return
    if start.startswith(b"PAR1"):
        raise ValueError(f"{path} is a parquet file. Give it a name that ends in .parquet.")
    if b"\0" in start:
        raise ValueError(f"{path} is not UTF-8 text, because it holds zero bytes.")


def _match_columns(
    path: Path, columns: Sequence[str], keeps_others: bool = False
) -> dict[str, str]:
    """Map each needed column to its name in the file."""
    present = column_names(path)
    by_fold = {name.strip().casefold(): name for name in reversed(present)}
    names = {name: name if name in present else by_fold.get(name.casefold()) for name in columns}
    missing = [name for name, found in names.items() if found is None]
    if missing:
        raise ValueError(
            f"{path} must have the columns {', '.join(columns)}; it has no {', '.join(missing)}, "
            f"only {', '.join(present) or 'nothing at all'}."
        )
    used = present if keeps_others else [found for found in names.values() if found]
    twice = [found for found in used if present.count(found) > 1]
    if twice:
        raise ValueError(f"{path} has the column {twice[0]} twice. Rename one.")
    return {name: found for name, found in names.items() if found is not None}


def _read_records(path: Path, names: dict[str, str], keeps_others: bool) -> Iterator[Record]:
    """Read the columns `names` (needed name -> name in the file) of every row, or all columns."""
    columns = column_names(path) if keeps_others else list(names.values())
    for number, row in _FORMATS[path.suffix.lower()][1](path, columns):
        if isinstance(row, dict):
            needed = {name: row.get(found) for name, found in names.items()}
            row = _find_fault(needed) or (row if keeps_others else needed)
        yield number, row


def _find_fault(row: dict[str, Any]) -> BrokenRow | None:
    """Return what is wrong with the needed values of a row, if anything is."""
    absent = [name for name, value in row.items() if value is None or value != value]  # NaN
    if absent:
        return BrokenRow(f"has no {absent[0]}")
    garbled = [name for name, value in row.items() if isinstance(value, str) and is_garbled(value)]
    return BrokenRow(f"has a {garbled[0]} that is not UTF-8") if garbled else None


def is_garbled(text: str) -> bool:
    """Return whether a text contains lone surrogates, which stand for bytes that are not UTF-8."""
    return not text.isascii() and re.search("[\ud800-\udfff]", text) is not None


# ---- formats ----


Written = TypeVar("Written", bound="AsWritten")


class AsWritten:
    """Makes a type of numbers keep the text that it reads, which `str` then writes."""

    text: str

    def __new__(cls: type[Written], text: str) -> Written:
        """Read a number and keep its text."""
        number = super().__new__(cls, text)  # pyright: ignore[reportCallIssue]
        number.text = text
        return number

    def __str__(self) -> str:
        return self.text


class Digits(AsWritten, Decimal):
    """A decimal number that `str` writes as the file does.

    >>> str(Digits("1e22")), str(Decimal("1e22"))
    ('1e22', '1E+22')
    """


# A float would lose digits, and there are no values NaN and Infinity in JSON.
_DECODER = json.JSONDecoder(parse_float=Digits, parse_constant=lambda name: None)
_BETWEEN_ITEMS = re.compile(r"[\s,]*")


def _csv_records(path: Path) -> Iterator[tuple[int, list[str] | BrokenRow]]:
    """Yield the header with number 0, then the rows; blank lines do not count."""
    with path.open(encoding="utf-8-sig", errors="surrogateescape", newline="") as file:
        reader, number = csv.reader(file, strict=True), 0
        while True:
            try:
                fields = next(reader)
            except StopIteration:
                return
            except csv.Error as error:
                fields = BrokenRow(f"is not CSV ({error})")
            if fields:
                yield number, fields
                number += 1


def _csv_columns(path: Path) -> list[str]:
    header = next((fields for _, fields in _csv_records(path)), [])
    if isinstance(header, BrokenRow):
        raise ValueError(f"{path}: the first line {header.reason}.")
    return header


def _csv_rows(path: Path, names: Sequence[str]) -> Iterator[Record]:
    header = _csv_columns(path)
    for number, fields in islice(_csv_records(path), 1, None):
        if isinstance(fields, BrokenRow):
            yield number, fields
        elif len(fields) != len(header):
            yield number, BrokenRow(f"has {len(fields)} fields, not {len(header)}")
        else:
            yield number, dict(zip(header, fields, strict=True))


def _json_rows(path: Path, names: Sequence[str] = ()) -> Iterator[Record]:
    with path.open("rb") as file:
        is_list = _begins_a_list(file.readline())
        file.seek(0)
        if is_list:
            yield from _json_items(file.read().decode("utf-8-sig", errors="surrogateescape"))
            return
        for number, line in enumerate(file, 1):
            if line.strip():
                yield number, _read_json(line)


def _begins_a_list(line: bytes) -> bool:
    """Return whether the first line of a file begins a list of objects that fills the file."""
    return re.match(rb"(?:\xef\xbb\xbf)?\s*\[\s*(?:\{|$)", line) is not None


def _json_items(text: str) -> Iterator[Record]:
    """Read the items of one JSON list up to the first damaged one, which is a broken row."""
    number, place = 0, text.index("[") + 1
    while match := _BETWEEN_ITEMS.match(text, place):
        place = match.end()
        if text[place : place + 1] == "]" and not text[place + 1 :].strip():
            return
        number += 1
        try:
            item, place = _DECODER.raw_decode(text, place)
        except (ValueError, RecursionError):
            break
        yield number, _as_row(item)
    yield number, BrokenRow("is not JSON, so the rest of the list cannot be read")


def _read_json(line: bytes) -> dict[str, Any] | BrokenRow:
    try:
        return _as_row(_DECODER.decode(line.decode("utf-8-sig")))
    except (ValueError, RecursionError):
        return BrokenRow("is not JSON")


def _as_row(item: Any) -> dict[str, Any] | BrokenRow:
    return item if isinstance(item, dict) else BrokenRow("is not a JSON object")


def _json_columns(path: Path) -> list[str]:
    rows = [row for _, row in islice(_json_rows(path), NUM_HEADER_LINES)]
    names = dict.fromkeys(name for row in rows if isinstance(row, dict) for name in row)
    if rows and not names:
        raise ValueError(
            f"{path} must hold one JSON object per line, or one list of objects, and its first "
            f"{len(rows)} lines hold none."
        )
    return list(names)


def _parquet_columns(path: Path) -> list[str]:
    parquet = _import_parquet(path)
    try:
        with parquet.ParquetFile(path) as file:
            return file.schema_arrow.names
    except (ValueError, OSError) as error:
        raise _unreadable(path, error) from error


def _parquet_rows(path: Path, names: Sequence[str]) -> Iterator[Record]:
    parquet, number = _import_parquet(path), 0
    try:
        with parquet.ParquetFile(path) as file:
            for batch in file.iter_batches(BATCH_SIZE, columns=names, use_threads=False):
                short = [f.name for f in batch.schema if str(f.type) in ("float", "halffloat")]
                for row in batch.to_pylist():
                    number += 1
                    row |= {name: _shortest(row[name]) for name in short}
                    yield number, row
    except (ValueError, OSError) as error:
        raise _unreadable(path, error) from error


def _shortest(value: float | None) -> Decimal | None:
    """Return a 32-bit number as it is written: .1, where a 64-bit one is .10000000149."""
    return None if value is None else Decimal(str(np.float32(value)))


def _import_parquet(path: Path) -> Any:
    try:
        import pyarrow.parquet
    except ModuleNotFoundError as error:
        raise ValueError(
            f"{path} needs pyarrow to be read. Run pip install 'sesa-agent[data]'."
        ) from error
    return pyarrow.parquet


def _unreadable(path: Path, error: Exception) -> ValueError:
    # Arrow's errors are ValueErrors and OSErrors, often of several lines.
    return ValueError(f"{path} cannot be read as parquet: {first_line(error)}.")


_FORMATS = {
    ".parquet": (_parquet_columns, _parquet_rows),
    ".jsonl": (_json_columns, _json_rows),
    ".json": (_json_columns, _json_rows),
    ".csv": (_csv_columns, _csv_rows),
}
"""By file extension: the functions that read the names of the columns, and the rows."""


# ---- splits ----


def split_of(seed: int) -> str:
    """Return the split that a puzzle seed belongs to.

    >>> split_of(100_000)
    'validation'
    """
    return next((name for name, seeds in SPLITS.items() if seed in seeds), "training")


def deal_rows(
    rows: Sequence[Row],
    test_rows: Sequence[Row] | None = None,
    source: str = "The file",
    content: Callable[[Row], str] = repr,
) -> dict[str, list[Row]]:
    """Deal rows to the splits by a hash of their content, in the order of the hashes.

    About a tenth goes to validation and, without `test_rows`, a tenth to test, at least one row
    each; the rest is for training and pretraining. So a row stays in its split when a file grows or
    is sorted. Equal rows count once, and a row that is also a test row is used for nothing else.

    Args:
        rows: the rows of a file, hashable.
        test_rows: the rows of another file, all of them for test.
        source: name of the file of `rows` in error messages.
        content: what makes a row the same as another one; different for different rows.

    Returns:
        The rows of each split.

    Raises:
        ValueError: if there are too few rows for every split to get one.
    """
    tested = list(dict.fromkeys(test_rows or ()))
    known = set(tested)
    wanted = [row for row in dict.fromkeys(rows) if row not in known]
    least = 3 if test_rows is None else 2
    if len(wanted) < least:
        raise ValueError(
            f"{source} must hold at least {least} different usable rows, got {len(wanted)}."
        )
    hashes = [_hash(content(row)) for row in wanted]
    order = sorted(range(len(wanted)), key=hashes.__getitem__)
    deck, places = [wanted[index] for index in order], [hashes[index] for index in order]
    if test_rows is None:
        num_tests = _place(places, *TEST_ROWS, most=len(deck) - 2).stop
        tested, deck, places = deck[:num_tests], deck[num_tests:], places[num_tests:]
    elif not tested:
        raise ValueError("test_path must hold at least one usable row, got 0.")
    held_out = _place(places, *VALIDATION_ROWS, most=len(deck) - 1)
    training = deck[: held_out.start] + deck[held_out.stop :]
    return {
        "test": tested,
        "validation": deck[held_out],
        "pretraining": training,
        "training": training,
    }


def _hash(content: str) -> float:
    """Return a number from 0 to below 1, the same in every process."""
    digest = blake2b(content.encode("utf-8", "surrogatepass"), digest_size=6).digest()
    return int.from_bytes(digest, "big") / 2**48


def _place(hashes: Sequence[float], low: float, high: float, most: int) -> slice:
    """Return where sorted hashes lie in a range; the first one if none does, and at most some."""
    start, stop = bisect_left(hashes, low), bisect_left(hashes, high)
    start, stop = (start, stop) if start < stop else (0, 1)
    return slice(start, min(stop, start + most))


def row_of(seed: int, dealt: dict[str, list[Row]]) -> Row:
    """Return the row of the puzzle `seed`: the rows of its split, repeated in cycles.

    Training rows come in a different order in each cycle, so runs and steps that skip seeds still
    reach every row.

    >>> row_of(3, {"test": ["a", "b"]})
    'b'
    """
    split = split_of(seed)
    num_rows = len(dealt[split])
    cycle, place = divmod(seed - SPLITS[split].start, num_rows)
    return dealt[split][_order(num_rows, cycle)[place] if split == "training" else place]


@lru_cache(maxsize=16)
def _order(num_rows: int, cycle: int) -> list[int]:
    """Return the order of the training rows in one cycle."""
    return random.Random(cycle).sample(range(num_rows), num_rows)
