"""Fixtures that several topics share."""

import os
import shutil
import tempfile
from pathlib import Path

import pytest

pytest.register_assert_rewrite("launch_jobs")

LONGEST = (
    "test_demo",
    "test_without",
    "test_cli",
    "test_training_retries",
    "test_launch",
    "test_training_resume",
    "test_runs_resumed",
    "test_serve",
    "test_kills",
    "test_deploy",
    "test_approvals",
    "test_ray",
    "test_engines_openai_vllm",
)


def pytest_configure():
    """Tests that run beside each other on one machine, each with small models of its own, do not take turns."""
    os.environ["CAI_LOCKS"] = f"{tempfile.gettempdir()}/cai-locks-{os.getpid()}"


def pytest_collection_modifyitems(items):
    """The longest files first: run by several processes, whatever is left then fills the time beside them. Those that
    wait for servers come when the demos, which take both cores, are over.
    """
    items.sort(key=lambda item: LONGEST.index(item.path.stem) if item.path.stem in LONGEST else len(LONGEST))


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Public data sets beside the checkout (`../shared/data`, or CAI_SHARED_DATA); skips where they are absent."""
    path = Path(os.environ.get("CAI_SHARED_DATA") or Path(__file__).parents[2] / "shared" / "data")
    if not path.is_dir():
        pytest.skip(f"no public data sets at {path}; set CAI_SHARED_DATA to where they lie")
    return path


@pytest.fixture(scope="module")
def browser():
    """Headless Chromium. Not for a whole session: it keeps an event loop running, and other tests start their own."""
    sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    path = shutil.which("chromium") or shutil.which("google-chrome")
    if path is None:
        pytest.skip("no chromium or google-chrome on the path: the page is not tried in a browser")
    with sync_api.sync_playwright() as playwright:
        opened = playwright.chromium.launch(executable_path=path, args=["--no-sandbox"])
        yield opened
        opened.close()


@pytest.fixture(scope="session")
def models(tmp_path_factory):
    """A tiny policy, and a reward model that likes "sorry"; to be read and not written to."""
    from training_fixtures import train_models

    return train_models(tmp_path_factory.mktemp("models"))


@pytest.fixture
def store(tmp_path):
    """A home with pairs to label: five that a judge compared, and two of gold."""
    import page_home

    return page_home.seven_pairs(tmp_path / "home")


@pytest.fixture
def page(store):
    """The labelling page over them."""
    import page_home

    with page_home.served(page_home.sitting_over(store)) as page:
        yield page


@pytest.fixture
def port():
    """Nobody listens at it, unless the test starts a server there."""
    from flows.server import held_port

    with held_port() as port:
        yield port
