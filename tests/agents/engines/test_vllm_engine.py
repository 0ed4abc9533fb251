"""vLLM samples from the trainer's policy: equal log-probabilities, before and after an update."""

import functools
import math
from dataclasses import replace
from importlib.util import find_spec

import pytest
import torch
from transformers import AutoTokenizer

from sesa_agent.agents.chat import ChatFormat
from sesa_agent.agents.engines import load_engine
from sesa_agent.agents.engines.base import EngineError, SamplingParams, StreamEngine
from sesa_agent.agents.engines.hf import HFEngine
from sesa_agent.agents.policy import Policy
from sesa_agent.configs.errors import SettingError
from sesa_agent.configs.schema import EngineConfig

has_vllm = find_spec("vllm") is not None
needs_vllm = pytest.mark.skipif(not has_vllm, reason="vLLM is not installed: make vllm")
CFG = EngineConfig(name="vllm", max_prompt_tokens=200, max_new_tokens=24, max_batch_tokens=2048)
PROMPTS = [list(range(5, 5 + length)) for length in (3, 40, 70, 70, 12)]


@pytest.mark.skipif(has_vllm, reason="vLLM is installed")
def test_without_vllm_one_line_says_how_to_get_it(llama):
    with pytest.raises(SettingError, match="Install it: make vllm"):
        load_engine(Policy.load(str(llama), device="cpu"), CFG)


@pytest.fixture(scope="module")
def policy():
    return Policy.load("sesa-tiny", device="cpu")


@pytest.fixture(scope="module")
def engine(policy):
    return load_engine(policy, CFG)


def logprob_error(policy, prompts, completions) -> float:
    """The largest difference to the trainer's own log-probabilities, in nats."""
    worst = 0.0
    for prompt, completion in zip(prompts, completions, strict=True):
        ids = torch.tensor([[*prompt, *completion.token_ids]])
        with torch.no_grad():
            logits = policy.model(ids).logits[0].double() / policy.temperature
        logprobs = torch.log_softmax(logits, -1)[len(prompt) - 1 : -1]
        chosen = torch.tensor(completion.token_ids)[:, None]
        found = torch.tensor(completion.raw_logprobs, dtype=torch.float64)
        worst = max(worst, float((logprobs.gather(1, chosen)[:, 0] - found).abs().max()))
    return worst


@needs_vllm
def test_logprobs_equal_the_trainers_before_and_after_an_update(policy, engine):
    params = SamplingParams(max_new_tokens=24, seed=3)
    assert isinstance(engine, StreamEngine)
    assert logprob_error(policy, PROMPTS, engine.generate(PROMPTS, params)) < 1e-4
    before = policy.model.state_dict()
    before = {name: weight.clone() for name, weight in before.items()}
    torch.manual_seed(0)
    with torch.no_grad():
        for weight in policy.model.parameters():
            weight.add_(torch.randn_like(weight) * 0.1 * weight.std())
    moved = engine.generate(PROMPTS, params)
    assert logprob_error(policy, PROMPTS, moved) > 0.01  # the engine has the old ones still
    engine.load_weights(policy)
    assert logprob_error(policy, PROMPTS, engine.generate(PROMPTS, params)) < 1e-4
    policy.model.load_state_dict(before)
    engine.load_weights(policy)


@needs_vllm
def test_greedy_responses_are_those_of_the_hf_engine(policy, engine):
    params = SamplingParams(temperature=1e-6, max_new_tokens=24, stop=("</answer>",))
    cold = SamplingParams(temperature=1e-4, max_new_tokens=24, stop=("</answer>",))
    found = engine.generate(PROMPTS, params)
    expected = HFEngine(policy).generate(PROMPTS, cold)
    assert [(c.token_ids, c.text, c.finish_reason) for c in found] == [
        (c.token_ids, c.text, c.finish_reason) for c in expected
    ]


@needs_vllm
def test_a_seed_gives_the_same_responses_and_rows_differ(engine):
    params = SamplingParams(max_new_tokens=8, seed=5)
    first, again = (engine.generate([PROMPTS[1]] * 6, params) for _ in range(2))
    assert first == again
    assert len({c.token_ids for c in first}) > 1
    assert engine.generate([PROMPTS[1]] * 6, SamplingParams(max_new_tokens=8, seed=6)) != first


@needs_vllm
def test_excluded_completions_are_not_sampled_and_raw_logprobs_are_kept(policy, engine):
    params = SamplingParams(max_new_tokens=1, seed=1)
    (first,) = engine.generate([PROMPTS[1]], params)
    sampled = engine.generate([PROMPTS[1]] * 50, params, [[first]] * 50)
    assert first.token_ids not in {c.token_ids for c in sampled}
    assert logprob_error(policy, [PROMPTS[1]] * 50, sampled) < 1e-4
    left = math.log1p(-math.exp(first.raw_logprobs[0]))
    for completion in sampled:  # what is left is normalised
        assert completion.logprobs[0] == pytest.approx(completion.raw_logprobs[0] - left, abs=1e-4)


