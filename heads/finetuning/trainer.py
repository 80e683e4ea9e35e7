"""End-to-end training of one head and its encoders, which goes on where a killed one stood.

Whatever an epoch needs follows from the seed and its number: the order of the rows, crops and flips, dropout. A checkpoint is therefore
the weights, the optimiser's moments, the moving average and what is known of the epochs so far, in one .safetensors file.
"""

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from time import perf_counter
from typing import Any, cast

import numpy as np
import torch
from accelerate import Accelerator
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn
from torch.utils.checkpoint import checkpoint
from transformers.modeling_layers import GradientCheckpointingLayer

from tier4k.cache.atomic import publish
from tier4k.cache.store import writing
from tier4k.extract.encoders.image_network import ImageNetwork
from tier4k.extract.encoders.text_network import TextNetwork
from tier4k.heads.data.splits import Split
from tier4k.heads.finetuning.batches import Batch, Batches, prefetched
from tier4k.heads.finetuning.distributed import broadcast
from tier4k.heads.finetuning.network import TierNetwork, fused_rows
from tier4k.heads.finetuning.recipe import FinetuneError, FinetuneRecipe
from tier4k.heads.regressors.mlp.estimator import WEIGHT_NAMES, MLPHead
from tier4k.heads.regressors.mlp.recipe import SCHEDULES

OPTIMIZERS: dict[str, Any] = {"adam": torch.optim.Adam, "adamw": torch.optim.AdamW}

LAST, BEST = "last.safetensors", "best.safetensors"


class DivergedError(FinetuneError):
    """Training whose losses or predictions are no numbers any more."""


@dataclass
class History:
    """What is known of a training so far, one entry for each epoch.

    Attributes:
        training_loss: Mean squared error over the epoch's steps, each before its update.
        validation_loss: The same on the validation rows after the epoch; NaN without them.
        predictions: Scores (V + M,) of the validation and the test rows after the epoch.
        seconds: Time that the epoch took, with its evaluation.
    """

    training_loss: list[float]
    validation_loss: list[float]
    predictions: list[np.ndarray]
    seconds: list[float]

    @property
    def epochs(self) -> int:
        """How many epochs are over."""
        return len(self.training_loss)

    @property
    def best_epoch(self) -> int:
        """The epoch with the best validation loss, from 1, the later of equals; the last one where none is known to be better."""
        if not np.isfinite(self.validation_loss).any():
            return self.epochs
        reversed_losses = self.validation_loss[::-1]
        return self.epochs - int(np.nanargmin(reversed_losses))

    def tensors(self) -> dict[str, Tensor]:
        """What a checkpoint keeps of it."""
        values = {
            "training_loss": self.training_loss,
            "validation_loss": self.validation_loss,
            "seconds": self.seconds,
        }
        out = {
            f"course.{name}": torch.tensor(numbers, dtype=torch.float64) for name, numbers in values.items()
        }
        return out | {"course.predictions": torch.from_numpy(np.array(self.predictions, np.float64))}

    @classmethod
    def of(cls, tensors: dict[str, Tensor]) -> "History":
        """From a checkpoint."""
        values = {
            name.removeprefix("course."): tensor
            for name, tensor in tensors.items()
            if name.startswith("course.")
        }
        predictions = list(values.pop("predictions").numpy())
        return cls(predictions=predictions, **{name: tensor.tolist() for name, tensor in values.items()})


