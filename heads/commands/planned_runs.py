"""The runs of a sweep before they are fitted, as a table."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tier4k.extract.screen.table import Table
    from tier4k.heads.sweeps.planned_run import PlannedRun


def planned_table(runs: "Sequence[PlannedRun]") -> "Table":
    """Make a table of runs: the options that tell them apart, their ten digits, and whether they exist.

    Programs also get the name of each run's folder and its number of heads.
    """
    from tier4k.extract.screen.table import Table, text_column
    from tier4k.heads.results.names import digest_in

    options = _options_that_differ(runs)
    rows = []
    for run in runs:
        values = {option: _text(run, option) for option in options}
        about = {"run": digest_in(run.id), "name": run.id, "exists": "yes" if run.exists else "no"}
        rows.append({**values, **about, "heads": run.fits})
    columns = [text_column(option, importance=90, wraps=True) for option in options]
    return Table((text_column("run"), *columns, text_column("exists")), tuple(rows))


def _options_that_differ(runs: "Sequence[PlannedRun]") -> list[str]:
    """Return the options of the grid that have several values in the runs; "" counts as one."""
    names = dict.fromkeys(name for run in runs for name in run.values)
    return [name for name in names if len({_text(run, name) for run in runs}) > 1]


def _text(run: "PlannedRun", option: str) -> str:
    from tier4k.heads.regressors.options import option_text

    return option_text(run.values.get(option, ""))
