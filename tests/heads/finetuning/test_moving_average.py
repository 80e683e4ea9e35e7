"""The moving average is torch's own, to the bit, and so is its state in checkpoints."""

import torch
from torch import nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from tier4k.heads.finetuning.moving_average import MovingAverage


def test_average_and_state_are_those_of_torch_also_after_a_reload() -> None:
    torch.manual_seed(0)
    network = nn.Sequential(nn.Linear(3, 5), nn.BatchNorm1d(5), nn.Linear(5, 1))
    expected = AveragedModel(network, multi_avg_fn=get_ema_multi_avg_fn(0.7))
    found = MovingAverage(network, 0.7)
    optimizer = torch.optim.SGD(network.parameters(), 0.1)
    for _ in range(4):
        network(torch.rand(8, 3)).square().sum().backward()
        optimizer.step()
        expected.update_parameters(network)
        found.update(network)
        state = found.tensors()
        assert state.keys() == expected.state_dict().keys()
        for name, tensor in expected.state_dict().items():
            assert torch.equal(state[name], tensor), name
        found = MovingAverage(network, 0.7)
        found.load(state)
    weights = found.network.state_dict()["0.weight"]
    assert not torch.equal(weights, network.state_dict()["0.weight"])
