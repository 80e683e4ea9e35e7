"""config.json of a folder of Hugging Face, read without transformers."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NoReturn

from tier4k.cache.text import read_text, shortened
from tier4k.extract.encoders.names import EncoderError
from tier4k.extract.weights.files import WeightsError

CONFIG = "config.json"

# The largest value of the fields whose names contain a text, the first one that fits.
LARGEST = {
    "layers": 1000,
    "depth": 1000,
    "heads": 10_000,
    "vocab_size": 100_000_000,
    "_size": 1_000_000,
    "dim": 1_000_000,
    "features": 1_000_000,
    "d_model": 1_000_000,
    "d_ff": 1_000_000,
    "d_kv": 1_000_000,
}

OBJECTS = ("text_config", "vision_config")

LARGEST_OTHER = 10**31
"""Files state a limit of 10^30 tokens where a tokenizer has none."""


def read_config(folder: Path, name: str = CONFIG) -> dict[str, Any]:
    """Return the content of a configuration in a folder.

    Args:
        folder: A folder of Hugging Face.
        name: Name of the file in the folder.

    Raises:
        WeightsError: The file is missing or damaged.
    """
    path = folder / name
    content = read_json(path)
    if not isinstance(content, dict):
        raise WeightsError(f"{path} is no configuration of transformers: download the folder again")
    _require_types(content, path)
    _require_ranges(content, path)
    return content


def _require_types(content: Mapping[str, Any], path: Path) -> None:
    """Require the types of the fields that are read before transformers checks them; null is no value.

    Raises:
        WeightsError: A field has another type.
    """
    classes = content.get("architectures") or []
    if not isinstance(classes, list) or not all(isinstance(name, str) for name in classes):
        raise WeightsError(
            f"{path} states architectures = {shortened(classes, 60)}, which is no list of names: "
            "download the folder again"
        )
    for name in OBJECTS:
        if not isinstance(content.get(name) or {}, Mapping):
            raise WeightsError(
                f"{path} states {name} = {shortened(content[name], 60)}, which is no object: "
                "download the folder again"
            )


def _require_ranges(content: Mapping[str, Any], path: Path) -> None:
    """Require sizes of a network that can be built; a network of a billion layers would take for ever.

    Raises:
        WeightsError: A number is too large, negative or not finite.
    """
    for name, value in content.items():
        for item in value if isinstance(value, list) else [value]:
            if isinstance(item, Mapping):
                _require_ranges(item, path)
            elif isinstance(item, int | float) and not _is_in_range(name, item):
                raise WeightsError(
                    f"{path} states {name} = {shortened(item, 60)}, and networks have at most "
                    f"{_largest(name):,}: download the folder again"
                )


def _is_in_range(name: str, value: float) -> bool:
    return not _largest(name) < abs(value) and value == value  # NaN differs from itself


def _largest(name: str) -> int:
    """Return the largest number that a field of a configuration may have."""
    for part, largest in LARGEST.items():
        if part in name:
            return largest
    return LARGEST_OTHER


def read_json(path: Path) -> Any:
    """Return the content of a JSON file in a folder of Hugging Face.

    Raises:
        WeightsError: The file is missing or damaged.
    """
    try:
        return json.loads(read_text(path))
    except (OSError, ValueError, RecursionError) as error:
        raise WeightsError(
            f"{path} cannot be read ({shortened(error)}): download the folder again"
        ) from error


def tower_config(config: Any, name: str) -> Any:
    """Return the configuration of one tower of a model of images and texts.

    Args:
        config: A configuration of transformers.
        name: "vision_config" or "text_config".

    Returns:
        The configuration of the tower, which projects to the width that the whole model states; `config`
        itself if the model has one tower.
    """
    tower = getattr(config, name, None)
    if tower is None:
        return config
    if hasattr(tower, "projection_dim") and hasattr(config, "projection_dim"):
        tower.projection_dim = config.projection_dim
    return tower


def refuse_unknown_type(folder: Path, content: dict[str, Any]) -> NoReturn:
    """Refuse a folder with a model that transformers does not have.

    Raises:
        EncoderError: Always.
    """
    kind = str(content.get("model_type"))
    if content.get("auto_map"):
        raise EncoderError(
            f"the model in {folder} (model_type {kind!r}) needs Python code that comes with its files, which "
            "tier4k never runs: pass a model that transformers itself contains"
        )
    raise EncoderError(
        f"this version of transformers has no model of type {kind!r}, which {folder / CONFIG} names: "
        "update transformers, or pass another model"
    )
