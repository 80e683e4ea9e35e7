"""Score AI-generated images as people do: extract features once, fit TIER heads on them in seconds.

`tier4k.load` gives the metric object of a run or of an exported model.
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tier4k.heads.inference.metric import Metric as Metric
    from tier4k.heads.inference.metric import load as load

_MODULE_OF = {"Metric": "tier4k.heads.inference.metric", "load": "tier4k.heads.inference.metric"}

__all__ = ["Metric", "load"]


def __getattr__(name: str) -> object:
    """Import a public name on first use: whoever asks for help should not wait for torch."""
    if name not in _MODULE_OF:
        raise AttributeError(f"module 'tier4k' has no attribute {name!r}")
    return getattr(import_module(_MODULE_OF[name]), name)
