"""The bundled model `sesa-tiny`: a Llama of 0.17 million weights that knows our games' words.

Its tokenizer writes any text in bytes, and the words that a prompt is made of (whole sentences of
the instructions, tags, actions, grid cells) as one token each. `sesa-agent pretrain` makes it anew;
the recipe is in `training/pretrain.py`.
"""

from collections.abc import Iterable
from typing import Any

USER, ASSISTANT, SYSTEM, END, PAD = "<|user|>", "<|assistant|>", "<|system|>", "<|end|>", "<|pad|>"

CHAT_TEMPLATE = (
    "{% for message in messages %}<|{{ message['role'] }}|>{{ message['content'] }}<|end|>"
    "{% endfor %}{% if add_generation_prompt %}<|assistant|>{% endif %}"
)


def build_tokenizer(phrases: Iterable[str]) -> Any:
    """Make a byte tokenizer in which each phrase is a single token.

    Args:
        phrases: texts that get a token of their own, spaces and line ends included.

    Returns:
        A transformers tokenizer with a chat template. Any text survives encoding and decoding.
    """
    from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokenizer = Tokenizer(models.BPE({symbol: i for i, symbol in enumerate(alphabet)}, []))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens(
        [AddedToken(text, normalized=False) for text in (PAD, END, SYSTEM, USER, ASSISTANT)]
    )
    tokenizer.add_tokens([AddedToken(text, normalized=False) for text in dict.fromkeys(phrases)])
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        eos_token=END,
        pad_token=PAD,
        clean_up_tokenization_spaces=False,
        model_max_length=1024,
    )
    fast.chat_template = CHAT_TEMPLATE
    return fast


def build_model(tokenizer: Any, hidden_size: int = 64, num_layers: int = 3, seed: int = 0) -> Any:
    """Make the untrained model: a standard Llama, so that every engine can load it."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(seed)
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=hidden_size,
        intermediate_size=hidden_size * 8 // 3,
        num_hidden_layers=num_layers,
        num_attention_heads=hidden_size // 16,
        num_key_value_heads=hidden_size // 16,
        max_position_embeddings=1024,
        tie_word_embeddings=True,
        bos_token_id=None,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    return LlamaForCausalLM(config)
