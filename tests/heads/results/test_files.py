"""A run's folder exists whole or not at all, and everything that was written is read back."""

import json
import re
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy.stats import spearmanr

from tier4k.cache.errors import StoreError
from tier4k.cache.signature import Signature
from tier4k.heads.data.features import FeatureSet
from tier4k.heads.data.fusion import fuse
from tier4k.heads.data.splits import Split, make_splits
from tier4k.heads.encoders.finetuned import finetuned_encoders
from tier4k.heads.evaluation.run_trials import run_trials
from tier4k.heads.evaluation.summary import summarize
from tier4k.heads.evaluation.trial import Trial
from tier4k.heads.regressors.mlp.estimator import MLPHead
from tier4k.heads.results.choices import KeptModels
from tier4k.heads.results.config import Environment, RunConfig
from tier4k.heads.results.model import ModelError
from tier4k.heads.results.names import run_name
from tier4k.heads.results.read import read_config, read_curves, read_predictions, used_stores
from tier4k.heads.results.read_model import read_model
from tier4k.heads.results.results import Results
from tier4k.heads.results.run_format import PROTOCOL_VERSION, RUN_FORMAT, ResultError
from tier4k.heads.results.write import write_run
from tier4k.tests.builders.feature_sets import feature_set

TARGETS = ("quality", "alignment")
REPEATS = 2


@dataclass(frozen=True)
class Fitted:
    """Everything that a run's folder is written from."""

    config: RunConfig
    features: FeatureSet
    trials: list[Trial]
    splits: list[Split]

    @cached_property
    def results(self) -> Results:
        return Results.of(
            self.config,
            self.features,
            self.trials,
            self.splits,
            summarize(self.features, self.trials, self.splits),
        )

    def write(self, out: Path, models: KeptModels = "all") -> Path:
        config = replace(self.config, models=models, environment=Environment(("tier",)))
        results = replace(self.results, id=run_name(config))
        return write_run(
            out, config, results, self.features, self.trials, self.splits, rows_of(self.features)
        )


def rows_of(features: FeatureSet) -> pd.DataFrame:
    """The rows of a data set with these features."""
    return pd.DataFrame(
        {
            "name": features.name,
            "prompt": features.group,
            "generator": features.generator,
            "image_key": features.image_key,
            "image_prompt_key": "",
        }
    )


def fit(**head: Any) -> Fitted:
    """Heads of two targets and two repeats; without a validation part where `validation_fraction` is 0."""
    options = MLPHead(**{"hidden": 3, "max_epochs": 3} | head).get_params()
    del options["random_state"]
    features = replace(
        feature_set(), targets=np.random.default_rng(1).uniform(0, 5, (80, 2)), target_names=TARGETS
    )
    splits = make_splits(features, "prompt", REPEATS, seed=4, validation=options["validation_fraction"])
    trials = run_trials(features, fuse(features, "nr"), TARGETS, splits, "mlp", options)
    names = {
        "data": "toy",
        "data_digest": "0",
        "method": "nr",
        "benchmark": "all",
        "recipe": "cached",
        "split": "prompt",
    }
    signatures = {
        stream: Signature(stream, stream, stream, "0" * 64, "native: as it is", "pooled")
        for stream in ("image", "text")
    }
    config = RunConfig(
        **names,
        signatures=signatures,
        targets=TARGETS,
        repeats=REPEATS,
        seed=4,
        estimator="mlp",
        head=options,
        models="all",
    )
    return Fitted(config, features, trials, splits)


@pytest.fixture(scope="module")
def fitted() -> Fitted:
    return fit()


@pytest.fixture
def run(fitted: Fitted, tmp_path: Path) -> Path:
    return fitted.write(tmp_path / "runs")


def strict_json(path: Path) -> Any:
    """The content of a file for readers that refuse NaN."""

    def refuse(constant: str) -> None:
        raise AssertionError(f"{path.name} holds {constant}, which is not JSON")

    return json.loads(path.read_text(encoding="utf-8"), parse_constant=refuse)


