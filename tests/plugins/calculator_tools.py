"""An environment with tools as a user would write it: `--env calculator_tools:Calculator-v0`."""

import gymnasium

from sesa_agent import ToolEnv, tool


class Calculator(ToolEnv):
    """Work out the product."""

    def start(self):
        self.a, self.b = self.np_random.integers(10, 99, 2)
        return f"What is {self.a} * {self.b}?"

    @tool
    def multiply(self, a: int, b: int) -> int:
        """Multiply two numbers."""
        return a * b

    @tool
    def submit(self, answer: int):
        """Give the answer; this ends the task."""
        self.finish(answer == self.a * self.b)


gymnasium.register("Calculator-v0", Calculator)  # pyright: ignore[reportArgumentType]
