"""Every text file that a user gives may begin with a byte order mark, in any Unicode encoding."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from transformers import CLIPConfig

from tier4k.cache.store import FeatureStore
from tier4k.extract.encoders.image_processors import _describes_images
from tier4k.extract.encoders.templates import read_templates
from tier4k.extract.encoders.transformers_config import read_config
from tier4k.extract.scorers import checkpoints
from tier4k.extract.weights.files import shard_of_tensor
from tier4k.heads.commands.config_file import read_sections
from tier4k.heads.data.stored_splits import StoredSplits
from tier4k.heads.results.json_files import read_json
from tier4k.heads.sweeps.blocks import as_blocks
from tier4k.tests.builders.signatures import signature

MARKED = ["utf-8", "utf-8-sig", "utf-16", "utf-32"]


def splits(path: Path) -> object:
    return StoredSplits.read(path).repeats[0].train


def clip_width(path: Path) -> object:
    return checkpoints.read_config(path.parent, CLIPConfig).projection_dim


# {name of the file: its text, what reads it, the value that is read}
FILES: dict[str, tuple[str, Callable[[Path], object], object]] = {
    "splits.json": ('[{"seed": 1, "train": ["ü"], "validation": [], "test": ["b"]}]', splits, ["ü"]),
    "grid.toml": ('head = ["ridge"]\r\ntarget = "Qualität"\r\n', as_blocks, None),
    "options.toml": (
        '[fit-head]\r\ntarget = ["Qualität"]\r\n',
        read_sections,
        {"fit-head": {"target": ["Qualität"]}},
    ),
    "templates.toml": (
        'quality = ["schön", "b"]\r\nagreement = ["c", "d"]\r\n',
        lambda path: read_templates(path).texts[0],
        "schön",
    ),
    "results.json": ('{"ä": 1}', lambda path: read_json(path, dict), {"ä": 1}),
    "model.safetensors.index.json": (
        '{"weight_map": {"ä": "model-1.safetensors"}}',
        shard_of_tensor,
        {"ä": "model-1.safetensors"},
    ),
    "tokenizer_config.json": (
        '{"model_max_length": 77, "name": "ä"}',
        lambda path: read_config(path.parent, path.name)["model_max_length"],
        77,
    ),
    "processor_config.json": ('{"image_processor": "ä"}', _describes_images, True),
    "config.json": (json.dumps(CLIPConfig(projection_dim=24).to_dict()), clip_width, 24),
}


@pytest.mark.parametrize("encoding", MARKED)
@pytest.mark.parametrize("name", FILES)
def test_a_text_file_is_read_in_every_unicode_encoding(tmp_path: Path, name: str, encoding: str) -> None:
    text, read, expected = FILES[name]
    path = tmp_path / name
    path.write_bytes(text.encode(encoding))
    plain = tmp_path / "plain" / name
    plain.parent.mkdir()
    plain.write_bytes(text.encode())
    assert read(path) == read(plain)
    assert expected is None or read(path) == expected


@pytest.mark.parametrize("encoding", MARKED)
def test_a_store_is_opened_after_an_editor_marked_its_signature(tmp_path: Path, encoding: str) -> None:
    store = FeatureStore.create(tmp_path, signature("resnet18"), {})
    path = store.path / "signature.json"
    path.write_bytes(path.read_text().encode(encoding))
    assert FeatureStore.open(store.path).signature == store.signature
