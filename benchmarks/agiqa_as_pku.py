"""Rearrange AGIQA-3K into the PKU-AIGIQA-4K layout, to try every TIER method on real images and scores.

    python benchmarks/agiqa_as_pku.py AGIQA-3K OUT [--i2i-prompts 60]

For the first prompts in alphabetical order, the best-rated image of the prompt is removed from the rows and
becomes their image prompt. MOS_q is mos_quality and MOS_c is mos_align; AGIQA-3K has no authenticity, so
MOS_a is the mean of the two.
"""

import argparse
import json
import shutil
from pathlib import Path

import pandas as pd

from tier4k.extract.datasets.check import check
from tier4k.extract.datasets.table_choice import TableChoice

COLUMNS = ["Generated_image", "Image_prompt", "Text_prompt", "MOS_q", "MOS_a", "MOS_c"]


def rearrange(source: Path, out: Path, i2i_prompts: int) -> pd.DataFrame:
    """Copy the images, write annotation.xlsx, and return its table.

    Args:
        source: Folder of AGIQA-3K.
        out: The folder PKU-AIGIQA-4K is made in it; it must not exist.
        i2i_prompts: Number of text prompts whose images get an image prompt.
    """
    root = out / "PKU-AIGIQA-4K"
    for folder in ("All", "I2I/Image_prompt"):
        (root / folder).mkdir(parents=True)
    table = check(source, TableChoice("agiqa3k")).manifest.table
    rows: list[dict[str, object]] = []
    for number, (_, images) in enumerate(table.groupby("prompt")):
        if number < i2i_prompts:
            best = images["mos_quality"].idxmax()
            image_prompt = _copy_image_prompt(images.loc[best, "image"], root, number)
            rows += _copy_images(images.drop(index=best), root, number, image_prompt)
        else:
            rows += _copy_images(images, root, 1000 + number, None)
    frame = pd.DataFrame(rows, columns=COLUMNS)
    frame.to_excel(root / "annotation.xlsx", index=False)
    return frame


def _copy_image_prompt(path: str, root: Path, number: int) -> str:
    name = f"{number}{Path(path).suffix}"
    shutil.copy(path, root / "I2I" / "Image_prompt" / name)
    return name


def _copy_images(
    images: pd.DataFrame,
    root: Path,
    number: int,
    image_prompt: str | None,
) -> list[dict[str, object]]:
    """Copy the images of one prompt; return their rows of annotation.xlsx."""
    rows: list[dict[str, object]] = []
    for index, row in enumerate(images.sort_values(["generator", "name"]).itertuples()):
        name = f"{row.generator}_{number:03d}_{index:02d}{Path(row.image).suffix}"
        shutil.copy(row.image, root / "All" / name)
        rows.append(
            {
                "Generated_image": name,
                "Image_prompt": image_prompt,
                "Text_prompt": row.prompt,
                "MOS_q": row.mos_quality,
                "MOS_a": (row.mos_quality + row.mos_align) / 2,
                "MOS_c": row.mos_align,
            }
        )
    return rows


def main() -> None:
    """Rearrange and print the number of rows."""
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
