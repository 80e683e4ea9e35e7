"""`fit-head --finetune`: runs the trials of the protocol, and trains the encoders together with each head."""

import shutil
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from accelerate import Accelerator

from tier4k.extract.datasets.choices import Stream
from tier4k.extract.datasets.manifest import Manifest
from tier4k.extract.pipeline.arithmetic import arithmetic, require_precision
from tier4k.heads.data.choices import Method
from tier4k.heads.data.features import FeatureSet, rows_without_features
from tier4k.heads.data.fusion import used_streams
from tier4k.heads.data.splits import Split
from tier4k.heads.encoders.finetuned import UnsavedEncoders
from tier4k.heads.encoders.pair import EncoderPair
from tier4k.heads.encoders.seen_images import require_unseen
from tier4k.heads.evaluation.alignment import ScoredRows, scored_rows
from tier4k.heads.evaluation.trial import Outcome, Trial
from tier4k.heads.finetuning.checkpoints import BEST, best_head, drop_encoders
from tier4k.heads.finetuning.choices import Device
from tier4k.heads.finetuning.distributed import (
    exclusive_folder,
    exists_for_all,
    explain_lost_processes,
    make_accelerator,
)
from tier4k.heads.finetuning.errors import DivergedError
from tier4k.heads.finetuning.history import History
from tier4k.heads.finetuning.hyperparameters import FinetuningHyperparameters
from tier4k.heads.finetuning.initial_network import InitialNetwork
from tier4k.heads.finetuning.inputs import Note, Progress, TrainingInputs
from tier4k.heads.finetuning.recipe import resolve_finetuning
from tier4k.heads.finetuning.trainer import Trainer
from tier4k.heads.metrics.test_rows import TestRows
from tier4k.heads.protocol.options import FitOptions
from tier4k.heads.protocol.plan import Plan, plan_run
from tier4k.heads.protocol.publish import publish_run
from tier4k.heads.regressors.mlp.estimator import MLPHead
from tier4k.heads.results.choices import KeptModels
from tier4k.heads.results.config import Environment
from tier4k.heads.results.find_run import finished_run
from tier4k.heads.results.layout import encoders_folder
from tier4k.heads.results.names import run_name
from tier4k.heads.results.run import Run, read_run
from tier4k.heads.results.write import require_writable


def finetune(
    manifest: Manifest,
    encoders: EncoderPair,
    options: FitOptions,
    out: str | Path = "runs",
    command: Sequence[str] = (),
    device: Device = "auto",
    progress: Progress = lambda *_: None,
    note: Note = lambda _: None,
) -> Run:
    """Train encoders and head together, evaluate them and write a run, in the protocol of `fit_head`.

    A killed training continues after its last epoch.

    Args:
        manifest: All rows of the data set, from `load_manifest`.
        encoders: Encoders that training starts from, from `EncoderPair.find`; those that no stream uses are
            left out.
        options: Options of the fit: `finetune` is the part that is trained, such as "all" or "lora:8",
            `training` has the options of the training, `head` those of the head.
        out: Folder of runs; during training it contains `.ID.partial/`.
        command: Command line, recorded in the run.
        device: Device to train on: "cpu", or "auto" for a GPU if there is one.
        progress: Called with (description of the work, amount done, amount in all).
        note: Called with notes about the weights of the image encoder, each time that they are loaded.

    Raises:
        TierError: The options do not fit each other or the data, or training cannot continue.
    """
    options = options.for_rows(manifest)
    encoders = encoders.for_streams(used_streams(options.method, options.streams))
    plan = plan_run(manifest, encoders, options, resolve_finetuning(options, encoders.architecture))
    out = Path(out)
    require_unseen(plan.manifest, plan.splits, *encoders.all)
    accelerator = make_accelerator(device)
    name = run_name(plan.config)
    folder = finished_run(out, plan.config) or out / name
    partial = out / f".{name}.partial"
    with explain_lost_processes(accelerator):
        run_exists = exists_for_all(accelerator, folder)
        if not run_exists:
            require_precision(plan.config.finetune["precision"], accelerator.device)
            require_writable(out)
            with exclusive_folder(accelerator, partial):
                finetuning = Finetuning.of(plan, encoders, partial, accelerator, progress, note)
                _train_and_publish(finetuning, plan, out, command)
        if accelerator.is_main_process:
            # A process that was killed after publishing the run has left checkpoints.
            shutil.rmtree(partial, ignore_errors=True)
        accelerator.wait_for_everyone()
    return read_run(folder, run_exists)


