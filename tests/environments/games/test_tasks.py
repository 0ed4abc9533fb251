"""Tasks of a file: columns, splits and values are read right, and every fault is one line."""

import csv
import json

import pyarrow
import pyarrow.parquet
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sesa_agent.configs.errors import SettingError
from sesa_agent.environments import EnvError, check_text_env, fork, make_env, state_key
from sesa_agent.environments.games.task_file import deal_groups, find_columns, prompt_text
from sesa_agent.environments.text_env import num_puzzles
from sesa_agent.sampling.replies import canonical_action

ROWS = [{"question": f"{n} + {n}?", "answer": str(2 * n), "id": str(n)} for n in range(10)]
MODULE = """
import math
import numpy

def verify(answer, row):
    return answer == row["answer"]

def half(answer, row):
    return 0.5

def guess(answer, row, earlier):
    if answer == row["answer"]:
        return numpy.float32(1)
    if len(earlier) == 2 or not answer.isdigit() or len(answer) > 9:
        return 0
    return "higher" if int(answer) < int(row["answer"]) else "lower"

def hinting(answer, row):
    return (0.25, "go on") if answer != "stop" else 1

def no_row(answer):
    return 1

def three(completions, row, extra):
    return 1

async def later(answer, row):
    return 1

def raises(answer, row):
    return row["gold"]

def none(answer, row):
    return None

def nan(answer, row):
    return math.nan

def odd(answer, row):
    return 1 if answer == row["answer"] else [1, 2]

text = "no function"
"""


@pytest.fixture
def write(tmp_path, monkeypatch):
    """Writes a task file beside the module `judges`; returns its path."""
    (tmp_path / "judges.py").write_text(MODULE, encoding="utf-8")
    monkeypatch.syspath_prepend(tmp_path)

    def write(rows=ROWS, name="tasks.jsonl"):
        path = tmp_path / name
        if isinstance(rows, str | bytes):
            path.write_bytes(rows if isinstance(rows, bytes) else rows.encode())
        elif name.endswith("parquet"):
            pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), path)
        elif name.lower().endswith("csv"):
            with path.open("w", encoding="utf-8-sig", newline="") as file:
                writer = csv.DictWriter(file, rows[0])
                writer.writeheader()
                writer.writerows(rows)
        else:
            path.write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
        return str(path)

    return write


def game_of(env):
    return env.unwrapped.game


@pytest.mark.parametrize("name", ["a.jsonl", "a.json", "a.csv", "a.parquet", "A.CSV"])
@pytest.mark.parametrize("reward", [None, "judges:verify"])
def test_tasks_of_every_format_are_played_and_keep_the_contract(write, name, reward):
    path = write(ROWS, name)
    env = make_env(path, reward=reward)
    seen = set()
    for seed in range(1_000_000, 1_000_008):
        question, _ = env.reset(seed=seed)
        number = int(question.split()[0])
        seen.add(number)
        assert env.step(str(2 * number))[1:3] == (1.0, True)
        env.reset(seed=seed)
        _, score, _, _, info = env.step(str(2 * number + 1))
        assert (score, info["success"]) == (0.0, False)
    assert len(seen) == 8
    assert num_puzzles(env) == {"test": 1, "validation": 1, "pretraining": 8, "training": 8}
    check_text_env(env)


def test_a_conversation_goes_on_until_the_function_returns_a_number(write):
    env = make_env(write(), reward="judges:guess")
    shown = {seed: env.reset(seed=seed)[0] for seed in (1_000_000, 1_000_001)}
    seed = next(seed for seed, question in shown.items() if question != "0 + 0?")
    question, _ = env.reset(seed=seed)
    secret = 2 * int(question.split()[0])
    text, score, over, _, info = env.step(str(secret - 1))
    assert (text, score, over, info["success"]) == ("higher", 0.0, False, False)
    twin = fork(env)
    assert state_key(twin) == state_key(env)
    assert env.step(str(secret))[1:3] == (1.0, True)
    assert twin.step(str(secret + 1))[0] == "lower"
    _, score, over, _, info = twin.step("0" if secret else "1")
    assert (score, over, info["success"]) == (0.0, True, False)
    check_text_env(make_env(write(), reward="judges:guess"))


def test_a_reward_and_a_message_are_both_given_and_success_has_its_own_score(write):
    env = make_env(write(), reward="judges:hinting")
    env.reset(seed=0)
    assert env.step("x")[:3] == ("go on", 0.25, False)
    assert env.step("stop")[1:3] == (1.0, True)
    for score, success in ((1.0, False), (0.5, True)):
        env = make_env(write(), reward="judges:half", success_score=score)
        env.reset(seed=0)
        assert env.step("x")[4]["success"] is success


