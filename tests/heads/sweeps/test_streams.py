"""Grids over streams and several encoders: every combination once, impossible ones counted, errors first."""

import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tier4k.cache.errors import StoreError, TierError
from tier4k.cache.listing import stores
from tier4k.cache.store import FeatureStore
from tier4k.extract.datasets.check import check
from tier4k.extract.datasets.errors import DataError
from tier4k.extract.datasets.manifest import Manifest
from tier4k.extract.encoders.image_choice import ImageChoice
from tier4k.heads.commands.printed_commands import fit_command
from tier4k.heads.reporting.tidy import tidy
from tier4k.heads.results.read import read_config
from tier4k.heads.results.run import Run
from tier4k.heads.sweeps.blocks import SweepError, as_blocks
from tier4k.heads.sweeps.grid import Cell, grid_cells, paper_cells
from tier4k.heads.sweeps.run import run_sweep
from tier4k.heads.sweeps.search import Search, run_search
from tier4k.tests.builders.commands import on_one_line, succeed, tier
from tier4k.tests.builders.data import write_pku
from tier4k.tests.builders.stores import REPOSITORY
from tier4k.tests.builders.sweeps import BASE

ENCODERS = ["--image-encoder", "resnet18", "--text-encoder", "bert-base-uncased"]


@pytest.fixture
def manifest(tmp_path: Path) -> Manifest:
    write_pku(tmp_path / "pku", rows=12, image_to_image=6)
    return check(tmp_path / "pku").manifest


@pytest.fixture
def two_encoders(project: Path) -> Path:
    """The project with features of a second image encoder, resnet50."""
    (images,) = [store for store in stores(Path("features")) if store.signature.stream == "image"]
    add_encoder(images, "resnet50")
    return project


def add_encoder(store: FeatureStore, name: str) -> None:
    """Add random features of the same images under the name of another encoder."""
    signature = type(store.signature)(**{**vars(store.signature), "encoder": name, "architecture": name})
    with FeatureStore.create(store.path.parent, signature, {}).writer() as writer:
        writer.add(store.keys, np.random.default_rng(0).normal(size=(len(store.keys), 5)))


def one_target(grid: dict[str, Any], manifest: Manifest) -> list[Cell]:
    return grid_cells({**grid, "target": "MOS_q"}, manifest, BASE).cells


def swept(grid: dict[str, Any], out: str = "runs") -> list[Run]:
    manifest = check(Path("Dataset")).manifest
    cells = one_target({"benchmark": "I2I", **grid}, manifest)
    return list(run_sweep(manifest, Path("features"), cells, Path(out)))


# ---- the combinations


def test_streams_that_a_method_does_not_have_are_left_out_and_counted(manifest: Manifest) -> None:
    grid = {"method": ["nr", "fr", "pr"], "streams": ["image", "text + image-prompt", "all"]}
    cells, left_out = grid_cells({**grid, "benchmark": ["I2I", "all"], "target": "MOS_q"}, manifest, BASE)
    assert left_out == {
        "full reference (fr) needs an image prompt in every row": 3,
        "nr has no stream image-prompt": 2,
        "pr has no stream image-prompt": 2,
    }
    found = [(cell.options.method, cell.options.streams) for cell in cells if cell.options.benchmark == "I2I"]
    assert found == [
        ("nr", ("image",)),
        ("nr", ()),
        ("fr", ("image",)),
        ("fr", ("text", "image-prompt")),
        ("fr", ()),
        ("pr", ("image",)),
        ("pr", ()),
    ]


def test_named_streams_are_all_streams_for_the_methods_that_have_no_others(manifest: Manifest) -> None:
    cells = one_target({"method": ["nr", "fr"], "streams": "image+text"}, manifest)
    assert [cell.options.streams for cell in cells] == [(), ("text", "image")]


