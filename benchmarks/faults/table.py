"""The table of the campaign: a row for each kind of fault, how often it was tried, what broke."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

HEAD = """# Faults

Made by `make faults`; `docs/reliability.md` says what each row promises and how it is tested.
"All well" means: no traceback, hang or crash, and what was saved is whole.

| fault | tried | outcome | |
|---|---|---|---|
"""


@dataclass(frozen=True)
class Row:
    """One kind of fault."""

    what: str
    num_tried: int
    faults: tuple[str, ...] = ()
    """What went wrong, a line each."""
    note: str = ""

    def to_line(self) -> str:
        """The row in Markdown."""
        verdict = f"**{len(self.faults)} broken**" if self.faults else "all well"
        return f"| {self.what} | {self.num_tried} | {verdict} | {self.note} |"


def write_table(path: Path, report: dict[str, list[dict[str, Any]]]) -> None:
    """Write the rows of all parts, then every fault that was found."""
    rows = [
        Row(row["what"], row["num_tried"], tuple(row["faults"]), row["note"])
        for part in report.values()
        for row in part
    ]
    lines = [row.to_line() for row in rows]
    total = Row("all together", sum(r.num_tried for r in rows), sum((r.faults for r in rows), ()))
    found = [f"* {row.what}: {fault}" for row in rows for fault in row.faults]
    text = HEAD + "\n".join([*lines, total.to_line()]) + "\n"
    path.write_text(text + ("\n## Broken\n\n" + "\n".join(found) + "\n" if found else ""), "utf-8")
