"""How many processes encode on a cluster, and what each of them gets."""

from collections.abc import Sequence
from dataclasses import dataclass

from tier4k.extract.pipeline.options import ExtractionError, RayOptions
from tier4k.extract.pipeline.ray_session import Node

# CPUs that Ray counts for a process that encodes on CPUs. If Ray counted all CPUs that it uses, processes of
# lost machines, started again on the other machines, could leave no CPU for reading.
ENCODER_CPUS = 0.01

# CPUs of a process that reads. Ray joins tasks and actors with equal needs into one process; these differ, so
# that machines without GPUs read for those with GPUs.
READER_CPUS = 0.9
READER_CPUS_OF_ONE = 0.4  # where no machine has two


@dataclass(frozen=True)
class ActorPlan:
    """Number of processes of an extraction, and the resources of each.

    Attributes:
        count: Number of processes that encode.
        gpus: GPUs of each.
        threads: Threads of each on the CPU.
        reader_cpus: CPUs of a process that reads. There are as many as the CPUs suffice for.
    """

    count: int
    gpus: float
    threads: int
    reader_cpus: float

    @property
    def device(self) -> str:
        """Type of the device that encodes."""
        return "cuda" if self.gpus else "cpu"

    @property
    def cpus(self) -> float:
        """CPUs that Ray counts for each process that encodes."""
        return 0 if self.gpus else ENCODER_CPUS


def plan_actors(options: RayOptions, nodes: Sequence[Node]) -> ActorPlan:
    """Return the processes of an extraction on the machines of a cluster.

    Processes that encode on CPUs have threads for half of these, as reading needs the others. A cluster may
    start machines with GPUs when they are needed: where the number of processes is given, Ray waits for them.

    Raises:
        ExtractionError: No machine has the GPUs of a process.
    """
    gpus = options.gpus_per_actor
    if gpus is None:
        gpus = 1 if any(node.gpus for node in nodes) else 0
    most_cpus = max(node.cpus for node in nodes)
    reader_cpus = READER_CPUS if most_cpus >= 2 else READER_CPUS_OF_ONE
    if gpus:
        starts_machines = options.address is not None and options.actors is not None
        count = 0 if starts_machines else _most_actors(gpus, nodes)
        return ActorPlan(options.actors or count, gpus, 1, reader_cpus)
    count = options.actors or max(sum(bool(node.cpus) for node in nodes), 1)
    cpus = min(sum(node.cpus for node in nodes) / count, most_cpus) / 2
    return ActorPlan(count, 0, max(int(cpus), 1), reader_cpus)


def _most_actors(gpus: float, nodes: Sequence[Node]) -> int:
    """Return the number of processes for which the GPUs suffice; at least one."""
    count = sum(int(node.gpus / gpus) for node in nodes)
    if not count:
        most = max(node.gpus for node in nodes)
        raise ExtractionError(
            f"no machine of the Ray cluster has {gpus:g} GPUs (one has {most:g}): pass a smaller "
            "--gpus-per-actor; of a cluster that starts machines when they are needed, pass --actors too"
        )
    return count
