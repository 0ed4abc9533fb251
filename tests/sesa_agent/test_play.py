"""`sesa-agent play` with lines on stdin, as from a pipe; `test_play_terminal.py` has the keys."""

import html
import io
import re
from pathlib import Path

import pytest
from rich.console import Console

from sesa_agent.agents.engines.base import SamplingParams
from sesa_agent.agents.engines.scripted import ScriptedEngine
from sesa_agent.environments import EnvError, TextEnv, make_env
from sesa_agent.environments.games.sokoban import ACTION_NAMES
from sesa_agent.environments.games.sokoban_rules import solve
from sesa_agent.play.bindings import bind_keys, describe_keys
from sesa_agent.play.frame import draw_board
from sesa_agent.play.game import Puzzle
from sesa_agent.play.keys import ARROWS, decode_ansi, decode_windows
from sesa_agent.play.session import open_game
from sesa_agent.play.watch import PolicyPlayer, watch_policy
from sesa_agent.sampling.dialogue import Dialogue
from sesa_agent.sampling.trajectory import Task

from ..helpers import bad_games, toy_game
from ..helpers.games import CHAT, TOKENIZER, LineGame
from ..helpers.plugins import ADVENTURE, FOLDER
from ..helpers.tiny_models import SMALL_GROUPS

STEPS = ("optim.steps=1", "eval.episodes=2", "eval.final_episodes=2", "engine.max_new_tokens=2")


@pytest.fixture
def play(sesa_agent, monkeypatch):
    """Runs `sesa-agent play` on lines; returns exit code, output and errors."""

    def run(lines, *words):
        monkeypatch.setattr("sys.stdin", io.StringIO("".join(f"{line}\n" for line in lines)))
        return sesa_agent("play", *words)

    return run


def last_line(out):
    return out.splitlines()[-1]


def solution(seed):
    """The names of a shortest solution of a Sokoban puzzle."""
    env = make_env("sesa/Sokoban-v0")
    env.reset(seed=seed)
    moves = solve(env.unwrapped.game.board(), 10)  # pyright: ignore[reportAttributeAccessIssue]
    assert moves
    return [ACTION_NAMES[move] for move in moves]


def test_a_puzzle_is_solved_by_the_names_of_the_moves(play):
    code, out, err = play(solution(3), "--env", "sokoban", "--seed", "3")
    assert (code, err) == (0, "")
    assert last_line(out) == "Solved with 7 actions, the fewest possible."


def test_moves_beyond_the_fewest_are_counted(play):
    out = play(["Up", "Down", *solution(3)], "--env", "sokoban", "--seed", "3")[1]
    assert last_line(out) == "Solved with 9 actions, 2 more than the fewest possible."


def test_the_summary_has_no_fewest_moves_if_they_are_unknown(play):
    out = play(["Right", "Up", "Right"], "--env", toy_game.ENV_ID)[1]  # which does not tell
    assert last_line(out) == "Solved with 3 actions."
    out = play(["Up"], "--env", "frozen_lake", "--seed", "1")[1]  # a slip may be a short cut
    assert last_line(out) == "Not solved with 1 action."


def test_the_input_may_end_at_any_time(play):
    code, out, err = play([], "--env", "sokoban", "--seed", "3")
    assert (code, err) == (0, "")
    assert last_line(out) == "Not solved with 0 actions. It needs 7 actions."


def test_rules_keys_and_state_are_shown(play):
    _, out, _ = play(["Up", "Up", "Up"], "--env", "sokoban", "--seed", "3")
    assert "sesa/Sokoban-v0, puzzle 3" in out
    assert out.count("push every box onto a target") == 1
    assert "↑ w Up, ↓ s Down, ← a Left, → d Right; h hint, u undo, r restart" in out
    assert "Turn 2, 9 actions left, reward 0. Last: Up, reward 0." in out
    assert "Last: Up, reward 0, not allowed." in out  # against the wall


def test_a_hint_is_what_the_solver_plays_next(play):
    _, out, _ = play(["h", "Down", "h"], "--env", "sokoban", "--seed", "3")
    assert re.findall(r"Hint: (\w+)", out)[0] == "Down"
    assert len(re.findall(r"Hint: (\w+)", out)) == 2


def test_a_position_without_a_solution_is_reported(play):
    _, out, _ = play(["Up", "h"], "--env", "sokoban", "--seed", "3", "env.options.max_steps=5")
    assert "No hint: the solver finds no solution with 4 actions left. u undoes." in out


