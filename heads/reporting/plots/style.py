"""The look of figures for papers: widths, fonts, colours, markers and hatches.

The package matplotlib is an extra: of this folder, only `plot.py` can be imported without it.
"""

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from textwrap import fill
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from tier4k.heads.reporting.choices import PlotWidth

WIDTHS: dict[PlotWidth, float] = {"single": 3.3, "double": 6.9}  # inches: one and two columns of a paper

# The colours of Okabe and Ito (2008) that are dark enough for white paper. Wine red (Tol 2021) is in place of
# black, in which intervals are drawn. People with any common form of colour blindness tell the colours apart;
# markers and hatches do so in print without colour.
COLOURS = ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#D55E00", "#882255", "#999999")

MARKERS = ("o", "s", "^", "D", "v", "P", "X")

HATCHES = ("", "////", "....", "xxxx", "----", "oo", "++")

GREY = "#999999"

INK = "#222222"

TEXT = 7.0  # points; also readable where a figure is shown at 3.3 inches

# Only fonts that matplotlib brings with it are used, so that every computer draws the same figure.
STYLE: dict[Any, Any] = {
    "font.family": "sans-serif",
    "font.sans-serif": ["DejaVu Sans"],
    "font.size": TEXT,
    "text.parse_math": False,  # a name of a generator may contain $
    "axes.labelsize": TEXT,
    "axes.linewidth": 0.6,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": INK,
    "xtick.labelsize": TEXT,
    "ytick.labelsize": TEXT,
    "xtick.major.width": 0.6,
    "ytick.major.width": 0.6,
    "xtick.major.size": 2.5,
    "ytick.major.size": 2.5,
    "legend.fontsize": TEXT,
    "legend.frameon": False,
    "hatch.linewidth": 0.5,
    "lines.linewidth": 1.0,
    "pdf.fonttype": 42,  # TrueType: publishers refuse Type 3
    "svg.fonttype": "path",
    "svg.hashsalt": "tier4k",  # otherwise the IDs in the file are random
    "savefig.dpi": 300,
}


@dataclass(frozen=True)
class Drawing:
    """A drawn figure, and the sentences that its caption needs."""

    figure: Figure
    caption: tuple[str, ...]


@contextmanager
def paper_style() -> Iterator[None]:
    """Draw with this style alone, whatever the user's matplotlibrc says, and restore the settings."""
    with mpl.rc_context():
        mpl.rcdefaults()
        mpl.rcParams.update(STYLE)
        yield


def make_panels(
    width: PlotWidth,
    count: int,
    columns: int,
    height: float,
) -> tuple[Figure, list[Axes]]:
    """Return a figure and its panels in rows.

    Args:
        width: Width of the figure.
        count: Number of panels.
        columns: Largest number of panels in a row.
        height: Height of a row in inches.
    """
    columns = min(columns, count)
    rows = -(-count // columns)
    figure = Figure(figsize=(WIDTHS[width], rows * height), layout="constrained")
    figure.get_layout_engine().set(w_pad=0.03, h_pad=0.03)  # type: ignore[union-attr, call-arg]
    axes = list(figure.subplots(rows, columns, squeeze=False).flat)
    for unused in axes[count:]:
        unused.remove()
    return figure, axes[:count]


def paper_number(value: float) -> str:
    """Format a correlation with three decimals and without a leading zero, as papers print it."""
    if np.isnan(value):
        return "NaN"
    return re.sub(r"^(-?)0\.", r"\1.", f"{value:.3f}").replace("-", "−")


def wrapped(text: str, width: PlotWidth) -> str:
    """Break a long label into lines that leave room for the axes."""
    return fill(text, 20 if width == "single" else 30)


def height_of(labels: Sequence[str]) -> float:
    """Return the height in inches of the label with the most lines, with the space to the next label."""
    return 0.04 + 0.12 * max(label.count("\n") + 1 for label in labels)


def add_legend(
    figure: Figure,
    handles: Sequence[Artist],
    labels: Sequence[str],
    width: PlotWidth,
) -> None:
    """Add one legend below all panels."""
    characters = max(map(len, labels)) + 6
    columns = max(1, int(WIDTHS[width] * 18 / characters))
    figure.legend(handles, labels, loc="outside lower center", ncols=min(columns, len(labels)))
