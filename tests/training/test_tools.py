"""Two training steps with tools: calls as text, and in the format of the model's own template."""

from pathlib import Path

import pytest

from sesa_agent.agents.chat import ChatFormat
from sesa_agent.agents.engines.base import Completion
from sesa_agent.configs.errors import SettingError
from sesa_agent.environments import make_env
from sesa_agent.sampling.dialogue import Dialogue
from sesa_agent.sampling.trajectory import Task

from ..helpers.runs import make_config, read_metrics, run
from ..helpers.tiny_models import QWEN_TOOLS, chatml_tokenizer, save_qwen2

pytestmark = pytest.mark.usefixtures("one_thread")
CALCULATOR = "calculator_tools:Calculator-v0"


@pytest.fixture(autouse=True)
def plugins(monkeypatch):
    monkeypatch.syspath_prepend(str(Path(__file__).parents[1] / "plugins"))


def calculator(template: str = "", **options) -> Dialogue:
    tokenizer = chatml_tokenizer()
    tokenizer.chat_template = template or tokenizer.chat_template
    options = {"max_turns": 4, "window": 4, **options}
    return Dialogue(lambda: make_env(CALCULATOR), ChatFormat(tokenizer), **options)


def answered(dialogue: Dialogue, text: str) -> Completion:
    ids = tuple(dialogue.chat.tokenizer.encode(text, add_special_tokens=False))  # pyright: ignore[reportAttributeAccessIssue]
    return Completion(text, ids, (-1.0,) * len(ids), "stop")


TEXT = '<answer><tool name="{}">{}</tool></answer>'
OWN = '<tool_call>\n{{"name": "{}", "arguments": {}}}\n</tool_call>'


@pytest.mark.parametrize("own", [False, True])
def test_a_conversation_with_tools_is_appended_to_and_ends_with_the_answer(own):
    dialogue = calculator(QWEN_TOOLS if own else "")
    assert dialogue.style.stop == (() if own else ("</answer>",))
    start = dialogue.start(Task(CALCULATOR, 0))
    decode = dialogue.chat.tokenizer.decode  # pyright: ignore[reportAttributeAccessIssue]
    assert decode(start.prompt_ids).count("Multiply two numbers.") == 1
    multiply = (
        OWN.format("multiply", '{"b": 66, "a": 85}')
        if own
        else TEXT.format("multiply", "<b>66</b><a>85</a>")
    )
    turn, place = dialogue.play(start, answered(dialogue, multiply))
    assert turn.action == '{"name":"multiply","arguments":{"a":85,"b":66}}' and turn.legal
    assert turn.next_observation == "5610"
    assert place.prompt_ids[: len(start.prompt_ids)] == start.prompt_ids
    assert ("<tool_response>" in decode(place.prompt_ids)) == own
    mute, after = dialogue.play(place, answered(dialogue, "I do not know."))
    assert (mute.action, mute.legal, mute.num_env_steps) == (None, False, 1)
    assert "no tool call" in decode(after.prompt_ids)
    submit = OWN.format("submit", '{"answer": 5610}') if own else TEXT.format("submit", "5610")
    turn, _ = dialogue.play(after, answered(dialogue, submit))
    assert (turn.reward, turn.terminated, turn.success) == (1.0, True, True)


def test_results_need_the_whole_conversation():
    with pytest.raises(SettingError, match=r"model\.context must be full"):
        calculator(window=1)


@pytest.mark.parametrize("template", [None, QWEN_TOOLS])
@pytest.mark.parametrize("env", [CALCULATOR, "sql_questions"])
def test_two_steps_run_with_tools(tmp_path, env, template):
    model = save_qwen2(tmp_path / "model", *([template] if template else []))
    words = ("model.context=full", "env.max_turns=3", "engine.max_new_tokens=4")
    run(make_config(model, *words, env=env), tmp_path / "run")
    lines = read_metrics(tmp_path / "run")
    assert [line["step"] for line in lines] == [0, 1]
    assert lines[1]["progress/policy_calls"] > lines[0]["progress/policy_calls"] > 0
