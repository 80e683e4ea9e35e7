"""Stage 2: stored features become fused vectors, heads, honest figures and a run that can be shown.

`from heads import load` gives the metric object of a run or of an exported model (see `heads.scoring`).
"""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from heads.scoring import Metric as Metric
    from heads.scoring import load as load


def __getattr__(name: str) -> object:
    # Not imported at once: whoever wants only the words of `heads.choices` should not wait for torch.
    if name in ("Metric", "load"):
        from heads import scoring

        return getattr(scoring, name)
    raise AttributeError(f"module 'heads' has no attribute {name!r}")
