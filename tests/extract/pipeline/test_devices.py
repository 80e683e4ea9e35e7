"""Several devices share the work of an extraction, and fill one store as one device does."""

import multiprocessing
import os
import signal
from dataclasses import replace
from multiprocessing import resource_tracker
from pathlib import Path

import pytest
import torch

from tier4k.cache.compact import compact
from tier4k.cache.store import FeatureStore
from tier4k.extract.datasets.check import check
from tier4k.extract.inputs.dataset import DatasetInputs
from tier4k.extract.pipeline import device_processes
from tier4k.extract.pipeline.device import choose_device, choose_devices
from tier4k.extract.pipeline.listener import Timing
from tier4k.extract.pipeline.options import ExtractionError, ExtractionOptions
from tier4k.extract.pipeline.run import extract
from tier4k.tests.builders.data import tiny_encoder, write_pku
from tier4k.tests.builders.listener import Silent


def test_devices_are_named_with_commas() -> None:
    assert choose_devices("cpu") == [torch.device("cpu")]
    assert choose_devices("cpu, cpu") == [torch.device("cpu")] * 2


@pytest.mark.parametrize(
    ("names", "problem"),
    [
        ("cpu,cuda:99", "'cuda:99' cannot be used.*several with commas between"),
        ("cpu,", "'' cannot be used"),
        ("cpu,meta", "does not encode on devices of type 'meta'"),
    ],
)
def test_a_device_that_cannot_be_used_is_named(names: str, problem: str) -> None:
    with pytest.raises(ExtractionError, match=problem):
        choose_devices(names)


