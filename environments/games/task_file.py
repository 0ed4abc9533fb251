"""The rows of a task file: which columns are prompt and answer, and which split a row belongs to.

Columns are found by the names that datasets commonly give them. A prompt is a text or a chat
(`[{"role": "user", "content": ...}]`). Every other column is kept for the function that judges
answers. Equal prompts are never on both sides of a split, and a file is read once per process.
"""

from array import array
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from functools import lru_cache
from hashlib import blake2b
from pathlib import Path
from typing import Any

from .data_files import AsWritten, column_names, deal_rows, is_garbled, read_rows
from .math_problems import NO_ANSWERS, content_of

PROMPTS = ("prompt", "question", "problem", "query", "instruction", "messages")
"""Names of the column with the prompt."""
ANSWERS = (
    *("answer", "solution", "gold", "target", "expected", "reference", "ground_truth"),
    *("final_answer", "gold_answer", "correct_answer", "expected_answer", "reference_answer"),
    "reward_model",
)
"""Names of the column with the right answer; `reward_model` holds it as `ground_truth`."""
SPLIT = "split"
"""The column that names each row's split, if the file has it."""
SPLIT_NAMES = {
    "": "",
    **dict.fromkeys(("train", "training"), "training"),
    **dict.fromkeys(("validation", "valid", "val", "dev"), "validation"),
    **dict.fromkeys(("test", "testing", "eval"), "test"),
}
"""The split that each of its values stands for."""
HELD_OUT_FIRST = ("test", "validation", "training", "")
"""The splits that a file may give; an equal task in two of them stays in the first."""
MIN_PROMPTS = 3
"""Files with fewer different prompts, such as one rule for all rows, are dealt by whole rows."""


@dataclass(frozen=True)
class Columns:
    """Which columns of a file are which."""

    prompt: str
    answer: str | None
    """None if the answers are judged without it."""
    split: str | None


@dataclass
class TaskRows:
    """Rows of one file or several, compactly: a tuple of values each, and shared column names."""

    names: list[tuple[str, ...]] = field(default_factory=list)
    values: list[tuple[Any, ...]] = field(default_factory=list)
    columns: list[Columns] = field(default_factory=list)
    numbers: array = field(default_factory=lambda: array("q"))
    """The rows' numbers in their files, from 1."""

    def __len__(self) -> int:
        return len(self.values)

    def value(self, index: int, column: str) -> Any:
        """Return one value of a row, None if the row lacks the column."""
        names = self.names[index]
        return self.values[index][names.index(column)] if column in names else None


@dataclass(frozen=True, eq=False)
class TaskSet:
    """The tasks of a file, dealt to the splits."""

    name: str
    """The file's name."""
    rows: TaskRows
    splits: dict[str, list[int]]
    """The indices of the rows of each split."""

    def row(self, index: int) -> dict[str, Any]:
        """Return a row as the file has it, a new copy: its columns and their values."""
        names, values = self.rows.names[index], self.rows.values[index]
        return {name: _plain(value) for name, value in zip(names, values, strict=True)}

    def prompt(self, index: int) -> str:
        """Return the prompt of a row as text."""
        return prompt_text(self.rows.value(index, self.rows.columns[index].prompt))

    def answer(self, index: int) -> str | None:
        """Return the right answer of a row as text; None if the row has none."""
        column = self.rows.columns[index].answer
        return None if column is None else answer_text(self.rows.value(index, column))


class Number(AsWritten, float):
    """A number of a file: a float that `str` writes as the file does.

    >>> Number("0.00005") * 2, str(Number("0.00005"))
    (0.0001, '0.00005')
    """


# ---- reading ----


@lru_cache(maxsize=8)
def read_task_set(
    path: str,
    test_path: str = "",
    prompt: str = "",
    answer: str = "",
    needs_answer: bool = True,
    broken_rows: str = "refuse",
) -> TaskSet:
    """Read the tasks of a file, and of another one for the test split, once per process.

    Args:
        path: a .parquet, .jsonl, .json or .csv file.
        test_path: another such file, all of it for the test split; empty to use the rows that the
            column `split` names, or else a tenth of `path`.
        prompt: name of the column with the prompt; empty to find it.
        answer: name of the column with the right answer; empty to find it.
        needs_answer: whether a row without a right answer is broken.
        broken_rows: "refuse" or "skip".

    Raises:
        ValueError: in one line, if a file cannot be used or has too few tasks.
    """
    reading = _Reading((prompt, answer), needs_answer, broken_rows)
    reading.read(path)
    if test_path:
        reading.read(test_path, "test")
    name = Path(path).name
    groups = reading.groups()
    dealt = deal_groups(list(groups.values()), reading.splits, name, list(groups))
    return TaskSet(name, reading.rows, dealt)


