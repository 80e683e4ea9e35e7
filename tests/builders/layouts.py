"""Small synthetic copies of published data sets, each in the form of its authors.

Every function writes a data set into a folder and returns what a reader must find there: one line a row, in
the order of the authors' files, with the columns name, prompt, image_prompt, generator and the scores.
"""

import json
import zlib
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pandas as pd
import scipy.io

from tier4k.tests.builders.data import save_picture, save_table

AIGCIQA_GENERATORS = ("Controlnet", "DALLE", "Glide", "Lafite", "stable-diffusion", "Unidiffuser")

AIGCIQA_TARGETS = ("quality", "authenticity", "correspondence")


def write_tiny_png(path: Path, number: int) -> None:
    """An image of 8 by 8 pixels whose content depends on the number; much quicker than `save_picture`."""
    colours = np.random.default_rng(number).integers(0, 256, (8, 24), dtype=np.uint8)
    scan_lines = np.hstack([np.zeros((8, 1), np.uint8), colours])  # each begins with its filter, 0 for none
    header = b"\0\0\0\x08\0\0\0\x08\x08\x02\0\0\0"  # 8 by 8 pixels, 8 bits, RGB
    chunks = [(b"IHDR", header), (b"IDAT", zlib.compress(scan_lines.tobytes())), (b"IEND", b"")]
    content = b"\x89PNG\r\n\x1a\n"
    for kind, data in chunks:
        content += len(data).to_bytes(4, "big") + kind + data + zlib.crc32(kind + data).to_bytes(4, "big")
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)


def write_aigciqa2023(
    root: Path,
    workbook: str = "AIGCIQA2023_Prompts.xlsx",
    header: bool = False,
    index: bool = True,
    images: bool = True,
) -> pd.DataFrame:
    """AIGCIQA2023: 2,400 images of 8 by 8 pixels, three scores of each in files of MATLAB.

    Args:
        root: The data folder.
        workbook: The workbook with the prompts, relative to the folder.
        header: Whether its first row names its columns; the authors' has none.
        index: Whether the authors' second workbook, which has no prompts, is there too.
        images: Whether the images are written; a reader of the table alone needs none.
    """
    random = np.random.default_rng(2023)
    scores = {}
    for number, target in enumerate(AIGCIQA_TARGETS, start=1):
        mean, spread = random.uniform(20, 70, (2400, 1)), random.uniform(5, 20, (2400, 1))
        _save_mat(root / "DATA" / "MOS" / f"mosz{number}.mat", {"MOSz": mean})
        _save_mat(root / "DATA" / "STD" / f"SD{number}.mat", {"SD": spread})
        scores[target] = mean[:, 0]
        scores[f"std_{target}"] = spread[:, 0]
    prompts = [f"scene {number} of a test" for number in range(100)]
    rows = [("Basic", "Animals", prompt) for prompt in prompts]
    titles = [("category", "challenge", "prompt")] if header else []
    save_sheet(root / workbook, [*titles, *rows])
    generators = np.repeat(AIGCIQA_GENERATORS, 400)
    if index:
        files = [f"{prompt:03d}-{copy}.png" for prompt in range(100) for copy in (1, 2, 3, 4)]
        save_sheet(root / "pic-index.xlsx", list(zip(generators, files * 6, strict=True)))
    if images:
        for number in range(2400):
            write_tiny_png(root / "Image" / "allimg" / f"{number}.png", number)
    names = [f"{number}.png" for number in range(2400)]
    row_prompts = np.tile(np.repeat(prompts, 4), 6)
    frame = pd.DataFrame({"name": names, "prompt": row_prompts, "image_prompt": "", "generator": generators})
    return frame.assign(**scores)


