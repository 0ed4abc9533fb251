"""A sound game, and environments that each break one rule: the checks must find it and name it."""

import copy
import threading
import time
import warnings
from dataclasses import replace

import gymnasium
import numpy as np
from gymnasium.spaces import Discrete, Text

from sesa_agent.environments import TextEnv, TextGame, TextSpec


class CoinGame(TextGame[int]):
    """Call a coin toss; three right calls win."""

    text_spec = TextSpec(instruction="Call the coin.", legend="", actions="heads, tails")
    is_deterministic = False

    def __init__(self):
        self.observation_space = Discrete(4)
        self.action_space = Discrete(2)  # pyright: ignore[reportAttributeAccessIssue]
        self.num_right = 0

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.num_right = int(self.np_random.integers(2))
        return self.num_right, {}

    def step(self, action):
        self.num_right += int(self.np_random.integers(2) == action)
        is_won = self.num_right == 3
        return self.num_right, float(is_won), is_won, False, {"success": is_won, "legal": True}

    def render(self):
        return np.full((4, 4, 3), self.num_right, np.uint8)

    def to_text(self):
        return f"{self.num_right} right so far"

    def read_action(self, text):
        word = text.strip().lower()
        return (word, ("heads", "tails").index(word)) if word in ("heads", "tails") else None

    def fork(self):
        return copy.deepcopy(self)

    def state_key(self):
        return self.num_right


class CoinEnv(TextEnv):
    """The sound environment; each class below breaks it in one way."""

    game: CoinGame

    def __init__(self):
        super().__init__(CoinGame(), max_steps=6)


class NumericSpace(CoinEnv):
    def __init__(self):
        super().__init__()
        self.action_space = Discrete(2)  # pyright: ignore[reportAttributeAccessIssue]


class NoWords(CoinEnv):
    def __init__(self):
        super().__init__()
        del self.text_spec


class TwoLines(CoinEnv):
    def __init__(self):
        super().__init__()
        self.text_spec = replace(self.text_spec, instruction="Call\nthe coin.")


class TakesNoOptions(CoinEnv):
    def reset(self, *, seed=None):  # pyright: ignore[reportIncompatibleMethodOverride]
        return super().reset(seed=seed)


class ResetsWithoutInfo(CoinEnv):
    def reset(self, *, seed=None, options=None):
        return super().reset(seed=seed, options=options)[0]


class OldGym(CoinEnv):
    def step(self, action):
        observation, reward, terminated, _, info = super().step(action)
        return observation, reward, terminated, info


class ShowsNumbers(CoinEnv):
    def step(self, action):
        return self.game.num_right, *super().step(action)[1:]


class WordForFlag(CoinEnv):
    def step(self, action):
        observation, reward, terminated, truncated, info = super().step(action)
        return observation, reward, "yes" if terminated else "no", truncated, info


class WordForReward(CoinEnv):
    def step(self, action):
        observation, _, terminated, truncated, info = super().step(action)
        return observation, "much", terminated, truncated, info


class RaisesInPlay(CoinEnv):
    def step(self, action):
        if self.num_steps == 3:
            raise KeyError("coin")
        return super().step(action)


class NarrowSpace(CoinEnv):
    def __init__(self):
        super().__init__()
        self.observation_space = Text(5)


class Silent(CoinEnv):
    def __init__(self):
        super().__init__()
        self.game.to_text = lambda: ""


class ShowsNone(CoinEnv):
    def __init__(self):
        super().__init__()
        self.game.to_text = lambda: str(None)


class ShowsNaN(CoinEnv):
    def __init__(self):
        super().__init__()
        self.game.to_text = lambda: "speed: 0.5 nan"


class ShowsAnObject(CoinEnv):
    def __init__(self):
        super().__init__()
        thing = object()
        self.game.to_text = lambda: str(thing)


class Coloured(CoinEnv):
    def __init__(self):
        super().__init__()
        self.game.to_text = lambda: "\x1b[31mcoin\x1b[m"
        self.observation_space = Text(100, charset="\x1b[m31coin")


class UnreadableActions(CoinEnv):
    def __init__(self):
        super().__init__()
        self.text_spec = replace(self.text_spec, actions="either side")


class UnreadableNames(CoinEnv):
    def __init__(self):
        super().__init__()
        self.text_spec = replace(self.text_spec, actions="heads, tails, edge")