@pytest.mark.parametrize("env", [toy_game.TAXI, "path_exploration"])
def test_a_game_without_a_solver_says_so(play, env):
    assert re.search(r"No hint: \S+ has no solver\.", play(["h"], "--env", env)[1])


def test_undo_takes_moves_back_and_play_continues_there(play):
    _, out, _ = play(["u", "Right", "u", "Right", "Right"], "--env", toy_game.ENV_ID)
    assert "There is nothing to undo." in out
    boards = [line for line in out.splitlines() if line and set(line) <= set("P_G")]
    assert boards == ["P_G", "P_G", "_PG", "P_G", "_PG", "__G"]
    assert last_line(out) == "Solved with 2 actions."


def test_the_last_move_of_a_lost_game_can_be_undone(play):
    _, out, _ = play(["Left", "u", "Right", "Right"], "--env", toy_game.ENV_ID)
    assert "Not solved with 1 action." in out
    assert last_line(out) == "Solved with 2 actions."


def test_a_move_played_again_after_undo_has_the_same_outcome():
    env = make_env("sesa/FrozenLake-v0", frozen_probability=1.0, max_steps=30)
    puzzle, slips = Puzzle(env, 1), 0
    while not puzzle.place.is_over:
        before = puzzle.place.observation
        puzzle.play("Up")
        first = puzzle.place.observation
        puzzle.undo()
        assert puzzle.place.observation == before
        puzzle.play("Up")
        assert puzzle.place.observation == first
        slips += before.find("P") % 5 != first.find("P") % 5  # into another column
    assert slips > 0


def test_restart_and_next_puzzle(play):
    lines = ["Up", "r", "n", "q"]
    _, out, _ = play(lines, "--env", "sokoban", "--seed", "3")
    assert out.count("Turn 1, 10 actions left, reward 0.") == 3
    assert "puzzle 4" in out


def test_unreadable_text_has_no_effect(play):
    _, out, _ = play(["x", "jump over it", "↑", "\x1b[2J"], "--env", "sokoban", "--seed", "3")
    assert "'x' is not an action here. Actions: Up, Down, Left, Right." in out
    assert "Turn 2, 9 actions left" in out  # the arrow is a key
    assert "Turn 3" not in out
    assert "\x1b" not in out


def test_nothing_is_played_after_the_end(play):
    _, out, _ = play(["Left", "Right", "h"], "--env", toy_game.ENV_ID)
    assert "The puzzle is over: u undoes the last action" in out
    assert last_line(out) == "Not solved with 1 action."


def test_free_answers_are_typed_as_lines(play):
    _, out, _ = play(["h"], "--env", "countdown")
    answer = re.findall(r"Hint: (.+)", out)[0]
    code, out, _ = play([answer], "--env", "countdown")
    assert (code, last_line(out)) == (0, "Solved with 1 action, the fewest possible.")
    assert "Actions: an expression" in out


@pytest.mark.parametrize(
    ("env", "line"),
    [
        (toy_game.TAXI, "1"),
        ("CliffWalking-v1", "w"),
        ("Blackjack-v1", "Stick"),
        ("frozen_lake", "d"),
        ("sudoku", "1111/2222/3333/4444"),
        ("math", "7"),
        ("path_exploration", "Hunan – Changsha – Yuelu"),
    ],
)
def test_every_kind_of_game_is_played(play, env, line):
    code, out, err = play([line], "--env", env)
    assert (code, err) == (0, "")
    assert " Last: " in out
    assert re.match(r"(Not s|S)olved with 1 action", last_line(out))


def test_the_actions_of_a_text_adventure_stand_below_each_state(play, monkeypatch):
    monkeypatch.syspath_prepend(FOLDER)
    lines = ("GO North.", "take lamp", "go south", "go down", "Take Lamp", "go up")
    code, out, err = play(lines, "--env", ADVENTURE)
    assert (code, err) == (0, "")
    assert "You are in the hall.\nActions now: go north; go down\n" in out
    assert "You are in the attic" in out and "Last: go north, reward 0." in out
    assert "Solved with" in last_line(out)


def test_options_reach_the_environment(play):
    _, out, _ = play([], "--env", "sokoban", "env.options.max_steps=33")
    assert "33 actions left" in out


