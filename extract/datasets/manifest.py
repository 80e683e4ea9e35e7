"""The manifest: the checked rows of a data set in canonical columns, each input known by the key of its content."""

import hashlib
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pandas as pd
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from tier4k.cache.keys import key_array, pair_key, text_key
from tier4k.extract.datasets.choices import Benchmark
from tier4k.extract.datasets.layouts import DataError

COLUMNS = (
    "row", "name", "image", "prompt", "image_prompt", "generator", "group",
    "benchmark", "position", "image_key", "prompt_key", "image_prompt_key",
)  # fmt: skip


@dataclass(frozen=True)
class Manifest:
    """Rows of a data set that can be used.

    Attributes:
        name: Name of the data set, for people.
        source: File of its table.
        table: One line per row, with the columns
            row            number of the row in the source table, from 0
            name           name of the picture in the table, unique
            image          path of the picture
            prompt         text prompt
            image_prompt   path of the image prompt, "" where there is none
            generator      text-to-image model
            group          identity of the prompt: rows that share a text prompt or an image prompt share it
            benchmark      "I2I" (with image prompt) or "T2I"
            position       number of the row within its benchmark in the source table, from 0
            image_key, prompt_key, image_prompt_key   content keys, hexadecimal ("" without image prompt)
            and one float column for each target.
        targets: Names of the target columns (mean opinion scores).
    """

    name: str
    source: Path
    table: pd.DataFrame
    targets: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.table)

    @property
    def data(self) -> Path:
        """Folder of its table."""
        return self.source.parent

    def select(self, benchmark: Benchmark) -> "Manifest":
        """The rows of one benchmark: "I2I", "T2I", or "all" for all, with `position` counted within it.

        Raises:
            DataError: The data set has no such rows.
        """
        if benchmark == "all":
            table = self.table.assign(position=self.table["row"])
        else:
            table = self.table[self.table["benchmark"] == benchmark].reset_index(drop=True)
        if table.empty:
            kind = "with" if benchmark == "I2I" else "without"
            raise DataError(
                f"{self.name} has no rows {kind} an image prompt, so there is no {benchmark} part: use another --benchmark"
            )
        return replace(self, table=table)

    def keys(self, column: str) -> np.ndarray:
        """Keys (N, 32) uint8 of "image", "prompt" or "image_prompt"; rows without an image prompt are left out."""
        texts = self.table[f"{column}_key"]
        return key_array(bytes.fromhex(text) for text in texts[texts != ""])

    def pictures(self) -> pd.Series:
        """Path of each distinct picture and image prompt, indexed by its key in hexadecimal."""
        columns = [self.table.set_index(f"{column}_key")[column] for column in ("image", "image_prompt")]
        both = pd.concat(columns)
        both = both[both != ""]
        return both[~both.index.duplicated()]

    def prompts(self) -> pd.Series:
        """Each distinct text prompt, indexed by its key in hexadecimal."""
        texts = self.table.set_index("prompt_key")["prompt"]
        return texts[~texts.index.duplicated()]

    def pair_keys(self) -> pd.Series:
        """Key of each row's pair of picture and text prompt, hexadecimal (N,)."""
        keys = zip(
            self.table["image_key"].map(bytes.fromhex),
            self.table["prompt_key"].map(bytes.fromhex),
            strict=True,
        )
        return pd.Series([pair_key(*pair).hex() for pair in keys], self.table.index)

    def pairs(self) -> pd.DataFrame:
        """Each distinct pair of a picture and its text prompt, indexed by its key in hexadecimal: image, image_key, prompt, prompt_key."""
        pairs = self.table[["image", "image_key", "prompt", "prompt_key"]].set_index(
            pd.Index(self.pair_keys())
        )
        return pairs[~pairs.index.duplicated()]

    @property
    def digest(self) -> str:
        """SHA-256 (hexadecimal) of everything a fit depends on: keys, names, generators, groups, positions and scores."""
        columns = [column for column in COLUMNS if column not in ("image", "image_prompt", "prompt")]
        frame = self.table[[*columns, *self.targets]]
        return hashlib.sha256(frame.to_csv(index=False, float_format="%.17g").encode()).hexdigest()


def prompt_groups(prompts: pd.Series, image_prompt_keys: pd.Series) -> pd.Series:
    """Identity of each row's prompt: rows connected by equal text (case and spacing aside) or an equal image prompt.

    Connected, not just equal: were two texts drawn from one image prompt in two groups, a prompt-disjoint split would
    show the image prompt of a test row in training.

    Args:
        prompts: Text prompt of each row (N,).
        image_prompt_keys: Key of each row's image prompt, "" for none (N,).

    Returns:
        (N,) 12 hexadecimal digits, equal within a group and independent of row order.
    """
    texts = prompts.map(lambda text: text_key(" ".join(text.casefold().split())).hex())
    text_code, distinct = pd.factorize(texts)
    image_code, _ = pd.factorize(image_prompt_keys)
    has_image = (image_prompt_keys != "").to_numpy()
    nodes = len(distinct) + len(prompts)
    edges = (text_code[has_image], len(distinct) + image_code[has_image])
    graph = coo_array((np.ones(int(has_image.sum())), edges), shape=(nodes, nodes))
    component = connected_components(graph, directed=False)[1][text_code]
    return texts.groupby(component).transform("min").str[:12]