@pytest.mark.parametrize("head", [{}, {"validation_fraction": 0.0}])
def test_results_are_read_as_they_were_written(head: dict[str, Any], tmp_path: Path) -> None:
    fitted = fit(**head)
    written, read = fitted.results, Results.read(fitted.write(tmp_path))
    assert repr(read) == repr(written)  # as text, in which NaN equals NaN
    assert type(read.summaries["quality"]["last"]["srcc"]) is type(
        written.summaries["quality"]["last"]["srcc"]
    )


def test_nan_is_written_as_null_with_its_reason(tmp_path: Path) -> None:
    folder = fit(validation_fraction=0.0).write(tmp_path)
    values = strict_json(folder / "results.json")
    missing = values["summaries"]["alignment"]["best_validation"]["srcc"]
    assert missing == {
        "values": [None] * REPEATS,
        "mean": None,
        "sd": None,
        "median": None,
        "interval": None,
        "interval_reason": "the epochs were selected on the test rows, so no predictions are kept",
        "interval_fitted_heads": None,
        "sd_splits": None,
        "sd_seeds": None,
    }
    assert values["reasons"]["alignment"]["best_validation"] == "no validation part"
    assert np.isnan(Results.read(folder).summaries["alignment"]["best_validation"]["srcc"].mean)


def test_every_json_file_is_strict_json(run: Path) -> None:
    files = list(run.glob("*.json"))
    assert {file.name for file in files} == {"config.json", "results.json", "splits.json", "model.json"}
    for file in files:
        strict_json(file)


def test_the_recorded_configuration_gives_the_run_its_name(run: Path) -> None:
    config = read_config(run)
    assert config.environment.command == ("tier",)
    assert run_name(config) == run.name == strict_json(run / "results.json")["id"]


@pytest.mark.parametrize(
    "damage",
    [
        lambda _: "",
        lambda text: text[: len(text) // 2],
        lambda text: text.replace(f'"format": {RUN_FORMAT}', '"format": "four"'),
        lambda text: text.replace(f'"format": {RUN_FORMAT},', ""),
        lambda text: text.replace('"sd"', '"spread"'),
        lambda text: text.replace('"rows"', '"lines"'),
        lambda _: "[]",
        lambda _: "null",
        lambda _: f'{{"format": {RUN_FORMAT}, "summaries": []}}',
    ],
    ids=[
        "empty",
        "truncated",
        "format in words",
        "no format",
        "no sd",
        "unknown field",
        "a list",
        "null",
        "no summaries",
    ],
)
def test_damaged_results_are_refused_with_the_folder_to_delete(
    run: Path, damage: Callable[[str], str]
) -> None:
    file = run / "results.json"
    file.write_text(damage(file.read_text()))
    with pytest.raises(ResultError, match=f"delete {re.escape(str(run))} and"):
        Results.read(run)


WRONG_CONFIGS = {
    "method": ('"method": "nr"', '"method": "xr"', r"`\$\.method`"),
    "head": ('"head": {', '"head": [], "was": {', r"Expected `object`, got `array` - at `\$\.head`"),
    "signature": ('"feature": "pooled"', '"feature": 3', r"Expected `str`, got `int` - at `\$\.signatures"),
    "signature without a field": ('"feature"', '"other"', "missing required field `feature`"),
    "command": ('"command": [', '"command": 1, "was": [', r"`\$\.environment\.command`"),
    "stream": ('"stream": "text"', '"stream": "texts"', r"`\$\.signatures` lacks text"),
}

WRONG_RESULTS = {
    "identity": ('"id": "nr', '"id": ["a"], "was": "nr', r"Expected `str`, got `array` - at `\$\.id`"),
    "rows": ('"rows": 80', '"rows": "80"', r"Expected `int`, got `str` - at `\$\.rows`"),
    "headline": ('"headline": "best', '"headline": "worst', "lacks the result, worst_validation"),
    "metric": ('"plcc": {', '"plbc": {', "lacks plcc"),
    "repeats": ('"test_rows": [', '"test_rows": [1,', "does not have 3 values"),
}


def assert_refused(path: Path, old: str, new: str, message: str, read: Callable[[Path], object]) -> None:
    """Change a text in a file of a run; the run is refused in one line with the file and the remedy."""
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))
    file, run = re.escape(str(path)), re.escape(str(path.parent))
    expected = rf"^{file} cannot be read \(.*{message}.*\): delete {run} and run the command .*$"
    with pytest.raises(ResultError, match=expected):
        read(path.parent)


