"""Finds a model of the Hugging Face Hub, or says within seconds why it cannot be had.

transformers asks the hub for one file after another, and repeats each request that fails. Without a
network a wrong name took it a minute to refuse, and a model in the cache three minutes to load. So
the hub is asked once beforehand; downloads keep all the time they need.
"""

import os
from collections.abc import Callable
from pathlib import Path
from queue import Empty, SimpleQueue
from threading import Thread
from typing import Any

from ..configs.errors import SettingError, first_line

ANSWER_S = 7.0
"""Seconds in which the hub must answer, unless HF_HUB_ETAG_TIMEOUT is set. The client's own limit
is per address and leaves out the search for the address."""
ADAPTER_FILE = "adapter_config.json"
ADVICE = "Check the name; a folder is given as ./path."


def find_on_hub(name: str, ask: Callable[[str], Any] | None = None) -> str:
    """Return what transformers should load: the name, or a folder of the cache.

    Args:
        name: `owner/model`.
        ask: returns what the hub knows of a name, or an exception; by default `ask_hub`.

    Raises:
        SettingError: if the model is neither on the hub nor in the cache, or is an adapter.
    """
    from huggingface_hub import constants
    from huggingface_hub.errors import HfHubHTTPError, RepositoryNotFoundError

    cached = _cached_folder(name)
    if constants.HF_HUB_OFFLINE:
        answer: Any = OSError("HF_HUB_OFFLINE or TRANSFORMERS_OFFLINE is set")
    else:
        wait_s = float(os.environ.get("HF_HUB_ETAG_TIMEOUT") or ANSWER_S)
        answer = ask(name) if ask else ask_hub(name, wait_s=wait_s)
    if isinstance(answer, HfHubHTTPError) and not isinstance(answer, RepositoryNotFoundError):
        return name  # a busy hub: transformers tries again
    is_known = not isinstance(answer, Exception)
    files = [file.rfilename for file in answer.siblings or ()] if is_known else []
    if ADAPTER_FILE in files or (cached / ADAPTER_FILE if cached else Path()).is_file():
        raise SettingError(
            f"model.path {name!r} holds a LoRA adapter. Download it and give its folder: "
            f"hf download {name} --local-dir ./adapter"
        )
    if is_known:
        return name
    if cached:
        return str(cached)
    if isinstance(answer, RepositoryNotFoundError):
        raise SettingError(
            f"model.path {name!r} is not on the hub, or not for you to see. {ADVICE} For a private "
            "model log in first: hf auth login"
        )
    raise SettingError(
        f"model.path {name!r} is not in the cache ({constants.HF_HUB_CACHE}), and the hub cannot "
        f"be asked: {first_line(answer)}. {ADVICE}"
    )


def _cached_folder(name: str) -> Path | None:
    """The folder of the cache that holds a model's newest known version."""
    from huggingface_hub import try_to_load_from_cache
    from huggingface_hub.errors import HFValidationError

    try:
        found = [try_to_load_from_cache(name, file) for file in ("config.json", ADAPTER_FILE)]
    except HFValidationError as error:
        raise SettingError(f"model.path {name!r} cannot be a model's name. {ADVICE}") from error
    except OSError:  # a cache that may not be read
        return None
    return next((Path(file).parent for file in found if isinstance(file, str)), None)


def ask_hub(name: str, endpoint: str | None = None, wait_s: float = ANSWER_S) -> Any:
    """Return what the hub knows of a model, or the exception that asking for it raised.

    Args:
        name: `owner/model`.
        endpoint: the hub's URL; by default the client's own.
        wait_s: seconds in which it must answer.
    """
    from huggingface_hub import HfApi

    answers: SimpleQueue[Any] = SimpleQueue()

    def ask() -> None:
        try:
            answers.put(HfApi(endpoint).model_info(name, timeout=2 * wait_s))
        except Exception as error:  # those of the hub, of its HTTP client and of the system
            answers.put(error)

    # A daemon thread, because looking up an address may hang and nothing can interrupt it.
    Thread(target=ask, daemon=True).start()
    try:
        return answers.get(timeout=wait_s)
    except Empty:
        return TimeoutError(f"no answer within {wait_s:g} s (HF_HUB_ETAG_TIMEOUT=60 waits longer)")
