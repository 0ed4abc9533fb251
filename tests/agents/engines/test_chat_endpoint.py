"""The client against a local server that fails in every way we know of."""

import itertools
import time
from email.utils import formatdate

import pytest

from sesa_agent.agents.engines.chat_endpoint import CallFailed, Endpoint
from sesa_agent.configs.errors import SettingError

from ...helpers import chat_server
from ...helpers.chat_server import serving

KEY = "sk-very-secret-0123456789"
BODY = {"model": "m", "messages": [{"role": "user", "content": "Hello"}]}


def endpoint(server, key="", **options):
    options = {"max_attempts": 3, "pause_s": 0.01, "timeout_s": 30, **options}
    return Endpoint(server.url, key, "MY_KEY", **options)


def test_an_answer_comes_with_the_servers_counts(server):
    answer = endpoint(server, KEY).ask(BODY)
    assert (answer.text, answer.finish_reason) == ("Up", "stop")
    assert (answer.prompt_tokens, answer.response_tokens) == (100, 7)
    assert server.paths == ["/v1/chat/completions"]
    assert server.bodies == [BODY]
    assert server.headers[0]["Authorization"] == f"Bearer {KEY}"


def test_a_server_without_keys_gets_none(server):
    endpoint(server).ask(BODY)
    assert "Authorization" not in server.headers[0]


def test_tokens_that_the_server_did_not_count_are_unknown(server):
    server.counts_tokens = False
    answer = endpoint(server).ask(BODY)
    assert (answer.prompt_tokens, answer.response_tokens) == (None, None)


PASSING = {
    "too many requests": chat_server.status(429),
    "internal error": chat_server.status(500),
    "overloaded": chat_server.status(529),
    "request timeout": chat_server.status(408),
    "garbage": chat_server.body(b"<html>\xff\x00 what"),
    "nothing": chat_server.body(b""),
    "deep garbage": chat_server.body(b"[" * 100_000),
    "other JSON": chat_server.body([1, 2]),
    "an error in disguise": chat_server.body({"error": {"message": "overloaded"}}),
    "no choices": chat_server.body({"choices": []}),
    "a choice without message": chat_server.body({"choices": [{"text": "Up"}]}),
    "no text": chat_server.text([{"type": "image"}]),
    "a hang": chat_server.hang,
    "a body that never ends": chat_server.trickle,
    "a closed connection": chat_server.drop,
    "a reset connection": chat_server.reset,
    "half a body": chat_server.half,
}


def patience(fault) -> float:
    """Seconds for an attempt: few where the fault is that no answer comes."""
    return 0.5 if fault in (chat_server.hang, chat_server.trickle) else 30


@pytest.mark.parametrize("fault", PASSING.values(), ids=PASSING)
def test_temporary_failures_are_retried(server, fault):
    server.faults += [fault, fault]
    assert endpoint(server, timeout_s=patience(fault)).ask(BODY).text == "Up"
    assert server.bodies == [BODY] * 3


@pytest.mark.parametrize("fault", PASSING.values(), ids=PASSING)
def test_a_call_whose_attempts_all_fail_says_why(server, fault):
    server.always = fault
    with pytest.raises(CallFailed, match=r"^(HTTP|no|an?) .*\(2 attempts\)$") as failure:
        endpoint(server, max_attempts=2, timeout_s=patience(fault)).ask(BODY)
    assert len(server.bodies) == 2
    assert "\n" not in str(failure.value)


@pytest.mark.parametrize("content", ["", None, " ", "\ud800", "no idea"])
def test_an_empty_or_odd_answer_counts_as_an_answer(server, content):
    server.faults.append(chat_server.text(content))
    assert endpoint(server).ask(BODY).text == (content or "")
    assert len(server.bodies) == 1


REFUSALS = {
    400: "refuses the request (HTTP 400: no such field). --request changes what is sent.",
    401: "refuses the key in MY_KEY (HTTP 401).",
    403: "refuses the key in MY_KEY (HTTP 403).",
    404: "has no such model or no chat/completions (HTTP 404: no such field).",
    422: "refuses the request (HTTP 422: no such field).",
}


@pytest.mark.parametrize(("code", "line"), REFUSALS.items(), ids=REFUSALS)
def test_permanent_failures_raise_at_once_in_one_line(server, code, line):
    server.always = chat_server.status(code, "no\n such field")
    with pytest.raises(SettingError) as refusal:
        endpoint(server, KEY).ask(BODY)
    assert f"--base-url {server.url} {line}" in str(refusal.value)
    assert len(server.bodies) == 1


def test_a_missing_key_is_reported_as_missing(server):
    server.always = chat_server.status(401)
    with pytest.raises(SettingError, match=r"wants a key \(HTTP 401\), and MY_KEY is not set"):
        endpoint(server).ask(BODY)


def test_a_redirect_is_refused_and_does_not_get_the_key(server):
    with serving(lambda body: "Down") as other:
        server.always = chat_server.status(302, Location=f"{other.url}/chat/completions")
        with pytest.raises(SettingError, match="refuses the request"):
            endpoint(server, KEY).ask(BODY)
        assert other.paths == []


