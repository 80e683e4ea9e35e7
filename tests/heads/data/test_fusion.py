"""Fusion concatenates and averages the streams as published."""

import numpy as np
import pytest

from tier4k.heads.data.fusion import FusionError, fuse, require_valid_benchmark
from tier4k.tests.builders.feature_sets import feature_set


def test_fusion_is_as_published_text_first() -> None:
    f = feature_set()
    np.testing.assert_array_equal(fuse(f, "nr").X, np.hstack([f.text, f.image]))
    partial = fuse(f, "pr").X[:, 4:]
    np.testing.assert_allclose(
        partial[f.has_image_prompt], ((f.image + f.image_prompt) / 2)[f.has_image_prompt]
    )
    np.testing.assert_array_equal(partial[~f.has_image_prompt], f.image[~f.has_image_prompt])
    with pytest.raises(FusionError, match="40 of 80"):
        fuse(f, "fr")
    with pytest.raises(FusionError, match="--benchmark I2I"):
        require_valid_benchmark("fr", "T2I")