@dataclass(frozen=True)
class Finetuning:
    """The end-to-end trainings of one run.

    Attributes:
        manifest: The rows that the run uses.
        encoders: Encoders that training starts from.
        method: The fusion of image and text features.
        streams: The streams of the method that the head uses; an empty tuple for all.
        hyperparameters: Hyperparameters of the training.
        head: Options of the head: the width, and for a warm head how to fit it on the encoders' features.
        models: Which trained encoders to keep.
        folder: Folder of the checkpoints; training continues from those that exist.
        accelerator: The accelerator of this process.
        progress: Called with (description of the work, amount done, amount in all).
        note: Called with notes about the weights of the image encoder.
    """

    manifest: Manifest
    encoders: EncoderPair
    method: Method
    streams: tuple[Stream, ...]
    hyperparameters: FinetuningHyperparameters
    head: dict[str, Any]
    models: KeptModels
    folder: Path
    accelerator: Accelerator
    progress: Progress = lambda *_: None
    note: Note = lambda _: None

    @classmethod
    def of(
        cls,
        plan: Plan,
        encoders: EncoderPair,
        folder: Path,
        accelerator: Accelerator,
        progress: Progress,
        note: Note,
    ) -> "Finetuning":
        """Return the trainings of a plan; only this method reads the run's configuration."""
        return cls(
            manifest=plan.manifest,
            encoders=encoders,
            method=plan.method,
            streams=plan.streams,
            hyperparameters=FinetuningHyperparameters(**plan.config.finetune),
            head=plan.config.head,
            models=plan.config.models,
            folder=folder,
            accelerator=accelerator,
            progress=progress,
            note=note,
        )

    def trials(
        self,
        features: FeatureSet,
        targets: Sequence[str],
        splits: Sequence[Split],
    ) -> list[Trial]:
        """Train and evaluate one head with its encoders for every target and repeat.

        Only rows with a score for the target take part.

        Args:
            features: Names, groups, generators and scores of the rows.
            targets: Names of the targets to train on.
            splits: The split of each repeat.

        Raises:
            TierError: An image, the encoders' weights or a checkpoint is damaged, or training diverged.
        """
        trials: list[Trial] = []
        for target in targets:
            for repeat, split in enumerate(splits):
                rows = scored_rows(features, target, split)
                with arithmetic("fp32", self.accelerator.device):
                    outcome = self._outcome(features, target, repeat, rows)
                trials.append(Trial.of(features, target, repeat, split, outcome))
        return trials

    def _outcome(
        self,
        features: FeatureSet,
        target: str,
        repeat: int,
        rows: ScoredRows,
    ) -> Outcome:
        folder = encoders_folder(self.folder, target, repeat)
        history = self._train(rows.scores, rows.split, folder, f"finetune {target}, repeat {repeat + 1}")
        head = best_head(folder)
        encoders = self._kept_encoders(folder, repeat, rows.split)
        return _outcome_of(history, head, encoders, features, rows)

    def _train(
        self,
        scores: np.ndarray,
        split: Split,
        folder: Path,
        description: str,
    ) -> History:
        network, batches = self._initial_network.build(scores, split)
        trainer = Trainer(network, batches, scores, split, self.hyperparameters, self.accelerator, folder)
        total = self.hyperparameters.max_epochs * trainer.steps_per_epoch
        history = trainer.run(lambda done: self.progress(description, done, total))
        self.accelerator.free_memory()  # the accelerator keeps every network that it prepared
        return history

    @cached_property
    def _initial_network(self) -> InitialNetwork:
        inputs = TrainingInputs(
            manifest=self.manifest,
            encoders=self.encoders,
            method=self.method,
            streams=self.streams,
            accelerator=self.accelerator,
            progress=self.progress,
            note=self.note,
        )
        return InitialNetwork(inputs, self.hyperparameters, self.head)

    def _kept_encoders(
        self,
        folder: Path,
        repeat: int,
        split: Split,
    ) -> UnsavedEncoders | None:
        """Return the trained encoders if the run keeps them; else drop the encoders from the checkpoint."""
        self.accelerator.wait_for_everyone()  # every process has read the head
        if self.models == "all" or (self.models == "first" and repeat == 0):
            seen_rows = np.concatenate([split.train, split.validation])
            keys = self.manifest.table["image_key"].iloc[seen_rows].tolist()
            return UnsavedEncoders(self.encoders, folder / BEST, keys)
        if self.accelerator.is_main_process:
            drop_encoders(folder)
        return None


def _train_and_publish(
    finetuning: Finetuning,
    plan: Plan,
    out: Path,
    command: Sequence[str],
) -> None:
    features = rows_without_features(plan.manifest)
    is_main = finetuning.accelerator.is_main_process
    try:
        trials = finetuning.trials(features, plan.config.targets, plan.splits)
    except DivergedError:
        if is_main:
            # Training that continues from these checkpoints would only diverge again.
            shutil.rmtree(finetuning.folder, ignore_errors=True)
        raise
    if is_main:
        environment = Environment(device=str(finetuning.accelerator.device))
        config = replace(plan.config, environment=environment)
        publish_run(out, config, plan.manifest, command, features, trials, plan.splits)
    finetuning.accelerator.wait_for_everyone()


def _outcome_of(
    history: History,
    head: MLPHead,
    encoders: UnsavedEncoders | None,
    features: FeatureSet,
    rows: ScoredRows,
) -> Outcome:
    seconds = sum(history.seconds)
    validation = rows.split.validation
    if not len(validation):
        return Outcome(
            head,
            history.predictions,
            None,
            seconds,
            encoders=encoders,
            training_loss=history.training_loss,
        )
    tests = [predicted[len(validation) :] for predicted in history.predictions]
    best = history.predictions[history.best_epoch - 1]
    held_out = TestRows(
        features.group[validation],
        features.generator[validation],
        rows.scores[validation],
        best[: len(validation)],
    )
    return Outcome(
        head,
        tests,
        tests[history.best_epoch - 1],
        seconds,
        encoders=encoders,
        held_out=held_out,
        training_loss=history.training_loss,
        validation_loss=history.validation_loss,
    )
