"""Countries: name a country that holds a treasure; many different answers are right.

Path Exploration with names that small language models know: the task on which the methods are
compared with a pre-trained model. Every seed is the same puzzle: 20 of the countries hold a
treasure, and the prompt does not say which. The measure is how many of the 20 a policy finds
(Coverage@k).
"""

import re
import unicodedata

from ..text_env import RenderMode, TextEnv, TextSpec
from .one_answer import OneAnswerEnv
from .treasures import TreasureGame


def _listed(text: str) -> tuple[str, ...]:
    return tuple(" ".join(text.split()).split(", "))


COUNTRIES = _listed(
    """
    Afghanistan, Albania, Algeria, Andorra, Angola, Antigua and Barbuda, Argentina, Armenia,
    Australia, Austria, Azerbaijan, Bahamas, Bahrain, Bangladesh, Barbados, Belarus, Belgium,
    Belize, Benin, Bhutan, Bolivia, Bosnia and Herzegovina, Botswana, Brazil, Brunei, Bulgaria,
    Burkina Faso, Burundi, Cambodia, Cameroon, Canada, Cape Verde, Central African Republic, Chad,
    Chile, China, Colombia, Comoros, Costa Rica, Croatia, Cuba, Cyprus, Czech Republic, Democratic
    Republic of the Congo, Denmark, Djibouti, Dominica, Dominican Republic, East Timor, Ecuador,
    Egypt, El Salvador, Equatorial Guinea, Eritrea, Estonia, Eswatini, Ethiopia, Fiji, Finland,
    France, Gabon, Gambia, Georgia, Germany, Ghana, Greece, Grenada, Guatemala, Guinea,
    Guinea-Bissau, Guyana, Haiti, Honduras, Hungary, Iceland, India, Indonesia, Iran, Iraq,
    Ireland, Israel, Italy, Ivory Coast, Jamaica, Japan, Jordan, Kazakhstan, Kenya, Kiribati,
    Kuwait, Kyrgyzstan, Laos, Latvia, Lebanon, Lesotho, Liberia, Libya, Liechtenstein, Lithuania,
    Luxembourg, Madagascar, Malawi, Malaysia, Maldives, Mali, Malta, Marshall Islands, Mauritania,
    Mauritius, Mexico, Micronesia, Moldova, Monaco, Mongolia, Montenegro, Morocco, Mozambique,
    Myanmar, Namibia, Nauru, Nepal, Netherlands, New Zealand, Nicaragua, Niger, Nigeria, North
    Korea, North Macedonia, Norway, Oman, Pakistan, Palau, Palestine, Panama, Papua New Guinea,
    Paraguay, Peru, Philippines, Poland, Portugal, Qatar, Republic of the Congo, Romania, Russia,
    Rwanda, Saint Kitts and Nevis, Saint Lucia, Saint Vincent and the Grenadines, Samoa, San
    Marino, Sao Tome and Principe, Saudi Arabia, Senegal, Serbia, Seychelles, Sierra Leone,
    Singapore, Slovakia, Slovenia, Solomon Islands, Somalia, South Africa, South Korea, South
    Sudan, Spain, Sri Lanka, Sudan, Suriname, Sweden, Switzerland, Syria, Tajikistan, Tanzania,
    Thailand, Togo, Tonga, Trinidad and Tobago, Tunisia, Turkey, Turkmenistan, Tuvalu, Uganda,
    Ukraine, United Arab Emirates, United Kingdom, United States, Uruguay, Uzbekistan, Vanuatu,
    Vatican City, Venezuela, Vietnam, Yemen, Zambia, Zimbabwe
    """
)
"""The 193 members of the United Nations and its two observer states, by their common names."""
ALIASES = {
    "america": "United States",
    "bosnia": "Bosnia and Herzegovina",
    "britain": "United Kingdom",
    "brunei darussalam": "Brunei",
    "burma": "Myanmar",
    "cabo verde": "Cape Verde",
    "congo brazzaville": "Republic of the Congo",
    "congo kinshasa": "Democratic Republic of the Congo",
    "congo": "Republic of the Congo",
    "cote d ivoire": "Ivory Coast",
    "czechia": "Czech Republic",
    "dr congo": "Democratic Republic of the Congo",
    "drc": "Democratic Republic of the Congo",
    "federated states of micronesia": "Micronesia",
    "great britain": "United Kingdom",
    "holland": "Netherlands",
    "holy see": "Vatican City",
    "kyrgyz republic": "Kyrgyzstan",
    "macedonia": "North Macedonia",
    "people s republic of china": "China",
    "republic of ireland": "Ireland",
    "republic of korea": "South Korea",
    "republic of south africa": "South Africa",
    "russian federation": "Russia",
    "state of palestine": "Palestine",
    "swaziland": "Eswatini",
    "syrian arab republic": "Syria",
    "timor leste": "East Timor",
    "turkiye": "Turkey",
    "uae": "United Arab Emirates",
    "uk": "United Kingdom",
    "united states of america": "United States",
    "us": "United States",
    "usa": "United States",
    "vatican": "Vatican City",
    "viet nam": "Vietnam",
}
"""Other names, as `plain_name` returns them."""
MAX_LENGTH = 60
"""Longest name that is read, in characters."""
TREASURES = _listed(
    """
    Austria, Bahrain, Barbados, Belize, Benin, Botswana, Brazil, Brunei, Costa Rica, Estonia,
    Gambia, Ivory Coast, Lebanon, Malawi, Mauritania, Moldova, Oman, Philippines, San Marino, Sudan
    """
)
"""The countries that hold a treasure, drawn once at random."""