class Training:
    """One head and its encoders, trained on one target of one split.

    Args:
        network: With the weights that training starts from.
        batches: Makes its batches.
        scores: (N,) of the target.
        split: Rows of each part.
        recipe: How to train.
        accelerator: Of this process; several processes share each batch.
        folder: Of the checkpoints.
    """

    def __init__(
        self,
        network: TierNetwork,
        batches: Batches,
        scores: np.ndarray,
        split: Split,
        recipe: FinetuneRecipe,
        accelerator: Accelerator,
        folder: Path,
    ) -> None:
        self.batches, self.scores, self.split, self.recipe = batches, scores, split, recipe
        self.accelerator, self.folder = accelerator, folder
        if isinstance(network.images, ImageNetwork) and not recipe.channels_last:
            network.images.channels_first()
        self.network = network.to(accelerator.device)
        groups = parameter_groups(self.network, recipe)
        set_mode(self.network, recipe)
        self.parameters = [parameter for group in groups for parameter in group["params"]]
        self.optimizer = OPTIMIZERS[recipe.optimizer](
            groups, lr=0.0, weight_decay=recipe.weight_decay, fused=True
        )
        self.averaged = (
            AveragedModel(self.network, multi_avg_fn=get_ema_multi_avg_fn(recipe.average))
            if recipe.average
            else None
        )
        self.model = accelerator.prepare_model(self.network)
        self.steps = -(-len(split.train) // recipe.batch_size)
        self.course = History([], [], [], [])

    @property
    def ended(self) -> bool:
        """Whether no epoch is left to do."""
        done, judged = self.course.epochs, len(self.split.validation) > 0
        return done >= self.recipe.max_epochs or (
            judged and done - self.course.best_epoch >= self.recipe.patience
        )

    def run(self, stepped: Callable[[int], None] = lambda _: None) -> History:
        """Train to the end, from the last checkpoint where there is one.

        Args:
            stepped: Called with the number of steps that are over.

        Raises:
            FinetuneError: A checkpoint is damaged, or training diverged.
            StoreError: No room for a checkpoint.
        """
        self._restore()
        while not self.ended:
            self._epoch(self.course.epochs + 1, stepped)
        return self.course

    def _epoch(self, epoch: int, stepped: Callable[[int], None]) -> None:
        start = perf_counter()
        order = np.random.default_rng([self.split.seed, epoch]).permutation(self.split.train)
        size, total = self.recipe.batch_size, 0.0
        cuda = [self.accelerator.device] if self.accelerator.device.type == "cuda" else []
        with torch.random.fork_rng(devices=cuda):
            torch.manual_seed(
                int(
                    np.random.default_rng([self.split.seed, epoch, self.accelerator.process_index]).integers(
                        2**31
                    )
                )
            )
            steps = (
                [*self._parts(order[first : first + size], epoch)] for first in range(0, len(order), size)
            )
            for number, parts in enumerate(prefetched(steps)):
                total += self._step(parts, (epoch - 1) * self.steps + number)
                stepped((epoch - 1) * self.steps + number + 1)
        loss = float(
            self.accelerator.reduce(
                torch.tensor(total, dtype=torch.float64, device=self.accelerator.device), "sum"
            )
        ) / len(order)
        self._require_finite("training loss", loss)
        self._judge(loss)
        self.course.seconds.append(perf_counter() - start)
        self._save()

    def _parts(self, numbers: np.ndarray, epoch: int) -> Iterator["Part"]:
        """What this process does of one step, in the pieces that go through the network at once."""
        mine = numbers[self.accelerator.process_index :: self.accelerator.num_processes]
        # A process for which no row is left takes part in the exchange of gradients with nothing.
        weight = (1.0 if len(mine) else 0.0) / len(numbers)
        mine = mine if len(mine) else numbers[:1]
        size = self.recipe.micro_batch or len(mine)
        for first in range(0, len(mine), size):
            rows = mine[first : first + size]
            yield Part(
                self.batches.of(rows, epoch), torch.from_numpy(self.scores[rows].astype(np.float32)), weight
            )

    def _step(self, parts: list["Part"], number: int) -> float:
        """Update once; the squared errors of this process before it, summed."""
        device, total = self.accelerator.device, 0.0
        for place, part in enumerate(parts):
            waits = self.accelerator.no_sync(self.model) if place + 1 < len(parts) else nullcontext()
            with waits:
                errors = (self.model(part.batch.to(device)) - part.scores.to(device)).square().sum()
                # Gradients are averaged over processes; with this factor they become those of the mean over the step's rows.
                (errors * (part.weight * self.accelerator.num_processes)).backward()
            total += float(errors.detach()) * (part.weight > 0)
        if self.recipe.gradient_clip:
            nn.utils.clip_grad_norm_(self.parameters, self.recipe.gradient_clip)
        factor = rate_factor(self.recipe, number, self.steps * self.recipe.max_epochs)
        for group in self.optimizer.param_groups:
            group["lr"] = group["rate"] * factor
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        if self.averaged:
            self.averaged.update_parameters(self.network)
        return total

    @property
    def evaluated(self) -> TierNetwork:
        """The network that is evaluated and kept."""
        return cast(TierNetwork, self.averaged.module) if self.averaged else self.network

    def _judge(self, loss: float) -> None:
        """Predict validation and test rows with the weights of now."""
        network, held = self.evaluated, self.split.validation
        network.eval()
        rows = np.concatenate([held, self.split.test])
        fused = fused_rows(network.images, network.texts, self.batches, rows, self.accelerator)
        set_mode(self.network, self.recipe)
        self._require_finite("features", fused)
        predicted = head_of(network).predict(fused)
        self._require_finite("predictions", predicted)
        self.course.training_loss.append(loss)
        errors = predicted[: len(held)] - self.scores[held]
        self.course.validation_loss.append(float(np.mean(errors**2)) if len(held) else math.nan)
        self.course.predictions.append(predicted)

    def _require_finite(self, what: str, values: float | np.ndarray) -> None:
        if not np.isfinite(values).all():
            told = f"its {what} {'is' if isinstance(values, float) else 'are'} not finite"
            raise DivergedError(
                f"training diverged in epoch {self.course.epochs + 1}: {told}. Use a smaller --learning-rate."
            )

    def _save(self) -> None:
        if self.accelerator.is_main_process:
            if self.course.best_epoch == self.course.epochs:
                self._publish(BEST, self.evaluated.state_dict())
            state = {f"network.{name}": tensor for name, tensor in self.network.state_dict().items()}
            if self.averaged:
                state |= {f"average.{name}": tensor for name, tensor in self.averaged.state_dict().items()}
            for number, values in self.optimizer.state_dict()["state"].items():
                state |= {f"optimizer.{number}.{name}": tensor for name, tensor in values.items()}
            self._publish(LAST, {} if self.ended else state)
        self.accelerator.wait_for_everyone()

    def _publish(self, name: str, tensors: dict[str, Tensor]) -> None:
        course = self.course.tensors() if name == LAST else {}
        kept = {key: tensor.detach().cpu().contiguous() for key, tensor in (tensors | course).items()}
        with writing(self.folder):
            publish(self.folder / name, lambda path: save_file(kept, path))

    def _restore(self) -> None:
        self._read(self.folder / LAST)
        if len(set(known := broadcast(self.accelerator, self.course.epochs))) > 1:
            raise FinetuneError(
                f"the processes find checkpoints of different epochs {known}: give an --out that all machines share"
            )

    def _read(self, path: Path) -> None:
        if not path.exists():
            return
        with readable(path):
            tensors = load_file(path)
            self.course = History.of(tensors)
            if self.ended:
                return
            self.network.load_state_dict(below(tensors, "network."))
            if self.averaged:
                self.averaged.load_state_dict(below(tensors, "average."))
            self._restore_optimizer(below(tensors, "optimizer."))

    def _restore_optimizer(self, tensors: dict[str, Tensor]) -> None:
        state: dict[int, dict[str, Tensor]] = {}
        for key, tensor in tensors.items():
            number, name = key.split(".", 1)
            # The fused update walks through memory: a moment lies there as its parameter does.
            like = self.parameters[int(number)]
            state.setdefault(int(number), {})[name] = (
                torch.empty_like(like).copy_(tensor) if tensor.shape == like.shape else tensor
            )
        self.optimizer.load_state_dict(
            {"state": state, "param_groups": self.optimizer.state_dict()["param_groups"]}
        )


@dataclass(frozen=True)
class Part:
    """Rows that go through the network at once: their batch, their scores (B,), and the weight of each in the step's mean."""

    batch: Batch
    scores: Tensor
    weight: float


def rate_factor(recipe: FinetuneRecipe, step: int, steps: int) -> float:
    """What learning rates are multiplied with in step `step` of `steps`, from 0: a linear rise, then the schedule."""
    rising = math.ceil(recipe.warmup * steps)
    if step < rising:
        return (step + 1) / rising
    return SCHEDULES[recipe.schedule]((step - rising) / (steps - rising))


def parameter_groups(network: TierNetwork, recipe: FinetuneRecipe) -> list[dict[str, Any]]:
    """What the optimiser is given: every trained parameter with the peak learning rate of its layer; all others are frozen.

    The last layer of an encoder has `learning_rate`, and each layer before it `layer_decay` times that of the next.
    """
    network.requires_grad_(False)
    rates: dict[float, list[nn.Parameter]] = {}
    for encoder in (network.images, network.texts):
        if isinstance(encoder, ImageNetwork | TextNetwork):
            if recipe.recompute:
                _recompute(encoder)
            layers = encoder.layers()
            for above, layer in enumerate(reversed(layers[-(recipe.layers or len(layers)) :])):
                rates.setdefault(recipe.learning_rate * recipe.layer_decay**above, []).extend(layer)
    groups: list[dict[str, Any]] = [
        {"params": parameters, "rate": rate} for rate, parameters in rates.items()
    ]
    groups.append({"params": list(network.head.parameters()), "rate": recipe.head_learning_rate})
    for group in groups:
        for parameter in group["params"]:
            parameter.requires_grad_(True)
    return groups


def set_mode(network: TierNetwork, recipe: FinetuneRecipe) -> None:
    """Put the network into the mode in which it is trained; what is frozen is never in training mode."""
    network.train(recipe.training_mode)
    for module in network.modules():
        parameters = list(module.parameters())
        if parameters and not any(parameter.requires_grad for parameter in parameters):
            module.eval()
        if recipe.recompute and isinstance(module, GradientCheckpointingLayer):
            module.training = (
                True  # of transformers' layers only such recompute; what they hold stays as it is
            )


def _recompute(encoder: ImageNetwork | TextNetwork) -> None:
    try:
        if isinstance(encoder, ImageNetwork):
            encoder.backbone.set_grad_checkpointing(True)
        else:
            # Not the public method: it makes the embeddings ask for gradients, which `last:N` is to be spared.
            encoder.backbone._set_gradient_checkpointing(True, partial(checkpoint, use_reentrant=False))
    except (AssertionError, AttributeError, ValueError) as error:
        name = type(encoder.backbone).__name__
        raise FinetuneError(
            f"{name} cannot compute activations again: leave recompute out; micro_batch saves memory too"
        ) from error


def head_of(network: TierNetwork) -> MLPHead:
    """The head as an estimator of its own."""
    weights = {
        name: tensor.detach().float().cpu().numpy() for name, tensor in network.head.state_dict().items()
    }
    return MLPHead.from_weights({name: weights[name] for name in WEIGHT_NAMES})


def below(tensors: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    """Those whose names begin so, without that beginning."""
    return {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}


@contextmanager
def readable(path: Path) -> Iterator[None]:
    """Turn whatever a damaged checkpoint or one of another training leads to into an error that says what to do.

    Raises:
        FinetuneError: It cannot be used.
    """
    try:
        yield
    except (OSError, SafetensorError, LookupError, TypeError, ValueError, RuntimeError) as error:
        way_out = f"delete {path.parent} and run the same command again"
        raise FinetuneError(f"the checkpoint {path} cannot be read ({error}): {way_out}") from error
