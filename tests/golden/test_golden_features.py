"""A store that is found again holds the features that this program would compute.

features.json and slow_features.json hold the values, `feature_values` computes them, and
`python -m tier4k.tests.golden.record features slow_features` records them.
"""

from pathlib import Path

import pytest

from tier4k.extract.encoders.presets import IMAGE_PRESETS
from tier4k.extract.scorers.presets import SCORERS
from tier4k.tests.golden.feature_values import SLOW_TOLERANCES, TOLERANCES, section_values
from tier4k.tests.golden.values import read_values, require_close

REMEDY = (
    "Stores that are found by their signatures hold other features than this program computes: change the "
    "preprocessing's name (or the text of the feature point) in the signature and record the new values with "
    "`python -m tier4k.tests.golden.record features slow_features signatures`, or restore the values."
)


LONG = "image encoders"  # 14 s

SECTIONS = [pytest.param(name, marks=pytest.mark.slow if name == LONG else ()) for name in TOLERANCES]


@pytest.mark.parametrize("section", SECTIONS)
def test_features_are_those_of_their_signature(section: str, tmp_path: Path) -> None:
    found = section_values(section, tmp_path / "golden")
    require_close(found, read_values("features")[section], TOLERANCES[section], REMEDY)


@pytest.mark.slow
@pytest.mark.parametrize("section", SLOW_TOLERANCES)
def test_features_of_large_networks_are_those_of_their_signature(section: str, tmp_path: Path) -> None:
    found = section_values(section, tmp_path / "golden")
    require_close(found, read_values("slow_features")[section], SLOW_TOLERANCES[section], REMEDY)


def test_every_preset_has_golden_features() -> None:
    recorded, slow = read_values("features"), read_values("slow_features")
    encoded = {name.split(", ")[0] for name in (*recorded["image encoders"], *slow["vit"], *slow["clip"])}
    assert set(IMAGE_PRESETS) <= encoded
    assert set(SCORERS) == set(recorded["scorers"])
    for name in IMAGE_PRESETS:
        assert f"{name}, reference, cropped" in recorded["preprocessing"]
        assert f"{name}, native, cropped" in recorded["preprocessing"]
