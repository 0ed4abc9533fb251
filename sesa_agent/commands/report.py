"""`sesa-agent report`: writes the HTML page of a run or a comparison."""

from pathlib import Path

from sesa_agent.commands.experiment_tables import installed_versions
from sesa_agent.configs.errors import SettingError, check
from sesa_agent.configs.writing import replace_text
from sesa_agent.outputs import check_file_writable, check_writable
from sesa_agent.reading import reading
from sesa_agent.report.comparison import comparison_page
from sesa_agent.report.render import render, save_pictures
from sesa_agent.report.run import run_page
from sesa_agent.run_files import read_run_files
from sesa_agent.screen import say


def run_report(source: Path, output: Path | None, png: Path | None, runs: Path) -> None:
    """Write the page of a run folder or of a comparison's file; with `png` also its plots."""
    if not source.exists():
        raise SettingError(
            f"{source} does not exist. Give a run folder, or the .json file of a comparison."
        )
    target = output or (source / "report.html" if source.is_dir() else source.with_suffix(".html"))
    check_file_writable(target, "--output")
    if png:
        check_writable(png, "--png")
    is_known = source.is_dir() or source.suffix == ".json"
    check(is_known, "report", str(source), "a run folder or a .json file")
    with reading(source):
        if source.is_dir():
            page = run_page(read_run_files(source), installed_versions())
        else:
            page = comparison_page(source, runs)
        text = render(page)
    replace_text(target, text)
    pictures = save_pictures(page, png) if png else []
    say(f"Written: {', '.join(map(str, (target, *pictures)))}")
