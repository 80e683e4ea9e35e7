"""`fit-head`: fit heads on the features in two stores and write the run."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from tier4k.extract.datasets.manifest import Manifest
from tier4k.extract.datasets.progress import Progress, no_progress
from tier4k.heads.data.features import FeatureSet, load_features
from tier4k.heads.data.fusion import Fused, fuse, needed_inputs
from tier4k.heads.data.stores import FeatureStores
from tier4k.heads.encoders.seen_images import require_unseen
from tier4k.heads.evaluation.run_trials import run_trials
from tier4k.heads.evaluation.trial import Trial
from tier4k.heads.protocol.options import DEFAULT_FIT, FitOptions, ProtocolError
from tier4k.heads.protocol.plan import Plan, plan_run
from tier4k.heads.protocol.publish import publish_run
from tier4k.heads.regressors.mlp.device import fitting_device
from tier4k.heads.regressors.tasks import Weights
from tier4k.heads.results.find_run import finished_run
from tier4k.heads.results.model import HeadKey
from tier4k.heads.results.run import Run, read_run
from tier4k.heads.results.write import require_writable


def fit_head(
    manifest: Manifest,
    stores: FeatureStores,
    options: FitOptions = DEFAULT_FIT,
    out: str | Path = "runs",
    command: Sequence[str] = (),
    progress: Progress = no_progress,
) -> Run:
    """Fit, evaluate and write a run; if a run of the same configuration exists, read it instead.

    Args:
        manifest: All rows of the data set, from `load_manifest`.
        stores: Stores with the features of images and prompts, and with zero-shot scores, from
            `extract_features` or `find_features`. Stores that the streams do not use are left out.
        options: Options of the fit.
        out: Folder of runs; the run is written to `out/ID`.
        command: Command line, which is recorded in the run.
        progress: Called with (heads fitted, heads in all).

    Raises:
        TierError: The options do not fit each other or the data; nothing has been written then.
    """
    options = replace(options, device=fitting_device(options.device))
    plan = plan_run(manifest, stores, options)
    if plan.device != options.device:
        raise ProtocolError(
            f"--head {options.estimator} has no network, and only networks are fitted on {options.device}: "
            "leave out --device, or pass --head mlp, gated or bilinear"
        )
    (run,) = fit_plans([plan], Path(out), command, progress)
    return run


def fit_plans(
    plans: Sequence[Plan],
    out: Path,
    command: Sequence[str] = (),
    finished: Progress = no_progress,
) -> list[Run]:
    """Fit, evaluate and write runs that differ only in their targets; read runs that exist.

    Args:
        plans: Plans with equal `without_targets`.
        out: Folder of runs.
        command: Command line, which is recorded in the run.
        finished: Called with (heads fitted, heads in all).
    """
    stored = {plan.config.digest: finished_run(out, plan.config) for plan in plans}
    missing = [plan for plan in plans if stored[plan.config.digest] is None]
    fitted = _fit_missing(missing, out, command, finished) if missing else {}
    runs = []
    for digest, folder in ((plan.config.digest, stored[plan.config.digest]) for plan in plans):
        runs.append(fitted[digest] if folder is None else read_run(folder))
    return runs


def load_fused(plan: Plan) -> tuple[FeatureSet, Fused]:
    """Read the features of a plan; return them with the fused vectors and their streams.

    Raises:
        TierError: The features cannot be read, or finetuned encoders have seen test rows.
    """
    assert isinstance(plan.inputs, FeatureStores)
    require_unseen(plan.manifest, plan.splits, *plan.inputs.all)
    config = plan.config
    features = load_features(
        plan.manifest,
        plan.inputs,
        config.stages,
        config.head["interaction"],
        config.templates,
        needed_inputs(plan.method, plan.streams, config.head["interaction"]),
    )
    return features, fuse(features, plan.method, plan.streams)


def _fit_missing(
    plans: Sequence[Plan],
    out: Path,
    command: Sequence[str],
    finished: Progress,
) -> dict[str, Run]:
    features, trials = _run_trials(plans, out, finished)
    runs = {}
    for plan in plans:
        plan_trials = [trial for trial in trials if trial.target in plan.config.targets]
        runs[plan.config.digest] = publish_run(
            out, plan.config, plan.manifest, command, features, plan_trials, plan.splits
        )
    return runs


def _run_trials(
    plans: Sequence[Plan],
    out: Path,
    finished: Progress,
) -> tuple[FeatureSet, list[Trial]]:
    """Fit and evaluate the heads of all plans together; the plans differ only in their targets."""
    first = plans[0]
    features, fused = load_fused(first)
    require_writable(out)
    targets: list[str] = []
    starts: dict[HeadKey, Weights] = {}
    for plan in plans:
        targets.extend(plan.config.targets)
        starts.update(plan.starts)
    trials = run_trials(
        features,
        fused,
        list(dict.fromkeys(targets)),
        first.splits,
        first.estimator,
        first.config.head,
        finished,
        starts,
        first.device,
    )
    return features, trials
