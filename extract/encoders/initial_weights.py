"""Networks whose initial weights are never computed, as those of a file replace them."""

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from torch import nn
from torch.overrides import TorchFunctionMode

# Functions in place that do not change the values of a tensor.
VALUE_PRESERVING = frozenset({"requires_grad_", "detach_", "share_memory_"})


class UndefinedInitialWeights(TorchFunctionMode):
    """While this is entered, in this thread, changes of parameters in place are left out.

    Initialising ViT-L/16 takes seconds, and its weights are replaced at once. Here parameters are memory that
    nothing is written to. All else is computed as ever: tensors that are in no file, such as relative
    positions, masks and rotary tables, get their values from the library's own code. On the meta device they
    would have none. timm computes them again in its newer versions only, and not for all networks.

    Every parameter must be loaded afterwards.
    """

    def __torch_function__(
        self,
        function: Callable[..., Any],
        types: Iterable[type],
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        """Call a function of torch, unless it changes a parameter in place."""
        given = kwargs or {}
        changed = args[0] if args else given.get("tensor")
        if isinstance(changed, nn.Parameter) and _changes_values(getattr(function, "__name__", "")):
            return changed
        return function(*args, **given)


def _changes_values(name: str) -> bool:
    """Return whether torch's function of this name changes its first tensor: `mul_`, but not `__or__`."""
    return name.endswith("_") and not name.endswith("__") and name not in VALUE_PRESERVING
