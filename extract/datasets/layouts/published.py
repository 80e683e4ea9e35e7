"""The known layouts. Adding a layout is adding an entry here, and its name to `LayoutName` in choices.py."""

from pathlib import Path

import pandas as pd

from tier4k.extract.datasets.choices import LayoutName
from tier4k.extract.datasets.layouts.layout import Layout


def _folder_all(root: Path, _names: pd.Series) -> Path:
    return root / "All"


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
    "pku": Layout(
        name="pku",
        columns={"name": "Generated_image", "prompt": "Text_prompt", "image_prompt": "Image_prompt"},
        targets=("MOS_q", "MOS_a", "MOS_c"),
        image_folder=_folder_all,
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
