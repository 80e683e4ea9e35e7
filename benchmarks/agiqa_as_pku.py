"""Rearrange AGIQA-3K into the PKU-AIGIQA-4K layout, so that every TIER method can be tried on real pictures with real scores.

    python benchmarks/agiqa_as_pku.py AGIQA-3K OUT [--i2i-prompts 60]

The best-rated picture of a text prompt leaves the rows and becomes their image prompt, for the first prompts in order of their
text. MOS_q is mos_quality and MOS_c is mos_align; AGIQA-3K has no authenticity, so MOS_a is the mean of the two.
"""

import argparse
import json
import shutil
import sys
from pathlib import Path

import pandas as pd

sys.path.insert(
    0, str(Path(__file__).resolve().parents[1])
)  # before this folder, where a file hides the package `extract`
from tier4k.extract.datasets.check import load_manifest

COLUMNS = ["Generated_image", "Image_prompt", "Text_prompt", "MOS_q", "MOS_a", "MOS_c"]


def rearrange(source: Path, out: Path, i2i_prompts: int) -> pd.DataFrame:
    """Copy the pictures, write annotation.xlsx, and return its table."""
    root = out / "PKU-AIGIQA-4K"
    for folder in ("All", "I2I/Image_prompt"):
        (root / folder).mkdir(parents=True)
    rows: list[tuple[object, ...]] = []
    table = load_manifest(source, "agiqa3k").manifest.table
    for number, (prompt, pictures) in enumerate(table.groupby("prompt")):
        image_prompt = None
        if number < i2i_prompts:
            best = pictures["mos_quality"].idxmax()
            image_prompt = f"{number}{Path(pictures.loc[best, 'image']).suffix}"
            shutil.copy(pictures.loc[best, "image"], root / "I2I" / "Image_prompt" / image_prompt)
            pictures = pictures.drop(index=best)
        for index, row in enumerate(pictures.sort_values(["generator", "name"]).itertuples()):
            name = f"{row.generator}_{number if image_prompt else 1000 + number:03d}_{index:02d}{Path(row.image).suffix}"
            shutil.copy(row.image, root / "All" / name)
            rows.append(
                (
                    name,
                    image_prompt,
                    prompt,
                    row.mos_quality,
                    (row.mos_quality + row.mos_align) / 2,
                    row.mos_align,
                )
            )
    frame = pd.DataFrame(rows, columns=COLUMNS)
    frame.to_excel(root / "annotation.xlsx", index=False)
    return frame


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("source", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--i2i-prompts", type=int, default=60)
    arguments = parser.parse_args()
    frame = rearrange(arguments.source, arguments.out, arguments.i2i_prompts)
    print(json.dumps({"rows": len(frame), "image_to_image": int(frame["Image_prompt"].notna().sum())}))


if __name__ == "__main__":
    main()
