"""A run or an exported model that somebody crafted reads nothing outside of its own folder."""

import json
import os
import re
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pandas as pd
import pytest

from tier4k.heads.encoders.finetuned import ImageRecord, finetuned_encoders, keeps_finetuned_encoders
from tier4k.heads.encoders.seen_images import FinetunedError
from tier4k.heads.inference.metric import load
from tier4k.heads.results.run_format import ResultError
from tier4k.tests.builders.commands import DATA, on_one_line, succeed, tier
from tier4k.tests.builders.data import save_picture

FILES = [
    "config.json",
    "results.json",
    "predictions.csv",
    "splits.json",
    "rows.csv",
    "model.json",
    "model.safetensors",
]

_opened: list[str] | None = None


def _record(event: str, arguments: tuple[object, ...]) -> None:
    if event == "open" and _opened is not None:
        _opened.append(os.path.realpath(str(arguments[0])))


@contextmanager
def opened_files() -> Iterator[list[str]]:
    """Record the real paths of the files that Python opens."""
    global _opened
    if not getattr(sys, "_records_opened_files", False):
        sys.addaudithook(_record)
        sys._records_opened_files = True  # type: ignore[attr-defined]
    _opened = []
    try:
        yield _opened
    finally:
        _opened = None


def replace_by_link(path: Path, secret: Path) -> Path:
    """Move a file or folder of a run elsewhere, and put a link in its place."""
    secret.parent.mkdir(exist_ok=True)
    shutil.move(path, secret)
    path.symlink_to(os.path.relpath(secret, path.parent))
    return secret


COMMANDS = {
    "predict": ["predict", "runs/nr", "Dataset"],
    "evaluate": ["evaluate", "runs/nr", "Dataset", "--out", "other"],
    "export": ["export", "runs/nr", "model"],
    "table": ["table", "runs/nr"],
    "report": ["report", "runs/nr", "-o", "page.html"],
    "compare": ["compare", "runs/nr", "runs/pr"],
}


@pytest.mark.parametrize("command", COMMANDS)
def test_a_link_that_leads_out_of_a_run_is_refused(fitted_copy: Path, command: str) -> None:
    for name in FILES:
        path = Path("runs/nr") / name
        secret = replace_by_link(path, fitted_copy / "elsewhere" / name)
        with opened_files() as opened:
            code, output = tier(*COMMANDS[command])
        assert code == 2
        assert f"{path} is a link that leads out of runs/nr" in on_one_line(output)
        assert str(secret) not in opened
        path.unlink()
        shutil.move(secret, path)


def test_a_run_that_is_a_link_itself_is_read(fitted_copy: Path) -> None:
    replace_by_link(Path("runs/nr"), fitted_copy / "other disk" / "nr")
    succeed(*COMMANDS["table"])
    succeed(*COMMANDS["predict"])


def test_the_record_of_finetuned_encoders_names_files_beside_it_only(fitted_copy: Path) -> None:
    folder = Path("runs/nr/encoders/MOS_q/0")
    folder.mkdir(parents=True)
    shutil.copy("pretrained/resnet18.pth", "secret.safetensors")
    record = ImageRecord("resnet18", "reference", None, "pooled", "", trained=True)
    secret = fitted_copy / "secret.safetensors"
    for weights in ("../../../../../secret.safetensors", str(secret), "..", "a/b", "a\\b", ""):
        image = vars(record) | {"weights": weights}
        (folder / "encoders.json").write_text(json.dumps({"image": image, "text": None}))
        assert keeps_finetuned_encoders(Path("runs/nr"))
        with opened_files() as opened:
            with pytest.raises(FinetunedError, match="a run reads only its own files"):
                finetuned_encoders(Path("runs/nr"))
            assert tier(*COMMANDS["predict"])[0] == 2
        assert str(secret) not in opened


@pytest.fixture
def exported(fitted_copy: Path) -> Path:
    succeed("export", "runs/nr", "model")
    shutil.rmtree("pretrained")
    shutil.rmtree("bert-base-uncased", ignore_errors=True)
    return fitted_copy / "model"


@pytest.mark.slow
def test_a_link_that_leads_out_of_an_exported_model_is_refused(exported: Path) -> None:
    files = [path for path in sorted(exported.rglob("*")) if path.is_file()]
    assert any("encoders" in path.parts for path in files)
    for path in [*files, exported / "encoders", exported / "encoders" / "text"]:
        outside = replace_by_link(path, exported.parent / "elsewhere" / "file")
        with opened_files() as opened, pytest.raises(ResultError, match="a link that leads out of"):
            load(exported)
        assert str(outside) not in opened
        path.unlink()
        shutil.move(outside, path)
    load(exported)


@pytest.mark.slow
def test_a_model_in_the_cache_of_the_hub_is_read(exported: Path) -> None:
    cache = exported.parent / "hub" / "models--group--model"
    snapshot = cache / "snapshots" / "0123abcd"
    shutil.move(exported, snapshot)
    for number, path in enumerate(sorted(snapshot.rglob("*"))):
        if path.is_file():
            replace_by_link(path, cache / "blobs" / str(number))
    succeed("predict", str(snapshot), "Dataset", "-F", "fresh")


def thumbnails(*options: str) -> int:
    """Write a report, and return the number of images in it."""
    succeed("report", "runs/nr", "-o", "page.html", *options)
    found = re.search(r'"thumbnails":(\{.*?\})', Path("page.html").read_text())
    assert found
    return len(json.loads(found[1]))


def name_an_image_elsewhere(fitted_copy: Path, table: Path) -> None:
    """Write a table that names an image elsewhere, and change the predictions of a run to that image."""
    secret = fitted_copy.parent / "private" / "secret.png"
    save_picture(secret, 99)
    predictions = pd.read_csv("runs/nr/predictions.csv")
    names = predictions["name"].unique()
    table.parent.mkdir(exist_ok=True)
    pd.DataFrame({"image": [str(secret)], "prompt": ["x"], "mos": [1.0]}).to_csv(table, index=False)
    renamed = predictions[predictions["name"] == names[0]].assign(name=str(secret))
    renamed.to_csv("runs/nr/predictions.csv", index=False)


@pytest.mark.slow
@pytest.mark.parametrize("recorded", ["runs/nr/t.csv", "{project}/runs/nr/t.csv", "{project}/data/t.csv"])
def test_a_report_shows_no_image_from_elsewhere_because_a_run_names_it(
    fitted_copy: Path, recorded: str
) -> None:
    recorded = recorded.format(project=fitted_copy)
    name_an_image_elsewhere(fitted_copy, Path(recorded))
    config = json.loads(Path("runs/nr/config.json").read_text())
    config["environment"]["data"] = recorded
    config["data"] = "t"
    config["benchmark"] = "all"
    Path("runs/nr/config.json").write_text(json.dumps(config))
    assert thumbnails() == 0
    if recorded == f"{fitted_copy}/data/t.csv":
        assert thumbnails("--data", recorded) == 1  # as the user says so


@pytest.mark.slow
def test_a_report_shows_the_images_of_the_data_set_wherever_it_is(fitted_copy: Path) -> None:
    assert thumbnails() > 0
    for image in sorted((DATA / "All").iterdir()):
        replace_by_link(image, fitted_copy / "store" / image.name)
    assert thumbnails() > 0
