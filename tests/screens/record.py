"""Record all screens again: `python -m tier4k.tests.screens.record`; then read `git diff tests/screens`."""

import os
import sys

import pytest

from tier4k.tests.screens.commands import FOLDER, RECORD

if __name__ == "__main__":
    os.environ[RECORD] = "1"
    sys.exit(pytest.main([str(FOLDER), "-q", "-p", "no:cacheprovider", "-m", "slow or not slow"]))
