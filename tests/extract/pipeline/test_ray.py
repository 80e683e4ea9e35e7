"""Ray encodes what the local engine encodes, whatever happens to its processes."""

import os
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import psutil
import pytest
import torch

from tier4k.cache.store import FeatureStore
from tier4k.extract.encoders.find import find_text_encoder
from tier4k.extract.images.crops import Crops
from tier4k.extract.inputs.dataset import DatasetInputs
from tier4k.extract.pipeline.listener import StreamSummary
from tier4k.extract.pipeline.missing_inputs import Encoder
from tier4k.extract.pipeline.options import ExtractionError, ExtractionOptions, RayOptions
from tier4k.extract.pipeline.run import extract
from tier4k.extract.pipeline.unreadable import require_all_encoded
from tier4k.extract.scorers.find import find_scorer
from tier4k.extract.weights.files import WeightsError
from tier4k.tests.builders.commands import PACKAGE_FOLDER
from tier4k.tests.builders.data import tiny_encoder, write_state
from tier4k.tests.builders.golden import write_tiny_bert
from tier4k.tests.builders.listener import Silent
from tier4k.tests.builders.ray_work import (
    FAILING,
    KILLING,
    WAITING,
    At,
    compacted,
    encoding_processes,
    troubled,
    write_inputs,
)
from tier4k.tests.builders.scorers import write_clip

pytestmark = pytest.mark.slow

LOCAL = ExtractionOptions(2, batch_size=4, text_batch_size=4, unit_rows=4, device="cpu")
RAY = replace(LOCAL, ray=RayOptions(actors=1))
CPUS = 4
PATIENCE = 120  # seconds; Ray's processes end within two on an idle machine


@pytest.fixture(scope="module", autouse=True)
def ray() -> Iterator[None]:
    ray = pytest.importorskip("ray")

    ray.init(
        address="local",
        num_cpus=CPUS,
        include_dashboard=False,
        object_store_memory=200 * 2**20,
        log_to_driver=False,
    )
    yield
    ray.shutdown()


def locally(
    dataset: DatasetInputs,
    encoders: Sequence[Encoder],
    root: Path,
    listener: Silent,
    actors: int,
) -> list[StreamSummary]:
    """Encode without Ray, with as many threads as each actor has, as others round differently."""
    threads = torch.get_num_threads()
    torch.set_num_threads(CPUS // 2 // actors)
    try:
        return extract(dataset, encoders, root, LOCAL, listener)
    finally:
        torch.set_num_threads(threads)


def test_all_kinds_of_encoders_fill_the_stores_of_the_local_engine(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)  # not where Ray was started
    dataset = write_inputs(tmp_path / "data", rows=12)
    Path(dataset.images.texts([3])[0]).write_bytes(b"changed since it was checked")
    write_tiny_bert(tmp_path)
    image = tiny_encoder(Path())
    encoders = [
        image,
        replace(image, crops=Crops(2, 5)),
        find_text_encoder("bert-base-uncased", tmp_path),
        find_scorer("clipscore", write_clip(tmp_path / "clip")),
    ]
    listener, local_listener = Silent(), Silent()
    summaries = extract(dataset, encoders, tmp_path / "ray", RAY, listener)
    local = locally(dataset, encoders, tmp_path / "local", local_listener, actors=1)
    assert [(one.inputs, one.encoded, one.batch_size, one.unreadable) for one in summaries] == [
        (one.inputs, one.encoded, one.batch_size, one.unreadable) for one in local
    ]
    assert summaries[0].unreadable and not summaries[0].failed
    assert (listener.total, listener.done) == (local_listener.total, local_listener.done)
    assert compacted(tmp_path / "ray") == compacted(tmp_path / "local")


def test_lost_processes_cost_no_row_but_those_of_inputs_that_end_them_each_time(tmp_path: Path) -> None:
    dataset, encoder = (
        write_inputs(tmp_path / "data", rows=24, sizes=(KILLING, FAILING, WAITING)),
        tiny_encoder(tmp_path),
    )
    killed = tmp_path / "killed"  # the job cannot end before
    bad = troubled(encoder, seconds=0.05, killing=KILLING, failing=FAILING, awaited=killed)
    lost: list[psutil.Process] = []

    def kill() -> None:
        for process in encoding_processes():
            process.kill()
            lost.append(process)
        killed.touch()

    two = replace(RAY, ray=RayOptions(actors=2))
    (summary,) = extract(dataset, [bad], tmp_path / "ray", two, At(4, kill))
    assert lost
    first, second = sorted(summary.failed, key=lambda unit: unit.reason)
    assert "RuntimeError: a fault of a library" in first.reason
    assert "ended in each of 3 attempts" in second.reason
    assert summary.encoded == summary.inputs - first.count - second.count
    with pytest.raises(ExtractionError, match=f"{first.count + second.count} inputs were given up") as error:
        require_all_encoded([summary], "skip")
    assert first.inputs[0] in str(error.value)
    (again,) = locally(dataset, [encoder], tmp_path / "ray", Silent(), actors=2)
    assert again.encoded == first.count + second.count
    locally(dataset, [encoder], tmp_path / "local", Silent(), actors=2)
    assert compacted(tmp_path / "ray") == compacted(tmp_path / "local")


def test_an_error_that_another_attempt_cannot_fix_ends_the_job_as_without_ray(tmp_path: Path) -> None:
    dataset, encoder = write_inputs(tmp_path / "data"), tiny_encoder(tmp_path)
    write_state("test_vit", encoder.weights.path)  # of another network
    messages = []
    for options in (LOCAL, RAY):
        with pytest.raises(WeightsError) as error:
            extract(dataset, [encoder], tmp_path / "features", options, Silent())
        messages.append(str(error.value))
    assert messages[0] == messages[1]
    assert not list((tmp_path / "features").glob("*/signature.json"))


def test_a_killed_driver_leaves_no_process_and_a_rerun_completes_its_work(tmp_path: Path) -> None:
    dataset, encoder = write_inputs(tmp_path / "data", rows=40), tiny_encoder(tmp_path)
    features = tmp_path / "features"
    driver = subprocess.Popen(
        [sys.executable, "-m", "tier4k.tests.builders.ray_work", tmp_path / "data", tmp_path, features],
        env=os.environ | {"PYTHONPATH": str(PACKAGE_FOLDER)},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    while not list(features.glob("*/*.h5")):
        assert driver.poll() is None, driver.communicate()[0]
        time.sleep(0.1)
    processes = psutil.Process(driver.pid).children(recursive=True)
    driver.kill()
    assert driver.communicate(timeout=PATIENCE)[0] == ""
    # Two agents of Ray notice within two minutes that the driver is gone.
    others = [process for process in processes if "Agent" not in process.name()]
    assert len(others) > 3 and not psutil.wait_procs(others, timeout=PATIENCE)[1]
    (again,) = extract(dataset, [encoder], features, RAY, Silent())
    assert 0 < again.encoded < again.inputs
    locally(dataset, [encoder], tmp_path / "local", Silent(), actors=1)
    name, keys = encoder.signature.folder_name, dataset.images.keys
    # The driver's Ray has the cores of this machine, so that its processes may have other numbers of threads.
    np.testing.assert_allclose(
        FeatureStore.open(features / name).read(keys),
        FeatureStore.open(tmp_path / "local" / name).read(keys),
        atol=1e-5,
    )
