"""Features and fused vectors of rows, in evaluation mode, by encoders in any state of training."""

from collections.abc import Iterator, Sequence

import numpy as np
import torch
from accelerate import Accelerator
from torch import Tensor, nn

from tier4k.extract.encoders.text_network import TextNetwork
from tier4k.extract.images.memory_map import DecodedImages
from tier4k.heads.data.fusion import fused_parts
from tier4k.heads.finetuning.batches import Batches, pinned, prefetched, stack_by_shape

EVALUATION_BATCH = 32  # images or prompts that are encoded together without gradients


@torch.inference_mode()
def fused_rows(
    images: nn.Module,
    texts: nn.Module,
    batches: Batches,
    numbers: np.ndarray,
    accelerator: Accelerator,
) -> np.ndarray:
    """Return fused vectors (n, d) float32 of the given rows; several processes share the work.

    Args:
        images: Encoder of images, applied to centre crops; not used where the batches contain image features.
        texts: Encoder of prompts; not used where the batches contain text features.
        batches: The rows with their images and prompts.
        numbers: Numbers (n,) of the rows.
        accelerator: The accelerator of this process.
    """
    rows = batches.rows
    image = rows.image[numbers]
    prompt = rows.image_prompt[numbers]
    text = rows.text[numbers]
    has_prompt = (prompt >= 0) & (batches.method != "nr")
    prompt = np.where(has_prompt, prompt, image)
    encoded_images = batches.images
    encoded_texts = batches.texts
    if isinstance(encoded_images, DecodedImages):
        used_images = np.unique(np.concatenate([image, prompt]))
        encoded_images = image_features(images, encoded_images, used_images, accelerator)
    if isinstance(encoded_texts, TextNetwork):
        encoded_texts = text_features(texts, encoded_texts, rows.texts, np.unique(text), accelerator.device)
    parts = fused_parts(
        batches.method,
        batches.streams,
        None if encoded_texts is None else encoded_texts[text],
        None if encoded_images is None else encoded_images[image],
        None if encoded_images is None else encoded_images[prompt],
    )
    return torch.cat(parts, dim=1).numpy()


@torch.inference_mode()
def image_features(
    encoder: nn.Module,
    images: DecodedImages,
    numbers: np.ndarray,
    accelerator: Accelerator,
) -> Tensor:
    """Return features (P, D) float32 of the centre crops of the numbered images, zero for all other images.

    Each process encodes its share, and all processes return the same features.
    """
    device = accelerator.device
    own_images = numbers[accelerator.process_index :: accelerator.num_processes]
    # A process without a share encodes one image, as every process needs the width of the features.
    encoded = own_images if len(own_images) else numbers[:1]
    chunks = [encoded[start : start + EVALUATION_BATCH] for start in range(0, len(encoded), EVALUATION_BATCH)]
    features: list[Tensor] = []
    order: list[Tensor] = []
    for stacks, numbers_of_stacks in prefetched(_stacked_crops(images, chunks, device)):
        features.extend(encoder(stack.to(device, non_blocking=True)) for stack in stacks)
        order.append(numbers_of_stacks)
    encoded_features = torch.cat(features)
    out = torch.zeros(len(images), encoded_features.shape[1], device=device)
    if len(own_images):
        out[torch.cat(order).to(device)] = encoded_features
    return accelerator.reduce(out, "sum").cpu()


@torch.inference_mode()
def text_features(
    encoder: nn.Module,
    tokenizer: TextNetwork,
    prompts: list[str],
    numbers: np.ndarray,
    device: torch.device,
) -> Tensor:
    """Return features (T, D) float32 of the prompts with the given numbers, zero for all others.

    Prompts are few: every process encodes all of them.
    """
    features: list[Tensor] = []
    for start in range(0, len(numbers), EVALUATION_BATCH):
        chunk = numbers[start : start + EVALUATION_BATCH]
        tokens = tokenizer.tokenize([prompts[number] for number in chunk])
        features.append(encoder(pinned(tokens, device).to(device)))
    encoded = torch.cat(features).cpu()
    out = torch.zeros(len(prompts), encoded.shape[1])
    out[torch.from_numpy(numbers)] = encoded
    return out


def _stacked_crops(
    images: DecodedImages,
    chunks: Sequence[np.ndarray],
    device: torch.device,
) -> Iterator[tuple[list[Tensor], Tensor]]:
    """Yield the stacks of equally large crops of each chunk, and the images' numbers in this order."""
    for chunk in chunks:
        stacks, places = stack_by_shape([images.centre(number) for number in chunk])
        yield [pinned(stack, device) for stack in stacks], torch.from_numpy(chunk[np.argsort(places)])