class Gpus:
    """Two GPUs that exist only for `choose_devices`."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
        monkeypatch.setattr(torch, "empty", self.empty)

    def empty(self, _: int, device: str) -> "Gpus":
        self.device = torch.device(device)
        return self


@pytest.mark.parametrize("name", ["cpu,cpu", "cuda:all", "nonsense"])
def test_where_one_device_is_chosen_no_list_of_devices_is_recommended(name: str) -> None:
    with pytest.raises(ExtractionError, match=r"pass --device auto, cpu, cuda, cuda:N or mps$"):
        choose_device(name)


def test_all_gpus_are_every_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    Gpus(monkeypatch)
    assert choose_devices("cuda:all") == [torch.device("cuda:0"), torch.device("cuda:1")]


@pytest.mark.parametrize(
    ("names", "problem"),
    [
        ("cuda:0,cpu", r"of several types \(cpu, cuda\)"),
        ("cuda:1,cuda:1", "one GPU twice"),
        ("cuda,cuda:0", "twice"),
    ],
)
def test_gpus_do_not_mix_and_are_named_once(
    monkeypatch: pytest.MonkeyPatch, names: str, problem: str
) -> None:
    Gpus(monkeypatch)
    with pytest.raises(ExtractionError, match=problem):
        choose_devices(names)


def shards(store: Path) -> dict[str, bytes]:
    compact(FeatureStore.open(store))
    return {path.name: path.read_bytes() for path in store.glob("*.h5")}


@pytest.mark.slow
def test_two_processes_fill_the_store_of_one(tmp_path: Path) -> None:
    write_pku(tmp_path / "data", rows=40)
    (tmp_path / "data" / "All" / "unread.png").touch()
    manifest, encoder = check(tmp_path / "data").manifest, tiny_encoder(tmp_path)
    Path(manifest.images().iloc[9]).write_bytes(b"changed since it was checked")
    stores = []
    for devices in ("cpu", "cpu,cpu"):
        options = ExtractionOptions(2, batch_size=3, unit_rows=6, device=devices)
        listener = Silent()
        (summary,) = extract(DatasetInputs.of(manifest), [encoder], tmp_path / devices, options, listener)
        assert summary.encoded == len(manifest.images()) - 1
        assert listener.done == listener.total["image"] == len(manifest.images())
        assert [one.place for one in summary.unreadable] == [manifest.images().iloc[9]]
        stores.append(shards(summary.store))
    assert stores[0] == stores[1]


@pytest.mark.slow
def test_an_error_of_a_process_is_the_error_of_the_extraction(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    write_pku(tmp_path / "data")
    manifest, encoder = check(tmp_path / "data").manifest, tiny_encoder(tmp_path)
    encoder.weights.path.write_bytes(b"no weights any more")
    options = ExtractionOptions(2, device="cpu,cpu")
    with pytest.raises(Exception, match="tiny|weights") as error:  # as with one device
        extract(DatasetInputs.of(manifest), [encoder], tmp_path / "f", options, Silent())
    assert capfd.readouterr().err == ""  # of the processes that end meanwhile
    with pytest.raises(type(error.value)):
        extract(
            DatasetInputs.of(manifest),
            [encoder],
            tmp_path / "f",
            ExtractionOptions(2, device="cpu"),
            Silent(),
        )
    assert not (tmp_path / "f").exists()


def test_the_first_process_receives_no_interrupt_before_it_can_handle_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    context = multiprocessing.get_context("spawn")
    masks = []

    class Masked(context.Process):  # type: ignore[name-defined, misc]
        def start(self) -> None:
            resource_tracker.ensure_running()  # as the first start of a process does
            masks.append(signal.pthread_sigmask(signal.SIG_BLOCK, ()))

    monkeypatch.setattr(context, "Process", Masked, raising=False)
    monkeypatch.setattr(device_processes, "get_context", lambda _: context)
    resource_tracker._resource_tracker._stop()  # type: ignore[attr-defined]
    device_processes._start([], "cpu", ExtractionOptions(0), 1).connection.close()
    assert masks[0] >= {signal.SIGINT, signal.SIGTERM}


class Killer(Silent):
    """Kills one of the processes when inputs have been encoded for the first time."""

    def __init__(self, sent: signal.Signals) -> None:
        super().__init__()
        self.sent = sent

    def advanced(self, count: int, timing: Timing) -> None:
        """Count inputs, and kill."""
        if not self.done:
            os.kill(multiprocessing.active_children()[0].pid, self.sent)
        super().advanced(count, timing)


@pytest.mark.slow
@pytest.mark.parametrize("sent", [signal.SIGKILL, signal.SIGTERM])
def test_a_killed_process_costs_a_rerun(tmp_path: Path, sent: signal.Signals) -> None:
    write_pku(tmp_path / "data", rows=40)
    manifest, encoder = check(tmp_path / "data").manifest, tiny_encoder(tmp_path)
    options = ExtractionOptions(2, batch_size=1, unit_rows=1, shard_rows=4, device="cpu,cpu")
    with pytest.raises(
        ExtractionError, match="process of the device cpu has ended .*run the same command again"
    ):
        extract(DatasetInputs.of(manifest), [encoder], tmp_path / "two", options, Killer(sent))
    assert not multiprocessing.active_children()
    (again,) = extract(
        DatasetInputs.of(manifest), [encoder], tmp_path / "two", replace(options, device="cpu"), Silent()
    )
    assert again.encoded < again.inputs
    (whole,) = extract(
        DatasetInputs.of(manifest), [encoder], tmp_path / "one", replace(options, device="cpu"), Silent()
    )
    assert shards(again.store) == shards(whole.store)


@pytest.mark.slow
def test_an_interrupt_ends_all_processes_and_keeps_their_features(tmp_path: Path) -> None:
    write_pku(tmp_path / "data", rows=40)
    manifest, encoder = check(tmp_path / "data").manifest, tiny_encoder(tmp_path)
    options = ExtractionOptions(2, batch_size=1, unit_rows=1, device="cpu,cpu")
    listener = Silent()

    def interrupt(count: int, timing: Timing) -> None:
        Silent.advanced(listener, count, timing)
        if listener.done == 10:
            raise KeyboardInterrupt

    listener.advanced = interrupt  # type: ignore[method-assign]
    with pytest.raises(KeyboardInterrupt):
        extract(DatasetInputs.of(manifest), [encoder], tmp_path / "f", options, listener)
    assert not multiprocessing.active_children()
    store = FeatureStore.open(tmp_path / "f" / encoder.signature.folder_name)
    assert len(store.keys) >= 10
