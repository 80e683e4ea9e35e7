"""TIER end to end: the encoders of stage 1 and the head in one network, and the batches that it is trained on."""

import numpy as np
import torch
from accelerate import Accelerator
from torch import Tensor, nn

from tier4k.extract.encoders.image_network import ImageNetwork
from tier4k.extract.encoders.text_network import TextNetwork
from tier4k.extract.images.memory_map import DecodedImages
from tier4k.heads.data.choices import Method
from tier4k.heads.data.fusion import image_parts
from tier4k.heads.finetuning.batches import Batch, Batches, prefetched, stack_by_shape
from tier4k.heads.regressors.mlp.stack import HeadNetwork

EVALUATION_BATCH = 32  # pictures or prompts that are encoded together where nothing is learnt


class TierNetwork(nn.Module):
    """Batches -> scores (B,).

    Args:
        images: Encoder of pictures; `nn.Identity` where it is frozen and its features are the input.
        texts: Encoder of prompts; the same.
        head: TIER's two layers.
        method: What is fused.
        half: Whether the encoders multiply in bfloat16; fusion and head never do.
    """

    def __init__(
        self,
        images: ImageNetwork | nn.Identity,
        texts: TextNetwork | nn.Identity,
        head: HeadNetwork,
        method: Method,
        half: bool = False,
    ) -> None:
        super().__init__()
        self.images, self.texts, self.head = images, texts, head
        self.method, self.in_half = method, half

    def forward(self, batch: Batch) -> Tensor:
        """Scores of a batch."""
        with torch.autocast(batch.image.device.type, torch.bfloat16, enabled=self.in_half):
            pictures = torch.cat([self.images(part) for part in batch.pictures])
            texts = self.texts(batch.tokens)
        # An embedding, as its slopes are summed in the same order every time.
        image, image_prompt, text = (
            nn.functional.embedding(numbers, features.float())
            for numbers, features in (
                (batch.image, pictures),
                (batch.image_prompt, pictures),
                (batch.text, texts),
            )
        )
        return self.head(torch.cat([text, *image_parts(self.method, image, image_prompt)], dim=1))


@torch.inference_mode()
def fused_rows(
    images: nn.Module, texts: nn.Module, batches: Batches, numbers: np.ndarray, accelerator: Accelerator
) -> np.ndarray:
    """Fused vectors (n, d) float32 of some rows, of their centre views, in evaluation mode; several processes share the work."""
    rows, device = batches.rows, accelerator.device
    image, prompt, text = rows.image[numbers], rows.image_prompt[numbers], rows.text[numbers]
    prompt = np.where((prompt >= 0) & (batches.method != "nr"), prompt, image)
    pictures, prompts = batches.pictures, batches.texts
    if isinstance(pictures, DecodedImages):
        pictures = image_features(images, pictures, np.unique(np.concatenate([image, prompt])), accelerator)
    if isinstance(prompts, TextNetwork):
        prompts = text_features(texts, prompts, rows.texts, np.unique(text), device)
    parts = [prompts[text], *image_parts(batches.method, pictures[image], pictures[prompt])]
    return torch.cat(parts, dim=1).numpy()


@torch.inference_mode()
def image_features(
    images: nn.Module, pictures: DecodedImages, wanted: np.ndarray, accelerator: Accelerator
) -> Tensor:
    """Features (P, D) float32 of the wanted pictures' centre views, zero for all others; each process encodes its share."""
    mine, device = wanted[accelerator.process_index :: accelerator.num_processes], accelerator.device
    some = mine if len(mine) else wanted[:1]  # every process must know how wide the features are
    chunks = [some[start : start + EVALUATION_BATCH] for start in range(0, len(some), EVALUATION_BATCH)]
    out = torch.empty(0)
    stacked = (stack_by_shape([pictures.centre(number) for number in chunk]) for chunk in chunks)
    for chunk, (stacks, place) in zip(chunks, prefetched(stacked), strict=True):
        features = torch.cat([images(stack.to(device)) for stack in stacks])
        out = out if len(out) else torch.zeros(len(pictures), features.shape[1], device=device)
        out[torch.from_numpy(chunk).to(device)] = features[torch.from_numpy(place).to(device)]
    return accelerator.reduce(out if len(mine) else torch.zeros_like(out), "sum").cpu()


@torch.inference_mode()
def text_features(
    texts: nn.Module, tokenizer: TextNetwork, prompts: list[str], wanted: np.ndarray, device: torch.device
) -> Tensor:
    """Features (T, D) float32 of the wanted prompts, zero for all others. Prompts are few: every process encodes them all."""
    out = torch.empty(0)
    for start in range(0, len(wanted), EVALUATION_BATCH):
        chunk = wanted[start : start + EVALUATION_BATCH]
        features = texts(tokenizer.tokenize([prompts[number] for number in chunk]).to(device)).cpu()
        out = out if len(out) else torch.zeros(len(prompts), features.shape[1])
        out[torch.from_numpy(chunk)] = features
    return out
