"""Questions about a small database, to be answered with SQL: a bundled environment with tools.

A seed determines the tables, their rows and the question; the answer is that of the question's own
query, and there is only one. Level 1 asks about one table, level 2 joins two, level 3 three.
"""

import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
from gymnasium.utils.seeding import np_random

from ...configs.errors import check
from ..tools.env import ToolEnv
from ..tools.tool import tool
from .sql_database import Database, Table, write_rows

MAX_ROWS = 20
"""Rows of a result that the player sees."""
NAMES = (
    "Ana Bo Chen Dina Emil Fay Gus Hana Ivo Jun Kim Lea Max Nia Olga Pia Quinn Rosa Sam Tara Uma "
    "Vera Wim Yan Zoe"
).split()
CITIES = ("Oslo", "Lima", "Cairo", "Delhi")
TITLES = ("Amber", "Birch", "Coral", "Dune", "Ember", "Fjord")
MAX_DRAWS = 200
"""Questions drawn before a database is drawn again."""


@dataclass(frozen=True)
class Theme:
    """Names of the three tables and of their columns with numbers."""

    people: str
    things: str
    links: str
    person_id: str
    thing_id: str
    thing_number: str
    link_number: str


THEMES = (
    Theme("customers", "products", "orders", "customer_id", "product_id", "price", "quantity"),
    Theme("members", "books", "loans", "member_id", "book_id", "pages", "days"),
    Theme("students", "courses", "exams", "student_id", "course_id", "credits", "points"),
)


@dataclass(frozen=True)
class Question:
    """A question and the query that answers it.

    Its first column is the answer. If the query has a second column, it says how good a row is, and
    the best row comes first.
    """

    text: str
    sql: str


# ---- generator ----


def generate(seed: int, level: int, num_people: int) -> tuple[Database, Question, str]:
    """Make the database of a seed, a question and its answer."""
    rng = random.Random(seed)
    while True:
        theme = rng.choice(THEMES)
        database = Database(_draw_tables(theme, level, num_people, rng))
        for _ in range(MAX_DRAWS):
            question = rng.choice(QUESTIONS[level])(theme, rng)
            answer = unique_answer(database, question)
            if answer is not None:
                return database, question, answer


def _draw_tables(theme: Theme, level: int, num_people: int, rng: random.Random) -> dict[str, Table]:
    names = rng.sample(NAMES, num_people)
    people = [
        (number, name, rng.choice(CITIES), rng.randint(18, 80))
        for number, name in enumerate(names, start=1)
    ]
    things = [
        (number, title, rng.randint(2, 30))
        for number, title in enumerate(rng.sample(TITLES, 4), start=1)
    ]
    links = [
        (rng.randint(1, num_people), rng.randint(1, len(things)), rng.randint(1, 9))
        for _ in range(2 * num_people)
    ]
    tables = {theme.people: Table(("id", "name", "city", "age"), tuple(people))}
    if level >= 2:
        columns = (theme.person_id, theme.thing_id, theme.link_number)
        tables[theme.links] = Table(columns, tuple(links))
    if level >= 3:
        tables[theme.things] = Table(("id", "title", theme.thing_number), tuple(things))
    return tables


def unique_answer(database: Database, question: Question) -> str | None:
    """Return the answer of a question; None if it has none, more than one, or the answer 0."""
    _, rows = database.query(question.sql, 2)
    if not rows or rows[0][0] in (None, 0):
        return None
    if len(rows) == 2 and rows[0][1] == rows[1][1]:  # two are best
        return None
    return str(rows[0][0])


Draw = Callable[[Theme, random.Random], Question]


def _count_in_city(t: Theme, rng: random.Random) -> Question:
    city = rng.choice(CITIES)
    return Question(
        f"How many {t.people} live in {city}?",
        f"SELECT COUNT(*) FROM {t.people} WHERE city = '{city}'",
    )


def _count_older(t: Theme, rng: random.Random) -> Question:
    age = rng.randint(25, 65)
    return Question(
        f"How many {t.people} are older than {age}?",
        f"SELECT COUNT(*) FROM {t.people} WHERE age > {age}",
    )


def _oldest_in_city(t: Theme, rng: random.Random) -> Question:
    city = rng.choice(CITIES)
    word, order = rng.choice((("oldest", "DESC"), ("youngest", "ASC")))
    return Question(
        f"What is the name of the {word} of the {t.people} in {city}?",
        f"SELECT name, age FROM {t.people} WHERE city = '{city}' ORDER BY age {order} LIMIT 2",
    )


def _sum_of_ages(t: Theme, rng: random.Random) -> Question:
    city = rng.choice(CITIES)
    return Question(
        f"What is the sum of the ages of the {t.people} in {city}?",
        f"SELECT SUM(age) FROM {t.people} WHERE city = '{city}'",
    )


def _joined(t: Theme) -> str:
    return f"FROM {t.people} p JOIN {t.links} l ON l.{t.person_id} = p.id"


def _total_of_person(t: Theme, rng: random.Random) -> Question:
    name = rng.choice(NAMES)
    return Question(
        f"What is the total of {t.link_number} over the {t.links} of {name}?",
        f"SELECT SUM(l.{t.link_number}) {_joined(t)} WHERE p.name = '{name}'",
    )


def _links_of_city(t: Theme, rng: random.Random) -> Question:
    city = rng.choice(CITIES)
    return Question(
        f"How many {t.links} are of {t.people} from {city}?",
        f"SELECT COUNT(*) {_joined(t)} WHERE p.city = '{city}'",
    )


