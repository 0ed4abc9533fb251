"""Names of task files: `--env tasks.jsonl` trains on the rows of a file (docs/tasks.md).

In a run's settings `env.id` is the file's name and `env.options.path` its place.
"""

from pathlib import Path

ENDINGS = (".parquet", ".jsonl", ".json", ".csv")
"""How the name of a task file ends."""
REWARD = "env.options.reward"
"""The function of `--reward`, `module:function`. Runs any function of any module, so it is only
ever typed."""


def is_task_file(env: str) -> bool:
    """Return whether an environment is a file of tasks.

    >>> is_task_file("data/tasks.jsonl"), is_task_file("sesa/Math-v0")
    (True, False)
    """
    return Path(env).suffix.lower() in ENDINGS


def env_label(env: str) -> str:
    """The short name of an environment in folders and tables: of a task file without its folder.

    >>> env_label("data/tasks.jsonl"), env_label("sesa/Math-v0")
    ('tasks.jsonl', 'sesa/Math-v0')
    """
    return Path(env).name if is_task_file(env) else env
