"""Measurements of stage 2 for `benchmarks/gpu.py`: heads, end-to-end training, commands."""

import statistics
import subprocess
import sys
import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np

from tier4k.benchmarks.gpu_parts.bench import (
    JPEG_512,
    Bench,
    device_mib,
    reset_memory,
    synchronize,
)
from tier4k.extract.encoders.choices import Precision
from tier4k.extract.encoders.image_choice import ImageChoice
from tier4k.heads.data.features import rows_without_features
from tier4k.heads.data.splits import Split
from tier4k.heads.encoders.pair import EncoderPair
from tier4k.heads.finetuning.distributed import make_accelerator
from tier4k.heads.finetuning.finetune import Finetuning
from tier4k.heads.finetuning.recipe import finetuning_recipe
from tier4k.heads.regressors.mlp.estimator import MLPHead, fit_stack
from tier4k.heads.regressors.tasks import FitTask

WARM_UP = 3  # steps that do not count
TEST_ROWS = 8
PREDICTED_ROWS = 256
TARGET = "mos"
TIMEOUT = 120  # seconds of a command


@dataclass(frozen=True)
class Heads:
    """Heads of the published shape, fitted side by side.

    Attributes:
        heads, columns, rows: Number of heads, columns of the features, training rows.
        batch, epochs, option: Rows of a step, passes over the rows, and an option of the heads.
        cpu_s, device_s: Seconds of the fit on the CPU and on the device.
        ratio: The CPU's over the device's.
        largest_difference: Of predictions, in score units; scores lie between 0 and 5.
    """

    heads: int
    columns: int
    rows: int
    batch: int
    epochs: int
    option: str
    cpu_s: float
    device_s: float
    ratio: float
    largest_difference: float


def heads(bench: Bench, batch: int, epochs: int, **options: Any) -> Heads:
    """Fit the same heads on the CPU and on the device. The CPU compiles its loops before."""
    sizes = bench.sizes
    random = np.random.default_rng(0)
    X = (random.normal(size=(sizes.rows, sizes.columns)) * random.uniform(0.2, 2, sizes.columns)).astype("f")
    weights = random.normal(size=(sizes.columns, sizes.heads)) / np.sqrt(sizes.columns)
    scores = np.clip(2.5 + 0.7 * (X @ weights + random.normal(size=(sizes.rows, sizes.heads))), 0, 5).T
    fixed = options | {"batch_size": batch}
    seconds, predictions = {}, {}
    for device in ("cpu", bench.device):
        _fit(X[:256, :64], scores[:1, :256], device, max_epochs=1, **fixed)
        start = time.perf_counter()
        fitted = _fit(X, scores, device, max_epochs=epochs, **fixed)
        seconds[device] = time.perf_counter() - start
        predictions[device] = np.stack([head.predict(X[:PREDICTED_ROWS]) for head in fitted])
    difference = float(np.abs(predictions["cpu"] - predictions[bench.device]).max())
    option = ", ".join(f"{name}={value}" for name, value in options.items())
    shape = (sizes.heads, sizes.columns, sizes.rows, batch, epochs, option)
    times = (seconds["cpu"], seconds[bench.device])
    return Heads(*shape, *times, ratio=times[0] / times[1], largest_difference=difference)


def _fit(X: np.ndarray, scores: np.ndarray, device: str, **options: Any) -> list[MLPHead]:
    """Fit one head to each row of scores (K, N)."""
    heads = [
        MLPHead(random_state=number, validation_fraction=0.15, **options) for number in range(len(scores))
    ]
    fit_stack(heads, X, [FitTask(truth, np.arange(len(X))) for truth in scores], device)
    synchronize(device)
    return heads


@dataclass(frozen=True)
class Training:
    """Steps of `tier fit-head --finetune all`.

    Attributes:
        encoder, precision, batch: The image encoder, the encoders' arithmetic, and rows of a step.
        first_step_s: Seconds from the last decoded image to the end of the first step.
        step_ms: Median milliseconds of a step after the first ones.
        row_ms: The same per row.
        device_mib: Largest memory of the device.
    """

    encoder: str
    precision: Precision
    batch: int
    first_step_s: float
    step_ms: float
    row_ms: float
    device_mib: int


def training(bench: Bench, name: str, precision: Precision, batch: int) -> Training:
    """Train image and text encoder end to end for one epoch."""
    reset_memory(bench.device)
    start, ends, _ = _train(bench, name, precision, batch, bench.device)
    steps = [1e3 * (after - before) for before, after in pairwise(ends)]
    step = statistics.median(steps[WARM_UP - 1 :] or steps)
    memory = device_mib(bench.device)
    return Training(name, precision, batch, ends[0] - start, step, step / batch, memory)


