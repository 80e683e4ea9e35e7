"""`tier store`: look at feature stores, check them, tidy them up."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from tier4k.extract.stores.choices import HOURS_IN_USE
from tier4k.heads.commands.console import make_console, print_broken_stores, print_line
from tier4k.heads.commands.options import FEATURES, RUNS, FeaturesOption

if TYPE_CHECKING:
    from tier4k.extract.stores.garbage import Finding


def store_ls(features: FeaturesOption = FEATURES) -> None:
    """List every feature store: rows, size, type, age, and the data sets that it holds completely."""
    from tier4k.extract.stores.listing import store_table

    console = make_console()
    console.print(store_table(features))
    print_broken_stores(console, features)


def store_verify(
    features: FeaturesOption = FEATURES,
    repair: Annotated[
        bool,
        typer.Option("--repair", help="Set damaged shards aside, so that extract encodes their rows again."),
    ] = False,
) -> None:
    """Compare every shard of every store with its checksum; damage without --repair gives exit code 2."""
    from tier4k.cache.errors import StoreError
    from tier4k.cache.listing import require_stores
    from tier4k.cache.verify import set_aside, verify

    console = make_console()
    damaged = 0
    for store in require_stores(features):
        found = verify(store)
        damaged += len(found.damaged)
        print_line(console, f"{store.path.name}: {found.sound:,} shards with {found.rows:,} rows are sound")
        for message in found.damaged.values():
            print_line(console, message, style="red")
        if not repair:
            continue
        for path in set_aside(found):
            print_line(console, f"set aside as {path}; run `tier extract` again", style="yellow")
    broken = print_broken_stores(console, features)
    if damaged and not repair:
        raise StoreError(
            f"{damaged} damaged shards: `tier store verify --features {features} --repair` sets them aside"
        )
    if broken:
        raise StoreError(f"{broken} stores cannot be opened: restore or delete these folders")


def store_compact(features: FeaturesOption = FEATURES) -> None:
    """Merge the shards of every store into one, without duplicates; others may read and extract meanwhile."""
    from tier4k.cache.compact import compact
    from tier4k.cache.listing import require_stores

    console = make_console()
    for store in require_stores(features):
        done = compact(store)
        shards = f"{done.shards:,} shards became {min(done.shards, 1)}"
        rows = f"{done.rows:,} rows, {done.doubles:,} doubles removed"
        print_line(console, f"{store.path.name}: {shards}, {rows}")
    print_broken_stores(console, features)


def store_gc(
    features: FeaturesOption = FEATURES,
    runs: Annotated[
        list[Path] | None,
        typer.Option(help="Folders of runs whose stores are kept.", show_default="runs"),
    ] = None,
    delete: Annotated[
        bool,
        typer.Option("--delete", help="Remove what is unused. Without this option, only list it."),
    ] = False,
    older_than: Annotated[
        float,
        typer.Option(
            min=0,
            metavar="HOURS",
            help="Keep a store with a file younger than this, because another process may be filling it.",
        ),
    ] = HOURS_IN_USE,
) -> None:
    """List what is unused: old stores that no existing data set and no run uses, and damaged shards."""
    from tier4k.cache.listing import require_stores
    from tier4k.cache.removal import unfinished_removals
    from tier4k.extract.stores.garbage import review
    from tier4k.heads.results.read import used_stores

    if not unfinished_removals(features):
        require_stores(features)
    folders = _folders_of_runs(runs)
    used = frozenset[str]().union(*map(used_stores, folders))
    console = make_console()
    print_line(console, f"Runs considered: {_count_runs(folders):,} in {', '.join(map(str, folders))}")
    garbage: list[Finding] = []
    for found in review(features, used, older_than):
        state, reason = _outcome(found, delete)
        if state != "kept":
            garbage.append(found)
        print_line(console, f"{state} {found.path} ({found.megabytes:,.1f} MB): {reason}")
    print_line(console, _total(garbage, delete))


def _outcome(found: "Finding", delete: bool) -> tuple[str, str]:
    """Return "kept", "unused" or "removed", and the reason; a store that was written to meanwhile is kept."""
    from tier4k.extract.stores.garbage import remove

    if found.kept:
        return "kept", found.why
    if not delete:
        return "unused", found.why
    if remove(found):
        return "removed", found.why
    return "kept", "it was written to just now"


def _folders_of_runs(given: list[Path] | None) -> list[Path]:
    for folder in given or []:
        if not folder.is_dir():
            raise typer.BadParameter(
                f"there is no folder {folder}: the stores of its runs would be listed as unused",
                param_hint="--runs",
            )
    return given or [RUNS]


def _count_runs(folders: list[Path]) -> int:
    count = 0
    for folder in folders:
        count += len(list(folder.glob("*/config.json")))
    return count


def _total(garbage: "list[Finding]", deleted: bool) -> str:
    if not garbage:
        return "Everything is in use."
    megabytes = sum(found.megabytes for found in garbage)
    end = "removed" if deleted else "can be removed: repeat with --delete"
    return f"{megabytes:,.1f} MB in {len(garbage)} places {end}."


def store_export(
    store: Annotated[
        str,
        typer.Argument(help="Folder of one store, or its name in --features."),
    ],
    output: Annotated[
        Path,
        typer.Option("--output", "-o", help="File to write: .npz or .parquet."),
    ],
    features: FeaturesOption = FEATURES,
) -> None:
    """Write the features of one store with their keys and names, for other programs."""
    from tier4k.cache.export import export
    from tier4k.cache.store import FeatureStore
    from tier4k.extract.pipeline.records import input_names

    folder = Path(store) if Path(store).is_dir() else features / store
    opened = FeatureStore.open(folder)
    names = input_names(folder.parent, opened.signature.stream)
    rows = export(opened, output, names)
    print_line(make_console(), f"{output}: {rows:,} rows of {folder.name}")
