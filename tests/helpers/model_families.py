"""Random models with large weights, a model that is a table of probabilities, and tokenizers."""

from types import SimpleNamespace
from typing import Any

import torch
from tokenizers import (
    AddedToken,
    Tokenizer,
    decoders,
    models,
    normalizers,
    pre_tokenizers,
    trainers,
)
from transformers import (
    AutoModelForCausalLM,
    GPT2Config,
    GPT2LMHeadModel,
    LlamaConfig,
    LlamaForCausalLM,
    MistralConfig,
    PreTrainedTokenizerFast,
    Qwen2Config,
    Qwen2ForCausalLM,
    Qwen3Config,
)

from sesa_agent.agents.policy import Policy
from sesa_agent.training.pretraining.tiny_model import build_tokenizer

ARCHITECTURES = {
    "llama": (LlamaConfig, LlamaForCausalLM),
    "qwen2": (Qwen2Config, Qwen2ForCausalLM),
}
"""What `random_policy` can make besides `gpt2`."""

SIZES: dict[str, Any] = {
    "vocab_size": 60,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 256,
    "initializer_range": 0.2,
    "bos_token_id": None,
    "eos_token_id": None,
}
GPT2: dict[str, Any] = {"vocab_size": 60, "n_embd": 32, "n_layer": 2, "n_head": 4}
GPT2 |= {"initializer_range": 0.2, "bos_token_id": None, "eos_token_id": None}
SHARING = {
    "llama": LlamaConfig(**SIZES),
    "mistral": MistralConfig(**SIZES, sliding_window=None),
    "qwen2": Qwen2Config(**SIZES),
    "qwen3": Qwen3Config(**SIZES, head_dim=16),
    "gpt2": GPT2Config(**GPT2),
}
"""A model of every family whose rows can share prefixes; none has a tokenizer."""

ROWS = [([5, 6, 7, 8, 9, 10], 3), ([11, 12, 13], 2), ([14, 15, 16, 17], 1)]
"""Three uneven rows for `make_rows`."""


def policy_of(config: Any, dtype: torch.dtype = torch.float32) -> Policy:
    """A random model of a configuration."""
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(config)
    return Policy(model.to(dtype), None, temperature=0.8)


def random_policy(name: str, temperature: float = 1.0) -> Policy:
    """Two layers of width 32 with large weights: far from uniform, without ties."""
    if name == "gpt2":
        return _random_gpt2(temperature)
    make_config, make_model = ARCHITECTURES[name]
    tokenizer = build_tokenizer(["Up", "Down", "<|endoftext|>"])  # Qwen 2 insists on the last
    torch.manual_seed(0)
    config = make_config(
        vocab_size=len(tokenizer),
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=256,
        initializer_range=0.3,
        tie_word_embeddings=False,
        bos_token_id=None,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    return Policy(make_model(config), tokenizer, temperature)


def _random_gpt2(temperature: float) -> Policy:
    """Learned positions, and a head that is the embedding table."""
    tokenizer = build_tokenizer(["Up", "Down"])
    torch.manual_seed(0)
    sizes: dict[str, Any] = {"n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": 64}
    ids = {"eos_token_id": tokenizer.eos_token_id, "bos_token_id": None}
    config = GPT2Config(vocab_size=len(tokenizer), initializer_range=0.3, **sizes, **ids)
    return Policy(GPT2LMHeadModel(config), tokenizer, temperature)


def make_rows(rows: list[tuple[list[int], int]], pad_id: int = 0, extra: int = 0) -> Any:
    """What `Policy.logprobs` takes: rows of ids, each trained from a position on.

    Args:
        rows: the ids of each row and the first position that is trained.
        pad_id: fills up on the right.
        extra: columns of padding that no row needs.
    """
    width = max(len(ids) for ids, _ in rows) + extra
    token_ids = torch.full((len(rows), width), pad_id)
    attention_mask, loss_mask = torch.zeros(2, len(rows), width, dtype=torch.bool)
    for row, (ids, first) in enumerate(rows):
        token_ids[row, : len(ids)] = torch.tensor(ids)
        attention_mask[row, : len(ids)] = True
        loss_mask[row, first : len(ids)] = True
    return SimpleNamespace(token_ids=token_ids, attention_mask=attention_mask, loss_mask=loss_mask)


def logprobs_and_gradients(policy: Any, max_logits: int) -> tuple[Any, Any, Any]:
    """Those of a loss over `ROWS` with a different weight for each log-probability and entropy."""
    policy.temperature, policy.max_logits = 0.7, max_logits
    policy.model.zero_grad()
    chosen, entropy = policy.logprobs(make_rows(ROWS), entropy_grad=True)
    weight = torch.linspace(0.5, 1.5, chosen.numel()).reshape(chosen.shape)
    ((chosen + 0.3 * entropy) * weight).sum().backward()
    gradient = torch.cat([weight.grad.flatten() for weight in policy.parameters()])
    return chosen.detach(), entropy.detach(), gradient


CORPUS = (
    "You are a careful player of text games.",
    "The box is at the start. user system assistant im_start im_end INST",
    "Turn 1: State: ##### #__P_# You have 5 actions left. Reply with <answer>your answer</answer>.",
)
"""What `trained_tokenizer` learns its merges and pieces from."""


def trained_tokenizer(kind: str, template: str, special: list[str], **names: str) -> Any:
    """A tokenizer with learned merges or pieces, as the families of real models have them.

    Args:
        kind: "byte-level" (GPT-2, Qwen, Llama 3, SmolLM), "sentencepiece" (Llama 2, Mistral: a
            space before every stretch of text) or "unigram" (a space before the text).
        template: its chat template.
        special: its control tokens; in "unigram" they are pieces of the model as well.
        names: such as `eos_token`.
    """
    tokenizer, trainer = _KINDS[kind](special)
    tokenizer.train_from_iterator(CORPUS * 20, trainer)
    tokenizer.add_special_tokens([AddedToken(text, normalized=False) for text in special])
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, pad_token=special[0], **names)
    fast.chat_template = template
    return fast


