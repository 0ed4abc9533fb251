"""The trainable model: loading, log-probabilities, saving.

Alignment: entry [n, t] of every (N, T) tensor speaks about token t given the tokens before it. The
shift by one that this needs lives in `Policy.logprobs` and nowhere else.
"""

import copy
import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor

from ..configs.errors import SettingError
from .logprobs import MAX_LOGITS, chunked_logprobs, has_plain_head, token_logprobs
from .lora import base_of, is_adapter, merge_adapter, merged_weights, without_adapter
from .prefix_rows import PrefixRows, share_prefixes

MIN_GAIN = 1.1
"""Padded tokens per packed one from which on rows are packed: below it gathering costs more."""
BUNDLED = ("sesa-tiny", "sesa-tiny-answers")
"""The names of the models that ship with the package."""


def bundled_model_folder(name: str) -> Path:
    """Where a bundled model lies."""
    return Path(__file__).parent / "bundled" / name


class Rows(Protocol):
    """What `Policy.logprobs` needs of a batch: N rows of T tokens, padded on the right."""

    @property
    def token_ids(self) -> Tensor:
        """(N, T) int64."""
        ...

    @property
    def attention_mask(self) -> Tensor:
        """(N, T) bool, False on padding."""
        ...

    @property
    def loss_mask(self) -> Tensor:
        """(N, T) bool, True on the tokens that are trained."""
        ...


