"""A store that was extracted is found again: its folder is named by the digest of its signature."""

from tier4k.tests.golden.signature_values import folder_names
from tier4k.tests.golden.values import read_values, require_equal

REMEDY = (
    "Stores that users have extracted are no longer found under these names: restore the text of the "
    "signature. If the features themselves changed, a new name is right: record it with "
    "`python -m tier4k.tests.golden.record signatures`."
)


def test_the_stores_of_every_preset_keep_their_names() -> None:
    require_equal(folder_names(), read_values("signatures"), REMEDY)
