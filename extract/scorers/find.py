"""Finding a scorer's weights and tokenizer."""

from collections.abc import Sequence
from pathlib import Path

from tier4k.extract.encoders.choices import Precision
from tier4k.extract.encoders.names import EncoderError
from tier4k.extract.encoders.presets import TEXT_PRESETS
from tier4k.extract.scorers.called import CalledScorer, find_called
from tier4k.extract.scorers.presets import SCORERS, ScorerPreset, scorer_preset
from tier4k.extract.scorers.scorer import Scorer
from tier4k.extract.weights.files import (
    MODEL_FILES,
    PRETRAINED,
    TOKENIZER_FILES,
    TOKENIZER_PARTS,
    Weights,
    WeightsError,
    file_weights,
    find_file,
    folder_weights,
)
from tier4k.extract.weights.hub import from_hub

HUB_FILES = ("config.json", "model.safetensors", *TOKENIZER_PARTS)

VOCABULARY_FILE = "vocab.txt"

AnyScorer = Scorer | CalledScorer


def is_scorer_name(name: str) -> bool:
    """Return whether a name is that of a published scorer, or of one of another package.

    Raises:
        PluginError: The scorer of another package cannot be imported.
    """
    return name in SCORERS or find_called(name) is not None


def reads_prompts(name: str) -> bool:
    """Return whether the scorer with a name reads text prompts, as all published ones do.

    Raises:
        PluginError: The scorer of another package cannot be imported.
    """
    called = None if name in SCORERS else find_called(name)
    return called is None or called.reads_prompts


def find_scorer(
    name: str,
    weights: Path | None = None,
    folders: Sequence[Path] = (),
    precision: Precision | None = None,
    lower_is_better: bool = False,
) -> AnyScorer:
    """Find a scorer, its weights and its tokenizer.

    Args:
        name: A name of `SCORERS`, or a scorer of another package (see `find_called`).
        weights: A file or folder given by the user, which is then the only place looked at for the weights.
        folders: Folders that may hold `pretrained/` and folders in Hugging Face's layout.
        precision: Arithmetic of the network, fp32 for None.
        lower_is_better: Whether the sign of the scores of another package is changed.

    Raises:
        EncoderError: No such scorer, or one that does not take the options.
        PluginError: The scorer of another package cannot be imported.
        WeightsError: No weights or no tokenizer; the message names the files, their source and their place.
    """
    if name not in SCORERS and (called := find_called(name, lower_is_better)):
        if weights or precision:
            raise EncoderError(
                f"the scorer {name} of another package has its own weights and arithmetic: leave out "
                "--weights and --precision"
            )
        return called
    preset = scorer_preset(name)
    if lower_is_better:
        raise EncoderError(f"higher is better in the scores of {name}: leave out --lower-is-better")
    found = _weights_at(preset, weights, "--weights") if weights else _find_weights(preset, folders)
    return Scorer(
        preset=preset,
        weights=found,
        tokenizer=_find_tokenizer(preset, found.path, folders),
        precision=precision or "fp32",
    )


def _find_weights(preset: ScorerPreset, folders: Sequence[Path]) -> Weights:
    # The file comes first, as a folder ImageReward/ may be a copy of its code.
    file = find_file(preset.files, folders)
    if file:
        return file_weights(file, str(file))
    for folder in _candidates(preset.folder, folders):
        if folder.is_dir():
            return _weights_at(preset, folder, str(folder))
    downloaded = from_hub(preset.hub, preset.files or HUB_FILES)
    if downloaded:
        return _weights_at(preset, downloaded, f"hub {preset.hub}")
    raise _missing_weights(preset, folders)


def _missing_weights(preset: ScorerPreset, folders: Sequence[Path]) -> WeightsError:
    folder = folders[0] if folders else Path.cwd()
    ways = [f"{name} into {folder}/pretrained/" for name in preset.files]
    ways.append(f"a folder {preset.folder}/ into {folder}")
    value = "FILE or DIR" if preset.files else "DIR"
    return WeightsError(
        f"there are no weights for the scorer {preset.name}: put {' or '.join(ways)} (or beside the data), "
        f"or pass --weights {value}.\nDownload the weights from: {preset.download}"
    )


def _candidates(name: str, folders: Sequence[Path]) -> list[Path]:
    """Return the paths at which a folder with the name may be."""
    candidates = []
    for folder in folders:
        candidates.append(folder / name)
        candidates.append(folder / PRETRAINED / name)
    return candidates


def _weights_at(
    preset: ScorerPreset,
    path: Path,
    source: str,
) -> Weights:
    """Return weights of an original file, of a folder with such a file, or of a Hugging Face folder."""
    if path.is_dir():
        return _weights_in(preset, path, source)
    if path.is_file() and not preset.files:
        raise WeightsError(
            f"{source}: {path} is a file, but {preset.name} is read from a folder: pass a folder with the "
            f"files of {preset.download}"
        )
    return file_weights(path, source)


def _weights_in(
    preset: ScorerPreset,
    folder: Path,
    source: str,
) -> Weights:
    for name in preset.files:
        if (folder / name).is_file():
            return file_weights(folder / name, source)
    if preset.files and not (folder / "config.json").is_file():
        names = " nor ".join(preset.files)
        raise WeightsError(
            f"{source}: the folder {folder} contains neither {names} nor config.json and weights in "
            f"Hugging Face's layout.\nDownload the files from: {preset.download}"
        )
    return folder_weights(folder, source, MODEL_FILES)


def _find_tokenizer(
    preset: ScorerPreset,
    weights: Path,
    folders: Sequence[Path],
) -> Weights:
    names = (VOCABULARY_FILE,) if preset.vocabulary else TOKENIZER_FILES
    for place in (weights, *_candidates(preset.tokenizer, folders)):
        if any((place / name).is_file() for name in names):
            return _tokenizer_at(preset, place, str(place))
    if preset.vocabulary:
        minilm = TEXT_PRESETS["minilm"].weights  # MiniLM's vocabulary is that of bert-base-uncased
        if packaged := minilm.in_package():
            return _tokenizer_at(preset, packaged.path, packaged.source)
    downloaded = from_hub(preset.tokenizer_hub, TOKENIZER_PARTS)
    if downloaded:
        return _tokenizer_at(preset, downloaded, f"hub {preset.tokenizer_hub}")
    raise _missing_tokenizer(preset, weights)


def _tokenizer_at(
    preset: ScorerPreset,
    folder: Path,
    source: str,
) -> Weights:
    if preset.vocabulary:
        return file_weights(folder / VOCABULARY_FILE, source)
    return folder_weights(folder, source, TOKENIZER_PARTS)


def _missing_tokenizer(preset: ScorerPreset, weights: Path) -> WeightsError:
    files = VOCABULARY_FILE if preset.vocabulary else "tokenizer.json, or vocab.json and merges.txt"
    return WeightsError(
        f"there is no tokenizer for the scorer {preset.name}: put its files ({files}) beside the weights "
        f"{weights}, or a folder {preset.tokenizer}/ with these files beside the data.\n"
        f"Download the files from: https://huggingface.co/{preset.tokenizer_hub}"
    )
