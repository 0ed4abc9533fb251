"""Tokenizers of the SentencePiece kind with chat templates, as Llama 2, Mistral and others have.

Their pieces are learned within words, and a space belongs to the word behind it. They differ in
where a text gets a space in front: before every stretch between control tokens, at the start, or
nowhere.
"""

import json
from functools import cache
from io import BytesIO
from pathlib import Path
from typing import Any

from tokenizers import (
    AddedToken,
    Tokenizer,
    decoders,
    models,
    normalizers,
    pre_tokenizers,
    trainers,
)
from transformers import AutoTokenizer, PreTrainedTokenizerFast

from .model_families import CORPUS

LLAMA2 = (
    "{% if messages[0]['role'] == 'system' %}{% set system = messages[0]['content'] %}"
    "{% set rest = messages[1:] %}"
    "{% else %}{% set system = '' %}{% set rest = messages %}{% endif %}"
    "{% for message in rest %}{% set text = message['content'] | trim %}"
    "{% if loop.first and system %}"
    "{% set text = '<<SYS>>\n' + system + '\n<</SYS>>\n\n' + text %}{% endif %}"
    "{% if message['role'] == 'user' %}{{ bos_token + '[INST] ' + text + ' [/INST]' }}"
    "{% else %}{{ ' ' + text + ' ' + eos_token }}{% endif %}{% endfor %}"
)
"""Marks of turns are plain text; a space before and behind each reply."""
MISTRAL1 = (
    "{{ bos_token }}{% for message in messages %}{% if message['role'] == 'user' %}"
    "{{ '[INST] ' + message['content'] + ' [/INST]' }}{% elif message['role'] == 'assistant' %}"
    "{{ message['content'] + eos_token + ' ' }}{% else %}{{ raise_exception('no system') }}"
    "{% endif %}{% endfor %}"
)
MISTRAL3 = (
    "{{ bos_token }}{% for message in messages %}{% if message['role'] == 'user' %}"
    "{{ '[INST] ' + message['content'] + '[/INST]' }}{% elif message['role'] == 'assistant' %}"
    "{{ ' ' + message['content'] | trim + eos_token }}{% else %}{{ raise_exception('no system') }}"
    "{% endif %}{% endfor %}"
)
"""Marks of turns are control tokens."""
GEMMA = (
    "{{ bos_token }}{% if messages[0]['role'] == 'system' %}{{ raise_exception('no system') }}"
    "{% endif %}{% for message in messages %}"
    "{% set role = 'model' if message['role'] == 'assistant' else message['role'] %}"
    "{{ '<start_of_turn>' + role + '\n' + message['content'] | trim + '<end_of_turn>\n' }}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<start_of_turn>model\n' }}{% endif %}"
)
PHI3 = (
    "{% for message in messages %}"
    "{{ '<|' + message['role'] + '|>\n' + message['content'] + '<|end|>\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|assistant|>\n' }}{% endif %}"
)
"""Its control tokens swallow the line break behind them."""
VICUNA = (
    "{% for message in messages %}{% if message['role'] == 'user' %}"
    "{{ 'USER: ' + message['content'] + ' ASSISTANT:' }}{% elif message['role'] == 'assistant' %}"
    "{{ ' ' + message['content'] + eos_token }}{% else %}{{ message['content'] + '\n\n' }}"
    "{% endif %}{% endfor %}"
)
ZEPHYR = (
    "{% for message in messages %}"
    "{{ '<|' + message['role'] + '|>\n' + message['content'] + eos_token + '\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|assistant|>\n' }}{% endif %}"
)

_CORPUS = (*CORPUS, "[INST] the box [/INST] [INST] Turn [/INST]")
_PREPEND = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
_METASPACE = pre_tokenizers.Metaspace
SPACES: dict[str, tuple[Any, Any]] = {
    "legacy": (_PREPEND, None),
    "always": (None, _METASPACE(prepend_scheme="always", split=False)),
    "first": (None, _METASPACE(prepend_scheme="first", split=False)),
    "never": (normalizers.Replace(" ", "▁"), None),
}
"""Normalizer and pre-tokenizer by where a text gets a space in front."""

