"""Checks the symbols in which a game draws its board."""

from ...configs.errors import check


def check_symbols(symbols: str, count: int) -> None:
    """Refuse symbols that cannot be told apart or seen.

    Raises:
        SettingError: unless they are `count` different visible characters.
    """
    is_visible = symbols.isprintable() and not any(map(str.isspace, symbols))
    is_allowed = is_visible and len(symbols) == len(set(symbols)) == count
    check(is_allowed, "symbols", symbols, f"{count} different visible characters")
