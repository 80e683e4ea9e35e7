"""Encoders of a run that cannot be used are refused with the file, the field and the remedy."""

from pathlib import Path
from typing import Any

import pytest

from tier4k.heads.encoders.finetuned import finetuned_encoders, keeps_finetuned_encoders
from tier4k.heads.encoders.seen_images import FinetunedError
from tier4k.heads.results.json_files import write_json
from tier4k.heads.results.layout import encoders_folder

IMAGE = {
    "encoder": "resnet18",
    "preprocessing": "native",
    "image_size": None,
    "feature": "pooled",
    "weights": "image.safetensors",
    "trained": True,
}
TEXT = {"encoder": "hf:tiny", "trained": False}


def write_record(run: Path, target: str = "quality", repeat: int = 0, **changed: Any) -> Path:
    """Only the record of a run's encoders; the files that it names are missing."""
    folder = encoders_folder(run, target, repeat)
    folder.mkdir(parents=True)
    write_json(folder / "encoders.json", {"image": IMAGE, "text": TEXT} | changed)
    return folder / "encoders.json"


@pytest.mark.parametrize(
    ("changed", "field"),
    [
        ({"image": IMAGE | {"trained": "yes"}}, r"`\$\.image\.trained`"),
        ({"image": IMAGE | {"preprocessing": "none"}}, r"`\$\.image\.preprocessing`"),
        ({"text": {"encoder": 1, "trained": False}}, r"`\$\.text\.encoder`"),
    ],
)
def test_a_record_of_another_type_is_refused_by_its_field(
    tmp_path: Path, changed: dict[str, Any], field: str
) -> None:
    path = write_record(tmp_path, **changed)
    with pytest.raises(FinetunedError, match=rf"{path} cannot be read .*{field}.*: delete {tmp_path}"):
        finetuned_encoders(tmp_path)


def test_one_of_several_heads_has_to_be_chosen(tmp_path: Path) -> None:
    write_record(tmp_path, "quality")
    write_record(tmp_path, "a/b")
    assert keeps_finetuned_encoders(tmp_path)
    with pytest.raises(
        FinetunedError, match="pass one of --target a/b --repeat 0, --target quality --repeat 0"
    ):
        finetuned_encoders(tmp_path)
    with pytest.raises(FinetunedError, match="pass one of"):
        finetuned_encoders(tmp_path, "quality", 1)


def test_a_run_without_encoders_is_refused(tmp_path: Path) -> None:
    assert not keeps_finetuned_encoders(tmp_path)
    with pytest.raises(FinetunedError, match="contains no finetuned encoders"):
        finetuned_encoders(tmp_path)
