"""`fit-head --finetune`: the protocol's trials with encoders that are trained together with the head."""

import math
import os
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from accelerate import Accelerator
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from tier4k.cache.atomic import publish
from tier4k.cache.store import writing
from tier4k.extract.datasets.manifest import Manifest
from tier4k.extract.encoders.cpu import with_onednn, with_plain_attention
from tier4k.extract.encoders.encoder import ImageEncoder, TextEncoder
from tier4k.extract.encoders.image_network import ImageNetwork
from tier4k.extract.encoders.text_network import TextNetwork
from tier4k.extract.images.memory_map import DecodedImages
from tier4k.extract.pipeline.allocator import keep_all_freed_memory
from tier4k.heads.data.choices import Method
from tier4k.heads.data.features import FeatureSet, rows_alone
from tier4k.heads.data.splits import Split
from tier4k.heads.encoders.finetuned import TrainedEncoders, encoders_folder
from tier4k.heads.evaluation.trial import Outcome, Trial
from tier4k.heads.finetuning.batches import Batches, InputRows
from tier4k.heads.finetuning.choices import Device
from tier4k.heads.finetuning.distributed import exchanging, make_accelerator, shared_folder, visible_to_all
from tier4k.heads.finetuning.network import TierNetwork, fused_rows, image_features, text_features
from tier4k.heads.finetuning.recipe import FinetuneError, FinetuneRecipe, resolve_training
from tier4k.heads.finetuning.trainer import BEST, DivergedError, Training, below, readable
from tier4k.heads.metrics.bootstrap import TestRows
from tier4k.heads.protocol.options import FitOptions
from tier4k.heads.protocol.plan import Plan, plan_run
from tier4k.heads.protocol.publish import Run, publish_run
from tier4k.heads.regressors.mlp.estimator import MLPHead
from tier4k.heads.regressors.mlp.stack import HeadNetwork
from tier4k.heads.results.choices import KeptModels
from tier4k.heads.results.files import require_writable
from tier4k.heads.results.results import Results

PLAIN_ATTENTION_SIZE = 256  # pixels; the memory that it takes grows with the fourth power of the side

THREADS = 8  # that decode pictures, at most

Progress = Callable[[str, int, int], None]


def finetune(
    manifest: Manifest,
    image: ImageEncoder,
    text: TextEncoder,
    options: FitOptions,
    out: Path,
    command: Sequence[str] = (),
    device: Device = "auto",
    progress: Progress = lambda *_: None,
) -> Run:
    """Train encoders and head together, evaluate and write a run, in the protocol of `fit_head`; a killed one goes on where it stood.

    Args:
        manifest: All rows of the data set.
        image, text: Encoders that training starts from.
        options: What to train.
        out: Folder of runs; while training goes on it holds `.<id>.partial/`.
        command: Command line, recorded.
        device: Where to train.
        progress: Called with what is being done, how much of it is, and how much there is.

    Raises:
        TierError: The options do not fit each other or the data, or training cannot go on.
    """
    training = resolve_training(options, image.signature.architecture)
    plan = plan_run(manifest, image, text, options, training)
    accelerator = make_accelerator(device)
    folder, partial = out / plan.config.id, out / f".{plan.config.id}.partial"
    with exchanging(accelerator):
        found = visible_to_all(accelerator, folder)
        if not found:
            require_writable(out)
            with shared_folder(accelerator, partial):
                recipe, config = FinetuneRecipe(**plan.config.finetune), plan.config
                method, head, models = options.method, config.head, config.models
                training = Finetuning(
                    plan.manifest, image, text, method, recipe, head, models, partial, accelerator, progress
                )
                _train_and_publish(training, plan, out, command)
        if accelerator.is_main_process:
            shutil.rmtree(
                partial, ignore_errors=True
            )  # also what is left of a process that was killed after it had published
        accelerator.wait_for_everyone()
    return Run(folder, Results.read(folder), found)


