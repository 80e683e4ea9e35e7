"""Scorers of other packages: objects that are called with images and prompts.

A scorer is a callable, or a class whose instances, made without arguments, are callable:

    class Brightness:
        name = "brightness"  # in tables and stores
        version = "1"  # another version is another scorer, whose scores are computed anew
        reads_prompts = False  # True where it is not set

        def __call__(self, images: Tensor, prompts: list[str]) -> Tensor:
            return images.mean(dim=(1, 2, 3))

It is called with images (B, 3, H, W) float32, RGB from 0 to 1, on the device that scores, and with their B
prompts; it returns B finite scores. Images are decoded, upright and over white, and keep their size, but for
sides below 32 pixels and areas above 8 megapixels. An `nn.Module` is moved to the device and put into
evaluation mode.
"""

import hashlib
from collections.abc import Collection
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any, Final

from tier4k.cache.signature import Signature
from tier4k.extract.encoders.choices import Precision
from tier4k.extract.encoders.names import EncoderError
from tier4k.extract.images.preprocessing import Preprocessing
from tier4k.extract.plugins.find import (
    FOREIGN_ERRORS,
    PluginError,
    distribution_of,
    import_object,
    import_path_of,
    installed_plugins,
    is_import_path,
)
from tier4k.extract.scorers.given_scores import LONGEST_NAME, NEGATED, RESERVED, SCORE, is_given, is_listable
from tier4k.extract.scorers.presets import SCORERS
from tier4k.extract.weights.files import Weights

PYIQA: Final = "pyiqa:"

WHOLE_IMAGE: Final = Preprocessing("native", None, None, "bicubic", "no", (0, 0, 0), (1, 1, 1))

# These texts are hashed in signatures: they are data.
IMAGES: Final = "image: upright over white, own size, RGB from 0 to 1"
PAIRS: Final = "image and prompt"
OTHER_PACKAGE: Final = "of another package"


@dataclass(frozen=True)
class CalledScorer:
    """What is known of a scorer of another package before `make_callable` makes it.

    Attributes:
        name: Name of the scores.
        path: Import path of the object, or "pyiqa:NAME".
        version: Versions of the object and of its distribution, as one text.
        reads_prompts: Whether the scores depend on the prompts.
        licence: Licence of pyiqa; "" for other packages.
        lower_is_better: Whether the sign of the scores is changed, so that higher is better.
        precision: What signatures record; the scorer itself decides its arithmetic.
    """

    name: str
    path: str
    version: str
    reads_prompts: bool
    licence: str = ""
    lower_is_better: bool = False
    precision: Precision = "fp32"

    @property
    def signature(self) -> Signature:
        """Everything that the scores depend on, as far as the versions tell."""
        identity = f"{self.path} {self.version}"
        preparation = f"{PAIRS}: as {IMAGES}" if self.reads_prompts else IMAGES
        return Signature(
            "score",
            self.name,
            identity,
            hashlib.sha256(identity.encode()).hexdigest(),
            preparation,
            f"{NEGATED if self.lower_is_better else SCORE}{OTHER_PACKAGE}",
            self.precision,
        )

    @property
    def weights(self) -> Weights:
        """What stands for the weights, which the package finds itself."""
        terms = f", licence {self.licence}" if self.licence else ""
        return Weights(Path(self.path), self.signature.weights, f"{self.version}{terms}")

    def preprocessing(self, side: int) -> Preprocessing:
        """Return the preprocessing of images: none, whatever the `side` of networks that take squares."""
        del side
        return WHOLE_IMAGE


def is_called(signature: Signature) -> bool:
    """Return whether the scores of a signature are those of a scorer of another package."""
    return signature.feature.endswith(OTHER_PACKAGE)


def is_published(signature: Signature) -> bool:
    """Return whether tier4k itself computes the scores of a signature, with one of `SCORERS`."""
    return signature.encoder in SCORERS and not is_called(signature) and not is_given(signature)


def depends_on_prompts(signature: Signature) -> bool:
    """Return whether scores are computed from prompts too; scores of a file are found by the image."""
    return is_published(signature) or (is_called(signature) and signature.preparation_name == PAIRS)