@pytest.mark.parametrize("fault", [fault for fault in bad_games.FAULTS if fault != "swallow"])
def test_a_broken_environment_ends_in_one_line(play, fault):
    words = ("env.options.fault=" + fault, "env.step_timeout=0.2")
    code, out, err = play(["Left", "Left"], "--env", bad_games.ENV_ID, *words)
    assert (code, err.count("\n")) == (2, 1)
    assert re.search(bad_games.FAULTS[fault].split(" \\(bad_games")[0], err), err
    assert f"sesa-agent check-env {bad_games.ENV_ID}" in err


@pytest.mark.parametrize(
    ("words", "told"),
    [
        ((), "--env must be given: one of countdown,"),
        (("--env", "sokobann"), "Did you mean 'sokoban'?"),
        (("--env", "sokoban", "--seed", "-1"), "--seed must be 0 or more, got -1."),
        (("--env", "sokoban", "--delay", "1"), "--delay must be left out without --policy"),
        (("--policy", "sesa-tiny"), "--env must be given with a model"),
        (("--policy", "sesa-tiny", "--env", "sokoban", "--delay", "-1"), "--delay must be from 0"),
        (("--policy", "./no-model", "--env", "sokoban"), "no-model"),
    ],
)
def test_mistakes_are_one_line(play, words, told):
    code, out, err = play([], *words)
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert told in err


def test_a_model_is_watched_turn_by_turn(play, model):
    code, out, err = play(["", ""], "--policy", model, "--env", "sokoban", "--seed", "3")
    assert (code, err) == (0, "")
    assert f"{model.name} plays sesa/Sokoban-v0, puzzle 3" in out
    assert out.count("Response: ") == 2
    chances = re.findall(r"Probability of the response: (\S+) \(log (-\d+\.\d+)\) at T = 0.5", out)
    assert len(chances) == 2
    assert re.search(r"Action: (Up|Down|Left|Right|unreadable)", out)
    assert last_line(out) == "Not solved after 2 turns, reward 0."


def test_watching_continues_without_keys_with_a_delay(play, model):
    words = ("--policy", model, "--env", "sokoban", "--delay", "0", "env.max_turns=3")
    code, out, _ = play(["q"], *words)  # nothing is read
    assert code == 0
    assert out.count("Response: ") == 3
    assert re.match(r"(Not s|S)olved after 3 turns", last_line(out))


def test_watching_again_and_the_next_puzzle(play, model):
    words = ("--policy", model, "--env", "sokoban", "env.max_turns=1")
    _, out, _ = play(["", "", "r", "", "n", "", "q"], *words)
    assert re.findall(r"puzzle (\d)", out) == list("00000" + "11")
    assert out.count("solved after 1 turn,") == 4  # the line after the end plays nothing


def test_a_run_is_watched_in_its_own_environment(sesa_agent, play, model, tmp_path):
    run = tmp_path / "a run"
    settings = (*SMALL_GROUPS, *STEPS, f"model.path={model}")
    assert sesa_agent("train", "--env", toy_game.ENV_ID, "--output", run, *settings)[0] == 0
    code, out, err = play([""], "--policy", run)
    assert (code, err) == (0, "")
    assert f"a run plays {toy_game.ENV_ID}, puzzle 0" in out
    assert "Response: " in out
    code, _, err = play([""], "--policy", run, "--env", "sokoban")
    assert (code, err.count("\n")) == (2, 1)
    assert "--env must be the environment of the run" in err


def watch(env, replies):
    """Let a scripted policy play to the end of an episode; return what is seen of it."""
    screen = Console(file=io.StringIO(), width=200)
    params = SamplingParams(temperature=0.5)
    dialogue = Dialogue(lambda: env, CHAT)
    player = PolicyPlayer("script", ScriptedEngine(TOKENIZER, replies), dialogue, params)
    watch_policy(player, Task("Line-v0", 0), read=lambda: None, delay_s=0, console=screen)
    return screen.file.getvalue()  # pyright: ignore[reportAttributeAccessIssue]


def test_each_turn_shows_response_action_reward_and_probability():
    replies = ["<answer>jump</answer>", "Right", "<answer>Rest</answer>", "<answer>Jump</answer>"]
    seen = watch(TextEnv(LineGame(), max_steps=10), replies).split("script plays")[1:]
    assert len(seen) == 5
    assert "You are at 5." in seen[1] and "You are at 6." in seen[4]
    assert "Response: <answer>jump</answer>\nAction: Jump, reward 0\n" in seen[1]
    assert "Action: unreadable, reward 0" in seen[2]
    assert "Action: Rest, not allowed, reward 0" in seen[3]
    assert "Action: Jump, reward 1" in seen[4]
    assert "Probability of the response: .500 (log -0.69) at T = 0.5" in seen[4]
    assert seen[4].endswith("Solved after 4 turns, reward 1.\n")


