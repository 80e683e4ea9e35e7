"""Trained parameters of a network: learning rates, training mode, and recomputed activations."""

from typing import Any

from torch import nn
from transformers.modeling_layers import GradientCheckpointingLayer

from tier4k.extract.encoders.image_network import ImageNetwork
from tier4k.extract.encoders.text_network import TextNetwork
from tier4k.heads.finetuning.adapters import adapter_parameters
from tier4k.heads.finetuning.errors import FinetuningError
from tier4k.heads.finetuning.hyperparameters import FinetuningHyperparameters
from tier4k.heads.finetuning.network import TierNetwork


def parameter_groups(
    network: TierNetwork, hyperparameters: FinetuningHyperparameters
) -> list[dict[str, Any]]:
    """Return the optimizer's groups: each trained parameter with its peak learning rate; freeze all others.

    The last layer of an encoder has `learning_rate`, and each layer before it `layer_decay` times the
    learning rate of the next layer.
    """
    network.requires_grad_(False)
    by_learning_rate: dict[float, list[nn.Parameter]] = {}
    for encoder in (network.images, network.texts):
        if isinstance(encoder, ImageNetwork | TextNetwork):
            _collect_layers(encoder, hyperparameters, by_learning_rate)
    groups: list[dict[str, Any]] = []
    for learning_rate, parameters in by_learning_rate.items():
        groups.append({"params": parameters, "rate": learning_rate})
    groups.append({"params": list(network.head.parameters()), "rate": hyperparameters.head_learning_rate})
    for group in groups:
        for parameter in group["params"]:
            parameter.requires_grad_(True)
    return groups


def set_training_mode(network: TierNetwork, hyperparameters: FinetuningHyperparameters) -> None:
    """Put the network into the mode in which it is trained; frozen modules are never in training mode."""
    network.train(hyperparameters.training_mode)
    for module in network.modules():
        if _is_frozen(module):
            module.eval()
        if hyperparameters.recompute and isinstance(module, GradientCheckpointingLayer):
            # Layers of transformers recompute in training mode only; the modules inside a layer keep their
            # mode.
            module.training = True


def recompute_activations(encoder: ImageNetwork | TextNetwork) -> None:
    """Compute the encoder's activations again in the backward pass instead of keeping them.

    Raises:
        FinetuningError: The encoder cannot compute activations again.
    """
    try:
        encoder.recompute_activations()
    except (AssertionError, AttributeError, ValueError) as error:
        raise FinetuningError(
            f"{type(encoder.backbone).__name__} cannot compute activations again: leave out recompute; "
            "to save memory, use micro_batch"
        ) from error


def _collect_layers(
    encoder: ImageNetwork | TextNetwork,
    hyperparameters: FinetuningHyperparameters,
    by_learning_rate: dict[float, list[nn.Parameter]],
) -> None:
    """Add the trained layers of an encoder to the parameters by learning rate, the last layer first."""
    if hyperparameters.recompute:
        recompute_activations(encoder)
    layers = encoder.layers()
    if hyperparameters.rank:
        adapters = adapter_parameters(encoder)
        layers = [[parameter for parameter in layer if parameter in adapters] for layer in layers]
    trained = layers[-(hyperparameters.layers or len(layers)) :]
    for layers_above, layer in enumerate(reversed(trained)):
        learning_rate = hyperparameters.learning_rate * hyperparameters.layer_decay**layers_above
        by_learning_rate.setdefault(learning_rate, []).extend(layer)


def _is_frozen(module: nn.Module) -> bool:
    parameters = list(module.parameters())
    return bool(parameters) and not any(parameter.requires_grad for parameter in parameters)
