"""Architecture and tokenizer of the bundled models.

The tokenizer encodes any text as bytes, except that the fixed phrases of prompts (whole sentences
of instructions, tags, actions, grid cells) are single tokens. `sesa-agent pretrain` trains the
models again; the recipes are in `training/pretraining/recipes.py`.
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
        phrases: texts that become single tokens, spaces and line ends included.

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


def build_model(
    tokenizer: Any,
    hidden_size: int = 64,
    num_layers: int = 3,
    positions: str = "rotary",
    seed: int = 0,
) -> Any:
    """Make an untrained model of a standard architecture, so that every engine can load it.

    Args:
        tokenizer: sets the vocabulary size.
        hidden_size: width, a multiple of 16.
        num_layers: depth.
        positions: "rotary" (Llama) or "learned" (GPT-2, which learns far faster to find a grid cell
            by its position in the prompt).
        seed: seed of the initial weights.

    Raises:
        ValueError: if `positions` is unknown.
    """
    import torch
    from transformers import GPT2Config, GPT2LMHeadModel, LlamaConfig, LlamaForCausalLM

    torch.manual_seed(seed)
    common: dict[str, Any] = {
        "vocab_size": len(tokenizer),
        "tie_word_embeddings": True,
        "bos_token_id": None,
        "eos_token_id": tokenizer.eos_token_id,
        "pad_token_id": tokenizer.pad_token_id,
    }
    if positions == "learned":
        return GPT2LMHeadModel(
            GPT2Config(
                n_positions=512,
                n_embd=hidden_size,
                n_layer=num_layers,
                n_head=hidden_size // 16,
                resid_pdrop=0.0,
                embd_pdrop=0.0,
                attn_pdrop=0.0,
                **common,
            )
        )
    if positions != "rotary":
        raise ValueError(f"positions must be rotary or learned, got {positions!r}.")
    return LlamaForCausalLM(
        LlamaConfig(
            hidden_size=hidden_size,
            intermediate_size=hidden_size * 8 // 3,
            num_hidden_layers=num_layers,
            num_attention_heads=hidden_size // 16,
            num_key_value_heads=hidden_size // 16,
            max_position_embeddings=1024,
            **common,
        )
    )
