"""The list of images that an extraction left out."""

from pathlib import Path

from tier4k.extract.pipeline.listener import UnreadableImage
from tier4k.extract.pipeline.unreadable import UNREADABLE_FILE, write_unreadable


def test_the_list_goes_when_an_extraction_leaves_no_image_out(tmp_path: Path) -> None:
    path = tmp_path / UNREADABLE_FILE
    write_unreadable(path, [UnreadableImage("a.png", "the file cannot be read")])
    assert "a.png" in path.read_text()
    for _ in range(2):
        write_unreadable(path, [])
        assert not path.exists()