class Policy:
    """A causal language model and its tokenizer.

    Dropout stays off, in training too: the likelihood ratio of an unchanged policy must be
    exactly 1.

    Args:
        model: a transformers model for causal language modelling.
        tokenizer: its tokenizer.
        temperature: logits are divided by it, so that likelihoods are those that rollouts were
            drawn with.
        max_logits: logits that `logprobs` holds at a time; bounds memory, changes nothing else.
    """

    def __init__(
        self,
        model: Any,
        tokenizer: Any,
        temperature: float = 1.0,
        max_logits: int = MAX_LOGITS,
    ):
        from .prefix_attention import allow_prefix_rows

        self.model = model.eval()
        self.tokenizer = tokenizer
        self.temperature = temperature
        self.max_logits = max_logits
        self.padding_reason = allow_prefix_rows(model)
        """Why its rows are padded, in words that end a sentence; empty where they can be packed."""
        self._recomputed: list[Any] = []

    @property
    def can_share_prefix(self) -> bool:
        """Whether what the rows of a batch begin with alike is computed once."""
        return not self.padding_reason

    def parameters(self) -> list[torch.nn.Parameter]:
        """What the optimiser changes."""
        return [p for p in self.model.parameters() if p.requires_grad]

    def logprobs(self, batch: Rows, entropy_grad: bool = False) -> tuple[Tensor, Tensor]:
        """Log-probability of every trained token and the entropy it was drawn at.

        What rows begin with alike is computed once, where that pays and the model allows it
        (`prefix_rows.py`). Where they would be more than `MAX_LOGITS`, logits are formed of trained
        positions alone, some at a time.

        Args:
            batch: N rows of T tokens.
            entropy_grad: whether gradients shall flow through the entropies.

        Returns:
            Two (N, T) float tensors on the CPU: natural log-probabilities, and entropies in nats of
            the distributions over token t given the tokens before it. Both are zero outside
            `loss_mask`.
        """
        packed = None
        if self.can_share_prefix:
            packed = share_prefixes(batch.token_ids.cpu(), batch.attention_mask.cpu())
        if packed and batch.token_ids.numel() >= MIN_GAIN * len(packed):
            values = self._read_packed(batch, packed, entropy_grad)
        else:
            values = self._read_padded(batch, entropy_grad)
        trained = batch.loss_mask.to(self.model.device)
        chosen, entropy = (v.new_zeros(trained.shape).masked_scatter(trained, v) for v in values)
        return chosen.cpu(), entropy.cpu()

    def _read_padded(self, batch: Rows, entropy_grad: bool) -> tuple[Tensor, Tensor]:
        """Likelihoods and entropies of the trained tokens, row by row: two of shape (M,)."""
        device = self.model.device
        ids, mask = batch.token_ids.to(device), batch.attention_mask.to(device)
        trained = batch.loss_mask.to(device)
        first = int(batch.loss_mask.any(0).nonzero()[0])
        inputs = {
            "input_ids": ids,
            "attention_mask": mask,
            "position_ids": (mask.cumsum(1) - 1).clamp(min=0),
            "use_cache": False,
        }
        if self._needs_chunks(ids[:, first:].numel(), ids[:1, :1]):
            with self._recomputing():
                hidden = self.model.get_decoder()(**inputs).last_hidden_state  # (N, T, H)
            # The state at t - 1 speaks about token t.
            return self._in_chunks(hidden[:, :-1][trained[:, 1:]], ids[trained], entropy_grad)
        with self._recomputing():
            output = self.model(**inputs, logits_to_keep=ids.shape[1] - first + 1)
        chosen, entropy = token_logprobs(
            output.logits[:, :-1], ids[:, first:], self.temperature, entropy_grad
        )
        return chosen[trained[:, first:]], entropy[trained[:, first:]]

    def _read_packed(
        self, batch: Rows, packed: PrefixRows, entropy_grad: bool
    ) -> tuple[Tensor, Tensor]:
        """`_read_padded` of packed rows."""
        from .prefix_attention import prefix_inputs

        device = self.model.device
        inputs = prefix_inputs(packed, device, self.model.dtype)
        ids = batch.token_ids[batch.loss_mask].to(device)  # (M,)
        before = packed.places[:, :-1][batch.loss_mask.cpu()[:, 1:]].to(device)  # (M,)
        if self._needs_chunks(len(ids), inputs["input_ids"][:, :1]):
            with self._recomputing():
                hidden = self.model.get_decoder()(**inputs).last_hidden_state  # (1, L, H)
            return self._in_chunks(hidden[0, before], ids, entropy_grad)
        with self._recomputing():
            logits = self.model(**inputs, logits_to_keep=before).logits[0]  # (M, V)
        return token_logprobs(logits, ids, self.temperature, entropy_grad)

    def _needs_chunks(self, num_positions: int, some_token: Tensor) -> bool:
        """Whether their logits are too many to be held at once, and can be formed apart."""
        is_large = num_positions * self._vocabulary > self.max_logits
        return is_large and has_plain_head(self.model, some_token)

    def _in_chunks(
        self, hidden: Tensor, token_ids: Tensor, entropy_grad: bool
    ) -> tuple[Tensor, Tensor]:
        """Likelihoods and entropies of tokens by the states (M, H) that speak about them."""
        return chunked_logprobs(
            self.model.get_output_embeddings(),
            hidden,
            token_ids,
            self.temperature,
            entropy_grad,
            chunk=max(1, self.max_logits // self._vocabulary),
        )

    @property
    def _vocabulary(self) -> int:
        return self.model.get_input_embeddings().num_embeddings

    def recompute_layers(self) -> None:
        """Keep only the inputs of each layer for the backward pass, and compute the rest again.

        transformers' gradient checkpointing. It works in training mode alone, so the layers are in
        it while `logprobs` computes with gradients; their parts never are, and dropout stays off.

        Raises:
            SettingError: if transformers cannot do it with models of this family.
        """
        from transformers.modeling_layers import GradientCheckpointingLayer

        layers = [m for m in self.model.modules() if isinstance(m, GradientCheckpointingLayer)]
        if not layers or not self.model.supports_gradient_checkpointing:
            raise SettingError(
                "model.gradient_checkpointing must be false for models of type "
                f"{self.model.config.model_type}, got true: transformers cannot do it."
            )
        self.model.gradient_checkpointing_enable({"use_reentrant": False})
        for layer in layers:
            for name, value in list(vars(layer).items()):
                if "dropout" in name and isinstance(value, float):
                    setattr(layer, name, 0.0)
        self._recomputed = layers

    @contextmanager
    def _recomputing(self) -> Iterator[None]:
        """Let layers that are to be computed again know that they are being trained."""
        layers = self._recomputed if torch.is_grad_enabled() else []
        for layer in layers:
            layer.training = True  # not `train()`, which would reach their parts too
        try:
            yield
        finally:
            for layer in layers:
                layer.training = False

    def before_training(self) -> "Policy":
        """The policy without its LoRA adapter, on the same weights: what training began with."""
        return _WithoutAdapter(self.model, self.tokenizer, self.temperature, self.max_logits)

    def copy(self) -> "Policy":
        """The same policy on weights of its own."""
        model = copy.deepcopy(self.model)
        return Policy(model, self.tokenizer, self.temperature, self.max_logits)

    def weights(self) -> Iterator[tuple[str, Tensor]]:
        """All weights by the names of a plain model, a LoRA adapter's effect added to them."""
        return merged_weights(self.model)

    def save(self, folder: Path) -> None:
        """Write model (safetensors) and tokenizer in Hugging Face format; of LoRA the adapter."""
        with quiet_transformers():
            self.model.save_pretrained(folder, safe_serialization=True)
            self.tokenizer.save_pretrained(folder)

    @classmethod
    def load(
        cls,
        path: str,
        dtype: str = "float32",
        device: str = "auto",
        temperature: float = 1.0,
        trust_remote_code: bool = False,
    ) -> "Policy":
        """Load a folder in Hugging Face format, a model from a hub, or the bundled model.

        The folder of a LoRA adapter is loaded as the model that it belongs to with its effect added
        to the weights.

        Raises:
            SettingError: in one line that says what is wrong with the model and what to do.
        """
        if is_adapter(path):
            policy = cls.load(base_of(path), dtype, device, temperature, trust_remote_code)
            merge_adapter(policy.model, path)
            return policy
        folder = str(bundled_model_folder(path)) if path in BUNDLED else path
        check_model_path(folder)
        from transformers import AutoModelForCausalLM, AutoTokenizer

        try:
            with quiet_transformers():
                tokenizer = AutoTokenizer.from_pretrained(
                    folder, trust_remote_code=trust_remote_code
                )
                load: Any = AutoModelForCausalLM.from_pretrained  # typed without its report
                model, report = load(
                    folder,
                    dtype=getattr(torch, dtype),
                    trust_remote_code=trust_remote_code,
                    use_safetensors=True,
                    ignore_mismatched_sizes=True,  # told below, in one line
                    output_loading_info=True,
                )
        except Exception as error:  # whatever transformers, tokenizers and safetensors raise
            reason = str(error).strip().splitlines()[0] if str(error).strip() else repr(error)
            raise SettingError(
                f"model.path {path!r} could not be loaded: {reason.rstrip('.')}. "
                "It must be a whole model folder with safetensors weights, or a model on the hub."
            ) from error
        wrong = sorted(map(str, (*report["missing_keys"], *report["mismatched_keys"])))
        if wrong:
            raise SettingError(
                f"model.path {path!r} is damaged: its weight files do not hold what config.json "
                f"says, {wrong[0]} among others. Copy or download it again."
            )
        if len(tokenizer) > model.get_input_embeddings().num_embeddings:
            raise SettingError(
                f"model.path {path!r} is damaged: its tokenizer has {len(tokenizer)} tokens, its "
                f"model knows {model.get_input_embeddings().num_embeddings}. Copy it again."
            )
        chosen = ("cuda" if torch.cuda.is_available() else "cpu") if device == "auto" else device
        return cls(model.to(chosen), tokenizer, temperature)


class _WithoutAdapter(Policy):
    """Computes with the adapter switched off."""

    def logprobs(self, batch: Rows, entropy_grad: bool = False) -> tuple[Tensor, Tensor]:
        with without_adapter(self.model):
            return super().logprobs(batch, entropy_grad)


@contextmanager
def quiet_transformers() -> Iterator[None]:
    """Keep bars and reports of transformers off the screen, where the run's own bar stands."""
    from huggingface_hub.utils import logging as hub_logging
    from transformers.utils import logging

    verbosity, has_bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    hub_verbosity = hub_logging.get_verbosity()
    logging.set_verbosity_error()
    hub_logging.set_verbosity_error()  # it tells of every attempt to reach the hub
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(verbosity)
        hub_logging.set_verbosity(hub_verbosity)
        if has_bars:
            logging.enable_progress_bar()


def check_model_path(path: str) -> None:
    """Refuse a path that cannot be a model to train, before anything heavy is imported.

    Raises:
        SettingError: naming the path and what is missing.
    """
    if path.startswith("api:"):
        raise SettingError(
            f"model.path {path!r} is a model behind an API, which gives no weights: it can be "
            "evaluated, not trained. Try sesa-agent evaluate with --base-url, or a model folder."
        )
    folder = Path(path)
    looks_like_hub_name = path.count("/") == 1 and not path.startswith((".", "/", "~"))
    looks_like_hub_name = looks_like_hub_name and not folder.parent.is_dir()
    if not folder.is_dir():
        if not looks_like_hub_name:
            raise SettingError(
                f"model.path must be a folder or a model name on the hub, got {path!r}, which does "
                "not exist. Give the folder that holds config.json."
            )
        return
    if is_adapter(path):
        return
    config = folder / "config.json"
    if not config.is_file():
        raise SettingError(f"model.path {path!r} has no config.json, so it is not a model folder.")
    try:
        if not isinstance(json.loads(config.read_text(encoding="utf-8")), dict):
            raise ValueError("no object")
    except ValueError as error:
        raise SettingError(
            f"model.path {path!r} is damaged: config.json is not JSON ({error})."
        ) from error
