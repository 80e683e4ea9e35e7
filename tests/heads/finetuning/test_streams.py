"""End-to-end training on some streams of the method alone."""

from pathlib import Path

import numpy as np
import pytest
import torch

from tier4k.extract.datasets.check import check
from tier4k.extract.datasets.choices import Stream
from tier4k.extract.datasets.manifest import Manifest
from tier4k.extract.pipeline.load import load_network
from tier4k.heads.encoders.finetuned import finetuned_encoders
from tier4k.heads.encoders.pair import EncoderPair
from tier4k.heads.finetuning.finetune import finetune
from tier4k.heads.finetuning.network import TierNetwork
from tier4k.heads.protocol.options import FitOptions, ProtocolError
from tier4k.heads.regressors.mlp.stack import HeadNetwork
from tier4k.heads.results.read import read_config
from tier4k.heads.results.read_model import read_model
from tier4k.heads.results.run import Run
from tier4k.tests.builders.golden import write_dataset
from tier4k.tests.golden.head_values import small_encoders

OPTIONS = FitOptions(
    targets=("MOS_q",),
    split="random",
    repeats=1,
    head={"hidden": 8},
    training={"batch_size": 8, "max_epochs": 1},
    models="all",
)


@pytest.fixture(scope="module")
def manifest(tmp_path_factory: pytest.TempPathFactory) -> Manifest:
    folder = tmp_path_factory.mktemp("data")
    write_dataset(folder)
    return check(folder).manifest


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> EncoderPair:
    return EncoderPair(*small_encoders(tmp_path_factory.mktemp("weights")))


def trained(
    manifest: Manifest,
    encoders: EncoderPair,
    out: Path,
    **options: object,
) -> Run:
    return finetune(manifest, encoders, FitOptions(**{**vars(OPTIONS), **options}), out, device="cpu")


@pytest.mark.parametrize("warm_head", [True, False])
def test_images_alone_are_trained_without_a_text_encoder(
    manifest: Manifest, pair: EncoderPair, tmp_path: Path, warm_head: bool
) -> None:
    training = {**OPTIONS.training, "warm_head": warm_head}
    run = trained(
        manifest,
        EncoderPair(pair.image, None),
        tmp_path,
        streams=("image",),
        finetune="all",
        training=training,
    )
    assert set(read_config(run.folder).signatures) == {"image"}
    (head,) = read_model(run.folder).heads.values()
    one_image = torch.zeros(1, 3, 224, 224, dtype=torch.uint8)
    assert head.n_features_in_ == load_network(pair.image)(one_image).shape[1]
    saved = finetuned_encoders(run.folder)
    assert saved.text is None and "@" in saved.image.preset.name


def test_prompts_alone_are_trained_without_an_image_encoder(
    manifest: Manifest, pair: EncoderPair, tmp_path: Path
) -> None:
    run = trained(manifest, EncoderPair(None, pair.text), tmp_path, streams=("text",), finetune="text")
    assert set(read_config(run.folder).signatures) == {"text"}
    saved = finetuned_encoders(run.folder)
    assert saved.image is None and "@" in saved.text.preset.name


@pytest.mark.parametrize(
    ("part", "streams"), [("text", ("image",)), ("image", ("text",)), ("text", ("image", "image-prompt"))]
)
def test_an_encoder_that_no_stream_uses_is_not_trained(
    manifest: Manifest, pair: EncoderPair, tmp_path: Path, part: str, streams: tuple[Stream, ...]
) -> None:
    method = "fr" if "image-prompt" in streams else "nr"
    with pytest.raises(ProtocolError, match=f"--finetune {part} trains the {part} encoder"):
        trained(manifest, pair, tmp_path, method=method, benchmark="I2I", streams=streams, finetune=part)


def test_a_network_concatenates_the_streams_that_it_uses() -> None:
    class Rows(torch.nn.Module):
        """Stands for a batch: features of three rows."""

    batch = Rows()
    random = torch.Generator().manual_seed(0)
    batch.images = (torch.randn(3, 4, generator=random),)
    batch.tokens = torch.randn(3, 2, generator=random)
    batch.image = batch.text = torch.arange(3)
    batch.image_prompt = torch.tensor([1, 2, 0])
    identity = torch.nn.Identity()
    image, text = batch.images[0], batch.tokens
    expected = {
        ("text",): text,
        ("image",): image,
        ("image", "image-prompt"): torch.cat([image, image[[1, 2, 0]]], 1),
        (): torch.cat([text, image, image[[1, 2, 0]]], 1),
    }
    for streams, fused in expected.items():
        head = HeadNetwork(fused.shape[1], 3)
        network = TierNetwork(identity, identity, head, "fr", streams)
        np.testing.assert_array_equal(network(batch).detach(), head(fused).detach())
