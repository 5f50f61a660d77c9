"""Settings of all tests of the models: one thread, so that sums have one order, and a fixed random state."""

from collections.abc import Iterator

import pytest
import torch


@pytest.fixture(autouse=True)
def reproducible() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    yield
    torch.set_num_threads(before)


@pytest.fixture(autouse=True)
def on_device(request: pytest.FixtureRequest) -> Iterator[None]:
    """Make tensors and networks on the device of `--device`; its fp32 is IEEE's, without TF32."""
    device = request.config.getoption("--device")
    if device == "cpu":
        yield
        return
    before = torch.backends.cudnn.allow_tf32
    torch.backends.cudnn.allow_tf32 = False
    with torch.device(device):
        yield
    torch.backends.cudnn.allow_tf32 = before
