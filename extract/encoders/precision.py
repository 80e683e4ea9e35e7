"""The data types of networks."""

import torch

from tier4k.extract.encoders.choices import Precision

DTYPES: dict[Precision, torch.dtype] = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
