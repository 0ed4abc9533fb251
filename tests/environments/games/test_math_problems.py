import gc
import json
import re
import time

import pyarrow
import pyarrow.parquet
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sesa_agent.environments import fork, make_env, state_key
from sesa_agent.environments.checks import check_text_env
from sesa_agent.environments.games.math_answers import extract_answer, is_equal
from sesa_agent.environments.games.math_problems import (
    METHODS,
    MathGame,
    MathKnobs,
    careless_answer,
    generate_terms,
    make_math,
    read_problem_set,
    write_sum,
)

# ---- generated arithmetic ----

all_knobs = st.builds(MathKnobs, num_terms=st.integers(2, 8), max_number=st.integers(1, 99))


@given(st.integers(0, 2**31), all_knobs)
def test_every_total_of_a_generated_sum_is_in_range(seed, knobs):
    terms = generate_terms(seed, knobs)
    assert len(terms) == knobs.num_terms
    assert all(1 <= abs(term) <= knobs.max_number for term in terms)
    assert all(0 <= sum(terms[: count + 1]) <= 99 for count in range(len(terms)))
    assert terms == generate_terms(seed, knobs)


def test_generated_sums_differ():
    sums = {generate_terms(seed, MathKnobs()) for seed in range(1000)}
    assert len(sums) > 950
    assert {term > 0 for terms in sums for term in terms[1:]} == {True, False}


def value_of(text):
    """The value of a sum of signed whole numbers."""
    assert re.fullmatch(r"-?\d+([+-]\d+)*", text)
    return sum(map(int, re.findall(r"[+-]?\d+", text)))


@pytest.mark.parametrize("method", METHODS)
@given(st.integers(0, 2**31), all_knobs)
def test_every_line_of_every_method_is_true_and_the_last_one_is_the_result(method, seed, knobs):
    terms = generate_terms(seed, knobs)
    text = METHODS[method](terms)
    for line in text.split("; "):
        left, _, right = line.rpartition("=")
        assert value_of(left or right) == int(right)
    assert extract_answer(text) == str(sum(terms))


@pytest.mark.parametrize(
    ("terms", "texts"),
    [
        (
            (27, 38, -19),
            [
                "46",
                "27+38=65; 65-19=46",
                "38-19=19; 27+19=46",
                "20+30-10=40; 7+8-9=6; 40+6=46",
                "7+8-9=6; 20+30-10=40; 6+40=46",
                "30+40-20=50; -3-2+1=-4; 50-4=46",
            ],
        ),
        (
            (40, -7, -30),
            [
                "3",
                "40-7=33; 33-30=3",
                "-7-30=-37; 40-37=3",
                "40+0-30=10; 0-7+0=-7; 10-7=3",
                "0-7+0=-7; 40+0-30=10; -7+10=3",
                "40-10-30=0; 0+3+0=3; 0+3=3",
            ],
        ),
    ],
)
def test_methods_by_hand(terms, texts):
    assert [method(terms) for method in METHODS.values()] == texts


@pytest.mark.parametrize(
    ("terms", "answer"),
    [((27, 38), "55"), ((42, -19), "33"), ((27, 38, -19), "46"), ((5, -4), "1"), ((99, 1), "90")],
)
def test_a_careless_answer_forgets_to_carry_and_to_borrow(terms, answer):
    assert careless_answer(terms) == answer


def test_a_careless_answer_is_often_wrong_and_often_right():
    sums = [generate_terms(seed, MathKnobs()) for seed in range(500)]
    right = sum(careless_answer(terms) == str(sum(terms)) for terms in sums)
    assert 100 < right < 400


# ---- problems from a file ----

OPENING = (
    "Solve the following math problem step by step. The last line of your response should be of "
    "the form Answer: $Answer (without quotes) where $Answer is the answer to the problem.\n\n"
)
CLOSING = '\n\nRemember to put your answer on its own line after "Answer:".'


def dapo_row(problem, answer):
    return {
        "data_source": "math_dapo",
        "prompt": [{"content": OPENING + problem + CLOSING, "role": "user"}],
        "ability": "MATH",
        "reward_model": {"ground_truth": answer, "style": "rule-lighteval/MATH_v2"},
        "extra_info": {"index": "9a9b6eb4"},
    }