class DriftingCanonicalText(CoinEnv):
    def canonical_action(self, text):
        canonical = super().canonical_action(text)
        return None if canonical is None else canonical + "!"


class MumblingPlayer(CoinEnv):
    def scripted_action(self, rng):
        return "the edge"


class Raises(CoinEnv):
    def step(self, action):
        return super().step(["heads", "tails"][["heads", "tails"].index(action)])


class BadTextCounts(CoinEnv):
    def step(self, action):
        if self.canonical_action(action) is None:
            self.game.num_right = 2
        return super().step(action)


class BadTextIsLegal(CoinEnv):
    def step(self, action):
        observation, reward, terminated, truncated, info = super().step(action)
        return observation, reward, terminated, truncated, {**info, "legal": True}


class InfiniteReward(CoinEnv):
    def step(self, action):
        observation, _, terminated, truncated, info = super().step(action)
        return observation, float("nan"), terminated, truncated, info


class NoSuccess(CoinEnv):
    def step(self, action):
        observation, reward, terminated, truncated, info = super().step(action)
        return observation, reward, terminated, truncated, {"legal": info["legal"]}


class WonButNotOver(CoinEnv):
    def step(self, action):
        observation, reward, _, _, info = super().step(action)
        return observation, reward, False, self.num_steps == self.max_steps, info


class Endless(CoinEnv):
    def step(self, action):
        observation, reward, _, _, info = super().step(action)
        return observation, reward, False, False, {**info, "success": False}


class OverstepsItsLimit(CoinEnv):
    def __init__(self):
        super().__init__()
        self.max_steps = 2

    def step(self, action):
        observation, reward, terminated, _, info = super().step(action)
        return observation, reward, terminated, self.num_steps == 6, info


class RaisesAfterTheEnd(CoinEnv):
    is_over = False

    def reset(self, *, seed=None, options=None):
        self.is_over = False
        return super().reset(seed=seed, options=options)

    def step(self, action):
        if self.is_over:
            raise RuntimeError("the game is over")
        given = super().step(action)
        self.is_over = given[2] or given[3]
        return given


class OwnDice(CoinEnv):
    def reset(self, *, seed=None, options=None):
        return super().reset(seed=None, options=options)


class ForkForgetsTheDice(CoinEnv):
    def fork(self):
        twin = super().fork()
        twin.game.np_random = np.random.default_rng(0)
        return twin


class ForkForgetsTheCount(CoinEnv):
    def __init__(self):
        super().__init__()
        self.max_steps = 2

    def fork(self):
        twin = super().fork()
        twin.num_steps = 0
        return twin


class CannotBeCopied(gymnasium.Wrapper):
    """Holds a lock and has no `fork` method."""

    def __init__(self):
        super().__init__(CoinEnv())
        self.lock = threading.Lock()


class SharedGame(CoinEnv):
    def fork(self):
        return copy.copy(self)


class SharedGenerator(CoinEnv):
    def fork(self):
        twin = copy.copy(self)
        twin.game = copy.copy(self.game)
        return twin


class SharedModuleGenerator(CoinEnv):
    """Seeds its generator correctly, but all copies share it."""

    dice = np.random.default_rng()

    def reset(self, *, seed=None, options=None):
        given = super().reset(seed=seed, options=options)
        if seed is not None:
            type(self).dice = np.random.default_rng(seed)
        return given

    def step(self, action):
        self.game.np_random = self.dice
        return super().step(action)

    def fork(self):
        twin = copy.copy(self)
        twin.game = copy.copy(self.game)
        return twin


class UnhashableKey(CoinEnv):
    def state_key(self):
        return [self.game.state_key()]  # pyright: ignore[reportReturnType]


class KeyOfTheObject(CoinEnv):
    def state_key(self):
        return id(self)


class BlindKey(CoinEnv):
    def state_key(self):
        return "somewhere"


class KeyWithoutTheCalls(TextEnv):
    """The last two calls decide; neither the board nor the key shows them."""

    def __init__(self):
        super().__init__(SecondCallGame(), max_steps=4)


class SecondCallGame(CoinGame):
    """Heads, then tails wins; what was called before is not shown."""

    is_deterministic = True

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.calls: list[int] = []
        self.num_right = 0
        return 0, {}

    def step(self, action):
        self.calls.append(int(action))
        is_won = self.calls[-2:] == [0, 1]
        return 0, float(is_won), is_won, False, {"success": is_won, "legal": True}


