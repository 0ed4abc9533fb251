"""Renders a chat template in a process of its own, with limits on time and memory.

A template comes with a model and is a small program: it may never end, or write gigabytes. Nothing
in this process can stop that in every case, so the first rendering happens in another one. Run as a
script, this file is that process; it needs Jinja alone, and starts in a tenth of a second.
"""

import json
import subprocess
import sys
from collections.abc import Sequence
from functools import cache
from typing import Any

TIME_S = 10.0
MEMORY = 2**30
"""Bytes."""
TOO_LARGE = 3
"""Exit code of the process if it needed more memory."""


def probe(
    template: str, dialogues: Sequence[Sequence[tuple[str, str]]], variables: dict[str, Any]
) -> str:
    """Render some dialogues and say what is wrong, as the end of a sentence.

    A template may refuse a dialogue by an exception, which is no fault here.

    Args:
        template: in Jinja.
        dialogues: roles and contents of messages.
        variables: what the template may read besides.

    Returns:
        Empty if time and memory were enough.
    """
    messages = [[{"role": role, "content": text} for role, text in one] for one in dialogues]
    return _run(json.dumps({"template": template, "dialogues": messages, "variables": variables}))


@cache
def _run(job: str) -> str:
    if not sys.executable:  # Python is embedded in another program
        return ""
    command = [sys.executable, __file__]
    try:
        done = subprocess.run(command, input=job.encode(), capture_output=True, timeout=TIME_S)
    except subprocess.TimeoutExpired:
        return f"did not end within {TIME_S:g} s"
    except OSError:  # no process can be started here
        return ""
    if done.returncode == TOO_LARGE:
        return f"needed more than {MEMORY / 2**30:g} GiB of memory"
    return f"crashed (signal {-done.returncode})" if done.returncode < 0 else ""


def main() -> None:
    """Render the dialogues in the standard input; fails only if that takes too much memory."""
    import jinja2.ext  # noqa: F401  before memory is limited
    import jinja2.sandbox  # noqa: F401

    _limit_memory()
    job = json.load(sys.stdin)
    for dialogue in job["dialogues"]:
        try:
            _render(job["template"], messages=dialogue, **job["variables"])
        except MemoryError:
            sys.exit(TOO_LARGE)
        except Exception:  # it is rendered again in the main process, which reports it
            continue


def _limit_memory() -> None:
    try:
        import resource

        resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    except (ImportError, ValueError, OSError):  # Windows, macOS
        pass


def _render(template: str, **variables: Any) -> None:
    """Render with what transformers offers to templates."""
    import jinja2.ext
    from jinja2.sandbox import ImmutableSandboxedEnvironment

    class Generation(jinja2.ext.Extension):
        """The tag around replies; transparent."""

        tags = {"generation"}

        def parse(self, parser: Any) -> Any:
            next(parser.stream)
            return parser.parse_statements(("name:endgeneration",), drop_needle=True)

    def refuse(message: str) -> None:
        raise jinja2.TemplateError(message)

    environment = ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=[Generation, jinja2.ext.loopcontrols]
    )
    environment.filters["tojson"] = lambda value, **options: json.dumps(value)
    environment.globals["raise_exception"] = refuse
    environment.globals["strftime_now"] = lambda form: form
    environment.from_string(template).render(
        tools=None, documents=None, add_generation_prompt=True, **variables
    )


if __name__ == "__main__":
    main()
