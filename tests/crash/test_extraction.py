"""However an extraction ends, the next one continues, and the features are those of an undisturbed one.

`tier extract` runs in processes forked from one that has imported what the first imported, with small shards
and batches. It spends much of its time loading, which kills at uniformly random times would mostly hit; each
kill draws a phase first and a moment within it second. TIER4K_TEST_DATA may name a data set to use instead of
the synthetic sample; `pytest -m slow -rP` prints the counts.
"""

import json
import mmap
import os
import random
import resource
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from tier4k.cache.atomic import TEMPORARY_PREFIX
from tier4k.cache.compact import compact
from tier4k.cache.listing import broken_stores, stores
from tier4k.cache.store import FeatureStore
from tier4k.cache.verify import verify
from tier4k.extract.datasets.sample import write_sample
from tier4k.tests.builders.data import save_table
from tier4k.tests.builders.forking import Imports

pytestmark = pytest.mark.slow

REPOSITORY = Path(__file__).parents[2]
KILLS, KILLS_OF_TWO = 100, 30
SHARD_ROWS, BATCH = 8, 4
PHASES = ("load", "create", "read", "encode", "publish")
LOADING, ENCODING, PUBLISHING = 0.6, 0.1, 0.006  # seconds that one of them takes at most, roughly


@dataclass(frozen=True)
class Moment:
    """`delay` seconds after an extraction has entered a phase for the `count`-th time."""

    phase: str
    count: int = 1
    delay: float = 0.0


@dataclass(frozen=True)
class Ended:
    """Outcome of a `tier extract`: exit code (negative for a signal), last phase, and printed text."""

    code: int
    phase: str
    output: str


# The process that forks


def serve() -> None:
    """Fork one `tier` for each line of standard input, disturb it as requested, and print its outcome."""
    from tier4k import cli

    imports = Imports()
    # The phase, and how often each was entered; shared with the forked process.
    marks = mmap.mmap(-1, 1 + len(PHASES))
    _mark_phases(marks)
    for line in sys.stdin:
        request = json.loads(line)
        marks[:] = bytes([0, 1] + [0] * (len(marks) - 2))
        output, end = os.pipe()
        child = os.fork()
        if not child:
            imports.name_at_exit()
            _become_tier(request, output, end)
            cli.main()
            sys.exit()
        os.close(end)
        code = _watch(child, request, marks)
        imports.repeat()
        os.set_blocking(output, False)  # processes that outlive a kill hold the other end
        answer = {"code": code, "phase": PHASES[marks[0]], "output": (os.read(output, 2**16) or b"").decode()}
        os.close(output)
        sys.stdout.write(json.dumps(answer) + "\n")
        sys.stdout.flush()


def _mark_phases(marks: mmap.mmap) -> None:
    import tier4k.cache.store
    import tier4k.cache.writer
    from tier4k.extract.pipeline.listener import Timing

    @contextmanager
    def phase(name: str) -> Iterator[None]:
        number, before = PHASES.index(name), marks[0]
        marks[0], marks[1 + number] = number, min(marks[1 + number] + 1, 255)
        yield
        marks[0] = before

    def marked(name: str, function: Callable[..., object]) -> Callable[..., object]:
        def call(*arguments: object, **named: object) -> object:
            with phase(name):
                return function(*arguments, **named)

        return call

    measure = Timing.measure

    @contextmanager
    def measured(self: Timing, part: str) -> Iterator[None]:
        with measure(self, part), phase("publish" if part == "write" else part):
            yield

    Timing.measure = measured  # type: ignore[method-assign]
    tier4k.cache.store.publish_text = marked("create", tier4k.cache.store.publish_text)  # type: ignore[assignment]
    tier4k.cache.writer.write_shard = marked("publish", tier4k.cache.writer.write_shard)  # type: ignore[assignment]


