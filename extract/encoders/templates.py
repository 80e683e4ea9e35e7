"""Templates: texts about quality and agreement, with which a checkpoint with two towers compares images."""

import tomllib
from collections import Counter
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from tier4k.cache.errors import TierError
from tier4k.cache.text import read_text

BUILT_IN = Path(__file__).with_name("templates.toml")


class TemplateError(TierError):
    """A file of templates cannot be used."""


@dataclass(frozen=True)
class Templates:
    """Texts about an image. They are encoded as they are: nothing is filled in.

    Attributes:
        quality: Texts about the quality of an image: pairs of a good and a bad one, or a scale.
        agreement: Texts about the agreement of an image with its prompt.
    """

    quality: tuple[str, ...]
    agreement: tuple[str, ...]

    @property
    def texts(self) -> tuple[str, ...]:
        """All texts: quality, then agreement."""
        return self.quality + self.agreement


KEYS = tuple(field.name for field in fields(Templates))


def read_templates(path: Path | None) -> Templates:
    """Read templates from a TOML file with one list of texts for each attribute of `Templates`.

    Args:
        path: The file; None reads the built-in templates.

    Raises:
        TemplateError: The file cannot be read, or a text is empty, repeated or no text; the message names the
            file, the key and the remedy.
    """
    path = path or BUILT_IN
    content = _read(path)
    if unknown := sorted(set(content) - set(KEYS)):
        raise TemplateError(
            f"{path} has the key {unknown[0]!r}: templates have the keys {' and '.join(KEYS)}; remove it, or "
            "correct its name"
        )
    lists = {key: _texts(content, key, path) for key in KEYS}
    templates = Templates(**lists)
    _require_distinct(templates, path)
    return templates


def _read(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(read_text(path))
    except (OSError, ValueError, RecursionError) as error:
        raise TemplateError(
            f"{path} cannot be read as templates ({error}): pass a UTF-8 file of TOML such as\n"
            f"{BUILT_IN.read_text(encoding='utf-8')}"
        ) from error


def _texts(
    content: dict[str, Any],
    key: str,
    path: Path,
) -> tuple[str, ...]:
    texts = content.get(key)
    if not isinstance(texts, list) or not texts:
        raise TemplateError(f'{path} has no list of texts under {key!r}: write {key} = ["…", "…"]')
    for number, text in enumerate(texts, start=1):
        if not isinstance(text, str) or not text.strip():
            raise TemplateError(
                f"{path}: number {number} of {key!r} is {text!r}, no text: write a text, or remove it"
            )
        if "{" in text:
            raise TemplateError(
                f"{path}: {text!r} in {key!r} has a placeholder, which nothing fills in: write the whole text"
            )
    return tuple(texts)


def _require_distinct(templates: Templates, path: Path) -> None:
    text, count = Counter(templates.texts).most_common(1)[0]
    if count > 1:
        keys = " and ".join(key for key in KEYS if text in getattr(templates, key))
        raise TemplateError(f"{path} has {text!r} {count} times, in {keys}: keep one of them")