@pytest.mark.parametrize(("old", "new", "message"), WRONG_CONFIGS.values(), ids=WRONG_CONFIGS)
def test_a_wrong_value_of_the_configuration_is_refused_by_its_field(
    run: Path, old: str, new: str, message: str
) -> None:
    assert_refused(run / "config.json", old, new, message, read_config)


@pytest.mark.parametrize(("old", "new", "message"), WRONG_RESULTS.values(), ids=WRONG_RESULTS)
def test_a_wrong_value_of_the_results_is_refused_by_its_field(
    run: Path, old: str, new: str, message: str
) -> None:
    assert_refused(run / "results.json", old, new, message, Results.read)


def write_format(run: Path, version: int) -> None:
    for name in ("config.json", "results.json"):
        text = (run / name).read_text()
        (run / name).write_text(text.replace(f'"format": {RUN_FORMAT}', f'"format": {version}'))


READERS: dict[str, Callable[[Path], object]] = {
    "results": Results.read,
    "configuration": read_config,
    "predictions": read_predictions,
    "curves": read_curves,
    "heads": read_model,
    "finetuned encoders": finetuned_encoders,
    "stores in use": lambda run: used_stores(run.parent),
}


@pytest.mark.parametrize(
    ("column", "value", "problem"),
    [
        ("target", "other", r"'other' is not in results\.json"),
        ("repeat", REPEATS, rf"a repeat {REPEATS}, and results\.json has {REPEATS}"),
        ("truth", np.inf, "a score is infinite"),
    ],
)
def test_predictions_that_do_not_belong_to_the_results_are_damaged(
    run: Path, column: str, value: object, problem: str
) -> None:
    table = pd.read_csv(run / "predictions.csv")
    table.loc[0, column] = value
    table.to_csv(run / "predictions.csv", index=False)
    with pytest.raises(ResultError, match=rf"predictions\.csv .*{problem}"):
        read_predictions(run)


@pytest.mark.parametrize("version", [RUN_FORMAT - 1, RUN_FORMAT + 1])
@pytest.mark.parametrize("read", READERS.values(), ids=READERS)
def test_a_run_of_another_format_must_be_fitted_again_whichever_file_is_read(
    run: Path, read: Callable[[Path], object], version: int
) -> None:
    write_format(run, version)
    with pytest.raises(
        ResultError, match=rf"run format {version}, .* reads format {RUN_FORMAT}: delete .* and fit again$"
    ):
        read(run)


def test_the_version_of_the_protocol_is_part_of_a_runs_identity(fitted: Fitted) -> None:
    config = fitted.config
    assert config.protocol == PROTOCOL_VERSION
    assert replace(config, protocol=PROTOCOL_VERSION + 1).digest != config.digest
    assert replace(config, format=RUN_FORMAT + 1).digest != config.digest


def test_options_at_their_default_are_not_part_of_a_runs_identity(fitted: Fitted) -> None:
    usual = replace(fitted.config, head_defaults=("dropout",))
    older = replace(
        usual, head={name: value for name, value in usual.head.items() if name != "dropout"}, head_defaults=()
    )
    assert older.digest == usual.digest  # a run keeps its name when its head gets a new option
    assert replace(usual, head=usual.head | {"hidden": 4}).digest != usual.digest
    assert "stages" not in usual.hashed and "seeds" not in usual.hashed and "finetune" not in usual.hashed
    changed = [
        replace(usual, stages=("head",)),
        replace(usual, seeds=2),
        replace(usual, finetune={"part": "all"}),
    ]
    assert len({config.digest for config in (usual, *changed)}) == 4


def test_nobody_is_asked_to_delete_a_run_that_does_not_exist(tmp_path: Path) -> None:
    with pytest.raises(ResultError, match="there is no run .*nowhere: pass the folder of a run"):
        Results.read(tmp_path / "nowhere")


