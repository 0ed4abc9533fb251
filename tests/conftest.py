import signal

import pytest
import torch
from hypothesis import settings

from sesa_agent.agents.fetched import fetched_folder

from .helpers.chat_server import serving
from .helpers.tiny_models import save_llama

# No deadline: shared machines pause, and the first call of torch or of an import takes a second.
settings.register_profile("shared", deadline=None, max_examples=40)
settings.load_profile("shared")
LONG_FILES = (
    "test_sharding",
    "test_documented_commands",
    "test_server_training",
    "test_vllm_training",
    "test_gpu_day",
    "test_envs",
    "test_warm_start",
    "test_vllm_engine",
)
"""Files of long tests: they come first, so that no process waits for another at the end."""
# A shell that runs tests in the background has them ignore Ctrl-C, and so the commands they start.
signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_collection_modifyitems(items):
    items.sort(key=lambda item: item.path.stem not in LONG_FILES)


@pytest.fixture(scope="session")
def llama(tmp_path_factory):
    """A small random Llama; tests only read it."""
    return save_llama(tmp_path_factory.mktemp("llama"))


@pytest.fixture(scope="session")
def smollm2():
    """The folder of a small real language model; tests download nothing."""
    folder = fetched_folder("smollm2")
    if not folder.is_dir():
        pytest.skip("SmolLM2-135M-Instruct is not here: run make smollm")
    return folder


@pytest.fixture
def server(monkeypatch):
    """A chat completions server on this machine; answers "Up" until a test sets `server.reply`."""
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    with serving(lambda body: "Up") as server:
        yield server


@pytest.fixture(scope="module")
def one_thread():
    """Compute on one thread: sums of several threads can differ in the last bit."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)
