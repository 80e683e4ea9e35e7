"""What the program computes from stored features, from options to metrics, on the rows of `golden_rows`."""

import tempfile
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import timm
import torch

from tier4k.extract.datasets.check import check
from tier4k.extract.encoders.encoder import ImageEncoder, TextEncoder
from tier4k.extract.encoders.find import find_text_encoder
from tier4k.extract.encoders.presets import image_preset
from tier4k.extract.images.preprocessing import reference
from tier4k.extract.weights.files import file_weights
from tier4k.heads.data.features import FeatureSet
from tier4k.heads.data.fusion import fuse
from tier4k.heads.data.split_request import SplitRequest
from tier4k.heads.data.splits import make_splits, with_seeds
from tier4k.heads.data.stored_splits import StoredSplits, stored_splits
from tier4k.heads.encoders.pair import EncoderPair
from tier4k.heads.evaluation.run_trials import run_trials
from tier4k.heads.evaluation.trial import Trial
from tier4k.heads.finetuning.finetune import finetune
from tier4k.heads.finetuning.recipe import finetuning_recipe
from tier4k.heads.protocol.cross_dataset import calibrate
from tier4k.heads.protocol.fit import fit_head
from tier4k.heads.protocol.options import FitOptions
from tier4k.heads.protocol.zero_shot import ScoreOptions, evaluate_scorer, plan_evaluation
from tier4k.heads.regressors.registry import HEADS, has_epochs, resolve_options
from tier4k.heads.results.read import read_curves, read_predictions
from tier4k.heads.results.run import Run
from tier4k.tests.builders.golden import fill, write_dataset, write_tiny_bert
from tier4k.tests.builders.stores import stores_of
from tier4k.tests.golden import golden_rows

# Closed forms differ by rounding alone, and training carries it on from step to step. Iterations stop before
# they are exact: that of the support vectors at 1e-3, that of the logistic, which some metrics use, at 1e-6.
TOLERANCES = {
    "default options": 0.0,
    "splits": 0.0,
    "fusion": 1e-6,
    "closed forms": 1e-6,
    "trained heads": 1e-4,
    "support vectors": 1e-3,
    "results of a run": 1e-4,
    "zero-shot": 1e-4,
    "finetuning": 1e-3,
}
SEED, REPEATS = 3, 2
METHODS = {"nr": "all", "fr": "I2I", "pr": "all"}
CLOSED_FORMS = ("ridge", "kernel-ridge")
SUPPORT_VECTORS = ("svr", "ensemble")  # the ensemble has an SVR among its members
QUICK = {"hidden": 8, "max_epochs": 2, "batch_size": 16, "learning_rate": 0.01}
# The pairs of a row may cancel in the rank loss. A ReLU that is active in such rows alone has a gradient of
# rounding errors, which Adam enlarges to whole steps; a GELU is active in every row.
SMOOTH = {"activation": "gelu"}
VARIANTS: dict[str, tuple[str, dict[str, Any]]] = {
    "mlp with gelu": ("mlp", QUICK | {"activation": "gelu"}),
    "mlp with silu": ("mlp", QUICK | {"activation": "silu"}),
    "mlp with dropout": ("mlp", QUICK | {"dropout": 0.2}),
    "mlp with adam": ("mlp", QUICK | {"optimizer": "adam", "schedule": "constant"}),
    "mlp on raw features": ("mlp", QUICK | {"standardize": False}),
    "mlp without validation rows": ("mlp", QUICK | {"validation_fraction": 0.0}),
    "mlp with the plcc loss": ("mlp", QUICK | SMOOTH | {"loss": "plcc"}),
    "mlp with the rank loss": ("mlp", QUICK | SMOOTH | {"loss": "rank"}),
    "mlp with the mixture loss": ("mlp", QUICK | SMOOTH | {"loss": "mixture"}),
}
FINETUNING: dict[str, FitOptions] = {
    "all, nr": FitOptions(finetune="all"),
    "last:1, pr": FitOptions(method="pr", finetune="last:1"),
    "all, fr, published recipe": FitOptions(method="fr", benchmark="I2I", finetune="all", recipe="published"),
}


def head_values() -> dict[str, Any]:
    """Every golden value, by section."""
    values = {}
    for section in TOLERANCES:
        with tempfile.TemporaryDirectory() as folder:
            values[section] = section_values(section, Path(folder) / "golden")
    return values


def section_values(section: str, root: Path) -> dict[str, Any]:
    """The golden values of one section, computed from files in a new folder."""
    root.mkdir()
    compute = {
        "default options": default_options,
        "splits": splits,
        "fusion": fusion,
        "closed forms": closed_forms,
        "trained heads": trained_heads,
        "support vectors": support_vectors,
        "results of a run": results_of_a_run,
        "zero-shot": zero_shot,
        "finetuning": finetuning,
    }
    return compute[section](root)


