"""The steps of a run, done in the test's own process by the code that the generation child runs."""

import asyncio

from flows.runs import RunFolder
from flows.session import Session
from flows.steps import dispatch


def run_steps(run: RunFolder, *steps: str, models: dict[str, str] | None = None) -> RunFolder:
    """Steps as the flow has them done, results written as it writes them; the candidates are the seed model's."""

    async def serve() -> None:
        session = Session(run)
        for step in steps:
            arguments = {"shard": 0} if step in {"chains", "candidates", "labels"} else {}
            arguments |= {"model": "scripted"} if step == "candidates" else {}
            name = f"{step}-0" if arguments else step
            arguments |= {"models": models} if step == "evaluate" else {}
            run.finish(name, await dispatch(session, {"step": step, **arguments}))

    asyncio.run(serve())
    return run
