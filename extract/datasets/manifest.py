"""The manifest: the checked rows of a data set in canonical columns, with the content key of each input."""

import hashlib
from collections.abc import Collection
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import pandas as pd
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from tier4k.cache.keys import key_array, pair_key, text_key
from tier4k.extract.datasets.choices import STREAMS, Benchmark, Stream
from tier4k.extract.datasets.errors import DataError
from tier4k.extract.datasets.ratings import ERROR_OF
from tier4k.extract.datasets.spellings import prompt_identity
from tier4k.extract.datasets.table_choice import RECOGNISED, TableChoice

COLUMNS = (
    "row",
    "name",
    "image",
    "prompt",
    "image_prompt",
    "generator",
    "group",
    "benchmark",
    "position",
    "image_key",
    "prompt_key",
    "image_prompt_key",
    "dataset",
)

IMAGE_COLUMNS: dict[Stream, str] = {"image": "image", "image-prompt": "image_prompt"}

GROUP_DIGITS = 12


@dataclass(frozen=True)
class Manifest:
    """Rows of a data set that can be used.

    Attributes:
        name: Name of the data set, for messages and reports; of several, their names with "+" between them.
        sources: File of the table of each data set, or its folder if it has several files.
        table: One line per row, with the columns below, and one float column for each target. A score that a
            row lacks is NaN; every row has a score for at least one target. Where a target's ratings are
            known, there is a float column `ERROR_OF` with the standard error of each score.

            - row: number of the row in the source table, from 0
            - name: name of the image in the table, unique
            - image: place of the image (see `tier4k.extract.images.places`)
            - prompt: text prompt, "" without one
            - image_prompt: place of the image prompt, "" without one
            - generator: text-to-image model, in its canonical spelling
            - group: rows that a chain of equal prompts and equal images connects share it; a column of groups
              replaces the prompts
            - benchmark: "I2I" (with image prompt) or "T2I"
            - position: number of the row within its benchmark in the source table, from 0
            - image_key, prompt_key, image_prompt_key: content keys, hexadecimal ("" without image prompt)
            - dataset: name of the row's data set

        targets: Names of the target columns (mean opinion scores).
        columns: All other columns of the tables as in their files, aligned with `table`.
        has_prompts: Whether the rows have text prompts; otherwise only streams of images exist.
        has_groups: Whether a column says which rows belong together.
        choice: What the user said about the tables.
        packages: Names and versions of the packages whose layouts the tables have.
    """

    name: str
    sources: tuple[Path, ...]
    table: pd.DataFrame
    targets: tuple[str, ...]
    columns: pd.DataFrame = field(default_factory=pd.DataFrame)
    has_prompts: bool = True
    has_groups: bool = False
    choice: TableChoice = RECOGNISED
    packages: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.table)

    @property
    def data(self) -> Path:
        """Folder of the first table."""
        source = self.sources[0]
        return source if source.is_dir() else source.parent

    @property
    def images_are_independent(self) -> bool:
        """Whether nothing says which images belong together, but equal contents."""
        return not (self.has_prompts or self.has_groups)

    @property
    def datasets(self) -> tuple[str, ...]:
        """Names of the data sets, in the order of their first rows."""
        return tuple(self.table["dataset"].unique())

    def select(self, benchmark: Benchmark) -> "Manifest":
        """Return the rows of one benchmark, with `position` counted within it.

        Args:
            benchmark: "I2I", "T2I", or "all" for all rows.

        Raises:
            DataError: The data set has no rows of the benchmark.
        """
        if benchmark == "all":
            table = self.table.assign(position=self.table["row"])
            columns = self.columns
        else:
            is_in_benchmark = self.table["benchmark"] == benchmark
            table = self.table[is_in_benchmark].reset_index(drop=True)
            columns = self.columns.reindex(self.table.index)[is_in_benchmark].reset_index(drop=True)
        if table.empty:
            if benchmark == "I2I":
                problem, remedy = "with", "with the method nr or pr (the method fr needs image prompts)"
            else:
                problem, remedy = "without", "or I2I"
            raise DataError(
                f"{self.name} has no rows {problem} an image prompt, so {benchmark} is empty: use the "
                f"benchmark all, {remedy}"
            )
        return replace(self, table=table, columns=columns)

    def keys(self, column: str) -> np.ndarray:
        """Return the keys of one input of all rows; rows without an image prompt are left out.

        Args:
            column: "image", "prompt" or "image_prompt".

        Returns:
            (N, 32) uint8.
        """
        texts = self.table[f"{column}_key"]
        return key_array(map(bytes.fromhex, texts[texts != ""]))

    def images(self, streams: Collection[Stream] = STREAMS) -> pd.Series:
        """Return the place of each distinct image, indexed by key in hexadecimal.

        Args:
            streams: Streams of images that are returned: "image", "image-prompt" or both.
        """
        parts = []
        for stream, column in IMAGE_COLUMNS.items():
            if stream in streams:
                parts.append(self.table.set_index(f"{column}_key")[column])
        places = pd.concat(parts)
        places = places[places != ""]
        return places[~places.index.duplicated()]

    def prompts(self) -> pd.Series:
        """Return each distinct text prompt, indexed by key in hexadecimal."""
        texts = self.table.set_index("prompt_key")["prompt"]
        return texts[~texts.index.duplicated()]

    def pair_keys(self) -> pd.Series:
        """Return the key of each row's pair of image and text prompt, hexadecimal (N,)."""
        image_keys = map(bytes.fromhex, self.table["image_key"])
        prompt_keys = map(bytes.fromhex, self.table["prompt_key"])
        keys = map(pair_key, image_keys, prompt_keys)
        return pd.Series([key.hex() for key in keys], self.table.index)

    def pairs(self) -> pd.DataFrame:
        """Return each distinct pair of an image and its text prompt, indexed by key in hexadecimal.

        Returns:
            The columns image, image_key, prompt and prompt_key.
        """
        inputs = self.table[["image", "image_key", "prompt", "prompt_key"]]
        pairs = inputs.set_index(pd.Index(self.pair_keys()))
        return pairs[~pairs.index.duplicated()]

    @property
    def missing_scores(self) -> dict[str, int]:
        """Number of rows without a score for each target that some rows lack."""
        counts = self.table[list(self.targets)].isna().sum()
        return {target: int(count) for target, count in counts.items() if count}

    def score_errors(self, target: str) -> np.ndarray:
        """Return the standard error of each score of a target (N,), NaN where it is unknown."""
        name = ERROR_OF + target
        if name not in self.table:
            return np.full(len(self), np.nan)
        return self.table[name].to_numpy(float)

    @property
    def ratings_digest(self) -> str:
        """SHA-256 (hexadecimal) of the standard errors of all scores; "" if none is known.

        They change no fit, so they are not part of `digest`. They change the results, which show the ceiling.
        """
        errors = np.array([self.score_errors(target) for target in self.targets])
        return hashlib.sha256(errors.tobytes()).hexdigest() if np.isfinite(errors).any() else ""

    @property
    def digest(self) -> str:
        """SHA-256 (hexadecimal) of a fit's inputs: keys, names, generators, groups, positions, scores.

        Where there are several data sets, the names of the rows' data sets are among them.
        """
        left_out = {"image", "image_prompt", "prompt"}
        if len(self.datasets) == 1:
            left_out.add("dataset")
        columns = [column for column in COLUMNS if column not in left_out]
        frame = self.table[[*columns, *self.targets]]
        text = frame.to_csv(index=False, float_format="%.17g")
        return hashlib.sha256(text.encode()).hexdigest()


