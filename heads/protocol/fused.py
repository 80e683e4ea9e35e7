"""The fused vectors of rows, as heads read them."""

from typing import NamedTuple

import numpy as np

from tier4k.extract.datasets.manifest import Manifest
from tier4k.extract.encoders.templates import read_templates
from tier4k.heads.data.features import FeatureSet, load_features
from tier4k.heads.data.fusion import fuse, interact, needed_inputs, require_valid_benchmark, used_streams
from tier4k.heads.data.interactions import needed_embeddings
from tier4k.heads.data.stages import resolve_stages
from tier4k.heads.data.stores import FeatureStores
from tier4k.heads.data.streams import Streams
from tier4k.heads.protocol.options import DEFAULT_FIT, FitOptions


class FusedFeatures(NamedTuple):
    """The fused vectors of N rows, and the rows.

    Attributes:
        X: (N, d) float32; (N, V, d) where V crops of each image are stored. The columns are those
            of text, image, image prompt, scores and interactions. They are not standardized: most heads do
            that on their training rows.
        streams: The columns of each stream and encoder.
        rows: The rows in the order of X: `rows.name`, `rows.group` (equal for rows that may not be in two
            parts of a split), `rows.generator`, each (N,); `rows.scores(target)`, (N,) in the units of the
            table, NaN where a row has no score; and the features of each encoder before their fusion.
    """

    X: np.ndarray
    streams: Streams
    rows: FeatureSet


def fused_features(
    manifest: Manifest,
    stores: FeatureStores,
    options: FitOptions = DEFAULT_FIT,
) -> FusedFeatures:
    """Return the fused vectors that the heads of a fit read.

    Args:
        manifest: All rows of the data set, from `load_manifest`.
        stores: Stores of features, from `extract_features` or `find_features`.
        options: Options of the fit. Those that choose features are used: method, benchmark, streams, stages,
            templates, and the head's interaction.

    Raises:
        FusionError: The rows do not allow the method, or the method has no such stream.
        InteractionError: The stores lack what the interaction needs.
        StoreError: Features of a row are not stored.
    """
    require_valid_benchmark(options.method, options.rows)
    options = options.for_rows(manifest)
    used = used_streams(options.method, options.streams)
    used_stores = stores.for_streams(used, options.interaction)
    texts: tuple[str, ...] = ()
    if "templates" in needed_embeddings(options.interaction):
        texts = options.templates or read_templates(None).texts
    rows = load_features(
        manifest.select(options.rows),
        used_stores,
        resolve_stages(options.stages, used_stores.image_signatures),
        options.interaction,
        texts,
        needed_inputs(options.method, options.streams, options.interaction),
    )
    fused = interact(fuse(rows, options.method, options.streams), options.interaction)
    return FusedFeatures(fused.X, fused.streams, rows)