def test_the_paper_keeps_the_lines_that_have_the_streams(manifest: Manifest) -> None:
    cells, left_out = paper_cells(manifest, BASE, "image-prompt")
    assert {(cell.options.method, cell.options.benchmark) for cell in cells} == {("fr", "I2I")}
    assert left_out == {"nr has no stream image-prompt": 9, "pr has no stream image-prompt": 3}
    assert len(paper_cells(manifest, BASE, "text").cells) == 15


def test_the_grid_of_the_benchmarks_has_every_subset_of_the_streams(manifest: Manifest) -> None:
    (block,) = as_blocks(REPOSITORY / "benchmarks" / "streams.toml")
    cells = one_target(block, manifest)
    found = {(cell.options.method, cell.options.streams) for cell in cells}
    # NR and PR have two streams, FR has three: all subsets but the empty one.
    assert [sum(method == name for method, _ in found) for name in ("nr", "pr", "fr")] == [3, 3, 7]
    assert len({repr(cell) for cell in cells}) == (3 + 3 + 7) * 2 * 2


def test_joined_encoders_belong_to_one_head_and_a_size_in_a_name_stays(manifest: Manifest) -> None:
    names = ["clip", "clip@448+resnet50", "resnet50 + resnet50"]
    grid = {"image_encoder": names, "image_size": 224, "text_encoder": ["minilm", "minilm+hf:x"]}
    cells = one_target(grid, manifest)
    assert [cell.encoders.images for cell in cells[::2]] == [
        (ImageChoice("clip", image_size=224),),
        (ImageChoice("clip", image_size=448), ImageChoice("resnet50", image_size=224)),
        (ImageChoice("resnet50", image_size=224),),
    ]
    assert [cell.encoders.texts for cell in cells[:2]] == [("minilm",), ("minilm", "hf:x")]


def test_a_checkpoint_with_two_encoders_is_used_besides_the_others(manifest: Manifest) -> None:
    (alone,) = one_target({"encoder": "hf:clip"}, manifest)
    assert (alone.encoders.images, alone.encoders.texts) == ((ImageChoice("hf:clip"),), ("hf:clip",))
    (both,) = one_target({"encoder": "hf:clip", "image_encoder": "resnet50"}, manifest)
    assert both.encoders.images == (ImageChoice("hf:clip"), ImageChoice("resnet50"))
    assert both.encoders.texts == ("hf:clip",)


def test_a_size_for_all_encoders_cannot_make_two_of_them_equal(manifest: Manifest) -> None:
    images = (ImageChoice("clip@448"), ImageChoice("clip"))
    base = Cell(type(BASE.encoders)(images, ("minilm",)), BASE.options)
    with pytest.raises(SweepError, match="makes image encoders equal.*name the encoders in the grid"):
        grid_cells({"image_size": 512}, manifest, base)


def test_stages_belong_to_images(manifest: Manifest) -> None:
    grid = {"streams": ["text", "image"], "stages": "clip=3,4 resnet50=5", "feature": "multilevel"}
    assert [cell.options.stages for cell in one_target(grid, manifest)] == [(), ("clip=3,4", "resnet50=5")]


@pytest.mark.parametrize("streams", ["imag", "image-text", "image+", "zero-shot"])
def test_unknown_streams_are_refused_with_the_known_ones(manifest: Manifest, streams: str) -> None:
    with pytest.raises(DataError, match=r"streams is '.*use all, or some of text, image, image-prompt"):
        grid_cells({"streams": streams}, manifest, BASE)


# ---- the runs


def test_equal_combinations_are_fitted_once(two_encoders: Path) -> None:
    grid = {
        "streams": ["all", "image+text", "text+image", "text"],
        "image_encoder": ["resnet18", "resnet50", "resnet50+resnet18", "resnet18+resnet50"],
    }
    runs = swept(grid)
    assert len(runs) == len({run.results.id for run in runs}) == 3 + 1
    frame = tidy([run.folder for run in runs]).drop_duplicates("run")
    assert sorted(zip(frame["streams"], frame["image_encoder"], strict=True)) == [
        ("all", "resnet18"),
        ("all", "resnet18 + resnet50"),
        ("all", "resnet50"),
        ("text", ""),
    ]
    assert all(run.found for run in swept(grid))