@needs_vllm
def test_equal_prompts_come_from_the_cache(engine, policy):
    engine.load_weights(policy)  # empties it
    before = engine.usage.cached_tokens
    engine.generate([PROMPTS[2]], SamplingParams(max_new_tokens=1))
    assert engine.usage.cached_tokens == before
    engine.generate([PROMPTS[3]], SamplingParams(max_new_tokens=1))
    assert engine.usage.cached_tokens == before + 64  # two blocks of 32 of the 70 tokens


def with_blocks(monkeypatch, count):
    """Give vLLM's cache this many blocks of 32 tokens."""
    import vllm  # pyright: ignore[reportMissingImports]

    small = functools.partial(vllm.LLM, num_gpu_blocks_override=count)
    monkeypatch.setattr(vllm, "LLM", small)


@needs_vllm
def test_a_response_that_never_stops_ends_at_its_longest_length(engine):
    params = SamplingParams(max_new_tokens=12, seed=5)
    unseen = [completion.token_ids for completion in engine.generate(PROMPTS * 8, params)]
    assert max(map(len, unseen)) == 12
    (cut,) = (c for c in engine.generate([PROMPTS[0]], SamplingParams(max_new_tokens=1)))
    assert (len(cut.token_ids), cut.finish_reason) == (1, "length")


@needs_vllm
def test_responses_are_the_same_when_the_cache_holds_only_some_of_them(policy, engine, monkeypatch):
    params, prompts = SamplingParams(max_new_tokens=100, seed=1), [list(range(5, 70))] * 6
    expected = engine.generate(prompts, params)
    needed = sum(
        len(prompt) + len(c.token_ids) for prompt, c in zip(prompts, expected, strict=True)
    )
    assert needed > 12 * 32
    with_blocks(monkeypatch, 12)
    tight = load_engine(policy, replace(CFG, max_new_tokens=25))
    found = tight.generate(prompts, params)
    assert [c.token_ids for c in found] == [c.token_ids for c in expected]


@needs_vllm
def test_a_cache_too_small_for_one_response_is_refused_in_one_line(policy, monkeypatch):
    with_blocks(monkeypatch, 3)
    with pytest.raises(SettingError, match=r"got 226 tokens.*Lower engine.max_prompt_tokens"):
        load_engine(policy, replace(CFG, max_new_tokens=26))


@needs_vllm
@pytest.mark.smollm
@pytest.mark.slow
def test_a_real_model_agrees_after_a_training_step_and_in_greedy_decoding(smollm2):
    """SmolLM2-135M, whose output head is its embedding table."""
    policy = Policy.load(str(smollm2), device="cpu")
    engine = load_engine(policy, CFG)
    optimizer = torch.optim.AdamW(policy.parameters(), lr=1e-4)
    ids = torch.tensor([PROMPTS[2]])
    policy.model(ids, labels=ids).loss.backward()
    optimizer.step()
    params = SamplingParams(max_new_tokens=24, seed=1)
    assert logprob_error(policy, PROMPTS, engine.generate(PROMPTS, params)) > 0.01
    engine.load_weights(policy)
    assert logprob_error(policy, PROMPTS, engine.generate(PROMPTS, params)) < 1e-4
    texts = ("Name three colours.", "What is 17 + 25?", "You stand at a door. Reply in one word.")
    chat = ChatFormat(policy.tokenizer)
    prompts = [list(chat.opening("You are a careful player.", text)) for text in texts]
    cold = SamplingParams(temperature=1e-6, max_new_tokens=24)
    found, expected = (e.generate(prompts, cold) for e in (engine, HFEngine(policy)))
    assert [c.token_ids for c in found] == [c.token_ids for c in expected]


@needs_vllm
def test_a_failing_engine_raises_in_one_line(engine, monkeypatch):
    def fail():
        raise RuntimeError("out of cache blocks\nand a long story")

    monkeypatch.setattr(engine._llm.llm_engine, "step", fail)
    with pytest.raises(EngineError, match="^vLLM failed: out of cache blocks$"):
        engine.generate([PROMPTS[0]], SamplingParams(max_new_tokens=1))


@needs_vllm
def test_a_stop_string_that_is_a_special_token_stops(policy, tmp_path):
    """It vanished from the text before vLLM looked for it, so every response ran to its limit."""
    policy.save(tmp_path)
    tokenizer = AutoTokenizer.from_pretrained(tmp_path)
    tags = ["<answer>", "</answer>"]
    ids = tokenizer.convert_tokens_to_ids(tags)
    tokenizer.add_special_tokens({"extra_special_tokens": tags})
    assert {*tokenizer.convert_tokens_to_ids(tags)} <= {*tokenizer.all_special_ids}
    assert tokenizer.convert_tokens_to_ids(tags) == ids
    tokenizer.save_pretrained(tmp_path)
    tagged = Policy.load(str(tmp_path), device="cpu")
    params = SamplingParams(temperature=1e-4, max_new_tokens=24, stop=("</answer>",))
    prompts = [list(ChatFormat(policy.tokenizer).opening("Play.", "Which way?"))]
    expected = HFEngine(policy).generate(prompts, params)
    assert expected[0].text.endswith("</answer>") and expected[0].finish_reason == "stop"
    for engine in (HFEngine(tagged), load_engine(tagged, CFG)):
        (found,) = engine.generate(prompts, params)
        assert (found.text, found.token_ids) == (expected[0].text, expected[0].token_ids)
        assert found.finish_reason == "stop"
