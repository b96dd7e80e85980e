"""Replies of the seed model to helpful prompts, which SFT reads beside the revisions: a step of the generation child.

    echo '{"step": "helpful"}' | python -m flows.steps cai-home RUN_ID

What is mixed, and in which share, `sft_set` decides.
"""

from collections.abc import Sequence
from typing import Any

from cai.candidates import sample_responses
from cai.config import SamplingConfig
from cai.records import Prompt, Reject, Response
from flows.held_out import guard_of
from flows.importing import Batch, Import, importing
from flows.session import SHARD, Session, report_progress


async def helpful(session: Session) -> dict[str, Any]:
    """One reply of the seed model to each helpful prompt, or the one that came with it; a cut-off reply is a reject.

    After a kill the files are read from the start again, and the replies are found. State in a folder would need its
    lock while the engine is at work, and what an engine forks may hold a lock longer than we live.
    """
    run, config = session.run, session.run.profile.helpful
    assert config is not None, "the flow leaves this step out where the profile has no `helpful`"
    wish = Import(
        config.prompts,
        guard_of(session.store, run.profile),
        seed=run.profile.seed,
        batch_rows=SHARD,
        privacy=run.profile.privacy,
        before=run.ids("prompts"),  # what is revised must not be trained on unrevised
    )
    ids: list[str] = []
    prompt_ids: list[str] = []
    not_imported: list[str] = []
    with importing(session.store, wish) as under_way:
        for batch in under_way.batches():
            ids += [reply.response_id for reply in await _replies(session, batch, config.response)]
            prompt_ids += [prompt.prompt_id for prompt in batch.prompts]
            not_imported += [reject.reject_id for reject in batch.rejects]
    run.save_ids("helpful", ids)
    run.save_ids("helpful-prompts", prompt_ids)
    run.save_ids("rejected-helpful", not_imported)
    n_in = len(prompt_ids) + len(not_imported)
    return {"n_in": n_in, "n_out": len(ids), "n_rejected": n_in - len(ids), "personal": under_way.report.personal}


async def _replies(session: Session, batch: Batch, sampling: SamplingConfig) -> list[Response]:
    """The replies that came with their prompts, and the seed model's to the others, as far as they end."""
    answers = batch.answers
    given = [
        Response.given(p.prompt_id, answers[p.prompt_id], p.source) for p in batch.prompts if p.prompt_id in answers
    ]
    session.store.append(given)
    unanswered = [prompt for prompt in batch.prompts if prompt.prompt_id not in answers]
    sampled = await _sampled(session, unanswered, sampling) if unanswered else []
    session.store.append([_cut_off(reply) for reply in sampled if reply.finish_reason == "length"])
    return [*given, *(reply for reply in sampled if reply.finish_reason != "length")]


async def _sampled(session: Session, prompts: Sequence[Prompt], sampling: SamplingConfig) -> list[Response]:
    run = session.run
    engine = await session.engines.get(run.profile.engine, session.seed_model)
    with session.ledger([p.prompt_id for p in prompts], (Response, Reject)) as ledger:
        return await sample_responses(
            prompts,
            engine=engine,
            ledger=ledger,
            sampling=sampling.sampling(),
            k=1,
            seed=run.profile.seed,
            stage="initial",
            max_concurrency=run.profile.engine.max_concurrency,
            progress=report_progress,
        )


def _cut_off(reply: Response) -> Reject:
    detail = f"a reply of {reply.n_tokens} tokens was cut off; raise `helpful.response.max_tokens`"
    parents = (reply.response_id,)
    return Reject.make("helpful", "cut_off", prompt_id=reply.prompt_id, parents=parents, detail=detail, text=reply.text)
