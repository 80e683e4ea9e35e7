"""The cell that small sweeps start from."""

from tier4k.extract.encoders.image_choice import ImageChoice
from tier4k.heads.data.encoder_choice import EncoderChoice
from tier4k.heads.protocol.options import FitOptions
from tier4k.heads.sweeps.grid import Cell

BASE = Cell(
    EncoderChoice((ImageChoice("resnet18"),), ("bert-base-uncased",)),
    FitOptions(repeats=1, estimator="ridge", split="random", models="none"),
)
