"""Makes the screenshots of the documentation: `python scripts/make_screenshots.py`.

They show a default run on Sokoban, which is trained if `runs/sokoban-sesa-0` does not exist (five
minutes on two cores), and results/sokoban.json. Pages are photographed in Chromium (`make browser`)
and saved as PNG with a palette; terminals are saved as SVG by rich.
"""

import io
import os
import pty
import select
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from PIL import Image
from playwright.sync_api import (  # pyright: ignore[reportMissingImports]
    Page,
    sync_playwright,
)
from rich.console import Console
from rich.text import Text

ROOT = Path(__file__).parents[1]
IMAGES = ROOT / "docs" / "images"
RUN = Path("runs/sokoban-sesa-0")
WIDTH = 90
"""Columns of a terminal."""
PATIENCE_S = 60
CLEAR = "\x1b[2J\x1b[H"
"""What a terminal is told before a new screen."""
SECOND_TREE = """() => {
  const list = document.getElementById("number");
  list.selectedIndex = 1;
  list.dispatchEvent(new Event("change"));
  document.getElementById("next-win").click();
}"""
"""Shows the second tree of the step, and its success in the panel."""
TERMINAL = """\
<svg class="rich-terminal" viewBox="0 0 {width} {height}" xmlns="http://www.w3.org/2000/svg">
<style>
.{unique_id}-matrix {{ font-family: Menlo, Consolas, "DejaVu Sans Mono", monospace;
 font-size: {char_height}px; line-height: {line_height}px; }}
{styles}
</style>
<defs><clipPath id="{unique_id}-clip-terminal">
<rect x="0" y="0" width="{terminal_width}" height="{terminal_height}" /></clipPath>{lines}</defs>
<rect fill="#292929" width="{width}" height="{height}" rx="8"/>
<g transform="translate(12, 12)">{backgrounds}<g class="{unique_id}-matrix">{matrix}</g></g>
</svg>
"""
"""As rich has it, without a window around the text and without fonts from elsewhere."""


def command(*words: str) -> None:
    """Run a command of sesa-agent."""
    subprocess.run([sys.executable, "-m", "sesa_agent", *words], check=True)


def photograph(
    page: Page, file: Path, name: str, width: int, height: int, prepare: str = ""
) -> None:
    """Save the upper part of a page as an image.

    Args:
        page: a tab.
        file: what is shown.
        name: of the image.
        width: of the window, in pixels.
        height: of the window.
        prepare: JavaScript that is run first.
    """
    page.set_viewport_size({"width": width, "height": height})
    page.goto(file.resolve().as_uri())
    page.wait_for_timeout(500)
    if prepare:
        page.evaluate(prepare)
        page.wait_for_timeout(500)
    picture = Image.open(io.BytesIO(page.screenshot())).convert("RGB")
    small = picture.quantize(256, method=Image.Quantize.FASTOCTREE, dither=Image.Dither.NONE)
    small.save(IMAGES / f"{name}.png", optimize=True)


def last_screen(keys: str, *words: str) -> str:
    """What a terminal shows when a command has answered some keys, pressed one after another."""
    leader, follower = pty.openpty()
    size = {"COLUMNS": str(WIDTH), "LINES": "40", "TERM": "xterm-256color"}
    process = subprocess.Popen(
        [sys.executable, "-m", "sesa_agent", *words],
        stdin=follower,
        stdout=follower,
        stderr=follower,
        env={**os.environ, **size},
    )
    try:
        seen = _read(leader)
        for key in keys:
            os.write(leader, key.encode())
            seen += _read(leader)
    finally:
        process.kill()
        process.wait()
    return seen.rpartition(CLEAR)[2].replace("\r", "").rstrip()


def _read(leader: int) -> str:
    """What comes from a terminal until it is quiet; empty if nothing comes in time."""
    seen = b""
    while select.select([leader], [], [], 1.0 if seen else PATIENCE_S)[0]:
        seen += os.read(leader, 65536)
    return seen.decode()


def save_terminal(screen: str, name: str) -> None:
    """Save a screen with its colours as an SVG."""
    console = Console(width=WIDTH, record=True, force_terminal=True, file=io.StringIO())
    console.print(Text.from_ansi(screen))
    svg = console.export_svg(code_format=TERMINAL, unique_id=name)
    (IMAGES / f"{name}.svg").write_text(svg, encoding="utf-8")


def find_chromium() -> str | None:
    """The system's Chromium, if there is one; else playwright's own is taken."""
    return shutil.which("chromium") or shutil.which("google-chrome")


def main() -> None:
    """Train if need be, then make all screenshots."""
    if not RUN.exists():
        command("train", "--env", "sokoban")
    with tempfile.TemporaryDirectory() as folder, sync_playwright() as driver:
        trees, report, comparison = (Path(folder) / f"{name}.html" for name in "trc")
        command("view", str(RUN), "--step", "9", "--output", str(trees))
        command("report", str(RUN), "--output", str(report))
        command("report", str(ROOT / "results" / "sokoban.json"), "--output", str(comparison))
        chromium = driver.chromium.launch(executable_path=find_chromium(), args=["--no-sandbox"])
        page = chromium.new_page()
        photograph(page, trees, "view-sokoban", 1420, 740, SECOND_TREE)
        photograph(page, report, "report-sokoban", 1060, 1220)
        photograph(page, comparison, "compare-sokoban", 1180, 1130)
        chromium.close()
    save_terminal(last_screen("sh", "play", "--env", "sokoban", "--seed", "3"), "play-sokoban")
    save_terminal(last_screen("  ", "play", "--policy", str(RUN), "--seed", "3"), "watch-sokoban")


if __name__ == "__main__":
    main()
