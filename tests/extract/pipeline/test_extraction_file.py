"""The last extraction into a folder of stores is described in `extract.json`."""

import json
from datetime import datetime
from pathlib import Path

from tier4k.extract.pipeline.extraction_file import write_extraction
from tier4k.extract.pipeline.listener import StreamSummary, Timing
from tier4k.extract.pipeline.options import ExtractionOptions
from tier4k.extract.pipeline.versions import library_versions


def read_extraction(root: Path) -> dict:
    def refuse(constant: str) -> None:
        raise ValueError(f"{constant} is no JSON")

    return json.loads((root / "extract.json").read_text(encoding="utf-8"), parse_constant=refuse)


def test_an_extraction_leaves_its_rates_shares_options_and_versions(tmp_path: Path) -> None:
    options = ExtractionOptions(2, device="cpu", part=(1, 4))
    summaries = [
        StreamSummary(
            "image", "resnet18", tmp_path / "store-a", 100, 80, 16, Timing(read=1.0, encode=2.5, write=0.5)
        ),
        StreamSummary("text", "minilm", tmp_path / "store-b", 50, 0),
    ]
    write_extraction(tmp_path, ["Daten/größe"], ["tier", "extract", "Daten/größe"], options, summaries)
    found = read_extraction(tmp_path)
    image, text = found["encoders"]
    assert (image["store"], image["inputs"], image["encoded"], image["batch_size"]) == (
        "store-a",
        100,
        80,
        16,
    )
    assert image["inputs_per_second"] == 20 and image["seconds"] == {"read": 1.0, "encode": 2.5, "write": 0.5}
    assert text["encoded"] == 0 and text["inputs_per_second"] is None and text["batch_size"] is None
    assert found["command"] == ["tier", "extract", "Daten/größe"] and found["data"] == "Daten/größe"
    assert (found["options"]["device"], found["options"]["batch_size"], found["options"]["part"]) == (
        "cpu",
        None,
        [1, 4],
    )
    assert found["versions"] == library_versions()
    assert datetime.fromisoformat(found["finished"]).tzinfo is not None


def test_the_next_extraction_renews_the_record(tmp_path: Path) -> None:
    for encoded in (80, 3):
        summary = StreamSummary("image", "resnet18", tmp_path / "store", 100, encoded, 16, Timing(encode=1.0))
        write_extraction(tmp_path, [str(tmp_path)], ["tier"], ExtractionOptions(0), [summary])
    assert [one["encoded"] for one in read_extraction(tmp_path)["encoders"]] == [3]
    assert [path.name for path in tmp_path.iterdir()] == ["extract.json"]
