"""`sesa-agent compare RUN_A RUN_B ...`: compares finished runs of one environment."""

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

from sesa_agent.commands.compare import choose_reference
from sesa_agent.commands.experiment_tables import (
    file_name,
    result_head,
    typed_command,
    write_comparison,
)
from sesa_agent.configs.errors import SettingError, check
from sesa_agent.configs.load import config_to_dict, method_label, method_names, short_env_name
from sesa_agent.configs.schema import Config
from sesa_agent.environments.ood_sets import usable_sets
from sesa_agent.environments.splits import puzzle_seeds
from sesa_agent.evaluation.experiments.arms import BASE
from sesa_agent.evaluation.experiments.paper import comparison_measurements
from sesa_agent.evaluation.experiments.results import measure_run
from sesa_agent.outputs import check_writable
from sesa_agent.runs import CONFIG_FILE, read_run
from sesa_agent.screen import console


def compare_finished_runs(
    folders: Sequence[Path],
    overrides: Sequence[str],
    episodes: int,
    reference: str,
    output: Path,
) -> None:
    """Measure finished runs of one environment, reusing stored measurements; write the results.

    Args:
        folders: run folders.
        overrides: `group.key=value` words for all of them.
        episodes: held-out puzzles.
        reference: label of the arm against which the others are tested; "" for `sesa`.
        output: folder of the results.

    Raises:
        SettingError: in one line, for a folder without a run, or runs that cannot be compared.
    """
    check(episodes >= 2, "--episodes", episodes, "at least 2")
    puzzle_seeds("test", episodes)  # raises if there are not enough puzzles
    configs = {folder: _read_folder(folder, overrides) for folder in folders}
    first = next(iter(configs))
    for folder, cfg in configs.items():
        if cfg.env != configs[first].env:
            raise SettingError(
                f"{folder} has another environment than {first}: env.id or another setting of "
                "env differs. Compare runs that play the same puzzles."
            )
    labels = label_runs(configs)
    if len({*labels.values()}) < 2:
        raise SettingError(
            f"compare needs at least two arms, got {len(configs)} run(s) of {labels[first]}. "
            "Add runs with another method or other settings."
        )
    reference = choose_reference(reference, list(labels.values()))
    check_writable(output, "--output")
    measurements = comparison_measurements(episodes, usable_sets(configs[first]))
    results = []
    for folder, cfg in configs.items():
        with console.status(f"{folder}: measuring on {episodes} held-out puzzles"):
            results.append(measure_run(folder, cfg, labels[folder], measurements))
    env_id = configs[first].env.id
    env = short_env_name(env_id)
    seeds = sorted({cfg.seed for cfg in configs.values()})
    values = result_head(f"{file_name(env)}-runs", typed_command(), seeds)
    values |= {"models": {env_id: Path(configs[first].model.path).name}}
    title = f"{env}: success of finished runs on {episodes} held-out puzzles"
    write_comparison(values, title, results, reference, output)


def label_runs(configs: Mapping[Path, Config]) -> dict[Path, str]:
    """Label the arm of every run with its method.

    If runs of one method differ in more than the seed, those with equal settings are one arm,
    labelled with the folder name of its first run; with the whole path if the name is also that of
    a method or of another arm.

    Raises:
        SettingError: if two runs of one arm have the same seed.
    """
    arms: dict[tuple[str, str], list[Path]] = {}
    for folder, cfg in configs.items():
        values = config_to_dict(cfg) | {"seed": 0, "output": ""}
        arms.setdefault((method_label(cfg.method), str(values)), []).append(folder)
    taken = {BASE, *method_names()}
    names = Counter(folders[0].name for folders in arms.values())
    labels: dict[Path, str] = {}
    for (method, _), folders in arms.items():
        is_alone = sum(other == method for other, _ in arms) == 1
        seeds = [configs[folder].seed for folder in folders]
        if len({*seeds}) < len(seeds):
            raise SettingError(
                f"{', '.join(map(str, folders))} must have different seeds, got the same settings "
                f"with seeds {seeds}. Name one run for each seed."
            )
        name = folders[0].name
        is_own = names[name] == 1 and name not in taken
        label = method if is_alone and method != BASE else name if is_own else str(folders[0])
        labels |= dict.fromkeys(folders, label)
    return labels


def _read_folder(folder: Path, overrides: Sequence[str]) -> Config:
    if not (folder / CONFIG_FILE).is_file():
        raise SettingError(f"{folder} is not a run folder: it has no {CONFIG_FILE}.")
    return read_run(folder, "", "", list(overrides))