def aime_row(problem, answer):
    return {"ID": "2024-I-1", "Problem": problem, "Solution": "...", "Answer": int(answer)}


def gsm8k_row(problem, answer):
    working = f"She has 3 + 4 = <<3+4=7>>7 left.\nNo more.\n#### {int(answer):,}"
    return {"question": problem, "answer": working}


LAYOUTS = {"dapo": dapo_row, "aime": aime_row, "gsm8k": gsm8k_row}
PROBLEMS = {f"Which number\n\nis {n}, in é?": str(n) for n in range(990, 1010)}


def write_lines(path, rows):
    path.write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    return str(path)


def write_parquet(path, rows):
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), path)
    return str(path)


@pytest.mark.parametrize("write", [write_lines, write_parquet])
@pytest.mark.parametrize("layout", LAYOUTS)
def test_every_layout_gives_the_bare_problem_and_its_answer(tmp_path, layout, write):
    rows = [LAYOUTS[layout](*item) for item in PROBLEMS.items()]
    path = write(tmp_path / f"x.{'parquet' if write is write_parquet else 'jsonl'}", rows)
    splits = read_problem_set(path).splits
    problems = [*splits["test"], *splits["validation"], *splits["training"]]
    assert {problem.text: problem.answer.replace(",", "") for problem in problems} == PROBLEMS


def test_an_episode_of_a_file_is_a_row_of_its_split(tmp_path):
    path = write_lines(tmp_path / "x.jsonl", [dapo_row(*item) for item in PROBLEMS.items()])
    env = make_env("sesa/Math-v0", path=path)
    check_text_env(env, actions=["993", r"\boxed{\sqrt{2}}", "the 1000"])
    shown = {seed: env.reset(seed=seed)[0] for seed in (0, 2, 100_000, 1_000_016)}
    assert shown[0] == shown[2]
    assert len(set(shown.values())) == 3
    assert env.step(f"It is {PROBLEMS[shown[1_000_016]]}")[1:3] == (1, True)


def test_a_test_file_shares_no_problem_with_training(tmp_path):
    items = list(PROBLEMS.items())
    path = write_lines(tmp_path / "x.jsonl", [aime_row(*item) for item in items])
    test_path = write_lines(tmp_path / "test.jsonl", [gsm8k_row(*item) for item in items[:5]])
    splits = read_problem_set(path, test_path).splits
    assert {problem.text for problem in splits["test"]} == set(list(PROBLEMS)[:5])
    others = splits["validation"] + splits["training"]
    assert {problem.text for problem in others} == set(list(PROBLEMS)[5:])


def assert_each_problem_is_in_one_split(splits, number):
    sides = [splits[split] for split in ("test", "validation", "training")]
    assert all(sides) and sum(map(len, sides)) == len(set(sum(sides, []))) == number


def test_a_problem_that_a_file_repeats_is_in_one_split(tmp_path):
    rows = [dapo_row(*item) for item in PROBLEMS.items()] * 10
    splits = read_problem_set(write_lines(tmp_path / "x.jsonl", rows)).splits
    assert_each_problem_is_in_one_split(splits, 20)


def test_problems_that_differ_in_white_space_or_encoding_are_the_same(tmp_path):
    """A second copy with a line break more stood in training, the first one in the test split."""
    items = [(f"How  many\tare {n} caf\u00e9s?", str(n)) for n in range(20)]
    copies = [(f" How many are\n{n} cafe\u0301s? ", answer) for n, (_, answer) in enumerate(items)]
    rows = [aime_row(*item) for item in (*items, *copies)]
    splits = read_problem_set(write_lines(tmp_path / "x.jsonl", rows)).splits
    assert_each_problem_is_in_one_split(splits, 20)
    path = write_lines(tmp_path / "train.jsonl", rows)
    test_path = write_lines(tmp_path / "test.jsonl", [gsm8k_row(*item) for item in copies[:5]])
    splits = read_problem_set(path, test_path).splits
    assert len(splits["test"]) == 5
    assert_each_problem_is_in_one_split(splits, 20)


