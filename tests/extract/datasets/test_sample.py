"""The sample data set: what it promises to a user, and the distribution that its module states."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from tier4k.cache.errors import TierError
from tier4k.extract.datasets import sample

COLUMNS = ["Generated_image", "Image_prompt", "Text_prompt", "MOS_q", "MOS_a", "MOS_c"]
SOUND = sample.Degradation(0, 0, 0, 0)


@pytest.fixture(scope="module")
def root(tmp_path_factory) -> Path:
    return sample.write_sample(tmp_path_factory.mktemp("data"), seed=3)


@pytest.fixture
def few(monkeypatch) -> None:
    monkeypatch.setattr(sample, "IMAGE_TO_IMAGE_PROMPTS", 2)
    monkeypatch.setattr(sample, "TEXT_TO_IMAGE_PROMPTS", 1)


@pytest.fixture(scope="module")
def many() -> list[sample.Picture]:
    return [picture for seed in range(30) for picture in sample.plan(seed)]


def contents(root: Path) -> dict[str, bytes]:
    files = (path for path in root.rglob("*") if path.is_file() and path.suffix != ".xlsx")
    return {str(path.relative_to(root)): path.read_bytes() for path in files}


def missing(picture: sample.Picture) -> int:
    return picture.asked.count - picture.drawn.count


def test_table_has_the_columns_of_the_published_data_set_and_image_to_image_rows_first(root):
    table = pd.read_excel(root / "annotation.xlsx")
    assert list(table.columns) == COLUMNS
    assert table["Image_prompt"].notna().tolist() == [True] * 160 + [False] * 162


def test_every_name_in_the_table_is_a_picture_on_disk_and_no_other_file_is_there(root):
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


def test_names_tell_generator_and_prompt_and_siblings_are_neighbours(root):
    table = pd.read_excel(root / "annotation.xlsx")
    parts = table["Generated_image"].str.extract(r"^(Alpha|Beta|Gamma)_(\d{4})_(\d\d)\.jpg$")
    assert parts.notna().all(axis=None)
    assert (parts[2].to_numpy().reshape(-1, 2) == ["00", "01"]).all()
    assert table.groupby(parts[1])["Text_prompt"].nunique().eq(1).all()


def test_the_data_set_is_small(root):
    assert sum(path.stat().st_size for path in root.rglob("*") if path.is_file()) < 20e6


@pytest.mark.usefixtures("few")
def test_same_seed_gives_the_same_files_and_another_seed_others(tmp_path):
    first, again, other = (
        sample.write_sample(tmp_path / name, seed) for name, seed in (("a", 1), ("b", 1), ("c", 2))
    )
    assert contents(first) == contents(again)
    pd.testing.assert_frame_equal(*(pd.read_excel(path / "annotation.xlsx") for path in (first, again)))
    assert contents(first)["All/Alpha_1000_00.jpg"] != contents(other)["All/Alpha_1000_00.jpg"]
    assert sample.table(sample.plan(1))["MOS_q"].tolist() != sample.table(sample.plan(2))["MOS_q"].tolist()


def test_scores_follow_the_stated_formula_up_to_the_raters_noise(many):
    residuals = []
    for p in many:
        d = p.degradation
        wrong = 0.1 * (p.asked.colour != p.drawn.colour) + 0.1 * (p.asked.shape != p.drawn.shape)
        lost = (p.asked_style.age - p.drawn_style.age) / 0.6
        g = [1 - 0.5 * d.blur - 0.3 * d.noise - 0.2 * d.fade, 1 - (lost if p.image_prompt else d.glitch)]
        g.append(1 - 0.8 * missing(p) / 3 - wrong)
        assert min(g) >= -1e-9
        assert max(g) <= 1 + 1e-9
        residuals.append(np.array([p.mos_q, p.mos_a, p.mos_c]) - 0.5 - 4 * np.array(g))
    # The mean of 20 ratings with deviation 0.6; 0.5 of room at either end makes clipping rare.
    np.testing.assert_allclose(np.mean(residuals, axis=0), 0, atol=0.01)
    np.testing.assert_allclose(np.std(residuals, axis=0), 0.6 / np.sqrt(20), rtol=0.05)
    scores = np.array([(p.mos_q, p.mos_a, p.mos_c) for p in many])
    assert 0 <= scores.min() < scores.max() <= 5


@pytest.mark.parametrize("amount", ["blur", "noise", "fade"])
def test_quality_falls_with_every_degradation(amount):
    worse = [sample.quality(replace(SOUND, **{amount: value})) for value in (0.0, 0.3, 1.0)]
    assert worse == sorted(worse, reverse=True)
    assert worse[0] == 1 > worse[1]


def test_blur_and_fade_take_contrast_and_noise_adds_detail():
    rng = np.random.default_rng(0)
    clean = sample.draw(sample.Scene(5, "red", "square", "white"), sample.Style(0.5), 256, rng)
    assert np.array_equal(sample.spoil(clean, SOUND, rng), clean)

    def detail(**amounts: float) -> float:
        pixels = np.asarray(sample.spoil(clean, replace(SOUND, **amounts), rng), dtype=float)
        return float(np.abs(np.diff(pixels, axis=1)).mean())

    assert detail(blur=1.0) < detail()
    assert detail(fade=1.0) < detail() < detail(noise=1.0)


def test_the_picture_shows_as_many_shapes_as_its_scene_says():
    def coloured(count: int) -> int:
        scene = sample.Scene(count, "red", "circle", "white")
        image = sample.draw(scene, sample.Style(0), 256, np.random.default_rng(0))
        return int((np.asarray(image) == sample.COLOURS["red"]).all(axis=-1).sum())

    pixels = [coloured(count) for count in range(1, 10)]
    np.testing.assert_allclose(np.array(pixels) / np.arange(1, 10), pixels[0], rtol=0.02)


def test_generators_err_in_count_colour_shape_and_style(many):
    assert {missing(p) for p in many} == {0, 1, 2, 3}
    for wrong in (
        [p.asked.colour != p.drawn.colour for p in many],
        [p.asked.shape != p.drawn.shape for p in many],
    ):
        assert np.mean(wrong) == pytest.approx(0.25, abs=0.03)
    assert all(0 <= p.asked_style.age - p.drawn_style.age <= 0.6 for p in many)


def share(pictures: list[sample.Picture], attribute: str, value: object) -> float:
    return float(np.mean([getattr(p.drawn, attribute) == value for p in pictures]))


@pytest.mark.parametrize(
    ("attribute", "values"), [("count", range(1, 7)), ("colour", sample.COLOURS), ("shape", sample.SHAPES)]
)
def test_wrong_pictures_show_the_same_scenes_as_right_ones(many, attribute, values):
    right = [p for p in many if getattr(p.asked, attribute) == getattr(p.drawn, attribute)]
    wrong = [p for p in many if getattr(p.asked, attribute) != getattr(p.drawn, attribute)]
    for value in values:
        assert share(right, attribute, value) == pytest.approx(share(wrong, attribute, value), abs=0.04)


def test_neither_picture_nor_generator_tells_fidelity_or_correspondence(many):
    guided = [p for p in many if p.image_prompt]
    age = [p.drawn_style.age for p in guided]
    assert abs(np.corrcoef(age, [p.mos_a for p in guided])[0, 1]) < 0.06
    assert abs(np.corrcoef([p.drawn.count for p in many], [p.mos_c for p in many])[0, 1]) < 0.06
    for side in (256, 272):
        assert np.mean([p.mos_a for p in guided if p.side == side]) == pytest.approx(2.5, abs=0.15)


@pytest.mark.usefixtures("few")
def test_an_existing_sample_is_returned_untouched(tmp_path):
    root = sample.write_sample(tmp_path)
    times = {path: path.stat().st_mtime_ns for path in root.rglob("*")}
    assert sample.write_sample(tmp_path) == root == tmp_path / "PKU-AIGIQA-4K"
    assert {path: path.stat().st_mtime_ns for path in root.rglob("*")} == times


@pytest.mark.usefixtures("few")
def test_another_seed_or_a_data_set_of_the_user_is_refused_and_kept(tmp_path):
    sample.write_sample(tmp_path / "seed", seed=1)
    own = tmp_path / "own" / "PKU-AIGIQA-4K" / "annotation.xlsx"
    own.parent.mkdir(parents=True)
    own.write_bytes(b"mine")
    for folder in ("seed", "own"):
        with pytest.raises(sample.SampleError, match="exists and is not the sample") as raised:
            sample.write_sample(tmp_path / folder, seed=2)
        assert isinstance(raised.value, TierError)
    assert own.read_bytes() == b"mine"


@pytest.mark.usefixtures("few")
def test_an_interrupted_write_leaves_nothing(tmp_path, monkeypatch):
    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(sample, "table", interrupt)  # after the pictures, before the annotation
        with pytest.raises(KeyboardInterrupt):
            sample.write_sample(tmp_path)
    assert list(tmp_path.iterdir()) == []
    assert sample.write_sample(tmp_path).is_dir()
