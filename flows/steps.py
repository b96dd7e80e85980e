"""What the generation child does: the run's steps that need an engine or the tables, served one by one.

Reads a JSON line for each step on standard input (`{"step": "chains", "shard": 0}`), answers with a `result` line.

    echo '{"step": "prompts"}' | python -m flows.steps cai-home RUN_ID      # one step by hand
"""

import asyncio
import json
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from cai import gate
from cai.candidates import sample_responses
from cai.critique import run_chains
from cai.evaluation import Measured, Sets, Setup, name_of, to_json, to_rows, win_rates_to_json
from cai.privacy import Guard
from cai.records import (
    Comparison,
    Rating,
    Reject,
    Response,
    Revision,
)
from cai.report.build import build_report
from cai.report.text import metric_names, results_text
from flows import accounts, gating, probing, reporting, shown
from flows.cut_off import candidate_warnings, cut_off_revisions, is_cut_off, revision_warnings
from flows.held_out import guard_of, refused_prompts, refused_revisions, untrained
from flows.helpful import helpful
from flows.import_step import import_prompts
from flows.labelling import labels, preferences, try_judges
from flows.markdown import table
from flows.registering import promote, register
from flows.rounds import at_round
from flows.runs import RunFolder, open_run, write_atomically
from flows.session import MANY_FILES, Session, report_progress
from flows.supervise import mark
from storage.evaluation_sets import read_sets
from storage.exports import export_sft


async def chains(session: Session, shard: int) -> dict[str, Any]:
    """Responses, critiques and revisions of one shard by the seed model."""
    run = session.run
    prompts = session.prompts(shard)
    engine = await session.engines.get(run.profile.engine, session.seed_model)
    with session.ledger([p.prompt_id for p in prompts], (Response, Revision, Reject)) as ledger:
        result = await run_chains(
            prompts,
            constitution=run.constitution,
            engine=engine,
            ledger=ledger,
            config=run.profile.chains,
            seed=run.profile.seed,
            max_concurrency=run.profile.engine.max_concurrency,
            progress=report_progress,
        )
    session.store.merge_small(MANY_FILES)
    run.save_ids(f"revisions-{shard}", result.revision_ids)
    run.save_ids(f"last-revisions-{shard}", result.last_revision_ids)
    return _counts(result) | {"n_in": result.n_prompts, "n_out": result.n_done}


def sft_set(session: Session) -> dict[str, Any]:
    """The revisions of this run, and helpful replies in the stated share, as the Parquet file that SFT reads."""
    run, config = session.run, session.run.profile.helpful
    revisions = session.store.find_all(Revision, run.ids_of(accounts.trained_revisions(run)))
    replies = session.store.find_all(Response, run.ids("helpful") if config is not None else [])
    asked = [*(row.prompt_id for row in revisions.values()), *(row.prompt_id for row in replies.values())]
    refused = refused_prompts(session.store, guard_of(session.store, run.profile), asked, "sft")
    kept = {key: row for key, row in revisions.items() if row.prompt_id not in refused}
    cut_off = cut_off_revisions(kept.values())
    rejects = [*refused_revisions(revisions.values(), refused), *cut_off]
    session.store.append(rejects)
    made = export_sft(
        session.store,
        run.path / "sft.parquet",
        rounds="all",
        revision_ids=list(kept),
        response_ids=[key for key, row in replies.items() if row.prompt_id not in refused],
        share=None if config is None else config.share,
    )
    n_helpful = made.by_source.get("helpful", 0)
    some = reporting.some_chains(run, session.store, shown.N_CHAINS)
    return {
        "n_in": len(revisions) + n_helpful,
        "n_out": made.n_rows,
        "n_rejected": len(rejects),
        "n_cut_off": len(cut_off),
        "n_helpful": n_helpful,
        "n_helpful_spare": len(replies) - n_helpful,
        "warnings": revision_warnings(len(cut_off), len(revisions)),
        "digest": made.digest,
        "versions": made.versions,
        "shown": [shown.Shown("chains", "Sampled chains", shown.chains(some))],
    }


