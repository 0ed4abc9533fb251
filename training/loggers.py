"""Sends a run's metrics to Weights & Biases or trackio. Both packages are optional.

    sesa-agent train --env sokoban log.to=wandb

A resumed run continues in the same W&B or trackio run, whose id is in `<run>/loggers.json`. Steps
that were sent before a crash and are computed again are not sent twice. Training does not depend on
a logger: the first failure is reported and disables it.
"""

import json
import secrets
from collections.abc import Callable, Mapping
from contextlib import redirect_stdout
from importlib import import_module
from io import StringIO
from pathlib import Path

from ..configs.errors import SettingError, first_line
from ..configs.json_text import read_json_file
from ..configs.load import config_to_dict
from ..configs.schema import Config, LogConfig
from ..configs.writing import replace_text
from .run_log import Logger, read_metrics

IDS_FILE = "loggers.json"
"""File in the run folder with the run's id in each logger."""
FINISH_TIMEOUT_S = 300
"""Most seconds that a finished run waits for W&B uploads; `wandb sync` sends the rest later."""

Tell = Callable[[str], None]
"""Shows a message: where the metrics go, or why a logger failed."""


class WandbLogger:
    """A run of Weights & Biases. Environment variables such as `WANDB_MODE=offline` apply.

    Args:
        cfg: the run's settings, which are uploaded.
        folder: the run folder; W&B's own files go into its `wandb/`.
        run_id: unique id; a known id resumes that run.
        tell: shows the run's address.
    """

    def __init__(self, cfg: Config, folder: Path, run_id: str, tell: Tell):
        wandb = import_module("wandb")
        self._run = wandb.init(
            project=cfg.log.project,
            id=run_id,
            name=folder.name,
            dir=str(folder),
            config=config_to_dict(cfg),
            allow_val_change=True,  # --resume takes new settings
            resume="allow",
            reinit="create_new",
            settings=wandb.Settings(
                silent=True, console="off", finish_timeout=float(FINISH_TIMEOUT_S)
            ),
        )
        if self._run.offline:
            files = Path(self._run.settings.sync_dir)
            tell(f"W&B is offline. Send the run later with: wandb sync {files}")
        else:
            tell(f"W&B: {self._run.url}")

    def write(self, step: int, metrics: Mapping[str, float]) -> None:
        """Send the metrics of a step in the background."""
        self._run.log(dict(metrics), step=step)

    def close(self) -> None:
        """Wait until all is sent, at most `FINISH_TIMEOUT_S`."""
        self._run.finish()


class TrackioLogger:
    """A run of trackio, in its local database unless variables such as `TRACKIO_SPACE_ID` are set.

    Args:
        cfg: the run's settings, which are stored too.
        folder: the run folder.
        run_id: makes the run's name unique; trackio resumes a run by its name.
        tell: shows the command that opens the dashboard.
    """

    def __init__(self, cfg: Config, folder: Path, run_id: str, tell: Tell):
        self._trackio = trackio = import_module("trackio")
        with redirect_stdout(StringIO()):  # `tell` shows in one line what trackio would print
            self._run = trackio.init(
                project=cfg.log.project,
                name=f"{folder.name}-{run_id}",
                config=config_to_dict(cfg),
                resume="allow",
                embed=False,
            )
        tell(f"trackio: trackio show --project {cfg.log.project}")

    def write(self, step: int, metrics: Mapping[str, float]) -> None:
        """Store the metrics of a step in the background."""
        self._run.log(dict(metrics), step=step)

    def close(self) -> None:
        """Wait until all is stored."""
        with redirect_stdout(StringIO()):
            self._trackio.finish()


LOGGERS = {"wandb": WandbLogger, "trackio": TrackioLogger}
"""Loggers by name in `log.to`, which is also the name of the package."""


class GuardedLogger:
    """Wraps a logger that may fail: the first failure is reported and disables it.

    Args:
        name: the logger's name.
        logger: the logger.
        first_step: earlier steps were sent before the run was stopped and are skipped.
        tell: shows the failure.
    """

    def __init__(self, name: str, logger: Logger, first_step: int, tell: Tell):
        self._name = name
        self._logger: Logger | None = logger
        self._first_step = first_step
        self._tell = tell

    def write(self, step: int, metrics: Mapping[str, float]) -> None:
        """Pass on the metrics of a step, unless they were sent before."""
        if self._logger is None or step < self._first_step:
            return
        try:
            self._logger.write(step, metrics)
        except Exception as error:  # whatever the package raises, the run continues
            self._logger = None
            self._tell(_describe_failure(self._name, error))

    def close(self) -> None:
        """Close the logger, if it still works."""
        if self._logger is None:
            return
        try:
            self._logger.close()
        except Exception as error:  # as above
            self._tell(_describe_failure(self._name, error))
        self._logger = None


def check_loggers(cfg: LogConfig) -> None:
    """Check that each logger is installed and W&B has a login.

    Raises:
        SettingError: in one line that says what to run.
    """
    for name in cfg.names:
        try:
            import_module(name)
        except ModuleNotFoundError as error:
            if error.name != name:
                raise
            raise SettingError(
                f"log.to={cfg.to} needs a package: pip install 'sesa-agent[{name}]'."
            ) from error
    if "wandb" in cfg.names:
        _check_login(cfg.to)


def _check_login(to: str) -> None:
    wandb = import_module("wandb")
    try:
        is_online = wandb.setup().settings.mode in ("online", "shared")
    except ValueError as error:  # WANDB_MODE=ofline
        raise SettingError(
            f"log.to={to}: W&B rejects its own settings. Check WANDB_MODE and the other WANDB_* "
            "variables."
        ) from error
    if is_online and not wandb.login(prompt=False, verify=False):
        raise SettingError(
            f"log.to={to} needs a W&B login: run wandb login, or set WANDB_MODE=offline."
        )


def open_loggers(cfg: Config, folder: Path, tell: Tell) -> list[Logger]:
    """Open the loggers of `log.to`. Call it before the run's own log is opened.

    Args:
        cfg: the run's settings.
        folder: the run folder; created if needed.
        tell: shows where the metrics go, and failures.

    Returns:
        The loggers in the order of `log.to`. They raise no errors.
    """
    path = folder / IDS_FILE
    ids = _read_ids(path)
    folder.mkdir(parents=True, exist_ok=True)
    written = read_metrics(folder) if cfg.log.names else []
    new_step = written[-1]["step"] + 1 if written else 0
    loggers: list[Logger] = []
    for name in cfg.log.names:
        run_id = ids.get(name) or secrets.token_hex(4)
        try:
            logger = LOGGERS[name](cfg, folder, run_id, tell)
        except Exception as error:  # no network, for example: the run continues without it
            tell(_describe_failure(name, error))
            continue
        loggers.append(GuardedLogger(name, logger, new_step if name in ids else 0, tell))
        ids[name] = run_id
    if ids:
        replace_text(path, json.dumps(ids, indent=2) + "\n")
    return loggers


def _read_ids(path: Path) -> dict[str, str]:
    """The ids of the run in its loggers; those of a damaged file are lost, but not the run."""
    try:
        ids = read_json_file(path) if path.exists() else {}
    except ValueError:
        ids = None
    return ids if isinstance(ids, dict) else {}


def _describe_failure(name: str, error: Exception) -> str:
    return (
        f"Warning: {name} failed and gets no more metrics until the run is resumed: "
        f"{first_line(error)}. "
        "The run folder has all metrics."
    )
