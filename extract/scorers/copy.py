"""Copy the files of a scorer into a folder, in which `find_scorer` finds them with the same hashes."""

import shutil
from collections.abc import Iterable
from pathlib import Path

from tier4k.extract.scorers.scorer import Scorer
from tier4k.extract.weights.files import (
    FOLDER_WEIGHTS,
    MODEL_FILES,
    PRETRAINED,
    TOKENIZER_PARTS,
    folder_weights_file,
    is_index,
    weight_parts,
)


def copy_scorer(scorer: Scorer, folder: Path) -> None:
    """Copy weights and tokenizer of a scorer into a folder, laid out like a folder with `pretrained/`.

    Raises:
        WeightsError: The weights are not complete.
        OSError: The folder cannot be written.
    """
    weights = scorer.weights.path
    scorer_folder = folder / scorer.preset.folder
    if weights.is_dir():
        other_files = [weights / name for name in MODEL_FILES if name not in FOLDER_WEIGHTS]
        _copy(
            [*other_files, *weight_parts(folder_weights_file(weights, scorer.weights.source))], scorer_folder
        )
    elif is_index(weights):
        _copy(weight_parts(weights), folder / PRETRAINED)
    else:
        (folder / PRETRAINED).mkdir(parents=True, exist_ok=True)
        shutil.copyfile(weights, folder / PRETRAINED / scorer.preset.files[0])
    tokenizer = scorer.tokenizer.path
    if tokenizer.is_dir():
        is_beside_weights = tokenizer == weights
        _copy(
            (tokenizer / name for name in TOKENIZER_PARTS),
            scorer_folder if is_beside_weights else folder / scorer.preset.tokenizer,
        )
    else:
        _copy([tokenizer], folder / scorer.preset.tokenizer)


def _copy(files: Iterable[Path], folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for file in files:
        if file.is_file():
            shutil.copyfile(file, folder / file.name)
