"""Files of figures: .pdf, .svg or .png, equal bytes for equal figures."""

from pathlib import Path

from matplotlib.figure import Figure

from tier4k.cache.atomic import publish
from tier4k.cache.write_errors import explain_write_errors

# By suffix; the time of writing is left out, so that a figure that did not change is the same file.
METADATA: dict[str, dict[str, None]] = {
    ".pdf": {"CreationDate": None},
    ".svg": {"Date": None},
    ".png": {},
}


def write_figure(figure: Figure, path: Path) -> None:
    """Write a figure; the name of the file ends in one of `METADATA`.

    Raises:
        StoreError: The file cannot be written.
    """

    def save(temporary: Path) -> None:
        """Write the figure to a temporary path."""
        figure.savefig(temporary, format=path.suffix[1:], metadata=METADATA[path.suffix])

    with explain_write_errors(path):
        publish(path, save)
