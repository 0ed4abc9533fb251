"""The report in a real Chromium: on a phone and a desk, light and dark, with nothing from outside.

`make browser` installs what this needs; screenshots go to the folder named by SCREENSHOTS, if any.
"""

import os
from contextlib import ExitStack

import pytest

from sesa_agent.report.comparison import comparison_page
from sesa_agent.report.render import render
from sesa_agent.report.run import run_page
from sesa_agent.run_files import read_run_files

from ..helpers.browser import CONTRAST, LEAST_CONTRAST, opened
from ..helpers.report_files import arms, evaluation, write_comparison, write_run

WIDTHS = (360, 1280)
pytestmark = pytest.mark.browser


@pytest.fixture(scope="module")
def pages(tmp_path_factory):
    folder = tmp_path_factory.mktemp("pages")
    result = {"base": evaluation(0.12), "trained": evaluation(0.4)}
    run = run_page(read_run_files(write_run(folder / "a", result=result)), {"torch": "2.13.0"})
    games = write_comparison(folder / "games.json", arms(("sokoban", "frozen_lake")))
    texts = {"run": render(run), "comparison": render(comparison_page(games, folder / "none"))}
    for name, text in texts.items():
        (folder / f"{name}.html").write_text(text, encoding="utf-8")
    return folder


@pytest.fixture
def open_page(browser, pages):
    """Opens a page; returns it and what it says or asks for."""
    with ExitStack() as pages_open:

        def open_page(name, width, scheme):
            file = pages / f"{name}.html"
            page, complaints = pages_open.enter_context(opened(browser, file, scheme, width))
            page.locator("details").evaluate_all("all => all.forEach(one => one.open = true)")
            return page, complaints

        yield open_page


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("name", ["run", "comparison"])
def test_a_page_fits_requests_nothing_and_is_readable(open_page, name, width, scheme):
    page, complaints = open_page(name, width, scheme)
    if folder := os.environ.get("SCREENSHOTS"):
        page.screenshot(path=f"{folder}/{name}-{width}-{scheme}.png", full_page=True)
    assert complaints == [page.url]
    assert page.evaluate("document.documentElement.scrollWidth") == width
    assert page.evaluate("scrollTo(9, 0), scrollX") == 0
    for selector in ("p", "th", "td small", "figcaption", "summary", "svg text", "footer"):
        for element in page.locator(selector).all()[:3]:
            assert element.evaluate(CONTRAST) >= LEAST_CONTRAST, selector


def test_light_and_dark_differ(open_page):
    backgrounds = set()
    for scheme in ("light", "dark"):
        page, _ = open_page("run", 1280, scheme)
        backgrounds.add(page.evaluate("getComputedStyle(document.body).backgroundColor"))
    assert len(backgrounds) == 2


def test_pictures_have_names_and_headings_their_order(open_page):
    page, _ = open_page("comparison", 1280, "light")
    pictures = page.get_by_role("img").all()
    assert len(pictures) > 8
    assert all(picture.get_attribute("aria-label") for picture in pictures)
    levels = page.evaluate("[...document.querySelectorAll('h1, h2, h3')].map(h => +h.tagName[1])")
    assert levels[0] == 1 and levels.count(1) == 1
    assert all(after <= before + 1 for before, after in zip(levels, levels[1:], strict=False))


def test_a_wide_table_scrolls_inside_its_box(open_page):
    page, _ = open_page("comparison", 360, "light")
    box = page.locator(".scroll").first
    assert box.evaluate("box => box.scrollWidth > box.clientWidth")
    assert box.evaluate("box => getComputedStyle(box).overflowX") == "auto"
