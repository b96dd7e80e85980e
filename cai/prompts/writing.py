"""Requests to a writer, and what of its replies is kept as a prompt. It judges nothing but whether a prompt is usable.

Every reply is a row at once; which of them are kept is decided in the order of the requests, so that whoever is stopped
and starts again finds the replies, and decides the same. What could be kept is held until it was checked, many at once:
where the writer and the judge are two models, they change places twice for all of it.
"""

import random
from collections import Counter, defaultdict
from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import NamedTuple

from cai.asks import Asker, OnProgress, Progress, in_window
from cai.candidates import respond
from cai.config import GenerateConfig, PrivacyConfig
from cai.config.prompts import GENERATED
from cai.constitution import Constitution
from cai.engines.base import Opens
from cai.held_out import HeldOutGuard
from cai.privacy import REASON, Guard, refusal
from cai.prompts.cells import Cell
from cai.prompts.drafts import Useless, leak_of, messages_of, text_of
from cai.prompts.fitting import Fits, says_something
from cai.prompts.likeness import Like
from cai.prompts.novelty import Near, Seen
from cai.prompts.requests import STAGE, Plan, Request, request_of
from cai.records import Ledger, Prompt, Reject, Response, Sampling, digest

OFF_TASK, UNREAD = "off_task", "task_unread"
"""What a check finds: another thing than was asked for, or nothing that can be read."""

RowsOf = Callable[[Sequence[str]], Ledger]
"""A ledger that sees the stored rows of these prompts."""


class Written(NamedTuple):
    """A prompt that can be used, and how it came about: `draft_id` is the reply, to the request `asked_id`."""

    prompt: Prompt
    plan: Plan
    draft_id: str
    asked_id: str
    template_digest: str
    writer_digest: str
    round: int


Check = Callable[[Sequence[Written], Ledger, OnProgress | None], Awaitable[Sequence[Useless | None]]]
"""Why each of these is not what was asked for, or None."""


class Outcome(NamedTuple):
    """What became of one request: a prompt, or the reason why there is none."""

    cell: Cell
    round: int
    reason: str = ""


