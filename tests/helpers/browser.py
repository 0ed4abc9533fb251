"""Chromium for tests: start it, open pages, measure the contrast of text."""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

CHROMIUMS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
LEAST_CONTRAST = 4.5
"""Minimum for text in the Web Content Accessibility Guidelines (level AA)."""

CONTRAST = """element => {
  const paint = document.createElement("canvas").getContext("2d");
  const light = colour => {
    paint.clearRect(0, 0, 1, 1);
    paint.fillStyle = colour;
    paint.fillRect(0, 0, 1, 1);
    const parts = [...paint.getImageData(0, 0, 1, 1).data].slice(0, 3).map(x => x / 255);
    const [r, g, b] = parts.map(x => x <= .04045 ? x / 12.92 : ((x + .055) / 1.055) ** 2.4);
    return .2126 * r + .7152 * g + .0722 * b;
  };
  const style = getComputedStyle(element);
  const ink = element.ownerSVGElement ? style.fill : style.color;
  const [a, b] = [light(ink), light(getComputedStyle(document.body).backgroundColor)];
  return (Math.max(a, b) + .05) / (Math.min(a, b) + .05);
}"""
"""Contrast between an element's text and the page; a canvas converts any colour to sRGB."""


@contextmanager
def start_chromium() -> Iterator[Any]:
    """Start the browser of this machine; skip the test if there is none."""
    playwright = pytest.importorskip(
        "playwright.sync_api", reason="playwright is not installed: make browser"
    )
    with playwright.sync_playwright() as driver:
        found = next(filter(None, map(shutil.which, CHROMIUMS)), driver.chromium.executable_path)
        if not Path(found).exists():
            pytest.skip("there is no Chromium: make browser")
        flags = ["--no-sandbox"] if hasattr(os, "geteuid") and os.geteuid() == 0 else []
        chromium = driver.chromium.launch(executable_path=found, args=flags)
        yield chromium
        chromium.close()


@contextmanager
def opened(browser: Any, file: Path, scheme: str, width: int) -> Iterator[tuple[Any, list[str]]]:
    """Open a file; return its page and a list of its console messages, errors and requests."""
    context = browser.new_context(viewport={"width": width, "height": 900})
    page, complaints = context.new_page(), []
    page.emulate_media(color_scheme=scheme)
    page.on("console", lambda message: complaints.append(message.text))
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.on("request", lambda request: complaints.append(request.url))
    page.goto(file.as_uri())
    yield page, complaints
    context.close()
