"""Batch norms folded into the convolutions before them."""

from collections import Counter

from timm.layers.conv2d_same import Conv2dSame
from timm.layers.norm_act import BatchNormAct2d
from torch import fx, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval


class _Convolutions(fx.Tracer):
    """Follows a network down to its convolutions, batch normalisations and linear layers."""

    def is_leaf_module(self, module: nn.Module, qualified_name: str) -> bool:
        """Whether a module is one step."""
        return isinstance(module, (nn.Conv2d, nn.BatchNorm2d, nn.Linear)) or super().is_leaf_module(
            module, qualified_name
        )


def fold_batch_norms(network: nn.Module) -> None:
    """Fold every batch normalisation that directly follows a convolution into it, in place; for evaluation only.

    W' = W g / sqrt(v + e) and b' = (b - m) g / sqrt(v + e) + c, for weights W, b, running mean m and variance v, scale g and shift c
    (Jacob et al., CVPR 2018, 3.2). A network whose course depends on its input cannot be followed and stays as it is.
    """
    try:
        nodes = list(_Convolutions().trace(network).nodes)
    except Exception:  # whatever a network's own code raises when it is given a symbol
        return
    # One module may be reached by several names; fx uses the first.
    modules = dict(network.named_modules(remove_duplicate=False))
    calls = Counter(str(node.target) for node in nodes)
    for node in nodes:
        before = node.args[0] if node.args else None
        if (
            not isinstance(before, fx.Node)
            or len(before.users) != 1
            or {node.op, before.op} != {"call_module"}
        ):
            continue
        if calls[str(node.target)] > 1 or calls[str(before.target)] > 1:
            continue  # shared with another place of the network, where other weights would be wanted
        convolution, normalisation = modules[str(before.target)], modules[str(node.target)]
        # Other subclasses may compute something else, such as convolutions that standardise their weights.
        if type(convolution) in (nn.Conv2d, Conv2dSame) and type(normalisation) in (
            nn.BatchNorm2d,
            BatchNormAct2d,
        ):
            if normalisation.running_mean is None:
                continue  # it takes mean and variance from the batch
            # timm's normalisations may hold the activation that follows them.
            activation = getattr(normalisation, "act", nn.Identity())
            folded = {convolution: fuse_conv_bn_eval(convolution, normalisation), normalisation: activation}
            for name, module in modules.items():
                if module in folded:
                    network.set_submodule(name, folded[module])
