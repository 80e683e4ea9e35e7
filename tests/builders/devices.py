"""A device that this machine may lack, for tests of where heads are fitted."""

import pytest
import torch

from tier4k.heads.regressors.mlp.stack import StackedMLP


def note_devices(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Pretend that every device of torch exists, and return the list of devices that stacks are trained on.

    The stacks are noted in the order of their training, and trained on the CPU.
    """
    noted: list[str] = []

    class Noting(StackedMLP):
        def __init__(
            self, hyperparameters: list, device: str = "cpu", state_bytes: int | None = None
        ) -> None:
            noted.append(device)
            super().__init__(hyperparameters, "cpu", state_bytes)

    monkeypatch.setattr("tier4k.heads.regressors.mlp.estimator.StackedMLP", Noting)
    monkeypatch.setattr(
        "tier4k.heads.regressors.mlp.device.choose_device", lambda name, _: torch.device(name)
    )
    return noted
