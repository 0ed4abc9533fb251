"""Questions about a database: one right answer, queries that can only read and always end."""

import pickle
import time

import pytest

from sesa_agent.configs.errors import SettingError
from sesa_agent.environments import check_text_env, make_env
from sesa_agent.environments.games.sql_database import (
    Database,
    QueryError,
    Table,
    is_like,
)
from sesa_agent.environments.games.sql_questions import SqlQuestions, is_same

TABLE = Table(("name", "age"), (("Ana", 31), ("Bo", 45)))


def opened(seed: int, **options) -> SqlQuestions:
    env = make_env("sesa/SqlQuestions-v0", **options).unwrapped
    assert isinstance(env, SqlQuestions)
    env.reset(seed=seed)
    return env


@pytest.mark.parametrize("level", [1, 2, 3])
def test_the_query_of_a_question_gives_its_answer(level):
    for seed in range(20):
        env = opened(seed, level=level)
        assert len(env.database.tables) == level
        shown = env.step(f'<tool name="sql">\n{env.question.sql}\n</tool>')[0]
        assert shown.split("\n")[1].split(" | ")[0] == env.answer
        _, reward, terminated, _, info = env.step(f'<tool name="submit">{env.answer}</tool>')
        assert (reward, terminated, info["success"]) == (1.0, True, True)


def test_a_wrong_answer_ends_the_episode_without_reward():
    _, reward, terminated, _, info = opened(0).step('<tool name="submit">nobody</tool>')
    assert (reward, terminated, info) == (0.0, True, {"success": False, "legal": True})


def test_the_contract_holds():
    check_text_env(make_env("sesa/SqlQuestions-v0"), num_episodes=5)


def test_a_pickled_copy_goes_on():
    env = opened(0)
    copy = pickle.loads(pickle.dumps(env))
    call = f'<tool name="sql">{env.question.sql}</tool>'
    assert copy.step(call) == env.step(call)


@pytest.mark.parametrize("options", [{"level": 4}, {"num_people": 3}, {"max_steps": 0}])
def test_options_out_of_range_are_refused(options):
    with pytest.raises(SettingError):
        SqlQuestions(**options)


@pytest.mark.parametrize(
    "sql",
    [
        "DELETE FROM people",
        "ATTACH 'file' AS other",
        "PRAGMA table_info(people)",
        "SELECT random()",
        "SELECT CURRENT_TIMESTAMP",
        "SELECT load_extension('x')",
        "WITH RECURSIVE c(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM c) SELECT COUNT(*) FROM c",
        "CREATE TEMP TABLE t(x)",
        "VACUUM",
    ],
)
def test_whatever_does_not_read_the_tables_is_refused(sql):
    with pytest.raises(QueryError, match="only SELECT is allowed"):
        Database({"people": TABLE}).query(sql, 10)


def test_a_query_that_takes_too_long_is_stopped_and_the_next_one_works():
    database = Database({"people": TABLE})
    product = ", ".join(f"people p{number}" for number in range(26))
    start = time.process_time()
    with pytest.raises(QueryError, match="takes too long"):
        database.query(f"SELECT COUNT(*) FROM {product}", 10)
    assert not is_like("%a" * 20 + "%b", "a" * 2000)  # SQLite's own LIKE would not return
    assert time.process_time() - start < 10
    assert database.query("SELECT name FROM people WHERE name LIKE 'a%'", 10)[1] == [("Ana",)]


def test_answers_are_compared_as_numbers_or_as_words():
    assert is_same("12.0", "12") and is_same(" ANA ", "Ana")
    assert not is_same("121", "12") and not is_same("nan", "12")
