"""Options of an extraction, and the error that it raises."""

from dataclasses import dataclass, field

from tier4k.cache.errors import TierError
from tier4k.cache.writer import SHARD_ROWS


class ExtractionError(TierError):
    """Inputs cannot be encoded."""


@dataclass(frozen=True)
class RayOptions:
    """Where Ray encodes.

    Attributes:
        address: Address of a Ray cluster, or "auto"; None starts Ray on this machine.
        actors: Number of processes that encode; None chooses it by the cluster.
        gpus_per_actor: GPUs of each of them; None chooses 1 if the cluster has GPUs, else 0.
    """

    address: str | None = None
    actors: int | None = None
    gpus_per_actor: float | None = None


def default_workers() -> int:
    """Return the number of reading threads: one per core that the affinity and the cgroup allow."""
    from joblib import cpu_count

    return cpu_count()


@dataclass(frozen=True)
class ExtractionOptions:
    """Options that change the speed of an extraction, but its features only by rounding.

    Attributes:
        workers: Number of threads that read and decode images, shared among the devices; with 0, the thread
            that encodes reads them.
        batch_size: Number of crops per batch; None chooses it by the device.
        text_batch_size: Number of texts per batch.
        device: "auto", a torch device such as "cpu" or "cuda:1", several of them with commas between, or
            "cuda:all".
        compiled: Whether torch.compile compiles the networks first.
        shard_rows: Largest number of rows collected before a shard is published.
        unit_rows: Number of inputs that are read together; None chooses it by the device and the size of the
            inputs.
        part: (i, n): encode the i-th of n parts of the inputs, counted from 1. The key of an input alone
            decides to which part the input belongs.
        ray: Ray encodes; None leaves it to this process, and to one a device. With Ray, `device` and
            `workers` mean nothing: it gives each process its GPUs, and reads in as many processes as it has
            cores.
    """

    workers: int = field(default_factory=default_workers)
    batch_size: int | None = None
    text_batch_size: int = 64
    device: str = "auto"
    compiled: bool = False
    shard_rows: int = SHARD_ROWS
    unit_rows: int | None = None
    part: tuple[int, int] = (1, 1)
    ray: RayOptions | None = None
