"""config.json of a folder of Hugging Face, read without transformers."""

import json
from pathlib import Path
from typing import Any, NoReturn

from tier4k.cache.text import read_text
from tier4k.extract.encoders.names import EncoderError
from tier4k.extract.weights.files import WeightsError

CONFIG = "config.json"


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
    return content


def read_json(path: Path) -> Any:
    """Return the content of a JSON file in a folder of Hugging Face.

    Raises:
        WeightsError: The file is missing or damaged.
    """
    try:
        return json.loads(read_text(path))
    except (OSError, ValueError, RecursionError) as error:
        raise WeightsError(f"{path} cannot be read ({error}): download the folder again") from error


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
