"""Path Exploration: name a place that holds a treasure; many different answers are right.

The paper's synthetic task (section 2.1). Every seed is the same puzzle: 20 of the places in
`places.py` hold a treasure, and the prompt does not say which. They can only be found by trying,
and the measure is how many of the 20 a policy finds (Coverage@k).

`normalise` reads names generously, so that different spellings of a place are the same answer. The
paper does not describe its matching.
"""

import re
import string
import unicodedata

from gymnasium.spaces import Text

from ...configs.errors import check_choice
from ..text_env import RenderMode, TextEnv, TextSpec
from .one_answer import OneAnswerEnv
from .places import PLACES, TREASURES
from .treasures import TreasureGame

WORLDS = ("closed", "open")
OTHER = len(PLACES)
"""The action that stands for every place that is not listed."""
MAX_LENGTH = 200
"""Longest name that is read, in characters."""
MUNICIPALITIES = ("beijing", "chongqing", "shanghai", "tianjin")
"""Provinces that are a single city: the city level may be left out or repeat the name."""

_APOSTROPHES = str.maketrans("", "", "'‘’ʼ`")
_FRAME = re.compile(r"^[\W_]*(?:[0-9]{1,3}[.):])?[\W_]*|[\W_]+$")
# Without spaces around it, or "Economic – Technology Park" would lose a separator.
_HYPHEN_OF_A_WORD = re.compile(r"\b(economic|high|hi)[-‐-―](?=tech)")
_SEPARATOR = re.compile(r"(?:=>|[-‐-―−→⇒➔➜>›»/|,、])+")
_TYPE_WORDS = re.compile(
    r"(?:(?:^| )(?:hui|zhuang|uygh?ur|autonomous region|province|municipality"
    r"|autonomous prefecture|prefecture|city|autonomous county|county|district|new district"
    r"|new area|banner))+$"
)
_ECONOMIC_ZONE = re.compile(
    r"\beconomic (?:techn(?:ology|ological|ical) )?development (?:zone|area)$"
)
_HIGH_TECH_ZONE = re.compile(
    r"\b(?:high|hi) ?(?:new )?tech(?:nology|nological)? (?:industr(?:y|ies|ial) )?(?:development )?"
    r"(?:zone|area|park)$"
)
_ZONES = ("economic development zone", "high tech zone")


# ---- names ----


def normalise(name: str) -> str | None:
    """Return the canonical spelling of a place's name: "province – city – district", lower case.

    Differences that are ignored: case, accents, apostrophes, "and" or "&"; a bullet, number or
    quotes in front and punctuation at the end; which dash, comma, slash or arrow separates the
    levels; the kind of each level (Province, City, ...). District and County are not distinguished,
    because no city of the 200 places has both under one name. Economic (and technological)
    development zones or areas are one kind, high-tech (industrial development) zones another, and
    such a zone need not repeat its city's name. A municipality has two levels, however often its
    name is given.

    Args:
        name: any text.

    Returns:
        The normalised name; normalising it again does not change it. None if the text is not a
        place: not three levels of Latin letters (municipalities: two), or longer than `MAX_LENGTH`.

    >>> normalise("GUANGDONG → Shenzhen City → Shenzhen Hi-Tech Park")
    'guangdong – shenzhen – high tech zone'
    >>> normalise("Shanghai, Shanghai City, Jing'an District.")
    'shanghai – jingan'
    """
    if len(name) > MAX_LENGTH:
        return None
    signs = unicodedata.normalize("NFKD", name).casefold().translate(_APOSTROPHES)
    text = _FRAME.sub("", "".join(sign for sign in signs if not unicodedata.combining(sign)))
    levels: list[str] = []
    for part in _SEPARATOR.split(_HYPHEN_OF_A_WORD.sub(r"\1 ", text)):
        level = _normalise_level(part, above=levels[-1] if levels else "")
        if level is None:
            return None
        if levels != [level] or level not in MUNICIPALITIES:
            levels.append(level)
    is_place = len(levels) == 3 or (len(levels) == 2 and levels[0] in MUNICIPALITIES)
    return " – ".join(levels) if is_place else None


def _normalise_level(part: str, above: str) -> str | None:
    words = (word for word in part.replace("&", " ").split() if word != "and")
    level = _TYPE_WORDS.sub("", " ".join(words))
    level = _ECONOMIC_ZONE.sub(_ZONES[0], level)
    level = _HIGH_TECH_ZONE.sub(_ZONES[1], level)
    if level.endswith(_ZONES) and level not in _ZONES:
        level = re.sub(f"^(?:{re.escape(above)} (?:city )?)+", "", level)
    return level if re.fullmatch("[a-z][a-z ]*", level) else None


def _squeeze(name: str) -> str:
    """Remove the spaces, so that "Xi Hu" matches Xihu."""
    return name.replace(" ", "")


_NUMBERS = {_squeeze(normalise(place) or ""): number for number, place in enumerate(PLACES)}


# ---- game ----


class PathExplorationGame(TreasureGame):
    """Name one place of China that holds a treasure, in one answer.

    Rules: 20 places hold a treasure, the same ones in every episode. A text without the levels of a
    place cannot be read. In the closed world a place that is not one of the 200 listed ones is
    illegal; in the open world it is merely wrong.

    Observation: always 0, int. As text: one line that never changes.

    Actions: the index of a place in `PLACES`, or `OTHER` for any other place. As text: "Province –
    City – District", in any spelling that `normalise` reads.

    Reward: 1 for a place with a treasure, else 0.

    Episode end: terminated by the first answer, right or wrong. Truncated: never.

    Arguments: world ("closed": the prompt says that only 200 places are possible; "open": any place
    may be named, as in the paper).

    Version history: v0, the first one.
    """

    def __init__(self, world: str = "closed"):
        check_choice("world", world, WORLDS)
        super().__init__(PLACES, TREASURES, _text_spec(world), may_name_others=world == "open")
        self.world = world

    def to_text(self) -> str:
        """Return the one line that a player sees."""
        return f"{self.num_targets} places hold a treasure."

    def read_action(self, text: str) -> tuple[str, int] | None:
        """Read the name of a place; the canonical text is its listed or its normalised spelling."""
        name = normalise(text)
        if name is None:
            return None
        number = _NUMBERS.get(_squeeze(name), OTHER)
        return (name if number == OTHER else PLACES[number]), number


def _text_spec(world: str) -> TextSpec:
    instruction = (
        f"Somewhere in China {len(TREASURES)} treasures lie hidden, each in a district, county or "
        "development zone of its own. Name one place where a treasure may be."
    )
    if world == "closed":
        instruction += f" Only {len(PLACES)} well-known places come into question."
    return TextSpec(
        instruction=instruction,
        legend="",
        actions="a place from province to district, such as "
        "Shandong Province – Qingdao City – Laoshan District",
        sketch="in which part of China to look",
        examples=("Hunan – Changsha – Yuelu", "Beijing – Haidian", "Shanghai – Pudong"),
    )


def make_path_exploration(
    max_steps: int = 1, render_mode: RenderMode = None, world: str = "closed"
) -> TextEnv:
    """Build the text environment; see `PathExplorationGame` for the arguments."""
    env = OneAnswerEnv(PathExplorationGame(world), max_steps, render_mode)
    # The listed spellings contain an en dash.
    env.action_space = Text(MAX_LENGTH, min_length=0, charset=string.printable + "–")
    return env