@pytest.mark.parametrize("number", ["0.00005", "1e22", "0.1234567890123456789", "1e-7", "2.50"])
def test_the_number_of_a_file_is_a_right_answer(tmp_path, number):
    """str(0.00005) is 5e-05, which no answer was equal to."""
    path = tmp_path / "x.jsonl"
    rows = (f'{{"problem": "{n}", "answer": {number}}}' for n in range(3))
    path.write_text("\n".join(rows), encoding="utf-8")
    gold = read_problem_set(str(path)).splits["test"][0].answer
    assert is_equal(number, gold) and not is_equal("1", gold)


def test_ten_times_the_problems_take_some_ten_times_as_long(tmp_path):
    """Work that grows with the square of the rows would take a hundred times as long."""

    def seconds(num_rows: int) -> float:
        """The least of three, so that what disturbs one does not count."""
        found = []
        for time_number in range(3):
            rows = [gsm8k_row(f"What is {n} plus 1?", str(n)) for n in range(num_rows)]
            path = write_lines(tmp_path / f"{num_rows}-{time_number}.jsonl", rows)
            gc.collect()
            start = time.process_time()
            read_problem_set(path)
            found.append(time.process_time() - start)
        return min(found)

    seconds(100)  # imports
    assert seconds(20_000) < 40 * seconds(2_000)


def test_a_file_is_read_once(tmp_path):
    path = write_lines(tmp_path / "x.jsonl", [aime_row(*item) for item in PROBLEMS.items()])
    assert read_problem_set(path) is read_problem_set(path)


BROKEN_ROWS = [
    ({"problem": "", "answer": "1"}, "has no problem"),
    ({"problem": 7, "answer": "1"}, "has no problem"),
    ({"problem": "a", "answer": " "}, "has no answer"),
    ({"problem": "a", "answer": True}, "has no answer: True"),
    ({"problem": "a", "answer": "N/A"}, "has no answer: 'N/A'"),
    ({"problem": "a", "answer": "None"}, "has no answer: 'None'"),
    ({"problem": "a", "answer": float("nan")}, "has no answer"),
    ({"problem": "a", "answer": None}, "has no answer"),
    ({"problem": "a", "answer": {"value": 1}}, "has no answer: {'value': 1}"),
    ({"problem": "a", "answer": [1]}, r"has no answer: \[1\]"),
    ({"problem": "a", "answer": r"\frac{1}{"}, "has an answer that cannot be read"),
    ({"problem": "a", "answer": "9^{9^{9}}"}, "has an answer that cannot be read"),
]


@pytest.mark.parametrize(("row", "reason"), BROKEN_ROWS)
def test_a_row_without_a_problem_or_a_readable_answer_is_broken(tmp_path, row, reason):
    rows = [{"problem": str(n), "answer": n} for n in range(3)]
    path = write_lines(tmp_path / "x.jsonl", [*rows, row])
    problems = read_problem_set(path)
    assert problems.num_broken == 1
    assert sum(len(problems.splits[split]) for split in ("test", "validation", "training")) == 3
    with pytest.raises(ValueError, match=f"row 4 {reason}"):
        make_math(path=path, broken_rows="refuse")


@pytest.mark.parametrize(
    "row",
    [
        {"prompt": [], "reward_model": {"ground_truth": "1"}},
        {"prompt": [{"content": "x"}], "reward_model": {"style": "rule"}},
        {"prompt": {"content": "x"}, "reward_model": {"ground_truth": "1"}},
        {"prompt": [{"content": "x"}], "reward_model": "1"},
        {"prompt": ["x"], "reward_model": {"ground_truth": "1"}},
    ],
)
def test_a_row_of_another_shape_is_broken(tmp_path, row):
    rows = [dapo_row(*item) for item in list(PROBLEMS.items())[:3]]
    assert read_problem_set(write_lines(tmp_path / "x.jsonl", [*rows, row])).num_broken == 1


