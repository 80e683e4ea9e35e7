"""`fit_head` finds a run again only where nothing has changed, and refuses before it writes."""

import re
from collections.abc import Callable
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from tier4k.cache.atomic import TEMPORARY_PREFIX
from tier4k.cache.errors import StoreError, TierError
from tier4k.cache.keys import key_array, text_key
from tier4k.cache.signature import Signature
from tier4k.cache.store import FeatureStore
from tier4k.extract.datasets.errors import DataError
from tier4k.extract.datasets.manifest import Manifest
from tier4k.extract.datasets.ratings import ERROR_OF
from tier4k.extract.encoders.encoder import ImageEncoder, TextEncoder
from tier4k.extract.encoders.levels import LevelsError
from tier4k.extract.encoders.presets import image_preset, text_preset
from tier4k.extract.weights.files import Weights
from tier4k.heads.data.features import load_features
from tier4k.heads.data.fusion import FusionError
from tier4k.heads.data.splits import SplitError
from tier4k.heads.encoders.pair import EncoderPair
from tier4k.heads.finetuning.recipe import resolve_finetuning
from tier4k.heads.metrics.raters import RATERS
from tier4k.heads.protocol.fit import fit_head
from tier4k.heads.protocol.options import FitOptions, ProtocolError
from tier4k.heads.protocol.plan import plan_run
from tier4k.heads.regressors.registry import head_options
from tier4k.heads.results.read import read_config
from tier4k.heads.results.read_model import read_model
from tier4k.heads.results.run import Run
from tier4k.heads.results.run_format import ResultError
from tier4k.tests.builders.stores import stores_of

ROWS, WITH_IMAGE_PROMPT = 40, 24
INPUTS = ("image", "prompt", "image_prompt")
TARGETS = ("MOS_quality", "MOS_alignment")
HEAD = {"max_epochs": 1, "hidden": 2}
OPTIONS = FitOptions(repeats=1, head=HEAD)
IMAGE = Signature("image", "resnet18", "resnet18", "ab" * 32, "reference: 224", "pooled")
TEXT = Signature("text", "bert", "bert", "cd" * 32, "wordpiece", "pooled")


