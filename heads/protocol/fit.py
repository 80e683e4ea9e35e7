"""`fit-head`: from a manifest and two stores to a run."""

from collections.abc import Callable, Sequence
from pathlib import Path

from tier4k.cache.store import FeatureStore
from tier4k.extract.datasets.manifest import Manifest
from tier4k.heads.data.features import load_features
from tier4k.heads.data.fusion import fuse
from tier4k.heads.encoders.finetuned import require_unseen
from tier4k.heads.evaluation.trial import run_trials
from tier4k.heads.protocol.options import FitOptions
from tier4k.heads.protocol.plan import Plan, plan_run
from tier4k.heads.protocol.publish import Run, _found, publish_run
from tier4k.heads.results.files import require_writable


def fit_head(
    manifest: Manifest,
    images: FeatureStore,
    texts: FeatureStore,
    options: FitOptions,
    out: Path,
    command: Sequence[str] = (),
    finished: Callable[[int, int], None] = lambda *_: None,
) -> Run:
    """Fit, evaluate and write a run; a run of the same configuration that is on disk is read instead.

    Args:
        manifest: All rows of the data set.
        images, texts: Stores of their features.
        options: What to fit.
        out: Folder of runs.
        command: Command line, recorded.
        finished: Called with (heads fitted, heads in all).

    Raises:
        TierError: The options do not fit each other or the data; nothing has been written then.
    """
    return fit_plans([plan_run(manifest, images, texts, options)], out, command, finished)[0]


def fit_plans(
    plans: Sequence[Plan],
    out: Path,
    command: Sequence[str] = (),
    finished: Callable[[int, int], None] = lambda *_: None,
) -> list[Run]:
    """Fit, evaluate and write runs that are `alike`; those that are on disk are read instead. The arguments are those of `fit_head`."""
    missing = [plan for plan in plans if not (out / plan.config.id).exists()]
    fitted = _fit_missing(missing, out, command, finished) if missing else {}
    return [fitted.get(plan.config.id) or _found(out / plan.config.id) for plan in plans]


def _fit_missing(
    plans: Sequence[Plan], out: Path, command: Sequence[str], finished: Callable[[int, int], None]
) -> dict[str, Run]:
    one = plans[0]
    assert isinstance(one.images, FeatureStore)
    assert isinstance(one.texts, FeatureStore)
    require_unseen(one.manifest, one.splits, one.images, one.texts)
    features = load_features(one.manifest, one.images, one.texts, one.config.stages, one.zero_shot)
    fused = fuse(features, one.method)
    require_writable(out)
    targets = list(dict.fromkeys(target for plan in plans for target in plan.config.targets))
    starts = {place: weights for plan in plans for place, weights in plan.starts.items()}
    trials = run_trials(
        features, fused, targets, one.splits, one.estimator, one.config.head, finished, starts
    )
    of_plan = {
        plan.config.id: [trial for trial in trials if trial.target in plan.config.targets] for plan in plans
    }
    return {
        plan.config.id: publish_run(
            out, plan.config, plan.manifest, command, features, of_plan[plan.config.id], plan.splits
        )
        for plan in plans
    }
