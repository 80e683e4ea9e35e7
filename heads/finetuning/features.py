"""Features and fused vectors of rows, in evaluation mode, by encoders in any state of training."""

from collections.abc import Iterator, Sequence

import numpy as np
import torch
from accelerate import Accelerator
from torch import Tensor, nn

from tier4k.extract.encoders.text_network import TextNetwork
from tier4k.extract.images.memory_map import DecodedImages
from tier4k.heads.data.fusion import image_parts
from tier4k.heads.finetuning.batches import Batches, prefetched, stack_by_shape

EVALUATION_BATCH = 32  # images or prompts that are encoded together without gradients


@torch.inference_mode()
def fused_rows(
    images: nn.Module,
    texts: nn.Module,
    batches: Batches,
    numbers: np.ndarray,
    accelerator: Accelerator,
) -> np.ndarray:
    """Return fused vectors (n, d) float32 of some rows; several processes share the work.

    Args:
        images: Encoder of images, applied to centre crops; not used where the batches hold features.
        texts: Encoder of prompts; the same.
        batches: The rows, their images and prompts.
        numbers: Numbers (n,) of the rows.
        accelerator: Of this process.
    """
    rows = batches.rows
    image = rows.image[numbers]
    prompt = rows.image_prompt[numbers]
    text = rows.text[numbers]
    has_prompt = (prompt >= 0) & (batches.method != "nr")
    prompt = np.where(has_prompt, prompt, image)
    of_images = batches.images
    of_texts = batches.texts
    if isinstance(of_images, DecodedImages):
        wanted = np.unique(np.concatenate([image, prompt]))
        of_images = image_features(images, of_images, wanted, accelerator)
    if isinstance(of_texts, TextNetwork):
        of_texts = text_features(texts, of_texts, rows.texts, np.unique(text), accelerator.device)
    parts = [of_texts[text], *image_parts(batches.method, of_images[image], of_images[prompt])]
    return torch.cat(parts, dim=1).numpy()


@torch.inference_mode()
def image_features(
    encoder: nn.Module,
    images: DecodedImages,
    wanted: np.ndarray,
    accelerator: Accelerator,
) -> Tensor:
    """Return features (P, D) float32 of the wanted images' centre crops, zero for all others.

    Each process encodes its share, and all of them return the same.
    """
    device = accelerator.device
    mine = wanted[accelerator.process_index :: accelerator.num_processes]
    # A process without a share encodes one image, as every process needs the width of the features.
    encoded = mine if len(mine) else wanted[:1]
    chunks = [encoded[start : start + EVALUATION_BATCH] for start in range(0, len(encoded), EVALUATION_BATCH)]
    stacked_chunks = prefetched(_stacked_crops(images, chunks))
    out = torch.empty(0)
    for chunk, (stacks, places) in zip(chunks, stacked_chunks, strict=True):
        features = torch.cat([encoder(stack.to(device)) for stack in stacks])
        if not len(out):
            out = torch.zeros(len(images), features.shape[1], device=device)
        out[torch.from_numpy(chunk).to(device)] = features[torch.from_numpy(places).to(device)]
    if not len(mine):
        out = torch.zeros_like(out)
    return accelerator.reduce(out, "sum").cpu()


@torch.inference_mode()
def text_features(
    encoder: nn.Module,
    tokenizer: TextNetwork,
    prompts: list[str],
    wanted: np.ndarray,
    device: torch.device,
) -> Tensor:
    """Return features (T, D) float32 of the wanted prompts, zero for all others.

    Prompts are few: every process encodes all of them.
    """
    out = torch.empty(0)
    for start in range(0, len(wanted), EVALUATION_BATCH):
        chunk = wanted[start : start + EVALUATION_BATCH]
        tokens = tokenizer.tokenize([prompts[number] for number in chunk])
        features = encoder(tokens.to(device)).cpu()
        if not len(out):
            out = torch.zeros(len(prompts), features.shape[1])
        out[torch.from_numpy(chunk)] = features
    return out


def _stacked_crops(
    images: DecodedImages, chunks: Sequence[np.ndarray]
) -> Iterator[tuple[list[Tensor], np.ndarray]]:
    for chunk in chunks:
        crops = [images.centre(number) for number in chunk]
        yield stack_by_shape(crops)