@pytest.mark.parametrize("fault", ["raise", "read", "nan"])
def test_an_environment_that_fails_under_a_policy_raises(fault):
    with pytest.raises(EnvError, match=bad_games.FAULTS[fault]):
        watch(make_env(bad_games.ENV_ID, fault=fault), ["<answer>Left</answer>"])


@pytest.mark.parametrize(
    ("names", "keys"),
    [
        (["Stick", "Hit"], {"1": "Stick", "2": "Hit"}),
        (["Left", "Right", "Forward"], dict(zip("←a→d↑w", "LLRRFF", strict=True))),
        ([f"Move {n}" for n in range(9)], {str(n + 1): f"Move {n}" for n in range(9)}),
        ([f"Move {n}" for n in range(10)], {}),
        (["Up", "North"], {"↑": "Up", "w": "Up", "1": "North"}),
    ],
)
def test_keys_of_actions(names, keys):
    short = {"L": "Left", "R": "Right", "F": "Forward"}
    assert bind_keys(names) == {key: short.get(name, name) for key, name in keys.items()}
    assert "q quit" in describe_keys(bind_keys(names))


def test_games_of_free_text_have_no_keys():
    for env_id in ("sesa/Countdown-v0", "sesa/Sudoku-v0", "sesa/PathExploration-v0"):
        assert open_game(env_id, lambda env_id=env_id: make_env(env_id)).bindings == {}


@pytest.mark.parametrize(
    ("typed", "keys"),
    [
        (b"\x1b[A\x1b[B\x1b[D\x1b[C", list(ARROWS)),
        (b"\x1bOA\x1b[1;5C", ["↑", "→"]),
        (b"a\xc3\xa4\n", ["a", "ä", "\n"]),
        (b"\x1b[3~q", ["\x1b", "q"]),
        (b"\x1b", ["\x1b"]),
        (b"\xff", ["�"]),
        (b"q\x04w", ["q"]),
    ],
)
def test_keys_of_a_terminal(typed, keys):
    stream = io.BytesIO(typed)

    def is_waiting():
        return stream.tell() < len(typed)

    read = []
    while (key := decode_ansi(lambda: stream.read(1), is_waiting)) is not None:
        read.append(key)
    assert read == keys


def test_keys_of_a_windows_console():
    typed = iter("\xe0H\x00Pa\xe0K\xe0M\xe0G\x1a")
    read = []
    while (key := decode_windows(lambda: next(typed))) is not None:
        read.append(key)
    assert read == ["↑", "↓", "a", "←", "→", "\x1b"]
    with pytest.raises(KeyboardInterrupt):
        decode_windows(lambda: "\x03")


def test_colours_of_a_derived_view_are_colours_on_a_screen():
    text = "|<yellow> </yellow>|<blue>R</blue>|"
    assert draw_board("Taxi-v4", text, in_colour=False).plain.strip() == text
    board = draw_board("Taxi-v4", text, in_colour=True)
    assert board.plain.strip() == "| |R|"
    screen = Console(file=io.StringIO(), force_terminal=True, color_system="standard")
    with screen.capture() as drawn:
        screen.print(board)
    assert "\x1b[1;30;43m \x1b[0m" in drawn.get()


def test_control_characters_are_not_printed():
    for in_colour in (True, False):
        assert "\x1b" not in draw_board("Any-v0", "a\x1b[2Jb\x07", in_colour).plain


def test_the_picture_of_the_page_is_what_is_seen(play):
    """Every line of the last frame stands in the picture, whatever the pieces it is drawn in."""
    picture = Path(__file__).parents[2] / "docs" / "images" / "play-sokoban.svg"
    drawn = html.unescape(re.sub(r"<[^>]+>", "", picture.read_text(encoding="utf-8")))
    _, out, _ = play(["s", "h", "q"], "--env", "sokoban", "--seed", "3")
    frame = ["".join(line.split()) for line in out.splitlines()[-11:-1]]
    assert len([line for line in frame if line]) > 7
    assert not [line for line in frame if line not in "".join(drawn.split())]
