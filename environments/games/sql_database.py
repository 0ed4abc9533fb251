"""A small SQLite database in memory that a model may only read.

A query may select and call a few functions; everything else is refused: writing, other files,
pragmas, recursion, random numbers and the clock. It is cut off after a number of instructions of
SQLite's virtual machine, not after some seconds, so the same query has the same result everywhere.
"""

import sqlite3
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

MAX_INSTRUCTIONS = 500_000
"""Instructions of SQLite's virtual machine that a query may take; some milliseconds."""
_PERIOD = 1_000
FUNCTIONS = frozenset(
    "count sum total avg min max abs round length lower upper substr substring instr trim ltrim "
    "rtrim coalesce ifnull iif nullif like group_concat row_number rank dense_rank".split()
)
"""Functions that a query may call; `like` is the one below."""
_ALLOWED = (sqlite3.SQLITE_SELECT, sqlite3.SQLITE_READ)
MAX_QUERY = 2_000
"""Length of the longest query, in characters."""
_LIMITS = {"LENGTH": 2_000, "COMPOUND_SELECT": 20, "EXPR_DEPTH": 100, "ATTACHED": 0}
"""SQLite's own limits: the length of a value in bytes, and parts of a query."""
_HAS_LIMITS = hasattr(sqlite3.Connection, "setlimit")  # since Python 3.11
_GROWS = ("||", "group_concat")
"""What makes values long; refused where their length cannot be limited."""

Value = str | int
Row = tuple[Any, ...]


class QueryError(Exception):
    """A query is refused, wrong or too slow; the message says so to the model."""


@dataclass(frozen=True)
class Table:
    """A table: the names of its columns and its rows."""

    columns: tuple[str, ...]
    rows: tuple[tuple[Value, ...], ...]


class Database:
    """Tables that can be queried and never change, so that copies of an environment share it."""

    def __init__(self, tables: Mapping[str, Table]):
        self.tables = dict(tables)
        self._budget = budget = _Budget()
        self._connection = connection = sqlite3.connect(":memory:", check_same_thread=False)
        connection.execute("PRAGMA temp_store = MEMORY")
        for name, table in self.tables.items():
            connection.execute(f"CREATE TABLE {name} ({', '.join(table.columns)})")
            places = ", ".join("?" * len(table.columns))
            connection.executemany(f"INSERT INTO {name} VALUES ({places})", table.rows)
        connection.commit()
        connection.create_function("like", 2, budget.is_like, deterministic=True)
        if _HAS_LIMITS:
            for name, value in _LIMITS.items():
                connection.setlimit(getattr(sqlite3, f"SQLITE_LIMIT_{name}"), value)  # pyright: ignore[reportAttributeAccessIssue]
        connection.set_authorizer(_authorize)
        connection.set_progress_handler(budget.is_spent, _PERIOD)

    def query(self, sql: str, max_rows: int) -> tuple[list[str], list[Row]]:
        """Run a query; return the names of the columns and at most `max_rows` rows.

        Raises:
            QueryError: if it is refused, wrong or too slow.
        """
        if len(sql) > MAX_QUERY:
            raise QueryError(f"a query has at most {MAX_QUERY} characters")
        if not _HAS_LIMITS and any(word in sql.lower() for word in _GROWS):
            raise QueryError("|| and group_concat need Python 3.11")
        self._budget.left = MAX_INSTRUCTIONS
        try:
            cursor = self._connection.execute(sql)
            rows = cursor.fetchmany(max_rows)
        except (sqlite3.Error, sqlite3.Warning, ValueError, OverflowError) as error:
            raise QueryError(_explain(str(error))) from error
        return [column[0] for column in cursor.description or ()], rows

    def schema(self) -> str:
        """Describe the tables, one per line."""
        return "\n".join(
            f"{name}({', '.join(table.columns)})" for name, table in self.tables.items()
        )

    def __deepcopy__(self, memo: dict[int, Any]) -> "Database":
        return self

    def __reduce__(self) -> tuple[type["Database"], tuple[Mapping[str, Table]]]:
        return Database, (self.tables,)

    def __del__(self) -> None:
        self._connection.close()


class _Budget:
    """What a query may still spend. Apart from the database, which would hold itself otherwise."""

    def __init__(self) -> None:
        self.left = 0

    def is_spent(self) -> bool:
        """Count some instructions; SQLite stops the query if this returns True."""
        self.left -= _PERIOD
        return self.left < 0

    def is_like(self, pattern: Any, text: Any) -> bool | None:
        """The operator LIKE, whose steps count too; SQLite's own may need exponential time."""
        if pattern is None or text is None:
            return None
        pattern, text = str(pattern), str(text)
        self.left -= len(text) * (1 + len(pattern))
        return None if self.left < 0 else is_like(pattern, text)


def _authorize(action: int, _: str | None, name: str | None, *__: str | None) -> int:
    """Say whether a query may do something; for a function, whether it is one of `FUNCTIONS`."""
    is_allowed = action in _ALLOWED
    if action == sqlite3.SQLITE_FUNCTION:
        is_allowed = (name or "").lower() in FUNCTIONS
    return sqlite3.SQLITE_OK if is_allowed else sqlite3.SQLITE_DENY


def _explain(message: str) -> str:
    """Say in words of ours that a query was stopped or refused."""
    if message == "interrupted":
        return "the query takes too long"
    if any(word in message for word in ("not authorized", "authorization denied", "prohibited")):
        return "only SELECT is allowed, with common functions"
    return message


def is_like(pattern: str, text: str) -> bool:
    """Match a text with a pattern of `%` and `_`, whatever the case.

    Every `%` starts over at most once for each character of the text.

    >>> is_like("%nn_", "Anna"), is_like("A%b", "abc")
    (True, False)
    """
    pattern, text = pattern.lower(), text.lower()
    place = p = 0
    star, resume = -1, 0
    while place < len(text):
        if p < len(pattern) and pattern[p] == "%":
            star, resume, p = p, place, p + 1
        elif p < len(pattern) and pattern[p] in ("_", text[place]):
            place, p = place + 1, p + 1
        elif star >= 0:
            resume += 1
            place, p = resume, star + 1
        else:
            return False
    return not pattern[p:].strip("%")


def write_rows(columns: Sequence[str], rows: Sequence[Row], max_rows: int) -> str:
    """Write the result of a query as lines of text; more than `max_rows` rows are left out.

    >>> print(write_rows(["name", "age"], [("Ana", 31), ("Bo", None)], 1))
    name | age
    Ana | 31
    (more rows are left out)
    """
    if not rows:
        return "(no rows)"
    lines = [" | ".join(columns)]
    lines += [" | ".join("NULL" if v is None else str(v) for v in row) for row in rows[:max_rows]]
    if len(rows) > max_rows:
        lines.append("(more rows are left out)")
    return "\n".join(lines)
