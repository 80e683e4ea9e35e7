"""The signature of a store: everything about an encoding that changes a number, and nothing else.

The fields of `Signature` and their texts are hashed into the names of store folders: they are data, and stay.
"""

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields

from tier4k.cache.errors import TierError

SIGNATURE_FILE = "signature.json"  # in the folder of every store
FORMAT_VERSION = 2
DIGEST_LENGTH = 12
USUAL_DTYPE = "float32"
GIVEN_SCORES = "scores made elsewhere"  # architecture of scores that no network of ours computed


class SignatureError(TierError):
    """A store, a shard or a signature file does not match the requested signature."""


@dataclass(frozen=True)
class Signature:
    """How the features of one store were made; equal signatures mean equal numbers up to rounding.

    Attributes:
        stream: Kind of input, "image" or "text"; "score" for zero-shot scores of pairs.
        encoder: Name that the user passed, such as "resnet18" or "timm:convnext_tiny".
        architecture: Name of the network in the library that builds the network.
        weights: SHA-256 (hexadecimal) of the files with the weights.
        preparation: Complete description of the preprocessing of an input.
        feature: Layer of the network whose output is stored, such as "pooled".
        precision: Arithmetic of the encoder, "fp32".
        views: Crops of an input that are stored, such as "centre".
        dtype: Type of the stored numbers, "float32" or "float16".
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
    dtype: str = USUAL_DTYPE
    format: int = FORMAT_VERSION

    @property
    def digest(self) -> str:
        """The first 12 hexadecimal digits of the SHA-256 of all fields."""
        text = json.dumps(asdict(self), sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:DIGEST_LENGTH]

    @property
    def preparation_name(self) -> str:
        """Name of the preprocessing: the text before the first colon."""
        return self.preparation.split(":", 1)[0]

    @property
    def feature_name(self) -> str:
        """Name of the feature: the text before the first colon."""
        return self.feature.split(":", 1)[0]

    @property
    def folder_name(self) -> str:
        """A readable name, made unique by the digest; the usual type of the numbers is not in it."""
        parts = [self.encoder, self.preparation_name, self.feature_name, self.precision]
        if self.dtype != USUAL_DTYPE:
            parts.append(self.dtype)
        readable = "-".join(parts)
        plain = re.sub(r"[^A-Za-z0-9._-]+", "_", readable)
        return f"{plain}-{self.digest}"

    def differences(self, wanted: Mapping[str, object]) -> dict[str, tuple[object, object]]:
        """Return the wanted fields that differ, as {field: (wanted value, value of this signature)}."""
        fields_of_self = asdict(self)
        differences = {}
        for name, value in wanted.items():
            if fields_of_self[name] != value:
                differences[name] = (value, fields_of_self[name])
        return differences

    def require(self, wanted: "Signature", remedy: str) -> None:
        """Refuse a signature that differs from the wanted signature.

        Args:
            wanted: The signature that the store must have.
            remedy: Last line of the message.

        Raises:
            SignatureError: The message names every field that differs, both values and the remedy.
        """
        differences = self.differences(asdict(wanted))
        if not differences:
            return
        lines = ["The store was made with other settings:"]
        for name, (requested, stored) in differences.items():
            lines.append(f"  {name}: {requested!r} was requested, the store has {stored!r}")
        raise SignatureError("\n".join([*lines, remedy]))

    @classmethod
    def from_dict(cls, values: object) -> "Signature":
        """Read a signature from the content of a JSON file.

        Raises:
            SignatureError: A field is unknown, missing or of a wrong type, or the format has another version.
        """
        names = [field.name for field in fields(cls)]
        if not isinstance(values, dict) or set(values) != set(names):
            raise SignatureError(f"a signature must have the fields {sorted(names)}, not {values!r:.300}")
        for name in names:
            if name != "format" and not isinstance(values[name], str):
                raise SignatureError(
                    f"every field of a signature except 'format' must be a text, not {values!r:.300}"
                )
        version = values["format"]
        if type(version) is not int or version != FORMAT_VERSION:
            raise SignatureError(
                f"the store has format version {version!r}, but this program reads version {FORMAT_VERSION}: "
                "extract again, or use the version of tier4k that wrote the store"
            )
        return cls(**values)