class Writer:
    """What all requests of a campaign share: the writer, the prompts met so far, and what was kept.

    `fits` says of a prompt alone whether it is what was asked for, and `check` of all that are held; None: nobody does.
    """

    def __init__(
        self,
        config: GenerateConfig,
        constitution: Constitution,
        campaign: str,
        engine: Opens,
        rows_of: RowsOf,
        *,
        known: Iterable[Prompt],
        guard: HeldOutGuard,
        privacy: PrivacyConfig | None = None,
        seed: int,
        max_concurrency: int,
        fits: Fits = says_something,
        check: Check | None = None,
        progress: OnProgress | None = None,
    ) -> None:
        self.outcomes: list[Outcome] = []
        self.n_asked = self.n_reused = self._n_shown = 0
        self._config, self._constitution, self._campaign = config, constitution, campaign
        self._engine, self._rows_of, self._guard, self._privacy = engine, rows_of, guard, Guard(privacy)
        self._seed, self._width, self._fits, self._progress = seed, max_concurrency, fits, progress
        self._check = check
        self._round = self._n_wanted = self._n_before = self._n_reused_before = 0
        self._seen, self._own, self._seen_own = Seen(), set[str](), Seen()
        self._held, self._seen_held = list[Written](), Seen()
        self._pool: dict[tuple[str, str], list[Prompt]] = defaultdict(list)
        self._kept: set[str] = set()
        self._of_cell: dict[Cell, list[Prompt]] = defaultdict(list)
        self._remember(known)

    def _remember(self, known: Iterable[Prompt]) -> None:
        """What an earlier start of this campaign wrote is decided again, and is nothing that was there before; what is
        written now and was not then, on another policy say, must be new beside it too.
        """
        for prompt in sorted(known, key=lambda each: each.prompt_id):
            if prompt.source == GENERATED and prompt.origin == self._campaign:
                self._own.add(prompt.prompt_id)
                self._seen_own.add(prompt)
                continue
            self._seen.add(prompt)
            for tag in prompt.tags:
                self._pool[prompt.kind or "harmful", tag].append(prompt)  # unstated: what a red team asked

    def plan(self, cell: Cell, *key: object) -> Plan:
        """A request for a prompt of the cell, after examples drawn by `key` from what the cell has by now."""
        rng = random.Random(digest("plan", self._campaign, *cell, *key))
        held = [each.prompt for each in self._held if each.plan.cell == cell]
        pool = [*self._pool[cell.kind, cell.tag], *self._of_cell[cell], *held]
        shown = rng.sample(pool, min(self._config.shots, len(pool)))
        return Plan(cell, tuple(shown), rng.random() < self._config.dialogues)

    @staticmethod
    def variation(cell: Cell, parent: Prompt, like: Like) -> Plan:
        """A request to vary `parent`, beside what is there already."""
        return Plan(cell, like.worked, len(parent.messages) > 1, parent, like.failed, like.untried)

    def begin(self, round: int, n_wanted: int) -> None:
        """What is written from here on is of this round, which wants so many prompts."""
        self._round, self._n_wanted = round, n_wanted
        self._n_before, self._n_reused_before = len(self.outcomes), self.n_reused

    @property
    def shows_nothing(self) -> bool:
        """No request has had an example: there was none of any kind and tag that was asked for."""
        return not self._n_shown

    async def write(self, plans: Sequence[Plan], temperature: float) -> list[Written]:
        """One request a plan, all at once; those that can be kept, which are held until `settle`."""
        if not plans:
            return []
        requests = [request_of(plan, self._constitution) for plan in plans]
        first, sampling, before = self.n_asked, self._sampling(temperature), len(self._held)
        self.n_asked += len(plans)
        self._n_shown += sum(len(plan.shown) for plan in plans)
        engine = await self._engine()
        ledger = self._rows_of([request.asked.prompt_id for request in requests])
        asker = Asker(STAGE, engine, ledger, n_total=len(plans), progress=self._reported)

        async def one(item: tuple[int, Request]) -> Response | Reject:
            index, asked = item[0], item[1].asked
            row = await respond(asker, asked, sampling=sampling, seed=self._seed, index=index, stage="draft")
            asker.close_item(rejected=isinstance(row, Reject))
            return row

        drafts = await in_window(enumerate(requests, first), one, self._width)
        for draft, request, plan in zip(drafts, requests, plans, strict=True):
            read = self._read(draft, request, plan, ledger)
            if isinstance(read, Reject):
                self.outcomes.append(Outcome(plan.cell, self._round, read.reason))
            else:
                self._hold(self._written(*read, request, plan, engine.model_digest))
        self.n_reused += asker.n_reused
        self._reported(Progress(STAGE, 0, None, 0, 0, 0))
        return self._held[before:]

    async def settle(self) -> list[Written]:
        """Of what is held, what was asked for: it is kept, and the rest are rejects. Adds to `outcomes`.

        What speaks against drafts is durable before the first prompt is: a start that finds a prompt of its own takes
        all that was decided before it for granted (`_own`), and the tables of one batch are committed one by one.
        """
        held, self._held, self._seen_held = self._held, [], Seen()
        ledger = self._rows_of([each.asked_id for each in held])
        found = await self._checked(held, ledger)
        for each, why in zip(held, found, strict=True):
            self.outcomes.append(Outcome(each.plan.cell, self._round, why.reason if why else ""))
            if isinstance(why, Useless):
                self._reject(why, each.asked_id, each.draft_id, text_of(each.prompt.messages), ledger)
            if why is not None:
                self._kept.discard(each.prompt.prompt_id)
        kept = [each for each, why in zip(held, found, strict=True) if why is None]
        if kept:
            ledger.flush()
        for each in kept:
            self._keep(each, ledger)
        return kept

    async def _checked(self, held: Sequence[Written], ledger: Ledger) -> list[Useless | Reject | None]:
        """What speaks against each, as it was decided before where it was; what was kept before stays."""
        if self._check is None:
            return [None] * len(held)
        before = {each.draft_id: self._rejected(each.draft_id, ledger) for each in held}
        new = [each for each in held if before[each.draft_id] is None and each.prompt.prompt_id not in self._own]
        said = await self._check(new, ledger, self._checking) if new else []
        found = dict(zip((each.draft_id for each in new), said, strict=True))
        return [before[each.draft_id] or found.get(each.draft_id) for each in held]

    def _hold(self, written: Written) -> None:
        self._held.append(written)
        self._seen_held.add(written.prompt)
        self._kept.add(written.prompt.prompt_id)

    def _keep(self, written: Written, ledger: Ledger) -> None:
        self._seen.add(written.prompt)
        self._of_cell[written.plan.cell].append(written.prompt)
        ledger.add(written.prompt)

    def _checking(self, batch: Progress) -> None:
        if self._progress is not None:
            self._progress(batch._replace(stage=f"round {self._round}: checking"))

    def _reported(self, batch: Progress) -> None:
        """How far the round is: its prompts are done when they are held, which is known with the whole batch."""
        if self._progress is None:
            return
        decided = self.outcomes[self._n_before :]
        n_kept = sum(not outcome.reason for outcome in decided) + len(self._held)
        n_decided = len(decided) + len(self._held)
        n_reused = self.n_reused - self._n_reused_before + batch.n_reused
        n_requests = n_decided + batch.n_done + batch.n_rejected - n_reused
        stage = f"round {self._round}: {STAGE}"
        self._progress(Progress(stage, n_kept, self._n_wanted, n_requests, n_reused, n_decided - n_kept))

    def _sampling(self, temperature: float) -> Sampling:
        return Sampling(temperature, self._config.top_p, self._config.max_tokens)

    def _read(self, draft: Response | Reject, request: Request, plan: Plan, ledger: Ledger) -> "Draft | Reject":
        """A prompt to hold, or a reject, as it was decided before where it was; what a check dropped is held again,
        for what was asked meanwhile depends on it.
        """
        if isinstance(draft, Reject):
            return draft
        found = self._rejected(draft.response_id, ledger)
        if found is not None and (self._check is None or found.reason not in (OFF_TASK, UNREAD)):
            return found
        read = self._prompt(draft, request, plan)
        if isinstance(read, Prompt) and found is None and (useless := self._useless(read, plan.cell)) is not None:
            read = useless
        if isinstance(read, Useless):
            return self._reject(read, request.asked.prompt_id, draft.response_id, draft.text, ledger)
        return Draft(read, draft.response_id)

    def _rejected(self, draft_id: str, ledger: Ledger) -> Reject | None:
        return ledger.find(Reject, Reject.make(STAGE, "", parents=(draft_id, self._campaign)).reject_id)

    def _reject(self, why: Useless, asked_id: str, draft_id: str, text: str, ledger: Ledger) -> Reject:
        said, parents = self._privacy.raw(text), (draft_id, self._campaign)
        reject = Reject.make(STAGE, why.reason, prompt_id=asked_id, parents=parents, detail=why.detail, text=said)
        ledger.add(reject)
        return reject

    def _prompt(self, draft: Response, request: Request, plan: Plan) -> Prompt | Useless:
        if draft.finish_reason == "length":
            return Useless("cut_off", f"{draft.n_tokens} tokens; raise `generate.max_tokens`")
        leak = leak_of(draft.text, own=request.own, fence=request.fence)
        read = messages_of(draft.text, is_dialogue=plan.is_dialogue)
        if isinstance(read, Useless):
            return leak or read
        kind, tag, topic = plan.cell
        tags = (tag, *([topic] if topic else []))
        made = Prompt.make(read, GENERATED, self._config.licence, tags, origin=self._campaign, kind=kind)
        prompt, _, refused = self._privacy.prompt(made)
        if leak is not None and prompt.prompt_id not in self._own:  # what was kept before stays
            return leak
        return Useless(REASON, refusal(refused)) if refused else prompt

    def _useless(self, prompt: Prompt, cell: Cell) -> Useless | None:
        """Why a prompt that can be read is not kept: it is not what was asked for, is held out, or says nothing new."""
        if (useless := self._fits(prompt, cell)) is not None:
            return useless
        if (refused := self._guard.refusal(prompt)) is not None:
            return Useless(refused.reason, refused.detail)
        is_own = prompt.prompt_id in self._own
        if is_own and prompt.prompt_id not in self._kept:
            return None
        met = [self._seen, self._seen_held, *([] if is_own else [self._seen_own])]
        near = _nearest(seen.nearest(prompt) for seen in met)
        if near is None or near.similarity < self._config.novelty:
            return None
        held = {each.prompt.prompt_id: f"reply {each.draft_id}, held at the time" for each in self._held}
        which = held.get(near.prompt_id, f"prompt {near.prompt_id}")
        return Useless("not_novel", f"{near.similarity:.2f} like {which}")

    def _written(self, prompt: Prompt, draft_id: str, request: Request, plan: Plan, writer_digest: str) -> Written:
        asked_id, named = request.asked.prompt_id, request.template_digest
        return Written(prompt, plan, draft_id, asked_id, named, writer_digest, self._round)


class Draft(NamedTuple):
    prompt: Prompt
    draft_id: str


def _nearest(found: Iterable[Near | None]) -> Near | None:
    return max((near for near in found if near), key=lambda near: (near.similarity, near.prompt_id), default=None)


class Tally(NamedTuple):
    """What became of the requests for one cell; `n_first` of the kept are of the first round, which has the quota."""

    n_asked: int
    n_first: int
    n_kept: int
    rejected: Counter[str]


def tallies(outcomes: Iterable[Outcome]) -> dict[Cell, Tally]:
    by_cell: dict[Cell, Counter[str]] = defaultdict(Counter)
    first: Counter[Cell] = Counter()
    for outcome in outcomes:
        by_cell[outcome.cell][outcome.reason] += 1
        first[outcome.cell] += outcome.round == 0 and not outcome.reason
    return {
        cell: Tally(reasons.total(), first[cell], reasons[""], Counter({why: n for why, n in reasons.items() if why}))
        for cell, reasons in by_cell.items()
    }
