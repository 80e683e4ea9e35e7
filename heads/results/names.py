"""Names of runs: readable words, and the ten digits that are the run's identity."""

import re
import unicodedata
from collections.abc import Iterable, Sequence

from tier4k.cache.signature import Signature
from tier4k.extract.encoders.choices import DEFAULT_TEXT_ENCODER
from tier4k.heads.data.encoder_names import MULTILEVEL, sized_encoder
from tier4k.heads.results.config import ZERO_SHOT_METHOD, RunConfig

DIGITS = 10

MOST_BYTES = 100

LONGEST_TARGETS = 24  # characters; more targets are counted

_ENDS_IN_DIGITS = re.compile(rf"(?:^|-)([0-9a-f]{{{DIGITS}}})$")

_FINETUNED_IN = re.compile(rf"@[^@]*-([0-9a-f]{{{DIGITS}}})-")  # an encoder is called NAME@RUN-TARGET-REPEAT


def run_name(config: RunConfig) -> str:
    """Return the ID of a run, the name of its folder: its settings in words, then its ten digits.

    The name has ASCII letters in lower case, digits and the signs "-", "_", ".", "+" and "@", and at most
    `MOST_BYTES` bytes.
    """
    words = [_word(text) for text in _settings(config)]
    return "-".join([*_shortened(list(filter(None, words)), MOST_BYTES - DIGITS - 1), config.digest])


def digest_in(name: str) -> str:
    """Return the ten digits at the end of the name or ID of a run; "" if it does not end in them."""
    found = _ENDS_IN_DIGITS.search(name)
    return found[1] if found else ""


def reference(
    method: str,
    benchmark: str,
    split: str,
    digest: str,
) -> str:
    """Return the text by which other runs and stores refer to a run.

    It is hashed there: it is data, and does not follow the names of folders.
    """
    return f"{method}-{benchmark}-{split}-{digest}"


def _settings(config: RunConfig) -> list[str]:
    encoders = _encoders(config.signatures.values())
    return [
        config.method,
        "+".join(config.streams),
        encoders,
        "" if config.method == ZERO_SHOT_METHOD else _features(config.signatures.values()),
        "" if config.estimator == encoders else config.estimator,
        _targets(config.targets),
        "" if config.benchmark == "all" else config.benchmark,
        config.split,
        "finetuned" if config.finetune else "",
    ]


def _encoders(signatures: Iterable[Signature]) -> str:
    """Return the encoders and scorers, without the default text encoder beside others."""
    names: dict[str, None] = {}
    texts: dict[str, None] = {}
    for signature in signatures:
        of_kind = texts if signature.stream == "text" else names
        folder = sized_encoder(signature).rpartition("/")[2]  # hf:FOLDER/NAME
        of_kind[_FINETUNED_IN.sub(r"@\1-", folder)] = None
    if names:
        texts.pop(DEFAULT_TEXT_ENCODER, None)
    return "+".join({**names, **texts})


def _features(signatures: Iterable[Signature]) -> str:
    images = [signature for signature in signatures if signature.stream == "image"]
    names = [MULTILEVEL if one.feature_name == MULTILEVEL else "pooled" for one in images]
    return "+".join(dict.fromkeys(names))


def _targets(targets: Sequence[str]) -> str:
    names = "+".join(targets)
    return names if len(names) <= LONGEST_TARGETS else f"{len(targets)}-targets"


def _word(text: str) -> str:
    plain = unicodedata.normalize("NFKD", text).encode("ascii", "ignore").decode().lower()
    return re.sub(r"[^a-z0-9_.+@]+", "-", plain).strip("-.")


def _shortened(words: Sequence[str], length: int) -> list[str]:
    """Cut the longest words, so that all of them with a sign between two have a length at most."""
    width = max(map(len, words))
    while sum(min(len(word), width) + 1 for word in words) - 1 > length:
        width -= 1
    return [word[:width].rstrip("-.") for word in words]
