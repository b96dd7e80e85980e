"""The whole method on a handful of prompts, in a folder that is thrown away: does this machine still work?

prefect deployment run smoke/hourly --watch
"""

import tempfile
from pathlib import Path

from prefect import flow

from flows.pipeline import constitutional_ai


@flow(name="smoke", flow_run_name="smoke")
def smoke(profile: str = "deployments/profiles/smallworld.yaml") -> None:
    """Run a small profile from nothing to its report, and keep nothing but what the UI shows.

    Args:
        profile: YAML file that says how to run; see deployments/profiles
    """
    with tempfile.TemporaryDirectory(prefix="cai-smoke-") as home:
        constitutional_ai(profile=profile, home=str(Path(home) / "home"))
