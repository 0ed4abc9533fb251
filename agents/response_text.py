"""Turns sampled ids into the text that the model wrote: the only decoder of the engines.

Tags of the answer format stay, also where a tokenizer has them as special tokens; the tokens that
end or mark turns do not. A response continues its prompt, so that a leading space stays too, which
tokenizers of the SentencePiece kind drop at the start of a text.
"""

from collections.abc import Sequence
from typing import Any

FORMAT_TAGS = ("<think>", "</think>", "<answer>", "</answer>", "<sketch>", "</sketch>")
"""What prompts ask for, whatever a tokenizer says about it."""
_KEPT = (*FORMAT_TAGS, "<tool_call>", "</tool_call>")
_ANCHOR = "a"


class ResponseDecoder:
    """Decodes responses of one tokenizer.

    Args:
        tokenizer: a Hugging Face tokenizer.
    """

    def __init__(self, tokenizer: Any):
        self.tokenizer = tokenizer
        self._dropped = {
            token_id
            for token_id, token in tokenizer.added_tokens_decoder.items()
            if token.special and token.content not in _KEPT
        }
        self._anchor = list(tokenizer.encode(_ANCHOR, add_special_tokens=False))[-1:]
        self._anchor_text = self._decode(self._anchor)

    def text(self, ids: Sequence[int]) -> str:
        """Return what a response says."""
        kept = [token_id for token_id in ids if token_id not in self._dropped]
        text = self._decode([*self._anchor, *kept])
        if text.startswith(self._anchor_text):
            return text.removeprefix(self._anchor_text)
        return self._decode(kept)

    def _decode(self, ids: list[int]) -> str:
        # Cleaning up would drop the spaces before punctuation.
        return self.tokenizer.decode(ids, clean_up_tokenization_spaces=False)