def test_streams_without_images_need_no_image_encoder(project: Path) -> None:
    (run,) = swept({"streams": "text", "image_encoder": "resnet50"})
    assert [one.stream for one in read_config(run.folder).signatures.values()] == ["text"]
    with pytest.raises(StoreError, match=r"tier extract DATA.*resnet50"):
        swept({"streams": ["text", "image"], "image_encoder": "resnet50"}, "others")
    assert not Path("others").exists()


@pytest.mark.parametrize(
    ("grid", "message"),
    [
        ({"head": ["ridge", "gated"], "streams": ["all", "image"]}, "gated head fuses text.*image alone"),
        ({"head": ["ridge", "bilinear"], "streams": "text"}, "bilinear head fuses text.*text alone"),
        ({"head": "ensemble", "members": ["ridge", "gated"], "streams": "text"}, "gated head fuses text"),
        ({"stages": ["all", "resnet50=3"]}, "there is no image encoder 'resnet50'"),
    ],
)
def test_an_error_of_one_combination_is_found_before_the_first_fit(
    project: Path, grid: dict[str, Any], message: str
) -> None:
    with pytest.raises(TierError, match=message):
        swept(grid)
    assert not Path("runs").exists()


# ---- the search


def found(grid: dict[str, Any], count: int = 20) -> Search:
    grid = {"benchmark": "all", "target": "MOS_q", "repeats": 2, **grid}
    return run_search(check(Path("Dataset")).manifest, Path("features"), [grid], BASE, count, Path("runs"))


def test_a_search_tries_equal_combinations_once_and_no_impossible_one(two_encoders: Path) -> None:
    grid = {
        "method": ["nr", "pr"],
        "streams": ["text", "image", "image-prompt"],
        "image_encoder": ["resnet18", "resnet18+resnet50"],
    }
    finished = found(grid)
    tried = [one.cell.options.streams for one in finished.candidates]
    assert (tried.count(("text",)), tried.count(("image",)), len(tried)) == (2, 2 * 2, 2 + 2 * 2)
    assert finished.left_out == {"nr has no stream image-prompt": 2, "pr has no stream image-prompt": 2}
    config = read_config(finished.run.folder)
    assert (config.method, config.streams) == ("several", ("several",))
    encoders = [one.encoder for one in config.signatures.values() if one.stream == "image"]
    assert sorted(encoders) == ["resnet18", "resnet50"]
    assert set(tidy([finished.run.folder])["image_encoder"]) in ({"resnet18/resnet50"}, {"resnet50/resnet18"})


def test_fewer_candidates_are_the_beginning_of_more_and_as_many_as_wanted(two_encoders: Path) -> None:
    grid = {"streams": ["text", "all", "image"], "image_encoder": ["resnet18", "resnet50"]}
    every = [one.text for one in found(grid).candidates]
    assert len(every) == 1 + 2 + 2
    for count in (1, 3, 5):
        assert [one.text for one in found(grid, count).candidates] == every[:count]


def test_a_search_without_a_possible_combination_is_refused(project: Path) -> None:
    with pytest.raises(SweepError, match="no run can have a combination.*nr has no stream image-prompt"):
        found({"streams": ["image-prompt", "text+image-prompt"]})


# ---- the command


def printed_options(line: str) -> list[tuple[str, ...]]:
    arguments = shlex.split(line)
    assert arguments[:2] == ["tier", "fit-head"]
    return [tuple(arguments[start : start + 2]) for start in range(3, len(arguments), 2)]