def _train_and_publish(training: "Finetuning", plan: Plan, out: Path, command: Sequence[str]) -> None:
    features, main = rows_alone(plan.manifest), training.accelerator.is_main_process
    try:
        trials = training.trials(features, plan.config.targets, plan.splits)
    except DivergedError:
        if main:
            shutil.rmtree(training.folder, ignore_errors=True)  # the same command would only end there again
        raise
    if main:
        publish_run(out, plan.config, plan.manifest, command, features, trials, plan.splits)
    training.accelerator.wait_for_everyone()


@dataclass(frozen=True)
class Finetuning:
    """The trainings of one run.

    Attributes:
        manifest: InputRows of the benchmark.
        image, text: Encoders that training starts from.
        method: What is fused.
        recipe: How to train.
        head: Options of the head: its width, and how it is fitted on the encoders' features where the recipe starts from such a fit.
        models: Which trained encoders to keep.
        folder: Of the checkpoints, gone on with where they are there.
        accelerator: Of this process.
        progress: Called with what is being done, how much of it is, and how much there is.
    """

    manifest: Manifest
    image: ImageEncoder
    text: TextEncoder
    method: Method
    recipe: FinetuneRecipe
    head: dict[str, Any]
    models: KeptModels
    folder: Path
    accelerator: Accelerator
    progress: Progress = lambda *_: None

    def trials(self, features: FeatureSet, targets: Sequence[str], splits: Sequence[Split]) -> list[Trial]:
        """Train and judge one head with its encoders for every target and repeat.

        Args:
            features: The rows' names, groups, generators and scores.
            targets: Names of targets.
            splits: One for each repeat.

        Raises:
            TierError: A picture, the encoders' weights or a checkpoint is damaged, or training diverged.
        """
        keep_all_freed_memory()
        return [
            Trial.of(features, target, repeat, split, self._outcome(features, target, repeat, split))
            for target in targets
            for repeat, split in enumerate(splits)
        ]

    def _outcome(self, features: FeatureSet, target: str, repeat: int, split: Split) -> Outcome:
        scores, folder = features.scores(target), encoders_folder(self.folder, target, repeat)
        network, batches = self._start(scores, split)
        training = Training(network, batches, scores, split, self.recipe, self.accelerator, folder)
        total, what = self.recipe.max_epochs * training.steps, f"finetune {target}, repeat {repeat + 1}"
        course = training.run(lambda done: self.progress(what, done, total))
        self.accelerator.free_memory()  # it holds on to every network that it prepared
        head, kept = best_head(folder), self.models == "all" or (self.models == "first" and repeat == 0)
        self.accelerator.wait_for_everyone()
        if self.accelerator.is_main_process and not kept:
            _forget_encoders(folder)
        table, seen = self.manifest.table, np.concatenate([split.train, split.validation])
        keys = table["image_key"].iloc[seen].tolist()
        encoders = TrainedEncoders(self.image, self.text, folder / BEST, keys) if kept else None
        held, seconds = split.validation, sum(course.seconds)
        if not len(held):
            return Outcome(
                head, course.predictions, None, seconds, encoders, training_loss=course.training_loss
            )
        tests = [predicted[len(held) :] for predicted in course.predictions]
        best = course.predictions[course.best_epoch - 1][: len(held)]
        rows = TestRows(features.group[held], scores[held], best)
        chosen = tests[course.best_epoch - 1]
        return Outcome(
            head, tests, chosen, seconds, encoders, rows, course.training_loss, course.validation_loss
        )

    def _start(self, scores: np.ndarray, split: Split) -> tuple[TierNetwork, Batches]:
        """The network before training, and what makes its batches."""
        recipe, device = self.recipe, self.accelerator.device
        images = (
            with_onednn(ImageNetwork.of(self.image)).to(device) if recipe.trains("image") else nn.Identity()
        )
        texts = with_onednn(TextNetwork.of(self.text)).to(device) if recipe.trains("text") else nn.Identity()
        if (
            recipe.precision == "bf16"
            and device.type == "cpu"
            and (self.image.preprocessing.size or math.inf) <= PLAIN_ATTENTION_SIZE
        ):
            images = with_plain_attention(images)
        by_batch = recipe.training_mode and _has_batch_norm(images)
        if by_batch:
            _require_whole_batches(recipe, self.accelerator.num_processes)
        batches = Batches(
            self.rows,
            self.decoded if recipe.trains("image") else self.features[0],
            texts if isinstance(texts, TextNetwork) else self.features[1],
            self.method,
            recipe.augment,
            shared=not by_batch,
            seed=split.seed,
        )
        head = (
            self._warm_head(scores, split)
            if recipe.warm_head
            else self._random_head(images, texts, batches, split.seed)
        )
        return TierNetwork(images, texts, head, self.method, recipe.precision == "bf16"), batches

    def _random_head(self, images: nn.Module, texts: nn.Module, batches: Batches, seed: int) -> HeadNetwork:
        width = fused_rows(images, texts, batches, np.arange(1), self.accelerator).shape[1]
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(seed)
            return HeadNetwork(width, self.head["hidden"])

    def _warm_head(self, scores: np.ndarray, split: Split) -> HeadNetwork:
        """The head that is fitted on the features of the encoders as they are, with the options of `--finetune none`."""
        pictures, texts = self.features
        batches = Batches(self.rows, pictures, texts, self.method, augment=False, shared=True, seed=0)
        fused = fused_rows(nn.Identity(), nn.Identity(), batches, np.arange(len(scores)), self.accelerator)
        held = (fused[split.validation], scores[split.validation]) if len(split.validation) else None
        fitted = MLPHead(**self.head, random_state=split.seed).fit(
            fused[split.train], scores[split.train], held
        )
        hidden, width = fitted.weights_["fc1.weight"].shape
        network = HeadNetwork(width, hidden)
        network.load_state_dict({name: torch.from_numpy(values) for name, values in fitted.weights_.items()})
        return network

    @cached_property
    def rows(self) -> InputRows:
        """The rows by the numbers of their inputs."""
        return InputRows.of(self.manifest)

    @cached_property
    def decoded(self) -> DecodedImages:
        """Every picture, decoded."""
        threads = min(os.cpu_count() or 1, THREADS)
        return DecodedImages(
            self.manifest.pictures(),
            self.image.preprocessing,
            threads,
            lambda done, total: self.progress("decode pictures", done, total),
        )

    @cached_property
    def features(self) -> tuple[Tensor, Tensor]:
        """Features of all pictures (P, D) and prompts (T, D) by the encoders as they are."""
        device = self.accelerator.device
        images, texts = (
            ImageNetwork.of(self.image).frozen("fp32").to(device),
            TextNetwork.of(self.text).frozen("fp32").to(device),
        )
        wanted = np.unique(
            self.rows.image if self.method == "nr" else np.append(self.rows.image, self.rows.image_prompt)
        )
        pictures = image_features(images, self.decoded, wanted[wanted >= 0], self.accelerator)
        return pictures, text_features(texts, texts, self.rows.texts, np.arange(len(self.rows.texts)), device)


