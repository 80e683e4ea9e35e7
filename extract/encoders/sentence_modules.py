"""Folders of sentence-transformers: how they pool the states of tokens, and what follows.

modules.json lists a transformer, a pooling, and perhaps layers after it. The files are read here; the library
is not used. Its classes are documented at https://sbert.net/docs/package_reference/.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tier4k.extract.encoders.names import EncoderError
from tier4k.extract.encoders.transformers_config import read_config, read_json
from tier4k.extract.weights.files import TEXT_WEIGHT_FILES, WeightsError

MODULES = "modules.json"
TRANSFORMER_OPTIONS = "sentence_bert_config.json"
MODEL_OPTIONS = "config_sentence_transformers.json"
EMPTY_PROMPTS = ("query", "document")  # prompts that the library has without a text in the file
EMBEDDING = "sentence_embedding"  # the library's name of the pooled vector, which every layer takes
# Older files have a switch for each pooling; here the pooling by its switch, in the order of the vectors.
POOLING_OF = {
    "pooling_mode_cls_token": "cls",
    "pooling_mode_max_tokens": "max",
    "pooling_mode_mean_tokens": "mean",
    "pooling_mode_mean_sqrt_len_tokens": "mean_sqrt_len_tokens",
}
UNREAD_POOLING_OF = {
    "pooling_mode_weightedmean_tokens": "weightedmean",
    "pooling_mode_lasttoken": "lasttoken",
}
ACTIVATIONS = ("Identity", "Tanh", "ReLU", "GELU", "Sigmoid", "SiLU")  # of torch.nn


@dataclass(frozen=True)
class Dense:
    """A linear layer with an activation.

    Attributes:
        folder: Name of the folder with its weights.
        width, new_width: Widths of the vectors before and after it.
        bias: Whether it adds a bias.
        activation: Name of the activation in `torch.nn`.
    """

    folder: str
    width: int
    new_width: int
    bias: bool
    activation: str

    def __str__(self) -> str:
        """Return the text in a signature. The weights are part of the hash of the folder's weights."""
        return f"dense {self.width} to {self.new_width} {self.activation}"


@dataclass(frozen=True)
class Normalize:
    """Division of a vector by its Euclidean norm."""

    def __str__(self) -> str:
        """Return the text in a signature."""
        return "normalize"


@dataclass(frozen=True)
class SentenceModules:
    """What follows the transformer.

    Attributes:
        poolings: Names of the poolings, whose vectors are concatenated.
        layers: Layers after the pooling.
        max_tokens: Number of tokens at which longer texts are truncated; None where the folder states none.
        prompt: Text that is put before every text.
        files: Files of the folder that sentence-transformers reads besides those of transformers.
    """

    poolings: tuple[str, ...] = ("mean",)
    layers: tuple[Dense | Normalize, ...] = ()
    max_tokens: int | None = None
    prompt: str = ""
    files: tuple[str, ...] = ()

    @property
    def feature(self) -> str:
        """The text of the feature point in a signature."""
        if self.poolings == ("mean",) and not self.layers:
            return "masked-mean"
        return "sentence-transformers: " + ", ".join([" + ".join(self.poolings), *map(str, self.layers)])

    @property
    def weight_files(self) -> tuple[str, ...]:
        """The files of the dense layers, which can change a feature."""
        folders = tuple(f"{layer.folder}/" for layer in self.layers if isinstance(layer, Dense))
        return tuple(name for name in self.files if name.startswith(folders)) if folders else ()


def sentence_modules(folder: Path) -> SentenceModules | None:
    """Read the modules of a folder; None if the folder is not one of sentence-transformers.

    Raises:
        EncoderError: The folder has a module or an option that this program does not have.
        WeightsError: A file is missing or damaged.
    """
    if not (folder / MODULES).is_file():
        return None
    modules = _modules(folder)
    names = [name for name, _ in modules]
    if names[:2] != ["Transformer", "Pooling"] or modules[0][1] != "":
        raise EncoderError(
            f"{folder / MODULES} lists the modules {', '.join(names)}: tier4k reads a Transformer in the "
            "folder itself, a Pooling, then Dense and Normalize; pass another encoder"
        )
    layers: list[Dense | Normalize] = []
    for name, path in modules[2:]:
        layers.append(_layer(folder, name, path))
    return SentenceModules(
        poolings=_poolings(folder, modules[1][1]),
        layers=tuple(layers),
        max_tokens=_max_tokens(folder),
        prompt=_prompt(folder),
        files=_files(folder, [path for _, path in modules[1:]]),
    )


