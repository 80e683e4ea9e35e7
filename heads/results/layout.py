"""The files in the folder of a run, and errors about missing and damaged files.

runs/ID/
    config.json                      `RunConfig`: what was fitted, on which features, in which environment
    results.json                     `Results`: metrics of every selection and baseline
    splits.json                      for each repeat, its seed and the names of the rows in each part
    predictions.csv                  a line for each test image, repeat and target
    curves.csv                       a line for each epoch, if heads have epochs
    model.json, model.safetensors    the fitted heads, if they are kept
    heads/TARGET-REPEAT.skops        the fitted estimators of a user's head, if they are kept
    rows.csv                         the rows that kept heads were fitted or tested on, with their content
    encoders/TARGET/REPEAT/          the encoders that were finetuned with a head, if they are kept
"""

from pathlib import Path
from typing import TypeVar
from urllib.parse import quote

from tier4k.cache.text import nearest, shortened
from tier4k.heads.results.json_files import read_json
from tier4k.heads.results.own_files import require_own_files
from tier4k.heads.results.run_format import RUN_FORMAT, ResultError

CONFIG_FILE = "config.json"

RESULTS_FILE = "results.json"

SPLITS_FILE = "splits.json"

PREDICTIONS_FILE = "predictions.csv"

CURVES_FILE = "curves.csv"

ROWS_FILE = "rows.csv"

MODEL_FILE = "model.json"

WEIGHTS_FILE = "model.safetensors"

ENCODERS = "encoders"

ESTIMATORS = "heads"

CARD = "README.md"  # of an exported model

FILES = (
    CONFIG_FILE,
    RESULTS_FILE,
    SPLITS_FILE,
    PREDICTIONS_FILE,
    CURVES_FILE,
    ROWS_FILE,
    MODEL_FILE,
    WEIGHTS_FILE,
    CARD,
)

# Inside the folder of runs: the runs of a search's candidates. With the leading dot, `runs/*` does not match
# them: their values are those of selection parts and must not be shown beside those of test parts.
CANDIDATES = ".search"

# An exported model has a config.json too, so config.json alone does not identify a run.
FILES_OF_EVERY_RUN = (CONFIG_FILE, RESULTS_FILE, PREDICTIONS_FILE)

Value = TypeVar("Value")


def is_run(folder: Path) -> bool:
    """Return whether a folder is the folder of a run, and not of an exported model."""
    return (folder / RESULTS_FILE).is_file()


def encoders_folder(
    run: Path,
    target: str,
    repeat: int,
) -> Path:
    """Return the folder of the encoders that were finetuned with one head of a run."""
    return run / ENCODERS / quote(target, safe=" ") / str(repeat)


def estimator_file(
    folder: Path,
    target: str,
    repeat: int,
) -> Path:
    """Return the file of one fitted estimator of a run or an exported model."""
    return folder / ESTIMATORS / f"{quote(target, safe=' ')}-{repeat}.skops"


def read_run_file(
    run: Path,
    name: str,
    kind: type[Value],
) -> Value:
    """Read a JSON file of a run as an object of a type.

    Raises:
        ResultError: There is no such run or file, the run has another format, or a value has the wrong type.
    """
    path = existing_file(run, name)
    require_current_format(run)
    try:
        return read_json(path, kind)
    except (OSError, ValueError, RecursionError) as error:
        raise damaged(path, error) from error


def existing_file(run: Path, name: str) -> Path:
    """Return the path of a file of a run.

    Raises:
        ResultError: There is no such run or file.
    """
    path = run / name
    if path.is_file():
        return path
    if _is_damaged_run(run):
        raise ResultError(f"{run} has no {name}: delete {run} and run the command that made it again")
    close = "" if run.exists() else nearest(run.name, _names_beside(run))
    problem = f"{run} is a folder without runs" if run.is_dir() else f"there is no run {run}{close}"
    raise ResultError(f"{problem}: pass the folder of a run{_likely_run(run)}")


def require_current_format(run: Path) -> None:
    """Refuse a run whose files have another format, or are links to files elsewhere.

    Missing and damaged files are not checked. Every function that reads a run or exported model calls this.

    Raises:
        ResultError: The run has another format, or a link leads out of its folder.
    """
    require_own_files(run, FILES, (ENCODERS, ESTIMATORS))
    run_format = format_of(run / RESULTS_FILE)
    if run_format not in (None, RUN_FORMAT):
        raise ResultError(
            f"{run} has run format {run_format}, and this version of tier4k reads format {RUN_FORMAT}: "
            f"delete {run} and fit again"
        )


def format_of(path: Path) -> int | None:
    """Return the number in the field `format` of a JSON file, or None if it cannot be read."""
    try:
        value = read_json(path, dict).get("format")
    except (OSError, ValueError, RecursionError):
        return None
    return value if isinstance(value, int) else None


def damaged(path: Path, error: Exception) -> ResultError:
    """Return the error about a file of a run that cannot be read."""
    run = path.parent
    remedy = "pass the folder of a run, for example runs/ID"
    if _is_damaged_run(run):
        remedy = f"delete {run} and run the command that made it again"
    return ResultError(f"{path} cannot be read ({described(error)}): {remedy}")


def described(error: Exception) -> str:
    """Return the message of an error on one line, cut if it is long, or the class of the error."""
    return shortened(error)


def _is_damaged_run(folder: Path) -> bool:
    existing_files = [name for name in FILES_OF_EVERY_RUN if (folder / name).is_file()]
    return len(existing_files) > 1


def _names_beside(path: Path) -> list[str]:
    """Return the names of the folders beside a path."""
    folder = path.parent
    return [other.name for other in folder.iterdir() if other.is_dir()] if folder.is_dir() else []


def _likely_run(path: Path) -> str:
    """Return a hint that follows "pass the folder of a run"."""
    if any(path.glob(f"*/{RESULTS_FILE}")):
        return f"; {path} contains runs, so pass {path}/*"
    if path.is_file() and is_run(path.parent):
        return f", {path.parent}, not a file in the folder"
    return ", for example runs/ID"
