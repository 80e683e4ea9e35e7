"""Join scores that another program computed with rows, and report what does not fit."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from tier4k.extract.datasets.choices import OnError
from tier4k.heads.commands.console import Console

if TYPE_CHECKING:
    import numpy as np

    from tier4k.extract.inputs.dataset import DatasetInputs
    from tier4k.extract.scorers.given import JoinedScores, ScoreTable
    from tier4k.heads.results.model import Model

SHOWN = 3  # names in a message


def join(
    console: Console,
    table: "ScoreTable",
    names: Sequence[str],
    places: Sequence[str],
    pairs: "np.ndarray",
    features: Path,
    on_error: OnError,
) -> "JoinedScores":
    """Join scores with the rows of a data set; report rows without a score and lines without a row.

    Args:
        console: Shows what was read and what does not fit.
        table: The scores.
        names, places, pairs: See `tier4k.extract.scorers.given.join_scores`.
        features: Folder of stores, into which the list of all names without a partner is written.
        on_error: Whether rows without a score stop the command or are left out.

    Raises:
        DataError: The scores cannot be joined, or a row has none and `on_error` is "stop".
        StoreError: The list cannot be written.
    """
    from tier4k.cache.text import first_few
    from tier4k.extract.datasets.errors import DataError
    from tier4k.extract.scorers.given import join_scores

    joined = join_scores(table, names, places, pairs)
    scored = len(names) - len(joined.missing)
    console.note(
        f"{table.path}: scores of the column {table.score_column} for {scored:,} of {len(names):,} rows, by "
        f"the column {table.name_column}",
    )
    if not (joined.missing or joined.extra):
        return joined
    listing = features / f"unmatched-{table.path.stem}.csv"
    _write_problems(joined, listing)
    if joined.extra:
        listed = f"{len(joined.extra):,} lines name no image of the data: {first_few(joined.extra, SHOWN)}"
        console.warn(f"{listed}; {listing} lists them")
    if not joined.missing:
        return joined
    missing = f"{len(joined.missing):,} of {len(names):,} rows have no score in {table.path}: "
    missing += f"{first_few(joined.missing, SHOWN)}; {listing} lists them"
    if on_error == "stop":
        raise DataError(f"{missing}. Add their scores, or pass --on-error skip, which leaves these rows out")
    console.warn(missing)
    return joined


def with_given_scores(
    console: Console,
    model: "Model",
    path: Path,
    names: Sequence[str],
    places: Sequence[str],
    pairs: "np.ndarray",
    dataset: "DatasetInputs",
    features: Path,
    on_error: OnError,
) -> "Model":
    """Store scores of another program for rows to predict; return the model with their signatures.

    Args:
        console: Shows what was read and what does not fit.
        model: Heads whose features contain such scores.
        path: File with the scores of the rows.
        names, places, pairs: See `tier4k.extract.scorers.given.join_scores`.
        dataset: The inputs of the rows.
        features: Folder of stores.
        on_error: Whether rows without a score stop the command or are left out.

    Raises:
        DataError: The scores cannot be joined, or a row has none and `on_error` is "stop".
        ModelError: The heads use no scores of another program.
        StoreError: The scores cannot be stored.
    """
    from tier4k.extract.scorers.given import read_score_table
    from tier4k.extract.scorers.given_scores import GivenScores, given_column, is_given, is_negated
    from tier4k.heads.data.encoder_names import score_signatures
    from tier4k.heads.results.model import ModelError

    signatures = dict(model.signatures)
    used = {scores.encoder: scores for scores in score_signatures(signatures).values() if is_given(scores)}
    if not used:
        raise ModelError(
            f"--scores {path} has no effect, because the heads of {model.folder} use no scores of another "
            "program: leave it out"
        )
    for name, signature in used.items():
        table = read_score_table(path, None, [name, given_column(signature)], only_usual=True)
        joined = join(console, table, names, places, pairs, features, on_error)
        scores = GivenScores.of(name, table.score_column, pairs, joined.scores, is_negated(signature))
        scores.store(features, dataset)
        signatures[name] = scores.signature
    return replace(model, signatures=signatures)


def _write_problems(joined: "JoinedScores", path: Path) -> None:
    from tier4k.cache.atomic import publish_text
    from tier4k.cache.write_errors import explain_write_errors

    with explain_write_errors(path):
        publish_text(path, joined.problems().to_csv(index=False))