def prompt_groups(
    prompts: pd.Series,
    image_keys: pd.Series,
    image_prompt_keys: pd.Series,
    groups: pd.Series | None = None,
) -> pd.Series:
    """Return the group of each row. Rows are in one group if a chain of equal inputs connects them.

    Two rows are connected if their texts are spellings of one prompt, or if an image of one row, generated
    or image prompt, is also an image of the other. Equal texts alone would not be enough: a prompt-disjoint
    split could then train on an image of a test row. Rows without a text prompt are connected by their
    images.

    Args:
        prompts: Text prompt of each row (N,), "" for none.
        image_keys: Key of each row's image (N,).
        image_prompt_keys: Key of each row's image prompt, "" for none (N,).
        groups: Groups that the table names, which replace the prompts (N,), "" for none.

    Returns:
        (N,) 12 hexadecimal digits, equal within a group and independent of row order.
    """
    if groups is None:
        names = prompts
        key_of = {prompt: text_key(prompt_identity(prompt)).hex() for prompt in prompts.unique()}
    else:
        names = groups
        key_of = {group: text_key(group).hex() for group in groups.unique()}
    texts = names.map(key_of).where(names != "", image_keys)
    text_node, distinct_texts = pd.factorize(texts)
    images = pd.concat([image_keys, image_prompt_keys]).to_numpy()
    image_node, distinct_images = pd.factorize(images)
    # One node for each distinct text and each distinct image, one edge from a row's text to each of its
    # images.
    nodes = len(distinct_texts) + len(distinct_images)
    is_image = images != ""
    ends = (np.tile(text_node, 2)[is_image], len(distinct_texts) + image_node[is_image])
    graph = coo_array((np.ones(len(ends[0])), ends), shape=(nodes, nodes))
    _, component_of_node = connected_components(graph, directed=False)
    component = component_of_node[text_node]
    smallest = texts.groupby(component).transform("min")
    return smallest.map(lambda key: key[:GROUP_DIGITS])