def test_missing_results_are_refused_with_the_folder_to_delete(run: Path) -> None:
    (run / "results.json").unlink()
    with pytest.raises(ResultError, match=f"delete {re.escape(str(run))} and"):
        Results.read(run)


@pytest.mark.parametrize(
    "place",
    ["pandas.DataFrame.to_csv", "tier4k.heads.results.model.save_file", "tier4k.cache.atomic.os.replace"],
)
@pytest.mark.parametrize(
    ("error", "seen"), [(OSError(28, "No space left"), StoreError), (KeyboardInterrupt(), KeyboardInterrupt)]
)
def test_a_write_that_fails_halfway_leaves_nothing(
    fitted: Fitted,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    place: str,
    error: BaseException,
    seen: type[BaseException],
) -> None:
    def fail(*_: Any, **__: Any) -> None:
        raise error

    with monkeypatch.context() as patch, pytest.raises(seen):
        patch.setattr(place, fail)
        fitted.write(tmp_path)
    assert list(tmp_path.iterdir()) == []
    assert Results.read(fitted.write(tmp_path)).id == run_name(fitted.config)


def test_a_run_is_never_overwritten(fitted: Fitted, run: Path) -> None:
    before = {file.name: file.read_bytes() for file in run.iterdir()}
    with pytest.raises(StoreError, match=str(run.parent)):
        fitted.write(run.parent)
    assert {file.name: file.read_bytes() for file in run.iterdir()} == before
    assert list(run.parent.iterdir()) == [run]


@pytest.mark.parametrize(("models", "repeats"), [("all", (0, 1)), ("first", (0,))])
def test_the_requested_heads_are_kept(
    fitted: Fitted, tmp_path: Path, models: KeptModels, repeats: tuple[int, ...]
) -> None:
    assert set(read_model(fitted.write(tmp_path, models)).heads) == {
        (target, repeat) for target in TARGETS for repeat in repeats
    }


def test_no_heads_are_kept_where_none_are_requested(fitted: Fitted, tmp_path: Path) -> None:
    run = fitted.write(tmp_path, "none")
    assert {file.name for file in run.iterdir()} == {
        "config.json",
        "results.json",
        "splits.json",
        "predictions.csv",
        "curves.csv",
    }
    with pytest.raises(ModelError, match="--models all"):
        read_model(run)


def test_a_loaded_head_is_the_fitted_one(fitted: Fitted, run: Path) -> None:
    heads, X = read_model(run).heads, np.random.default_rng(0).normal(size=(20, 10))
    for trial in fitted.trials:
        loaded = heads[trial.target, trial.repeat]
        np.testing.assert_array_equal(loaded.predict(X), trial.head.predict(X))
        assert loaded.get_params() == trial.head.get_params()


@pytest.mark.parametrize(
    "text", ["", "[]", "{}", '{"heads": [{"target": "x", "repeat": 0, "seed": 0}], "options": {}}']
)
def test_a_damaged_record_of_the_heads_is_refused(run: Path, text: str) -> None:
    (run / "model.json").write_text(text)
    with pytest.raises(ModelError, match=f"{re.escape(str(run))} has no readable heads"):
        read_model(run)


def test_a_wrong_value_in_the_record_of_the_heads_is_refused_by_its_field(run: Path) -> None:
    text = (run / "model.json").read_text()
    (run / "model.json").write_text(text.replace('"repeat": 1', '"repeat": "one"'))
    with pytest.raises(
        ModelError, match=r"model\.json: Expected `int`, got `str` - at `\$\.heads\[1\]\.repeat`"
    ):
        read_model(run)


def test_an_infinite_half_width_is_read_as_it_was_written(fitted: Fitted, tmp_path: Path) -> None:
    widths = (float("inf"), 0.5)
    intervals = {"quality": replace(fitted.results.prediction_intervals["quality"], half_width=widths)}
    results = replace(fitted.results, prediction_intervals=intervals)
    rows = rows_of(fitted.features)
    folder = write_run(tmp_path, fitted.config, results, fitted.features, fitted.trials, fitted.splits, rows)
    assert Results.read(folder).prediction_intervals["quality"].half_width == widths
    assert list(read_model(folder).half_widths.values()) == [0.5]