def default_options(_: Path) -> dict[str, Any]:
    """The options of every recipe. Runs do not hash them, so that a changed default needs a new version."""
    values: dict[str, Any] = {}
    for name in HEADS:
        values[name] = resolve_options(name, "cached", "resnet18", {})
    for architecture in ("resnet18", "vit_large_patch16_224"):
        values[f"mlp, published, {architecture}"] = resolve_options("mlp", "published", architecture, {})
        for recipe in ("cached", "published"):
            values[f"finetuning, {recipe}, {architecture}"] = asdict(
                finetuning_recipe("all", recipe, architecture, {})
            )
    return values


def splits(root: Path) -> dict[str, Any]:
    """The rows of the test and validation parts of every split rule."""
    rows = golden_rows.features(root)
    values: dict[str, Any] = {}
    for rule in ("prompt", "random", "generator", "published"):
        values[rule] = _parts(make_splits(rows, rule, REPEATS, SEED))
        values[f"{rule}, without validation rows"] = _parts(
            make_splits(rows, rule, REPEATS, SEED, validation=0.0)
        )
        values[f"{rule}, 3 folds"] = _parts(make_splits(rows, rule, 3, SEED, folds=True))
    values["prompt, 2 seeds"] = _parts(with_seeds(make_splits(rows, "prompt", REPEATS, SEED), seeds=2))
    written = stored_splits(rows, make_splits(rows, "prompt", REPEATS, SEED, validation=0.0))
    values["of a file"] = _parts(StoredSplits(Path("splits.json"), written).of(rows, seed=1, validation=0.15))
    return values


def _parts(made: list) -> dict[str, Any]:
    values = {}
    for number, split in enumerate(made):
        values[f"repeat {number}"] = {
            "seed": split.seed,
            "train": len(split.train),
            "validation": split.validation.tolist(),
            "test": split.test.tolist(),
        }
    return values


def fusion(root: Path) -> dict[str, Any]:
    """One row with an image prompt, one without, and the sum over all rows, of every method."""
    values = {}
    for method, benchmark in METHODS.items():
        fused = fuse(golden_rows.features(root / method, benchmark), method).X
        values[method] = {
            "first row": fused[0],
            "last row": fused[-1],
            "sum": fused.astype(float).sum(axis=0),
        }
    return values


def closed_forms(root: Path) -> dict[str, Any]:
    """Predictions of heads that are solved, not trained."""
    rows = golden_rows.features(root)
    values = {}
    for name in CLOSED_FORMS:
        values |= _of_every_method(root, name, {})
        values[f"{name}, 3 crops"] = _fitted(_with_crops(rows), "nr", name, {})
    kernels = {"kernels": "streams+product"}
    values["kernel-ridge with a kernel per stream"] = _fitted(rows, "nr", "kernel-ridge", kernels)
    values["ridge with validation rows"] = _fitted(rows, "nr", "ridge", {"validation_fraction": 0.15})
    return values


def trained_heads(root: Path) -> dict[str, Any]:
    """Predictions and losses of heads after two epochs of training."""
    rows = golden_rows.features(root)
    values = {}
    for name in HEADS:
        if has_epochs(name):
            values |= _of_every_method(root, name, QUICK)
    for variant, (name, changed) in VARIANTS.items():
        values[variant] = _fitted(rows, "nr", name, changed)
    values["mlp, 3 crops"] = _fitted(_with_crops(rows), "nr", "mlp", QUICK)
    values["mlp, published recipe"] = _fitted(rows, "nr", "mlp", {"max_epochs": 2}, "published")
    return values


def support_vectors(root: Path) -> dict[str, Any]:
    """Predictions of heads that libsvm solves, alone or among others."""
    rows = golden_rows.features(root)
    values = {}
    for name in SUPPORT_VECTORS:
        values |= _of_every_method(root, name, {})
    values["ensemble of ranks"] = _fitted(rows, "nr", "ensemble", {"combine": "ranks"})
    return values


def _of_every_method(root: Path, name: str, changed: dict[str, Any]) -> dict[str, Any]:
    values = {}
    for method, benchmark in METHODS.items():
        rows = golden_rows.features(root / f"{name} {method}", benchmark)
        values[f"{name}, {method}"] = _fitted(rows, method, name, changed)
    return values


def _with_crops(rows: FeatureSet) -> FeatureSet:
    """The same rows with three crops of each image, whose features differ by noise."""
    noise = np.random.default_rng(19).normal(0, 0.3, (len(rows), 3, golden_rows.IMAGE_WIDTH))
    crops = {}
    for stream in ("image", "image_prompt"):
        arrays = getattr(rows, stream)
        crops[stream] = {name: (array[:, None] + noise).astype(np.float32) for name, array in arrays.items()}
    return replace(rows, **crops)


