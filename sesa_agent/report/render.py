"""Renders a report: the page from its template, which escapes every text, and its plots."""

from importlib.resources import files
from pathlib import Path

import jinja2
from markupsafe import Markup

from sesa_agent.report.episodes import board
from sesa_agent.report.page import Page, cells, columns
from sesa_agent.report.panels import page_colours, page_panels
from sesa_agent.report.pictures import WON, save_png, svg
from sesa_agent.run_files import env_title

TEMPLATE = "page.html"


def render(page: Page) -> str:
    """Return the page as self-contained HTML."""
    shades = page_colours(page)
    places = {label: place for place, label in enumerate(shades)}
    pictures = {
        name: [(panel.title, Markup(svg(panel, shades))) for panel in panels]
        for name, panels in page_panels(page).items()
    }
    tables = []
    for env in dict.fromkeys(row.env for row in page.rows):
        rows = [row for row in page.rows if row.env == env]
        names = columns(rows)
        shown = [(row.label, places[row.label], cells(row, names)) for row in rows]
        tables.append((env_title(env), names, shown))
    template = jinja2.Environment(
        autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
    ).from_string((files("sesa_agent.report") / TEMPLATE).read_text(encoding="utf-8"))
    is_run = page.kind == "Training run"
    return template.render(
        page=page,
        tables=tables,
        pictures=pictures,
        colours=shades,
        won=WON,
        board=board,
        drawn_arms={line.label: places[line.label] for line in page.lines},
        has_bands=len(page.lines) > len({line.label for line in page.lines}),
        versions_note="Installed when this page was made:" if is_run else "With",
    )


def save_pictures(page: Page, folder: Path) -> list[Path]:
    """Save the page's plots as PNG files, one per section that has any."""
    folder.mkdir(parents=True, exist_ok=True)
    groups = {name: panels for name, panels in page_panels(page).items() if panels}
    for name, panels in groups.items():
        save_png(panels, folder / f"{name}.png")
    return [folder / f"{name}.png" for name in groups]
