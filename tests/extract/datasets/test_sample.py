"""The sample data set has the layout of PKU-AIGIQA-4K, and the distribution that its package states."""

from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from tier4k.extract.datasets.errors import DataError
from tier4k.extract.datasets.sample import rows, write, write_sample
from tier4k.extract.datasets.sample.degradation import Degradation, degrade
from tier4k.extract.datasets.sample.drawing import draw
from tier4k.extract.datasets.sample.ratings import quality
from tier4k.extract.datasets.sample.rows import SampleRow, sample_rows
from tier4k.extract.datasets.sample.scenes import COLOURS, SHAPES, Scene, Style
from tier4k.extract.datasets.sample.write import annotation

COLUMNS = ["Generated_image", "Image_prompt", "Text_prompt", "MOS_q", "MOS_a", "MOS_c"]
SOUND = Degradation(0, 0, 0, 0)


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_sample(tmp_path_factory.mktemp("data"), seed=3)


@pytest.fixture
def few(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rows, "IMAGE_TO_IMAGE_PROMPTS", 2)
    monkeypatch.setattr(rows, "TEXT_TO_IMAGE_PROMPTS", 1)


@pytest.fixture(scope="module")
def many() -> list[SampleRow]:
    """The rows of 30 samples."""
    collected: list[SampleRow] = []
    for seed in range(30):
        collected.extend(sample_rows(seed))
    return collected


def contents(root: Path) -> dict[str, bytes]:
    files = (path for path in root.rglob("*") if path.is_file() and path.suffix != ".xlsx")
    return {str(path.relative_to(root)): path.read_bytes() for path in files}


def missing(row: SampleRow) -> int:
    return row.asked.count - row.drawn.count


def mistakes(many: list[SampleRow], attribute: str) -> list[bool]:
    return [getattr(row.asked, attribute) != getattr(row.drawn, attribute) for row in many]


def test_table_has_the_columns_of_the_published_data_set_and_image_to_image_rows_first(root: Path) -> None:
    table = pd.read_excel(root / "annotation.xlsx")
    assert list(table.columns) == COLUMNS
    assert table["Image_prompt"].notna().tolist() == [True] * 160 + [False] * 162


def test_every_name_in_the_table_is_an_image_on_disk_and_there_is_no_other_file(root: Path) -> None:
    table = pd.read_excel(root / "annotation.xlsx")
    for folder, names in (
        ("All", table["Generated_image"]),
        ("I2I/Image_prompt", table["Image_prompt"].dropna()),
    ):
        assert {path.name for path in (root / folder).iterdir()} == set(names)
        for name in set(names):
            with Image.open(root / folder / name) as image:
                assert (image.format, image.mode) == ("JPEG", "RGB")
                assert 256 <= min(np.asarray(image).shape[:2]) <= 320


def test_names_hold_generator_and_prompt_and_images_of_one_prompt_are_neighbours(root: Path) -> None:
    table = pd.read_excel(root / "annotation.xlsx")
    parts = table["Generated_image"].str.extract(r"^(Alpha|Beta|Gamma)_(\d{4})_(\d\d)\.jpg$")
    assert parts.notna().all(axis=None)
    assert (parts[2].to_numpy().reshape(-1, 2) == ["00", "01"]).all()
    assert table.groupby(parts[1])["Text_prompt"].nunique().eq(1).all()


def test_the_data_set_is_small(root: Path) -> None:
    assert sum(path.stat().st_size for path in root.rglob("*") if path.is_file()) < 20e6


@pytest.mark.usefixtures("few")
def test_same_seed_gives_the_same_files_and_another_seed_others(tmp_path: Path) -> None:
    first = write_sample(tmp_path / "a", seed=1)
    again = write_sample(tmp_path / "b", seed=1)
    other = write_sample(tmp_path / "c", seed=2)
    assert contents(first) == contents(again)
    pd.testing.assert_frame_equal(
        pd.read_excel(first / "annotation.xlsx"), pd.read_excel(again / "annotation.xlsx")
    )
    assert contents(first)["All/Alpha_1000_00.jpg"] != contents(other)["All/Alpha_1000_00.jpg"]
    one, two = annotation(sample_rows(1)), annotation(sample_rows(2))
    assert one["MOS_q"].tolist() != two["MOS_q"].tolist()


def goodness(row: SampleRow) -> list[float]:
    """Of quality, authenticity and correspondence, from the stated formulas."""
    amounts = row.degradation
    wrong_colour = row.asked.colour != row.drawn.colour
    wrong_shape = row.asked.shape != row.drawn.shape
    lost = (row.asked_style.age - row.drawn_style.age) / 0.6
    return [
        1 - 0.5 * amounts.blur - 0.3 * amounts.noise - 0.2 * amounts.fade,
        1 - (lost if row.image_prompt else amounts.glitch),
        1 - 0.8 * missing(row) / 3 - 0.1 * (wrong_colour + wrong_shape),
    ]


