"""A store that was extracted stays readable: the name of its folder, which ends in the digest of its signature, never changes."""

from tier4k.tests.golden.signature_values import folder_names
from tier4k.tests.golden.values import read_values, require_equal

REMEDY = (
    "Stores that users have extracted are no longer found under these names. Restore the text of the signature. If the features "
    "themselves changed, change the name of the preprocessing or the text of the feature point, so that the old stores are not "
    "found, and record the new names with: python -m tier4k.tests.golden.record signatures"
)


def test_the_stores_of_every_preset_keep_their_names() -> None:
    require_equal(folder_names(), read_values("signatures"), REMEDY)
