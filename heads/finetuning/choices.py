"""Values of the options of end-to-end training. This module imports nothing, so that the
program shows its help at once."""

from typing import Literal

FinetunedPart = Literal["none", "image", "text", "all"]
"""The encoders that are trained with the head; other values are "last:N", "lora" and "lora:R"."""

Device = Literal["auto", "cpu"]
