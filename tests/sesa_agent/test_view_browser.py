"""The tree explorer in a real Chromium: keys, mouse, search, hostile texts, speed.

`make browser` installs what this needs; screenshots go to the folder named by SCREENSHOTS, if any.
"""

import os
from contextlib import ExitStack
from dataclasses import replace

import pytest

from sesa_agent.commands.view import run_view
from sesa_agent.view.page import render
from sesa_agent.view.saved import read_saved

from ..helpers.browser import CONTRAST, LEAST_CONTRAST, opened
from ..helpers.report_files import NUM_STEPS, write_run
from ..helpers.view_trees import large_tree, seen_tree

pytestmark = pytest.mark.browser

EVIL = '</script><script>window.owned = 1</script><img src=x onerror="window.owned = 1">'
SETTINGS = ("loss.credit=best", "loss.discount=0.5", "loss.history_correction=negatives")
SETTINGS = (*SETTINGS, "sampling.name=tree", "sampling.proposer=without_replacement")
FRAME_MS = 30.0
"""Longest frame that still feels immediate: two refreshes of a screen."""

FRAMES = """async isPan => {
  const canvas = document.getElementById("tree"), paint = canvas.getContext("2d"), times = [];
  for (let frame = 0; frame < 30; frame++) {
    await new Promise(done => {
      let start = 0;
      requestAnimationFrame(() => { start = performance.now(); });
      const turn = {shiftKey: isPan, deltaX: 0, deltaY: frame % 2 ? -40 : 40, cancelable: true};
      canvas.dispatchEvent(new WheelEvent("wheel", turn));
      requestAnimationFrame(() => {
        paint.getImageData(5, 5, 1, 1);
        times.push(performance.now() - start);
        done();
      });
    });
  }
  return times.sort((a, b) => a - b)[Math.floor(times.length / 4)];
}"""
"""Time of a frame from the wheel's turn until its pixels are there, in ms. The lower quartile:
a shared machine pauses."""

COLOURS = """() => {
  const canvas = document.getElementById("tree");
  const paint = canvas.getContext("2d");
  const pixels = new Uint32Array(paint.getImageData(0, 0, canvas.width, canvas.height).data.buffer);
  return new Set(pixels).size;
}"""


@pytest.fixture(scope="module")
def pages(tmp_path_factory):
    folder = tmp_path_factory.mktemp("view")
    small = (seen_tree(), seen_tree())
    run = write_run(folder / "run", trees=small, settings=SETTINGS)
    run_view(run, None, folder / "small.html", False, False)
    evil = seen_tree()
    evil.turns[:] = [
        replace(one, action=EVIL, response=EVIL, observation=EVIL, next_observation=EVIL)
        for one in evil.turns
    ]
    for name, tree in {"evil": evil, "large": large_tree(3000)}.items():
        other = write_run(folder / name, trees=(tree,), settings=("loss.credit=best",))
        _, saved = read_saved(other)
        text = render(EVIL if name == "evil" else "Large", saved, saved[0], lambda _: EVIL)
        (folder / f"{name}.html").write_text(text, encoding="utf-8")
    return folder


@pytest.fixture
def open_page(browser, pages):
    """Opens a page; returns it and what it says or asks for."""
    with ExitStack() as pages_open:

        def open_page(name, scheme="light", width=1440):
            file = pages / f"{name}.html"
            page, complaints = pages_open.enter_context(opened(browser, file, scheme, width))
            page.wait_for_function("() => window.explorer && window.explorer.numSeen")
            assert complaints == [page.url]
            return page, complaints

        yield open_page


def chosen(page):
    return page.locator("#panel strong").first.text_content()


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [360, 1440])
def test_a_page_shows_its_tree_and_is_readable(open_page, scheme, width):
    page, _ = open_page("small", scheme, width)
    if folder := os.environ.get("SCREENSHOTS"):
        page.screenshot(path=f"{folder}/view-{width}-{scheme}.png", full_page=True)
    assert page.evaluate(COLOURS) > 50
    assert page.evaluate("document.documentElement.scrollWidth") == width
    assert "1 of 3 branches won" in page.locator("#sentence").text_content()
    for selector in ("#sentence", "label", "#legend span", "dt", "th", "td", ".how", "pre"):
        for element in page.locator(selector).all()[:3]:
            assert element.evaluate(CONTRAST) >= LEAST_CONTRAST, selector


def test_it_opens_at_the_shortest_success_with_all_that_is_known(open_page):
    page, _ = open_page("small")
    panel = page.locator("#panel").text_content()
    assert chosen(page) == "Down"
    for text in ("★ won", "turn 2, proposal 2", "−3.000", "p .050", "−0.500", "p .607", "+.25"):
        assert text in panel, text
    assert page.locator("#response").text_content() == "<answer>Down</answer>"
    assert page.locator(".path button").all_text_contents() == ["start", "Left.819", "Down.050"]
    assert page.locator("#prompt").text_content() != ""


