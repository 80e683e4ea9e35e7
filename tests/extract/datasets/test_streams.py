"""Streams are named by users, and select the images of a data set."""

from pathlib import Path

import pytest

from tier4k.extract.datasets.check import check
from tier4k.extract.datasets.errors import DataError
from tier4k.extract.datasets.streams import parse_streams
from tier4k.tests.builders.data import write_pku


def test_a_list_of_streams_is_read_in_any_order() -> None:
    assert parse_streams("image") == ("image",)
    assert parse_streams("image + text") == parse_streams("text+image") == ("text", "image")
    assert parse_streams("all") == parse_streams("image-prompt+image+text")


@pytest.mark.parametrize("text", ["picture", "image+", "", "image,text", "all+text", "image+image"])
def test_what_is_no_list_of_streams_is_refused_with_the_names_of_all(text: str) -> None:
    with pytest.raises(DataError, match="use all, or some of text, image, image-prompt with \\+ between"):
        parse_streams(text)


def test_images_and_image_prompts_are_selected_apart(tmp_path: Path) -> None:
    write_pku(tmp_path)
    manifest = check(tmp_path).manifest
    images, prompts = manifest.images(("image",)), manifest.images(("text", "image-prompt"))
    assert set(images) == {str(path) for path in (tmp_path / "All").iterdir()}
    assert set(prompts) == {str(path) for path in (tmp_path / "I2I" / "Image_prompt").iterdir()}
    assert manifest.images().to_dict() == images.to_dict() | prompts.to_dict()
