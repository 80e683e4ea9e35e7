"""The files of a run, and errors about them."""

from pathlib import Path

from tier4k.heads.results.run_format import ResultError

RUN_FILES = ("config.json", "results.json", "predictions.csv")


def _file_of(folder: Path, name: str) -> Path:
    """A file of a run."""
    if (folder / name).is_file():
        return folder / name
    if _is_run(folder):
        raise ResultError(f"{folder} has no {name}: delete {folder} and run the command again that made it")
    remedy = ", such as runs/ID"
    if any(folder.glob("*/results.json")):
        remedy = f"; it holds runs, give these: {folder}/*"
    elif folder.is_file() and (folder.parent / "results.json").exists():
        remedy = f", {folder.parent}, not a file in it"
    raise ResultError(f"there is no run {folder}: give the folder of a run{remedy}")


def _is_run(folder: Path) -> bool:
    """Whether a folder is a run, if a damaged one; nobody is told to delete another, as an exported model has a config.json too."""
    return sum((folder / name).is_file() for name in RUN_FILES) > 1


def _damaged(path: Path, error: Exception) -> ResultError:
    run = path.parent
    remedy = (
        f"delete {run} and run the command again that made it"
        if _is_run(run)
        else "give the folder of a run, such as runs/ID"
    )
    return ResultError(f"{path} cannot be read ({error!r}): {remedy}")
