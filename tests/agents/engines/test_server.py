"""The engine that generates on servers: the trainer's weights, and servers that die."""

import json
from datetime import timedelta

import pytest
import torch

from sesa_agent.agents.engines import handover, load_engine, server_client, weight_stream
from sesa_agent.agents.engines.base import EngineError, SamplingParams, StreamEngine
from sesa_agent.agents.policy import Policy
from sesa_agent.configs.errors import SettingError
from sesa_agent.configs.schema import EngineConfig

from ...helpers.generation_server import generating

PROMPTS = [list(range(5, 5 + length)) for length in (3, 40, 70, 70, 12)]
PARAMS = SamplingParams(max_new_tokens=8, seed=3)


@pytest.fixture(autouse=True)
def no_pauses(monkeypatch):
    monkeypatch.setattr(server_client, "PAUSE_S", 0.01)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")


@pytest.fixture
def policy():
    return Policy.load("sesa-tiny", device="cpu")


@pytest.fixture
def servers():
    with generating("sesa-tiny") as first, generating("sesa-tiny") as second:
        yield first, second


def config(*servers, **settings):
    urls = ",".join(each.url for each in servers)
    return EngineConfig(name="server", urls=urls, max_prompt_tokens=200, **settings)


def logprob_error(policy, completions):
    worst = 0.0
    for prompt, completion in zip(PROMPTS, completions, strict=True):
        with torch.no_grad():
            logits = policy.model(torch.tensor([[*prompt, *completion.token_ids]])).logits[0]
        found = torch.log_softmax(logits.double(), -1)[len(prompt) - 1 : -1]
        chosen = found.gather(1, torch.tensor(completion.token_ids)[:, None])[:, 0]
        worst = max(worst, float((chosen - torch.tensor(completion.logprobs)).abs().max()))
    return worst


@pytest.mark.parametrize("handover", ["folder", "network"])
def test_weights_go_to_every_server_and_responses_come_from_all(policy, servers, handover):
    engine = load_engine(policy, config(*servers, handover=handover))
    assert isinstance(engine, StreamEngine)
    with torch.no_grad():
        for weight in policy.model.parameters():
            weight.mul_(1.1)
    assert logprob_error(policy, engine.generate(PROMPTS, PARAMS)) > 0.01
    engine.load_weights(policy)
    first, second = servers
    assert first.version == second.version != ""
    assert logprob_error(policy, engine.generate(PROMPTS, PARAMS)) < 1e-4
    assert first.num_completions + second.num_completions == 10
    assert min(first.num_completions, second.num_completions) >= 4
    assert (engine.usage.calls, engine.usage.prompt_tokens) == (10, 2 * sum(map(len, PROMPTS)))


def test_a_seed_gives_the_same_responses_on_any_server(policy, servers):
    both = load_engine(policy, config(*servers)).generate(PROMPTS, PARAMS)
    one = load_engine(policy, config(servers[1])).generate(PROMPTS, PARAMS)
    assert [done.token_ids for done in both] == [done.token_ids for done in one]


def test_requests_of_a_server_that_dies_go_to_the_others_until_none_is_left(policy, servers):
    first, second = servers
    engine = load_engine(policy, config(*servers))
    first.dies_after = 1
    assert len(engine.generate(PROMPTS, PARAMS)) == 5
    assert (first.num_completions, second.num_completions) == (1, 4)
    second.dies_after = 0
    with pytest.raises(EngineError, match=r"No server of engine.urls can be used \(http") as told:
        engine.generate(PROMPTS, PARAMS)
    assert first.url in str(told.value) and second.url in str(told.value)
    assert "sesa-agent serve" in str(told.value) and "\n" not in str(told.value)


def test_a_server_that_is_back_takes_the_next_weights(policy, servers):
    first, second = servers
    engine = load_engine(policy, config(*servers))
    first.dies_after = 0
    engine.load_weights(policy)
    engine.generate(PROMPTS, PARAMS)
    assert first.version != second.version
    first.dies_after = None
    engine.load_weights(policy)
    assert first.version == second.version
    engine.generate(PROMPTS, PARAMS)
    assert first.num_completions > 0


def test_a_folder_that_a_server_does_not_see_is_one_line(policy, servers, tmp_path):
    servers[0].sees_folders = servers[1].sees_folders = False
    with pytest.raises(SettingError, match="set engine.weights_folder to a folder that both share"):
        load_engine(policy, config(*servers, weights_folder=str(tmp_path / "weights")))
    assert list((tmp_path / "weights").iterdir()) == []


def test_a_server_that_leaves_while_weights_are_sent_is_left_out_and_comes_back(policy, servers):
    first, second = servers
    engine = load_engine(policy, config(*servers, handover="network"))
    first.dies_at_weight = 3
    engine.load_weights(policy)
    assert first.version != second.version
    engine.generate(PROMPTS, PARAMS)
    assert (first.num_completions, second.num_completions) == (0, 5)
    first.dies_at_weight = 0
    engine.load_weights(policy)
    assert first.version == second.version


def test_a_server_that_cannot_reach_the_trainer_is_one_line(policy, servers, monkeypatch):
    monkeypatch.setattr(weight_stream, "TIMEOUT", timedelta(seconds=1))
    for each in servers:
        each.sees_sender = False
    with pytest.raises(SettingError, match="no route to host") as told:
        load_engine(policy, config(*servers, handover="network"))
    assert "\n" not in str(told.value)


def test_weights_are_written_some_at_a_time(policy, servers, tmp_path, monkeypatch):
    monkeypatch.setattr(handover, "SHARD_BYTES", 100_000)
    folder = tmp_path / "weights"
    handover.write_weights(policy.weights(), policy.model.config, folder)
    files = sorted(folder.glob("*.safetensors"))
    assert len(files) > 3
    assert max(file.stat().st_size for file in files) < 250_000
    assert json.loads((folder / "config.json").read_text())["model_type"] == "llama"
    policy.tokenizer.save_pretrained(folder)
    again = Policy.load(str(folder), device="cpu")
    for (_, ours), (_, theirs) in zip(policy.weights(), again.weights(), strict=True):
        assert torch.equal(ours, theirs)


@pytest.mark.parametrize(
    ("urls", "hint"),
    [
        ("", "engine.urls must name a server"),
        ("localhost:8000", "engine.urls must be as http://localhost:8000"),
        ("http://a:1,http://a:1/", "a list of different servers"),
        ("http://127.0.0.1:1", "is no server that can be used"),
    ],
)
def test_wrong_urls_are_one_line(policy, urls, hint):
    with pytest.raises(SettingError, match=hint) as told:
        load_engine(policy, EngineConfig(name="server", urls=urls))
    assert "\n" not in str(told.value)


def test_another_model_or_too_short_a_context_is_one_line(policy, servers, llama):
    with generating(llama) as other, pytest.raises(SettingError, match="has vocab_size") as told:
        load_engine(policy, config(other))
    assert "sesa-agent serve --model and the same model" in str(told.value)
    servers[0].context = 100
    with pytest.raises(SettingError, match="--max-tokens 224"):
        load_engine(policy, config(servers[0]))