def _modules(folder: Path) -> list[tuple[str, str]]:
    """Return class and folder of every module."""
    path = folder / MODULES
    try:
        entries = [(str(entry["type"]), str(entry["path"])) for entry in read_json(path)]
    except (TypeError, KeyError) as error:
        raise WeightsError(f"{path} is no list of modules: download the folder again") from error
    for kind, place in entries:
        if not kind.startswith("sentence_transformers."):
            raise EncoderError(
                f"{path} names the module {kind!r}, whose code comes with the folder and is never run: "
                "pass another encoder"
            )
        if place and (folder / place).resolve().parent != folder.resolve():
            raise WeightsError(f"{path} names the folder {place!r} outside of {folder}: download it again")
    return [(kind.rpartition(".")[2], place) for kind, place in entries]


def _poolings(folder: Path, name: str) -> tuple[str, ...]:
    path = folder / name / "config.json"
    content = read_config(folder / name)
    stated = content.get("pooling_mode")
    if stated is None:
        switches = POOLING_OF | UNREAD_POOLING_OF
        stated = [pooling for switch, pooling in switches.items() if content.get(switch)] or ["mean"]
    if not isinstance(stated, list):
        stated = [stated]
    poolings = tuple(map(str, stated))
    for pooling in poolings:
        if pooling not in POOLING_OF.values():
            raise EncoderError(
                f"{path} pools by {pooling!r}, which tier4k does not do (it does "
                f"{', '.join(POOLING_OF.values())}): pass another encoder"
            )
    if content.get("include_prompt") is False and _prompt(folder):
        raise EncoderError(f"{path} leaves the prompt out of the pooling: pass another encoder")
    return poolings


def _layer(
    folder: Path,
    name: str,
    place: str,
) -> Dense | Normalize:
    if name == "Normalize":
        return Normalize()
    if name != "Dense":
        raise EncoderError(
            f"{folder / MODULES} has the module {name}, which tier4k does not have (it has Dense and "
            "Normalize): pass another encoder"
        )
    path = folder / place / "config.json"
    content = read_config(folder / place)
    activation = str(content.get("activation_function", "torch.nn.modules.activation.Tanh"))
    known = activation.startswith("torch.nn.") and activation.rpartition(".")[2] in ACTIVATIONS
    inputs = {content.get(key) or EMBEDDING for key in ("module_input_name", "module_output_name")}
    if not known or content.get("use_residual") or inputs != {EMBEDDING}:
        raise EncoderError(
            f"{path} describes a dense layer that tier4k does not have: its "
            f"activation must be one of {', '.join(ACTIVATIONS)}, without a residual, applied to the pooled "
            "vector; pass another encoder"
        )
    width, new_width = content.get("in_features"), content.get("out_features")
    if not (type(width) is type(new_width) is int and width > 0 and new_width > 0):
        raise WeightsError(f"{path} lacks the widths in_features and out_features: download the folder again")
    return Dense(place, width, new_width, bool(content.get("bias", True)), activation.rpartition(".")[2])


def _max_tokens(folder: Path) -> int | None:
    """Return the folder's limit: of its transformer's options, or else of its tokenizer."""
    content = read_config(folder, TRANSFORMER_OPTIONS) if (folder / TRANSFORMER_OPTIONS).is_file() else {}
    if content.get("do_lower_case"):
        raise EncoderError(
            f"{folder / TRANSFORMER_OPTIONS} lower-cases texts before the tokenizer, which tier4k does not "
            "do: set do_lower_case there to false, or pass another encoder"
        )
    stated = content.get("max_seq_length")
    return int(stated) if isinstance(stated, int) and stated > 0 else None


def _prompt(folder: Path) -> str:
    if not (folder / MODEL_OPTIONS).is_file():
        return ""
    content = read_config(folder, MODEL_OPTIONS)
    prompts: Any = content.get("prompts") or {}
    name: Any = content.get("default_prompt_name")
    if name is None:
        return ""
    if not isinstance(prompts, dict) or name not in {*prompts, *EMPTY_PROMPTS}:
        raise WeightsError(
            f"{folder / MODEL_OPTIONS} has no prompt {name!r}, the name under 'default_prompt_name' there: "
            "correct the name, or download the folder again"
        )
    return str(prompts.get(name) or "")


def _files(folder: Path, places: list[str]) -> tuple[str, ...]:
    """Return the names of the files that exist, relative to the folder."""
    names = [MODULES, TRANSFORMER_OPTIONS, MODEL_OPTIONS]
    for place in places:
        names.extend(f"{place}/{name}" for name in ("config.json", *TEXT_WEIGHT_FILES))
    return tuple(name for name in names if (folder / name).is_file())