@pytest.mark.parametrize(
    ("gold", "right", "wrong"),
    [
        ("0.5", r"so it is \boxed{\frac12}", "0.05"),
        ("48+24 = 72 #### 72", "72", "48"),
        ("Paris", "paris", "London"),
        ("B", "B", "A"),
        ("0.00005", "5e-5", "0"),
        ("New  York", "new york", "York"),
    ],
)
def test_without_a_function_answers_are_compared_as_in_math_or_by_their_words(
    write, gold, right, wrong
):
    rows = [{"question": str(n), "answer": gold} for n in range(3)]
    env = make_env(write(rows))
    for answer, score in ((right, 1.0), (wrong, 0.0)):
        env.reset(seed=0)
        canonical = canonical_action(env, answer)
        assert canonical is not None
        assert env.step(canonical)[1] == score


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.text(min_size=1, max_size=30))
def test_any_gold_is_right_as_it_is_written(write, gold):
    rows = [{"question": f"{n} {gold!r}", "answer": gold} for n in range(3)]
    try:
        env = make_env(write(rows, f"{abs(hash(gold))}.jsonl"))
    except SettingError as error:
        assert "has no answer" in str(error)  # such as "-", "n/a" or a blank
        return
    env.reset(seed=0)
    assert env.step(gold)[1] == 1.0


# ---- values ----

NUMBERS = st.from_regex(
    r"-?(0|[1-9][0-9]{0,6})(\.[0-9]{1,8})?([eE][-+]?[0-9]{1,2})?", fullmatch=True
)


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(NUMBERS, min_size=3, max_size=6, unique=True), st.booleans())
def test_numbers_keep_their_text(write, numbers, is_csv):
    """0.00005 would be 5e-05 as a float, and 1e22 1E+22 as a decimal."""
    numbers = [
        number for number in numbers if "-0" != number[:2] or "." in number or "e" in number.lower()
    ]
    lines = ["question,answer"] if is_csv else []
    lines += [
        f"q{n},{number}"
        if is_csv
        else f'{{"question": "q{n}", "answer": {number}, "x": [{number}]}}'
        for n, number in enumerate([*numbers, "7", "8", "9"])
    ]
    name = f"n{abs(hash(tuple(lines)))}.{'csv' if is_csv else 'jsonl'}"
    tasks = game_of(make_env(write("\n".join(lines), name))).tasks
    for index, number in enumerate(numbers):
        row = tasks.row(index)
        assert str(row["answer"]) == tasks.answer(index) == number
        assert float(row["answer"]) == float(number)
        assert is_csv or (isinstance(row["x"][0], float | int) and str(row["x"][0]) == number)


def test_a_row_is_given_whole_as_a_copy_with_none_for_what_is_missing(write):
    rows = [{"question": f"{n}?", "answer": "1", "x": {"y": [n]}, "z": None} for n in range(3)]
    tasks = game_of(make_env(write(rows))).tasks
    assert tasks.row(1) == rows[1]
    tasks.row(1)["x"]["y"].append(5)
    assert tasks.row(1) == rows[1]
    csv_rows = [{"question": f"{n}?", "answer": "007"} for n in range(3)]
    assert game_of(make_env(write(csv_rows, "a.csv"))).tasks.row(0)["answer"] == "007"
    table = [{"question": f"{n}?", "answer": "1", "x": float("nan")} for n in range(3)]
    assert game_of(make_env(write(table, "a.parquet"))).tasks.row(0)["x"] is None


SYSTEM, USER = {"role": "system", "content": "Add."}, {"role": "user", "content": " 1 + 1? "}
PARTS = {"role": "user", "content": [{"type": "text", "text": "1 + 1?"}]}
PICTURE = {"role": "user", "content": [{"type": "image"}]}
REPLY = {"role": "assistant", "content": "2"}


@pytest.mark.parametrize(
    ("prompt", "text"),
    [
        ([USER], "1 + 1?"),
        ([PARTS], "1 + 1?"),
        ([SYSTEM, USER], "Add.\n\n1 + 1?"),
        ([SYSTEM, USER, REPLY, USER], "Add.\n\nUser: 1 + 1?\n\nAssistant: 2\n\nUser: 1 + 1?"),
    ],
)
@pytest.mark.parametrize("name", ["chat.jsonl", "chat.parquet"])
def test_a_prompt_may_be_a_chat(write, prompt, text, name):
    assert prompt_text(prompt) == text
    rows = [
        {"prompt": [*prompt[:-1], {"role": "user", "content": f"{n}"}], "answer": n}
        for n in range(3)
    ]
    tasks = game_of(make_env(write(rows, name))).tasks
    assert tasks.prompt(2).endswith("2")


