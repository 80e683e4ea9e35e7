"""A user's estimator is a head: fitted on the fused vectors as they are, with its own options and seeds."""

import hashlib
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import sklearn
from scipy.special import ndtri
from scipy.stats import rankdata
from sklearn.ensemble import RandomForestRegressor
from sklearn.linear_model import Ridge
from sklearn.preprocessing import StandardScaler

from tier4k.cache.errors import TierError
from tier4k.extract.plugins.find import PluginError
from tier4k.heads.data.streams import Streams
from tier4k.heads.protocol.options import FitOptions, ProtocolError
from tier4k.heads.regressors.base import BaseHead
from tier4k.heads.regressors.estimator_head import EstimatorHead, foreign_errors
from tier4k.heads.regressors.literals import literal_text, parse_literal
from tier4k.heads.regressors.options import HeadError
from tier4k.heads.regressors.own_heads import own_head
from tier4k.heads.regressors.registry import (
    fit_heads,
    head_plugins,
    make_head,
    options_at_default,
    require_inputs,
    resolve_options,
    validation_share,
)
from tier4k.heads.regressors.tasks import FitTask, WatchedRows
from tier4k.heads.sweeps.blocks import SweepError, as_blocks
from tier4k.heads.sweeps.grid_values import value_lists
from tier4k.tests.builders.own_heads import HEADS, install, write_module

FOREST = "sklearn.ensemble:RandomForestRegressor"
ROWS, COLUMNS = 24, 6
X = np.random.default_rng(0).normal(size=(ROWS, COLUMNS)).astype(np.float32)
SCORES = np.random.default_rng(1).uniform(1, 5, ROWS)


