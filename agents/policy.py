"""The trainable model: log-probabilities, splitting, saving. Loading is in `pretrained.py`.

Alignment: entry [n, t] of every (N, T) tensor belongs to token t given the tokens before it. Only
`Policy.logprobs` shifts by one.
"""

import copy
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor
from torch.distributed.device_mesh import DeviceMesh

from ..configs.errors import SettingError
from .logprobs import (
    ENTROPY,
    MAX_LOGITS,
    Statistic,
    chunked_logprobs,
    has_plain_head,
    token_logprobs,
)
from .lora import (
    base_of,
    has_adapter,
    is_adapter,
    merge_adapter,
    merged_weights,
    without_adapter,
)
from .meta_loading import (
    can_fill,
    check_embeddings,
    empty_model,
    fill_model,
    round_weights,
    stored_tensors,
)
from .model_folder import locate_model
from .prefix_rows import PrefixRows, share_prefixes
from .pretrained import check_finite, check_kernels, explained, load_pretrained, quiet_transformers
from .sharded_files import write_shards
from .sharding import is_split, marked_layers, round_to, split_weights, whole, with_root

MIN_GAIN = 1.1
"""Smallest ratio of padded to shared-prefix tokens at which prefixes are shared; below it,
gathering costs more than it saves."""


class Rows(Protocol):
    """What `Policy.logprobs` needs from a batch: N rows of T tokens, padded on the right."""

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

    Dropout stays off even in training, because the importance ratio of an unchanged policy must be
    exactly 1.

    Args:
        model: a transformers model for causal language modelling.
        tokenizer: its tokenizer.
        temperature: logits are divided by it, so that log-probabilities match those of rollouts.
        max_logits: number of logits that `logprobs` holds at a time; bounds memory, changes nothing
            else.
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
        """Why rows must be padded, as the end of a sentence; empty if prefixes can be shared."""
        self._recomputed: list[Any] = []
        self._rounded_dtype: torch.dtype | None = None
        self._has_plain_head: bool | None = None

    @property
    def compute_dtype(self) -> torch.dtype:
        """Dtype of the weights in forward and backward passes."""
        return self._rounded_dtype or self.model.dtype

    @property
    def rounds_weights(self) -> bool:
        """Whether float32 weights are rounded to `compute_dtype` whenever they are used."""
        return self._rounded_dtype is not None

    @property
    def can_share_prefix(self) -> bool:
        """Whether shared prefixes of a batch's rows are computed once."""
        return not self.padding_reason

    def parameters(self) -> list[torch.nn.Parameter]:
        """Return the trainable parameters."""
        return [p for p in self.model.parameters() if p.requires_grad]

    def logprobs(
        self,
        batch: Rows,
        entropy_grad: bool = False,
        statistics: Sequence[Statistic] = ENTROPY,
    ) -> tuple[Tensor, ...]:
        """Return the log-probability of every trained token and statistics of its distribution.

        Shared prefixes are computed once if that pays and the model allows it (`prefix_rows.py`).
        If there would be more than `max_logits` logits, they are computed in chunks, for trained
        positions only.

        Args:
            batch: N rows of T tokens.
            entropy_grad: whether gradients flow through the statistics.
            statistics: of the distributions over token t given the tokens before it; by default
                their entropies in nats.

        Returns:
            (N, T) float tensors on the CPU: natural log-probabilities, and one for each statistic.
            All are zero outside `loss_mask`.
        """
        rows = None
        if self.can_share_prefix:
            rows = share_prefixes(batch.token_ids.cpu(), batch.attention_mask.cpu())
        if rows and batch.token_ids.numel() >= MIN_GAIN * len(rows):
            read = partial(self._read_shared_prefix, batch, rows, entropy_grad, statistics)
        else:
            read = partial(self._read_padded, batch, entropy_grad, statistics)
        values = with_root(self.model, read)  # of shape (M,)
        trained = batch.loss_mask.to(self.model.device)
        spread = (v.new_zeros(trained.shape).masked_scatter(trained, v) for v in values)
        return tuple(tensor.cpu() for tensor in spread)

    def _read_padded(
        self, batch: Rows, entropy_grad: bool, statistics: Sequence[Statistic]
    ) -> tuple[Tensor, ...]:
        """Return log-probabilities and statistics of the trained tokens, row by row: (M,) each."""
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
            # The hidden state at t - 1 predicts token t.
            places = trained[:, 1:]
            return self._in_chunks(hidden[:, :-1][places], ids[trained], entropy_grad, statistics)
        with self._recomputing():
            output = self.model.forward(**inputs, logits_to_keep=ids.shape[1] - first + 1)
        values = token_logprobs(
            output.logits[:, :-1], ids[:, first:], self.temperature, entropy_grad, statistics
        )
        return tuple(value[trained[:, first:]] for value in values)

    def _read_shared_prefix(
        self, batch: Rows, rows: PrefixRows, entropy_grad: bool, statistics: Sequence[Statistic]
    ) -> tuple[Tensor, ...]:
        """Return the same as `_read_padded`, computed on shared-prefix rows."""
        from .prefix_attention import prefix_inputs

        device = self.model.device
        inputs = prefix_inputs(rows, device, self.compute_dtype)
        ids = batch.token_ids[batch.loss_mask].to(device)  # (M,)
        before = rows.places[:, :-1][batch.loss_mask.cpu()[:, 1:]].to(device)  # (M,)
        if self._needs_chunks(len(ids), inputs["input_ids"][:, :1]):
            with self._recomputing():
                hidden = self.model.get_decoder()(**inputs).last_hidden_state  # (1, L, H)
            return self._in_chunks(hidden[0, before], ids, entropy_grad, statistics)
        with self._recomputing():
            logits = self.model.forward(**inputs, logits_to_keep=before).logits[0]  # (M, V)
        return token_logprobs(logits, ids, self.temperature, entropy_grad, statistics)

    def _needs_chunks(self, num_positions: int, some_token: Tensor) -> bool:
        """Return whether there are too many logits to hold at once, and chunks are possible."""
        is_large = num_positions * self._vocabulary > self.max_logits
        if is_large and self._has_plain_head is None:
            self._has_plain_head = has_plain_head(self.model, some_token)
        return is_large and bool(self._has_plain_head)

    def _in_chunks(
        self,
        hidden: Tensor,
        token_ids: Tensor,
        entropy_grad: bool,
        statistics: Sequence[Statistic],
    ) -> tuple[Tensor, ...]:
        """Return log-probabilities and statistics of tokens from the hidden states before them."""
        return chunked_logprobs(
            self.model.get_output_embeddings(),
            hidden,
            token_ids,
            self.temperature,
            entropy_grad,
            statistics=statistics,
            chunk=max(1, self.max_logits // self._vocabulary),
        )

    @property
    def _vocabulary(self) -> int:
        return self.model.get_input_embeddings().num_embeddings

    def recompute_layers(self) -> None:
        """Turn on transformers' gradient checkpointing: keep only each layer's inputs.

        It works only in training mode, so the layers are in training mode while `logprobs` computes
        with gradients. Their submodules never are, so dropout stays off.

        Raises:
            SettingError: if transformers does not support it for this model family.
        """
        layers = marked_layers(self.model)
        if not layers or not self.model.supports_gradient_checkpointing:
            raise SettingError(
                "model.gradient_checkpointing must be false for models of type "
                f"{self.model.config.model_type}, got true: transformers does not support it."
            )
        self.model.gradient_checkpointing_enable({"use_reentrant": False})
        for layer in layers:
            for name, value in list(vars(layer).items()):
                if "dropout" in name and isinstance(value, float):
                    setattr(layer, name, 0.0)
        self._recomputed = layers

    @contextmanager
    def _recomputing(self) -> Iterator[None]:
        """Put the checkpointed layers into training mode, if gradients are computed."""
        layers = self._recomputed if torch.is_grad_enabled() else []
        for layer in layers:
            layer.training = True  # not `train()`, which would reach the submodules too
        try:
            yield
        finally:
            for layer in layers:
                layer.training = False

    def split(self, mesh: DeviceMesh) -> None:
        """Split the weights over the processes of a mesh, in place.

        Trained 16-bit weights become float32 and are rounded whenever they are used, so that small
        updates add up. `ask_head` must follow, in all processes together, before `logprobs`.

        Args:
            mesh: of all processes, each of which has the same policy.

        Raises:
            SettingError: in one line, if the model's decoder layers cannot be told.
        """
        trained = self.parameters()
        if trained and all(weight.dtype.itemsize == 2 for weight in trained):
            self._rounded_dtype = self.model.dtype
            self.model.float()
        split_weights(self.model, mesh, self._rounded_dtype)

    def ask_head(self) -> None:
        """Find out in all processes together what `logprobs` must know of split weights."""
        token = torch.zeros(1, 1, dtype=torch.int64, device=self.model.device)
        with torch.no_grad():
            with_root(self.model, lambda: self._note_plain_head(token))

    def _note_plain_head(self, token: Tensor) -> tuple[Tensor]:
        self._has_plain_head = has_plain_head(self.model, token)
        return (token,)

    def before_training(self) -> "Policy":
        """Return the policy without its LoRA adapter, sharing the weights that training froze."""
        policy = _WithoutAdapter(self.model, self.tokenizer, self.temperature, self.max_logits)
        policy._has_plain_head = self._has_plain_head
        return policy

    def copy(self) -> "Policy":
        """The same policy on weights of its own."""
        model = copy.deepcopy(self.model)
        return Policy(model, self.tokenizer, self.temperature, self.max_logits)

    def weights(self) -> Iterator[tuple[str, Tensor]]:
        """Yield all weights under their names in a plain model, with a LoRA adapter's effect.

        They are whole tensors in `compute_dtype`. If they are split over processes, all must
        iterate together; one weight at a time is gathered.
        """
        return merged_weights(self.model, self._rounded_dtype)

    def save(self, folder: Path) -> None:
        """Write model (or LoRA adapter) and tokenizer in Hugging Face format, as safetensors.

        If the weights are split over processes, all must call this; the first one writes.
        """
        gathered = self._gathered() if is_split(self.model) else None
        if gathered is None or torch.distributed.get_rank() == 0:
            self._write(folder, gathered)

    def _gathered(self) -> dict[str, Tensor]:
        """Gather what `save` writes in the memory of the first process, weight by weight."""
        is_first = torch.distributed.get_rank() == 0
        gathered: dict[str, Tensor] = {}
        for name, weight in self.model.state_dict().items():
            if has_adapter(self.model) and ".lora_" not in name:
                continue
            value = whole(round_to(weight, self._rounded_dtype))
            if is_first:
                gathered[name] = value.cpu()
        return gathered

    def _write(self, folder: Path, weights: dict[str, Tensor] | None) -> None:
        with quiet_transformers():
            self.model.save_pretrained(folder, state_dict=weights)
            self.tokenizer.save_pretrained(folder)
            if self.rounds_weights:
                self.model.config.dtype = self.compute_dtype
                self.model.config.save_pretrained(folder)

    def save_parts(self, folder: Path) -> None:
        """Write the policy so that `load` and `load_split` can read it, and each process its part.

        The files are those of `save`, unless the weights are split: then each process writes its
        own. An adapter is small and written whole.
        """
        if not is_split(self.model) or has_adapter(self.model):
            self.save(folder)
            return
        if torch.distributed.get_rank() == 0:
            self._write(folder, {})
            (folder / "model.safetensors").unlink(missing_ok=True)  # without any weights
        tensors = stored_tensors(self.model)
        dtype = self._rounded_dtype
        write_shards(folder, {name: round_to(value, dtype) for name, value in tensors.items()})

    @classmethod
    def load_empty(
        cls,
        path: str,
        dtype: str = "float32",
        temperature: float = 1.0,
        trust_remote_code: bool = False,
    ) -> "Policy | None":
        """Load a model folder without its weights, which `split` and then `fill` give it.

        Returns:
            The policy; None if it must be loaded whole: an adapter, a model on the hub, or one of
            a family whose weights transformers converts.

        Raises:
            SettingError: as `load`.
        """
        place = locate_model(path)
        if is_adapter(place) or not Path(place).is_dir():
            return None
        with explained(path), quiet_transformers():
            from transformers import AutoTokenizer

            check_kernels(place)
            tokenizer = AutoTokenizer.from_pretrained(place, trust_remote_code=trust_remote_code)
            model = empty_model(place, getattr(torch, dtype), trust_remote_code)
        if not can_fill(model, Path(place)):
            return None
        check_embeddings(model, tokenizer, path)
        return cls(model, tokenizer, temperature)

    def fill(self, path: str, device: str) -> None:
        """Read the weights of a policy from `load_empty`; each process reads the part it holds.

        Args:
            path: as for `load_empty`.
            device: where the weights go.

        Raises:
            SettingError: as `load`.
        """
        with explained(path):
            fill_model(self.model, Path(locate_model(path)), device)
        if self._rounded_dtype:
            round_weights(self.model, self._rounded_dtype)
        check_finite(self.model, path)

    @classmethod
    def load(
        cls,
        path: str,
        dtype: str = "float32",
        device: str = "auto",
        temperature: float = 1.0,
        trust_remote_code: bool = False,
    ) -> "Policy":
        """Load a folder in Hugging Face format, a model from the hub, or a bundled model.

        For the folder of a LoRA adapter, its base model is loaded with the adapter's effect added
        to the weights.

        Raises:
            SettingError: in one line that says what is wrong with the model and what to do.
        """
        if is_adapter(path):
            policy = cls.load(base_of(path), dtype, device, temperature, trust_remote_code)
            merge_adapter(policy.model, path)
            return policy
        model, tokenizer = load_pretrained(path, dtype, trust_remote_code)
        chosen = ("cuda" if torch.cuda.is_available() else "cpu") if device == "auto" else device
        model = model.to(chosen)
        check_finite(model, path)
        return cls(model, tokenizer, temperature)


class _WithoutAdapter(Policy):
    """Computes with the adapter switched off."""

    def logprobs(self, *args: Any, **options: Any) -> tuple[Tensor, ...]:
        with without_adapter(self.model):
            return super().logprobs(*args, **options)
