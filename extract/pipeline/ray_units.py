"""Units on their way through the stages of an extraction with Ray: cut, read, encoded, published.

A stage is a function, or an actor, from a block to a block. Ray decides where and when it runs, and runs it
again where a process or a machine is lost. Each row of a block is one unit, and a block has one row, but for
units that are published together. So a unit is read, encoded and published whole, and its bytes do not depend
on what Ray decides.

Each stage has a module of its own: a process that reads does not load the libraries of networks.
"""

from dataclasses import dataclass

import numpy as np

from tier4k.extract.pipeline.chunks import Chunk
from tier4k.extract.pipeline.listener import FailedUnit, UnreadableImage
from tier4k.extract.pipeline.ray_attempts import Fatal, GaveUp
from tier4k.extract.pipeline.units import Unit


@dataclass(frozen=True)
class NumberedUnit:
    """A unit, and its number among the units of the extraction."""

    number: int
    unit: Unit


@dataclass(frozen=True)
class ReadUnit:
    """A unit, and its inputs as they were read."""

    number: int
    unit: Unit
    chunk: Chunk


@dataclass(frozen=True)
class EncodedUnit:
    """The features of a unit.

    Attributes:
        number: Number of the unit.
        unit: The unit.
        features: For each batch of each encoder: the encoder's index, keys (n, 32) and features (n, ...).
        unreadable: Images that were left out.
        seconds: Time of the encoding.
        batch_sizes: Current batch size of each encoder.
    """

    number: int
    unit: Unit
    features: list[tuple[int, np.ndarray, np.ndarray]]
    unreadable: tuple[UnreadableImage, ...]
    seconds: float
    batch_sizes: tuple[int, ...]


@dataclass(frozen=True)
class PublishedUnit:
    """A unit whose features are stored, or that had none.

    Attributes:
        inputs: Number of inputs, those that were left out included.
        encoded: Number of inputs that each encoder encoded.
        unreadable: Images that were left out.
        seconds: Time of the encoding.
        batch_sizes: Current batch size of each encoder.
    """

    inputs: int
    encoded: tuple[int, ...]
    unreadable: tuple[UnreadableImage, ...]
    seconds: float
    batch_sizes: tuple[int, ...]


def failure(problem: Fatal | GaveUp, unit: Unit) -> Fatal | FailedUnit:
    """Return what the next stages get for a unit that could not be read, encoded or published."""
    if isinstance(problem, Fatal):
        return problem
    return FailedUnit(unit.images or unit.texts, len(unit), problem.reason)
