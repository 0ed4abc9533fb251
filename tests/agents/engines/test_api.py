import json
import threading

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sesa_agent.agents.engines.answer_cache import AnswerCache
from sesa_agent.agents.engines.api import (
    APIEngine,
    MessagesChat,
    escaped,
    in_threads,
    read_messages,
)
from sesa_agent.agents.engines.base import SamplingParams
from sesa_agent.agents.engines.chat_endpoint import Endpoint
from sesa_agent.agents.policy import Policy
from sesa_agent.configs.errors import SettingError

from ...helpers import chat_server

PARAMS = SamplingParams(temperature=0.5, max_new_tokens=9, stop=("</answer>",))
CHAT = MessagesChat()
TEXTS = st.text() | st.text('"\\{}[],:\n \x00', max_size=9)


@pytest.fixture
def server(server):
    """Answers with the last message."""
    server.reply = lambda body: body["messages"][-1]["content"]
    return server


def api_engine(server, **options):
    endpoint = Endpoint(server.url, timeout_s=5, max_attempts=2, pause_s=0.01)
    return APIEngine(endpoint, "org/model", **options)


def prompts(*questions):
    return [CHAT.opening("Play.", question) for question in questions]


@given(TEXTS, TEXTS, TEXTS, TEXTS, TEXTS)
def test_a_prompt_holds_every_message_unchanged(system, question, more, response, later):
    """Whatever a text looks like, it cannot end its own message."""
    prompt = CHAT.append_to_question(CHAT.opening(system, question), more)
    start = [
        {"role": "system", "content": system},
        {"role": "user", "content": question + more},
    ]
    assert read_messages(prompt) == start
    said = escaped(response)
    prompt = (*prompt, *said, *CHAT.reply(said, later))
    answer = {"role": "assistant", "content": response}
    assert read_messages(prompt) == [*start, answer, {"role": "user", "content": later}]


def test_lone_surrogates_are_sent_as_question_marks():
    """Servers refuse them as malformed JSON, which ended the evaluation."""
    chat = MessagesChat()
    prompt = chat.append_to_question(chat.opening("a\ud800", "b\udfff"), "c\ud800")
    assert [message["content"] for message in read_messages(prompt)] == ["a?", "b?c?"]


def test_messages_and_sampling_parameters_are_sent(server):
    (completion,) = api_engine(server).generate(prompts("Up?"), PARAMS)
    assert server.bodies == [
        {
            "model": "org/model",
            "messages": [
                {"role": "system", "content": "Play."},
                {"role": "user", "content": "Up?"},
            ],
            "temperature": 0.5,
            "max_tokens": 9,
        }
    ]
    assert (completion.text, completion.logprobs, completion.finish_reason) == ("Up?", (), "eos")


def test_a_request_can_be_changed_except_for_its_protected_fields(server):
    changes = {"max_tokens": None, "max_completion_tokens": 5, "top_p": 0.1}
    api_engine(server, request=changes).generate(prompts("Up?"), PARAMS)
    body = server.bodies[0]
    assert "max_tokens" not in body
    assert (body["max_completion_tokens"], body["top_p"]) == (5, 0.1)
    for name in ("model", "messages", "stream", "n"):
        with pytest.raises(SettingError, match="--request must be without model, messages"):
            api_engine(server, request={name: 1})


@pytest.mark.parametrize(
    ("said", "by_server", "text", "reason"),
    [
        ("<answer>Up</answer> since", "stop", "<answer>Up</answer>", "stop"),
        ("<answer>Up</answer>", "length", "<answer>Up</answer>", "stop"),
        ("<answer>Up", "stop", "<answer>Up", "eos"),
        ("<answer>Up", "length", "<answer>Up", "length"),
        ("", "content_filter", "", "eos"),
        ("", "failed", "", "eos"),
    ],
)
def test_a_response_ends_with_its_stop_string_if_it_has_one(server, said, by_server, text, reason):
    """An endpoint leaves a stop string out: <answer>Up and <answer>Up</answer> would look alike."""
    server.finish_reason = by_server
    engine = api_engine(server)
    (completion,) = engine.generate(prompts(said), PARAMS)
    assert (completion.text, completion.finish_reason) == (text, reason)
    assert completion.token_ids == escaped(text)
    assert engine.num_cut == (reason == "length")
    assert "stop" not in server.bodies[0]


def test_answers_keep_the_order_of_the_prompts_and_the_servers_token_counts(server):
    engine = api_engine(server)
    words = [str(number) for number in range(40)]
    assert [c.text for c in engine.generate(prompts(*words), PARAMS)] == words
    usage = engine.usage
    assert (usage.calls, usage.prompt_tokens, usage.response_tokens) == (40, 4000, 280)
    server.counts_tokens = False
    engine.generate(prompts("a", "b"), PARAMS)
    assert (usage.calls, usage.prompt_tokens, engine.num_uncounted) == (42, 4000, 2)


def test_as_many_requests_as_allowed_run_at_the_same_time(server):
    meet = threading.Barrier(5, timeout=30)

    def reply(body):
        meet.wait()  # passes when five requests wait for it
        return "Up"

    server.reply = reply
    api_engine(server, concurrency=5).generate(prompts(*"abcdefghij"), PARAMS)
    assert server.most_open == 5


