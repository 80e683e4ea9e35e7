"""Files that are named like weights and hold none."""

import zipfile
from pathlib import Path

POINTER = b"version https://git-lfs.github.com/spec/"

PAGE = b"<"  # HTML and XML begin with this byte; no file of weights does

GZIP = b"\x1f\x8b"

ZIP = b"PK\x03\x04"

HEADER_BYTES = 100_000_000  # length of a header of safetensors, at most; it stands in the first 8 bytes

START_BYTES = 1024


def is_pointer(path: Path) -> bool:
    """Return whether a file is a pointer of Git LFS instead of the file itself."""
    with path.open("rb") as file:
        return file.read(len(POINTER)) == POINTER


def pointer_remedy(path: Path) -> str:
    """Return the message that refuses a pointer of Git LFS and names the remedy."""
    return (
        f"{path} is a pointer of Git LFS, not the file itself: run 'git lfs pull' in its repository, or "
        "download the file from the page of the model"
    )


def why_unusable(path: Path) -> str | None:
    """Return why a file holds no weights, with the remedy; None if it may hold weights.

    Only the file's beginning, and the list of members of a zip file, are read.
    """
    with path.open("rb") as file:
        start = file.read(START_BYTES)
    if not start:
        return f"{path} is empty: download the file again"
    if start.startswith(POINTER):
        return pointer_remedy(path)
    if start.lstrip().startswith(PAGE):
        return (
            f"{path} is a web page, not weights: the address led to a page (a login, a preview, an error). "
            "Open the file in a text editor to read the page, and download the weights themselves"
        )
    if start.startswith(GZIP):
        return f"{path} is compressed with gzip: decompress it (gunzip) and pass that file"
    is_named = path.suffix == ".safetensors"
    if start.startswith(ZIP) and is_named:
        return f"{path} is a file of PyTorch, not of safetensors: rename it so that it ends in .pth"
    if start[8:9] == b"{" and int.from_bytes(start[:8], "little") < HEADER_BYTES and not is_named:
        return f"{path} is a file of safetensors: rename it so that it ends in .safetensors"
    if _is_torchscript(path):
        return (
            f"{path} is a TorchScript archive, which contains code and is not run. Where the file is "
            "trusted, save only its tensors (torch.save(torch.jit.load(FILE).state_dict(), NEW_FILE)) and "
            "pass that file"
        )
    return None


def _is_torchscript(path: Path) -> bool:
    try:
        with zipfile.ZipFile(path) as archive:
            return any(name.endswith("/constants.pkl") for name in archive.namelist())
    except (zipfile.BadZipFile, ValueError, NotImplementedError):
        return False  # another format, or a damaged file, which the reader refuses
