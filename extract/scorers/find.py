"""Finding a scorer's weights and tokenizer."""

from collections.abc import Iterator, Sequence
from pathlib import Path

from tier4k.extract.encoders.choices import Precision
from tier4k.extract.encoders.hub import from_hub
from tier4k.extract.encoders.presets import TEXT_PRESETS
from tier4k.extract.encoders.weights import (
    MODEL_FILES,
    TOKENIZER_FILES,
    TOKENIZER_PARTS,
    Weights,
    WeightsError,
    file_weights,
    find_file,
    folder_weights,
)
from tier4k.extract.scorers.presets import ScorerPreset, scorer_preset
from tier4k.extract.scorers.scorer import Scorer


def find_scorer(
    name: str, weights: Path | None = None, folders: Sequence[Path] = (), precision: Precision | None = None
) -> Scorer:
    """Find a scorer, its weights and its tokenizer.

    Args:
        name: A name of `SCORERS`.
        weights: A file or folder given by the user, which is then the only place looked at for the weights.
        folders: Folders that may hold `pretrained/` and folders of Hugging Face's layout.
        precision: Arithmetic of the network, fp32 for None.

    Raises:
        EncoderError: No such scorer.
        WeightsError: No weights or no tokenizer; the message says what, where it can be had and where to put it.
    """
    preset = scorer_preset(name)
    found = _weights(preset, weights, folders)
    return Scorer(preset, found, _tokenizer(preset, found.path, folders), precision or "fp32")


def _weights(preset: ScorerPreset, given: Path | None, folders: Sequence[Path]) -> Weights:
    if given is not None:
        return _weights_at(preset, given, "--weights")
    # The file first: a folder ImageReward/ may be a copy of its code.
    if found := find_file(preset.files, folders):
        return file_weights(found, str(found))
    if folder := next(filter(Path.is_dir, _places(preset.folder, folders)), None):
        return _weights_at(preset, folder, str(folder))
    if hub := from_hub(preset.hub, preset.files or ("config.json", "model.safetensors", *TOKENIZER_PARTS)):
        return _weights_at(preset, hub, f"hub {preset.hub}")
    here = folders[0] if folders else Path.cwd()
    what = " or ".join(
        [
            *(f"{name} into {here}/pretrained/" for name in preset.files),
            f"a folder {preset.folder}/ into {here}",
        ]
    )
    raise WeightsError(
        f"no weights for the scorer {preset.name}: put {what} (or beside the data), or give --weights "
        f"{'FILE or DIR' if preset.files else 'DIR'}.\nThey can be had from: {preset.download}"
    )


def _places(name: str, folders: Sequence[Path]) -> Iterator[Path]:
    """Where a folder of this name may stand."""
    return (place / name for folder in folders for place in (folder, folder / "pretrained"))


def _weights_at(preset: ScorerPreset, path: Path, source: str) -> Weights:
    """Weights of an original file, of a folder that holds one, or of a folder of Hugging Face's layout."""
    if path.is_dir():
        if inside := [path / name for name in preset.files if (path / name).is_file()]:
            return file_weights(inside[0], source)
        if preset.files and not (path / "config.json").is_file():
            what = f"neither {' nor '.join(preset.files)} nor config.json and weights as Hugging Face lays them out"
            raise WeightsError(
                f"{source}: the folder {path} holds {what}.\nThey can be had from: {preset.download}"
            )
        return folder_weights(path, source, MODEL_FILES)
    if path.is_file() and not preset.files:
        raise WeightsError(
            f"{source}: {path} is a file; {preset.name} is read from a folder as {preset.download} has it"
        )
    return file_weights(path, source)


def _tokenizer(preset: ScorerPreset, weights: Path, folders: Sequence[Path]) -> Weights:
    places = [weights, *_places(preset.tokenizer, folders)]
    wanted = ("vocab.txt",) if preset.vocabulary else TOKENIZER_FILES
    found = next((place for place in places if any((place / name).is_file() for name in wanted)), None)
    source = str(found)
    if found is None and preset.vocabulary:
        package = TEXT_PRESETS["minilm"].require_package()  # MiniLM's vocabulary is that of bert-base-uncased
        found, source = package.find(), f"package {package.module}"
    if found is None:
        found, source = from_hub(preset.tokenizer_hub, TOKENIZER_PARTS), f"hub {preset.tokenizer_hub}"
    if found is None:
        files = "vocab.txt" if preset.vocabulary else "tokenizer.json, or vocab.json and merges.txt"
        raise WeightsError(
            f"no tokenizer for the scorer {preset.name}: put its files ({files}) beside its weights {weights}, or a folder "
            f"{preset.tokenizer}/ beside the data.\nThey can be had from: https://huggingface.co/{preset.tokenizer_hub}"
        )
    return (
        file_weights(found / "vocab.txt", source)
        if preset.vocabulary
        else folder_weights(found, source, TOKENIZER_PARTS)
    )