def test_every_test_image_has_one_prediction_for_each_repeat_and_target(fitted: Fitted, run: Path) -> None:
    table = pd.read_csv(run / "predictions.csv")
    lines = list(table[["name", "repeat", "target"]].itertuples(index=False, name=None))
    expected = {
        (name, repeat, target)
        for repeat, split in enumerate(fitted.splits)
        for name in fitted.features.name[split.test]
        for target in TARGETS
    }
    assert len(lines) == len(expected) and set(lines) == expected


def test_predictions_are_beside_their_rows(fitted: Fitted, run: Path) -> None:
    features, heads = fitted.features, read_model(run).heads
    row = {name: number for number, name in enumerate(features.name)}
    for line in pd.read_csv(run / "predictions.csv").itertuples():
        number = row[line.name]
        assert (line.group, line.generator) == (features.group[number], features.generator[number])
        assert line.truth == pytest.approx(features.targets[number, TARGETS.index(line.target)])
        predicted = heads[line.target, line.repeat].predict(fuse(features, "nr").X[[number]])
        assert line.prediction == pytest.approx(predicted[0])


def test_the_headline_can_be_computed_again_from_the_predictions(run: Path) -> None:
    results = Results.read(run)
    lines = pd.read_csv(run / "predictions.csv").groupby(["target", "repeat"])
    for target in TARGETS:
        parts = [lines.get_group((target, repeat)) for repeat in range(REPEATS)]
        expected = [spearmanr(part["truth"], part["prediction"]).statistic for part in parts]
        assert results.summaries[target][results.headline]["srcc"].mean == pytest.approx(np.mean(expected))


def test_the_parts_of_each_split_hold_every_row_once(fitted: Fitted, run: Path) -> None:
    splits, table = strict_json(run / "splits.json"), pd.read_csv(run / "predictions.csv")
    assert [split["seed"] for split in splits] == [4, 5]
    for repeat, split in enumerate(splits):
        names = [*split["train"], *split["validation"], *split["test"]]
        assert sorted(names) == sorted(fitted.features.name)
        assert all(split[part] for part in ("train", "validation", "test"))
        assert set(split["test"]) == set(table.loc[table["repeat"] == repeat, "name"])


def test_results_count_rows_and_prompts(run: Path) -> None:
    results, splits = Results.read(run), strict_json(run / "splits.json")
    assert results.rows == 80
    assert results.test_rows == tuple(len(split["test"]) for split in splits)
    assert results.test_prompts == tuple(
        len(split["test"]) // 4 for split in splits
    )  # four rows share a prompt
    assert results.seen_prompts == (0, 0)


def test_training_curves_are_the_heads_own_and_hold_the_best_test_epoch(fitted: Fitted, run: Path) -> None:
    curves, results = read_curves(run), Results.read(run)
    for trial in fitted.trials:
        its = curves[(curves["target"] == trial.target) & (curves["repeat"] == trial.repeat)]
        assert its["epoch"].tolist() == [1, 2, 3]
        assert isinstance(trial.head, MLPHead)
        np.testing.assert_allclose(its["training_loss"], trial.head.training_loss_)
        np.testing.assert_allclose(its["validation_loss"], trial.head.validation_loss_)
        found = {
            name: asdict(results.summaries[trial.target][name]["srcc"])["values"][trial.repeat]
            for name in ("last", "best_test")
        }
        assert found == pytest.approx(
            {"last": its["test_srcc"].iloc[-1], "best_test": its["test_srcc"].max()}
        )


def test_without_validation_rows_the_curve_has_no_validation_loss(tmp_path: Path) -> None:
    curves = read_curves(fit(validation_fraction=0.0).write(tmp_path))
    assert curves["validation_loss"].isna().all() and np.isfinite(curves["training_loss"]).all()


def test_damaged_curves_are_refused_with_the_folder_to_delete(run: Path) -> None:
    (run / "curves.csv").write_text("target,repeat\nquality,zero\n")
    with pytest.raises(ResultError, match=f"delete {re.escape(str(run))}"):
        read_curves(run)