def _largest_total(t: Theme, rng: random.Random) -> Question:
    age = rng.randint(18, 40)
    return Question(
        f"Of the {t.people} older than {age}, who has the largest total of {t.link_number} over "
        f"all {t.links}?",
        f"SELECT p.name, SUM(l.{t.link_number}) AS total {_joined(t)} WHERE p.age > {age} "
        "GROUP BY p.id ORDER BY total DESC LIMIT 2",
    )


def _without_links(t: Theme, rng: random.Random) -> Question:
    return Question(
        f"How many {t.people} have no {t.links}?",
        f"SELECT COUNT(*) FROM {t.people} WHERE id NOT IN (SELECT {t.person_id} FROM {t.links})",
    )


def _all_joined(t: Theme) -> str:
    return f"{_joined(t)} JOIN {t.things} t ON l.{t.thing_id} = t.id"


def _product_of_person(t: Theme, rng: random.Random) -> Question:
    name = rng.choice(NAMES)
    return Question(
        f"For every one of the {t.links} of {name}, multiply {t.link_number} by {t.thing_number}. "
        "What is the sum?",
        f"SELECT SUM(l.{t.link_number} * t.{t.thing_number}) {_all_joined(t)} "
        f"WHERE p.name = '{name}'",
    )


def _top_thing_of_city(t: Theme, rng: random.Random) -> Question:
    city = rng.choice(CITIES)
    return Question(
        f"Which of the {t.things} has the largest total of {t.link_number} over the {t.links} of "
        f"{t.people} from {city}? Give its title.",
        f"SELECT t.title, SUM(l.{t.link_number}) AS total {_all_joined(t)} "
        f"WHERE p.city = '{city}' GROUP BY t.id ORDER BY total DESC LIMIT 2",
    )


def _people_of_thing(t: Theme, rng: random.Random) -> Question:
    title = rng.choice(TITLES)
    return Question(
        f"How many different {t.people} have {t.links} with the title {title}?",
        f"SELECT COUNT(DISTINCT p.id) {_all_joined(t)} WHERE t.title = '{title}'",
    )


def _filtered_total(t: Theme, rng: random.Random) -> Question:
    age, number = rng.randint(25, 60), rng.randint(5, 20)
    return Question(
        f"What is the total of {t.link_number} over the {t.links} of {t.people} older than {age} "
        f"with {t.thing_number} above {number}?",
        f"SELECT SUM(l.{t.link_number}) {_all_joined(t)} "
        f"WHERE p.age > {age} AND t.{t.thing_number} > {number}",
    )


QUESTIONS: Mapping[int, tuple[Draw, ...]] = {
    1: (_count_in_city, _count_older, _oldest_in_city, _sum_of_ages),
    2: (_total_of_person, _links_of_city, _largest_total, _without_links),
    3: (_product_of_person, _top_thing_of_city, _people_of_thing, _filtered_total),
}
"""What is asked at each level."""


# ---- environment ----


class SqlQuestions(ToolEnv):
    """Answer the question about the database.

    Rules: `sql` runs a query, `submit` gives the answer. Queries can only read.

    Observation: the question and the tables; then the result of the last calls.

    Actions: calls of the tools (`environments/tools/text_calls.py`).

    Reward: 1 for the right answer, else 0. Numbers are compared by value, texts whatever their
    case.

    Episode end: terminated by the first answer, right or wrong. Truncated after `max_steps`
    actions.

    Arguments: level (1, 2 or 3: the tables of a question), num_people (rows of the first table;
    the others are larger), max_steps.

    Version history: v0, the first one.
    """

    instruction = "Answer the question about the database. Query it first, then submit the answer."
    is_deterministic = True

    def __init__(self, level: int = 1, num_people: int = 12, max_steps: int = 6):
        check(level in QUESTIONS, "level", level, "1, 2 or 3")
        check(4 <= num_people <= len(NAMES), "num_people", num_people, f"from 4 to {len(NAMES)}")
        check(max_steps >= 1, "max_steps", max_steps, "at least 1")
        self.level, self.num_people, self.max_steps = level, num_people, max_steps

    def start(self) -> str:
        """Draw the database and the question."""
        self.database, self.question, self.answer = self._generate(self.np_random)
        return f"{self.question.text}\nTables:\n{self.database.schema()}"

    def _generate(self, rng: np.random.Generator) -> tuple[Database, Question, str]:
        return generate(int(rng.integers(2**62)), self.level, self.num_people)

    def puzzle_content(self, seed: int) -> str:
        """Return the question and the tables of a seed."""
        database, question, _ = self._generate(np_random(seed)[0])
        return f"{question.text}\n{database.tables}"

    def scripted_action(self, rng: random.Random) -> str:
        """Run the question's own query first, then submit the answer."""
        if self.num_steps == 0:
            return f'<tool name="sql">{self.question.sql}</tool>'
        return f'<tool name="submit">{self.answer}</tool>'

    @tool
    def sql(self, query: str) -> str:
        """Run a SELECT statement of SQLite and show its rows."""
        columns, rows = self.database.query(query, MAX_ROWS + 1)
        return write_rows(columns, rows, MAX_ROWS)

    @tool
    def submit(self, answer: str) -> str:
        """Give the answer, a number or a name, and end the task."""
        right = is_same(answer, self.answer)
        self.finish(right)
        return "Right." if right else "Wrong."


def is_same(given: str, answer: str) -> bool:
    """Compare an answer with the right one: as numbers if both are, else as words.

    >>> is_same(" 12.0", "12"), is_same("ana", "Ana"), is_same("13", "12")
    (True, True, False)
    """
    try:
        return float(given) == float(answer)
    except ValueError:
        return given.strip().casefold() == answer.casefold()