def plain_name(text: str) -> str:
    """Return a name in lower-case ASCII words: without accents, punctuation, "the" in front.

    >>> plain_name(" The Côte d'Ivoire. ")
    'cote d ivoire'
    """
    signs = unicodedata.normalize("NFKD", text[: MAX_LENGTH + 1].replace("&", " and ")).casefold()
    letters = "".join(sign for sign in signs if not unicodedata.combining(sign)).replace(".", "")
    words = re.sub("[^a-z]+", " ", letters).strip()
    return re.sub("^the ", "", words).replace("saint ", "st ")


_NUMBERS = {plain_name(name): number for number, name in enumerate(COUNTRIES)}
_NUMBERS |= {alias: COUNTRIES.index(name) for alias, name in ALIASES.items()}


class CountriesGame(TreasureGame):
    """Name one country that holds a treasure, in one answer.

    Rules: 20 countries hold a treasure, the same ones in every episode. A text that is not the name
    of a country cannot be read.

    Observation: always 0, int. As text: one line that never changes.

    Actions: the index of a country in `COUNTRIES`, or their number for anything else. As text: the
    name of a country; case, accents and punctuation do not matter, and common other names
    (`ALIASES`) are read.

    Reward: 1 for a country with a treasure, else 0.

    Episode end: terminated by the first answer, right or wrong. Truncated: never.

    Version history: v0, the first one.
    """

    def __init__(self):
        super().__init__(COUNTRIES, TREASURES, _TEXT_SPEC)

    def to_text(self) -> str:
        """Return the one line that a player sees."""
        return f"{self.num_targets} countries hold a treasure."

    def read_action(self, text: str) -> tuple[str, int] | None:
        """Read the name of a country; the canonical text is its name in `COUNTRIES`."""
        number = _NUMBERS.get(plain_name(text)) if len(text) <= MAX_LENGTH else None
        return None if number is None else (COUNTRIES[number], number)


_TEXT_SPEC = TextSpec(
    instruction=f"Somewhere in the world {len(TREASURES)} treasures lie hidden, each in a country "
    "of its own. Name one country where a treasure may be.",
    legend="",
    actions="the name of a country, such as France",
    sketch="in which part of the world to look",
    examples=("France", "Peru", "Thailand"),
)


def make_countries(max_steps: int = 1, render_mode: RenderMode = None) -> TextEnv:
    """Build the text environment of `CountriesGame`."""
    return OneAnswerEnv(CountriesGame(), max_steps, render_mode)