def _byte_level(special: list[str]) -> tuple[Tokenizer, Any]:
    tokenizer = Tokenizer(models.BPE())
    tokenizer.normalizer = normalizers.NFC()
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    return tokenizer, trainers.BpeTrainer(
        vocab_size=500, initial_alphabet=alphabet, show_progress=False
    )


_ALPHABET = ["\n", "é", *map(chr, range(32, 127))]


def _sentencepiece(special: list[str]) -> tuple[Tokenizer, Any]:
    tokenizer = Tokenizer(models.BPE(unk_token="<unk>"))
    tokenizer.normalizer = normalizers.Sequence(
        [normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")]
    )
    tokenizer.decoder = decoders.Sequence([decoders.Replace("▁", " "), decoders.Fuse()])
    return tokenizer, trainers.BpeTrainer(
        vocab_size=400,
        special_tokens=["<unk>"],
        initial_alphabet=_ALPHABET,
        show_progress=False,
    )


def _unigram(special: list[str]) -> tuple[Tokenizer, Any]:
    tokenizer = Tokenizer(models.Unigram())
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="first")
    tokenizer.decoder = decoders.Metaspace(prepend_scheme="first")
    return tokenizer, trainers.UnigramTrainer(
        vocab_size=300,
        special_tokens=["<unk>", *special],
        unk_token="<unk>",
        initial_alphabet=_ALPHABET,
        show_progress=False,
    )


_KINDS = {"byte-level": _byte_level, "sentencepiece": _sentencepiece, "unigram": _unigram}


class LetterTokenizer:
    """Token n is letter n; ids that have no letter read as nothing."""

    pad_token_id = 0

    def __init__(self, letters: str, eos_token_id: int | None = None):
        self.letters, self.eos_token_id = letters, eos_token_id

        end = AddedToken("" if eos_token_id is None else letters[eos_token_id], special=True)
        self.added_tokens_decoder = {eos_token_id: end}

    def encode(self, text: str, **_: Any) -> list[int]:
        return [self.letters.index(letter) for letter in text if letter in self.letters]

    def decode(self, ids, **_: Any) -> str:
        return "".join(self.letters[i] for i in ids)


class TableModel:
    """A language model whose next token depends on the last one alone.

    Args:
        table: (V, V) probabilities; row n is the distribution after token n.
    """

    device = torch.device("cpu")
    generation_config = SimpleNamespace(eos_token_id=None)

    def __init__(self, table: Any):
        self.table = torch.as_tensor(table, dtype=torch.float32)

    def eval(self) -> "TableModel":
        return self

    def named_modules(self) -> list[tuple[str, Any]]:
        return []  # no layer, so none with an adapter

    def forward(self, input_ids: torch.Tensor, logits_to_keep: int, **_: Any) -> Any:
        """Keeps no state, so it has no cache."""
        return SimpleNamespace(logits=self.table.log()[input_ids[:, -logits_to_keep:]])

    __call__ = forward


def table_policy(table: Any, letters: str, eos_token_id: int | None = None) -> Policy:
    return Policy(TableModel(table), LetterTokenizer(letters, eos_token_id))
