"""Proposals drawn at once follow the exact law of draws without replacement over actions.

All likely responses of a model are enumerated. In the bundled model an action has one likely
spelling; in the byte-level one it has many ("a", "A ", " a", ...), as with most tokenizers.
"""

import itertools
import math
from collections import Counter, defaultdict
from typing import Any

import numpy as np
import pytest
import torch
from scipy.stats import chisquare
from transformers import LlamaConfig, LlamaForCausalLM

from sesa_agent.agents.chat import ChatFormat
from sesa_agent.agents.engines.base import SamplingParams
from sesa_agent.agents.engines.hf import HFEngine
from sesa_agent.agents.policy import Policy
from sesa_agent.configs.schema import SamplingConfig
from sesa_agent.environments import make_env
from sesa_agent.sampling.dialogue import Dialogue, Request
from sesa_agent.sampling.player import Player, together
from sesa_agent.sampling.proposer import Decision, fill
from sesa_agent.sampling.trajectory import Task

from ..helpers.games import generator, line_dialogue
from ..helpers.tiny_models import CHATML, byte_tokenizer

WIDTH = 3
NUM_DECISIONS = 1000
LETTERS = "abAB "


class Spellings:
    """A byte-level model that answers with up to three of a few letters and spaces."""

    params = SamplingParams(max_new_tokens=4)

    def __init__(self, folder):
        special = ("<|pad|>", "<|im_start|>", "<|im_end|>")
        tokenizer = byte_tokenizer(CHATML, special, eos="<|im_end|>")
        torch.manual_seed(1)
        config = LlamaConfig(
            vocab_size=len(tokenizer),
            hidden_size=32,
            intermediate_size=64,
            num_hidden_layers=2,
            num_attention_heads=2,
            num_key_value_heads=1,
        )
        model: Any = LlamaForCausalLM(config)
        with torch.no_grad():
            model.get_input_embeddings().weight[:, 0] = 2.0
            head = model.get_output_embeddings().weight
            head[:, 0] = -4.0  # all other tokens are rare
            chosen = tokenizer.convert_tokens_to_ids(["Ġ" if c == " " else c for c in LETTERS])
            head[chosen, 0] = torch.tensor([2.0, 1.8, 1.6, 1.4, 0.2])
            head[tokenizer.eos_token_id, 0] = 0.5
        model.save_pretrained(folder)
        tokenizer.save_pretrained(folder)
        self.policy = Policy.load(str(folder), device="cpu")
        self.dialogue = line_dialogue()
        self.prompt = tuple(tokenizer.encode("Say a letter."))

    @staticmethod
    def read(text):
        action = text.replace("<|im_end|>", "").replace(" ", "").casefold()
        return action if action and set(action) <= {"a", "b"} else None


class Moves:
    """The bundled model in a room of Sokoban."""

    params = SamplingParams(max_new_tokens=4, stop=("</answer>",))

    def __init__(self):
        self.policy = Policy.load("sesa-tiny", device="cpu")
        chat = ChatFormat(self.policy.tokenizer)
        self.dialogue = Dialogue(lambda: make_env("sesa/Sokoban-v0"), chat)
        self.position = self.dialogue.start(Task("sesa/Sokoban-v0", 3))
        self.prompt = self.position.prompt_ids

    @staticmethod
    def read(text):
        moves = {f"<answer>{move}</answer>": move for move in ("Up", "Down", "Left", "Right")}
        return moves.get(text)


@pytest.fixture(scope="module", params=["bundled", "byte-level"])
def case(request, tmp_path_factory):
    is_bundled = request.param == "bundled"
    return Moves() if is_bundled else Spellings(tmp_path_factory.mktemp("spellings"))


@torch.no_grad()
def responses(case, least=1e-5):
    """The probabilities of all responses of which every prefix has at least this probability."""
    engine = HFEngine(case.policy)
    end = {case.policy.tokenizer.eos_token_id}
    done, open_prefixes = {}, {(): 1.0}
    for length in range(1, case.params.max_new_tokens + 1):
        rows = torch.tensor([[*case.prompt, *prefix] for prefix in open_prefixes])
        logits = torch.cat([case.policy.model(part).logits[:, -1] for part in rows.split(256)])
        chances = torch.softmax(logits.double() / case.params.temperature, dim=-1)
        longer = {}
        for (prefix, before), row in zip(open_prefixes.items(), chances, strict=True):
            for token in (row * before > least).nonzero()[:, 0].tolist():
                ids, chance = (*prefix, token), before * float(row[token])
                text = engine.decoder.text(list(ids))
                is_over = token in end or any(stop in text for stop in case.params.stop)
                is_over = is_over or length == case.params.max_new_tokens
                (done if is_over else longer)[ids] = chance
        if not longer:
            break
        open_prefixes = longer
    return done


