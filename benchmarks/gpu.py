"""What a GPU makes of tier4k: are the values right, how fast is it, and what holds it back?

    bash benchmarks/gpu.sh                                # in a bare checkout, see there
    python benchmarks/gpu.py [--seconds 330] [--only throughput training] [--tiny --device cpu]

Features by the device are compared with those by the CPU; extraction with decoding is measured from several
kinds of images, and against the script that a user would write with timm; networks alone, stacks of heads,
end-to-end training, a memory that is too small, `--compile`, and commands follow. Images, weights and the
tokenizer are made by this program, so that nothing is downloaded; weights are random, as speed does not
depend on them.

Each measurement stands alone: what one raises is recorded, and the next one follows; what the time left does
not allow is left out and named, together with the rest of its part: measure it with --only in a second call.
`--tiny --device cpu` runs everything but CUDA itself on small inputs.

The folder --out gets gpu.json and gpu.md, a table of every measurement. The last line is one JSON object.
"""

import argparse
import json
import os
import platform
import resource
import signal
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import Any

# Not this folder, whose files hide packages of the same names: `coverage`, which Numba imports, and `heads`.
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
sys.path.pop(1)
import torch

from tier4k.benchmarks.gpu_parts import extraction, networks, training
from tier4k.benchmarks.gpu_parts.bench import JPEG_512, JPEG_1024, PNG_512, Bench
from tier4k.extract.encoders.choices import Precision
from tier4k.extract.pipeline.process_policy import process_policy
from tier4k.extract.pipeline.versions import library_versions

NETWORKS = ("resnet50", "vit", "clip", "efficientnet-lite0")
COMPARED = ("resnet50", "efficientnet-lite0", extraction.TEXT, extraction.BEST, "clip", "vit")
MANY_WORKERS = 16
FP32_BATCH = 256  # of a network alone
TRAININGS: tuple[tuple[str, Precision, int], ...] = (
    ("resnet50", "fp32", 8),
    ("resnet50", "bf16", 8),
    ("resnet50", "bf16", 64),
    ("vit", "fp32", 8),
    ("vit", "bf16", 8),
    ("vit", "bf16", 32),
)


class OutOfTimeError(BaseException):
    """A measurement took longer than the time left. No library catches this class."""


@dataclass(frozen=True)
class Case:
    """One measurement.

    Attributes:
        part: Part of the report.
        name: Name, for messages.
        work: Measures; returns a dataclass whose fields are the columns of the part's table.
        seconds: Time that it takes on a GPU; without so much time left it is not begun.
    """

    part: str
    name: str
    work: Callable[[], Any]
    seconds: float