def test_the_printed_command_repeats_options_and_quotes_them() -> None:
    options: dict[str, Any] = {
        "encoder": "hf:my models/clip",
        "image_encoder": "clip@448+resnet50",
        "text_encoder": ["minilm", "hf:a b"],
        "stages": "clip@448=3,4 resnet50=5",
        "streams": "image+text",
        "score_features": "",
        "length_scales": (1.0, 2.0),
    }
    assert shlex.split(fit_command([Path("my data"), Path("b")], options))[2:4] == ["my data", "b"]
    line = fit_command([Path("my data")], options)
    assert printed_options(line) == [
        ("--encoder", "hf:my models/clip"),
        ("--image-encoder", "clip@448"),
        ("--image-encoder", "resnet50"),
        ("--text-encoder", "minilm"),
        ("--text-encoder", "hf:a b"),
        ("--stages", "clip@448=3,4"),
        ("--stages", "resnet50=5"),
        ("--streams", "image+text"),
        ("--set", "length_scales=1.0,2.0"),
    ]


def sweep_with(grid: str, *arguments: str) -> Sequence[str]:
    Path("grid.toml").write_text(f'head = "ridge"\ntarget = "MOS_q"\nrepeats = 2\n{grid}\n')
    return ["sweep", "Dataset", "--grid", "grid.toml", "--split", "random", *arguments]


def test_the_printed_command_fits_the_choice_of_a_search_with_streams(two_encoders: Path) -> None:
    grid = 'image_encoder = ["resnet18+resnet50"]\nstreams = ["image", "text"]'
    output = succeed(*sweep_with(grid, "--search", "9", "--text-encoder", "bert-base-uncased"))
    (line,) = [line for line in output.splitlines() if "tier fit-head" in line]
    (searched,) = [run for run in Path("runs").iterdir() if run.name != ".search"]
    succeed(*shlex.split(line)[1:])
    (fitted,) = [run for run in Path("runs").iterdir() if run not in (searched, Path("runs/.search"))]
    (streams,) = read_config(fitted).streams
    assert f"streams={streams}" in output
    assert ("--streams", streams) in printed_options(line.strip())
    assert ("--image-encoder", "resnet50") in printed_options(line.strip())


def test_the_command_counts_what_it_leaves_out(project: Path) -> None:
    grid = 'method = ["nr", "fr"]\nbenchmark = "I2I"\nstreams = ["image-prompt", "all"]'
    output = succeed(*sweep_with(grid, *ENCODERS))
    assert "1 combination is left out, because nr has no stream image-prompt" in output
    assert "runs has 3 runs of this sweep" in output
    assert "streams" in output


def test_streams_of_the_command_line_are_those_of_every_cell(project: Path) -> None:
    options = ["--head", "ridge", "--repeats", "2", "--split", "random", *ENCODERS, "--streams"]
    output = succeed("sweep", "Dataset", "--paper", *options, "image-prompt")
    assert "9 combinations are left out, because nr has no stream image-prompt" in output
    assert "runs has 3 runs of this sweep" in output
    assert {read_config(run).streams for run in Path("runs").iterdir()} == {("image-prompt",)}
    succeed(*sweep_with("", *options, "image", "--out", "others"))
    (run,) = Path("others").iterdir()
    assert read_config(run).streams == ("image",)


@pytest.mark.parametrize(
    ("grid", "arguments", "message"),
    [
        ('image_encoder = "a"', ["--image-encoder", "b"], "write image_encoder into the grid"),
        ('encoder = "hf:a"', ["--image-encoder", "b"], "write image_encoder into the grid"),
        ('text_encoder = "a"', ["--encoder", "hf:b"], "write encoder into the grid"),
        ('method = "nr"\nstreams = "image-prompt"', [], "no combination is left"),
        ("", ["--streams", "imag"], "streams is 'imag', and 'imag' is no stream"),
    ],
)
def test_options_that_contradict_a_grid_are_refused(
    project: Path, grid: str, arguments: list[str], message: str
) -> None:
    code, output = tier(*sweep_with(grid, *arguments))
    assert code == 2
    assert message in on_one_line(output)
