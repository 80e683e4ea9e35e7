"""Batch normalisations folded into the convolutions before them."""

from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any

from timm.layers.conv2d_same import Conv2dSame
from timm.layers.norm_act import BatchNormAct2d
from torch import fx, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

# Other subclasses may compute something else: for example, some convolutions standardise their weights.
CONVOLUTIONS = (nn.Conv2d, Conv2dSame)
NORMALISATIONS = (nn.BatchNorm2d, BatchNormAct2d)


class _Tracer(fx.Tracer):
    """Traces a network down to its convolutions, batch normalisations and linear layers."""

    def is_leaf_module(self, module: nn.Module, qualified_name: str) -> bool:
        """Return whether a module is one step of the graph."""
        if isinstance(module, (nn.Conv2d, nn.BatchNorm2d, nn.Linear)):
            return True
        return super().is_leaf_module(module, qualified_name)


def has_batch_norms(network: nn.Module) -> bool:
    """Return whether a network has batch normalisations of the kinds that are folded."""
    return any(isinstance(module, NORMALISATIONS) for module in network.modules())


def fold_batch_norms(network: nn.Module) -> bool:
    """Fold batch normalisations into the convolutions directly before them, in place, for evaluation only.

    W' = W g / sqrt(v + e) and b' = (b - m) g / sqrt(v + e) + c, for weights W, b, running mean m and variance
    v, scale g and shift c (Jacob et al., CVPR 2018, 3.2). A network whose path depends on its input cannot be
    traced and stays unchanged.

    Returns:
        Whether a batch normalisation was folded.
    """
    try:
        nodes = list(_Tracer().trace(network).nodes)
    except Exception:  # the code of a network may raise any error when its input is a symbol
        return False
    changed = False
    # One module may have several names; fx uses the first.
    modules = dict(network.named_modules(remove_duplicate=False))
    for convolution_name, normalisation_name in _pairs(nodes):
        convolution = modules[convolution_name]
        normalisation = modules[normalisation_name]
        if type(convolution) not in CONVOLUTIONS or type(normalisation) not in NORMALISATIONS:
            continue
        if normalisation.running_mean is None:
            continue  # mean and variance come from the batch
        _fold(network, modules, convolution, normalisation)
        changed = True
    return changed


def _pairs(nodes: list[fx.Node]) -> Iterator[tuple[str, str]]:
    """Yield the names of modules that directly follow each other and occur once in the network."""
    calls = Counter(str(node.target) for node in nodes)
    for node in nodes:
        previous_node = node.args[0] if node.args else None
        if not isinstance(previous_node, fx.Node) or len(previous_node.users) != 1:
            continue
        if node.op != "call_module" or previous_node.op != "call_module":
            continue
        names = (str(previous_node.target), str(node.target))
        if all(calls[name] == 1 for name in names):
            yield names


def _fold(
    network: nn.Module,
    modules: Mapping[str, nn.Module],
    convolution: Any,
    normalisation: Any,
) -> None:
    """Replace a convolution and its normalisation by a folded convolution and the activation."""
    # timm's normalisations may contain the activation that follows.
    activation = normalisation.act if isinstance(normalisation, BatchNormAct2d) else nn.Identity()
    replacements = {convolution: fuse_conv_bn_eval(convolution, normalisation), normalisation: activation}
    for name, module in modules.items():
        if module in replacements:
            network.set_submodule(name, replacements[module])