@dataclass
class Report:
    """Everything measured so far.

    Attributes:
        machine: Names and versions.
        results: Measurements of each part.
        failed: What a measurement raised, by its name.
        left_out: Names of the measurements for which there was no time.
        seconds: Time of each measurement.
        host_mib: Largest resident memory of this process, and of any process that it started.
    """

    machine: dict[str, Any]
    results: dict[str, list[dict[str, Any]]] = field(default_factory=dict)
    failed: dict[str, str] = field(default_factory=dict)
    left_out: list[str] = field(default_factory=list)
    seconds: dict[str, float] = field(default_factory=dict)
    host_mib: list[int] = field(default_factory=list)

    def run(self, case: Case, left: float) -> None:
        """Measure a case within the time left; record what it raises."""
        name = f"{case.part}: {case.name}"
        start = time.perf_counter()
        try:
            with at_most(left):
                row = asdict(case.work())
            self.results.setdefault(case.part, []).append(row)
            print(f"{name}: {row}", flush=True)
        except (Exception, OutOfTimeError) as error:
            traceback.print_exc()
            self.failed[name] = f"{type(error).__name__}: {error}"[:1000]
        self.seconds[name] = round(time.perf_counter() - start, 1)
        whose = (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)
        self.host_mib = [resource.getrusage(which).ru_maxrss // 2**10 for which in whose]

    def write(self, folder: Path) -> None:
        """Write gpu.json and gpu.md."""
        (folder / "gpu.json").write_text(json.dumps(asdict(self), indent=1) + "\n")
        (folder / "gpu.md").write_text(self.markdown())

    def markdown(self) -> str:
        """Return a table of each part, below the machine and the versions."""
        facts = [f"- {name}: {value}" for name, value in self.machine.items()]
        parts = [f"# {self.machine['device']}\n\n" + "\n".join(facts)]
        for part, rows in self.results.items():
            parts.append(f"## {part}\n\n{_table(rows)}")
        failed = [f"- failed: {name}: {message}" for name, message in self.failed.items()]
        left_out = [f"- left out: {name}" for name in self.left_out]
        parts.append("\n".join([*failed, *left_out]) or "Nothing failed, and nothing was left out.")
        return "\n\n".join(parts) + "\n"


def _table(rows: list[dict[str, Any]]) -> str:
    lines = [
        "| " + " | ".join(name.replace("_", " ") for name in rows[0]) + " |",
        "|---" * len(rows[0]) + "|",
    ]
    for row in rows:
        lines.append("| " + " | ".join(map(_cell, row.values())) + " |")
    return "\n".join(lines)


def _cell(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if not isinstance(value, float):
        return str(value).replace("|", "/")
    text = f"{value:.4g}"
    return f"{value:.7g}" if text == "1" else text  # a cosine


@contextmanager
def at_most(seconds: float) -> Iterator[None]:
    """Raise OutOfTimeError in the context after some seconds."""

    def stop(*_: object) -> None:
        raise OutOfTimeError(f"not done after {seconds:.0f} s")

    earlier = signal.signal(signal.SIGALRM, stop)
    signal.setitimer(signal.ITIMER_REAL, max(seconds, 0.1))
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, earlier)


def all_cases(bench: Bench, process: ProcessPoolExecutor) -> list[Case]:
    """Return all measurements, the most important first."""
    return [
        *agreement_cases(bench),
        *throughput_cases(bench),
        *reading_cases(bench),
        *network_cases(bench),
        *training_cases(bench, process),
        *heads_cases(bench),
        Case("small memory", "resnet50", partial(extraction.small_memory, bench, "resnet50"), 10),
        *plain_cases(bench, process),
        *compile_cases(bench),
        *kernel_cases(bench),
        *command_cases(bench),
    ]


def agreement_cases(bench: Bench) -> list[Case]:
    """Return comparisons of features."""
    cases = []
    precisions: tuple[Precision, ...] = ("fp32", "bf16", "fp16")
    for name in COMPARED:
        for precision in precisions[: 3 if name in ("resnet50", extraction.TEXT) else 2]:
            work = partial(extraction.agreement, bench, name, precision)
            cases.append(Case("agreement", f"{name} {precision}", work, 10))
    return cases


def throughput_cases(bench: Bench) -> list[Case]:
    """Return extractions with decoding."""
    measure = partial(extraction.throughput, bench)
    cases = []
    for images in (JPEG_512, JPEG_1024, PNG_512):
        for workers in (2,) if bench.tiny else (None, MANY_WORKERS):
            work = partial(measure, "resnet50", "bf16", images, workers)
            cases.append(
                Case("throughput", f"resnet50 bf16 {images} {workers or 'default'} workers", work, 15)
            )
    for name in NETWORKS[1:]:
        cases.append(Case("throughput", f"{name} bf16", partial(measure, name, "bf16", JPEG_512), 15))
    for name, rows in (("resnet50", None), ("vit", None if bench.tiny else 1024)):
        work = partial(measure, name, "fp32", JPEG_512, rows=rows)
        cases.append(Case("throughput", f"{name} fp32", work, 15))
    return cases


def reading_cases(bench: Bench) -> list[Case]:
    """Return reading without a network, resized by the readers and by the device."""
    cases = []
    for images in (JPEG_512, JPEG_1024, PNG_512):
        for on_device in (False, True):
            work = partial(extraction.reading, bench, images, on_device)
            cases.append(Case("reading", f"{images} on device: {on_device}", work, 6))
    return cases


def training_cases(bench: Bench, process: ProcessPoolExecutor) -> list[Case]:
    """Return trainings end to end."""
    compare = partial(training.training_agreement, bench, process, "resnet50")
    cases = [Case("training agreement", "resnet50", compare, 25)]
    for name, precision, batch in TRAININGS[: 2 if bench.tiny else None]:
        work = partial(training.training, bench, name, precision, 2 if bench.tiny else batch)
        cases.append(Case("training", f"{name} {precision} batch {batch}", work, 12))
    return cases


def heads_cases(bench: Bench) -> list[Case]:
    """Return fits of stacked heads; the first one compiles the loops of the CPU."""
    fit = partial(training.heads, bench)
    return [
        Case("heads", "batch 128", partial(fit, 128, 3), 25),
        Case("heads", "batch 8", partial(fit, 8, 1), 10),
        Case("heads", "batch 128 dropout", partial(fit, 128, 2, dropout=0.2), 12),
    ]


def plain_cases(bench: Bench, process: ProcessPoolExecutor) -> list[Case]:
    """Return comparisons with the plain script."""
    cases = []
    for name in NETWORKS[: 1 if bench.tiny else None]:
        work = partial(extraction.against_plain, bench, process, name)
        cases.append(Case("against a plain script", f"{name} bf16", work, 25))
    return cases


def network_cases(bench: Bench) -> list[Case]:
    """Return networks without reading."""
    cases = []
    kinds: list[tuple[Precision, int]] = [("bf16", batch) for batch in bench.sizes.batches]
    for name in NETWORKS[: 2 if bench.tiny else None]:
        for precision, batch in (*kinds, ("fp32", FP32_BATCH)):
            work = partial(networks.forward, bench, name, precision, 2 if bench.tiny else batch)
            cases.append(Case("network alone", f"{name} {precision} batch {batch}", work, 5))
    return cases


def kernel_cases(bench: Bench) -> list[Case]:
    """Return what the device does in a batch, and the time of loading."""
    cases = []
    for name, batch in (("resnet50", 256), ("vit", 256), ("efficientnet-lite0", 256)):
        work = partial(networks.kernels, bench, name, "bf16", 2 if bench.tiny else batch)
        cases.append(Case("kernels", f"{name} bf16", work, 8))
    return [*cases, Case("loading", "vit", partial(networks.loading_time, bench, "vit"), 20)]


def command_cases(bench: Bench) -> list[Case]:
    """Return commands as a user gives them."""
    name = "efficientnet-lite0"
    return [
        Case("commands", "extract", partial(training.extract_command, bench, name), 25),
        Case("commands", "fit-head", partial(training.fit_command, bench, name), 12),
        Case("commands", "predict", partial(training.predict_command, bench, name), 12),
    ]


def compile_cases(bench: Bench) -> list[Case]:
    """Return networks with `--compile`, the longest measurements."""
    names = ("resnet50", "vit")[: 1 if bench.tiny else None]
    return [Case("compile", name, partial(networks.compiled, bench, name, "bf16"), 30) for name in names]


def machine(device: str) -> dict[str, Any]:
    """Return the names of device and processor, and versions."""
    facts: dict[str, Any] = {
        "device": device,
        "date": datetime.now(UTC).date().isoformat(),
        "cores": len(os.sched_getaffinity(0)),
        "processor": _processor(),
        "python": platform.python_version(),
        **library_versions(),
    }
    if device == "cuda":
        found = torch.cuda.get_device_properties(0)
        facts["device"] = found.name
        facts["device_gib"] = round(found.total_memory / 2**30, 1)
        facts["cuda"] = torch.version.cuda
    return facts


def _processor() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.processor()


def parse_arguments() -> argparse.Namespace:
    """Return the options of the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--device", default="cuda", choices=["cuda", "cpu"])
    parser.add_argument("--tiny", action="store_true", help="small inputs, to try this program")
    parser.add_argument("--seconds", type=float, default=330, help="time for everything")
    parser.add_argument("--only", nargs="+", default=[], help="parts to measure, such as throughput")
    parser.add_argument(
        "--out", type=Path, default=Path(os.environ.get("OUT", ".")), help="folder of results"
    )
    return parser.parse_args()


def measure(
    arguments: argparse.Namespace, process: ProcessPoolExecutor, folder: Path, start: float
) -> Report:
    """Run the cases one after the other; write the report after each."""
    bench = Bench(folder, arguments.device, arguments.tiny)
    report = Report(machine(arguments.device))
    unfinished_parts: set[str] = set()
    try:
        for case in all_cases(bench, process):
            if arguments.only and case.part not in arguments.only:
                continue
            left = arguments.seconds - (time.perf_counter() - start)
            if left < case.seconds or case.part in unfinished_parts:  # a case may need those before it
                unfinished_parts.add(case.part)
                report.left_out.append(f"{case.part}: {case.name}")
                continue
            report.run(case, left)
            report.write(arguments.out)
    except KeyboardInterrupt:
        report.failed["interrupted"] = "by a signal"
    report.write(arguments.out)
    return report


def main() -> None:
    """Measure and print."""
    start = time.perf_counter()
    arguments = parse_arguments()
    arguments.out.mkdir(parents=True, exist_ok=True)
    process = ProcessPoolExecutor(1, get_context("spawn"))
    process.submit(int)  # it starts now, outside the process policy
    with process_policy(), tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as name:
        report = measure(arguments, process, Path(name), start)
    process.shutdown(wait=False, cancel_futures=True)
    print(report.markdown())
    print(json.dumps(asdict(report)), flush=True)


if __name__ == "__main__":
    main()