def test_arrows_walk_to_parent_child_and_sibling(open_page):
    page, _ = open_page("small")
    walk = []
    for key in ("ArrowUp", "ArrowLeft", "ArrowDown", "ArrowDown", "ArrowLeft", "ArrowRight"):
        page.keyboard.press(key)
        walk.append(chosen(page))
    assert walk == ["Up", "Left", "Wait", "Left", "Start", "Left"]


def test_a_dropped_response_is_where_it_was_sampled(open_page):
    page, _ = open_page("small")
    for key in ("Home", "ArrowRight", "ArrowDown", "ArrowDown"):
        page.keyboard.press(key)
    panel = page.locator("#panel").text_content()
    assert "duplicate, not played" in panel
    assert "Sampled from the plain prompt, the 2 earlier answers excluded." in panel
    assert page.locator("#decision tbody tr").all_text_contents()[-1].endswith("dropped")
    assert page.locator("tr.dropped").get_attribute("aria-selected") == "true"


def test_search_finds_texts_and_goes_through_them(open_page):
    page, _ = open_page("small")
    page.keyboard.press("/")
    page.keyboard.type("merged")
    assert page.locator("#hits").text_content() == "1"
    page.keyboard.press("Enter")
    assert (chosen(page), page.locator("#hits").text_content()) == ("Wait", "1 / 1")
    page.keyboard.press("Escape")
    page.keyboard.press("s")
    assert chosen(page) == "Down"


def test_clicks_choose_and_the_wheel_zooms_around_the_pointer(open_page):
    page, _ = open_page("small")
    place = """() => {
      const {view, tree} = window.explorer, node = tree.nodes[3];
      const box = document.getElementById("tree").getBoundingClientRect();
      const x = node.x * Math.max(view.scale, Math.min(view.fitX, 1)) + view.x;
      return [box.x + x + 8, box.y + node.y * view.scale + view.y, view.scale];
    }"""
    x, y, scale = page.evaluate(place)
    page.mouse.click(x, y)
    assert chosen(page) == "Up"
    page.mouse.wheel(0, -200)
    page.wait_for_function(f"() => window.explorer.view.scale > {scale * 1.2}")
    page.mouse.click(x, y)
    assert chosen(page) == "Up"
    page.keyboard.press("f")
    assert page.evaluate("window.explorer.view.scale") == pytest.approx(scale)


def test_dragging_moves_the_tree_and_chooses_nothing(open_page):
    page, _ = open_page("small")
    before = page.evaluate("[window.explorer.view.x, window.explorer.view.y]")
    page.mouse.move(500, 300)
    page.mouse.down()
    page.mouse.move(560, 340, steps=4)
    page.mouse.up()
    after = page.evaluate("[window.explorer.view.x, window.explorer.view.y]")
    assert [b - a for a, b in zip(before, after, strict=True)] == [60, 40]
    assert chosen(page) == "Down"


def test_another_tree_can_be_chosen(open_page):
    page, _ = open_page("small")
    assert page.locator("#step option").all_text_contents() == [str(NUM_STEPS - 1)]
    page.locator("#number").select_option("1")
    page.wait_for_function("() => window.explorer.place === 1")
    page.locator("#tree").focus()
    page.keyboard.press("PageUp")
    page.wait_for_function("() => window.explorer.place === 0")


def test_hostile_texts_are_shown_and_do_nothing(open_page):
    page, complaints = open_page("evil")
    page.keyboard.press("/")
    page.keyboard.type("script")
    page.keyboard.press("Enter")
    page.wait_for_timeout(100)
    assert page.evaluate("window.owned") is None
    assert page.locator("h1").text_content() == EVIL
    assert page.locator("#response").text_content() == EVIL
    assert page.locator("#prompt").text_content() == EVIL
    assert page.locator("img").count() == 0
    assert complaints == [page.url]


def test_the_page_allows_no_script_but_its_own(open_page):
    page, complaints = open_page("small")
    page.evaluate(
        "document.body.append(Object.assign(document.createElement('script'), "
        "{textContent: 'window.owned = 1'}))"
    )
    assert page.evaluate("window.owned") is None
    assert any("Content Security Policy" in text for text in complaints)


@pytest.mark.parametrize("scale", [None, 0.2, 1.0])
def test_thousands_of_turns_move_and_zoom_without_lag(open_page, scale):
    page, _ = open_page("large")
    assert page.evaluate("window.explorer.tree.nodes.length") > 3000
    if scale:
        page.evaluate(f"window.explorer.view.scale = {scale}; window.explorer.view.y = -2000")
    assert page.evaluate(FRAMES, True) < FRAME_MS
    assert page.evaluate(FRAMES, False) < FRAME_MS