def test_a_failed_call_gives_no_response_and_does_not_stop_the_others(server):
    server.faults += [chat_server.status(500, "no luck")] * 2
    engine = api_engine(server, concurrency=1)
    completions = engine.generate(prompts("a", "b", "c"), PARAMS)
    assert [c.finish_reason for c in completions] == ["failed", "eos", "eos"]
    assert (engine.usage.calls, engine.usage.failed_calls) == (2, 1)
    assert engine.usage.last_failure == "HTTP 500: no luck (2 attempts)"


def test_an_endpoint_that_is_gone_is_given_up_early(server):
    engine = api_engine(server, concurrency=2)
    engine.generate(prompts("a"), PARAMS)
    server.always = chat_server.drop
    with pytest.raises(SettingError, match="8 calls in a row failed, the last with a broken conn"):
        engine.generate(prompts(*"abcdefghijklmnopqrstuvwxyz"), PARAMS)
    assert len(server.bodies) <= 1 + 2 * (8 + 2)


def test_a_refusal_ends_the_call_at_once(server):
    server.always = chat_server.status(404, "no such model")
    with pytest.raises(SettingError, match="no such model"):
        api_engine(server, concurrency=2).generate(prompts(*"abcdefghijklmnopqr"), PARAMS)
    assert len(server.bodies) <= 4


def test_excluded_completions_may_be_sampled_again(server):
    engine = api_engine(server)
    first = engine.generate(prompts("Up"), PARAMS)
    assert engine.generate(prompts("Up"), PARAMS, [first]) == first


def test_it_cannot_be_trained(server, llama):
    with pytest.raises(SettingError, match="api:org/model cannot be trained, only evaluated"):
        api_engine(server).load_weights(Policy.load(str(llama)))
    with pytest.raises(SettingError, match="gives no weights: it can be evaluated, not trained"):
        Policy.load("api:org/model")


def numbered(server, path, *origin):
    """An engine on that log; the server counts its answers."""
    server.reply = lambda body: f"answer {len(server.bodies)}"
    return api_engine(server, concurrency=1, log=AnswerCache(path, *origin))


def texts(engine, *questions, params=PARAMS):
    return [completion.text for completion in engine.generate(prompts(*questions), params)]


def test_cached_answers_are_not_requested_again(server, tmp_path):
    path = tmp_path / "deep" / "answers.jsonl"
    first = numbered(server, path, "seed 0")
    before = texts(first, "a", "a", "b")
    again = numbered(server, path, "seed 0")
    assert texts(again, "a", "a", "b", "c") == [*before, "answer 4"]
    assert again.usage.calls == 4
    assert again.usage.prompt_tokens == 400


def test_equal_requests_get_independent_answers(server, tmp_path):
    path = tmp_path / "answers.jsonl"
    texts(numbered(server, path), "a", "a")
    assert texts(numbered(server, path), "a", "a", "a") == ["answer 1", "answer 2", "answer 3"]


def test_other_settings_do_not_share_the_cache(server, tmp_path):
    path = tmp_path / "answers.jsonl"
    texts(numbered(server, path, 0), "a")
    assert texts(numbered(server, path, 1), "a") == ["answer 2"]
    warm = SamplingParams(temperature=0.7, max_new_tokens=9)
    assert texts(numbered(server, path, 0), "a", params=warm) == ["answer 3"]
    assert texts(numbered(server, path, 0), "a") == ["answer 1"]


def test_a_failed_call_is_not_cached(server, tmp_path):
    path = tmp_path / "answers.jsonl"
    server.faults += [None, chat_server.drop, chat_server.drop]
    assert texts(numbered(server, path), "a", "a") == ["answer 1", ""]
    assert texts(numbered(server, path), "a", "a") == ["answer 1", "answer 4"]


@pytest.mark.parametrize("damage", ["half a line", "other JSON", "nothing"])
def test_a_damaged_cache_line_loses_only_its_answer(server, tmp_path, damage):
    path = tmp_path / "answers.jsonl"
    texts(numbered(server, path), "a", "b")
    whole = path.read_bytes()
    ends = {"half a line": whole[:-10], "other JSON": whole[:-10] + b"\n[1]\n{}", "nothing": b""}
    path.write_bytes(ends[damage])
    kept = [] if damage == "nothing" else ["answer 1"]
    after = texts(numbered(server, path), "a", "b")
    assert after[: len(kept)] == kept
    assert texts(numbered(server, path), "a", "b") == after
    assert all(json.loads(line) for line in path.read_text().splitlines()[-1:])


def test_threads_stop_at_the_first_exception():
    begun = []

    def work(item):
        begun.append(item)
        if item == 3:
            raise ValueError("item 3")
        return item

    with pytest.raises(ValueError, match="item 3"):
        list(in_threads(work, range(1000), num_threads=1))
    assert begun == [0, 1, 2, 3]
    assert list(in_threads(work, [], num_threads=4)) == []
