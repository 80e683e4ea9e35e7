"""Sweeps and searches over interactions read stored embeddings, and keep the stores that these need."""

from dataclasses import replace
from pathlib import Path

from tier4k.extract.encoders.image_choice import ImageChoice
from tier4k.heads.data.encoder_choice import EncoderChoice
from tier4k.heads.protocol.options import FitOptions
from tier4k.heads.results.read import read_config
from tier4k.heads.sweeps.grid import Cell, grid_cells
from tier4k.heads.sweeps.plans import plan_cells
from tier4k.heads.sweeps.search import run_search
from tier4k.tests.builders.towers import IMAGE_TOWER, TEXT_TOWER, tower_store, towers_manifest

TEXTS = ("a good photo", "a bad photo")
OPTIONS = FitOptions(repeats=1, estimator="ridge", split="random", models="none", templates=TEXTS)


def cell(root: Path) -> Cell:
    """A cell with the towers, named by the folders of their stores."""
    image, text = tower_store(root, IMAGE_TOWER), tower_store(root, TEXT_TOWER, TEXTS)
    return Cell(EncoderChoice((ImageChoice(image.path.name),), (text.path.name,)), OPTIONS)


def test_a_grid_over_interactions_plans_a_run_for_each(tmp_path: Path) -> None:
    base = cell(tmp_path)
    base = replace(base, options=replace(base.options, streams=("image",)))
    grid = {"interaction": ["none", "image-prompt", "cosine", "templates"]}
    cells, _ = grid_cells(grid, towers_manifest(), base)
    configs = [plan.config for plan in plan_cells(towers_manifest(), tmp_path, cells)]
    assert [config.head["interaction"] for config in configs] == grid["interaction"]
    both = ["image", "text"]
    assert [sorted(config.signatures) for config in configs] == [["image"], ["image"], both, both]
    assert [config.templates for config in configs] == [(), (), (), TEXTS]
    assert len({config.digest for config in configs}) == 4


def test_a_search_among_interactions_records_the_templates_that_a_candidate_uses(tmp_path: Path) -> None:
    base = cell(tmp_path)
    out = tmp_path / "runs"
    found = run_search(towers_manifest(), tmp_path, [{"interaction": ["none", "templates"]}], base, 2, out)
    config = read_config(found.run.folder)
    assert config.templates == TEXTS
    plain = run_search(towers_manifest(), tmp_path, [{"interaction": ["none", "cosine"]}], base, 2, out)
    assert read_config(plain.run.folder).templates == ()
