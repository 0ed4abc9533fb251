"""Any OpenEnv server: `sesa-agent train --env openenv:http://localhost:8000`.

OpenEnv (BSD-3-Clause) serves an environment over WebSockets, one session per connection. The
generic client plays it, so that nothing of the environment's own package is needed here. What an
action is, the server's `/schema` says: an action with one field is that field's text or number, one
with several is a JSON object. An observation is shown field by field.
"""

import json
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any
from urllib.error import HTTPError
from urllib.parse import urlparse
from urllib.request import ProxyHandler, build_opener

from ...configs.errors import SettingError
from ..descriptions import describe_message
from ..text_env import TextSpec
from .collection_game import MAX_MOVE, OutsideGame, Reply

ACTION_LISTS = ("available_actions", "legal_actions", "valid_actions", "admissible_commands")
"""Fields of an observation that list what may be played; they are told apart from the text."""
SUCCESS_FIELDS = ("success", "won")
"""Fields of an observation that say whether the game is won."""
WAIT_S = 10.0
"""Seconds in which a server must answer about itself."""
PLAY_S = 3600.0
"""Seconds in which a server must answer a move; `env.step_timeout` is usually shorter."""
READERS = {"string": str, "integer": int, "number": float}
"""What reads a field of an action, by its type in JSON."""


def game_names() -> Sequence[str]:
    """Return the one name: a server.

    Raises:
        ModuleNotFoundError: if openenv-core is not installed.
    """
    import openenv  # noqa: F401  # pyright: ignore[reportMissingImports]

    return ["Server-v0"]


def make(
    name: str,
    url: str = "",
    action_field: str = "",
    observation_fields: str = "",
    sessions: int = 0,
    max_steps: int = 200,
) -> "OpenEnvGame":
    """Connect to a server.

    Args:
        name: not used, there is one.
        url: the server's address.
        action_field: the field of an action that takes the answer; by default the only one that is
            required, else the answer is a JSON object.
        observation_fields: the fields of an observation to show, separated by commas; by default
            all that are not empty.
        sessions: most sessions at once, `max_concurrent_envs` of the server; 0 for no limit.
        max_steps: number of actions after which an episode is truncated.

    Raises:
        SettingError: if there is no such server, it is full, or its actions cannot be written.
        ValueError: if a number is out of range.
    """
    if urlparse(url).scheme not in ("http", "https", "ws", "wss") or not urlparse(url).hostname:
        raise SettingError(
            f"env.options.url must be a server's address, got {url!r}. "
            "Write --env openenv:http://localhost:8000."
        )
    if sessions < 0:
        raise ValueError(f"sessions must be at least 0, got {sessions}.")
    fields = tuple(field.strip() for field in observation_fields.split(",") if field.strip())
    return OpenEnvGame(url.rstrip("/"), action_field, fields, sessions, max_steps)


class OpenEnvGame(OutsideGame):
    """A session of an OpenEnv server.

    Reward: the server's; 0 where it gives none. Episode end: the server's `done`. Success: the
    field `success` or `won` of the observation; else the end with a positive reward.

    Args:
        url: the server's address.
        action_field: the field of an action that takes the answer, or "".
        observation_fields: the fields to show; empty for all.
        sessions: most sessions at once; 0 for no limit.
        max_steps: number of actions after which it is truncated.
    """

    def __init__(
        self,
        url: str,
        action_field: str,
        observation_fields: Sequence[str],
        sessions: int,
        max_steps: int,
    ):
        self.client: Any = None
        self.url, self.shown = url, tuple(observation_fields)
        self.max_instances = sessions
        schema = _ask(url, "/schema")
        self.form = ActionForm(url, schema.get("action", {}), action_field)
        about = _ask(url, "/metadata")
        rules = " ".join(str(about.get("description") or "").split())
        text_spec = TextSpec(
            instruction=rules or "Do what is asked.",
            legend="",
            actions=self.form.described,
            examples=self.form.examples,
        )
        super().__init__(text_spec, max_steps)
        self.client = _connect(url)

    def open(self, seed: int) -> str:
        """Start the episode of a seed."""
        result = self.client.reset(seed=seed)
        return self._show(result.observation)

    def play(self, action: str) -> Reply:
        """Send an action; one that the server does not accept changes nothing."""
        try:
            result = self.client.step(self.form.read(action))
        except RuntimeError as error:
            if "VALIDATION_ERROR" not in str(error):
                raise
            return Reply(self.text, 0.0, legal=False)
        reward, observation = float(result.reward or 0.0), result.observation
        said = [observation[name] for name in SUCCESS_FIELDS if name in observation]
        is_won = bool(said[0]) if said else reward > 0
        return Reply(
            self._show(observation),
            reward,
            terminated=bool(result.done),
            success=bool(result.done) and is_won,
        )

    def canonical_action(self, text: str) -> str | None:
        """Return the action as the server's schema spells it, or None."""
        action = self.form.read(text)
        return None if action is None else self.form.spell(action)

    def close(self) -> None:
        """End the session."""
        if self.client is not None:
            self.client.close()
            self.client = None

    def _show(self, observation: Mapping[str, Any]) -> str:
        """Write the observation as text, and keep its list of actions."""
        listed = [observation.get(name) for name in ACTION_LISTS]
        listed = [names for names in listed if isinstance(names, list) and names]
        self.available_actions = [str(name) for name in listed[0]] if listed else None
        chosen = self.shown or [name for name in observation if name not in ACTION_LISTS]
        missing = [name for name in chosen if name not in observation]
        if missing:
            raise SettingError(
                f"env.options.observation_fields: {self.url} shows no {missing[0]!r}, only "
                f"{', '.join(observation)}."
            )
        return write_fields({name: observation[name] for name in chosen})


