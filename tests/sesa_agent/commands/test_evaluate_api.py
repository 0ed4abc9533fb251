"""`sesa-agent evaluate api:MODEL` against real servers on this machine."""

import json
import os
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from sesa_agent.agents.policy import Policy

from ...helpers import chat_server
from ...helpers.chat_server import policy_replies, serving
from ...helpers.toy_game import ENV_ID

KEY = "sk-very-secret-0123456789"
LEFT, RIGHT = "<answer>Left</answer>", "<answer>Right</answer>"
FAILS_AT_ONCE = chat_server.status(503, "no luck", Retry_After="999")
"""Longer than the client waits, so it gives up the call after the first attempt."""


@pytest.fixture
def call(sesa_agent, here, monkeypatch):
    """Runs the command line in an empty working folder."""
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    return sesa_agent


@pytest.fixture
def server(server):
    """Answers for the corridor, where two steps to the right succeed."""
    server.reply = lambda body: RIGHT
    return server


def words(server, *more):
    return ("evaluate", "api:m", "--base-url", server.url, "--env", ENV_ID, *more)


def read(path="r.json"):
    return json.loads(Path(path).read_text())


def test_a_model_behind_an_endpoint_plays_as_it_does_locally(call):
    """The same model, prompts and counts; at this temperature its answers are deterministic."""
    same = ("--env", "sokoban", "--episodes", 12, "--temperature", 0.0001)
    with serving(policy_replies(Policy.load("sesa-tiny"))) as server:
        api = ("evaluate", "api:sesa-tiny", "--base-url", server.url)
        assert call(*api, *same, "--json", "api.json")[0] == 0
    assert call("evaluate", "sesa-tiny", *same, "--json", "home.json")[0] == 0
    api, home = read("api.json"), read("home.json")
    assert api["wins"].count("1") > 0
    unknown = {"target", "answer_entropy"}  # an endpoint tells no probabilities
    assert {key: api[key] for key in home if key not in unknown} == {
        key: home[key] for key in home if key not in unknown
    }


def test_tokens_are_counted_and_priced(call, server):
    prices = ("--price-in", 2, "--price-out", 10)
    code, out, err = call(*words(server, "--episodes", 3, "--json", "a/r.json", *prices))
    assert (code, err) == (0, "")
    # Six answers of 100 prompt and 7 response tokens each: 6 * (100 * 2 + 7 * 10) / 1e6.
    assert "6 answers, 600 prompt tokens, 42 response tokens, cost 0.00162; 100.0%" in out
    result = read("a/r.json")
    assert (result["success_rate"], result["num_episodes"], result["left_out"]) == (1, 3, [])
    account = result["api"]
    assert account["cost"] == pytest.approx(0.00162)
    assert (account["calls"], account["failed_calls"]) == (6, 0)
    assert (account["prompt_tokens"], account["response_tokens"]) == (600, 42)
    assert account["base_url"] == server.url
    server.counts_tokens = False
    code, out, _ = call(*words(server, "--episodes", 3))
    assert "no token counts for 6 answers" in out


def test_truncated_answers_are_reported(call, server):
    server.reply, server.finish_reason = lambda body: "Well, I think", "length"
    code, out, _ = call(*words(server, "--episodes", 1, "engine.max_new_tokens=7"))
    assert code == 0
    assert "10 answers were truncated at engine.max_new_tokens=7" in out
    assert "0.0% of the answers were readable" in out


def test_answers_in_other_words_than_asked_for_are_read(call, server):
    server.reply = lambda body: "Sure! <Answer> `Up`.</Answer>"
    code, out, _ = call(*words(server, "--episodes", 1))
    assert (code, "100.0% of the answers were readable" in out) == (0, True)
    _, out, _ = call(*words(server, "--episodes", 1, "model.answer_format=strict"))
    assert "0.0% of the answers were readable" in out and "100.0%" not in out


