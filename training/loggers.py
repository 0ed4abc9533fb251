"""Weights & Biases and trackio: the metrics of a run, sent there too. Both packages are optional.

    sesa-agent train --env sokoban log.to=wandb

A run that goes on goes on there: `<run>/loggers.json` holds its id in each. Steps that were sent
before a crash and are computed again are not sent twice. Training does not depend on a logger: one
that fails is told of once and left alone.
"""

import json
import secrets
from collections.abc import Callable, Mapping
from contextlib import redirect_stdout
from importlib import import_module
from io import StringIO
from pathlib import Path

from ..configs.errors import SettingError
from ..configs.load import config_to_dict
from ..configs.schema import Config, LogConfig
from .run_log import Logger, read_metrics, replace_text

IDS_FILE = "loggers.json"
"""Ids of the run by logger, in the run folder."""
FINISH_TIMEOUT_S = 300
"""How long the end of a run waits for what W&B has still to send; `wandb sync` sends it later."""

Tell = Callable[[str], None]
"""Is told where the metrics go, and why they no longer do."""


class WandbLogger:
    """A run of Weights & Biases; `WANDB_MODE=offline` and the like do what they always do.

    Args:
        cfg: of the run; its settings are shown there.
        folder: the run folder; W&B's own files go into `wandb/` there.
        run_id: unique; an id that is known is gone on with.
        tell: is told the address.
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
        """Send the numbers of a step; W&B does it in the background."""
        self._run.log(dict(metrics), step=step)

    def close(self) -> None:
        """Wait until all is sent, but not for ever."""
        self._run.finish()


class TrackioLogger:
    """A run of trackio, in its local database unless `TRACKIO_SPACE_ID` or the like say otherwise.

    Args:
        cfg: of the run; its settings are shown there.
        folder: the run folder.
        run_id: makes the run's name unique, by which trackio finds it again.
        tell: is told how to look at it.
    """

    def __init__(self, cfg: Config, folder: Path, run_id: str, tell: Tell):
        self._trackio = trackio = import_module("trackio")
        with redirect_stdout(StringIO()):  # it prints what we tell in one line
            self._run = trackio.init(
                project=cfg.log.project,
                name=f"{folder.name}-{run_id}",
                config=config_to_dict(cfg),
                resume="allow",
                embed=False,
            )
        tell(f"trackio: trackio show --project {cfg.log.project}")

    def write(self, step: int, metrics: Mapping[str, float]) -> None:
        """Keep the numbers of a step; trackio does it in the background."""
        self._run.log(dict(metrics), step=step)

    def close(self) -> None:
        """Wait until all is kept."""
        with redirect_stdout(StringIO()):
            self._trackio.finish()


LOGGERS = {"wandb": WandbLogger, "trackio": TrackioLogger}
"""By the name in `log.to`, which is also that of the package."""


class GuardedLogger:
    """A logger that may fail: its first failure is told, and it is left alone from then on.

    Args:
        name: what it goes by.
        logger: the logger.
        first_step: steps before this one were sent before the run was stopped.
        tell: is told of the failure.
    """

    def __init__(self, name: str, logger: Logger, first_step: int, tell: Tell):
        self._name = name
        self._logger: Logger | None = logger
        self._first_step = first_step
        self._tell = tell

    def write(self, step: int, metrics: Mapping[str, float]) -> None:
        """Pass the numbers of a step on, if they are new."""
        if self._logger is None or step < self._first_step:
            return
        try:
            self._logger.write(step, metrics)
        except Exception as error:  # whatever a foreign package raises: the run goes on
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
    """Refuse a logger that is not installed, or that nobody is logged in to.

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
            f"log.to={to}: W&B's own settings are wrong. Look at WANDB_MODE and the like."
        ) from error
    if is_online and not wandb.login(prompt=False, verify=False):
        raise SettingError(
            f"log.to={to} needs to be logged in: run wandb login, or set WANDB_MODE=offline."
        )


def open_loggers(cfg: Config, folder: Path, tell: Tell) -> list[Logger]:
    """Open what `log.to` names, before the log of the run is.

    Args:
        cfg: of the run.
        folder: the run folder; created if needed.
        tell: is told where the metrics go, and of failures.

    Returns:
        In the order of `log.to`; nothing that goes wrong in them is raised.
    """
    path = folder / IDS_FILE
    ids = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    folder.mkdir(parents=True, exist_ok=True)
    written = read_metrics(folder)
    new_step = written[-1]["step"] + 1 if written else 0
    loggers: list[Logger] = []
    for name in cfg.log.names:
        run_id = ids.get(name) or secrets.token_hex(4)
        try:
            logger = LOGGERS[name](cfg, folder, run_id, tell)
        except Exception as error:  # no network, say: the run does without
            tell(_describe_failure(name, error))
            continue
        loggers.append(GuardedLogger(name, logger, new_step if name in ids else 0, tell))
        ids[name] = run_id
    if ids:
        replace_text(path, json.dumps(ids, indent=2) + "\n")
    return loggers


def _describe_failure(name: str, error: Exception) -> str:
    reason = (str(error).strip() or repr(error)).splitlines()[0].rstrip(".")
    return (
        f"Warning: {name} failed, and gets no metrics until the run is resumed: {reason}. "
        "The run folder holds them all."
    )
