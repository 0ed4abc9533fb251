"""Time and memory of a chat template are limited."""

from threading import Thread

import pytest

from sesa_agent.agents import template_probe
from sesa_agent.agents.template_probe import probe

from ..helpers.tiny_models import CHATML, LLAMA3

DIALOGUE = [("user", "hello")]
ENDLESS = {
    "loops": "{% for i in range(99999) %}{% for j in range(99999) %}{% endfor %}{% endfor %}",
    "one operation": "{{ 7 ** (10 ** 8) }}",
    "after an exception": "{% if messages | length == 1 %}{{ 1 / 0 }}{% endif %}"
    "{% for i in range(99999) %}{% for j in range(99999) %}{% endfor %}{% endfor %}",
    "in a block of transformers": "{% generation %}{% for i in range(99999) %}"
    "{% for j in range(99999) %}{% endfor %}{% endfor %}{% endgeneration %}",
}


@pytest.mark.parametrize("template", [CHATML, LLAMA3, "{{ 1 / 0 }}", "{{ damaged"])
def test_a_template_that_ends_is_left_alone(template):
    assert probe(template, [DIALOGUE], {"bos_token": "<s>"}) == ""


@pytest.mark.parametrize("name", ENDLESS)
def test_a_template_that_never_ends_is_stopped(name, monkeypatch):
    monkeypatch.setattr(template_probe, "TIME_S", 1.0)
    dialogues = [DIALOGUE, [*DIALOGUE, ("assistant", "hi")]]
    assert probe(ENDLESS[name], dialogues, {}) == "did not end within 1 s"


def test_the_limits_hold_outside_of_the_main_thread():
    """Signals, which limit time elsewhere, do not."""
    found = []
    template = "{{ 'a' * 10 ** 10 }}"
    thread = Thread(target=lambda: found.append(probe(template, [DIALOGUE], {"thread": 1})))
    thread.start()
    thread.join()
    assert found == ["needed more than 1 GiB of memory"]