@pytest.mark.parametrize(
    ("answer", "gold"),
    [("034", "34"), (204.0, "204"), (r"$\frac{1}{2}$", "0.5"), (r"It is \boxed{x}.", "x")],
)
def test_answers_of_a_file_are_read_with_the_text_around_them(tmp_path, answer, gold):
    rows = [{"problem": str(n), "answer": answer} for n in range(3)]
    problems = read_problem_set(write_lines(tmp_path / "x.jsonl", rows))
    assert is_equal(gold, problems.splits["test"][0].answer)


def test_a_file_of_another_layout_is_refused(tmp_path):
    path = write_lines(tmp_path / "x.jsonl", [{"text": "1 + 1", "answer": 2}])
    with pytest.raises(ValueError, match="must have the columns prompt and reward_model, or ") as e:
        make_math(path=path)
    assert "it has text, answer" in str(e.value) and "\n" not in str(e.value)


# ---- game ----


@pytest.mark.parametrize(
    ("text", "reward", "legal"),
    [
        ("46", 1, True),
        ("27+38=65; 65-19=46", 1, True),
        (r"\boxed{\frac{92}{2}}", 1, True),
        (r"\boxed{\sqrt{2116}}", 1, True),
        ("46.0", 1, True),
        ("27+38=65; 65-19=47", 0, True),
        (r"\boxed{x}", 0, True),
        (r"\boxed{\frac{46}{}}", 0, False),
        (r"it is 46, that is \boxed{46", 1, True),
        (r"\boxed{46^{9^{9}}}", 0, False),
        ("no idea", 0, False),
    ],
)
def test_answers_are_judged_by_hand(text, reward, legal):
    env = make_math()
    env.reset(seed=0)
    game = env.game
    assert isinstance(game, MathGame)
    game.problem = type(game.problem)("Compute 27 + 38 - 19.", "46")
    success = bool(reward)
    outcome = ("Compute 27 + 38 - 19.", reward, True, False, {"success": success, "legal": legal})
    assert env.step(text) == outcome


@pytest.mark.parametrize(
    ("text", "canonical"),
    [
        ("27+38=65; 65-19=46", "46"),
        ("46.50", "93/2"),
        (r"\boxed{-1,000}", "-1000"),
        (r"\boxed{2 \sqrt{3}}", r"\boxed{2 \sqrt{3}}"),
        ("#### 2  x", r"\boxed{2 x}"),
        ("#### }", None),
        ("#### x\\", None),
        ("9" * 1000, None),
        ("0." + "1" * 170, None),
        (r"\boxed{" + "x" * 500 + "}", None),
    ],
)
def test_canonical_answers_by_hand(text, canonical):
    assert make_math().canonical_action(text) == canonical


@given(st.text() | st.text(alphabet="0123456789.,/-+#{}\\boxed frac$", max_size=60))
def test_a_canonical_answer_reads_as_itself(text):
    env = make_math()
    canonical = env.canonical_action(text)
    if canonical is not None:
        assert env.canonical_action(canonical) == canonical and len(canonical) <= 200


@pytest.mark.parametrize("method", METHODS)
def test_every_method_solves_every_generated_puzzle(method):
    env = make_math()
    game = env.game
    assert isinstance(game, MathGame)
    for seed in range(50):
        observation, _ = env.reset(seed=seed)
        assert observation.replace(" ", "") == f"Compute{write_sum(game.terms)}."
        assert env.step(METHODS[method](game.terms))[1] == 1


def test_a_fork_leaves_the_original_alone():
    env = make_math()
    env.reset(seed=1)
    key, twin = state_key(env), fork(env)
    twin.step("1")
    assert state_key(env) == key != state_key(twin)
    assert fork(env).reset()[0] == twin.reset()[0] == env.reset()[0]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"num_terms": 1}, "num_terms must be from 2 to 8, got 1"),
        ({"max_number": 100}, "max_number must be from 1 to 99, got 100"),
        ({"max_steps": 0}, "max_steps must be at least 1"),
        ({"path": "absent.jsonl"}, "absent.jsonl does not exist"),
        ({"test_path": "x.jsonl"}, "test_path needs a path to train on"),
        ({"path": "x.jsonl", "num_terms": 3}, "num_terms applies to generated sums"),
    ],
)
def test_wrong_options_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        make_math(**options)
