"""Score AI-generated images as people do: extract features once, fit TIER heads on them in seconds.

`load` gives the metric object of a run or of an exported model; `fit_head` fits heads on stored features:

    import tier4k

    metric = tier4k.load("runs/ID", target="MOS_q")
    score = metric.score("image.png", "its text prompt")

    manifest = tier4k.load_manifest(Path("Dataset")).manifest
    images, texts = tier4k.find_stores(Path("features"), [tier4k.ImageChoice()], ["minilm"])
    stores = tier4k.FeatureStores.of(images, texts)
    run = tier4k.fit_head(manifest, stores, tier4k.FitOptions(method="nr"), Path("runs"))

`tier4k.extract`, `tier4k.heads` and `tier4k.cache` are the sub-packages.
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tier4k.cache.errors import TierError as TierError
    from tier4k.extract.datasets.check import load_manifest as load_manifest
    from tier4k.extract.encoders.image_choice import ImageChoice as ImageChoice
    from tier4k.extract.stores.find import find_stores as find_stores
    from tier4k.heads.data.stores import FeatureStores as FeatureStores
    from tier4k.heads.inference.metric import Metric as Metric
    from tier4k.heads.inference.metric import load as load
    from tier4k.heads.protocol.fit import fit_head as fit_head
    from tier4k.heads.protocol.options import FitOptions as FitOptions

_MODULE_OF = {
    "FeatureStores": "tier4k.heads.data.stores",
    "FitOptions": "tier4k.heads.protocol.options",
    "ImageChoice": "tier4k.extract.encoders.image_choice",
    "Metric": "tier4k.heads.inference.metric",
    "TierError": "tier4k.cache.errors",
    "find_stores": "tier4k.extract.stores.find",
    "fit_head": "tier4k.heads.protocol.fit",
    "load": "tier4k.heads.inference.metric",
    "load_manifest": "tier4k.extract.datasets.check",
}

__all__ = [
    "FeatureStores",
    "FitOptions",
    "ImageChoice",
    "Metric",
    "TierError",
    "find_stores",
    "fit_head",
    "load",
    "load_manifest",
]


def __getattr__(name: str) -> object:
    """Import a public name on first use, so that help shows before torch is imported."""
    if name not in _MODULE_OF:
        raise AttributeError(f"module 'tier4k' has no attribute {name!r}")
    return getattr(import_module(_MODULE_OF[name]), name)
