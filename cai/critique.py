"""SL-CAI data: one prompt's chain is one coroutine, depth first: respond, then critique and revise, n rounds.

Each round stands alone: the model sees the few-shots, the prompt and the current response, never earlier rounds. So
the context is bounded whatever the number of rounds, as in the paper (arXiv 2212.08073, section 3.1), and a round's
revision request extends the very prefix its critique has just put into the cache.
"""

from collections.abc import Iterable, Sequence
from typing import NamedTuple

from cai.asks import Asker, Key, OnProgress, count_distinct, distinct, in_window
from cai.candidates import respond
from cai.config import ChainsConfig
from cai.constitution import Constitution, Principle, draw
from cai.engines.base import Engine, Generation
from cai.errors import ConstitutionError
from cai.records import Ledger, Message, Prompt, Reject, Response, Revision, digest, seed_from
from cai.templates import render


class ChainsResult(NamedTuple):
    """`n_prompts` = `n_done` + `n_rejected`, repeated prompts counted once.

    `n_requests` were asked now and `n_reused` rows found. `n_cut_off` counts texts of this run's rows that
    `max_tokens` ended. `revision_ids` are by prompt and round, those of chains rejected later included;
    `last_revision_ids` are of whole chains alone.
    """

    n_prompts: int
    n_done: int
    n_rejected: int
    n_requests: int
    n_reused: int
    n_cut_off: int
    last_revision_ids: list[str]
    revision_ids: list[str]


class Chain(NamedTuple):
    """Where one prompt's chain got to."""

    revision_ids: tuple[str, ...]
    is_whole: bool


async def run_chains(
    prompts: Iterable[Prompt],
    *,
    constitution: Constitution,
    engine: Engine,
    ledger: Ledger,
    config: ChainsConfig,
    seed: int,
    max_concurrency: int,
    progress: OnProgress | None = None,
) -> ChainsResult:
    """Every prompt through its chain, `max_concurrency` chains in flight; each row handed to the ledger as it is made.

    Rows found in the ledger are not asked for again. What concerns one row becomes a `Reject` and ends that chain.

    Raises:
        ConstitutionError: no principle has the stage `critique`.
        EngineDied, EngineUnreachable, StorageError: at once; the rows made so far are with the ledger.
    """
    if not constitution.for_stage("critique"):
        raise ConstitutionError(f"constitution {constitution.name!r} has no principle for the stage 'critique'")
    asker = Asker("chains", engine, ledger, n_total=count_distinct(prompts), progress=progress)
    rounds = Rounds(asker, constitution, config, seed)

    async def one(prompt: Prompt) -> Chain:
        end = await chain(prompt, rounds)
        asker.close_item(rejected=not end.is_whole)
        return end

    chains = await in_window(distinct(prompts), one, max_concurrency)
    asker.report()
    return ChainsResult(
        n_prompts=len(chains),
        n_done=asker.n_done,
        n_rejected=asker.n_rejected,
        n_requests=asker.n_requests,
        n_reused=asker.n_reused,
        n_cut_off=asker.n_cut_off,
        last_revision_ids=[c.revision_ids[-1] for c in chains if c.is_whole],
        revision_ids=[revision_id for c in chains for revision_id in c.revision_ids],
    )


async def chain(prompt: Prompt, rounds: "Rounds") -> Chain:
    """One prompt: its response, then round after round on what the round before made of it."""
    made: list[str] = []
    response = await rounds.respond(prompt)
    current: Response | Revision | Reject = response
    for round in range(1, rounds.n + 1):
        if isinstance(current, Reject) or isinstance(response, Reject):
            break
        current = await rounds.revise(prompt, response.response_id, current, round)
        if isinstance(current, Revision):
            made.append(current.revision_id)
    return Chain(tuple(made), is_whole=not isinstance(current, Reject))


