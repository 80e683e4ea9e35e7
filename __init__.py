"""Score AI-generated images as people do: extract features once, fit TIER heads on them in seconds.

    import tier4k

    manifest = tier4k.load_manifest("Dataset")
    stores = tier4k.extract_features("Dataset", image_encoder="clip", text_encoder="minilm")
    run = tier4k.fit_head(manifest, stores, tier4k.FitOptions(estimator="ridge"), "runs")
    print(run.summary("MOS_q", "srcc").mean, run.predictions.head())

    metric = tier4k.load(run, target="MOS_q")
    score = metric.score("image.png", "its text prompt")

    reward = tier4k.reward(run, target="MOS_q")
    scores = reward(images=images, prompts=prompts)  # tensors, for the training of generators

The commands of `tier` call these functions. docs/python.md has examples, `help` of each name its arguments,
shapes, units and errors. Names are imported on first use. `tier4k.extract`, `tier4k.heads` and `tier4k.cache`
are the sub-packages.
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tier4k.cache.errors import TierError as TierError
    from tier4k.extract.datasets.layouts.layout import Layout as Layout
    from tier4k.extract.datasets.manifest import Manifest as Manifest
    from tier4k.extract.datasets.table_choice import TableChoice as TableChoice
    from tier4k.extract.encoders.function import ImageEncoderFunction as ImageEncoderFunction
    from tier4k.extract.encoders.image_choice import ImageChoice as ImageChoice
    from tier4k.extract.images.preprocessing import image_preprocessing as image_preprocessing
    from tier4k.extract.pipeline.options import ExtractionOptions as ExtractionOptions
    from tier4k.heads.data.find_features import find_features as find_features
    from tier4k.heads.data.stores import FeatureStores as FeatureStores
    from tier4k.heads.encoders.pair import EncoderPair as EncoderPair
    from tier4k.heads.extraction.data import load_manifest as load_manifest
    from tier4k.heads.extraction.extract import extract_features as extract_features
    from tier4k.heads.finetuning.finetune import finetune as finetune
    from tier4k.heads.inference.metric import Metric as Metric
    from tier4k.heads.inference.metric import load as load
    from tier4k.heads.inference.reward import Reward as Reward
    from tier4k.heads.inference.reward import reward as reward
    from tier4k.heads.protocol.fit import fit_head as fit_head
    from tier4k.heads.protocol.fused import fused_features as fused_features
    from tier4k.heads.protocol.options import FitOptions as FitOptions
    from tier4k.heads.protocol.presets import PRESETS as PRESETS
    from tier4k.heads.reporting.html.page import write_report as write_report
    from tier4k.heads.reporting.plots.plot import plot as plot
    from tier4k.heads.reporting.tidy import tidy as tidy
    from tier4k.heads.results.run import Run as Run
    from tier4k.heads.results.run import read_run as read_run
    from tier4k.heads.sweeps.search import Search as Search
    from tier4k.heads.sweeps.search import search as search
    from tier4k.heads.sweeps.sweep import sweep as sweep

_MODULE_OF = {
    "EncoderPair": "tier4k.heads.encoders.pair",
    "PRESETS": "tier4k.heads.protocol.presets",
    "ExtractionOptions": "tier4k.extract.pipeline.options",
    "FeatureStores": "tier4k.heads.data.stores",
    "FitOptions": "tier4k.heads.protocol.options",
    "ImageChoice": "tier4k.extract.encoders.image_choice",
    "ImageEncoderFunction": "tier4k.extract.encoders.function",
    "Layout": "tier4k.extract.datasets.layouts.layout",
    "Manifest": "tier4k.extract.datasets.manifest",
    "Metric": "tier4k.heads.inference.metric",
    "Reward": "tier4k.heads.inference.reward",
    "Run": "tier4k.heads.results.run",
    "Search": "tier4k.heads.sweeps.search",
    "TableChoice": "tier4k.extract.datasets.table_choice",
    "TierError": "tier4k.cache.errors",
    "extract_features": "tier4k.heads.extraction.extract",
    "find_features": "tier4k.heads.data.find_features",
    "finetune": "tier4k.heads.finetuning.finetune",
    "fit_head": "tier4k.heads.protocol.fit",
    "fused_features": "tier4k.heads.protocol.fused",
    "image_preprocessing": "tier4k.extract.images.preprocessing",
    "load": "tier4k.heads.inference.metric",
    "load_manifest": "tier4k.heads.extraction.data",
    "plot": "tier4k.heads.reporting.plots.plot",
    "read_run": "tier4k.heads.results.run",
    "reward": "tier4k.heads.inference.reward",
    "search": "tier4k.heads.sweeps.search",
    "sweep": "tier4k.heads.sweeps.sweep",
    "tidy": "tier4k.heads.reporting.tidy",
    "write_report": "tier4k.heads.reporting.html.page",
}

__all__ = [
    "PRESETS",
    "EncoderPair",
    "ExtractionOptions",
    "FeatureStores",
    "FitOptions",
    "ImageChoice",
    "ImageEncoderFunction",
    "Layout",
    "Manifest",
    "Metric",
    "Reward",
    "Run",
    "Search",
    "TableChoice",
    "TierError",
    "extract_features",
    "find_features",
    "finetune",
    "fit_head",
    "fused_features",
    "image_preprocessing",
    "load",
    "load_manifest",
    "plot",
    "read_run",
    "reward",
    "search",
    "sweep",
    "tidy",
    "write_report",
]


def __getattr__(name: str) -> object:
    """Import a public name on first use, so that help shows before torch is imported."""
    if name not in _MODULE_OF:
        raise AttributeError(f"module 'tier4k' has no attribute {name!r}")
    return getattr(import_module(_MODULE_OF[name]), name)


def __dir__() -> list[str]:
    """Return the public names, also those that were not used yet."""
    return [*__all__]
