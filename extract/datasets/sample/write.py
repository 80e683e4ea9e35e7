"""Writing the sample: its images, its table, and a marker that names its seed."""

import json
import tempfile
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.random import Generator as Rng

from tier4k.extract.datasets.errors import DataError
from tier4k.extract.datasets.sample.degradation import degrade
from tier4k.extract.datasets.sample.drawing import draw
from tier4k.extract.datasets.sample.rows import SampleRow, sample_rows

DATA_SET = "PKU-AIGIQA-4K"

MARKER = "sample.json"

VERSION = 1

IMAGE_PROMPT_SIDE = 272

JPEG_QUALITY = 90


def write_sample(folder: Path, seed: int = 0) -> Path:
    """Write the sample into folder/PKU-AIGIQA-4K, unless the same sample is stored there already.

    Returns:
        The path folder/PKU-AIGIQA-4K.

    Raises:
        DataError: Other data is stored there.
    """
    final = folder / DATA_SET
    if final.exists():
        _require_same(final, seed)
        return final
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".sample-", dir=folder) as temporary:
        root = Path(temporary) / DATA_SET
        _write_all(root, seed)
        root.rename(final)
    return final


def annotation(rows: list[SampleRow]) -> pd.DataFrame:
    """The table of the sample: one line per row, in the columns of PKU-AIGIQA-4K."""
    return pd.DataFrame(list(map(_annotation_line, rows)))


def _annotation_line(row: SampleRow) -> dict[str, str | float | None]:
    return {
        "Generated_image": row.name,
        "Image_prompt": row.image_prompt or None,
        "Text_prompt": row.asked.prompt,
        "MOS_q": row.mos_q,
        "MOS_a": row.mos_a,
        "MOS_c": row.mos_c,
    }


def _marker(seed: int) -> dict[str, int]:
    return {"seed": seed, "version": VERSION}


def _require_same(final: Path, seed: int) -> None:
    found = _read_marker(final / MARKER)
    expected = _marker(seed)
    if found != expected:
        raise DataError(
            f"{final} exists and is not the sample data set of {expected} (its {MARKER}: {found}): "
            "pass another folder, or move this folder away"
        )


def _read_marker(path: Path) -> object:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None


def _write_all(root: Path, seed: int) -> None:
    (root / "All").mkdir(parents=True)
    (root / "I2I" / "Image_prompt").mkdir(parents=True)
    rows = sample_rows(seed)
    for index, row in enumerate(rows):
        _write_images(root, row, np.random.default_rng((seed, index)))
    annotation(rows).to_excel(root / "annotation.xlsx", index=False)
    (root / MARKER).write_text(json.dumps(_marker(seed)), encoding="utf-8")


def _write_images(
    root: Path,
    row: SampleRow,
    rng: Rng,
) -> None:
    clean = draw(row.drawn, row.drawn_style, row.side, rng)
    image = degrade(clean, row.degradation, rng)
    image.save(root / "All" / row.name, quality=JPEG_QUALITY)
    if not row.image_prompt:
        return
    path = root / "I2I" / "Image_prompt" / row.image_prompt
    if not path.exists():
        image_prompt = draw(row.asked, row.asked_style, IMAGE_PROMPT_SIDE, rng)
        image_prompt.save(path, quality=JPEG_QUALITY)
