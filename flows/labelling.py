"""The steps that make labels: judges are tried and asked about every pair, and what they said becomes preferences."""

import json
from collections.abc import Sequence
from typing import Any

from cai.config import EngineConfig
from cai.errors import SelfTestFailed
from cai.feedback import LabelResult, ResponsePair, label
from cai.labels.mix import AIPair
from cai.labels.self_test import self_test
from cai.labels.self_test_text import failure, summary
from cai.labels.self_test_text import to_json as self_test_json
from cai.preferences import derive
from cai.records import Comparison, Ledger, PreferencePair, Reject
from flows.drawing import write_rl_prompts
from flows.held_out import guard_of
from flows.judges import judges_of, read_gold
from flows.label_quality import stored_recalibration
from flows.people import mixed_in
from flows.reporting import label_quality
from flows.rounds import at_round
from flows.runs import write_atomically
from flows.session import MANY_FILES, Session, report_progress
from flows.shown import Shown
from flows.shown import labels as labels_shown
from storage.exports import export_preferences


async def try_judges(session: Session) -> dict[str, Any]:
    """The self-test of every judge; each outcome is kept in the run's folder, whether it passes or not.

    Raises:
        SelfTestFailed: one must not label; says which, what is wrong and what to do.
    """
    run = session.run
    tests = []
    for judge in run.profile.judges:
        made = await self_test(
            run.constitution,
            await session.engines.get(judge, judge.model),
            feedback=run.profile.feedback,
            preferences=run.profile.preferences,
            seed=run.profile.seed,
            max_concurrency=judge.max_concurrency,
        )
        tests.append(made)
        write_atomically(run.path / "self_test.json", json.dumps([self_test_json(each) for each in tests], indent=1))
        if not made.passed:
            raise SelfTestFailed(f"{judge.model}: {failure(made)}")
    return {"n_asks": sum(made.n_asks for made in tests), "said": "; ".join(summary(made) for made in tests)}


async def labels(session: Session, shard: int, round: int = 0) -> dict[str, Any]:
    """Every pair of a shard put to each judge in turn; with the first shard also the gold pairs, where they weigh."""
    run = session.run
    pairs, rejects = session.pairs(shard, round)
    session.store.append(rejects)
    gold = read_gold(session.store).pairs if run.profile.feedback.weights == "gold" and shard == 0 else []
    judge_digests, results = list[str](), list[LabelResult]()
    with session.labels_ledger([*pairs, *gold]) as ledger:
        for judge in run.profile.judges:
            results.append(await _ask(session, judge, pairs, ledger))
            if gold:
                await _ask(session, judge, gold, ledger)
            judge_digests.append((await session.engines.get(judge, judge.model)).model_digest)
    session.store.merge_small(MANY_FILES)
    total = LabelResult(len(pairs), *(sum(counts) for counts in list(zip(*results, strict=True))[1:]))
    return total._asdict() | {
        "judge_digests": judge_digests,
        "n_in": total.n_asks,
        "n_out": total.n_done,
        "n_identical": len(rejects),
    }


async def _ask(session: Session, judge: EngineConfig, pairs: Sequence[ResponsePair], ledger: Ledger) -> LabelResult:
    return await label(
        pairs,
        constitution=session.run.constitution,
        engine=await session.engines.get(judge, judge.model),
        ledger=ledger,
        config=session.run.profile.feedback,
        seed=session.run.profile.seed,
        max_concurrency=judge.max_concurrency,
        progress=report_progress,
    )


def preferences(session: Session, round: int = 0) -> dict[str, Any]:
    """Comparisons to pairs with soft labels: stored, and written as the files that training reads.

    Two accounts: the pairs, and (`verdicts`) the comparisons asked about them, of which some may not count. Where
    the profile has `people`, so many of theirs as its share wants are among the pairs; the others are spare.
    """
    run, config = session.run, session.run.profile.preferences
    fitted = stored_recalibration(session.store, config.recalibration)
    answered = run.result(f"{at_round('labels', round)}-0")
    assert answered is not None, "labels come before preferences"
    judges = judges_of(run, session.store, answered["judge_digests"])
    by_ai: list[AIPair] = []
    n_in = n_rejected = n_compared = n_unscored = 0
    for shard in range(session.n_shards()):
        pairs, identical = session.pairs(shard, round)
        asks = {ask.comparison_id for pair in pairs for ask in judges.committee.asks(pair)}
        asked = session.store.find_all(Comparison, asks)
        rows = list(derive(pairs, asked.values(), labelling=judges.committee, config=config, recalibration=fitted))
        session.store.append(rows)
        made = [row for row in rows if isinstance(row, PreferencePair)]
        by_ai += [AIPair(row.pair_id, row.prompt_id, row.judge_digest, row.is_tie) for row in made]
        n_in += len(pairs) + len(identical)
        n_rejected += len(identical) + len(pairs) - len(made)
        n_compared += len(asked)
        n_unscored += sum(isinstance(row, Reject) and row.stage == "verdict" for row in rows)
    guard = guard_of(session.store, run.profile)
    mixed = mixed_in(session.store, by_ai, run.profile, run.path, guard)
    name = at_round("preferences", round)
    run.save_ids(name, mixed.pair_ids)
    run.save_ids(at_round("people-prompts", round), mixed.prompt_ids)
    exported = export_preferences(session.store, run.path / f"{name}.parquet", pair_ids=mixed.pair_ids)
    rl_prompts = write_rl_prompts(session, round, guard)
    quality = label_quality(run, session.store)
    return {
        "n_in": n_in + mixed.n_found - mixed.n_spare,
        "n_out": len(mixed.pair_ids),
        "n_rejected": n_rejected + mixed.n_rejected,
        "n_ties": mixed.n_ties,
        "n_people": mixed.n_people,
        "n_people_spare": mixed.n_spare,
        "n_rl_prompts": rl_prompts.n,
        "n_rl_helpful": rl_prompts.n_helpful,
        "verdicts": {"n_in": n_compared, "n_out": n_compared - n_unscored, "n_rejected": n_unscored},
        "judges": judges.to_json(),
        "drawn": rl_prompts.drawn,
        "warnings": [] if quality is None else list(quality.warnings),
        "shown": [Shown("labels", "Label quality", labels_shown(quality))],
        "digest": exported.digest,
        "versions": exported.versions,
    }
