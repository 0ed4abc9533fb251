import pytest
import torch
from hypothesis import settings

from .tiny_models import save_llama

# No deadline: shared machines pause, and the first call of torch or of an import takes a second.
settings.register_profile("shared", deadline=None, max_examples=40)
settings.load_profile("shared")


@pytest.fixture(scope="session")
def llama(tmp_path_factory):
    """A small random Llama; tests only read it."""
    return save_llama(tmp_path_factory.mktemp("llama"))


@pytest.fixture(scope="module")
def one_thread():
    """Sums of several threads could differ in the last bit."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)
