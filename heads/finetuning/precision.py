"""The arithmetic of the encoders in training."""

import torch

# The types of products beside float32 weights; other precisions multiply in float32.
AUTOCAST: dict[str, torch.dtype] = {"bf16": torch.bfloat16, "fp16": torch.float16}
