"""The networks behind the encoders, as torch modules: the same ones encode for the store and, unfrozen, train end to end."""

import pickle
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

import timm
import torch
import transformers
from safetensors import SafetensorError
from timm.layers.conv2d_same import Conv2dSame
from timm.layers.norm_act import BatchNormAct2d
from timm.models import group_parameters
from torch import Tensor, fx, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval
from transformers import AutoModel, AutoTokenizer

from extract.choices import Precision
from extract.cpu import with_onednn
from extract.levels import Levels
from extract.pictures import Preparation
from extract.presets import timm_config
from extract.weights import WeightsError, load_into

if TYPE_CHECKING:
    from extract.encoders import ImageEncoder, TextEncoder

DTYPES: dict[Precision, torch.dtype] = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}

TEXTS_AT_ONCE = 1024  # that are tokenized together
PACKED_TOKENS = 512  # with more, what is saved on padding is lost on attention between texts

transformers.logging.set_verbosity_error()
transformers.logging.disable_progress_bar()


class ImageNetwork(nn.Module):
    """Prepared pictures (B, 3, H, W) uint8 -> features (B, D) float32.

    Args:
        backbone: A timm network without its classifier.
        preparation: Whose mean and standard deviation are applied.
        levels: The parts of multilevel features; None for the pooled output.
    """

    mean: Tensor
    std: Tensor
    backbone: Any

    def __init__(self, backbone: nn.Module, preparation: Preparation, levels: Levels | None = None) -> None:
        super().__init__()
        self.levels = levels
        # Convolutions run faster with the channels innermost; the numbers stay the same up to rounding.
        self.memory_format = torch.channels_last
        self.backbone = backbone.to(memory_format=self.memory_format)
        self.register_buffer("mean", torch.tensor(preparation.mean).view(1, 3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(preparation.std).view(1, 3, 1, 1), persistent=False)

    @classmethod
    def of(cls, encoder: "ImageEncoder") -> "ImageNetwork":
        """Build and load, in evaluation mode."""
        preset = encoder.preset
        backbone = timm.create_model(preset.architecture, pretrained=False, num_classes=0)
        classifier = str(timm_config(preset.architecture).classifier)
        by_order = preset.package is not None and encoder.weights.sha256 == preset.package.sha256
        load_into(backbone, encoder.weights.path, classifier, by_order)
        if preset.feature == "class-token-before-norm":
            # timm's vision transformers apply `norm` to all tokens and then take the class token; without it, that token is raw.
            backbone.norm = nn.Identity()
        levels = preset.require_levels() if encoder.feature == "multilevel" else None
        return cls(backbone, encoder.preparation, levels).eval()

    def frozen(self, precision: Precision) -> Self:
        """This network made ready for encoding only: batch normalisation folded into convolutions, weights cast once to `precision`."""
        fold_batch_norms(self.backbone)
        self.backbone.to(DTYPES[precision])
        return with_onednn(self).requires_grad_(False)

    def channels_first(self) -> Self:
        """This network with channels outermost, as torch has them unless told otherwise, so that sums are rounded as in published code."""
        self.memory_format = torch.contiguous_format
        self.backbone.to(memory_format=self.memory_format)
        return self

    def layers(self) -> list[list[nn.Parameter]]:
        """The parameters of each stage or block, from the input to the output."""
        parameters = dict(self.backbone.named_parameters())
        groups = group_parameters(self.backbone, self.backbone.group_matcher(coarse=True))
        return [[parameters[name] for name in groups[number]] for number in sorted(groups)]

    def forward(self, pictures: Tensor) -> Tensor:
        """Features of prepared pictures: normalised here, so that only bytes travel to the device."""
        normalised = ((pictures.float() / 255 - self.mean) / self.std).to(next(self.backbone.parameters()).dtype)
        inputs = normalised.contiguous(memory_format=self.memory_format)
        if self.levels is None:
            return self.backbone(inputs).float()
        if "class" in self.levels.statistics:
            return self._token_statistics(inputs, self.levels)
        return self._map_statistics(inputs, self.levels)

    def _map_statistics(self, inputs: Tensor, levels: Levels) -> Tensor:
        """Mean and standard deviation over positions of every stage, and of the map before the classifier where it is a level."""
        last, maps = self.backbone.forward_intermediates(inputs, output_fmt="NCHW")
        maps = [*maps, last] if levels.names[-1] == "head" else maps
        parts = [torch.var_mean(values.float(), dim=(2, 3), correction=0) for values in maps]
        return torch.cat([part for variance, mean in parts for part in (mean, _root(variance))], dim=1)

    def _token_statistics(self, inputs: Tensor, levels: Levels) -> Tensor:
        """Class token, mean and standard deviation of the patch tokens of some blocks."""
        blocks = [int(name.removeprefix("block")) - 1 for name in levels.names]
        tokens = self.backbone.forward_intermediates(
            inputs, indices=blocks, output_fmt="NLC", return_prefix_tokens=True, intermediates_only=True
        )
        parts = []
        for patches, prefix in tokens:
            variance, mean = torch.var_mean(patches.float(), dim=1, correction=0)
            parts += [prefix[:, 0].float(), mean, _root(variance)]
        return torch.cat(parts, dim=1)


def _root(variance: Tensor) -> Tensor:
    """The square root, with slope 0 instead of infinity at 0, where a channel is the same everywhere."""
    positive = variance > 0
    return torch.where(positive, torch.where(positive, variance, 1).sqrt(), 0)


class _Convolutions(fx.Tracer):
    """Follows a network down to its convolutions, batch normalisations and linear layers."""

    def is_leaf_module(self, module: nn.Module, qualified_name: str) -> bool:
        """Whether a module is one step."""
        return isinstance(module, (nn.Conv2d, nn.BatchNorm2d, nn.Linear)) or super().is_leaf_module(module, qualified_name)


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
        if not isinstance(before, fx.Node) or len(before.users) != 1 or {node.op, before.op} != {"call_module"}:
            continue
        if calls[str(node.target)] > 1 or calls[str(before.target)] > 1:
            continue  # shared with another place of the network, where other weights would be wanted
        convolution, normalisation = modules[str(before.target)], modules[str(node.target)]
        # Other subclasses may compute something else, such as convolutions that standardise their weights.
        if type(convolution) in (nn.Conv2d, Conv2dSame) and type(normalisation) in (nn.BatchNorm2d, BatchNormAct2d):
            if normalisation.running_mean is None:
                continue  # it takes mean and variance from the batch
            # timm's normalisations may hold the activation that follows them.
            activation = getattr(normalisation, "act", nn.Identity())
            folded = {convolution: fuse_conv_bn_eval(convolution, normalisation), normalisation: activation}
            for name, module in modules.items():
                if module in folded:
                    network.set_submodule(name, folded[module])


@dataclass(frozen=True)
class TokenBatch:
    """Token numbers and attention mask, both (B, L) int64, padded to the longest text of the batch."""

    ids: Tensor
    mask: Tensor

    def to(self, device: torch.device) -> "TokenBatch":
        """The same on another device."""
        return TokenBatch(self.ids.to(device), self.mask.to(device))


class TextNetwork(nn.Module):
    """Texts -> features (B, D) float32: the last hidden state averaged over the attention mask."""

    backbone: Any

    def __init__(self, backbone: nn.Module, tokenizer: Any, max_tokens: int) -> None:
        super().__init__()
        self.backbone = backbone
        self.tokenizer = tokenizer
        self.max_tokens = max_tokens

    @classmethod
    def of(cls, encoder: "TextEncoder") -> "TextNetwork":
        """Build and load from local files only, in evaluation mode; no code from the folder is run."""
        path = encoder.weights.path
        try:
            tokenizer = load_tokenizer(encoder)
            backbone, loading = AutoModel.from_pretrained(path, local_files_only=True, output_loading_info=True, dtype=torch.float32)
        except pickle.UnpicklingError as error:
            raise WeightsError(
                f"the weights in {path} hold pickled Python objects besides tensors, which could run code, or are damaged; they were not "
                "loaded. Take the files from their authors again, or save the model as safetensors."
            ) from error
        except (SafetensorError, OSError, EOFError, ValueError, RuntimeError, KeyError, ImportError) as error:
            raise WeightsError(f"the text encoder in {path} cannot be loaded: {error}") from error
        # A masked mean reads no pooler; published BERT files bring pre-training heads besides.
        missing = sorted(name for name in loading["missing_keys"] if not name.startswith("pooler."))
        if missing or loading["mismatched_keys"]:
            first = missing[0] if missing else sorted(map(str, loading["mismatched_keys"]))[0]
            count = len(missing) + len(loading["mismatched_keys"])
            raise WeightsError(
                f"the weights in {path} do not fit its config.json: {count} tensors are missing or of another shape, first "
                f"{first!r}; take both files from one download"
            )
        positions = getattr(backbone.config, "max_position_embeddings", encoder.max_tokens)
        return cls(backbone, tokenizer, min(encoder.max_tokens, positions)).eval()

    def frozen(self, precision: Precision) -> Self:
        """This network made ready for encoding only: its weights are cast once to `precision`."""
        self.backbone.to(DTYPES[precision])
        return with_onednn(self).requires_grad_(False)

    def layers(self) -> list[list[nn.Parameter]]:
        """The parameters of the embeddings, then of each block. Not those of a pooler, which a masked mean does not read."""
        groups: dict[int, list[nn.Parameter]] = {}
        for name, parameter in self.backbone.named_parameters():
            block = re.search(r"(?:^|\.)(?:layer|layers|block|h)\.(\d+)\.", name)
            if not name.startswith("pooler."):
                groups.setdefault(int(block.group(1)) + 1 if block else 0, []).append(parameter)
        return [groups[number] for number in sorted(groups)]

    def token_counts(self, texts: Sequence[str]) -> list[int]:
        """Number of tokens of each text before truncation, with the special ones."""
        # In parts: besides its numbers, the tokenizer keeps kilobytes of each text until the call ends.
        parts = (list(texts[start : start + TEXTS_AT_ONCE]) for start in range(0, len(texts), TEXTS_AT_ONCE))
        return [len(ids) for part in parts for ids in self.tokenizer(part, truncation=False, verbose=False)["input_ids"]]

    def tokenize(self, texts: Sequence[str]) -> TokenBatch:
        """Token numbers of texts, truncated at `max_tokens` and padded to the longest."""
        batch = self.tokenizer(list(texts), truncation=True, max_length=self.max_tokens, padding=True, return_tensors="pt")
        return TokenBatch(batch["input_ids"], batch["attention_mask"])

    def forward(self, batch: TokenBatch) -> Tensor:
        """Features of tokenized texts."""
        hidden = self._hidden_states(batch).float()
        mask = batch.mask.unsqueeze(-1).to(hidden.dtype)
        return (hidden * mask).sum(1) / mask.sum(1)

    def _hidden_states(self, batch: TokenBatch) -> Tensor:
        """The last hidden states (B, L, D) of texts.

        In training BERT is given the texts of a batch end to end as one, each of whose tokens attends to its own text only: a batch has
        few texts, of unlike lengths, and half of what is computed would be padding. What is stored is computed as it always was.
        """
        real, config = batch.mask.bool(), self.backbone.config
        plain = config.model_type == "bert" and not config.is_decoder and config._attn_implementation == "sdpa"
        if not plain or not torch.is_grad_enabled() or real.all() or real.sum() > PACKED_TOKENS:
            return self.backbone(input_ids=batch.ids, attention_mask=batch.mask).last_hidden_state
        text, position = real.nonzero(as_tuple=True)
        same = (text[:, None] == text)[None, None]
        packed = self.backbone(input_ids=batch.ids[real][None], position_ids=position[None], attention_mask=same).last_hidden_state[0]
        return packed.new_zeros(*real.shape, packed.shape[1]).index_put((text, position), packed)


def load_tokenizer(encoder: "TextEncoder") -> Any:
    """The tokenizer alone, from local files."""
    return AutoTokenizer.from_pretrained(encoder.weights.path, local_files_only=True)
