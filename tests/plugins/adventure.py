"""A text adventure of somebody else: plain text, and the commands of each place in `info`."""

import string

import gymnasium
from gymnasium.spaces import Text

WAYS = {"hall": {"north": "attic", "down": "cellar"}}
WAYS |= {"attic": {"south": "hall"}, "cellar": {"up": "hall"}}


class Adventure(gymnasium.Env):
    """Bring the lamp to the hall. It may be in the attic or in the cellar."""

    observation_space = Text(500, charset=string.printable)
    action_space = Text(500)  # letters and digits alone, as Gymnasium has it: no "go north"
    max_steps = 8

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.place, self.lamp = "hall", str(self.np_random.choice(["attic", "cellar"]))
        return self._describe(), {"admissible_commands": self._commands()}

    def step(self, action):
        legal = action in self._commands()
        if action == "take lamp" and legal:
            self.lamp = "hand"
        elif legal:
            self.place = WAYS[self.place][action.removeprefix("go ")]
        won = (self.place, self.lamp) == ("hall", "hand")
        text = self._describe() if legal else "Nothing happens."
        info = {"admissible_commands": self._commands(), "legal": legal, "success": won}
        return text, float(won), won, False, info

    def _commands(self):
        ways = [f"go {way}" for way in WAYS[self.place]]
        return [*ways, "take lamp"] if self.lamp == self.place else ways

    def _describe(self):
        return f"You are in the {self.place}." + " A lamp is here." * (self.lamp == self.place)


gymnasium.register("Adventure-v0", "adventure:Adventure")
