"""What a vLLM server's workers do for a trainer; vLLM mixes `Worker` into its own worker class.

`sesa-agent serve` names it (`--worker-extension-cls`). An exception that leaves a worker ends the
whole server, so errors are answered in words.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from .weight_stream import WeightStream, join_meeting

SHAPE = ("model_type", "vocab_size", "hidden_size", "num_hidden_layers")
"""What a policy and a served model must have in common."""
OK = "ok"
NOT_SEEN = "not seen"
"""What a worker says of a folder that is not on its machine."""


class Worker:
    """Takes weights from a folder that the trainer wrote, or from the trainer itself."""

    device: Any
    rank: int
    model_runner: Any
    model_config: Any
    weights_version = ""
    """The version of the weights taken last; empty for those that the server started with."""

    def describe_model(self) -> dict[str, Any]:
        """Return the served model's `SHAPE`, the size of its attention heads, and the device."""
        config = self.model_config.hf_text_config
        heads = getattr(config, "num_attention_heads", 1)
        head_dim = getattr(config, "head_dim", None) or config.hidden_size // heads
        found = {name: getattr(config, name, None) for name in SHAPE}
        return found | {"head_dim": head_dim, "device": self.device.type}

    def take_weights(self, folder: str, version: str) -> str:
        """Load the weights of a folder in Hugging Face format in place; returns `OK` or why not."""
        if not (Path(folder) / "config.json").is_file():
            return NOT_SEEN
        return self._take(version, lambda: self.model_runner.reload_weights(weights_path=folder))

    def receive_weights(
        self, address: str, port: int, size: int, backend: str, version: str
    ) -> str:
        """Load the weights that the trainer sends in place; returns `OK` or why not."""

        def reload() -> None:
            meeting = join_meeting(address, port, size, backend)
            weights = WeightStream(meeting, 1 + self.rank, self.device).receive()
            try:
                self.model_runner.reload_weights(weights_iterator=weights)
            finally:
                for _ in weights:  # whatever went wrong here, the trainer is not kept waiting
                    pass

        return self._take(version, reload)

    def _take(self, version: str, reload: Callable[[], None]) -> str:
        try:
            reload()
            head: Any = getattr(self.model_runner.get_model(), "lm_head", None)
            if self.device.type == "cpu" and hasattr(head, "quant_method"):
                # The CPU kernels pack it; a reload of tied embeddings misses that.
                head.quant_method.process_weights_after_loading(head)
        except Exception as error:
            return " ".join(f"{type(error).__name__}: {error}".split())[:300]
        self.weights_version = version
        return OK

    def tell_version(self) -> str:
        """Return `weights_version`."""
        return self.weights_version
