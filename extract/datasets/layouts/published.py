"""The known layouts. Adding a layout of ours is an entry here, and its name in `LayoutName` of choices.py."""

from pathlib import Path

import pandas as pd

from tier4k.extract.datasets.choices import LayoutName
from tier4k.extract.datasets.layouts import aigciqa2023, aigiqa20k, evalmuse
from tier4k.extract.datasets.layouts.layout import Layout

AGIQA1K_TABLE = "AIGC_MOS_Zscore.xlsx"


def _pku_images(root: Path, _names: pd.Series) -> Path:
    return root / "All"


def _is_i2iqa(data: Path) -> bool:
    """Return whether DATA has the folder of PKU-I2IQA, whose columns are those of PKU-AIGIQA-4K."""
    return ((data if data.is_dir() else data.parent) / "Generated_image").is_dir()


def _i2iqa_images(root: Path, _names: pd.Series) -> Path:
    folder = root / "Generated_image"
    return folder / "All" if (folder / "All").is_dir() else folder


def _is_agiqa1k(data: Path) -> bool:
    return data.name == AGIQA1K_TABLE or (data / AGIQA1K_TABLE).is_file()


def _folder_with_most_names(root: Path, names: pd.Series) -> Path:
    """Return the data folder, or the folder directly inside, that contains most of the named images."""
    folders = [root]
    folders.extend(sorted(filter(Path.is_dir, root.iterdir())))

    def matches(folder: Path) -> int:
        listed = {path.name for path in folder.iterdir()}
        return int(names.isin(listed).sum())

    return max(folders, key=matches)


# A table has the first layout whose folder and columns it has, so that the generic one is the last.
LAYOUTS: dict[LayoutName, Layout] = {
    "i2iqa": Layout(
        name="i2iqa",
        columns={"name": "Generated_image", "prompt": "Text_prompt", "image_prompt": "Image_prompt"},
        targets=("MOS_q", "MOS_a", "MOS_c"),
        image_folder=_i2iqa_images,
        image_prompt_folder="Image_prompt",
        files=("I2IQA_annotation.xlsx", "annotation.xlsx"),
        is_in=_is_i2iqa,
    ),
    "pku": Layout(
        name="pku",
        columns={"name": "Generated_image", "prompt": "Text_prompt", "image_prompt": "Image_prompt"},
        targets=("MOS_q", "MOS_a", "MOS_c"),
        image_folder=_pku_images,
        image_prompt_folder="I2I/Image_prompt",
        files=("annotation.xlsx", "PKU-AIGIQA-4K/annotation.xlsx"),
    ),
    "agiqa3k": Layout(
        name="agiqa3k",
        columns={"name": "name", "prompt": "prompt"},
        targets=("mos_quality", "mos_align"),
        image_folder=_folder_with_most_names,
        files=("data.csv",),
    ),
    "agiqa1k": Layout(
        name="agiqa1k",
        columns={"name": "Image", "prompt": "Prompt"},
        targets=("MOS",),
        image_folder=_folder_with_most_names,
        files=(AGIQA1K_TABLE,),
        is_in=_is_agiqa1k,
    ),
    "aigciqa2023": Layout(
        name="aigciqa2023",
        columns={"name": "name", "prompt": "prompt", "generator": "generator"},
        targets=aigciqa2023.QUANTITIES,
        image_folder=aigciqa2023.image_folder,
        is_in=aigciqa2023.is_aigciqa2023,
        read_parts=aigciqa2023.read_aigciqa2023,
    ),
    "aigiqa20k": Layout(
        name="aigiqa20k",
        columns={"name": "name", "prompt": "prompt"},
        targets=("mos",),
        is_in=aigiqa20k.is_aigiqa20k,
        read_parts=aigiqa20k.read_aigiqa20k,
    ),
    "evalmuse": Layout(
        name="evalmuse",
        columns={"name": "img_path", "prompt": "prompt", "generator": "generator"},
        targets=("total_score",),
        image_folder=evalmuse.image_folder,
        not_scores=evalmuse.NOT_SCORES,
        is_in=evalmuse.is_evalmuse,
        read_parts=evalmuse.read_evalmuse,
    ),
    "table": Layout(
        name="table",
        columns={"name": "image"},
        optional={
            "prompt": "prompt",
            "image_prompt": "image_prompt",
            "generator": "generator",
            "group": "group",
            "dataset": "dataset",
        },
        common_names={
            "name": (
                "img",
                "img_path",
                "image_path",
                "image_file",
                "image_name",
                "img_name",
                "filename",
                "file_name",
            ),
            "prompt": ("caption", "text", "text_prompt"),
            "image_prompt": ("image_prompt_path", "reference_image"),
            "generator": ("model", "model_name"),
        },
        named_by_folder=False,
    ),
}
