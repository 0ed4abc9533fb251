"""What is refused when the parts of a run are put together."""

import pytest

from sesa_agent.configs.errors import SettingError
from sesa_agent.configs.load import load_config
from sesa_agent.training.setup import resolve_auto


@pytest.mark.parametrize(
    ("word", "hint"),
    [
        ("sampling.name=forest", "parallel, tree"),
        ("loss.name=gspo", "grpo"),
        ("loss.credit=luck", "auto, trajectory, tree"),
        ("loss.exploration=magic", "none, adaptive_entropy"),
        ("engine.name=gguf", "hf, vllm"),
    ],
)
def test_a_name_that_nothing_bears_is_refused_with_those_that_there_are(word, hint):
    key = word.partition("=")[0]
    with pytest.raises(SettingError, match=f"{key} must be one of {hint}"):
        resolve_auto(load_config("sokoban", overrides=[word]))