async def candidates(session: Session, shard: int, model: str, round: int = 0) -> dict[str, Any]:
    """`k` responses to each prompt of a shard by the model that RL starts from in this round."""
    run, config = session.run, session.run.profile.candidates
    prompts = session.prompts(shard)
    engine = await session.engines.get(run.profile.engine, model)
    with session.ledger([p.prompt_id for p in prompts], (Response, Reject)) as ledger:
        responses = await sample_responses(
            prompts,
            engine=engine,
            ledger=ledger,
            sampling=config.response.sampling(),
            k=config.k,
            seed=run.profile.seed,
            stage="candidate",
            max_concurrency=run.profile.engine.max_concurrency,
            progress=report_progress,
        )
    run.save_ids(f"{at_round('candidates', round)}-{shard}", [r.response_id for r in responses])
    n_in, n_cut_off = len(prompts) * config.k, sum(map(is_cut_off, responses))
    return {
        "n_in": n_in,
        "n_out": len(responses),
        "n_rejected": n_in - len(responses),
        "n_cut_off": n_cut_off,
        "warnings": candidate_warnings(n_cut_off, len(responses)),
    }


async def evaluate(session: Session, models: dict[str, str]) -> dict[str, Any]:
    """The models' responses to held-out prompts: rates by the oracle in the small world and by rules elsewhere, win
    rates by the judge, what the probes find, and what the gate says of the policy, beside the model in use.
    """
    run = session.run
    if (promoted := gating.promoted_model(run)) is not None:
        models = models | {gating.PROMOTED: promoted}
    privacy = Guard(run.profile.privacy)
    sets = _held_out_sets(session, privacy)
    with session.ledger([p.prompt_id for p in sets.asked()], (Response, Comparison, Rating, Reject)) as ledger:
        probed = await probing.measure(
            models,
            sets,
            probing.subject_of_run(run, models),
            Setup(run.profile, run.constitution, session.engines, ledger, report_progress),
            session.store,
        )
    _keep_measured(session, sets, probed.measured)
    judged = _gated(session, sets, probed)
    n_in, n_out = len(sets.asked()) * len(models), sum(map(len, probed.measured.answers.values()))
    return {
        "n_in": n_in,
        "n_out": n_out,
        "n_rejected": n_in - n_out,
        "n_prompts_rejected": len(sets.rejects),
        "models": list(models),
        "rates": to_json(probed.measured.rates),
        "win_rates": win_rates_to_json(probed.measured.win_rates),
        "gate": None if judged is None else gate.to_json(judged),
        "personal": privacy.tally(),
        **probed.to_json(),
    }


def _held_out_sets(session: Session, privacy: Guard) -> Sets:
    """What the profile measures with, less what this run has trained on; stored with what was rejected."""
    run = session.run
    named = read_sets(run.profile.evaluation.prompts, run.profile.seed, privacy)
    sets = untrained(named, dict.fromkeys(run.trained_on(), run.run_id), session.store)
    session.store.append([*sets.prompts, *sets.items, *sets.rejects])
    run.save_ids(accounts.ITEMS, [item.item_id for item in sets.items])
    return sets


def _keep_measured(session: Session, sets: Sets, measured: Measured) -> None:
    for name, responses in measured.answers.items():
        session.run.save_ids(f"eval-{name}", [r.response_id for r in responses])
    over = name_of(sets.asked(), sets.items)
    rows = to_rows(measured.metrics(), measured.answers, set=over, judged_in=session.run.run_id)
    session.store.append(rows)