@pytest.fixture(scope="module", autouse=True)
def packages(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder on the search path with packages of a user: one installed, one a module alone."""
    folder = tmp_path_factory.mktemp("packages")
    install(folder, "unit_heads", {"unit-linear": "linear", "unit-stiff": "Stiff"})
    write_module(folder, "unit_module")
    (folder / "unit_needs.py").write_text("import missing_package.part\n")
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(folder)
        yield folder


def resolved(name: str, **options: Any) -> dict[str, Any]:
    return resolve_options(name, "cached", "resnet18", options)


def fitted(name: str, seed: int = 3, **options: Any) -> BaseHead:
    head = make_head(name, resolved(name, **options), seed)
    return head.fit(X, SCORES)


# Options


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("3", 3),
        ("1e-3", 1e-3),
        ("0.5", 0.5),
        ("true", True),
        ("False", False),
        ("none", None),
        ("sqrt", "sqrt"),
        ("'5'", "5"),
        ("100, 50", (100, 50)),
        ("[1, 2]", [1, 2]),
        ("__import__('os')", "__import__('os')"),
        ("{1: 2}", "{1: 2}"),
    ],
)
def test_a_text_stands_for_a_literal_or_for_itself_and_is_written_back(text: str, value: object) -> None:
    parsed = parse_literal(text)
    assert parsed == value and type(parsed) is type(value)
    again = parse_literal(literal_text(value))
    assert again == value and type(again) is type(value)


def test_options_of_a_step_of_a_pipeline_are_set_by_their_nested_name() -> None:
    head = make_head("unit-linear", resolved("unit-linear", ridge__alpha="0.5"), 0)
    assert isinstance(head, EstimatorHead)
    assert head.estimator.get_params()["ridge__alpha"] == 0.5
    assert head.estimator.get_params()["standardscaler__with_mean"] is True


def test_an_unknown_option_is_refused_with_the_list() -> None:
    with pytest.raises(HeadError, match=r"no option alpha \(nearest: ridge__alpha\).*ridge__tol.*transform"):
        resolved("unit-linear", alpha="1")


def test_only_an_option_of_the_same_value_and_type_is_at_its_default() -> None:
    options = resolved(FOREST, n_estimators="100", max_features="1")
    assert options["max_features"] == 1.0 == resolved(FOREST)["max_features"]
    at_default = options_at_default(FOREST, "cached", "resnet18", options)
    assert "n_estimators" in at_default and "max_features" not in at_default


def test_unset_seeds_are_those_of_the_repeat() -> None:
    assert "random_state" not in resolved(FOREST)
    of_repeat = make_head(FOREST, resolved(FOREST), 7)
    of_user = make_head(FOREST, resolved(FOREST, random_state="2"), 7)
    of_factory = make_head("unit_module:seeded", resolved("unit_module:seeded"), 7)
    seeds = [head.estimator.random_state for head in (of_repeat, of_user, of_factory)]
    assert seeds == [7, 2, 5]
    of_step = make_head("unit-linear", resolved("unit-linear"), 7)
    assert of_step.estimator.get_params()["ridge__random_state"] == 7


def test_an_option_of_our_name_keeps_the_meaning_that_the_estimator_gives_it() -> None:
    network = "sklearn.neural_network:MLPRegressor"
    options = resolved(network, validation_fraction="0.2", batch_size="8")
    assert options["validation_fraction"] == 0.2 and options["batch_size"] == 8
    assert validation_share(network, options) == 0.0
    assert validation_share("mlp", {"validation_fraction": 0.15}) == 0.15
    require_inputs(FOREST, {"members": "x"}, ["image"])


def test_a_grid_has_the_options_of_the_heads_that_it_names(packages: Path) -> None:
    values = value_lists({"head": ["unit-linear"], "ridge__alpha": [1, 2]}, "mlp")
    assert values["ridge__alpha"] == [1, 2]
    assert value_lists({"head": ["ridge", "unit-linear"], "transform": "sqrt"}, "mlp")["transform"] == [
        "sqrt"
    ]
    assert value_lists({"ridge__alpha": 1}, "unit-linear") == {"ridge__alpha": [1]}
    with pytest.raises(SweepError, match="no option 'ridge__alpha'"):
        value_lists({"head": "ridge", "ridge__alpha": 1}, "unit-linear")
    with pytest.raises(SweepError, match="'forest', which is unknown: use mlp.*unit-linear.*package.module"):
        value_lists({"head": "forest"}, "mlp")


def test_an_estimator_that_hides_its_parameters_is_refused_by_its_name() -> None:
    for options in ({}, {"alpha": "2"}):
        with pytest.raises(
            HeadError, match=r"Unconventional head cannot say.*self\.alpha = alpha.*no attribute"
        ):
            resolved("unit_module:Unconventional", **options)
    with pytest.raises(HeadError, match="Unconventional"):
        value_lists({"head": "unit_module:Unconventional", "alpha": 1}, "mlp")


def test_a_class_or_an_object_as_the_estimator_is_refused_with_its_import_path() -> None:
    class Hidden(Ridge):
        pass

    for given in (Ridge, Ridge()):
        with pytest.raises(ProtocolError, match=r"'sklearn\.linear_model\._ridge:Ridge'.*head=\{"):
            FitOptions(estimator=given)  # type: ignore[arg-type]
    with pytest.raises(ProtocolError, match="my_heads:MeanRidge"):
        FitOptions(estimator=Hidden)  # type: ignore[arg-type]


def test_an_option_that_one_head_of_a_grid_lacks_needs_a_grid_for_each_head() -> None:
    for heads, option in ((["ridge", "svr"], "C"), (["svr", "unit-linear"], "ridge__alpha")):
        with pytest.raises(SweepError, match="write a block for each head"):
            value_lists({"head": heads, option: [1, 2]}, "mlp")
    with pytest.raises(SweepError, match=r"grid is \[.ridge.\]: use a dict, or a list of one dict or more"):
        as_blocks(["ridge"])  # type: ignore[list-item]


# Fits


def test_a_forest_predicts_as_the_same_forest_does_without_tier4k() -> None:
    expected = RandomForestRegressor(5, max_depth=2, random_state=3).fit(X, SCORES).predict(X)
    found = fitted(FOREST, n_estimators="5", max_depth="2").predict(X)
    np.testing.assert_array_equal(found, expected)


def test_a_pipeline_reads_the_fused_vectors_as_they_are_stored() -> None:
    scaler = StandardScaler().fit(X)
    expected = Ridge(alpha=3.0).fit(scaler.transform(X), SCORES).predict(scaler.transform(X))
    np.testing.assert_allclose(fitted("unit-linear").predict(X), expected, rtol=1e-6)


def test_our_transforms_work_around_an_estimator() -> None:
    rooted = np.sign(X) * np.sqrt(np.abs(X))
    quantiles = ndtri((rankdata(SCORES) - 0.5) / ROWS)
    model = Ridge().fit(rooted, quantiles)
    order = np.argsort(quantiles)
    predicted = model.predict(rooted)
    inside = (predicted > quantiles.min()) & (predicted < quantiles.max())
    expected = np.interp(predicted, quantiles[order], SCORES[order])
    head = fitted("unit_module:Own", image_transform="sqrt", target_transform="rank-gauss")
    assert inside.sum() > ROWS // 2
    np.testing.assert_allclose(head.predict(X)[inside], expected[inside], rtol=1e-4)


def test_a_class_of_our_conventions_is_a_head_with_its_own_typed_options() -> None:
    ours = make_head("ridge", resolve_options("ridge", "cached", "resnet18", {}), 0).fit(X, SCORES)
    np.testing.assert_allclose(fitted("unit-stiff").predict(X), ours.predict(X) + 1, rtol=1e-9)
    assert resolved("unit-stiff", penalties="0.5,2")["penalties"] == (0.5, 2.0)


@pytest.mark.parametrize(
    ("name", "text"),
    [
        (
            "unit_module:Failing",
            r"Failing head cannot be fitted for MOS, repeat 4: RuntimeError: no luck \(.*py, line {raise}\)",
        ),
        ("unit_module:Undefined", "ValueError: 3 of its 24 scores are NaN or infinite"),
        ("unit_module:Narrow", "Narrow head cannot predict for MOS, repeat 4: .*shape .23,. for 24 rows"),
    ],
)
def test_an_error_of_an_estimator_names_the_head_and_the_repeat(name: str, text: str) -> None:
    head = make_head(name, resolved(name), 0)
    rows = np.arange(ROWS)
    task = FitTask(SCORES, rows, watched=WatchedRows(rows, lambda *_: None), name="MOS, repeat 4")
    raising = HEADS.splitlines().index('    raise RuntimeError("no\\nluck")') + 1
    with pytest.raises(HeadError, match=text.replace("{raise}", str(raising))) as caught:
        fit_heads(name, [head], X, Streams.of(image=COLUMNS), [task], lambda _: None)
    assert "\n" not in str(caught.value)
    assert isinstance(caught.value.__cause__, RuntimeError | ValueError)


def test_a_head_that_ends_the_program_is_an_error_of_the_head() -> None:
    message = "mine head cannot be fitted: SystemExit: 3.*correct the head"
    with pytest.raises(HeadError, match=message), foreign_errors("mine", "be fitted"):
        raise SystemExit(3)


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("forest", "there is no head 'forest': use mlp.*package.module:Class"),
        ("sklearn.linear_model:LogisticRegression", "no regressor.*RegressorMixin"),
        ("sklearn.preprocessing:StandardScaler", "lacks predict"),
        ("unit_module:np", "object of type module"),
        ("unit_module:nothing", "cannot be imported: AttributeError"),
        ("missing_module:Head", r"ModuleNotFoundError.*folder of missing_module\.py, or set PYTHONPATH"),
        ("unit_module.missing:Head", "package unit_module has no such module: correct the name"),
        ("unit_needs:Head", r"line 1\).*unit_needs needs it: install missing_package"),
        ("__main__:Mine", "running script or notebook.*pass my_code:Mine"),
    ],
)
def test_what_is_no_regressor_is_refused_with_the_remedy(name: str, text: str) -> None:
    with pytest.raises(TierError, match=text):
        own_head(name)


def test_a_head_is_found_in_the_working_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_module(tmp_path, "unit_here")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [entry for entry in sys.path if entry])  # as for a console script
    assert isinstance(make_head("unit_here:linear", {}, 0), EstimatorHead)


# Identity


def test_a_run_records_the_release_of_the_distribution_that_a_head_comes_from() -> None:
    (forest,) = head_plugins(FOREST)
    assert (forest.distribution, forest.version) == ("scikit-learn", sklearn.__version__)
    assert forest.source == ""
    (linear,) = head_plugins("unit-linear")
    assert (linear.name, linear.path) == ("unit-linear", "unit_heads:linear")
    assert (linear.distribution, linear.version, linear.source) == ("unit_heads", "1.2", "")
    assert head_plugins("ridge") == ()


def test_a_run_records_the_source_of_a_head_without_a_release(packages: Path) -> None:
    (own,) = head_plugins("unit_module:Own")
    content = (packages / "unit_module" / "__init__.py").read_bytes()
    assert (own.distribution, own.version) == ("", "")
    assert own.source == hashlib.sha256(content).hexdigest()


def test_an_editable_installation_is_recorded_with_its_source(packages: Path) -> None:
    file = install(packages, "unit_editable", {"unit-editable": "linear"}, editable=True)
    (plugin,) = head_plugins("unit-editable")
    assert (plugin.distribution, plugin.version) == ("unit_editable", "1.2")
    assert plugin.source == hashlib.sha256(file.read_bytes()).hexdigest()
    shutil.rmtree(packages / "unit_editable-1.2.dist-info")


def test_two_packages_cannot_declare_one_name(packages: Path) -> None:
    install(packages, "unit_other", {"unit-linear": "Own"}, version="3.0")
    with pytest.raises(PluginError, match="declare 'unit-linear'"):
        own_head.__wrapped__("unit-linear")
    shutil.rmtree(packages / "unit_other-3.0.dist-info")
