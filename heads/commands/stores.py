"""`tier store`: list feature stores, verify, compact, clean up and export them."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from tier4k.extract.stores.choices import HOURS_IN_USE
from tier4k.heads.commands import panels
from tier4k.heads.commands.console import Console, print_broken_stores, print_damaged_records
from tier4k.heads.commands.data_options import FEATURES, FeaturesOption
from tier4k.heads.commands.output_options import OutputGroup, QuietOption
from tier4k.heads.commands.ranges import not_negative
from tier4k.heads.commands.run_options import RUNS, MatrixOutputOption

if TYPE_CHECKING:
    from tier4k.extract.stores.garbage import Finding


def store_ls(
    features: FeaturesOption = FEATURES,
    *,
    printing: OutputGroup,
) -> None:
    """List every feature store, and the data sets that it contains completely."""
    from tier4k.extract.inputs.record import records
    from tier4k.extract.stores.listing import store_notes, store_table

    console = printing.console()
    found = records(features)
    console.show(store_table(features, found.sound))
    for note in store_notes(features):
        console.note(note)
    print_damaged_records(console, found.damaged)
    print_broken_stores(console, features)


def store_verify(
    features: FeaturesOption = FEATURES,
    repair: Annotated[
        bool,
        typer.Option(
            "--repair",
            help="Rename damaged shards, so that extract encodes them again.",
        ),
    ] = False,
    quiet: QuietOption = False,
) -> None:
    """Compare every shard with its checksum. Without --repair, damage causes exit code 2."""
    from tier4k.cache.errors import StoreError
    from tier4k.cache.listing import require_stores
    from tier4k.cache.verify import set_aside, verify

    console = Console(quiet=quiet)
    damaged = 0
    for store in require_stores(features):
        with console.task(f"verify {store.path.name}") as count:
            check = verify(store, count)
        damaged += len(check.damaged)
        console.result(f"{store.path.name}: {check.sound:,} shards with {check.rows:,} rows are sound")
        for message in check.damaged.values():
            console.warn(message, "red")
        if not repair:
            continue
        for path in set_aside(check):
            console.warn(
                f"A damaged shard was renamed to {path}: run `tier extract` again to encode its rows"
            )
    broken = print_broken_stores(console, features)
    if damaged and not repair:
        raise StoreError(
            f"{damaged} shards are damaged: run `tier store verify --features {features} --repair` to "
            "rename them to *.damaged"
        )
    if broken:
        raise StoreError(f"{broken} stores cannot be opened: restore or delete their folders")


def store_compact(
    features: FeaturesOption = FEATURES,
    *,
    quiet: QuietOption = False,
) -> None:
    """Merge the shards of every store, without duplicate rows.

    A store of up to 2 GiB becomes one shard, a larger one a shard for each range of keys of 2 GiB. Other
    processes may use the stores.
    """
    from tier4k.cache.compact import compact
    from tier4k.cache.listing import require_stores

    console = Console(quiet=quiet)
    for store in require_stores(features):
        with console.task(f"compact {store.path.name}") as count:
            done = compact(store, progress=count)
        shards = f"{done.shards:,} shards became {len(done.paths):,}"
        rows = f"{done.rows:,} rows, {done.doubles:,} duplicates removed"
        console.result(f"{store.path.name}: {shards}, {rows}")
    print_broken_stores(console, features)


def store_gc(
    features: FeaturesOption = FEATURES,
    runs: Annotated[
        list[Path] | None,
        typer.Option(
            metavar="DIR",
            help="Folder of runs whose stores are kept; may be repeated.",
            show_default="runs",
            rich_help_panel=panels.OUTPUT,
        ),
    ] = None,
    delete: Annotated[
        bool,
        typer.Option(
            "--delete",
            help="Remove them; else they are only listed.",
        ),
    ] = False,
    older_than: Annotated[
        float,
        typer.Option(
            callback=not_negative,
            metavar="HOURS",
            help="Keep stores changed in the last HOURS.",
        ),
    ] = HOURS_IN_USE,
    quiet: QuietOption = False,
) -> None:
    """List or remove damaged shards, and stores that no data set and no run uses."""
    from tier4k.cache.listing import require_stores
    from tier4k.cache.removal import unfinished_removals
    from tier4k.extract.stores.garbage import review
    from tier4k.heads.results.read import used_stores

    if not unfinished_removals(features):
        require_stores(features)
    folders = _folders_of_runs(runs)
    used = frozenset[str]().union(*map(used_stores, folders))
    console = Console(quiet=quiet)
    console.note(f"Runs considered: {_count_runs(folders):,} in {', '.join(map(str, folders))}")
    garbage: list[Finding] = []
    for finding in review(features, used, older_than):
        state, reason = _outcome(finding, delete)
        if state != "kept":
            garbage.append(finding)
        console.result(f"{state} {finding.path} ({finding.megabytes:,.1f} MB): {reason}")
    console.result(_total(garbage, delete))


def _outcome(finding: "Finding", delete: bool) -> tuple[str, str]:
    """Return "kept", "unused" or "removed", and the reason; keep a store that was written to meanwhile."""
    from tier4k.extract.stores.garbage import remove

    if finding.kept:
        return "kept", finding.why
    if not delete:
        return "unused", finding.why
    if remove(finding):
        return "removed", finding.why
    return "kept", "another process has just written to it"


def _folders_of_runs(run_folders: list[Path] | None) -> list[Path]:
    for folder in run_folders or []:
        if not folder.is_dir():
            raise typer.BadParameter(
                f"there is no folder {folder}, so the stores of its runs would count as unused: pass an "
                "existing folder",
                param_hint="--runs",
            )
    return run_folders or [RUNS]


def _count_runs(folders: list[Path]) -> int:
    count = 0
    for folder in folders:
        count += len(list(folder.glob("*/config.json")))
    return count


def _total(garbage: "list[Finding]", deleted: bool) -> str:
    if not garbage:
        return "Every store is in use."
    megabytes = sum(finding.megabytes for finding in garbage)
    end = "removed" if deleted else "can be removed: run the command again with --delete"
    return f"{megabytes:,.1f} MB in {len(garbage)} folders or files {end}."


def store_export(
    store: Annotated[
        str,
        typer.Argument(metavar="STORE", help="Folder of a store, or its name in --features."),
    ],
    output: MatrixOutputOption,
    features: FeaturesOption = FEATURES,
    *,
    quiet: QuietOption = False,
) -> None:
    """Write the features of one store to a file for other programs."""
    from tier4k.cache.export import export
    from tier4k.cache.store import FeatureStore
    from tier4k.extract.inputs.record import input_names, records

    folder = Path(store) if Path(store).is_dir() else features / store
    opened = FeatureStore.open(folder)
    found = records(folder.parent)
    names = input_names(found.sound, opened.signature.stream)
    rows = export(opened, output, names)
    console = Console(quiet=quiet)
    console.result(f"{output}: {rows:,} rows of {folder.name}")
    print_damaged_records(console, found.damaged)
