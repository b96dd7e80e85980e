"""What we tell the server for its automations: a stage, that its result is committed, so that the next one can start.

Only a flow that was started by itself tells: within a whole run, the run itself goes on.
"""

from prefect.client.schemas.objects import FlowRun
from prefect.events import emit_event
from prefect.runtime import flow_run

from flows.runs import RunFolder

COMMITTED = {
    "preferences": "cai.preferences.committed",
    "reward_model": "cai.reward-model.committed",
    "rl_cai": "cai.policy.committed",
}
"""By the stage that ends with it; see deployments/automations.yaml."""
ALERT = "cai.monitor.alert"
"""Production has shifted or drifted; sent by `flows/monitor.py`."""
SUSPENDED = "cai.flow-run.suspended"
"""The process of a run that waits for a person has ended; sent by `flows/worker.py`, for the zombie automation."""
SENT = (*COMMITTED.values(), ALERT, SUSPENDED)


def announce(run: RunFolder, stage: str, round: int = 0) -> None:
    """Say that the rows or the model of this stage are there."""
    if stage not in COMMITTED or flow_run.id is None or flow_run.parent_flow_run_id is not None:
        return
    emit_event(
        COMMITTED[stage],
        resource={"prefect.resource.id": f"cai.run.{run.run_id}", "prefect.resource.name": run.run_id},
        payload={"home": str(run.home), "run_id": run.run_id, "round": round},
    )


def alert(model_digest: str, name: str, verdict: str, alarms: list[str], file: str) -> None:
    """Say that production is not as the model's evaluation was. `name` is what people call the model."""
    emit_event(
        ALERT,
        resource={"prefect.resource.id": f"cai.model.{model_digest}", "prefect.resource.name": name},
        payload={"verdict": verdict, "alarms": alarms, "file": file},
    )


def suspended(run: FlowRun, flow_name: str) -> None:
    """Say that a suspended run has no process any more, and so no heartbeat to come."""
    flow = {"prefect.resource.id": f"prefect.flow.{run.flow_id}", "prefect.resource.name": flow_name}
    emit_event(
        SUSPENDED,
        resource={"prefect.resource.id": f"prefect.flow-run.{run.id}", "prefect.resource.name": run.name},
        related=[{**flow, "prefect.resource.role": "flow"}],
    )