def _fitted(
    rows: FeatureSet, method: Any, name: Any, changed: dict[str, Any], recipe: Any = "cached"
) -> dict[str, Any]:
    """What a head predicts for the test rows of two prompt splits."""
    options = resolve_options(name, recipe, "resnet18", changed)
    made = make_splits(rows, "prompt", REPEATS, SEED, options.get("validation_fraction", 0.0))
    values = {}
    for trial in run_trials(rows, fuse(rows, method), golden_rows.TARGETS[:1], made, name, options):
        values[f"repeat {trial.repeat}"] = _trial(trial)
    return values


def _trial(trial: Trial) -> dict[str, Any]:
    values: dict[str, Any] = {}
    for selection in ("last", "best_validation"):
        if selection in trial.predictions:
            values[selection] = trial.predictions[selection]
    if trial.held_out is not None:
        values["held out"] = trial.held_out.prediction
    if trial.curve is not None:
        values["training loss"] = list(trial.curve.training_loss)
        values["validation loss"] = list(trial.curve.validation_loss)
    return values


def results_of_a_run(root: Path) -> dict[str, Any]:
    """Metrics, baselines and intervals of a ridge on two splits, from stores to files."""
    images, texts, _ = golden_rows.write_stores(root)
    values = {}
    for rule in ("prompt", "random"):
        options = FitOptions(
            estimator="ridge", targets=golden_rows.TARGETS[:1], split=rule, repeats=REPEATS, seed=SEED
        )
        run = fit_head(golden_rows.manifest(), stores_of(images, texts), options, root / "runs")
        values[rule] = {"metrics": _metrics(run)}
        for interval in run.results.prediction_intervals.values():
            values[rule] |= {"half-width": interval.half_width, "coverage": interval.coverage}
    return values


def zero_shot(root: Path) -> dict[str, Any]:
    """Metrics of a zero-shot scorer on all rows and those of a split, and its scores after calibration."""
    *_, scores = golden_rows.write_stores(root)
    rows = golden_rows.manifest()
    whole = ScoreOptions(targets=golden_rows.TARGETS[:1])
    split = replace(whole, split=SplitRequest("prompt", REPEATS, seed=SEED))
    values: dict[str, Any] = {}
    for name, options in (("all rows", whole), ("prompt split", split)):
        run = evaluate_scorer(plan_evaluation(rows, scores.signature, options), scores, root / "runs")
        values[name] = {
            "metrics": _metrics(run),
            "predictions": read_predictions(run.folder)["prediction"].tolist(),
        }
    table = rows.table
    truth = table[golden_rows.TARGETS[0]].to_numpy()
    values["calibrated"] = calibrate(table["group"].to_numpy(), truth, golden_rows.zero_shot_scores())
    return values


def _metrics(run: Run) -> dict[str, Any]:
    """Values of every repeat and interval of the mean, by selection or baseline and metric."""
    (summaries,) = run.results.summaries.values()
    values: dict[str, Any] = {}
    for selection, metrics in summaries.items():
        values[selection] = {}
        for metric, summary in metrics.items():
            values[selection][metric] = [
                *summary.values,
                *summary.bounds,
                *(summary.interval_fitted_heads or ()),
            ]
    return values


def finetuning(root: Path) -> dict[str, Any]:
    """Losses of four steps of end-to-end training, one step an epoch, of small encoders on twelve images."""
    write_dataset(root / "data")
    manifest = check(root / "data").manifest
    image, text = small_encoders(root)
    values = {}
    for name, chosen in FINETUNING.items():
        training = {"batch_size": 12, "max_epochs": 4, "validation_fraction": 0.0}
        options = replace(
            chosen,
            targets=("MOS_q",),
            split="random",
            repeats=1,
            head={"hidden": 8},
            training=training,
            models="none",
        )
        run = finetune(manifest, EncoderPair(image, text), options, root / "runs", device="cpu")
        values[name] = read_curves(run.folder)["training_loss"].tolist()
    return values


def small_encoders(root: Path) -> tuple[ImageEncoder, TextEncoder]:
    """A ResNet that sees 64 pixels and a BERT of two layers, with weights by formula."""
    weights = root / "test_resnet.pth"
    torch.save(fill(timm.create_model("test_resnet").state_dict(), 70), weights)
    preset = replace(image_preset("timm:test_resnet"), reference=reference(64, 72))
    write_tiny_bert(root / "bert")
    image = ImageEncoder(preset, file_weights(weights, "test"), preset.reference)
    return image, find_text_encoder("bert-base-uncased", root / "bert")