class Rounds:
    """How one step is taken: what all chains of a run share. Rounds count from 1; the response is round 0."""

    def __init__(self, asker: Asker, constitution: Constitution, config: ChainsConfig, seed: int) -> None:
        self.n = config.rounds
        self._asker = asker
        self._constitution = constitution
        self._principles = constitution.for_stage("critique")
        self._constitution_digest = constitution.digest()
        self._template_digest = constitution.template_digest("critique")
        self._shots = few_shots(constitution)
        self._sampling = config.response.sampling()
        self._critique = config.critique.sampling()
        self._revision = config.revision.sampling()
        self._seed = seed

    async def respond(self, prompt: Prompt) -> Response | Reject:
        row = await respond(self._asker, prompt, sampling=self._sampling, seed=self._seed, index=0, stage="initial")
        if isinstance(row, Response):
            self._asker.n_cut_off += row.finish_reason == "length"
        return row

    async def revise(
        self, prompt: Prompt, response_id: str, parent: Response | Revision, round: int
    ) -> Revision | Reject:
        """One critique and its revision: found, or asked for and written, or rejected."""
        principle = draw(self._principles, seed=self._seed, prompt_id=prompt.prompt_id, round=round)
        parent_id = parent.response_id if isinstance(parent, Response) else parent.revision_id
        key = Key(self._row_id(parent_id, round, principle), prompt.prompt_id, (parent_id,))
        row = self._asker.find(Revision, key.row_id) or self._asker.find_reject(["critique", "revision"], key)
        if row is None:
            row = await self._ask(prompt, parent.text, key, response_id, round, principle)
        if isinstance(row, Revision):
            self._asker.n_cut_off += (row.finish_reason == "length") + (row.critique_finish_reason == "length")
        return row

    async def _ask(
        self, prompt: Prompt, text: str, key: Key, response_id: str, round: int, principle: Principle
    ) -> Revision | Reject:
        asked = critique_messages(self._constitution, self._shots, prompt.messages, text, principle)
        # Two draws of one row: each its own seed, or the revision would repeat the critique's random numbers.
        critique_seed, revision_seed = seed_from(digest("critique", key.row_id)), seed_from(key.row_id)
        critique = await self._asker.complete("critique", key, asked, self._critique, critique_seed)
        if isinstance(critique, Reject):
            return critique
        asked = revision_messages(self._constitution, asked, critique.text, principle)
        revision = await self._asker.complete("revision", key, asked, self._revision, revision_seed)
        if isinstance(revision, Reject):
            return revision
        row = self._row(key, response_id, round, principle, critique, revision)
        self._asker.add(row)
        return row

    def _row_id(self, parent_id: str, round: int, principle: Principle) -> str:
        return Revision.make_id(
            parent_id,
            round,
            principle.id,
            principle.digest("critique"),
            self._template_digest,
            self._asker.model_digest,
            self._critique,
            self._revision,
            self._seed,
        )

    def _row(
        self,
        key: Key,
        response_id: str,
        round: int,
        principle: Principle,
        critique: Generation,
        revision: Generation,
    ) -> Revision:
        return Revision(
            revision_id=key.row_id,
            prompt_id=key.prompt_id,
            response_id=response_id,
            parent_id=key.parents[0],
            round=round,
            principle_id=principle.id,
            principle_digest=principle.digest("critique"),
            constitution_digest=self._constitution_digest,
            template_digest=self._template_digest,
            model_digest=self._asker.model_digest,
            seed=seed_from(key.row_id),
            critique=critique.text,
            critique_finish_reason=critique.finish_reason,
            text=revision.text,
            finish_reason=revision.finish_reason,
            n_prompt_tokens=revision.n_prompt_tokens,
            n_tokens=revision.n_tokens,
        )


def critique_messages(
    constitution: Constitution,
    shots: Sequence[Message],
    messages: Sequence[Message],
    response: str,
    principle: Principle,
) -> tuple[Message, ...]:
    """What asks for a critique of `response`. A system message stays first, where chat templates demand it."""
    n_system = int(messages[0].role == "system") if messages else 0
    request = render(constitution.template("critique"), {"critique": principle.critique})
    said = (Message("assistant", response), Message("user", request))
    return (*messages[:n_system], *shots, *messages[n_system:], *said)


def revision_messages(
    constitution: Constitution, asked: Sequence[Message], critique: str, principle: Principle
) -> tuple[Message, ...]:
    """What asks for the revision: all that asked for the critique, the critique, and the revision request."""
    request = render(constitution.template("revision"), {"revision": principle.revision})
    return (*asked, Message("assistant", critique), Message("user", request))


def few_shots(constitution: Constitution) -> tuple[Message, ...]:
    """The worked examples as earlier turns, in the very frame of the real requests; the same for every prompt."""
    turns: list[Message] = []
    for shot in constitution.examples.critique_revision:
        critique = render(constitution.template("critique"), {"critique": shot.critique_request})
        revision = render(constitution.template("revision"), {"revision": shot.revision_request})
        turns += shot.messages
        turns += [Message("assistant", shot.response), Message("user", critique)]
        turns += [Message("assistant", shot.critique), Message("user", revision)]
        turns += [Message("assistant", shot.revision)]
    return tuple(turns)
