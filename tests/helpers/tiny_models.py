"""Small random models as Hugging Face folders: a Qwen2 and a Llama with their chat markup."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers
from transformers import (
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedTokenizerFast,
    Qwen2Config,
    Qwen2ForCausalLM,
)

MOVES = tuple(f"<answer>{move}</answer>" for move in ("Up", "Down", "Left", "Right"))
"""Whole answers that are one token each in the tokenizers made here."""

SMALL_GROUPS = (
    "sampling.num_tasks=2",
    "sampling.num_proposals=2",
    "sampling.max_trajectories=2",
)
"""Settings of a rollout that takes no time."""

CHATML = (
    "{%- if messages[0]['role'] == 'system' %}"
    "{{- '<|im_start|>system\n' + messages[0]['content'] + '<|im_end|>\n' }}"
    "{%- else %}"
    "{{- '<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n' }}"
    "{%- endif %}"
    "{%- for message in messages %}"
    "{%- if message['role'] != 'system' %}"
    "{{- '<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>\n' }}"
    "{%- endif %}{%- endfor %}"
    "{%- if add_generation_prompt %}{{- '<|im_start|>assistant\n' }}{%- endif %}"
)
"""As Qwen2.5 has it: a system message of its own where none is given."""

LLAMA3 = (
    "{{- bos_token }}"
    "{%- for message in messages %}"
    "{{- '<|start_header_id|>' + message['role'] + '<|end_header_id|>\n\n' }}"
    "{{- message['content'] | trim + '<|eot_id|>' }}"
    "{%- endfor %}"
    "{%- if add_generation_prompt %}"
    "{{- '<|start_header_id|>assistant<|end_header_id|>\n\n' }}{%- endif %}"
)
"""As Llama 3 has it: a token that begins the text, and contents that are trimmed."""

QWEN_TOOLS = (
    "{{- '<|im_start|>system\n' + messages[0]['content'] if messages[0]['role'] == 'system' "
    "else '<|im_start|>system\nBe helpful.' }}"
    "{%- if tools %}{{- '\n# Tools' }}"
    "{%- for tool in tools %}{{- '\n' + (tool | tojson) }}{%- endfor %}"
    "{{- '\nCall one within <tool_call></tool_call>.' }}{%- endif %}{{- '<|im_end|>\n' }}"
    "{%- for message in messages %}"
    "{%- if message['role'] == 'tool' %}"
    "{{- '<|im_start|>user\n<tool_response>\n' + message['content'] }}"
    "{{- '\n</tool_response><|im_end|>\n' }}"
    "{%- elif message['role'] != 'system' %}"
    "{{- '<|im_start|>' + message['role'] + '\n' + message['content'] }}"
    "{%- for call in message['tool_calls'] or [] %}"
    "{{- '<tool_call>\n' + (call['function'] | tojson) + '\n</tool_call>' }}{%- endfor %}"
    "{{- '<|im_end|>\n' }}"
    "{%- endif %}{%- endfor %}"
    "{%- if add_generation_prompt %}{{- '<|im_start|>assistant\n' }}{%- endif %}"
)
"""As Qwen2.5 has it: calls in tags, results in a user message."""

LLAMA3_TOOLS = (
    "{%- for message in messages %}"
    "{%- set role = 'ipython' if message['role'] == 'tool' else message['role'] %}"
    "{{- '<|start_header_id|>' + role + '<|end_header_id|>\n\n' }}"
    "{%- if message['role'] == 'tool' %}{{- message['content'] | tojson }}"
    "{%- elif message['tool_calls'] %}{%- set call = message['tool_calls'][0]['function'] %}"
    "{{- '{\"name\": ' + (call['name'] | tojson) }}"
    "{{- ', \"parameters\": ' + (call['arguments'] | tojson) + '}' }}"
    "{%- else %}"
    "{%- if tools and message['role'] == 'user' %}"
    "{{- 'Functions: ' + (tools | tojson) + '\n' if loop.index0 < 2 else '' }}{%- endif %}"
    "{{- message['content'] | trim }}{%- endif %}{{- '<|eot_id|>' }}{%- endfor %}"
    "{%- if add_generation_prompt %}"
    "{{- '<|start_header_id|>assistant<|end_header_id|>\n\n' }}{%- endif %}"
)
"""As Llama 3.1 has it: tools in the first user message, calls as bare JSON, results as JSON."""

FORGETFUL = CHATML.replace(
    "{%- if message['role'] != 'system' %}",
    "{%- if message['role'] == 'user' or loop.last %}",
)
"""Leaves earlier replies out, so it is not prefix-preserving."""


def byte_tokenizer(template: str, special: Sequence[str], eos: str, bos: str | None = None) -> Any:
    """A byte-level tokenizer that knows some special tokens and `MOVES`."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokenizer = Tokenizer(models.BPE({symbol: i for i, symbol in enumerate(alphabet)}, []))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens([AddedToken(text, normalized=False) for text in special])
    tokenizer.add_tokens([AddedToken(text, normalized=False) for text in MOVES])
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, eos_token=eos, bos_token=bos, pad_token=special[0]
    )
    fast.chat_template = template
    return fast


def chatml_tokenizer() -> Any:
    """A byte-level tokenizer with ChatML."""
    return byte_tokenizer(CHATML, ("<|pad|>", "<|im_start|>", "<|im_end|>"), eos="<|im_end|>")


def save_qwen2(folder: Path, template: str = CHATML) -> Path:
    """Write a random Qwen2 of two layers with ChatML."""
    special = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")
    tokenizer = byte_tokenizer(template, special, eos="<|im_end|>")
    config = Qwen2Config(**_sizes(tokenizer), tie_word_embeddings=False)
    torch.manual_seed(0)
    return _save(Qwen2ForCausalLM(config), tokenizer, folder)


def save_llama(folder: Path, template: str = LLAMA3, is_tied: bool = False) -> Path:
    """Write a random Llama of two layers with the markup of Llama 3."""
    special = ("<|pad|>", "<|begin_of_text|>", "<|start_header_id|>", "<|end_header_id|>")
    special += ("<|eot_id|>",)
    tokenizer = byte_tokenizer(template, special, eos="<|eot_id|>", bos="<|begin_of_text|>")
    config = LlamaConfig(**_sizes(tokenizer), tie_word_embeddings=is_tied)
    torch.manual_seed(0)
    return _save(LlamaForCausalLM(config), tokenizer, folder)


def _sizes(tokenizer: Any) -> dict[str, Any]:
    return {
        "vocab_size": len(tokenizer),
        "hidden_size": 32,
        "intermediate_size": 64,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "num_key_value_heads": 1,
        "max_position_embeddings": 2048,
        "bos_token_id": tokenizer.bos_token_id,
        "eos_token_id": tokenizer.eos_token_id,
        "pad_token_id": tokenizer.pad_token_id,
    }


def _save(model: Any, tokenizer: Any, folder: Path) -> Path:
    _favour_moves(model, tokenizer.convert_tokens_to_ids(list(MOVES)))
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


@torch.no_grad()
def _favour_moves(model: Any, move_ids: list[int]) -> None:
    """Make the random model play: all embeddings share a large first coordinate, which votes."""
    model.get_input_embeddings().weight[:, 0] = 2.0
    model.get_output_embeddings().weight[move_ids, 0] = 2.0
