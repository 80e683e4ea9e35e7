"""A signature: everything about an encoding that changes a number, and nothing that does not."""

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields

from tier4k.cache.errors import TierError

FORMAT_VERSION = 2
DIGEST_LENGTH = 12


class SignatureError(TierError):
    """A store was made in another way than the one asked for."""


@dataclass(frozen=True)
class Signature:
    """How the features of one store were made; equal signatures promise equal numbers up to rounding.

    Attributes:
        stream: What is encoded, "image" or "text".
        encoder: The name the user gave, such as "resnet18" or "timm:convnext_tiny".
        architecture: The network, in the naming of the library that builds it.
        weights: SHA-256 (hexadecimal) of the files that the numbers come from.
        preparation: How an input becomes a tensor, in full.
        feature: The point of the network that is read, such as "pooled".
        precision: Arithmetic of the encoder, "fp32".
        views: Which views of an input are stored.
        dtype: Type of the stored numbers.
        format: Version of the store's own format.
    """

    stream: str
    encoder: str
    architecture: str
    weights: str
    preparation: str
    feature: str
    precision: str = "fp32"
    views: str = "centre"
    dtype: str = "float32"
    format: int = FORMAT_VERSION

    @property
    def digest(self) -> str:
        """The first 12 hexadecimal digits of the SHA-256 of all fields."""
        text = json.dumps(asdict(self), sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:DIGEST_LENGTH]

    @property
    def preparation_name(self) -> str:
        """The first word of the preparation, its name."""
        return self.preparation.split(":", 1)[0]

    @property
    def feature_name(self) -> str:
        """The first word of the feature point, its name."""
        return self.feature.split(":", 1)[0]

    @property
    def folder_name(self) -> str:
        """A name that a person can read, made unique by the digest."""
        readable = "-".join((self.encoder, self.preparation_name, self.feature_name, self.precision))
        return f"{re.sub(r'[^A-Za-z0-9._-]+', '_', readable)}-{self.digest}"

    def differences(self, wanted: Mapping[str, object]) -> dict[str, tuple[object, object]]:
        """The wanted fields that differ, as {field: (wanted, here)}."""
        here = asdict(self)
        return {name: (value, here[name]) for name, value in wanted.items() if here[name] != value}

    def require(self, wanted: "Signature", remedy: str) -> None:
        """Raise SignatureError naming every field that differs, both values and the remedy."""
        differing = self.differences(asdict(wanted))
        if differing:
            lines = [
                f"  {name}: asked for {ask!r}, the store has {has!r}"
                for name, (ask, has) in differing.items()
            ]
            raise SignatureError("\n".join(["The store was made in another way:", *lines, remedy]))

    @classmethod
    def from_dict(cls, values: object) -> "Signature":
        """Read a signature back, refusing unknown and missing fields and wrong types."""
        types = {field.name: field.type for field in fields(cls)}
        if not isinstance(values, dict) or set(values) != set(types):
            raise SignatureError(
                f"not a signature: expected the fields {sorted(types)}, found {values!r:.300}"
            )
        if not all(isinstance(values[name], str) or name == "format" for name in types):
            raise SignatureError(
                f"not a signature: every field but 'format' is a text, found {values!r:.300}"
            )
        if type(values["format"]) is not int or values["format"] != FORMAT_VERSION:
            raise SignatureError(
                f"the store's format is version {values['format']!r}, this program reads {FORMAT_VERSION}: "
                "extract again, or use the version of tier4k that wrote it"
            )
        return cls(**values)
