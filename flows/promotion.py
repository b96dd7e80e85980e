"""Putting the last round's policy to use, where its gate has passed it or a person who is asked overrides that."""

from typing import Any

from cai.errors import NotApproved
from cai.promotion import objection
from cai.registry import CHANNEL
from flows.approvals import OVERRIDE, ask
from flows.gating import stored_gating
from flows.markdown import escaped
from flows.rounds import at_round
from flows.runs import RunFolder
from flows.shards import generate
from flows.shown import verdict as verdict_shown
from storage import registry
from storage.store import Store

STEP = "promotion"


def promote(run: RunFolder, *, asks: bool, within_h: float) -> None:
    """Promote the policy to the gate's channel, else to `production`, as `cai models promote` does, once.

    Raises:
        NotApproved: the gate has not passed it, and nobody was to be asked; or a person said no.
    """
    if not is_promoted(run):
        generate(str(run.home), run.run_id, STEP, "promote", allowed(run, asks=asks, within_h=within_h))


def is_promoted(run: RunFolder) -> bool:
    """Whether the run has put its policy to use; it does so once."""
    return run.result(STEP) is not None


def allowed(run: RunFolder, *, asks: bool, within_h: float) -> dict[str, Any]:
    """What the step that promotes is told, once the gate has passed the policy or people agree.

    Raises:
        NotApproved: see `promote`.
    """
    rl = run.result(at_round("rl", run.profile.rounds - 1))
    assert rl is not None, "the run is asked to promote what it has trained and measured"
    channel = run.profile.gate.channel if run.profile.gate is not None else CHANNEL
    known = registry.load(Store(run.home))
    model = known.models[rl["model_digest"]]
    told: dict[str, Any] = {"model_digest": model.model_digest, "channel": channel, "override": None}
    against, said = objection(known, model, channel), known.verdict(model, channel)
    if against and not asks:
        raise NotApproved(
            f"{run.run_id} is not promoted: {against}. With `approve: promotion` a person is asked; {registry.HINT}"
        )
    if against:
        about = f"{OVERRIDE}-{0 if said is None else said.number}"
        question = f"Promote {policy(run)} of {run.run_id}, which its gate has not passed?"
        given = ask(run, about, question, f"{escaped(against)}.\n\n{_facts(run)}", within_h)
        return told | {"note": "", "override": {"person": given.person, "reason": given.reason}}
    note = "the gate was passed" if said is not None and said.verdict == "PASS" else "it was in use before"
    if asks:
        given = ask(run, "promotion", f"Promote {policy(run)} of {run.run_id}?", _facts(run), within_h)
        note = "; ".join(filter(None, (note, f"approved by {given.person}", given.reason)))
    return told | {"note": note}


def policy(run: RunFolder) -> str:
    """The name of the last round's policy."""
    return at_round("rl_cai", run.profile.rounds - 1)


def _facts(run: RunFolder) -> str:
    from flows.reporting import targets_of

    results = run.path / "results.txt"
    measured = f"```\n{results.read_text(encoding='utf-8')}```" if results.is_file() else "Nothing was measured."
    return f"{verdict_shown(targets_of(run), stored_gating(run))}\n\n{measured}"
