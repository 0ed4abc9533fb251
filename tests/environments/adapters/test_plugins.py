import sys

import gymnasium
import pytest

from sesa_agent.environments import make_env
from sesa_agent.environments.adapters import plugins

REGISTER = """
import gymnasium

def register():
    gymnasium.register("{id}", "gymnasium.envs.toy_text.blackjack:BlackjackEnv")

def fail():
    raise RuntimeError("no licence")
"""


@pytest.fixture
def install(tmp_path, monkeypatch):
    """Puts a package with entry points in front of the installed ones."""

    def put(name: str, entry_points: str, env_id: str = "") -> None:
        (tmp_path / f"{name}.py").write_text(REGISTER.format(id=env_id))
        info = tmp_path / f"{name}-1.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1\n")
        (info / "entry_points.txt").write_text(f"[gymnasium.envs]\n{entry_points}\n")

    monkeypatch.syspath_prepend(tmp_path)
    before, modules = set(gymnasium.registry), set(sys.modules)
    plugins.load_plugins.cache_clear()
    yield put
    plugins.load_plugins.cache_clear()
    for env_id in set(gymnasium.registry) - before:
        del gymnasium.registry[env_id]
    for module in set(sys.modules) - modules:
        if module.startswith("plug_"):
            del sys.modules[module]


def test_gymnasium_itself_does_not_read_the_entry_points(install):
    """When it does again, our own reading of them can go."""
    install("plug_a", "__root__ = plug_a:register", "PlugA-v0")
    with pytest.raises(gymnasium.error.NameNotFound):
        gymnasium.make("PlugA-v0")


def test_an_id_is_found_by_the_entry_point_of_its_namespace(install):
    install("plug_a", "__root__ = plug_a:register", "PlugA-v0")
    install("plug_b", "tables = plug_b:register", "PlugB-v0")
    assert make_env("PlugA-v0").reset(seed=0)[0].startswith("Your cards")
    assert "plug_b" not in sys.modules, "not asked for"
    assert make_env("tables/PlugB-v0").reset(seed=0)[0].startswith("Your cards")


def test_a_failing_package_gives_a_warning_and_hides_no_other(install):
    install("plug_a", "__root__ = plug_a:fail")
    install("plug_c", "__root__ = plug_c:register", "PlugC-v0")
    with pytest.warns(UserWarning, match="plug_a:fail cannot be used: RuntimeError: no licence"):
        make_env("PlugC-v0")


def test_a_known_id_loads_no_package(install):
    install("plug_a", "__root__ = plug_a:register", "PlugA-v0")
    make_env("Blackjack-v1")
    assert "plug_a" not in sys.modules


def test_unknown_ids_stay_unknown():
    with pytest.raises(gymnasium.error.NameNotFound):
        make_env("NoSuchGame-v0")
    with pytest.raises(ModuleNotFoundError):
        make_env("no_such_module:Game-v0")