def test_the_layout_of_verl_is_read(write):
    rows = [
        {
            "prompt": [USER, REPLY, {**USER, "content": str(n)}],
            "reward_model": {"ground_truth": str(n)},
        }
        for n in range(3)
    ]
    tasks = game_of(make_env(write(rows, "verl.parquet"))).tasks
    assert tasks.answer(2) == "2"


# ---- splits ----


def test_equal_prompts_stay_on_one_side_and_equal_rows_count_once(write):
    rows = [
        {"question": f"  {n % 30} +  1?", "answer": n % 30 + 1, "id": n // 60} for n in range(120)
    ]
    tasks = game_of(make_env(write(rows))).tasks
    prompts = {
        split: {tasks.prompt(index) for index in tasks.splits[split]}
        for split in ("test", "validation", "training")
    }
    assert {split: len(of) for split, of in prompts.items()} == {
        "test": 1,
        "validation": 3,
        "training": 26,
    }
    assert not prompts["test"] & prompts["training"] and not prompts["test"] & prompts["validation"]
    assert sum(map(len, tasks.splits.values())) - len(tasks.splits["training"]) == 60


def test_a_task_stays_in_its_split_when_its_file_grows_or_is_sorted(write):
    rows = [{"question": f"{n} + {n}?", "answer": 2 * n} for n in range(60)]
    splits = []
    for name, given_rows in (("a", rows[20:]), ("b", rows[::-1])):
        tasks = game_of(make_env(write(given_rows, f"{name}.jsonl"))).tasks
        splits.append(
            {tasks.prompt(n): split for split in tasks.splits for n in tasks.splits[split]}
        )
    assert splits[0].items() <= splits[1].items()


def test_a_split_column_deals_the_rows_and_held_out_tasks_win(write):
    rows = [{"question": f"{n}?", "answer": n, "split": "train"} for n in range(9)]
    rows += [{"question": "9?", "answer": 9, "split": "dev"}]
    rows += [{"question": f"{n}?", "answer": n, "split": "test"} for n in (8, 10)]
    tasks = game_of(make_env(write(rows))).tasks
    answers = {
        split: sorted(int(tasks.answer(index)) for index in of)
        for split, of in tasks.splits.items()
    }
    assert answers["test"] == [8, 10] and answers["validation"] == [9]
    assert answers["training"] == list(range(8))


def test_a_second_file_is_the_test_split(write):
    tests = write([{"question": "3 + 3?", "answer": 6}, {"question": "x?", "answer": 1}], "t.csv")
    tasks = game_of(make_env(write(), test_path=tests)).tasks
    assert {tasks.prompt(index) for index in tasks.splits["test"]} == {"3 + 3?", "x?"}
    assert "3 + 3?" not in {tasks.prompt(index) for index in tasks.splits["training"]}


def test_rows_with_one_prompt_are_dealt_row_by_row(write):
    rows = [{"prompt": "Guess my number.", "answer": n} for n in range(10)]
    tasks = game_of(make_env(write(rows))).tasks
    sides = [tasks.splits[split] for split in ("test", "validation", "training")]
    assert all(sides) and sorted(sum(sides, [])) == list(range(10))


@given(
    st.lists(st.integers(0, 8), min_size=5, max_size=40).filter(lambda keys: len(set(keys)) > 4),
    st.randoms(use_true_random=False),
)
def test_every_group_is_on_one_side_whatever_the_file_says(keys, random):
    given_splits = [random.choice(["test", "validation", "", ""]) for _ in keys]
    groups = [[n for n, key in enumerate(keys) if key == wanted] for wanted in sorted({*keys})]
    try:
        dealt = deal_groups(groups, given_splits, "a.csv")
    except ValueError as error:
        assert "must hold at least" in str(error)
        return
    sides = [set(dealt[split]) for split in ("test", "validation", "training")]
    assert sorted(n for side in sides for n in side) == list(range(len(keys)))
    assert all(sum(bool(side & set(group)) for side in sides) == 1 for group in groups)


# ---- faults ----

GOOD = '{"question": "1?", "answer": 1}\n'
FAULTS = {
    "no answer column": (
        '{"question": "1?", "reply": 1}',
        {},
        "such as answer or solution, only question, reply. Name it: env.options.answer=COLUMN",
    ),
    "no prompt column": ('{"text": "1?", "answer": 1}', {}, "has no column for the prompt"),
    "two answers": (
        '{"question": "1?", "answer": 1, "solution": 2}',
        {},
        "several columns for the answer: answer and solution. Name it: env.options.answer=",
    ),
    "a column that is not there": (
        GOOD,
        {"answer": "gold"},
        "has no column 'gold' (env.options.answer), only question, answer",
    ),
    "empty gold": (GOOD + '{"question": "2?", "answer": " "}', {}, "row 2 has no answer"),
    "NaN gold": (GOOD + '{"question": "2?", "answer": NaN}', {}, "row 2 has no answer"),
    "gold of several values": (
        GOOD + '{"question": "2?", "answer": [1]}',
        {},
        "row 2 has no answer to compare with: [1]",
    ),
    "missing prompt": (GOOD + '{"answer": 1}', {}, "row 2 has no question"),
    "broken line": (GOOD + "\n{nonsense\n", {}, "row 3 is not JSON"),
    "a solution in the prompt": (
        json.dumps({"prompt": [USER, REPLY], "answer": 1}),
        {},
        "row 1 has a prompt that ends with the assistant's message",
    ),
    "a picture": (
        json.dumps({"prompt": [PICTURE], "answer": 1}),
        {},
        "row 1 has a prompt that has a message without text",
    ),
    "unknown split": (
        '{"prompt": "1", "answer": 1, "split": "tarin"}',
        {},
        "row 1 has the split 'tarin', which is none of train",
    ),
    "too few": (GOOD, {}, "must hold at least 3 different usable rows, got 1"),
    "UTF-16": (GOOD.encode("utf-16"), {}, "is UTF-16 text. Save it as UTF-8"),
    "no file": (None, {}, "does not exist"),
    "no module": (
        GOOD,
        {"reward": "judgse:verify"},
        "there is no module judgse. Start the command in the folder of judgse.py",
    ),
    "no colon": (GOOD, {"reward": "judges.verify"}, "--reward must be module:function"),
    "no function": (
        GOOD,
        {"reward": "judges:verfy"},
        "judges has no function verfy. Did you mean verify?",
    ),
    "not a function": (GOOD, {"reward": "judges:text"}, "must be a function, got 'no function'"),
    "one parameter": (
        GOOD,
        {"reward": "judges:no_row"},
        "(answer, row), or (answer, row, earlier) for a conversation, got (answer)",
    ),
    "other parameters": (GOOD, {"reward": "judges:three"}, "got (completions, row, extra)"),
    "async": (GOOD, {"reward": "judges:later"}, "must be a plain function, not async def"),
    "raises": (
        GOOD,
        {"reward": "judges:raises"},
        "fails in row 1 of tasks.jsonl with its own answer '1': KeyError: 'gold' (judges.py:",
    ),
    "returns None": (
        GOOD,
        {"reward": "judges:none"},
        "a str (the next message), or both as (reward, message), got None",
    ),
    "returns NaN": (GOOD, {"reward": "judges:nan"}, "got nan"),
    "an unknown option": (GOOD, {"rewrad": "x"}, "rewrad is not an option"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_faults_are_refused_in_one_line(write, tmp_path, fault):
    content, options, message = FAULTS[fault]
    if "reward" in options:
        content = "".join(GOOD.replace("1?", f"{n}?") for n in range(4))
    path = write(content) if content is not None else str(tmp_path / "tasks.jsonl")
    with pytest.raises(SettingError) as caught:
        make_env(path, **options)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["a.csv"])
def test_a_column_that_stands_twice_is_refused(write, name):
    with pytest.raises(SettingError, match="has the column id twice. Rename one"):
        make_env(write("question,answer,id,id\n1?,1,2,3\n", name))


def test_broken_rows_can_be_skipped(write, caplog):
    lines = "".join(GOOD.replace("1?", f"{n}?") for n in range(4))
    env = make_env(write(lines + "{\n"), broken_rows="skip")
    assert len(game_of(env).tasks.rows) == 4
    assert "1 of 5 rows are broken" in caplog.text


def test_what_the_function_does_wrong_later_ends_its_trajectory_alone(write):
    env = make_env(write(), reward="judges:odd")
    env.reset(seed=0)
    with pytest.raises(EnvError, match=r"judges:odd must return a number .* got \[1, 2\]"):
        env.step("no")


def test_own_answers_that_do_not_count_are_told(write):
    game = game_of(make_env(write(), reward="judges:half"))
    assert [fault for _, _, fault in game.own_answers(2)] == ["reward 0.5"] * 2
    game = game_of(make_env(write(), reward="judges:verify"))
    assert [fault for _, _, fault in game.own_answers(20)] == [""] * 10


def test_columns_are_found_in_any_case_and_an_unneeded_answer_may_be_ambiguous():
    columns = find_columns(["ID", "Question ", "Ground Truth", "Split"], "a.csv")
    assert (columns.prompt, columns.answer, columns.split) == ("Question ", "Ground Truth", "Split")
    columns = find_columns(["query", "answer", "solution"], "a.csv", needs_answer=False)
    assert columns.answer is None
    assert (
        find_columns(["query", "answer", "solution"], "a.csv", answer="SOLUTION").answer
        == "solution"
    )