def _become_tier(request: dict, output: int, end: int) -> None:
    import tier4k.extract.pipeline.options

    os.setpgid(0, 0)  # Ctrl-C is for the whole group
    os.close(output)
    for source, target in ((os.open(os.devnull, os.O_RDONLY), 0), (end, 1), (end, 2)):
        os.dup2(source, target)
    sys.stdout, sys.stderr = os.fdopen(1, "w"), os.fdopen(2, "w")
    options = tier4k.extract.pipeline.options.ExtractionOptions
    make = options.__init__

    def make_small(self: object, *arguments: object, **named: object) -> None:
        small = {"text_batch_size": BATCH, "unit_rows": BATCH, "shard_rows": request["shard_rows"]}
        make(self, *arguments, **{**named, **small})  # type: ignore[arg-type]

    options.__init__ = make_small  # type: ignore[assignment, method-assign]
    # A disk that fills only after `tier` has looked how much room it has.
    shutil.disk_usage = lambda _: SimpleNamespace(free=2**40)  # type: ignore[assignment]
    sys.argv = ["tier", *request["arguments"]]


def _watch(child: int, request: dict, marks: mmap.mmap) -> int:
    moment = Moment(**request["moment"]) if request["moment"] else None
    latest = time.monotonic() + request["latest"]
    while not (ended := os.waitpid(child, os.WNOHANG))[0]:
        there = moment and marks[1 + PHASES.index(moment.phase)] >= moment.count
        if moment and (there or time.monotonic() > latest):
            time.sleep(moment.delay if there else 0)
            _act(child, **request["act"])
            moment = None
        time.sleep(0.0005)
    with suppress(ProcessLookupError):
        os.killpg(child, signal.SIGKILL)  # processes whose parent was killed
    return os.waitstatus_to_exitcode(ended[1])


def _act(
    child: int, sent: int = 0, group: bool = False, limit: int = 0, move: tuple[str, str] | None = None
) -> None:
    if sent:
        (os.killpg if group else os.kill)(child, sent)
    if limit:
        resource.prlimit(child, resource.RLIMIT_FSIZE, (limit, limit))
    if move:
        os.rename(*move)


# What the tests use of it


class Extractor:
    """A process that forks one `tier extract` at a time, and imports what it imported for the next."""

    def __init__(self) -> None:
        command = [sys.executable, "-c", "from tier4k.tests.crash.test_extraction import serve; serve()"]
        # Two at once on two cores would wait for each other's threads.
        environment = os.environ | {"OMP_NUM_THREADS": "1"}
        self._process = subprocess.Popen(
            command, cwd=REPOSITORY, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )

    def __call__(
        self,
        data: Path,
        root: Path,
        *options: str,
        moment: Moment | None = None,
        latest: float = 60.0,
        shard_rows: int = SHARD_ROWS,
        **act: object,
    ) -> Ended:
        """Run `tier extract`; at a given moment, or `latest` seconds after its start, disturb it by `act`."""
        arguments = [
            "extract",
            str(data),
            "-F",
            str(root),
            "--batch-size",
            str(BATCH),
            "--workers",
            "0",
            *options,
        ]
        request = {"arguments": arguments, "shard_rows": shard_rows, "latest": latest, "act": act}
        self._process.stdin.write(json.dumps(request | {"moment": asdict(moment) if moment else None}) + "\n")
        self._process.stdin.flush()
        return Ended(**json.loads(self._process.stdout.readline()))

    def close(self) -> None:
        self._process.kill()
        self._process.communicate()


@pytest.fixture(scope="module")
def writers() -> Iterator[tuple[Extractor, Extractor]]:
    two = Extractor(), Extractor()
    yield two
    for writer in two:
        writer.close()


@pytest.fixture(scope="module")
def tier(writers: tuple[Extractor, Extractor]) -> Extractor:
    return writers[0]


