"""Encoding with Ray Data: on the cores and GPUs of this machine, or on those of a cluster.

Ray decides what runs where and when, and repeats the work of lost processes and machines. The engine decides
which missing inputs form a unit, and when a unit is given up.
"""

from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import torch

from tier4k.cache.store import FeatureStore
from tier4k.extract.pipeline.listener import Encoding, Listener
from tier4k.extract.pipeline.missing_inputs import Encoder, Work
from tier4k.extract.pipeline.options import ExtractionError, ExtractionOptions, RayOptions
from tier4k.extract.pipeline.ray_actors import ActorPlan, plan_actors
from tier4k.extract.pipeline.ray_attempts import MOST_ATTEMPTS, Attempts
from tier4k.extract.pipeline.ray_encode import EncodingActor, EncodingProcess, LoadedPlan, plan_on_worker
from tier4k.extract.pipeline.ray_outcome import RayOutcome
from tier4k.extract.pipeline.ray_publish import publish_stage
from tier4k.extract.pipeline.ray_read import cut_stage, read_stage
from tier4k.extract.pipeline.ray_rows import from_block, to_block
from tier4k.extract.pipeline.ray_session import import_ray, nodes

# Units of a shard, at most: 4,096 images on GPUs. Where each process encodes few units, a shard has fewer, so
# that each process fills about `SHARDS_PER_ACTOR`. A killed command loses the units that are in no shard.
UNITS_PER_SHARD = 16
SHARDS_PER_ACTOR = 4

SECONDS_UNTIL_NOTE = 10.0  # of waiting for a machine

WRITER_CPUS = 0.1  # of a task that publishes; there are at most as many as processes that encode


class RayEngine:
    """Encodes on the processes of a cluster.

    Args:
        load: Loads networks: the class `UnitEncoder`.
        encoders: Encoders that read together.
        ray: The processes that encode.
        options: Size of batches and units.
        listener: Is notified if no machine is free yet.

    Attributes:
        notes: What the user should know about the weights.
        shapes: Shape of the features of an input, for each encoder.

    Raises:
        EncoderError, ExtractionError, WeightsError: A network cannot be used.
    """

    def __init__(
        self,
        load: Callable[[Sequence[Encoder], torch.device, ExtractionOptions], Any],
        encoders: Sequence[Encoder],
        ray: RayOptions,
        options: ExtractionOptions,
        listener: Listener,
    ) -> None:
        self._actors = plan_actors(ray, nodes())
        device, threads = self._actors.device, self._actors.threads
        self._process = EncodingProcess(load, encoders, options, device, threads, Path.cwd())
        self._plan = _plan(self._process, self._actors, listener)
        self.notes, self.shapes = self._plan.notes, self._plan.shapes

    def run(
        self,
        works: Sequence[Work],
        stores: Sequence[FeatureStore],
        listener: Listener,
    ) -> list[Encoding]:
        """Encode the missing inputs; return the joint outcome for each encoder.

        Raises:
            TierError: An input cannot be encoded, as in `EncodingLoop.run`.
            ExtractionError: Ray cannot continue, or unit after unit fails.
        """
        outcome = RayOutcome(len(works), self._actors.count)
        with _explained_errors(), closing(self._results(works, stores)) as results:
            for result in results:
                count = outcome.add(result)
                listener.advanced(count, outcome.timing())
        return outcome.encodings()

    def _results(self, works: Sequence[Work], stores: Sequence[FeatureStore]) -> Generator[Any]:
        """Yield a `PublishedUnit`, a `FailedUnit` or a `Fatal` for each unit."""
        ray = import_ray()
        attempts = _on_this_machine(ray.remote(num_cpus=0)(Attempts)).remote()
        blocks = {"batch_size": 1, "batch_format": "pyarrow"}
        with ray.data.DataContext.current(_context(ray)):
            rows = ray.data.from_arrow(to_block([None])).map_batches(
                cut_stage,
                fn_kwargs={"works": ray.put(works), "unit_size": self._plan.unit_size},
                num_cpus=0,
                **blocks,
            )
            rows = rows.map_batches(
                read_stage,
                fn_kwargs={"reader": self._plan.reader, "attempts": attempts},
                num_cpus=self._actors.reader_cpus,
                **blocks,
            )
            rows = rows.map_batches(
                EncodingActor,
                fn_constructor_args=(self._process, attempts),
                compute=ray.data.ActorPoolStrategy(size=self._actors.count),
                num_cpus=self._actors.cpus,
                num_gpus=self._actors.gpus,
                **blocks,
            )
            rows = rows.map_batches(
                publish_stage,
                fn_kwargs={"stores": [store.path.resolve() for store in stores], "attempts": attempts},
                compute=ray.data.TaskPoolStrategy(size=self._actors.count),
                num_cpus=WRITER_CPUS,
                batch_size=self._units_per_shard(works),
                batch_format="pyarrow",
            )
            for block in rows.iter_batches(batch_size=None, batch_format="pyarrow", prefetch_batches=0):
                yield from from_block(block)  # an interrupt here ends what Ray does for these rows

    def _units_per_shard(self, works: Sequence[Work]) -> int:
        missing = int(sum(work.missing.sum() for work in works) / len(works))
        units_of_actor = missing / self._plan.unit_size / self._actors.count
        return min(max(int(units_of_actor / SHARDS_PER_ACTOR), 1), UNITS_PER_SHARD)


def _context(ray: Any) -> Any:
    """Return the settings of Ray Data."""
    context = ray.data.DataContext.get_current().copy()
    context.enable_progress_bars = False
    context.target_max_block_size = 1  # each row is a block, so that each unit is a task
    context.max_consecutive_actor_init_deaths = MOST_ATTEMPTS - 1
    return context


def _on_this_machine(actor: Any) -> Any:
    """Return an actor class whose actor lives beside the driver, and starts again elsewhere if it has to."""
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    node = import_ray().get_runtime_context().get_node_id()
    strategy = NodeAffinitySchedulingStrategy(node, soft=True)
    return actor.options(scheduling_strategy=strategy, max_restarts=-1, max_task_retries=-1)


def _plan(
    process: EncodingProcess,
    actors: ActorPlan,
    listener: Listener,
) -> LoadedPlan:
    """Load the networks on a machine that will encode, before a store is made."""
    ray = import_ray()
    task = ray.remote(num_cpus=actors.cpus, num_gpus=actors.gpus, max_retries=MOST_ATTEMPTS - 1)(
        plan_on_worker
    )
    plan = task.remote(process)
    with _explained_errors():
        if not ray.wait([plan], timeout=SECONDS_UNTIL_NOTE)[0] and actors.gpus:
            listener.noted(
                f"Ray waits for a machine with {actors.gpus:g} free GPUs, or loads the networks there"
            )
        return ray.get(plan)


@contextmanager
def _explained_errors() -> Iterator[None]:
    """Raise errors of tasks as they were raised there, and those of Ray as ExtractionError."""
    from ray.exceptions import RayError, RayTaskError

    try:
        yield
    except RayTaskError as error:
        raise error.cause from error
    except RayError as error:
        reason = str(error).strip().split("\n")[0]
        raise ExtractionError(
            f"Ray cannot continue ({type(error).__name__}: {reason}): run the same command again, which "
            "encodes what is left; the logs of Ray, by default in /tmp/ray, say more"
        ) from error