class FalselyDeterministic(CoinEnv):
    def __init__(self):
        super().__init__()
        self.is_deterministic = True


class FailsOnWarnings(CoinEnv):
    def step(self, action):
        warnings.simplefilter("error")
        return super().step(action)


class NoPicture(CoinEnv):
    def render(self):
        return self.game.to_text()


class Slow(CoinEnv):
    def step(self, action):
        time.sleep(0.011)
        return super().step(action)


class SlowFork(CoinEnv):
    def fork(self):
        time.sleep(0.003)
        return super().fork()


class ListsWhatChanges(CoinEnv):
    shared_on_fork = ("calls",)

    def __init__(self):
        super().__init__()
        self.calls: list[str] = []

    def step(self, action):
        self.calls.append(action)
        return super().step(action)


class ListsWhatIsMissing(CoinEnv):
    shared_on_fork = ("game", "tabel")


BAD_ENVIRONMENTS: dict[type[gymnasium.Env], tuple[str, str]] = {
    NumericSpace: ("api", "action_space must be a gymnasium.spaces.Text"),
    NoWords: ("api", "text_spec.instruction must be a str"),
    TwoLines: ("api", "must be a str of one line"),
    TakesNoOptions: ("api", "reset(seed=0) raised TypeError"),
    ResetsWithoutInfo: ("api", "reset() must return (observation, info)"),
    OldGym: ("api", "step() must return (observation, reward, terminated, truncated, info)"),
    ShowsNumbers: ("api", "step() must return a str as observation, got"),
    WordForFlag: ("api", "step() must give terminated as a bool"),
    WordForReward: ("api", "The reward must be a number, got 'much'"),
    RaisesInPlay: ("api", "raised KeyError: 'coin'"),
    NarrowSpace: ("observations", "it has ' ', but the charset of Text(5) is letters and digits"),
    Silent: ("observations", "An observation was empty"),
    ShowsNone: ("observations", "was the text 'None'"),
    ShowsNaN: ("observations", "contained 'nan'"),
    ShowsAnObject: ("observations", "contained '<object object at 0x"),
    Coloured: ("observations", r"control characters: ['\x1b']"),
    UnreadableActions: ("actions", "['either side'] is no action"),
    UnreadableNames: ("actions", "Actions must be readable, but these are not: ['edge']"),
    DriftingCanonicalText: ("actions", "which reads as None"),
    MumblingPlayer: ("actions", "scripted_action() gave 'the edge', which is no action"),
    Raises: ("garbage", "raised ValueError"),
    BadTextCounts: ("garbage", "changed the state"),
    BadTextIsLegal: ("garbage", "is no action, but step"),
    InfiniteReward: ("rewards", "finite number"),
    NoSuccess: ("info", "info['success'] as a bool"),
    WonButNotOver: ("info", "success without terminated"),
    Endless: ("episode end", "did not end within 6 actions"),
    OverstepsItsLimit: ("episode end", "did not end within 2 actions"),
    RaisesAfterTheEnd: ("episode end", "the game is over"),
    OwnDice: ("seeding", "two different episodes"),
    ForkForgetsTheDice: ("forks", "a fork gave"),
    ForkForgetsTheCount: ("forks", "with reward 0, truncated"),
    CannotBeCopied: ("forks", "cannot pickle"),
    SharedGame: ("siblings", "changed"),
    SharedGenerator: ("siblings", "changed"),
    SharedModuleGenerator: ("siblings", "changed"),
    ListsWhatChanges: ("siblings", "shared_on_fork lists 'calls', which reset() or step() changed"),
    ListsWhatIsMissing: ("siblings", "shared_on_fork lists 'tabel', which is no attribute"),
    UnhashableKey: ("state key", "must be hashable"),
    KeyOfTheObject: ("state key", "A fork must have the original's state_key()"),
    BlindKey: ("state key", "Two states with the state_key() 'somewhere'"),
    KeyWithoutTheCalls: ("state key", "From two states with the state_key()"),
    FalselyDeterministic: ("noise", "is_deterministic is True, but"),
    FailsOnWarnings: ("side effects", "playing changed the warning filters"),
    NoPicture: ("pictures", "rgb_array must be uint8"),
    SlowFork: ("fork cost", "a fork by its own fork() takes"),
    Slow: ("speed", "steps/s"),
}
"""The check that finds each fault, and a part of its message."""
WARNED = (FailsOnWarnings, Slow, SlowFork)
"""Those that a check only warns about."""
