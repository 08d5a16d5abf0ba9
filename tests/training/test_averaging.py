"""The average equals its closed form."""

from __future__ import annotations

from typing import cast

import pytest
import torch
from torch import Tensor, nn

from idpose_core.training.averaging import MovingAverage, decay


def network() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4)).double()


def change(trained: nn.Module) -> None:
    with torch.no_grad():
        for parameter in trained.parameters():
            parameter.add_(torch.randn_like(parameter))
        cast(Tensor, trained[1].running_mean).add_(1.0)  # type: ignore[index]


@pytest.mark.parametrize("limit", [0.999, 0.5])
def test_closed_form(limit: float) -> None:
    """Average after n updates: sum over t of theta_t (1 - d_t) prod of the later decays."""
    trained = network()
    average = MovingAverage(trained, limit)
    history = [[p.detach().clone() for p in trained.parameters()]]
    for _ in range(40):
        change(trained)
        average.update(trained)
        history.append([p.detach().clone() for p in trained.parameters()])
    decays = [min(limit, (1 + t) / (10 + t)) for t in range(40)]
    weights = [1.0, *(1 - d for d in decays)]
    for first in range(len(weights)):
        for later in decays[first:]:
            weights[first] *= later
    assert sum(weights) == pytest.approx(1, abs=1e-14)
    for place, parameter in enumerate(average.network.parameters()):
        expected = sum(w * values[place] for w, values in zip(weights, history, strict=True))
        assert torch.allclose(parameter, cast(Tensor, expected), rtol=1e-13, atol=1e-13)


def test_decay_warms_up_to_its_limit() -> None:
    assert decay(0) == pytest.approx(0.1)
    assert decay(8980) < 0.999
    assert decay(8990) == decay(10**6) == 0.999


def test_buffers_are_copied_and_the_network_is_not_touched() -> None:
    trained = network()
    average = MovingAverage(trained)
    change(trained)
    before = {name: value.clone() for name, value in trained.state_dict().items()}
    average.update(trained)
    mine, theirs = average.network.state_dict(), trained.state_dict()
    assert torch.equal(mine["1.running_mean"], theirs["1.running_mean"])
    assert not torch.equal(mine["0.weight"], theirs["0.weight"])
    assert all(torch.equal(before[name], value) for name, value in trained.state_dict().items())
    assert trained.training
    assert not average.network.training
    assert not any(parameter.requires_grad for parameter in average.network.parameters())


def test_going_on_is_never_having_stopped() -> None:
    trained = network()
    average = MovingAverage(trained)
    change(trained)
    average.update(trained)
    other = MovingAverage(network())
    other.load_state_dict(average.state_dict())
    change(trained)
    for each in (average, other):
        each.update(trained)
    for name, value in average.network.state_dict().items():
        assert torch.equal(value, other.network.state_dict()[name])


def test_another_network_is_refused() -> None:
    with pytest.raises(ValueError, match="its parameters differ"):
        MovingAverage(network()).update(nn.Linear(3, 4))
    with pytest.raises(ValueError, match="decay"):
        MovingAverage(network(), 1.0)
