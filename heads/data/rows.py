"""The rows of a data set, as splits and counts of leakage see them."""

from dataclasses import dataclass

import numpy as np

from tier4k.extract.datasets.manifest import Manifest


@dataclass(frozen=True)
class Rows:
    """N rows of a data set without features and scores, in the manifest's order.

    Attributes:
        name: (N,) names of the images, distinct.
        group: (N,) identity of the prompt: rows with equal prompts or equal images share it.
        generator: (N,) text-to-image model.
        position: (N,) number of the row within its benchmark in the source table; the published split counts
            by it.
        image_key: (N,) key of the image's content, hexadecimal.
        dataset: (N,) name of the data set.
    """

    name: np.ndarray
    group: np.ndarray
    generator: np.ndarray
    position: np.ndarray
    image_key: np.ndarray
    dataset: np.ndarray

    @staticmethod
    def of(manifest: Manifest) -> "Rows":
        """Return the rows of a manifest."""
        table = manifest.table
        return Rows(
            name=table["name"].to_numpy(),
            group=table["group"].to_numpy(),
            generator=table["generator"].to_numpy(),
            position=table["position"].to_numpy(),
            image_key=table["image_key"].to_numpy(),
            dataset=table["dataset"].to_numpy(),
        )

    def __len__(self) -> int:
        return len(self.name)