@pytest.fixture(scope="module")
def sample(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_sample(tmp_path_factory.mktemp("sample"))


def every(step: int, sample: Path) -> Path:
    """A data set of every `step`-th row of the sample."""
    some = sample.parent / f"every-{step}"
    save_table(pd.read_excel(sample / "annotation.xlsx").iloc[::step], some / "annotation.xlsx")
    for images in ("All", "I2I"):
        (some / images).symlink_to(sample / images)
    return some


@pytest.fixture(scope="module")
def few(sample: Path) -> Path:
    return every(12, sample)


@pytest.fixture(scope="module")
def data(sample: Path) -> Path:
    given = os.environ.get("TIER4K_TEST_DATA")
    return Path(given).resolve() if given else every(4, sample)


Undisturbed = Callable[..., Path]


@pytest.fixture(scope="module")
def undisturbed(
    writers: tuple[Extractor, Extractor], tmp_path_factory: pytest.TempPathFactory
) -> Undisturbed:
    """The compacted features of a data set, extracted undisturbed in one part or in several."""
    made: dict[tuple[Path, tuple[str, ...]], Path] = {}

    def extracted(data: Path, parts: tuple[str, ...] = ("1/1",)) -> Path:
        if (data, parts) not in made:
            root = tmp_path_factory.mktemp("undisturbed")
            for part in parts:
                ended = writers[0](data, root, "--shard", part)
                assert ended.code == 0, ended.output
            for store in stores(root):
                compact(store)
            made[data, parts] = root
        return made[data, parts]

    return extracted


def rows(root: Path) -> Counter[str]:
    """How many distinct rows each store under `root` holds."""
    assert not broken_stores(root)
    return Counter({store.path.name: len(store.keys) for store in stores(root)})


def files(root: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(root)): path.read_bytes()
        for path in root.glob("*/*")
        if path.suffix in (".h5", ".json")
    }


def assert_part_of(root: Path, whole: Path) -> None:
    """What is published under `root` is published under `whole`, byte for byte."""
    assert not broken_stores(root)
    for store in filter(lambda store: len(store.keys), stores(root)):
        features = FeatureStore.open(whole / store.path.name).read(store.keys)
        np.testing.assert_array_equal(store.read(store.keys).view(np.uint8), features.view(np.uint8))


def assert_same(root: Path, whole: Path, doubles: bool = False) -> None:
    """The finished stores under `root` hold the same as `whole`, and are the same files once compacted."""
    assert_part_of(root, whole)
    assert rows(root) == rows(whole)
    for store in stores(root):
        checked = verify(store)
        assert not checked.damaged and (doubles or checked.rows == len(store.keys))
        compacted = compact(store)
        assert compacted.rows == checked.rows - compacted.doubles == len(store.keys)
    assert files(root) == files(whole)
    assert not list(root.rglob(f"{TEMPORARY_PREFIX}*"))


@dataclass
class Killer:
    """Runs extractions of a data set, kills them at random moments, and checks the stores after each."""

    tier: Extractor
    data: Path
    root: Path
    whole: Path
    options: tuple[str, ...]
    chance: random.Random
    phases: Counter[str] = field(default_factory=Counter)
    held: Counter[str] = field(default_factory=Counter)

    def until_done(self, kills: int) -> None:
        """Kill and start again until an extraction finishes before its kill, or there were `kills` kills."""
        while self.phases.total() < kills:
            workers = "--workers", self.chance.choice("001")
            ended = self.tier(
                self.data,
                self.root,
                *self.options,
                *workers,
                moment=self._moment(),
                sent=signal.SIGKILL,
            )
            assert ended.code in (0, -signal.SIGKILL), ended.output
            self._look()
            if not ended.code:
                return
            self.phases[ended.phase] += 1
        ended = self.tier(self.data, self.root, *self.options)
        assert ended.code == 0, ended.output

    def _moment(self) -> Moment:
        created = len(list(self.root.glob("*/signature.json")))
        if created < 1 and self.chance.random() < 0.8:
            return Moment("create", 1, self.chance.uniform(0, PUBLISHING))
        phase = self.chance.choices(["load", "read", "encode", "publish"], [2, 1, 4, 3])[0]
        if phase == "load":
            return Moment(phase, 1, self.chance.uniform(0, LOADING))
        if phase == "publish":
            return Moment(phase, self.chance.randint(1, 2), self.chance.uniform(0, PUBLISHING))
        return Moment(phase, self.chance.randint(1, 4), self.chance.uniform(0, ENCODING))

    def _look(self) -> None:
        assert_part_of(self.root, self.whole)
        held = rows(self.root) if self.root.exists() else Counter()
        assert held >= self.held, "something that was published is lost"
        self.held = held


