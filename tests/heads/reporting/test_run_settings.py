"""The settings of a run are those of its config.json, in the words of tables and titles."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from tier4k.heads.reporting.name_runs import run_names
from tier4k.heads.reporting.order import places_in_order
from tier4k.heads.reporting.run_settings import RunSettings, read_settings
from tier4k.heads.results.run_format import ResultError
from tier4k.tests.builders.reports import Sample, make_sample


@pytest.fixture(scope="module")
def sample(tmp_path_factory: pytest.TempPathFactory) -> Sample:
    return make_sample(tmp_path_factory.mktemp("settings"))


def changed(run: Path, folder: Path, **fields: object) -> Path:
    """A copy of a run with other fields in its config.json."""
    shutil.copytree(run, folder)
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | fields))
    return folder


def test_encoders_and_image_settings_come_from_the_signatures(sample: Sample) -> None:
    settings = read_settings(sample.mlp)
    assert (settings.image_encoder, settings.text_encoder) == ("imagenet", "textnet")
    assert (settings.preprocessing, settings.feature) == ("native", "pooled")
    assert (settings.crops, settings.precision) == ("centre", "fp32")
    assert settings.scorers == () and not settings.is_zero_shot
    assert settings.changed_options() == ["hidden=3", "epochs=3"]


def test_a_zero_shot_run_names_its_scorer_as_both_encoders(sample: Sample, tmp_path: Path) -> None:
    signatures = json.loads((sample.ridge / "config.json").read_text())["signatures"]
    score = {"score": signatures["image"] | {"stream": "score", "encoder": "pickscore"}}
    run = changed(sample.ridge, tmp_path / "run", method="zero-shot", signatures=score)
    settings = read_settings(run)
    assert settings.is_zero_shot
    assert settings.image_encoder == settings.text_encoder == "pickscore"


def test_runs_that_differ_in_their_targets_and_environment_have_equal_keys(
    sample: Sample, tmp_path: Path
) -> None:
    settings = read_settings(sample.ridge)
    without_targets = read_settings(changed(sample.ridge, tmp_path / "a", targets=["x"], environment={}))
    other = read_settings(changed(sample.ridge, tmp_path / "b", seed=1))
    assert settings.key == without_targets.key != other.key


def test_an_environment_without_a_record_gives_empty_fields(sample: Sample, tmp_path: Path) -> None:
    settings = read_settings(changed(sample.ridge, tmp_path / "run", environment={}))
    assert settings.command == () and settings.versions == {}
    assert settings.python == settings.finished == ""
    assert settings.data_paths == () and settings.table == {}


@pytest.mark.parametrize(
    ("hidden", "message"),
    [("three", r"Expected `int.*got `str` - at `\$\.head\.hidden`"), (0, r"`\$\.head`: hidden is 0")],
)
def test_a_wrong_option_of_a_head_is_refused_by_file_and_field(
    sample: Sample, tmp_path: Path, hidden: object, message: str
) -> None:
    options = json.loads((sample.mlp / "config.json").read_text())["head"]
    run = changed(sample.mlp, tmp_path / "run", head=options | {"hidden": hidden})
    with pytest.raises(ResultError, match=f"config.json.*{message}"):
        read_settings(run)


def with_hidden(run: RunSettings, hidden: int | None) -> RunSettings:
    return replace(run, head_options={**run.head_options, "hidden": hidden})


def test_numbers_in_options_are_sorted_as_numbers_and_other_runs_keep_their_places(sample: Sample) -> None:
    mlp = read_settings(sample.mlp)
    names = ["mlp-0000000001", "ridge-0000000002", "mlp-0000000003", "mlp-0000000004"]
    settings = [with_hidden(mlp, 1024), mlp, with_hidden(mlp, 64), with_hidden(mlp, None)]
    assert places_in_order(names, [one.sort_key for one in settings]) == [3, 1, 2, 0]
    # Digits say nothing to a user, so runs with equal options stay in the given order.
    assert places_in_order(["mlp-0000000009", "mlp-0000000001"], [mlp.sort_key, mlp.sort_key]) == [0, 1]


def test_the_width_of_a_head_without_a_given_width_is_half_the_inputs(sample: Sample) -> None:
    mlp = read_settings(sample.mlp)
    names = run_names([with_hidden(mlp, None), with_hidden(mlp, 64)], ["a", "b"])
    assert [name.head for name in names] == ["mlp (hidden d/2)", "mlp (hidden 64)"]
