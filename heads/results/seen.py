"""What heads have seen of the rows that they are tested on: prompts, images, and siblings of images."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from tier4k.heads.data.rows import Rows
from tier4k.heads.data.splits import Split, prompt_and_generator


@dataclass(frozen=True)
class Seen:
    """Numbers of test prompts and test rows that were seen in training, one number for each repeat.

    Attributes:
        prompts: Test prompts that are also in training or validation; None if unknown.
        images: Test rows whose image is also there, by content; None if unknown.
        siblings: Test rows whose prompt and generator occur there together; None if unknown.
        unknown: Why the numbers are unknown; "" if they are known.
    """

    prompts: tuple[int, ...] | None = None
    images: tuple[int, ...] | None = None
    siblings: tuple[int, ...] | None = None
    unknown: str = ""

    @classmethod
    def in_training(
        cls,
        rows: Rows,
        splits: Sequence[Split],
        images: Sequence[str] = (),
    ) -> "Seen":
        """Count what the training and validation rows of each split contain of its test rows.

        Args:
            rows: All rows.
            splits: One split for each repeat.
            images: Keys (hexadecimal) of more images that were seen in training in every repeat.
        """
        counts = [_counts(rows, split, images) for split in splits]
        prompts, seen_images, siblings = zip(*counts, strict=True)
        return cls(prompts, seen_images, siblings)


def _counts(
    rows: Rows,
    split: Split,
    images: Sequence[str],
) -> tuple[int, int, int]:
    prompts = rows.group[split.test][split.seen(rows.group)]
    seen_images = split.seen(rows.image_key) | np.isin(rows.image_key[split.test], list(images))
    siblings = split.seen(prompt_and_generator(rows))
    return len(np.unique(prompts)), int(seen_images.sum()), int(siblings.sum())
