"""Trains LLM agents by reinforcement learning in text games, exploring one proposal after another.

The folders of the repository are imported as `sesa_agent.environments`, `sesa_agent.sampling` and
so on. The command `sesa-agent --help` (also `python -m sesa_agent --help`) is the way in.
"""

__version__ = "0.1.0"