def best_head(folder: Path) -> MLPHead:
    """The head of the best epoch of a finished training.

    Raises:
        FinetuneError: The checkpoint is missing or damaged.
    """
    with readable(folder / BEST):
        tensors = below(load_file(folder / BEST), "head.")
        return MLPHead.from_weights({name: values.numpy() for name, values in tensors.items()})


def _forget_encoders(folder: Path) -> None:
    head = {name: tensor for name, tensor in load_file(folder / BEST).items() if name.startswith("head.")}
    with writing(folder):
        publish(folder / BEST, lambda path: save_file(head, path))


def _require_whole_batches(recipe: FinetuneRecipe, processes: int) -> None:
    """Refuse what would give batch normalisation in training mode other statistics than those of every batch, once."""
    parted = {
        "micro_batch": 0 < recipe.micro_batch < recipe.batch_size,
        "recompute": recipe.recompute,
        "several processes": processes > 1,
    }
    if wrong := [name for name, there in parted.items() if there]:
        raise FinetuneError(
            f"batch normalisation in training mode takes its statistics from each batch, and {' and '.join(wrong)} would give others: "
            "leave that out, or give --set training_mode=false"
        )


def _has_batch_norm(network: nn.Module) -> bool:
    return any(isinstance(module, nn.modules.batchnorm._BatchNorm) for module in network.modules())
