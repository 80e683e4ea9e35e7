"""Ray encodes on several machines, of which one is lost."""

import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from tier4k.extract.pipeline.options import ExtractionOptions, RayOptions
from tier4k.extract.pipeline.run import extract
from tier4k.tests.builders.data import tiny_encoder
from tier4k.tests.builders.listener import Silent
from tier4k.tests.builders.ray_work import At, compacted, troubled, write_inputs

pytestmark = pytest.mark.slow

LOCAL = ExtractionOptions(2, batch_size=4, unit_rows=4, device="cpu")


@pytest.fixture
def cluster() -> Iterator[Any]:
    """Two machines of two cores, simulated by processes of Ray."""
    pytest.importorskip("ray")
    from ray.cluster_utils import Cluster

    size = {"num_cpus": 2, "object_store_memory": 100 * 2**20}
    cluster = Cluster(initialize_head=True, head_node_args=size | {"include_dashboard": False})
    cluster.lost = cluster.add_node(**size)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield cluster
    torch.set_num_threads(threads)
    cluster.shutdown()


def test_a_lost_machine_costs_no_row(tmp_path: Path, cluster: Any) -> None:
    import ray

    dataset, encoder = write_inputs(tmp_path / "data", rows=40), tiny_encoder(tmp_path)
    options = replace(LOCAL, ray=RayOptions(cluster.address))
    machines: list[int] = []

    def lose() -> None:
        machines.append(len([node for node in ray.nodes() if node["Alive"]]))
        cluster.remove_node(cluster.lost, allow_graceful=False)

    slow = troubled(encoder, seconds=0.05)
    (summary,) = extract(dataset, [slow], tmp_path / "ray", options, At(8, lose))
    assert machines == [2]
    assert summary.encoded == summary.inputs and not summary.failed
    extract(dataset, [encoder], tmp_path / "local", LOCAL, Silent())
    assert compacted(tmp_path / "ray") == compacted(tmp_path / "local")

    assert not ray.is_initialized()
    ray.init(address=cluster.address, log_to_driver=False)  # which is left as it was
    try:
        require_one_machine()
    finally:
        ray.shutdown()


def require_one_machine() -> None:
    """Wait until Ray has missed the lost machine, which takes seconds, and the other one is left."""
    import ray

    end = time.monotonic() + 60
    while (alive := sum(node["Alive"] for node in ray.nodes())) > 1 and time.monotonic() < end:
        time.sleep(0.2)
    assert alive == 1
