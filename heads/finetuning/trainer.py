"""End-to-end training of one head and its encoders, which continues after the last epoch if it was killed.

The order of the rows, crops, flips and dropout of an epoch follow from the seed and the number of the epoch.
So a checkpoint contains the state after an epoch, and no random numbers: see `checkpoints.py`.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from time import perf_counter
from typing import Any, cast

import numpy as np
import torch
from accelerate import Accelerator
from torch import Tensor, nn
from torch.amp import GradScaler

from tier4k.extract.encoders.choices import Precision
from tier4k.extract.encoders.image_network import ImageNetwork
from tier4k.extract.pipeline.arithmetic import arithmetic
from tier4k.heads.data.splits import Split
from tier4k.heads.finetuning.batches import Batch, Batches, pinned, prefetched
from tier4k.heads.finetuning.checkpoints import (
    LAST,
    TrainingState,
    read_last,
    readable,
    write_best,
    write_last,
)
from tier4k.heads.finetuning.distributed import gather_numbers
from tier4k.heads.finetuning.errors import DivergedError, FinetuningError
from tier4k.heads.finetuning.features import fused_rows
from tier4k.heads.finetuning.history import History
from tier4k.heads.finetuning.hyperparameters import FinetuningHyperparameters, learning_rate_factor
from tier4k.heads.finetuning.moving_average import MovingAverage
from tier4k.heads.finetuning.network import TierNetwork, estimator_of
from tier4k.heads.finetuning.parameters import parameter_groups, set_training_mode

OPTIMIZERS: dict[str, Any] = {"adam": torch.optim.Adam, "adamw": torch.optim.AdamW}


@dataclass(frozen=True)
class MicroBatch:
    """Rows that go through the network at once.

    Attributes:
        batch: Inputs of the rows.
        scores: (B,) scores of the rows.
        weight: Weight of each row in the step's mean.
    """

    batch: Batch
    scores: Tensor
    weight: float

    def to(self, device: torch.device) -> "MicroBatch":
        """Return the same rows on another device; pinned memory is copied without waiting."""
        return replace(self, batch=self.batch.to(device), scores=self.scores.to(device, non_blocking=True))

    def pin_memory(self) -> "MicroBatch":
        """Return the rows in pinned memory, from which a GPU copies by itself."""
        return replace(self, batch=self.batch.pin_memory(), scores=self.scores.pin_memory())


class Trainer:
    """Trains one head and its encoders on one target of one split.

    Args:
        network: The network, with the weights that training starts from.
        batches: Makes the batches of the network.
        scores: Scores (N,) of the target.
        split: Training, validation and test rows.
        hyperparameters: Hyperparameters of the training.
        accelerator: The accelerator of this process; several processes share each batch.
        folder: Folder of the checkpoints.

    Attributes:
        history: The record of the epochs so far.
        steps_per_epoch: Steps of an epoch.
    """

    def __init__(
        self,
        network: TierNetwork,
        batches: Batches,
        scores: np.ndarray,
        split: Split,
        hyperparameters: FinetuningHyperparameters,
        accelerator: Accelerator,
        folder: Path,
    ) -> None:
        self.batches = batches
        self.scores = scores
        self.split = split
        self.hyperparameters = hyperparameters
        self.accelerator = accelerator
        self.folder = folder
        self.history = History()
        self.steps_per_epoch = -(-len(split.train) // hyperparameters.batch_size)
        if isinstance(network.images, ImageNetwork) and not hyperparameters.channels_last:
            network.images.channels_first()
        self.network = network.to(accelerator.device)
        groups = parameter_groups(self.network, hyperparameters)
        set_training_mode(self.network, hyperparameters)
        self.parameters = [parameter for group in groups for parameter in group["params"]]
        self.optimizer = OPTIMIZERS[hyperparameters.optimizer](
            groups,
            lr=0.0,
            weight_decay=hyperparameters.weight_decay,
            fused=True,
        )
        average = hyperparameters.average
        self.averaged = MovingAverage(self.network, average) if average else None
        self.scaler = GradScaler(accelerator.device.type, enabled=hyperparameters.precision == "fp16")
        self.model = accelerator.prepare_model(self.network)

    @property
    def evaluated(self) -> TierNetwork:
        """The network to evaluate and keep: the moving average of the weights, if there is one."""
        return self.averaged.network if self.averaged else self.network

    @property
    def stops_early(self) -> bool:
        """Whether `patience` epochs have passed without a better validation loss."""
        if not len(self.split.validation):
            return False
        return self.history.epochs - self.history.best_epoch >= self.hyperparameters.patience

    @property
    def has_ended(self) -> bool:
        """Whether no epoch is left to train."""
        return self.history.epochs >= self.hyperparameters.max_epochs or self.stops_early

    def run(self, stepped: Callable[[int], None] = lambda _: None) -> History:
        """Train to the end, from the last checkpoint if there is one.

        Args:
            stepped: Called with the number of finished steps.

        Raises:
            FinetuningError: A checkpoint is damaged, or training diverged.
            StoreError: A checkpoint cannot be written.
        """
        self._restore()
        while not self.has_ended:
            self._epoch(self.history.epochs + 1, stepped)
        return self.history

    def _epoch(self, epoch: int, stepped: Callable[[int], None]) -> None:
        start = perf_counter()
        order = np.random.default_rng([self.split.seed, epoch]).permutation(self.split.train)
        squared_error = torch.zeros((), dtype=torch.float64, device=self.accelerator.device)
        precision = cast(Precision, self.hyperparameters.precision)
        with self._seeded(epoch), arithmetic(precision, self.accelerator.device):
            steps = prefetched(self._steps(order, epoch))
            for number, micro_batches in enumerate(steps, (epoch - 1) * self.steps_per_epoch):
                squared_error += self._step(micro_batches, number)
                stepped(number + 1)
        training_loss = float(self.accelerator.reduce(squared_error, "sum")) / len(order)
        self._require_finite("training loss", training_loss)
        self._evaluate(training_loss)
        self.history.seconds.append(perf_counter() - start)
        self._save()

    @contextmanager
    def _seeded(self, epoch: int) -> Iterator[None]:
        """Seed an epoch's dropout; torch's random numbers are restored afterwards."""
        device = self.accelerator.device
        seeds = np.random.default_rng([self.split.seed, epoch, self.accelerator.process_index])
        with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
            torch.manual_seed(int(seeds.integers(2**31)))
            yield

    def _steps(self, order: np.ndarray, epoch: int) -> Iterator[list[MicroBatch]]:
        size = self.hyperparameters.batch_size
        for first in range(0, len(order), size):
            yield self._micro_batches(order[first : first + size], epoch)

    def _micro_batches(self, numbers: np.ndarray, epoch: int) -> list[MicroBatch]:
        """Return this process's share of a step's rows, divided into micro batches."""
        own_rows = numbers[self.accelerator.process_index :: self.accelerator.num_processes]
        weight = 1.0 / len(numbers)
        if not len(own_rows):
            # A process without a row still exchanges gradients, so it takes one row with weight 0.
            own_rows = numbers[:1]
            weight = 0.0
        size = self.hyperparameters.micro_batch or len(own_rows)
        micro_batches: list[MicroBatch] = []
        for first in range(0, len(own_rows), size):
            rows = own_rows[first : first + size]
            scores = torch.from_numpy(self.scores[rows].astype(np.float32))
            micro_batch = MicroBatch(self.batches.of(rows, epoch), scores, weight)
            micro_batches.append(pinned(micro_batch, self.accelerator.device))
        return micro_batches

    def _step(self, micro_batches: Sequence[MicroBatch], number: int) -> Tensor:
        """Update once; return the sum of this process's squared errors before the update, () float64.

        No step reads a number from the device, because the device would then wait for the next step.
        """
        total = torch.zeros((), dtype=torch.float64, device=self.accelerator.device)
        last_place = len(micro_batches) - 1
        for place, micro_batch in enumerate(micro_batches):
            # Gradients are exchanged once a step, after the last micro batch.
            gradient_exchange = nullcontext() if place == last_place else self.accelerator.no_sync(self.model)
            with gradient_exchange:
                total += self._backward(micro_batch.to(self.accelerator.device))
        self._update(number)
        return total

    def _backward(self, micro_batch: MicroBatch) -> Tensor:
        """Add the gradients of a micro batch; return the sum of the squared errors, () float64."""
        predicted = self.model(micro_batch.batch)
        errors = (predicted - micro_batch.scores).square().sum()
        # Gradients are averaged over processes; this factor makes them the gradients of the mean over
        # the step's rows.
        self.scaler.scale(errors * (micro_batch.weight * self.accelerator.num_processes)).backward()
        return errors.detach().double() * (micro_batch.weight > 0)

    def _update(self, number: int) -> None:
        self.scaler.unscale_(self.optimizer)
        if self.hyperparameters.gradient_clip:
            nn.utils.clip_grad_norm_(self.parameters, self.hyperparameters.gradient_clip)
        steps = self.steps_per_epoch * self.hyperparameters.max_epochs
        factor = learning_rate_factor(self.hyperparameters, number, steps)
        for group in self.optimizer.param_groups:
            group["lr"] = group["rate"] * factor
        # The fused optimizer itself skips the step if a scaled gradient has overflowed.
        self.scaler.step(self.optimizer)
        self.scaler.update()
        self.optimizer.zero_grad(set_to_none=True)
        if self.averaged:
            self.averaged.update(self.network)

    def _evaluate(self, training_loss: float) -> None:
        """Predict validation and test rows with the current weights, and record the epoch."""
        validation = self.split.validation
        predicted = self._predict(np.concatenate([validation, self.split.test]))
        validation_loss = math.nan
        if len(validation):
            errors = predicted[: len(validation)] - self.scores[validation]
            validation_loss = float(np.mean(errors**2))
        self.history.training_loss.append(training_loss)
        self.history.validation_loss.append(validation_loss)
        self.history.predictions.append(predicted)

    def _predict(self, rows: np.ndarray) -> np.ndarray:
        network = self.evaluated
        network.eval()
        fused = fused_rows(network.images, network.texts, self.batches, rows, self.accelerator)
        set_training_mode(self.network, self.hyperparameters)
        self._require_finite("features", fused)
        predicted = estimator_of(network.head).predict(fused)
        self._require_finite("predictions", predicted)
        return predicted

    def _require_finite(self, name: str, values: float | np.ndarray) -> None:
        if np.isfinite(values).all():
            return
        verb = "is" if isinstance(values, float) else "are"
        remedy = "Use a smaller --learning-rate"
        if self.hyperparameters.precision == "fp16":
            remedy += ", or --precision bf16, which has a larger range than fp16"
        raise DivergedError(
            f"training diverged in epoch {self.history.epochs + 1}: the {name} {verb} not finite. {remedy}."
        )

    @property
    def _state(self) -> TrainingState:
        return TrainingState(self.network, self.averaged, self.optimizer, self.scaler)

    def _save(self) -> None:
        if self.accelerator.is_main_process:
            if self.history.best_epoch == self.history.epochs:
                write_best(self.folder, self.evaluated)
            write_last(self.folder, self.history, None if self.has_ended else self._state)
        self.accelerator.wait_for_everyone()

    def _restore(self) -> None:
        checkpoint = read_last(self.folder)
        if checkpoint:
            self.history, tensors = checkpoint
            with readable(self.folder / LAST):
                if not self.has_ended:
                    self._state.load(tensors)
        epochs = gather_numbers(self.accelerator, self.history.epochs)
        if len(set(epochs)) > 1:
            raise FinetuningError(
                f"the processes found checkpoints of different epochs {epochs}: "
                "pass an --out folder that all machines share"
            )