class PlainEngine(HFEngine):
    """Without different responses in one pass, as other engines: drawn in batches."""

    generate_distinct: Any = None


@pytest.fixture(
    params=[(HFEngine, ()), (PlainEngine, ()), (PlainEngine, (1e-9,))],
    ids=["one pass", "batches", "batches of the size that earlier decisions tell"],
)
def kind(request):
    """The engine, and the probabilities of earlier decisions' first draws."""
    return request.param


def fill_decisions(case, kind, number, width):
    engine, elsewhere = kind[0](case.policy), kind[1]
    player = Player(engine, case.dialogue, case.params, generator(7))
    start = case.dialogue.start(Task("Line-v0", 0))
    decisions = [Decision(start, width, elsewhere=elsewhere) for _ in range(number)]
    cfg = SamplingConfig(proposer="without_replacement", max_retries=50)

    async def read(said):
        return case.read(said.text)

    work = [fill(one, player, cfg, lambda: Request(case.prompt), read) for one in decisions]
    player.drive(together(*work))
    return decisions, engine


def law(chances, place):
    """The probability of each action as the draw number `place` of draws without replacement."""
    total: defaultdict[str, float] = defaultdict(float)
    for order in itertools.permutations(chances, place + 1):
        left, chance = 1.0, 1.0
        for action in order:
            chance *= chances[action] / left
            left -= chances[action]
        total[order[-1]] += chance
    return total


def test_first_second_and_third_proposals_follow_the_exact_law(case, kind):
    table = responses(case)
    text = HFEngine(case.policy).decoder.text
    by_action = Counter()
    for ids, chance in table.items():
        by_action[case.read(text(list(ids)))] += chance
    assert sum(by_action.values()) == pytest.approx(1, abs=5e-3)
    readable = {action: chance for action, chance in by_action.items() if action is not None}
    # Rare actions are one class, as a test of frequencies needs.
    kept = sorted(readable, key=lambda action: -readable[action])[:9]
    share = sum(readable.values())
    chances = {action: readable[action] / share for action in readable}
    decisions, engine = fill_decisions(case, kind, NUM_DECISIONS, WIDTH)
    assert engine.usage.calls == sum(one.num_calls for one in decisions)
    assert sum(len(one.readable) == WIDTH for one in decisions) >= 0.99 * NUM_DECISIONS
    decisions = [one for one in decisions if len(one.readable) == WIDTH]
    for place in range(WIDTH):
        exact = law(chances, place)
        found = Counter(one.readable[place] for one in decisions)
        expected = [exact[action] * len(decisions) for action in kept]
        seen = [found[action] for action in kept]
        expected.append(len(decisions) - sum(expected))
        seen.append(len(decisions) - sum(seen))
        large = [(o, e) for o, e in zip(seen, expected, strict=True) if e >= 5]
        observed, wanted = np.array(large).T
        wanted *= observed.sum() / wanted.sum()
        assert chisquare(observed, wanted).pvalue > 0.01, (place, seen, expected)


def test_mu_is_pi_over_what_the_spellings_seen_have_left(case, kind):
    decisions, _ = fill_decisions(case, kind, 40, WIDTH)
    for one in decisions:
        said = [*one.proposals, *(response for _, response, _ in one.duplicates)]
        actions = [*one.actions, *(action for *_, action in one.duplicates)]
        for place, response in enumerate(one.proposals):
            earlier = set(one.actions[:place]) - {None}
            pairs = zip(said, actions, strict=True)
            known = {r.token_ids for r, action in pairs if action in earlier}
            known |= {r.token_ids for r in one.proposals[:place]}  # also if it is unreadable
            left = 1 - math.fsum(plain(case, ids) for ids in known)
            mu = math.exp(math.fsum(response.logprobs))
            # The engine's own sums are of float32, and what is left of them may be little.
            assert mu == pytest.approx(plain(case, response.token_ids) / left, abs=1e-6 / left)


@torch.no_grad()
def plain(case, ids):
    """pi(y | x), computed anew."""
    logits = case.policy.model(torch.tensor([[*case.prompt, *ids]])).logits[0]
    logits = logits[len(case.prompt) - 1 : -1].double()
    chances = torch.softmax(logits / case.params.temperature, dim=-1)
    return float(chances[range(len(ids)), list(ids)].prod())
