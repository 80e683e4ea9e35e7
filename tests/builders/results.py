"""results.json of runs that were never fitted."""

from pathlib import Path

from tier4k.heads.evaluation.summary import Summary
from tier4k.heads.metrics.all_metrics import METRICS
from tier4k.heads.results.json_files import write_json
from tier4k.heads.results.results import Results
from tier4k.heads.results.run_format import RUN_FORMAT

NAN = float("nan")


def write_results(
    folder: Path,
    targets: tuple[str, ...],
    repeats: int,
    interval_reason: str = "",
    mean: float = NAN,
) -> None:
    """Write results without values; `interval_reason` and `mean` are those of every metric."""
    no_value = Summary(
        values=(NAN,) * repeats,
        mean=mean,
        sd=NAN,
        median=NAN,
        interval=None,
        interval_reason=interval_reason,
        interval_fitted_heads=None,
        sd_splits=NAN,
        sd_seeds=NAN,
    )
    counts = (0,) * repeats
    results = Results(
        format=RUN_FORMAT,
        id=folder.name,
        data="toy",
        method="nr",
        benchmark="all",
        split="prompt",
        estimator="ridge",
        rows=0,
        missing_scores={},
        headline="last",
        test_rows=counts,
        test_prompts=counts,
        fewest_prompts=dict.fromkeys(targets, 0),
        seen_prompts=counts,
        seen_images=counts,
        seen_siblings=counts,
        seen_unknown="",
        summaries={target: {"last": dict.fromkeys(METRICS, no_value)} for target in targets},
        reasons={},
        new_prompts_reason="",
        prediction_intervals={},
        chosen={},
        selection_srcc={},
    )
    write_json(folder / "results.json", results)
