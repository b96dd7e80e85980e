"""Fixtures that several topics share."""

import os
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Public data sets beside the checkout (`../shared/data`, or CAI_SHARED_DATA); skips where they are absent."""
    path = Path(os.environ.get("CAI_SHARED_DATA") or Path(__file__).parents[2] / "shared" / "data")
    if not path.is_dir():
        pytest.skip(f"no public data sets at {path}; set CAI_SHARED_DATA to where they lie")
    return path
