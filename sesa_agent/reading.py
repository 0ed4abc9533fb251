"""Files that may come from anyone, such as the trees and results that `view` and `report` show."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from sesa_agent.configs.errors import SettingError, first_line

MISFITS = (
    *(ArithmeticError, AttributeError, LookupError),
    *(RecursionError, TypeError, ValueError),
)
"""What Python raises about content of another shape than expected."""


@contextmanager
def reading(source: Path) -> Iterator[None]:
    """Turn the errors of damaged content into one line.

    Args:
        source: what the user gave: the file, or the folder that it is in.

    Raises:
        SettingError: if the content has another shape than expected.
    """
    try:
        yield
    except SettingError:
        raise
    except MISFITS as error:
        kind = type(error).__name__
        raise SettingError(
            f"{source} is damaged, or of another version: {first_line(error)} ({kind})."
        ) from error