def report(who: str, phases: Counter[str], extractions: int, whole: Path, start: float) -> None:
    what = f"{phases.total()} kills {dict(phases)} over {extractions} extractions of {dict(rows(whole))} rows"
    sys.stdout.write(f"{who}: {what} in {time.monotonic() - start:.0f} s\n")


def test_killed_at_a_hundred_random_moments(
    tier: Extractor, data: Path, undisturbed: Undisturbed, tmp_path: Path
) -> None:
    whole = undisturbed(data)
    chance = random.Random(0)
    phases = Counter[str]()
    extractions = 0
    start = time.monotonic()
    while phases.total() < KILLS:
        killer = Killer(tier, data, tmp_path / "features", whole, (), chance)
        killer.until_done(KILLS - phases.total())
        assert_same(killer.root, whole)
        shutil.rmtree(killer.root)
        phases += killer.phases
        extractions += 1
    report("one writer", phases, extractions, whole, start)
    # Making a store is too short to be hit for certain.
    for name in ("load", "read", "encode", "publish"):
        assert phases[name] > 0


@pytest.mark.parametrize("parts", [("1/1", "1/1"), ("1/2", "2/2")], ids=["the same", "a half each"])
def test_two_writers_killed_at_random_moments(
    writers: tuple[Extractor, Extractor],
    data: Path,
    undisturbed: Undisturbed,
    tmp_path: Path,
    parts: tuple[str, str],
) -> None:
    whole = undisturbed(data, tuple(sorted(set(parts))))
    phases = Counter[str]()
    extractions = 0
    start = time.monotonic()
    while phases.total() < KILLS_OF_TWO:
        root, most = tmp_path / "features", KILLS_OF_TWO - phases.total()
        killers = [
            Killer(tier, data, root, whole, ("--shard", part), random.Random(10 * extractions + number))
            for number, (tier, part) in enumerate(zip(writers, parts, strict=True))
        ]
        with ThreadPoolExecutor(2) as pool:
            list(
                pool.map(
                    lambda killer, kills: killer.until_done(kills), killers, [most - most // 2, most // 2]
                )
            )
        assert_same(root, whole, doubles=True)
        shutil.rmtree(root)
        phases += killers[0].phases + killers[1].phases
        extractions += 1
    report("two writers", phases, extractions, whole, start)


def assert_refused(ended: Ended, why: str) -> None:
    assert ended.code == 2 and "Traceback" not in ended.output, ended.output
    for part in ("cannot write to", why, "run the same command again"):
        assert part in ended.output, ended.output


@pytest.mark.parametrize(
    ("moment", "limit"),
    [(Moment("load"), 100), (Moment("encode", 6), 20_000)],
    ids=["no store fits", "no further shard fits"],
)
def test_files_that_may_not_grow(
    tier: Extractor, few: Path, undisturbed: Undisturbed, tmp_path: Path, moment: Moment, limit: int
) -> None:
    ended = tier(few, tmp_path, moment=moment, limit=limit)
    assert_refused(ended, "File too large")
    assert_part_of(tmp_path, undisturbed(few))
    assert (rows(tmp_path).total() > 0) == (moment.phase == "encode")
    ended = tier(few, tmp_path)
    assert ended.code == 0, ended.output
    assert_same(tmp_path, undisturbed(few))


@contextmanager
def mounted(folder: Path, size: int) -> Iterator[None]:
    """A file system of `size` KiB at `folder`; the test is skipped where none may be mounted."""
    command = ["mount", "-t", "tmpfs", "-o", f"size={size}k", "tmpfs", str(folder)]
    if (
        os.geteuid()
        or shutil.which("mount") is None
        or subprocess.run(command, capture_output=True).returncode
    ):
        pytest.skip("only root may mount a small file system, and not in every container")
    try:
        yield
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


def remount(folder: Path, option: str) -> None:
    subprocess.run(["mount", "-o", f"remount,{option}", str(folder)], check=True)


@pytest.mark.parametrize("size", [40, 160])
def test_a_full_file_system(
    tier: Extractor, few: Path, undisturbed: Undisturbed, tmp_path: Path, size: int
) -> None:
    with mounted(tmp_path, size):
        ended = tier(few, tmp_path / "features")
        assert_refused(ended, "No space left")
        assert_part_of(tmp_path / "features", undisturbed(few))
        assert (rows(tmp_path / "features").total() > 0) == (size == 160)
        remount(tmp_path, "size=64m")
        ended = tier(few, tmp_path / "features")
        assert ended.code == 0, ended.output
        assert_same(tmp_path / "features", undisturbed(few))


@pytest.mark.parametrize(
    ("sent", "group", "workers"),
    [(signal.SIGINT, True, "1"), (signal.SIGTERM, True, "2"), (signal.SIGTERM, False, "0")],
    ids=["Ctrl-C", "SIGTERM to the group", "SIGTERM"],
)
def test_interrupted_while_it_encodes(
    tier: Extractor, few: Path, undisturbed: Undisturbed, tmp_path: Path, sent: int, group: bool, workers: str
) -> None:
    moment = Moment("encode", 12, 0.02)  # twice a unit: for its encoding, and for fetching its features
    ended = tier(few, tmp_path, "--workers", workers, moment=moment, shard_rows=4096, sent=sent, group=group)
    assert ended.code == 130, ended.output
    assert "run the same command again" in ended.output
    assert "Traceback" not in ended.output
    assert_part_of(tmp_path, undisturbed(few))
    done, of = rows(tmp_path), rows(undisturbed(few))
    (store,) = done
    assert done[store] >= 5 * BATCH
    ended = tier(few, tmp_path)
    assert ended.code == 0, ended.output
    assert f"encoded {of[store] - done[store]} of {of[store]} distinct inputs" in ended.output
    assert_same(tmp_path, undisturbed(few))


@contextmanager
def read_only(folder: Path) -> Iterator[None]:
    """Forbid writing to `folder`: by a mount for root, by permissions for others."""
    if not os.geteuid():
        bound = (
            subprocess.run(["mount", "--bind", str(folder), str(folder)], capture_output=True).returncode == 0
        )
        if not bound:
            pytest.skip("permissions do not bind root, and nothing may be mounted here")
        try:
            remount(folder, "ro,bind")
            yield
        finally:
            subprocess.run(["umount", "--lazy", str(folder)], check=True)
        return
    inside = [folder, *(path for path in folder.rglob("*") if path.is_dir())]
    for path in inside:
        path.chmod(0o500)
    try:
        yield
    finally:
        for path in inside:
            path.chmod(0o700)


@pytest.mark.parametrize("begun", [False, True], ids=["empty", "begun"])
def test_a_folder_that_may_not_be_written_to(
    tier: Extractor, few: Path, undisturbed: Undisturbed, tmp_path: Path, begun: bool
) -> None:
    if begun:
        assert tier(few, tmp_path, moment=Moment("encode", 6), sent=signal.SIGTERM).code == 130
    before = files(tmp_path)
    with read_only(tmp_path):
        ended = tier(few, tmp_path)
    assert_refused(ended, "Permission denied" if os.geteuid() else "Read-only file system")
    assert files(tmp_path) == before
    ended = tier(few, tmp_path)
    assert ended.code == 0, ended.output
    assert_same(tmp_path, undisturbed(few))


def test_a_folder_that_vanishes(tier: Extractor, few: Path, undisturbed: Undisturbed, tmp_path: Path) -> None:
    root, elsewhere = tmp_path / "features", tmp_path / "elsewhere"
    ended = tier(few, root, moment=Moment("encode", 6), move=(str(root), str(elsewhere)))
    assert_refused(ended, "the store was removed while it was written to")
    assert not root.exists() and rows(elsewhere).total() > 0
    assert_part_of(elsewhere, undisturbed(few))
    elsewhere.rename(root)
    ended = tier(few, root)
    assert ended.code == 0, ended.output
    assert_same(root, undisturbed(few))
