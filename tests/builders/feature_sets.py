"""Features of a small data set, made of random numbers."""

import numpy as np

from tier4k.heads.data.features import FeatureSet


def feature_set(rows: int = 80, seed: int = 0) -> FeatureSet:
    """Rows of three generators; four neighbours share a prompt, every second row has an image prompt."""
    random = np.random.default_rng(seed)
    has_image_prompt = np.arange(rows) % 2 == 0
    image_prompt = random.normal(size=(rows, 6)) * has_image_prompt[:, None]
    return FeatureSet(
        text={"bert": random.normal(size=(rows, 4))},
        image={"resnet18": random.normal(size=(rows, 6))},
        image_prompt={"resnet18": image_prompt},
        has_image_prompt=has_image_prompt,
        targets=random.uniform(0, 5, (rows, 1)),
        target_names=("MOS_q",),
        name=np.array([f"G_{row}.jpg" for row in range(rows)], dtype=object),
        group=np.array([f"p{row // 4}" for row in range(rows)], dtype=object),
        generator=np.array([f"g{row % 3}" for row in range(rows)], dtype=object),
        position=np.arange(rows),
        image_key=np.array([f"{row:064x}" for row in range(rows)], dtype=object),
        dataset=np.full(rows, "toy"),
    )
