"""The title of a report: what was compared, on which data, for which targets."""

from collections.abc import Sequence

from tier4k.heads.reporting.report_run import ReportRun
from tier4k.heads.reporting.run_name import FACTORS, differing_parts

MOST_NAMED = 3  # of data sets, methods, factors and targets


def report_title(runs: Sequence[ReportRun]) -> str:
    """Return the title of a report, such as "Head compared in 2 NR runs on AGIQA-3K, for quality"."""
    names = [run.name for run in runs]
    data = enumeration([name.data for name in names])
    targets = enumeration([target for run in runs for target in run.results.summaries])
    where = f"on {data}, for {targets}"
    if len(runs) == 1:
        return f"{runs[0].short_label} {where}"
    methods = enumeration([name.method for name in names])
    number = f"{len(runs)} {methods} runs"
    differing = differing_parts(names, [factor for factor in FACTORS if factor != "other"])
    if not differing:
        return f"{number} {where}"
    factors = enumeration([FACTORS[factor] for factor in differing])
    return f"{factors[0].upper()}{factors[1:]} compared in {number} {where}"


def enumeration(names: Sequence[str]) -> str:
    """List distinct names, such as "a, b and c"; of many, the first ones and the number of the others."""
    distinct = list(dict.fromkeys(names))
    if len(distinct) > MOST_NAMED + 1:
        others = len(distinct) - MOST_NAMED
        distinct = [*distinct[:MOST_NAMED], f"{others} more"]
    *first, last = distinct
    return f"{', '.join(first)} and {last}" if first else last
