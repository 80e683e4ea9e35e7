"""Units: what goes through a network together depends on the plan alone."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tier4k.extract.inputs.inputs import Inputs, Pairs, values_of
from tier4k.extract.pipeline.cut_units import cut, cut_units
from tier4k.extract.pipeline.missing_inputs import Work
from tier4k.extract.pipeline.units import BYTES_PER_UNIT, IMAGES_PER_UNIT, images_per_unit


@given(st.lists(st.booleans(), max_size=60), st.integers(1, 20))
def test_units_hold_each_wanted_input_once_and_in_order(wanted: list[bool], size: int) -> None:
    units = list(cut(np.array(wanted, bool), size))
    assert all(len(unit) for unit in units)
    numbers = [number for unit in units for number in unit.tolist()]
    assert numbers == np.flatnonzero(wanted).tolist()
    for unit in units:
        assert len({number // size for number in unit.tolist()}) == 1


@given(st.lists(st.tuples(st.booleans(), st.booleans()), max_size=60), st.integers(1, 20))
def test_stored_inputs_move_no_other_input_to_another_unit(
    inputs: list[tuple[bool, bool]], size: int
) -> None:
    wanted, stored = np.array(inputs, bool).reshape(-1, 2).T
    before = {frozenset(unit.tolist()) for unit in cut(wanted, size)}
    for unit in cut(wanted & ~stored, size):
        assert any(set(unit.tolist()) <= earlier for earlier in before)


@pytest.mark.parametrize("device", ["cpu", "cuda", "mps"])
@pytest.mark.parametrize("batch_size", [None, 1, 3, 100, 1000])
def test_a_batch_size_makes_no_unit_small_and_is_met(device: str, batch_size: int | None) -> None:
    size = images_per_unit(3 * 224**2, 1, batch_size, device)
    assert size >= IMAGES_PER_UNIT[device]
    assert size % (batch_size or 1) == 0
    assert size < IMAGES_PER_UNIT[device] + (batch_size or 1)


def test_units_of_large_images_are_small() -> None:
    assert images_per_unit(BYTES_PER_UNIT // 2, 1, None, "cuda") == 2
    assert images_per_unit(2 * BYTES_PER_UNIT, 1, None, "cpu") == 1


def test_a_batch_of_crops_is_one_of_fewer_images() -> None:
    assert images_per_unit(100, 5, 320, "cpu") == 64  # images; 320 crops
    assert images_per_unit(100, 5, 3, "cpu") == 32


@given(
    st.lists(st.tuples(st.integers(0, 9), st.integers(0, 6), st.booleans()), max_size=40),
    st.integers(1, 6),
)
def test_units_of_pairs_hold_each_missing_pair_once_with_its_image_and_its_text(
    pairs: list[tuple[int, int, bool]], size: int
) -> None:
    distinct = list({(image, text): missing for image, text, missing in pairs}.items())
    image, text = np.array([pair for pair, _ in distinct], np.int64).reshape(-1, 2).T
    missing = np.array([missing for _, missing in distinct], bool)
    images = Inputs(np.arange(320, dtype=np.uint8).reshape(10, 32), values_of(f"{n}.png" for n in range(10)))
    texts = Inputs(np.arange(224, dtype=np.uint8).reshape(7, 32), values_of(f"text {n}" for n in range(7)))
    keys = np.zeros((len(image), 32), np.uint8)
    keys[:, 0], keys[:, 1] = image, text
    seen: list[tuple[int, int]] = []
    read: list[str] = []
    for unit in cut_units([Work(None, Pairs(keys, images, texts, image, text), missing)], size):
        assert len(unit.images) <= size
        assert (np.diff(unit.pair_images) >= 0).all()
        read.extend(unit.images)
        for key, of_image, of_text in zip(unit.keys, unit.pair_images, unit.pair_texts, strict=True):
            assert unit.images[of_image] == f"{key[0]}.png"
            assert bytes(unit.image_keys[of_image]) == bytes(images.keys[key[0]])
            assert unit.texts[of_text] == f"text {key[1]}"
            seen.append((int(key[0]), int(key[1])))
    assert len(read) == len(set(read))
    assert sorted(seen) == sorted(pair for pair, is_missing in distinct if is_missing)