class _Reading:
    """Reads files of one kind; equal rows count once.

    Args:
        chosen: the columns of prompt and answer that the user names, or "".
        needs_answer: whether a row without a right answer is broken.
        broken_rows: "refuse" or "skip".
    """

    def __init__(self, chosen: tuple[str, str], needs_answer: bool, broken_rows: str):
        self.chosen, self.needs_answer, self.broken_rows = chosen, needs_answer, broken_rows
        self.rows = TaskRows()
        self.splits: list[str] = []
        """The split that the file gives each row, or ""."""
        self._prompts: list[bytes] = []
        self._wholes: dict[bytes, int] = {}
        self._shapes: dict[tuple[str, ...], tuple[str, ...]] = {}

    def read(self, path: str, split: str = "") -> None:
        """Append the usable rows of a file, all of them to `split` if one is given."""
        columns = find_columns(
            column_names(path), Path(path).name, *self.chosen, needs_answer=self.needs_answer
        )
        needed = [columns.prompt]
        needed += [columns.answer] if self.needs_answer and columns.answer else []
        reader = read_rows(path, needed, self.broken_rows, keeps_others=True)
        for number, row in reader:
            fault = find_fault(row, columns, self.needs_answer)
            if fault:
                reader.drop(number, fault)
            else:
                self._append(number, row, columns, split or _split_of(row, columns))

    def groups(self) -> dict[str, list[int]]:
        """The rows by their prompt, or if there are hardly any different prompts, row by row.

        The keys are digests of what the rows of a group have in common.
        """
        groups: dict[bytes, list[int]] = {}
        for index, prompt in enumerate(self._prompts):
            groups.setdefault(prompt, []).append(index)
        if len(groups) < MIN_PROMPTS:
            groups = {whole: [index] for whole, index in self._wholes.items()}
        return {digest.hex(): indices for digest, indices in groups.items()}

    def _append(self, number: int, row: dict[str, Any], columns: Columns, split: str) -> None:
        names, values = tuple(row), tuple(row.values())
        others = [row[name] for name in names if name != columns.split]
        first = self._wholes.setdefault(_digest(repr(others)), len(self.rows))
        if first < len(self.rows):  # seen before: if in another split, it stays in the held-out one
            self.splits[first] = min(self.splits[first], split, key=HELD_OUT_FIRST.index)
            return
        self.rows.names.append(self._shapes.setdefault(names, names))
        self.rows.values.append(values)
        self.rows.columns.append(columns)
        self.rows.numbers.append(number)
        self.splits.append(split)
        self._prompts.append(_digest(content_of(prompt_text(row[columns.prompt]))))


def _digest(text: str) -> bytes:
    return blake2b(text.encode(errors="surrogatepass"), digest_size=16).digest()


def find_fault(row: Mapping[str, Any], columns: Columns, needs_answer: bool = True) -> str:
    """Return what makes a row unusable, to follow "row 7 "; empty if nothing does."""
    try:
        text = prompt_text(row[columns.prompt])
    except ValueError as error:
        return f"has a {columns.prompt} that {error}"
    if not text:
        return f"has no {columns.prompt}"
    if is_garbled(text):
        return f"has a {columns.prompt} that is not UTF-8"
    if needs_answer and columns.answer:
        found = row[columns.answer]
        if answer_text(found) is None:
            shown = f": {found!r}"[:60] if found not in (None, "") else ""
            return f"has no {columns.answer} to compare with{shown}"
    if columns.split and _split_of(row, columns) is None:
        known = ", ".join(filter(None, SPLIT_NAMES))
        return f"has the split {str(row[columns.split])[:40]!r}, which is none of {known}"
    return ""


def _split_of(row: Mapping[str, Any], columns: Columns) -> Any:
    """Return the split that the file gives a row, "" if it gives none, None if it is unknown."""
    given = row.get(columns.split) if columns.split else None
    word = "" if given is None else str(given).strip().casefold()
    return SPLIT_NAMES.get(word)


# ---- columns ----


def find_columns(
    names: Sequence[str], file: str, prompt: str = "", answer: str = "", needs_answer: bool = True
) -> Columns:
    """Find the columns of a file.

    Args:
        names: the names of its columns.
        file: the file's name.
        prompt: the column with the prompt, if the user names it.
        answer: the column with the answer, if the user names it.
        needs_answer: whether there must be an answer.

    Raises:
        ValueError: in one line that lists the columns, if one is missing or ambiguous.
    """
    right = _find_column(names, file, "answer", answer, ANSWERS, needs_answer)
    return Columns(
        str(_find_column(names, file, "prompt", prompt, PROMPTS, True)),
        right,
        next((name for name in names if _fold(name) == SPLIT), None),
    )