def find_called(name: str, lower_is_better: bool = False) -> CalledScorer | None:
    """Return a scorer of another package: "pyiqa:NAME", an entry point's name, or an import path.

    The module of the object is imported, but not pyiqa.

    Returns:
        The scorer; None if the name has none of these forms.

    Raises:
        EncoderError: The object is no scorer, or pyiqa is not installed.
        PluginError: The object cannot be imported.
    """
    if name.startswith(PYIQA):
        return _pyiqa_scorer(name, lower_is_better)
    point = installed_plugins("tier4k.scorers").get(name)
    path = import_path_of(point) if point else name
    if not is_import_path(path):
        return None
    return _scorer_at(path, lower_is_better)


def _pyiqa_scorer(name: str, lower_is_better: bool) -> CalledScorer:
    try:
        description = metadata.metadata("pyiqa")
    except metadata.PackageNotFoundError:
        raise EncoderError(
            f"--scorer {name} needs the package pyiqa, which is not installed: run pip install pyiqa. Its "
            "licence is PolyForm Noncommercial 1.0.0, with parts under the NTU S-Lab License 1.0: read both "
            "before you use it"
        ) from None
    licence = description["License-Expression"] or description["License"] or "unknown"
    return CalledScorer(name, name, f"pyiqa {description['Version']}", False, licence, lower_is_better)


def _scorer_at(path: str, lower_is_better: bool) -> CalledScorer:
    value = import_object(path)
    name, version = getattr(value, "name", None), getattr(value, "version", None)
    is_callable = callable(value)
    if isinstance(value, type):  # calling a class makes an instance, which is called with images
        is_callable = any("__call__" in vars(base) for base in value.__mro__)
    if not is_callable or not isinstance(name, str) or not isinstance(version, str) or not name:
        raise EncoderError(
            f"{path} is no scorer: it must be callable, or a class of callables, with the texts `name` and "
            "`version` as attributes"
        )
    if name in SCORERS or name in RESERVED or not is_listable(name):
        raise EncoderError(
            f"{path} has the name {name[:LONGEST_NAME]!r}: choose one of at most {LONGEST_NAME} bytes on one "
            f"line, without a comma, and not among the names of tier4k ({', '.join((*SCORERS, *RESERVED))})"
        )
    distribution = distribution_of(path)
    versions = f"version {version}" + (f" of {distribution}" if distribution else "")
    reads_prompts = bool(getattr(value, "reads_prompts", True))
    return CalledScorer(name, path, versions, reads_prompts, lower_is_better=lower_is_better)


def require_trusted(signature: Signature, trusted: Collection[str]) -> None:
    """Refuse to import what only a run or a model file names: installed entry points and pyiqa are trusted.

    Args:
        signature: Signature of the scores of a scorer of another package.
        trusted: Import paths that the user names.

    Raises:
        PluginError: The user does not name the import path of the scorer, and no entry point has it.
    """
    path = path_of(signature)
    installed = set(map(import_path_of, installed_plugins("tier4k.scorers").values()))
    if path.startswith(PYIQA) or path in installed or {path, path.replace(":", ".")} & set(trusted):
        return
    raise PluginError(
        f"the scores of {signature.encoder} are those of {path}, which is imported only if you name it: pass "
        f"--trust {path} (trusted=[{path!r}] in Python), if you trust this code"
    )


def path_of(signature: Signature) -> str:
    """Return the import path of a scorer of another package, or "pyiqa:NAME"."""
    return signature.architecture.partition(" ")[0]


def make_callable(scorer: CalledScorer) -> Any:
    """Import and make the object that is called with images and prompts.

    Raises:
        EncoderError: The metric of pyiqa does not exist, or does not score single images.
        PluginError: The object cannot be imported or made.
    """
    if scorer.path.startswith(PYIQA):
        from tier4k.extract.scorers.pyiqa_metric import PyiqaMetric

        return PyiqaMetric(scorer.path.removeprefix(PYIQA))
    value = import_object(scorer.path)
    if not isinstance(value, type):
        return value
    try:
        return value()
    except FOREIGN_ERRORS as error:  # the class is a user's: making it may raise anything
        raise PluginError(f"{scorer.path}() cannot be made: {type(error).__name__}: {error}") from error
