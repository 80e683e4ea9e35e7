"""The plan of an earlier command as DATA of `tier extract`."""

from pathlib import Path

import pytest

from tier4k.extract.datasets.errors import DataError
from tier4k.extract.datasets.hashes.cache import KeyCache
from tier4k.extract.datasets.hashes.hasher import ImageHasher
from tier4k.extract.datasets.rows.open import open_rows
from tier4k.extract.datasets.table_choice import RECOGNISED, TableChoice
from tier4k.extract.inputs.plan import plan_inputs
from tier4k.extract.inputs.record import DatasetRecord, write_record
from tier4k.heads.extraction.planning import open_data, plan_data
from tier4k.heads.extraction.reporter import LOG
from tier4k.tests.builders.commands import on_one_line, succeed
from tier4k.tests.builders.data import table_rows, write_table


def planned(data: Path, needs_prompts: bool) -> DatasetRecord:
    found = plan_inputs([open_rows(data, RECOGNISED, needs_prompts)], ImageHasher(KeyCache(None)))
    return write_record(data.parent / "f", found.inputs)


def test_a_plan_whose_rows_lack_prompts_is_of_no_use_where_prompts_are_needed(tmp_path: Path) -> None:
    """The empty text would be encoded as if it were a prompt."""
    frame = table_rows()
    frame.loc[1, "prompt"] = ""
    lacking = str(planned(write_table(tmp_path / "t.csv", frame), needs_prompts=False).path)
    assert len(open_data([lacking], RECOGNISED, needs_prompts=False)) == 1
    with pytest.raises(DataError, match="has rows without a prompt: plan the data set again"):
        open_data([lacking], RECOGNISED, needs_prompts=True)


def test_a_plan_whose_rows_have_prompts_or_whose_table_has_none_serves_all_streams(tmp_path: Path) -> None:
    for number, frame in enumerate([table_rows(), table_rows().drop(columns="prompt")]):
        found = planned(write_table(tmp_path / str(number) / "t.csv", frame), needs_prompts=False)
        assert open_data([str(found.path)], RECOGNISED, needs_prompts=True) == [found]


def test_options_that_have_no_effect_on_a_plan_are_refused(tmp_path: Path) -> None:
    found = planned(write_table(tmp_path / "t.csv"), needs_prompts=True)
    for options in (TableChoice(columns="image=img"), TableChoice(layout="pku"), TableChoice(sheet="a")):
        with pytest.raises(DataError, match="--layout, --columns, --sheet and --images have no effect on it"):
            open_data([str(found.path)], options, needs_prompts=True)
    with pytest.raises(DataError, match="--rehash has no effect on it"):
        plan_data([found], tmp_path / "f", "stop", LOG, rehash=True)


def test_only_extract_offers_to_take_a_plan() -> None:
    assert "or a plan." in on_one_line(succeed("extract", "-h"))
    assert "or a plan." not in on_one_line(succeed("data", "check", "-h"))
