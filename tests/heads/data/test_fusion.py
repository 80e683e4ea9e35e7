"""Fusion concatenates and averages the streams as published."""

from dataclasses import replace

import numpy as np
import pytest

from tier4k.heads.data.choices import Method
from tier4k.heads.data.fusion import FusionError, fuse, require_valid_benchmark
from tier4k.tests.builders.feature_sets import feature_set


def test_fusion_is_as_published_text_first() -> None:
    f = feature_set()
    np.testing.assert_array_equal(fuse(f, "nr").X, np.hstack([f.text["bert"], f.image["resnet18"]]))
    image, image_prompt = f.image["resnet18"], f.image_prompt["resnet18"]
    partial = fuse(f, "pr").X[:, 4:]
    guided = f.has_image_prompt
    np.testing.assert_allclose(partial[guided], ((image + image_prompt) / 2)[guided])
    np.testing.assert_array_equal(partial[~guided], image[~guided])
    with pytest.raises(FusionError, match="40 of 80"):
        fuse(f, "fr")
    with pytest.raises(FusionError, match="the benchmark I2I"):
        require_valid_benchmark("fr", "T2I")


@pytest.mark.parametrize("method", ["nr", "fr", "pr"])
def test_fusion_says_which_columns_belong_to_which_stream(method: Method) -> None:
    f = feature_set()
    if method == "fr":
        f = replace(f, has_image_prompt=np.ones(80, bool))
    f = replace(f, zero_shot=np.arange(160.0).reshape(80, 2))
    X, streams = fuse(f, method)
    assert streams.width == X.shape[1]
    parts = [X[:, columns] for columns in streams.columns]
    image = X[:, streams.mask("image", "image-prompt")]
    np.testing.assert_array_equal(parts[0], f.text["bert"])
    np.testing.assert_array_equal(parts[-1], f.zero_shot)
    np.testing.assert_array_equal(np.hstack(parts), X)
    np.testing.assert_array_equal(image, np.hstack(parts[1:-1]))
    assert [part.shape[1] for part in parts] == ([4, 6, 6, 2] if method == "fr" else [4, 6, 2])