class ActionForm:
    """How an answer becomes an action, by the schema of a server's actions.

    Args:
        url: the server's address, for messages.
        schema: JSON schema of an action.
        field: the field that takes the answer; "" to find it.

    Raises:
        SettingError: if the answer cannot become an action.
    """

    def __init__(self, url: str, schema: Mapping[str, Any], field: str):
        parts = {**schema.get("properties", {})}
        parts.pop("metadata", None)
        if "tool_name" in parts:
            raise SettingError(
                f"--env openenv:{url} offers tools (MCP) instead of actions in text, which are not "
                "played."
            )
        if field and parts and field not in parts:
            raise SettingError(
                f"env.options.action_field must be one of {', '.join(parts)}, got {field!r}."
            )
        if not field and not parts:
            raise SettingError(
                f"--env openenv:{url} does not tell what its actions are (/schema). "
                "Name the field that takes the answer: env.options.action_field=NAME."
            )
        required = [name for name in schema.get("required", ()) if name in parts]
        single = [names[0] for names in (required, list(parts)) if len(names) == 1]
        self.field = field or (single[0] if single else "")
        self.parts, self.required = parts or {field: {"type": "string"}}, required
        self.choices = [str(name) for name in self.parts.get(self.field, {}).get("enum", ())]

    @property
    def described(self) -> str:
        """The form of an answer, in one line."""
        if self.choices:
            return ", ".join(self.choices)
        if self.field:
            kind = self.parts[self.field].get("type", "string")
            return "any text" if kind == "string" else f"a number ({kind})"
        names = [f"{name} ({part.get('type', 'any')})" for name, part in self.parts.items()]
        return f"a JSON object with the fields {', '.join(names)}"

    @property
    def examples(self) -> tuple[str, ...]:
        """Texts that can be read as actions."""
        if self.choices:
            return tuple(self.choices)
        if self.field:
            is_text = self.parts[self.field].get("type", "string") == "string"
            return ("1", "2", "hello") if is_text else ("1", "2")
        values = {"string": "1", "boolean": True, "array": [], "object": {}}
        example = {name: values.get(part.get("type"), 1) for name, part in self.parts.items()}
        return (json.dumps(example),)

    def read(self, text: str) -> dict[str, Any] | None:
        """Read an answer; None if it is no action."""
        text = text.strip()
        if not text or len(text) > 100 * MAX_MOVE:
            return None
        try:
            if self.field:
                return {self.field: self._value(text)}
            action = json.loads(text)
        except (ValueError, RecursionError):
            return None
        is_sound = isinstance(action, dict) and set(self.required) <= set(action) <= {*self.parts}
        return action if is_sound else None

    def spell(self, action: Mapping[str, Any]) -> str:
        """Spell an action in its canonical way."""
        return str(action[self.field]) if self.field else json.dumps(action, sort_keys=True)

    def _value(self, text: str) -> Any:
        part = self.parts[self.field]
        if not self.choices:
            return READERS.get(part.get("type", "string"), json.loads)(text)
        known = {str(name).casefold(): name for name in part["enum"]}
        if text.casefold() not in known:
            raise ValueError(text)
        return known[text.casefold()]


def write_fields(fields: Mapping[str, Any]) -> str:
    r"""Write the fields of an observation that are not empty; the text alone if there is one.

    >>> write_fields({"text": "Hello.", "score": None})
    'Hello.'
    >>> write_fields({"prompt": "Guess!\nQuickly!", "left": 3})
    'prompt:\nGuess!\nQuickly!\nleft: 3'
    """
    full = {name: value for name, value in fields.items() if value not in (None, "", [], {})}
    texts = {
        name: value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
        for name, value in full.items()
    }
    if len(texts) == 1:
        return next(iter(texts.values()))
    return "\n".join(
        f"{name}:\n{text}" if "\n" in text else f"{name}: {text}" for name, text in texts.items()
    )


def _ask(url: str, page: str) -> dict[str, Any]:
    """Read a page of the server; an empty one if it has no such page.

    Raises:
        SettingError: if there is no server.
    """
    address = url.replace("ws", "http", 1) if url.startswith("ws") else url
    is_local = urlparse(url).hostname in ("localhost", "127.0.0.1", "::1")
    opener = build_opener(ProxyHandler({})) if is_local else build_opener()
    try:
        with opener.open(f"{address}{page}", timeout=WAIT_S) as answer:
            content = json.loads(answer.read())
    except HTTPError:
        return {}
    except (OSError, ValueError) as error:
        raise _no_server(url, error) from error
    return content if isinstance(content, dict) else {}


def _connect(url: str) -> Any:
    """Open a session.

    Raises:
        SettingError: if the server does not answer or is full.
    """
    from openenv.core.generic_client import (  # pyright: ignore[reportMissingImports]
        GenericEnvClient,
    )

    client = GenericEnvClient(
        base_url=url, connect_timeout_s=WAIT_S, message_timeout_s=PLAY_S, mode="simulation"
    ).sync()
    try:
        client.connect()
        client.state()  # a full server says so after the connection is made
    except Exception as error:
        reason = error
        if not isinstance(error, ConnectionError | RuntimeError):  # it said so before it hung up
            with suppress(Exception):
                reason = RuntimeError(client._receive()["data"]["message"])
        client.close()
        if "capacity" in str(reason).lower():
            raise SettingError(
                f"--env openenv:{url} is full: {describe_message(reason)} "
                "Raise max_concurrent_envs of the server, or tell its number: "
                "env.options.sessions=N."
            ) from error
        raise _no_server(url, reason) from error
    return client


def _no_server(url: str, error: Exception) -> SettingError:
    return SettingError(
        f"--env openenv:{url}: no OpenEnv server answers there ({describe_message(error)}). "
        "Start it, or correct the address."
    )
