"""What the commands say about success and returns where an environment of another package runs."""

from sesa_agent.configs.load import load_config
from sesa_agent.sampling.trajectory import ROOT, Task, TrajectoryTree, Turn
from sesa_agent.screen import console, say_success
from sesa_agent.view.facts import summary, turn_facts

THRESHOLD = "tests.plugins.rewards:Threshold-v0"


def test_a_rule_of_success_is_said_with_the_turns_it_must_be_reached_in():
    cfg = load_config(THRESHOLD, overrides=["env.success=return>=3", "env.max_turns=4"])
    with console.capture() as capture:
        say_success(cfg)
    assert capture.get() == (
        f"Success in {THRESHOLD} is return>=3, within env.max_turns=4 responses. "
        "env.success changes it.\n"
    )


def test_nothing_is_said_where_the_environment_says_it():
    with console.capture() as capture:
        say_success(load_config("sokoban"))
    assert capture.get() == ""


def grown(*rewards: float) -> TrajectoryTree:
    tree = TrajectoryTree(Task("sesa/Sokoban-v0", 0))
    for reward in rewards:
        turn = Turn("a wall", (1,), (2,), (0.0,), "Up", "Up", reward, True, False, reward == 1.0)
        tree.add(ROOT, turn)
    return tree


def test_the_head_of_a_tree_gives_the_mean_return_if_success_does_not():
    cfg = load_config("sokoban", overrides=["loss.credit=trajectory"])
    for rewards, told in (((1.0, 0.0), False), ((1.0, -0.5), True)):
        tree = grown(*rewards)
        text = summary(tree, turn_facts(tree, cfg))
        assert text.startswith("1 of 2 branches won.")
        assert ("The mean return is 0.25." in text) == told