def _train(
    bench: Bench,
    name: str,
    precision: Precision,
    batch: int,
    device: str,
) -> tuple[float, list[float], list[float]]:
    """Train for one epoch.

    Returns:
        The time at which images were decoded, the time after each step, and the epochs' training losses.
    """
    count = min(batch * bench.sizes.steps, bench.sizes.files[JPEG_512] - TEST_ROWS)
    manifest = bench.manifest(JPEG_512, count + TEST_ROWS)
    image = bench.image_encoder(name, ImageChoice(precision="fp32"))
    changed = {"precision": precision, "max_epochs": 1, "batch_size": batch, "warm_head": False}
    recipe = finetuning_recipe("all", "cached", image.preset.architecture, changed)
    decoded: list[float] = []
    ends: list[float] = []

    def progress(what: str, done: int, total: int) -> None:  # noqa: ARG001
        synchronize(device)
        (ends if what.startswith("finetune") else decoded).append(time.perf_counter())

    head: dict[str, Any] = {"hidden": None}
    text, folder = bench.text_encoder("fp32"), bench.new_folder("training")
    accelerator = make_accelerator("auto" if device == "cuda" else "cpu")
    finetuning = Finetuning(
        manifest=manifest,
        encoders=EncoderPair(image, text),
        method="nr",
        streams=(),
        hyperparameters=recipe,
        head=head,
        models="none",
        folder=folder,
        accelerator=accelerator,
        progress=progress,
    )
    rows = np.arange(count + TEST_ROWS)
    split = Split(rows[:count], rows[:0], rows[count:], seed=0)
    (trial,) = finetuning.trials(rows_without_features(manifest), [TARGET], [split])
    assert trial.curve is not None
    return decoded[-1], ends, list(trial.curve.training_loss)


@dataclass(frozen=True)
class TrainingAgreement:
    """The loss of the same training on the CPU and on the device, in fp32.

    Attributes:
        encoder: The image encoder.
        steps: Steps of the training.
        cpu_loss, device_loss: Mean loss of the epoch.
        relative_difference: Of both losses.
    """

    encoder: str
    steps: int
    cpu_loss: float
    device_loss: float
    relative_difference: float


def training_agreement(bench: Bench, process: ProcessPoolExecutor, name: str) -> TrainingAgreement:
    """Train on the CPU, in another process as accelerate allows one device in each; then on the device."""
    batch = 2 if bench.tiny else 8
    bench.prepare(name)  # before two processes do
    pending = process.submit(_train, bench, name, "fp32", batch, "cpu")
    _, ends, losses = _train(bench, name, "fp32", batch, bench.device)
    _, _, expected = pending.result()
    difference = abs(losses[0] - expected[0]) / expected[0]
    return TrainingAgreement(name, len(ends), expected[0], losses[0], difference)


@dataclass(frozen=True)
class Command:
    """A command as a user gives it, in a process of its own.

    Attributes:
        command: The subcommand of `tier`.
        exit_code: Its exit code.
        seconds: Its time, start of the program included.
        last_line: The end of its output.
    """

    command: str
    exit_code: int
    seconds: float
    last_line: str


def extract_command(bench: Bench, name: str) -> Command:
    """Run `tier extract` on 512² JPEGs."""
    speed = ["--precision", "bf16", "--device", "cuda:0" if bench.device == "cuda" else "cpu"]
    return _run("extract", [str(bench.table(JPEG_512)), *_encoders(bench, name), *_features(bench), *speed])


def fit_command(bench: Bench, name: str) -> Command:
    """Run `tier fit-head` on the features of `extract_command`."""
    given = ["--image-encoder", bench.encoder_name(name), "--precision", "bf16", "--head", "ridge"]
    runs = ["--repeats", "2", "--out", str(bench.folder / "runs")]
    return _run("fit-head", [str(bench.table(JPEG_512)), *_features(bench), *given, *runs])


def predict_command(bench: Bench, name: str) -> Command:
    """Run `tier predict` with the model of `fit_command` on an image, whose features it computes anew."""
    (run,) = (bench.folder / "runs").glob("nr-*")
    table = bench.table(JPEG_512)
    image = str(table.parent / "00000.jpg")
    features = ["--features", str(bench.folder / "predict-features")]
    return _run("predict", [str(run), image, "--prompt", "a red fox", *features, *_weights(bench, name)])


def _features(bench: Bench) -> list[str]:
    return ["--features", str(bench.folder / "command-features")]


def _encoders(bench: Bench, name: str) -> list[str]:
    return ["--image-encoder", bench.encoder_name(name), *_weights(bench, name)]


def _weights(bench: Bench, name: str) -> list[str]:
    text = str(bench.text_encoder("fp32").weights.path)
    return ["--image-weights", str(bench.weights(name)), "--text-weights", text]


def _run(command: str, arguments: Sequence[str]) -> Command:
    start = time.perf_counter()
    words = [sys.executable, "-m", "tier4k.cli", command, *arguments]
    ended = subprocess.run(words, capture_output=True, text=True, timeout=TIMEOUT)
    seconds = time.perf_counter() - start
    lines = (ended.stdout + ended.stderr).strip().splitlines()
    return Command(command, ended.returncode, seconds, " ".join(lines[-2:])[-300:])