def _gated(session: Session, sets: Sets, probed: probing.Probed) -> gate.Gating | None:
    """What the gate says, which is stored; None where the profile has none, or there is no policy."""
    n_trained_on = sum(reject.reason == "trained_on" for reject in sets.rejects)
    judged = gating.gate_of(session.run, sets.prompts, probed.measured, n_trained_on, probed.findings)
    if judged is not None:
        gating.keep(session.run, session.store, judged, probed.measured)
    return judged


def report(session: Session) -> dict[str, Any]:
    """The page people open, and the same in plain text for the terminal."""
    run = session.run
    data = reporting.gather(run, session.store)
    session.record("completed")
    write_atomically(run.path / "report.html", build_report(data))
    lines = accounts.funnel(run)
    write_atomically(run.path / "funnel.txt", in_columns(("step", "in", "out", "rejected"), lines))
    if metric_names(data.results) or data.win_rates:
        text = results_text(
            data.results, data.win_rates, data.targets, probes=data.measurements.probes, gating=data.gating
        )
        write_atomically(run.path / "results.txt", f"{text}\n")
    said = shown.verdict(data.targets, data.gating)
    return {
        "path": str(run.path / "report.html"),
        "shown": [
            shown.Shown("funnel", "Data funnel", table(("step", "in", "out", "rejected"), lines)),
            shown.Shown("verdict", "Verdict", said),
        ],
    }


def in_columns(header: tuple[str, ...], rows: Sequence[Sequence[object]]) -> str:
    """Plain text columns: the first to the left, numbers to the right."""
    cells = [[f"{cell:,}" if isinstance(cell, int) else str(cell) for cell in row] for row in (header, *rows)]
    widths = [max(len(row[i]) for row in cells) for i in range(len(header))]
    lines = [
        "  ".join([row[0].ljust(widths[0]), *(c.rjust(w) for c, w in zip(row[1:], widths[1:], strict=True))])
        for row in cells
    ]
    return "\n".join(line.rstrip() for line in lines) + "\n"


def _counts(result: Any) -> dict[str, Any]:
    """The numbers of a named tuple, without its lists of ids."""
    return {name: value for name, value in result._asdict().items() if isinstance(value, int | float | str)}


async def dispatch(session: Session, request: dict[str, Any]) -> dict[str, Any]:
    """One request: the name of a step and its arguments."""
    arguments = {name: value for name, value in request.items() if name != "step"}
    match request["step"]:
        case "chains":
            return await chains(session, **arguments)
        case "helpful":
            return await helpful(session)
        case "candidates":
            return await candidates(session, **arguments)
        case "self_test":
            return await try_judges(session)
        case "labels":
            return await labels(session, **arguments)
        case "evaluate":
            return await evaluate(session, **arguments)
        case "warm_up":
            await session.engines.get(session.run.profile.engine, session.seed_model)
            return {}
        case name:
            plain: dict[str, Callable[..., dict[str, Any]]] = {
                "prompts": import_prompts,
                "sft_set": sft_set,
                "preferences": preferences,
                "register": register,
                "promote": promote,
                "report": report,
            }
            return await asyncio.to_thread(plain[name], session, **arguments)


async def serve(run: RunFolder) -> None:
    """Answer requests until standard input ends, one after the other; `warm_up` alone has no answer."""
    session = Session(run)
    requests = await _lines_of_stdin()
    try:
        while line := await requests.readline():
            request = json.loads(line)
            started = time.monotonic()
            answer = await dispatch(session, request)
            if request["step"] != "warm_up":
                mark("result", answer | {"seconds": round(time.monotonic() - started, 2)})
    finally:
        await session.engines.close()


async def _lines_of_stdin() -> asyncio.StreamReader:
    """Read without a thread: an engine may fork, and a thread that waits in `readline` would leave the fork a lock on
    standard input that nobody ever opens again.
    """
    reader = asyncio.StreamReader(limit=2**24)
    await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    return reader


if __name__ == "__main__":
    asyncio.run(serve(open_run(Path(sys.argv[1]), sys.argv[2])))
