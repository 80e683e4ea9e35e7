"""The numbers of tokens in the files of a tokenizer."""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from tier4k.cache.text import shortened
from tier4k.extract.encoders.transformers_config import read_json
from tier4k.extract.weights.files import WeightsError

LARGEST = 10_000_000
"""The largest vocabularies have some 300,000 tokens."""


def require_token_numbers(folder: Path) -> None:
    """Require numbers of tokens that a vocabulary can have.

    The library of the tokenizers makes a list of all numbers up to the largest, and ends the process if the
    memory is too small for it.

    Args:
        folder: A folder of Hugging Face.

    Raises:
        WeightsError: A number is too large, or a file is damaged.
    """
    for name, numbers_of in (("tokenizer.json", _of_tokenizer), ("vocab.json", _of_vocabulary)):
        path = folder / name
        if not path.is_file():
            continue
        for number in numbers_of(read_json(path)):
            if isinstance(number, int | float) and not number <= LARGEST:
                raise WeightsError(
                    f"{path} has a token with the number {shortened(number, 60)}, and vocabularies have at "
                    f"most {LARGEST:,} tokens: download the folder again"
                )


def _of_tokenizer(content: Any) -> Iterable[Any]:
    """Yield the numbers of the vocabulary and of added tokens."""
    if not isinstance(content, Mapping):
        return
    model = content.get("model")
    if isinstance(model, Mapping):
        yield from _of_vocabulary(model.get("vocab"))
    added = content.get("added_tokens")
    for token in added if isinstance(added, list) else []:
        if isinstance(token, Mapping):
            yield token.get("id")


def _of_vocabulary(vocabulary: Any) -> Iterable[Any]:
    """Return the numbers of a vocabulary; one that is a list numbers its tokens by their places."""
    return vocabulary.values() if isinstance(vocabulary, Mapping) else ()