def test_a_request_can_be_changed(call, server):
    changes = '{"max_tokens": null, "max_completion_tokens": 99, "temperature": null}'
    command = words(server, "--episodes", 1, "--json", "r.json", "--request", changes)
    code, out, _ = call(*command)
    assert (code, server.bodies[0]["max_completion_tokens"]) == (0, 99)
    assert not {"max_tokens", "temperature"} & set(server.bodies[0])
    assert "T = 1" in out  # the endpoint's own
    assert read()["api"]["request"] == json.loads(changes)
    assert "T = 0\n" in call(*words(server, "--episodes", 1, "--request", '{"temperature": 0}'))[1]


def test_failed_calls_leave_their_puzzle_out_and_the_same_command_retries_them(call, server):
    server.faults += [None, FAILS_AT_ONCE]
    command = words(server, "--episodes", 4, "--json", "r.json", "--concurrency", 1)
    code, out, _ = call(*command)
    assert code == 0
    assert "1 calls failed, the last with HTTP 503: no luck" in out
    assert "Their 1 puzzles are left out" in out
    assert "success is over the 3 puzzles that were played to their end" in " ".join(out.split())
    result = read()
    assert (result["num_episodes"], len(result["left_out"])) == (3, 1)
    assert (result["wins"], result["api"]["failed_calls"]) == ("1 1 1", 1)

    num_before = len(server.bodies)
    assert call(*command)[0] == 0
    result = read()
    assert (result["num_episodes"], result["left_out"]) == (4, [])
    assert (result["api"]["failed_calls"], result["api"]["calls"]) == (0, 8)
    assert len(server.bodies) == num_before + 2  # the puzzle that failed, to its end


def test_a_puzzle_with_a_failed_attempt_does_not_count(call, server):
    """The other attempt would count for more than those at other puzzles."""
    server.faults += [None, FAILS_AT_ONCE]
    command = words(server, "--episodes", 2, "--samples", 2, "--concurrency", 1)
    assert call(*command, "--json", "r.json")[0] == 0
    result = read()
    assert (result["wins"], result["success_rate"], result["pass_at_k"]["2"]) == ("2", 1, 1)
    assert (result["num_episodes"], len(result["left_out"])) == (1, 1)


def test_several_attempts_are_several_requests(call, server):
    server.faults += [None, chat_server.text(LEFT), None]
    command = words(server, "--episodes", 1, "--samples", 2, "--concurrency", 1)
    assert call(*command, "--json", "r.json")[0] == 0
    assert read()["wins"] == "1"
    assert len(server.bodies) == 3


def test_a_conversation_is_sent_as_messages(call, server):
    assert call(*words(server, "--episodes", 1, "model.context=full"))[0] == 0
    messages = server.bodies[-1]["messages"]
    assert [message["role"] for message in messages] == ["system", "user", "assistant", "user"]
    assert messages[2]["content"] == RIGHT
    assert "Turn 2" in messages[3]["content"]


def mistake(call, *command):
    code, out, err = call(*command)
    assert (code, out, err.count("\n")) == (2, "", 1), err
    assert err.startswith("sesa-agent: ")
    return err


def test_an_evaluation_whose_calls_all_fail_ends_in_one_line(call, server):
    server.always = FAILS_AT_ONCE
    line = mistake(call, *words(server, "--episodes", 3, "--json", "r.json"))
    assert "No puzzle could be played to its end: 3 calls failed, the last with HTTP 503" in line
    line = mistake(call, *words(server, "--episodes", 100, "--json", "r.json"))
    assert "does not answer: 8 calls in a row failed" in line
    assert "stored" not in line
    assert not Path("r.json").exists()


def test_an_endpoint_that_goes_away_leaves_its_answers(call, server):
    server.faults += [None] * 10 + [FAILS_AT_ONCE] * 10
    command = words(server, "--episodes", 20, "--json", "r.json", "--concurrency", 1)
    line = mistake(call, *command)
    assert "10 answers are stored in r.answers.jsonl: the same command resumes" in line
    server.faults.clear()
    num_before = len(server.bodies)
    assert call(*command)[0] == 0
    assert read()["num_episodes"] == 20
    assert num_before + 30 <= len(server.bodies) <= num_before + 31  # one was on its way