def test_scores_follow_the_stated_formula_up_to_the_raters_noise(many: list[SampleRow]) -> None:
    stated = np.array([goodness(row) for row in many])
    assert stated.min() >= -1e-9
    assert stated.max() <= 1 + 1e-9
    scores = np.array([(row.mos_q, row.mos_a, row.mos_c) for row in many])
    residuals = scores - 0.5 - 4 * stated
    # The mean of 20 ratings with deviation 0.6; 0.5 of room at either end makes clipping rare.
    np.testing.assert_allclose(np.mean(residuals, axis=0), 0, atol=0.01)
    np.testing.assert_allclose(np.std(residuals, axis=0), 0.6 / np.sqrt(20), rtol=0.05)
    assert 0 <= scores.min() < scores.max() <= 5


@pytest.mark.parametrize("amount", ["blur", "noise", "fade"])
def test_quality_falls_with_every_degradation(amount: str) -> None:
    worse = [quality(replace(SOUND, **{amount: value})) for value in (0.0, 0.3, 1.0)]
    assert worse == sorted(worse, reverse=True)
    assert worse[0] == 1 > worse[1]


def test_blur_and_fade_take_contrast_and_noise_adds_detail() -> None:
    rng = np.random.default_rng(0)
    clean = draw(Scene(5, "red", "square", "white"), Style(0.5), 256, rng)
    assert np.array_equal(degrade(clean, SOUND, rng), clean)

    def detail(**amounts: float) -> float:
        degraded = degrade(clean, replace(SOUND, **amounts), rng)
        pixels = np.asarray(degraded, dtype=float)
        return float(np.abs(np.diff(pixels, axis=1)).mean())

    assert detail(blur=1.0) < detail()
    assert detail(fade=1.0) < detail() < detail(noise=1.0)


def test_the_image_shows_as_many_shapes_as_its_scene_has() -> None:
    def coloured(count: int) -> int:
        scene = Scene(count, "red", "circle", "white")
        image = draw(scene, Style(0), 256, np.random.default_rng(0))
        return int((np.asarray(image) == COLOURS["red"]).all(axis=-1).sum())

    pixels = [coloured(count) for count in range(1, 10)]
    np.testing.assert_allclose(np.array(pixels) / np.arange(1, 10), pixels[0], rtol=0.02)


def test_generators_err_in_count_colour_shape_and_style(many: list[SampleRow]) -> None:
    assert set(map(missing, many)) == {0, 1, 2, 3}
    for attribute in ("colour", "shape"):
        assert np.mean(mistakes(many, attribute)) == pytest.approx(0.25, abs=0.03)
    for row in many:
        assert 0 <= row.asked_style.age - row.drawn_style.age <= 0.6


def share(many: list[SampleRow], attribute: str, value: object) -> float:
    return float(np.mean([getattr(row.drawn, attribute) == value for row in many]))


@pytest.mark.parametrize(
    ("attribute", "values"), [("count", range(1, 7)), ("colour", COLOURS), ("shape", SHAPES)]
)
def test_wrong_images_show_the_same_scenes_as_right_ones(
    many: list[SampleRow], attribute: str, values: Iterable[object]
) -> None:
    right, wrong = [], []
    for row, mistake in zip(many, mistakes(many, attribute), strict=True):
        (wrong if mistake else right).append(row)
    for value in values:
        assert share(right, attribute, value) == pytest.approx(share(wrong, attribute, value), abs=0.04)


def test_neither_image_nor_generator_predicts_fidelity_or_correspondence(many: list[SampleRow]) -> None:
    guided = [row for row in many if row.image_prompt]
    age = [row.drawn_style.age for row in guided]
    count = [row.drawn.count for row in many]
    assert abs(np.corrcoef(age, [row.mos_a for row in guided])[0, 1]) < 0.06
    assert abs(np.corrcoef(count, [row.mos_c for row in many])[0, 1]) < 0.06
    for side in (256, 272):
        scores = [row.mos_a for row in guided if row.side == side]
        assert np.mean(scores) == pytest.approx(2.5, abs=0.15)


@pytest.mark.usefixtures("few")
def test_an_existing_sample_is_returned_untouched(tmp_path: Path) -> None:
    root = write_sample(tmp_path)
    times = {path: path.stat().st_mtime_ns for path in root.rglob("*")}
    assert write_sample(tmp_path) == root == tmp_path / "PKU-AIGIQA-4K"
    assert {path: path.stat().st_mtime_ns for path in root.rglob("*")} == times


@pytest.mark.usefixtures("few")
def test_another_seed_or_a_data_set_of_the_user_is_refused_and_kept(tmp_path: Path) -> None:
    write_sample(tmp_path / "seed", seed=1)
    own = tmp_path / "own" / "PKU-AIGIQA-4K" / "annotation.xlsx"
    own.parent.mkdir(parents=True)
    own.write_bytes(b"mine")
    for folder in ("seed", "own"):
        with pytest.raises(DataError, match="exists and is not the sample"):
            write_sample(tmp_path / folder, seed=2)
    assert own.read_bytes() == b"mine"


@pytest.mark.usefixtures("few")
def test_an_interrupted_write_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(write, "annotation", interrupt)  # after the images, before the annotation
        with pytest.raises(KeyboardInterrupt):
            write_sample(tmp_path)
    assert list(tmp_path.iterdir()) == []
    assert write_sample(tmp_path).is_dir()
