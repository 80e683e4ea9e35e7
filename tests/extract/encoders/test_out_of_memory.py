"""Memory that is too small is recognised in every form and place, and smaller batches do the work."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from tier4k.cache.store import FeatureStore
from tier4k.extract.datasets.check import check
from tier4k.extract.encoders.find import find_text_encoder
from tier4k.extract.encoders.out_of_memory import is_out_of_memory
from tier4k.extract.encoders.text_tokenizer import TokenBatch
from tier4k.extract.inputs.dataset import DatasetInputs
from tier4k.extract.pipeline.encode import padded, padded_count
from tier4k.extract.pipeline.options import ExtractionError, ExtractionOptions
from tier4k.extract.pipeline.run import extract
from tier4k.extract.pipeline.upload import Uploader
from tier4k.extract.scorers.clip_network import ClipNetwork
from tier4k.extract.scorers.find import find_scorer
from tier4k.tests.builders.data import tiny_encoder, write_pku
from tier4k.tests.builders.golden import write_tiny_bert
from tier4k.tests.builders.listener import Silent
from tier4k.tests.builders.scorers import write_clip

OPTIONS = ExtractionOptions(2, batch_size=8, text_batch_size=8, device="cpu")

FORMS = [
    torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB"),
    RuntimeError("CUDA error: out of memory\nCUDA kernel errors might be asynchronously reported"),
    RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"),
    RuntimeError("cuDNN error: CUDNN_STATUS_ALLOC_FAILED"),
    RuntimeError("MPS backend out of memory (MPS allocated: 17.00 GB)"),
    RuntimeError("[enforce fail at alloc_cpu.cpp:121] DefaultCPUAllocator: can't allocate memory: you tried"),
    RuntimeError("DefaultCPUAllocator: not enough memory: you tried to allocate 1 bytes."),
    MemoryError(),
]


@pytest.mark.parametrize("error", FORMS)
def test_every_form_is_recognised(error: Exception) -> None:
    assert is_out_of_memory(error)


@pytest.mark.parametrize(
    "error", [RuntimeError("size mismatch"), ValueError("CUDA out of memory"), KeyError()]
)
def test_other_errors_are_not(error: Exception) -> None:
    assert not is_out_of_memory(error)


def limited(function: Callable, most: int, given: list[int]) -> Callable:
    """A function that runs out of memory where its second argument has more than `most` rows."""

    def call(self: object, rows, *more: object):
        given.append(len(rows))
        if len(rows) > most:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return function(self, rows, *more)

    return call


@pytest.mark.parametrize("name", ["encode_images", "score", "encode_texts"])
def test_a_scorer_continues_in_smaller_batches(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    write_pku(tmp_path / "data", rows=12)
    manifest = check(tmp_path / "data").manifest
    scorer = find_scorer("clipscore", write_clip(tmp_path / "clip"))
    (expected,) = extract(DatasetInputs.of(manifest), [scorer], tmp_path / "whole", OPTIONS, Silent())
    given: list[int] = []
    monkeypatch.setattr(ClipNetwork, name, limited(getattr(ClipNetwork, name), 2, given))
    (found,) = extract(DatasetInputs.of(manifest), [scorer], tmp_path / "f", OPTIONS, Silent())
    assert max(given) > 2
    assert found.encoded == expected.encoded
    assert_equal_stores(found.store, expected.store)


def test_texts_are_encoded_in_smaller_batches(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_pku(tmp_path / "data", rows=24)
    manifest = check(tmp_path / "data").manifest
    write_tiny_bert(tmp_path / "bert")
    encoder = find_text_encoder("bert-base-uncased", tmp_path / "bert")
    (expected,) = extract(DatasetInputs.of(manifest), [encoder], tmp_path / "whole", OPTIONS, Silent())
    move, given = TokenBatch.to, []

    def limited_move(self: TokenBatch, device: torch.device) -> TokenBatch:
        given.append(len(self.ids))
        if len(self.ids) > 3:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return move(self, device)

    monkeypatch.setattr(TokenBatch, "to", limited_move)
    (found,) = extract(DatasetInputs.of(manifest), [encoder], tmp_path / "f", OPTIONS, Silent())
    assert [size for size in given if size > 3] == [8, 4]
    assert found.batch_size == 2
    assert_equal_stores(found.store, expected.store)


def test_images_that_do_not_fit_beside_a_batch_make_it_smaller(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_pku(tmp_path / "data")
    manifest, encoder = check(tmp_path / "data").manifest, tiny_encoder(tmp_path)
    (expected,) = extract(DatasetInputs.of(manifest), [encoder], tmp_path / "whole", OPTIONS, Silent())
    copied, failures = Uploader._copied, iter([True, True])

    def failing_twice(self: Uploader, pixels: torch.Tensor) -> torch.Tensor:
        if next(failures, False):
            raise torch.OutOfMemoryError("CUDA out of memory")
        return copied(self, pixels)

    monkeypatch.setattr(Uploader, "_copied", failing_twice)
    (found,) = extract(DatasetInputs.of(manifest), [encoder], tmp_path / "f", OPTIONS, Silent())
    assert found.batch_size == 2
    assert_equal_stores(found.store, expected.store)


def test_images_that_never_fit_are_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_pku(tmp_path / "data")
    manifest, encoder = check(tmp_path / "data").manifest, tiny_encoder(tmp_path)

    def fail(self: Uploader, pixels: torch.Tensor) -> torch.Tensor:
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(Uploader, "_copied", fail)
    with pytest.raises(ExtractionError, match="too little memory for a single input"):
        extract(DatasetInputs.of(manifest), [encoder], tmp_path / "f", OPTIONS, Silent())


def test_encoded_texts_of_a_scorer_stay_in_the_memory_of_the_machine(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`cpu` is called on what the device has encoded; what is kept is what it returned."""
    write_pku(tmp_path / "data", rows=12)
    manifest = check(tmp_path / "data").manifest
    scorer = find_scorer("clipscore", write_clip(tmp_path / "clip"))
    kept: list[torch.Tensor] = []
    encode_texts, to_host = ClipNetwork.encode_texts, torch.Tensor.cpu
    encoded: set[int] = set()

    def noted(self: ClipNetwork, texts: list[str]) -> torch.Tensor:
        features = encode_texts(self, texts)
        encoded.add(features.data_ptr())
        return features

    def moved(self: torch.Tensor) -> torch.Tensor:
        if self.data_ptr() in encoded:
            kept.append(self)
        return to_host(self)

    monkeypatch.setattr(ClipNetwork, "encode_texts", noted)
    monkeypatch.setattr(torch.Tensor, "cpu", moved)
    extract(DatasetInputs.of(manifest), [scorer], tmp_path / "f", OPTIONS, Silent())
    assert len(kept) >= 1


def assert_equal_stores(found: Path, expected: Path) -> None:
    """The stores hold the same features up to rounding."""
    one, other = FeatureStore.open(found), FeatureStore.open(expected)
    features = other.read(other.keys)
    scale = np.abs(features).max()
    np.testing.assert_allclose(one.read(other.keys), features, rtol=0, atol=1e-5 * scale)


@pytest.mark.parametrize(
    ("count", "batch_size", "size"),
    [(1, 256, 1), (3, 256, 4), (200, 256, 256), (256, 256, 256), (65, 100, 100), (100, 100, 100)],
)
def test_batches_of_a_gpu_have_few_sizes(count: int, batch_size: int, size: int) -> None:
    assert padded_count(count, batch_size, "cuda") == size
    assert padded_count(count, batch_size, "cpu") == count
    crops = torch.arange(count).view(-1, 1, 1, 1)
    assert torch.equal(padded(crops, size)[:count], crops) and len(padded(crops, size)) == size