def _save_mat(path: Path, arrays: Mapping[str, np.ndarray]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    scipy.io.savemat(path, arrays)


def save_sheet(path: Path, rows: list[tuple[str, ...]]) -> None:
    """Write a workbook of one sheet, its rows as given, without a header of their own."""
    path.parent.mkdir(parents=True, exist_ok=True)
    pd.DataFrame(rows).to_excel(path, header=False, index=False)


def write_aigiqa20k(
    root: Path,
    rows: Mapping[str, int] | None = None,
    unscored: tuple[str, ...] = (),
) -> pd.DataFrame:
    """AIGIQA-20K: a table and a folder of images for each part of the official split.

    Args:
        root: The data folder.
        rows: Number of rows of each part, for any of train, val and test.
        unscored: Parts that are published without the column of scores.

    Returns:
        The rows of all parts, in the order train, val, test, with the column split.
    """
    generators = ("DALLE2", "SD1.5", "Midjourney")
    parts = []
    first = 0
    for part, count in (rows or {"train": 12, "val": 6, "test": 6}).items():
        numbers = range(first, first + count)
        first += count
        chosen = [generators[number % 3] for number in numbers]
        frame = pd.DataFrame(
            {
                "name": [f"{chosen[number - numbers.start]}_{number:04d}.png" for number in numbers],
                "prompt": [f"prompt {number // 3}, of the {part} part" for number in numbers],
                "mos": [1 + number / 10 for number in numbers],
            }
        )
        for number, name in zip(numbers, frame["name"], strict=True):
            write_tiny_png(root / part / name, number)
        published = frame.drop(columns="mos") if part in unscored else frame
        save_table(published, root / f"info_{part}.csv")
        parts.append(frame.assign(image_prompt="", generator=chosen, split=part))
    return pd.concat(parts, ignore_index=True)


def write_agiqa1k(root: Path, objects: int = 3) -> pd.DataFrame:
    """AGIQA-1K: a workbook, the folder `file`, and the raw scores of another table, which nobody asked for.

    Each object has four images: two of deepai and two of dreamStudio, in two styles.
    """
    lines = []
    for number in range(objects):
        for style in range(2):
            for generator in ("deepai", "dreamStudio"):
                name = f"{generator}_{number}_0_0_{style}.jpg"
                prompt = f"object {number}, driving bike, city, {('anime', 'realistic')[style]} style"
                lines.append((name, prompt, 1.5 + len(lines) / 8))
                save_picture(root / "file" / name, len(lines))
    frame = pd.DataFrame(lines, columns=["Image", "Prompt", "MOS"])
    save_table(frame, root / "AIGC_MOS_Zscore.xlsx")
    raw = frame[["Image"]].assign(Score=frame["MOS"] + 0.25)
    save_table(raw, root / "AIGC_all.csv")
    generators = frame["Image"].str.split("_").str[0]
    truth = frame.rename(columns={"Image": "name", "Prompt": "prompt"})
    return truth.assign(image_prompt="", generator=generators)


def write_i2iqa(
    root: Path,
    table: str = "I2IQA_annotation.xlsx",
    prompts: int = 4,
) -> pd.DataFrame:
    """PKU-I2IQA: the columns of PKU-AIGIQA-4K in other folders; every row has an image prompt.

    Each prompt has four images: two of each generator.
    """
    random = np.random.default_rng(3)
    lines = []
    for prompt in range(prompts):
        save_picture(root / "Image_prompt" / f"{prompt}.png", 900 + prompt)
        for copy in range(4):
            name = f"{('MJ', 'SD')[copy % 2]}_{prompt}_{copy}.png"
            save_picture(root / "Generated_image" / "All" / name, len(lines))
            scores = random.uniform(1, 5, 3).round(4)
            lines.append((f"{prompt}.png", f"a scene, number {prompt}", name, *scores))
    columns = ["Image_prompt", "Text_prompt", "Generated_image", "MOS_q", "MOS_a", "MOS_c"]
    frame = pd.DataFrame(lines, columns=columns)
    save_table(frame, root / table)
    generators = frame["Generated_image"].str.split("_").str[0]
    names = {"Generated_image": "name", "Text_prompt": "prompt", "Image_prompt": "image_prompt"}
    return frame.rename(columns=names).assign(generator=generators)


def write_evalmuse(
    root: Path,
    ratings: tuple[tuple[int, ...], ...] = ((4, 3, 3), (5, 5, 5), (1, 2, 4), (2, 3), (1, 1, 2), (5,)),
    **changes: object,
) -> pd.DataFrame:
    """EvalMuse-40K: a list of objects with the ratings of each image, and two lists that nobody asked for.

    Args:
        root: The data folder.
        ratings: Ratings of each image; two images share a prompt.
        changes: Values of the first object that differ; None takes the key away.

    Returns:
        The rows with their mean rating `total_score`, its standard deviation (which divides by n - 1, NaN for
        one rating) `std_total_score`, and the number of ratings `raters`.
    """
    objects: list[dict[str, object]] = []
    lines = []
    for number, scores in enumerate(ratings):
        generator = ("SDXL-Turbo", "LCM-SDXL")[number % 2]
        name = f"{generator}/{number // 2:05d}.png"
        prompt = f"a thing, number {number // 2}"
        write_tiny_png(root / "images" / name, number)
        objects.append(_evalmuse_object(number, name, prompt, scores))
        spread = np.std(scores, ddof=1) if len(scores) > 1 else np.nan
        lines.append((name, prompt, "", generator, np.mean(scores), spread, len(scores)))
    for key, value in changes.items():
        objects[0][key] = value
        if value is None:
            del objects[0][key]
    (root / "train_list.json").write_text(json.dumps(objects, indent=1))
    test = [{"prompt_id": "9", "prompt": "unscored", "img_path": "SDXL-Turbo/00009.png"}]
    (root / "test.json").write_text(json.dumps(test))
    (root / "prompt_t2i.json").write_text(json.dumps([{"id": 1, "prompt": "a thing", "element": ["a"]}]))
    columns = ["name", "prompt", "image_prompt", "generator", "total_score", "std_total_score", "raters"]
    return pd.DataFrame(lines, columns=columns)


def _evalmuse_object(
    number: int,
    name: str,
    prompt: str,
    scores: tuple[int, ...],
) -> dict[str, object]:
    elements = {f"a thing {number} (object)": [1] * len(scores)}
    return {
        "prompt_id": f"{number // 2:05d}",
        "prompt": prompt,
        "type": "synthetic",
        "img_path": name,
        "total_score": list(scores),
        "element_score": json.dumps(elements),
        "promt_meaningless": [0] * len(scores),
        "split_confidence": [0] * len(scores),
        "attribute_confidence": [1] * len(scores),
        "fidelity_label": ["", "", ""],
    }
