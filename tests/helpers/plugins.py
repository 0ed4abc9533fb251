"""Environments of other people, outside the package: modules that tests put on the path."""

from pathlib import Path

FOLDER = Path(__file__).parents[1] / "plugins"
ADVENTURE, DIALOGUE_GAME = "adventure:Adventure-v0", "dialogue_game:AnimalTalk-v0"
