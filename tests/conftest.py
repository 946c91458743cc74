"""The tests run with every jaxtyping shape checked."""

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")

import hypothesis
import pytest
import torch
from jaxtyping import install_import_hook

install_import_hook(["agent", "planners"], "beartype.beartype")

torch.set_num_threads(1)
hypothesis.settings.register_profile("preplay", deadline=None, max_examples=25, derandomize=True)
hypothesis.settings.load_profile("preplay")


@pytest.fixture(autouse=True)
def _precision():
    """What a run sets for its whole process must not change what the next test computes."""
    yield
    torch.set_float32_matmul_precision("highest")