def manifest() -> Manifest:
    """40 pictures, two for each prompt, the first 24 with an image prompt."""
    pair = [row // 2 for row in range(ROWS)]
    guided = [row < WITH_IMAGE_PROMPT for row in range(ROWS)]
    names, scores = (
        [f"picture {row}" for row in range(ROWS)],
        np.random.default_rng(0).uniform(0, 5, (ROWS, 2)),
    )
    table = pd.DataFrame(
        {
            "row": range(ROWS),
            "name": names,
            "image": names,
            "prompt": [f"prompt {number}" for number in pair],
            "image_prompt": [
                f"image prompt {number}" if has else "" for number, has in zip(pair, guided, strict=True)
            ],
            "generator": [f"generator {row % 3}" for row in range(ROWS)],
            "group": [f"group {number:02d}" for number in pair],
            "benchmark": ["I2I" if has else "T2I" for has in guided],
            "position": [row if has else row - WITH_IMAGE_PROMPT for row, has in enumerate(guided)],
            "dataset": "toy",
        }
    )
    keys = {
        f"{column}_key": table[column].map(lambda text: text_key(text).hex() if text else "")
        for column in INPUTS
    }
    return Manifest(
        "toy", (Path(),), table.assign(**keys, **dict(zip(TARGETS, scores.T, strict=True))), TARGETS
    )


def store(root: Path, signature: Signature, texts: pd.Series, width: int) -> FeatureStore:
    """A store of random features for the distinct texts, in the place of inputs."""
    opened, distinct = FeatureStore.create(root, signature, {}), sorted(set(texts) - {""})
    with opened.writer() as writer:
        writer.add(
            key_array(map(text_key, distinct)),
            np.random.default_rng(width).normal(size=(len(distinct), width)),
        )
    return FeatureStore.open(opened.path)


def image_store(root: Path, signature: Signature = IMAGE, without: str = "") -> FeatureStore:
    table = manifest().table
    pictures = pd.concat([table["image"], table["image_prompt"]])
    return store(root, signature, pictures[pictures != without], 5)


def text_store(root: Path, signature: Signature = TEXT, without: str = "") -> FeatureStore:
    prompts = manifest().table["prompt"]
    return store(root, signature, prompts[prompts != without], 4)


@pytest.fixture(scope="module")
def stores(tmp_path_factory: pytest.TempPathFactory) -> tuple[FeatureStore, FeatureStore]:
    root = tmp_path_factory.mktemp("features")
    return image_store(root), text_store(root)


Fit = Callable[..., Run]


@pytest.fixture(scope="module")
def fit(stores: tuple[FeatureStore, FeatureStore], tmp_path_factory: pytest.TempPathFactory) -> Fit:
    """`fit_head` into one folder of runs, with the options of a small run but for those given."""
    out = tmp_path_factory.mktemp("runs")
    return lambda data=None, **options: fit_head(
        manifest() if data is None else data, stores_of(*stores), replace(OPTIONS, **options), out
    )


CHANGES: dict[str, Any] = {
    "method": "pr",
    "benchmark": "I2I",
    "targets": TARGETS[:1],
    "split": "random",
    "repeats": 2,
    "seed": 1,
    "folds": 2,
    "seeds": 2,
    "recipe": "published",
    "estimator": "ridge",
    "head": HEAD | {"hidden": 3},
    "models": "none",
}
HEAD_CHANGES: dict[str, Any] = {
    "hidden": 3,
    "learning_rate": 0.1,
    "weight_decay": 0.1,
    "optimizer": "adam",
    "schedule": "constant",
    "batch_size": 4,
    "max_epochs": 2,
    "patience": 3,
    "standardize": False,
    "validation_fraction": 0.0,
    "activation": "gelu",
    "dropout": 0.5,
    "loss": "plcc",
    "image_transform": "sqrt",
    "target_transform": "rank-gauss",
}


def test_no_option_is_forgotten_here() -> None:
    # stages: of multilevel features, below; zero_shot: test_zero_shot.py; start: test_start.py; finetune,
    # training: test_finetune.py; selection: sweeps/test_search.py; templates, interaction:
    # test_interactions.py; device: heads/commands/test_devices.py, no part of the identity
    elsewhere = ("streams", "stages", "finetune", "training", "start", "selection", "templates", "device")
    assert {*CHANGES, *elsewhere} == {field.name for field in fields(FitOptions)}
    assert {*HEAD_CHANGES, "interaction"} == set(head_options("mlp"))


def test_known_ratings_make_another_run_that_differs_in_the_raters_ceiling_alone(fit: Fit) -> None:
    def rated(error: float) -> Manifest:
        data = manifest()
        return replace(data, table=data.table.assign(**{ERROR_OF + TARGETS[0]: error}))

    without, some, more = fit(), fit(rated(0.25)), fit(rated(0.5))
    assert len({without.folder, some.folder, more.folder}) == 3
    assert fit(rated(0.25)).found and fit().found
    for target, names in without.results.summaries.items():
        found = some.results.summaries[target]
        assert repr(found | names) == repr(found)  # as text, in which NaN equals NaN
        assert set(found) - set(names) == ({RATERS} if target == TARGETS[0] else set())
    ceilings = [run.results.summaries[TARGETS[0]][RATERS]["srcc"].mean for run in (some, more)]
    assert ceilings[0] > ceilings[1]
    assert read_config(some.folder).data_digest == read_config(without.folder).data_digest


@pytest.mark.parametrize("changed", CHANGES)
def test_every_option_makes_another_run(fit: Fit, changed: str) -> None:
    others: dict[str, Any] = {"estimator": {"head": {}}, "folds": {"repeats": None}}.get(changed, {})
    run = fit(**others, **{changed: CHANGES[changed]})
    assert run.folder != fit(**others).folder
    assert fit(**others, **{changed: CHANGES[changed]}).found


def test_every_option_of_the_head_makes_another_run(fit: Fit) -> None:
    folders = {
        fit(targets=TARGETS[:1], head=HEAD | {name: value}).folder for name, value in HEAD_CHANGES.items()
    }
    assert len({*folders, fit(targets=TARGETS[:1]).folder}) == len(HEAD_CHANGES) + 1


def test_an_option_at_its_default_makes_no_other_run_and_is_not_part_of_the_identity(fit: Fit) -> None:
    run = fit()
    config = read_config(run.folder)
    for name in set(head_options("mlp")) - set(HEAD):
        assert fit(head=HEAD | {name: config.head[name]}).folder == run.folder
    assert set(config.head) - set(config.head_defaults) == set(HEAD)


def test_the_part_that_is_finetuned_and_changed_options_alone_are_the_identity_of_a_training() -> None:
    weights = Weights(Path(), "0" * 64, "test")
    image = ImageEncoder(image_preset("resnet18"), weights, image_preset("resnet18").preprocessing())
    text = TextEncoder(text_preset("minilm"), weights)
    for part, training in (("all", {}), ("image", {}), ("last:2", {"warmup": 0.1})):
        options = FitOptions(finetune=part, training=training)
        plan = plan_run(
            manifest(), EncoderPair(image, text), options, resolve_finetuning(options, "resnet18")
        )
        assert plan.config.hashed["finetune"] == {"part": part} | training
        assert plan.config.hashed["head"] == {}


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("row", [0, 17, ROWS - 1])
def test_the_least_change_of_a_score_makes_another_run(fit: Fit, row: int, target: str) -> None:
    changed = manifest()
    changed.table.loc[row, target] = np.nextafter(changed.table.loc[row, target], 9)
    assert fit(changed).folder != fit().folder


@pytest.mark.parametrize("column", ["name", "generator", "group"])
def test_a_change_of_what_else_is_known_of_a_row_makes_another_run(fit: Fit, column: str) -> None:
    changed = manifest()
    changed.table.loc[3, column] = "another"
    assert fit(changed).folder != fit().folder


def test_features_made_in_another_way_make_another_run(
    fit: Fit, tmp_path: Path, stores: tuple[FeatureStore, FeatureStore]
) -> None:
    images, texts = stores
    other_images = image_store(tmp_path, replace(IMAGE, weights="12" * 32))
    other_texts = text_store(tmp_path, replace(TEXT, weights="12" * 32))
    pairs = [(other_images, texts), (images, other_texts)]
    runs = [fit_head(manifest(), stores_of(*pair), OPTIONS, tmp_path / "runs").folder.name for pair in pairs]
    assert len({*runs, fit().folder.name}) == 3


def test_the_same_options_find_the_run_again_and_fit_nothing(
    stores: tuple[FeatureStore, FeatureStore], tmp_path: Path
) -> None:
    fitted: list[tuple[int, int]] = []

    def once() -> Run:
        return fit_head(
            manifest(),
            stores_of(*stores),
            OPTIONS,
            tmp_path,
            ("tier", str(len(fitted))),
            lambda *step: fitted.append(step),
        )

    first = once()
    before = {file.name: (file.read_bytes(), file.stat().st_mtime_ns) for file in first.folder.iterdir()}
    again = once()
    assert (first.found, again.found) == (False, True)
    assert again.folder == first.folder and repr(again.results) == repr(first.results)
    assert fitted == [(1, 2), (2, 2)]
    assert {
        file.name: (file.read_bytes(), file.stat().st_mtime_ns) for file in again.folder.iterdir()
    } == before


@pytest.mark.parametrize("targets", [TARGETS, (*TARGETS, TARGETS[0])])
def test_all_targets_are_the_same_run_as_each_by_its_name(fit: Fit, targets: tuple[str, ...]) -> None:
    assert fit(targets=targets).folder == fit(targets=("all",)).folder


def test_a_new_folder_of_runs_gives_the_same_figures_and_records_the_package_of_the_layout(
    fit: Fit, stores: tuple[FeatureStore, FeatureStore], tmp_path: Path
) -> None:
    data = replace(manifest(), packages=("their-package 1.5",))
    new = fit_head(data, stores_of(*stores), OPTIONS, tmp_path)
    assert not new.found
    assert new.folder.name == fit().folder.name  # the rows are the same, whoever read them
    assert read_config(new.folder).environment.versions["their-package"] == "1.5"
    for target, names in fit().results.summaries.items():
        for name, metrics in names.items():
            assert new.results.summaries[target][name]["rmse"].mean == metrics["rmse"].mean


def test_a_head_sees_the_columns_of_the_chosen_stages_alone(tmp_path: Path) -> None:
    images = image_store(tmp_path, replace(IMAGE, feature="multilevel: mean of stage1 2, stage2 3"))
    texts = text_store(tmp_path)
    runs = [
        fit_head(
            manifest(),
            stores_of(images, texts),
            replace(OPTIONS, estimator="ridge", head={}, stages=stages),
            tmp_path / "runs",
        )
        for stages in ((), ("1",), ("2",), ("stage1", "stage2"))
    ]
    models = [read_model(run.folder) for run in runs]
    assert [{head.n_features_in_ for head in model.heads.values()} for model in models] == [
        {9},
        {6},
        {7},
        {9},
    ]
    assert len({run.folder for run in runs}) == 4 and models[2].stages == ("stage2",)
    part = load_features(manifest(), stores_of(images, texts), ("stage2",))
    whole = load_features(manifest(), stores_of(images, texts))
    name = "resnet18 multilevel"
    np.testing.assert_array_equal(part.image[name], whole.image[name][:, 2:])
    with pytest.raises(LevelsError, match="no levels: extract with --feature multilevel"):
        fit_head(
            manifest(),
            stores_of(image_store(tmp_path), texts),
            replace(OPTIONS, stages=("1",)),
            tmp_path / "runs",
        )


def test_a_damaged_run_is_named_and_not_replaced(
    stores: tuple[FeatureStore, FeatureStore], tmp_path: Path
) -> None:
    folder = fit_head(manifest(), stores_of(*stores), OPTIONS, tmp_path).folder
    (folder / "results.json").write_text("{")
    with pytest.raises(ResultError, match=f"delete {re.escape(str(folder))}"):
        fit_head(manifest(), stores_of(*stores), OPTIONS, tmp_path)
    assert (folder / "results.json").read_text() == "{"


@pytest.mark.parametrize(
    ("method", "benchmark", "width"), [("nr", "T2I", 9), ("pr", "all", 9), ("fr", "I2I", 14)]
)
def test_each_method_is_fitted_on_the_rows_of_its_benchmark(
    fit: Fit, method: str, benchmark: str, width: int
) -> None:
    run = fit(method=method, benchmark=benchmark)
    rows = {"T2I": ROWS - WITH_IMAGE_PROMPT, "I2I": WITH_IMAGE_PROMPT, "all": ROWS}
    assert run.results.rows == rows[benchmark]
    assert {head.n_features_in_ for head in read_model(run.folder).heads.values()} == {width}


def test_every_prediction_stands_beside_the_score_of_its_picture(fit: Fit) -> None:
    scores = manifest().table.set_index("name")
    for line in pd.read_csv(fit(benchmark="T2I").folder / "predictions.csv").itertuples():
        assert line.truth == pytest.approx(scores.loc[line.name, line.target])
        assert scores.loc[line.name, "benchmark"] == "T2I"


REFUSED: dict[str, tuple[dict[str, Any], type[TierError], str]] = {
    "a misspelt target": (
        {"targets": ("MOS_qualty",)},
        ProtocolError,
        r"no target 'MOS_qualty' \(nearest: MOS_quality",
    ),
    "a target out of nowhere": (
        {"targets": ("zzz",)},
        ProtocolError,
        "pass MOS_quality, MOS_alignment, or all",
    ),
    "one wrong target of two": (
        {"targets": (TARGETS[0], "MOS_align")},
        ProtocolError,
        "nearest: MOS_alignment",
    ),
    "full reference on T2I": (
        {"method": "fr", "benchmark": "T2I"},
        FusionError,
        "use the benchmark I2I, or the method pr",
    ),
    "full reference on all": (
        {"method": "fr", "benchmark": "all"},
        FusionError,
        "use the benchmark I2I, or the method pr",
    ),
    "no such method": ({"method": "xr"}, FusionError, "'xr': use one of nr, fr, pr"),
    "no such split": (
        {"split": "weekly"},
        SplitError,
        "'weekly' is no rule and no file.*pass prompt, random",
    ),
}


@pytest.mark.parametrize(("options", "error", "words"), REFUSED.values(), ids=REFUSED)
def test_a_refusal_names_the_value_and_the_remedy_and_writes_nothing(
    stores: tuple[FeatureStore, FeatureStore],
    tmp_path: Path,
    options: dict[str, Any],
    error: type[TierError],
    words: str,
) -> None:
    with pytest.raises(error, match=words):
        fit_head(manifest(), stores_of(*stores), replace(OPTIONS, **options), tmp_path / "runs")
    assert not (tmp_path / "runs").exists()


def without_targets(data: Manifest) -> Manifest:
    return replace(data, targets=())


def without_image_prompts(data: Manifest) -> Manifest:
    return data.select("T2I")


def with_four_prompts(data: Manifest) -> Manifest:
    return replace(data, table=data.table.head(8))


def with_one_prompt(data: Manifest) -> Manifest:
    return replace(data, table=data.table.head(2))


@pytest.mark.parametrize(
    ("cut", "benchmark", "error", "words"),
    [
        (without_targets, "all", ProtocolError, "no numeric score column"),
        (without_image_prompts, "I2I", DataError, "use the benchmark all, with the method nr or pr"),
        (with_four_prompts, "all", SplitError, "5 groups of prompts, and the data have 4: .*--split random"),
        (with_one_prompt, "all", SplitError, "and the data have 1: use rows of more prompts$"),
    ],
)
def test_data_that_cannot_be_fitted_are_refused_and_nothing_is_written(
    stores: tuple[FeatureStore, FeatureStore],
    tmp_path: Path,
    cut: Callable[[Manifest], Manifest],
    benchmark: Any,
    error: type[TierError],
    words: str,
) -> None:
    with pytest.raises(error, match=words):
        fit_head(
            cut(manifest()), stores_of(*stores), replace(OPTIONS, benchmark=benchmark), tmp_path / "runs"
        )
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize("missing", ["picture 7", "image prompt 2", "prompt 19"])
def test_a_store_that_lacks_rows_is_refused_with_a_remedy(tmp_path: Path, missing: str) -> None:
    images, texts = image_store(tmp_path, without=missing), text_store(tmp_path, without=missing)
    with pytest.raises(StoreError, match=r"[12] of \d+ inputs are not in .*run `tier extract`"):
        fit_head(manifest(), stores_of(images, texts), replace(OPTIONS, method="pr"), tmp_path / "runs")
    assert not (tmp_path / "runs").exists()


def test_an_empty_store_is_refused_with_a_remedy(
    stores: tuple[FeatureStore, FeatureStore], tmp_path: Path
) -> None:
    empty = FeatureStore.create(tmp_path, TEXT, {})
    with pytest.raises(StoreError, match="run `tier extract`"):
        fit_head(manifest(), stores_of(stores[0], empty), OPTIONS, tmp_path / "runs")
    assert not (tmp_path / "runs").exists()


def test_stopping_in_the_middle_writes_nothing(
    stores: tuple[FeatureStore, FeatureStore], tmp_path: Path
) -> None:
    def stop(*_: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fit_head(manifest(), stores_of(*stores), OPTIONS, tmp_path / "runs", progress=stop)
    assert list((tmp_path / "runs").glob("*")) == []


def test_a_folder_that_cannot_be_written_is_told_before_anything_is_fitted(
    stores: tuple[FeatureStore, FeatureStore], tmp_path: Path
) -> None:
    fitted: list[tuple[int, int]] = []
    (tmp_path / "file").touch()
    with pytest.raises(StoreError, match=f"cannot write to {tmp_path / 'file' / 'runs'}"):
        fit_head(
            manifest(),
            stores_of(*stores),
            OPTIONS,
            tmp_path / "file" / "runs",
            progress=lambda *step: fitted.append(step),
        )
    assert fitted == []


def test_the_generator_split_repeats_once_for_each_generator(fit: Fit) -> None:
    assert len(fit(split="generator", repeats=None).results.test_rows) == 3
    assert len(fit(repeats=None, targets=TARGETS[:1]).results.test_rows) == 10


def test_ridge_learns_from_all_training_rows_and_is_judged_without_a_validation_part(fit: Fit) -> None:
    run = fit(estimator="ridge", head={}, targets=TARGETS[:1])
    splits = pd.read_json(run.folder / "splits.json")
    assert run.results.headline == "last" and splits["validation"].map(len).eq(0).all()


def test_a_fit_removes_what_a_killed_one_left_although_its_run_exists(fit: Fit) -> None:
    left = fit().folder.parent / f"{TEMPORARY_PREFIX}of-a-dead-process"
    left.mkdir()
    assert fit().found
    assert not left.exists()


def test_a_run_that_another_process_finished_first_is_found(
    stores: tuple[FeatureStore, FeatureStore], tmp_path: Path
) -> None:
    def other(*_: int) -> None:
        if not list(tmp_path.glob("nr-*")):
            fit_head(manifest(), stores_of(*stores), replace(OPTIONS, targets=TARGETS[:1]), tmp_path)

    run = fit_head(
        manifest(), stores_of(*stores), replace(OPTIONS, targets=TARGETS[:1]), tmp_path, progress=other
    )
    assert run.found and len(list(tmp_path.iterdir())) == 1