FAMILIES: dict[str, tuple[str, str, tuple[str, ...]]] = {
    "llama 2": ("legacy", LLAMA2, ()),
    "llama 2, newer": ("always", LLAMA2, ()),
    "mistral 1": ("legacy", MISTRAL1, ()),
    "mistral 3": ("always", MISTRAL3, ("[INST]", "[/INST]")),
    "mistral 3, first": ("first", MISTRAL3, ("[INST]", "[/INST]")),
    "gemma": ("never", GEMMA, ("<start_of_turn>", "<end_of_turn>")),
    "phi 3": ("first", PHI3, ("<|system|>", "<|user|>", "<|assistant|>", "<|end|>")),
    "phi 3, legacy": ("legacy", PHI3, ("<|system|>", "<|user|>", "<|assistant|>", "<|end|>")),
    "vicuna": ("legacy", VICUNA, ()),
    "vicuna, first": ("first", VICUNA, ()),
    "zephyr": ("always", ZEPHYR, ()),
}
"""Where a text gets a space, the template, and the control tokens beside <s> and </s>."""


def family_tokenizer(name: str) -> Any:
    """The tokenizer of one of `FAMILIES`."""
    spaces, template, control = FAMILIES[name]
    tokenizer = Tokenizer.from_str(_trained())
    normalizer, tokenizer.pre_tokenizer = SPACES[spaces]
    if normalizer is not None:
        tokenizer.normalizer = normalizer
    else:
        settings = json.loads(tokenizer.to_str()) | {"normalizer": None}
        tokenizer = Tokenizer.from_str(json.dumps(settings))
    strip = [] if spaces == "never" else [decoders.Strip(" ", 1, 0)]
    parts = [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), *strip]
    tokenizer.decoder = decoders.Sequence(parts)
    tokenizer.add_special_tokens([AddedToken(one, normalized=False) for one in ("<s>", "</s>")])
    swallow = name.startswith("phi")
    tokenizer.add_special_tokens(
        [AddedToken(one, normalized=False, rstrip=swallow) for one in control]
    )
    names = {"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>", "pad_token": "<unk>"}
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, **names)
    fast.chat_template = template
    return fast


@cache
def _trained() -> str:
    """A BPE of words with the space in front, and bytes for all other characters; as JSON."""
    tokens = [f"<0x{byte:02X}>" for byte in range(256)]
    tokenizer = Tokenizer(models.BPE(unk_token="<unk>", byte_fallback=True, fuse_unk=True))
    tokenizer.normalizer = normalizers.Replace(" ", "▁")
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split("▁", "merged_with_next"),
            pre_tokenizers.Split("\n", "isolated"),
        ]
    )
    trainer = trainers.BpeTrainer(
        vocab_size=520, special_tokens=["<unk>", *tokens], show_progress=False
    )
    tokenizer.train_from_iterator(_CORPUS * 20, trainer)
    settings = json.loads(tokenizer.to_str())
    settings["added_tokens"] = settings["added_tokens"][:1]  # bytes are pieces like any others
    return json.dumps(settings)


def sentencepiece_tokenizer(folder: Path, template: str, legacy: bool) -> Any:
    """Llama's own tokenizer class on a model that the sentencepiece package has trained."""
    import sentencepiece  # pyright: ignore[reportMissingImports]

    model = BytesIO()
    sentencepiece.SentencePieceTrainer.train(  # pyright: ignore[reportAttributeAccessIssue]
        sentence_iterator=iter(_CORPUS * 20),
        model_writer=model,
        model_type="bpe",
        vocab_size=380,
        byte_fallback=True,
        normalization_rule_name="identity",
        remove_extra_whitespaces=False,
        hard_vocab_limit=False,
        minloglevel=2,
    )
    (folder / "tokenizer.model").write_bytes(model.getvalue())
    (folder / "config.json").write_text('{"model_type": "llama"}')
    settings = {"tokenizer_class": "LlamaTokenizer", "legacy": legacy, "chat_template": template}
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))
    return AutoTokenizer.from_pretrained(folder)