@pytest.mark.parametrize("code", [400, 401, 403, 404, 429, 500])
def test_a_server_that_repeats_the_key_does_not_make_us_repeat_it(server, code):
    server.always = chat_server.echo(code)
    with pytest.raises((SettingError, CallFailed)) as failure:
        endpoint(server, KEY).ask(BODY)
    error: BaseException | None = failure.value
    while error:  # nor does a traceback of the chain
        assert "secret" not in f"{error!s} {error!r}"
        error = error.__cause__


def test_an_answer_that_repeats_the_key_is_kept_without_it(server):
    server.faults.append(chat_server.text(f"your key is {KEY}"))
    assert endpoint(server, KEY).ask(BODY).text == "your key is ***"
    server.faults.append(chat_server.text("EMPTY is a placeholder, not a secret"))
    assert endpoint(server, "EMPTY").ask(BODY).text.startswith("EMPTY")


def test_the_key_is_cut_out_before_the_message_is_shortened(server):
    server.always = chat_server.status(500, "x" * 190 + KEY)
    with pytest.raises(CallFailed) as failure:
        endpoint(server, KEY).ask(BODY)
    assert "sk-" not in str(failure.value)


@pytest.mark.parametrize("key", ["two words-secret", "line\nsecret", "s\u00e9cret-secret"])
def test_a_malformed_key_is_refused_without_showing_it(server, key):
    with pytest.raises(SettingError, match="MY_KEY must hold a key") as refusal:
        endpoint(server, key)
    assert "secret" not in str(refusal.value)


def test_a_key_may_come_with_the_line_end_of_its_file(server):
    endpoint(server, f"{KEY}\n").ask(BODY)
    assert server.headers[0]["Authorization"] == f"Bearer {KEY}"


@pytest.mark.parametrize("url", ["", "localhost:8000", "ftp://host/v1", "http://", "http://h:x/v1"])
def test_a_malformed_url_is_refused(url):
    with pytest.raises(SettingError, match="--base-url must be a URL such as http"):
        Endpoint(url)


@pytest.mark.parametrize("url", ["http://me:secret@host/v1", "https://host/v1?key=secret"])
def test_a_url_with_a_secret_is_refused_and_not_repeated(url):
    with pytest.raises(SettingError, match="--base-url must be without user") as refusal:
        Endpoint(url)
    assert "secret" not in str(refusal.value)


def test_a_server_that_was_never_reached_fails_at_once_and_one_that_was_is_retried(server):
    with serving(lambda body: "Up") as gone:
        seen = endpoint(gone)
        seen.ask(BODY)
    start = time.monotonic()
    with pytest.raises(SettingError, match=r"cannot be reached: .*Is the server running\?"):
        endpoint(gone, pause_s=60).ask(BODY)
    assert time.monotonic() - start < 5
    with pytest.raises(CallFailed, match="a broken connection"):
        seen.ask(BODY)


def test_pauses_double_and_vary(server):
    server.always = chat_server.status(500)
    for _ in range(2):
        with pytest.raises(CallFailed):
            endpoint(server, max_attempts=4, pause_s=0.08).ask(BODY)
    gaps = [later - earlier for earlier, later in itertools.pairwise(server.times)]
    for first, second, third in (gaps[:3], gaps[4:7]):
        assert 0.04 <= first and 0.08 <= second and 0.16 <= third  # s
        assert third < 0.32 + 0.3  # 0.3 s for a busy machine
    assert gaps[:3] != gaps[4:7]


@pytest.mark.parametrize("form", ["seconds", "date"])
def test_retry_after_is_respected_by_all_calls(server, form):
    shared = endpoint(server, max_attempts=1)
    # A date has whole seconds, so this one lies one to two seconds ahead.
    wait = "0.4" if form == "seconds" else formatdate(time.time() + 2, usegmt=True)
    server.faults.append(chat_server.status(429, Retry_After=wait))
    with pytest.raises(CallFailed, match="HTTP 429"):
        shared.ask(BODY)
    shared.ask(BODY)
    assert server.times[1] - server.times[0] >= 0.39


def test_a_server_that_wants_an_hour_is_not_waited_for(server):
    server.always = chat_server.status(429, "quota", Retry_After="3600")
    with pytest.raises(CallFailed, match="HTTP 429: quota, and the server asked to wait 3600 s"):
        endpoint(server).ask(BODY)
    assert len(server.bodies) == 1


@pytest.mark.parametrize("wait", ["soon", "nan", "inf", "-5", ""])
def test_a_malformed_retry_after_is_ignored(server, wait):
    server.faults.append(chat_server.status(503, Retry_After=wait))
    start = time.monotonic()
    assert endpoint(server).ask(BODY).text == "Up"
    assert time.monotonic() - start < 5


def test_requests_keep_to_their_rate(server):
    slow = endpoint(server, requests_per_minute=600)
    for _ in range(4):
        slow.ask(BODY)
    assert server.times[3] - server.times[0] >= 0.29  # s: three gaps of 0.1


def test_any_text_arrives_unchanged(server):
    """Half a surrogate pair included, which a model may have written."""
    words = "caf\u00e9 \ud800 \u0000 \U0001f600"
    endpoint(server).ask(BODY | {"messages": [{"role": "user", "content": words}]})
    assert server.bodies[0]["messages"][0]["content"] == words