def _find_column(
    names: Sequence[str], file: str, role: str, chosen: str, known: Sequence[str], is_needed: bool
) -> str | None:
    option, listed = f"env.options.{role}", ", ".join(names) or "none"
    if chosen:
        exact = [name for name in names if name == chosen]
        found = exact or [name for name in names if _fold(name) == _fold(chosen)]
        if not found:
            raise ValueError(f"{file} has no column {chosen!r} ({option}), only {listed}.")
        return found[0]
    found = [name for name in dict.fromkeys(names) if _fold(name) in known]
    if len(found) == 1:
        return found[0]
    if not is_needed:
        return None
    advice = f"Name it: {option}=COLUMN"
    if found:
        both = " and ".join(found)
        raise ValueError(f"{file} has several columns for the {role}: {both}. {advice}.")
    without = ", or judge without one: --reward module:function" if role == "answer" else ""
    raise ValueError(
        f"{file} has no column for the {role}, such as {known[0]} or {known[1]}, only {listed}. "
        f"{advice}{without}."
    )


def _fold(name: str) -> str:
    return name.strip().casefold().replace(" ", "_").replace("-", "_")


# ---- values ----


def prompt_text(prompt: Any) -> str:
    r"""Return a prompt as text: a text itself, or a chat as its messages one after another.

    Of a chat with a system and one user message only the contents are shown; in a longer one each
    message begins with its role.

    Raises:
        ValueError: if it is neither; the message follows "has a prompt that ".

    >>> prompt_text([{"role": "system", "content": "Add."}, {"role": "user", "content": "1 + 1"}])
    'Add.\n\n1 + 1'
    """
    if isinstance(prompt, str):
        return prompt.strip()
    if isinstance(prompt, int | float | Decimal) and not isinstance(prompt, bool):
        return str(prompt)
    if not isinstance(prompt, list):
        raise ValueError("is neither a text nor a chat")
    turns = [(_role(turn), _content(turn)) for turn in prompt]
    if turns and turns[-1][0] == "assistant":
        raise ValueError("ends with the assistant's message, which may be the solution")
    is_plain = [role for role, _ in turns if role != "system"] in (["user"], [])
    texts = [
        text if is_plain or role == "system" else f"{role.capitalize()}: {text}"
        for role, text in turns
        if text
    ]
    return "\n\n".join(texts)


def _role(turn: Any) -> str:
    role = turn.get("role") if isinstance(turn, dict) else None
    if not isinstance(role, str):
        raise ValueError("is neither a text nor a chat")
    return role


def _content(turn: dict[str, Any]) -> str:
    content = turn.get("content")
    if isinstance(content, list):
        parts = [part.get("text") if isinstance(part, dict) else None for part in content]
        texts = [part for part in parts if isinstance(part, str)]
        content = "\n".join(texts) if len(texts) == len(parts) else None
    if not isinstance(content, str):
        raise ValueError("has a message without text")
    return content.strip()


def answer_text(answer: Any) -> str | None:
    """Return a right answer as text; None if it is missing or no single value.

    >>> answer_text("007"), answer_text({"ground_truth": 5}), answer_text(float("nan"))
    ('007', '5', None)
    """
    if isinstance(answer, dict):
        answer = answer.get("ground_truth")
    is_value = isinstance(answer, str | int | float | Decimal)
    if not is_value or answer != answer:
        return None
    text = str(answer).strip()
    return None if text.casefold() in NO_ANSWERS or is_garbled(text) else text


def _plain(value: Any) -> Any:
    """Return a value as the user's function gets it: a copy, numbers as floats, NaN as None."""
    if isinstance(value, Decimal):
        return Number(str(value))
    if isinstance(value, float):
        return value if value == value else None
    if isinstance(value, list):
        return [_plain(item) for item in value]
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    return value


# ---- splits ----


def deal_groups(
    groups: Sequence[Sequence[int]],
    given: Sequence[str],
    name: str,
    contents: Sequence[str] | None = None,
) -> dict[str, list[int]]:
    """Deal rows to the splits, all rows of a group to the same one.

    A group with rows in several splits belongs to the one that comes first in `HELD_OUT_FIRST`.
    Without rows for test or validation, each gets about a tenth of the others (`deal_rows`).

    Args:
        groups: the indices of the rows of each group.
        given: the split that the file gives each row, or "".
        name: the file's name.
        contents: what decides the split of each group; by default its number.

    Raises:
        ValueError: if there are too few groups for every split to get one.

    >>> dealt = deal_groups([[0], [1, 2], [3], [4]], ["test", "validation", "", "", ""], "a.csv")
    >>> {split: sorted(rows) for split, rows in dealt.items() if split != "pretraining"}
    {'test': [0], 'validation': [1, 2], 'training': [3, 4]}
    """
    by_split: dict[str, list[int]] = {split: [] for split in HELD_OUT_FIRST}
    for place, group in enumerate(groups):
        split = min((given[index] for index in group), key=HELD_OUT_FIRST.index)
        by_split[split].append(place)
    free = by_split["training"] + by_split[""]
    told = contents or [str(place) for place in range(len(groups))]
    decks = deal_rows(free, by_split["test"] or None, name, told.__getitem__)
    if by_split["validation"]:
        training = decks["validation"] + decks["training"]
        decks |= {"validation": by_split["validation"], "training": training}
    decks["pretraining"] = decks["training"]
    return {
        split: [index for place in deck for index in groups[place]] for split, deck in decks.items()
    }