@pytest.mark.parametrize("code", [400, 401, 404])
def test_a_rejected_request_is_one_line(call, server, code):
    server.always = chat_server.status(code, "no such thing")
    line = mistake(call, *words(server, "--episodes", 50))
    assert f"HTTP {code}" in line


def test_mistakes_are_found_before_any_request(call, server):
    api = ("evaluate", "api:m", "--env", ENV_ID)
    assert "--base-url must be given with api:m" in mistake(call, *api)
    url = ("--base-url", server.url)
    for option, value, hint in (
        ("--concurrency", 0, "--concurrency must be from 1 to 1000"),
        ("--timeout", 0, "--timeout must be above 0"),
        ("--price-in", -1, "--price-in must be at least 0"),
        ("--requests-per-minute", "nan", "--requests-per-minute must be at least 0"),
        ("--request", "{", "--request must be a JSON object"),
        ("--request", "[]", "--request must be a JSON object"),
        ("--request", '{"model": "x"}', "--request must be without model"),
        ("--request", '{"temperature": "hot"}', "--request temperature must be a number"),
    ):
        assert hint in mistake(call, *api, *url, option, value)
    assert "--base-url must be left out" in mistake(call, "evaluate", "m", *api[2:], *url)
    assert "must be api:MODEL" in mistake(call, "evaluate", "api:", *api[2:], *url)
    assert "Try --env sokoban" in mistake(call, *api[:2], *url)
    assert "cannot be reached" in mistake(call, *api, "--base-url", "http://127.0.0.1:9")
    assert server.bodies == []


def test_training_such_a_model_is_rejected(call):
    line = mistake(call, "train", "--env", "sokoban", "--model", "api:org/m")
    assert "it can be evaluated, not trained" in line


@pytest.mark.parametrize("name", ["OPENAI_API_KEY", "MY_KEY"])
def test_the_key_comes_from_the_environment_and_goes_nowhere_else(
    call, server, name, monkeypatch, caplog
):
    """Not even if the server repeats what it was sent, in errors or in answers."""
    monkeypatch.setenv(name, KEY)
    server.reply = lambda body: RIGHT + KEY
    echo = chat_server.echo
    texts = []
    for fault in (None, echo(400), echo(401), echo(404), echo(500)):
        server.faults += [None, fault]
        command = words(server, "--episodes", 1, "--json", "r.json", "--api-key-env", name)
        texts += [out + err for _, out, err in [call(*command)]]
        Path("r.answers.jsonl").rename(f"{len(texts)}.jsonl")
    assert server.headers[0]["Authorization"] == f"Bearer {KEY}"
    texts += [path.read_text() for path in Path().rglob("*") if path.is_file()]
    assert len(texts) > 6
    assert "***" in "".join(texts)
    for text in (*texts, caplog.text):
        assert "secret" not in text


def test_ctrl_c_keeps_the_answers_and_the_same_command_resumes(call, server):
    """Requests under way are not waited for."""
    server.faults += [None] * 5 + [chat_server.hang] * 8
    command = words(server, "--episodes", 10, "--json", "r.json", "--concurrency", 2)
    process = subprocess.Popen(
        [sys.executable, "-m", "sesa_agent", *map(str, command)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[3]), "OMP_NUM_THREADS": "1"},
    )
    deadline = time.monotonic() + 120
    log = Path("r.answers.jsonl")
    while len(server.bodies) < 7 or not log.exists() or log.read_text().count("\n") < 5:
        assert time.monotonic() < deadline
        time.sleep(0.02)
    start = time.monotonic()
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=60)
    assert time.monotonic() - start < 20  # a request would hang for 60 s
    assert (process.returncode, err) == (130, ""), shlex.join(map(str, command))
    assert "5 answers are stored in r.answers.jsonl: the same command resumes" in out
    assert not Path("r.json").exists()
    server.faults.clear()
    num_before = len(server.bodies)
    assert call(*command)[0] == 0
    assert len(server.bodies) == num_before + 15
    assert read()["num_episodes"] == 10
