"""Which texts are spellings of one prompt, and which names are spellings of one generator."""

import unicodedata
from collections.abc import Mapping, Sequence

import pandas as pd


def prompt_identity(prompt: str) -> str:
    """Return a text that is equal for all spellings of a prompt.

    Spellings differ in Unicode form (NFKC), case, format characters, white space and trailing punctuation
    only. The identity of a prompt of punctuation alone is this punctuation.
    """
    words = " ".join(_folded(prompt).split())
    return _without_trailing_punctuation(words) or words


def generator_identity(name: str) -> str:
    """Return a text that is equal for all spellings of a generator's name.

    Spellings differ in Unicode form (NFKC), case, format characters and white space only.
    """
    return "".join(_folded(name).split())


def canonical_spellings(names: pd.Series) -> pd.Series:
    """Return the canonical spelling of each row's generator: the most frequent one, or the first of equals.

    Args:
        names: Name of each row's generator (N,).

    Returns:
        (N,) names, with the index of `names`.
    """
    identities = names.map(generator_identity)
    by_frequency = names.groupby(names).transform("size").sort_values(ascending=False, kind="stable").index
    chosen = names[by_frequency].groupby(identities[by_frequency]).first()
    return identities.map(chosen)


def merged_spellings(names: pd.Series, canonical: pd.Series) -> dict[str, tuple[str, ...]]:
    """Return {canonical spelling: its other spellings}, both in the order of the rows.

    Args:
        names: Name of each row's generator (N,).
        canonical: What `canonical_spellings` returned for `names`.
    """
    others: dict[str, dict[str, None]] = {}
    for name, chosen in zip(names, canonical, strict=True):
        if name != chosen:
            others.setdefault(chosen, {})[name] = None
    return {chosen: tuple(spellings) for chosen, spellings in others.items()}


def spellings_text(merged: Mapping[str, Sequence[str]]) -> str:
    """Return what `merged_spellings` returned as a text, such as "alpha = ALPHA; beta = Beta = BETA"."""
    return "; ".join(" = ".join([chosen, *others]) for chosen, others in merged.items())


def _folded(text: str) -> str:
    """Return a text without format characters (such as the zero-width space), in NFKC and without case."""
    # Characters that a format character separates may compose, so format characters go first. Folding of
    # case can undo the composition, so NFKC follows again.
    visible = "".join(character for character in text if unicodedata.category(character) != "Cf")
    folded = unicodedata.normalize("NFKC", visible).casefold()
    return unicodedata.normalize("NFKC", folded)


def _without_trailing_punctuation(words: str) -> str:
    end = len(words)
    while end and (words[end - 1].isspace() or unicodedata.category(words[end - 1]).startswith("P")):
        end -= 1
    return words[:end]
