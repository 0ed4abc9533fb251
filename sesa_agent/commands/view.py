"""`sesa-agent view`: shows the saved trees of a run, as an HTML page or in the terminal."""

import webbrowser
from pathlib import Path

from sesa_agent.configs.errors import SettingError, check
from sesa_agent.configs.writing import replace_text
from sesa_agent.outputs import check_file_writable
from sesa_agent.reading import reading
from sesa_agent.screen import console, say
from sesa_agent.view.page import render
from sesa_agent.view.saved import SavedTree, prompt_decoder, read_saved
from sesa_agent.view.terminal import print_tree

PAGE_FILE = "trees.html"


def run_view(
    folder: Path, step: int | None, output: Path | None, opens: bool, in_terminal: bool
) -> None:
    """Write the page of a run's saved trees, or print the trees of one step."""
    if in_terminal:
        check(output is None, "--output", str(output), "left out with --terminal")
        check(not opens, "--open", True, "left out with --terminal")
    with reading(folder):
        run, saved = read_saved(folder)
    chosen = _of_step(saved, step, folder)
    if in_terminal:
        with reading(folder):
            for one in chosen:
                print_tree(console, one, run.title)
        return
    target = output or folder / PAGE_FILE
    check_file_writable(target, "--output")
    decode = prompt_decoder(run)
    with reading(folder):
        text = render(run.title, saved, chosen[0], decode)
    replace_text(target, text)
    say(f"Written: {target} ({len(saved)} trees, {len(text.encode()) / 1e6:.1f} MB)")
    if opens:
        webbrowser.open(target.resolve().as_uri())


def _of_step(saved: list[SavedTree], step: int | None, folder: Path) -> list[SavedTree]:
    """The trees of a step, by default of the newest.

    Raises:
        SettingError: if that step has no saved trees.
    """
    steps = list(dict.fromkeys(one.step for one in saved))
    if step is None:
        step = steps[-1]
    if step not in steps:
        known = ", ".join(map(str, steps))
        raise SettingError(f"--step {step} has no saved trees in {folder}. Choose one of {known}.")
    return [one for one in saved if one.step == step]
