"""The line about the outcome of an encoder."""

from pathlib import Path

from tier4k.extract.pipeline.listener import StreamSummary, UnreadableImage
from tier4k.extract.pipeline.progress import describe


def test_images_that_cannot_be_read_are_not_said_to_be_stored() -> None:
    stored = StreamSummary("image", "resnet18", Path("store"), inputs=3, encoded=0)
    assert describe(stored) == "image resnet18: all 3 distinct inputs are in store"
    unreadable = (UnreadableImage("a.png", "the file has zero bytes"),)
    left_out = StreamSummary("image", "resnet18", Path("store"), inputs=3, encoded=0, unreadable=unreadable)
    assert describe(left_out) == (
        "image resnet18: encoded none of 3 distinct inputs, as no missing one can be read"
    )
