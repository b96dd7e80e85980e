"""Fixtures that several topics share."""

import os
from pathlib import Path

import pytest

LONGEST = ("test_demo", "without")
"""Groups that start first: whatever is left then fills the time beside them."""


@pytest.hookimpl(tryfirst=True)  # before xdist reads the groups
def pytest_collection_modifyitems(items):
    """Tests of one file share an engine or a trained model, so they go to one process; a few files are two groups."""
    for item in items:
        if item.get_closest_marker("xdist_group") is None:
            item.add_marker(pytest.mark.xdist_group(item.path.stem))
    groups = {item: item.get_closest_marker("xdist_group").args[0] for item in items}
    items.sort(key=lambda item: LONGEST.index(groups[item]) if groups[item] in LONGEST else len(LONGEST))


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Public data sets beside the checkout (`../shared/data`, or CAI_SHARED_DATA); skips where they are absent."""
    path = Path(os.environ.get("CAI_SHARED_DATA") or Path(__file__).parents[2] / "shared" / "data")
    if not path.is_dir():
        pytest.skip(f"no public data sets at {path}; set CAI_SHARED_DATA to where they lie")
    return path
