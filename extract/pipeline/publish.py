"""Publishing: a thread writes features to stores while the next ones are encoded."""

from collections import deque
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from types import TracebackType
from typing import Self

import numpy as np
import torch
from torch import Tensor

from tier4k.cache.store import FeatureStore

MOST_WAITING = 2  # arrays of features that may wait for the thread


class HostFeatures:
    """Features on their way from the device to the memory of the machine.

    Args:
        features: (n, ...) on any device, perhaps not computed yet.
    """

    def __init__(self, features: Tensor) -> None:
        self._event: torch.cuda.Event | None = None
        if features.device.type != "cuda":
            self._host = features.cpu()
            return
        self._host = torch.empty(features.shape, dtype=features.dtype, pin_memory=True)
        self._host.copy_(features, non_blocking=True)
        self._event = torch.cuda.Event()
        self._event.record()

    def array(self) -> np.ndarray:
        """Wait for the features, and return them."""
        if self._event:
            self._event.synchronize()
        return self._host.numpy()


@dataclass(frozen=True)
class EncodedInputs:
    """Features of inputs that the device may still be computing.

    Attributes:
        encoder: Index of the encoder.
        keys: (n, 32) uint8.
        features: Their features.
    """

    encoder: int
    keys: np.ndarray
    features: HostFeatures


class Publisher:
    """A context whose thread adds features to stores. Its end publishes all features, also after an error.

    Args:
        stores: The stores.
        shard_rows: Largest number of rows collected before a shard is published.
    """

    def __init__(self, stores: Sequence[FeatureStore], shard_rows: int) -> None:
        self._stores = stores
        self._shard_rows = shard_rows

    def __enter__(self) -> Self:
        self._thread = ThreadPoolExecutor(1, "publish")
        self._waiting: deque[Future[None]] = deque()
        with ExitStack() as stack:
            self._writers = [stack.enter_context(store.writer(self._shard_rows)) for store in self._stores]
            self._exit = stack.pop_all()
        return self

    def add(
        self,
        store: int,
        keys: np.ndarray,
        features: np.ndarray,
    ) -> None:
        """Hand over keys (n, 32) and features (n, ...) of the store with this index.

        Raises:
            StoreError: Features that were handed over before cannot be written.
            ShardError: Features that were handed over before contain NaN or infinity.
        """
        self._waiting.append(self._thread.submit(self._write, store, keys, features))
        while len(self._waiting) > MOST_WAITING:
            self._waiting.popleft().result()

    def _write(
        self,
        store: int,
        keys: np.ndarray,
        features: np.ndarray,
    ) -> None:
        """Add rows to one store; those of the others may become due while their encoders wait."""
        self._writers[store].add(keys, features)
        for writer in self._writers:
            writer.publish_if_due()

    def finish(self) -> None:
        """Publish all features that were handed over.

        Raises:
            StoreError: Features cannot be written.
            ShardError: Features contain NaN or infinity.
        """
        while self._waiting:
            self._waiting.popleft().result()
        for writer in self._writers:
            writer.publish()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._thread.shutdown()
        self._exit.__exit__(kind, error, trace)
