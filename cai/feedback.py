"""Labels: every pair is put to the feedback model in both orders, under several principles. Raw values are stored.

It draws no conclusion: `preferences.derive` does, from the same `Labelling`, without asking again.
"""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence, Sized
from itertools import combinations
from typing import NamedTuple

from cai.asks import Asker, Key, OnProgress, distinct, in_window
from cai.config import FeedbackConfig
from cai.constitution import Constitution, Principle, principles_for_pair
from cai.engines.base import Choice, Engine
from cai.errors import ConstitutionError, DataError
from cai.records import Comparison, Ledger, Message, Order, Prompt, Reject, Response
from cai.templates import render

OPTIONS = ("A", "B")
ORDERS: tuple[Order, Order] = ("ab", "ba")


class ResponsePair(NamedTuple):
    """Two responses to one prompt, canonical: `a` is the one with the smaller id. See `ResponsePair.of`."""

    prompt: Prompt
    a: Response
    b: Response

    @staticmethod
    def of(prompt: Prompt, one: Response, other: Response) -> "ResponsePair":
        a, b = sorted((one, other), key=lambda response: response.response_id)
        return ResponsePair(prompt, a, b)


class Ask(NamedTuple):
    """One comparison to be had; its id is known before it is asked."""

    comparison_id: str
    order: Order
    principle: Principle


class LabelResult(NamedTuple):
    """`n_asks` = `n_done` + `n_rejected`, over all pairs, orders and principles; found ones included."""

    n_pairs: int
    n_asks: int
    n_done: int
    n_rejected: int
    n_requests: int
    n_reused: int


class PairsResult(NamedTuple):
    pairs: list[ResponsePair]
    rejects: list[Reject]


class Labelling:
    """Which asks decide a pair: those under its principles, in both orders, of this judge and in these words.

    A constitution's own `feedback.principles` goes before the profile's.

    Raises:
        ConstitutionError: no principle has the stage `preference`.
    """

    def __init__(self, constitution: Constitution, config: FeedbackConfig, *, seed: int, judge_digest: str) -> None:
        self.constitution = constitution
        self.judge_digest = judge_digest
        self.template_digest = constitution.template_digest("comparison")
        self._principles = constitution.for_stage("preference")
        self._n = constitution.feedback.principles or config.principles
        self._seed = seed
        if not self._principles:
            raise ConstitutionError(f"constitution {constitution.name!r} has no principle for the stage 'preference'")

    @property
    def n_asks(self) -> int:
        """Asks a pair."""
        n = len(self._principles)
        return len(ORDERS) * (n if self._n == "all" else min(self._n, n))

    def principles(self, pair: ResponsePair) -> tuple[Principle, ...]:
        ids = pair.a.response_id, pair.b.response_id
        return principles_for_pair(self._principles, self._n, seed=self._seed, response_a=ids[0], response_b=ids[1])

    def asks(self, pair: ResponsePair) -> list[Ask]:
        """One order after the other: all asks of one order share the conversation and both responses as a prefix."""
        principles = self.principles(pair)
        return [self._planned(pair, order, principle) for order in ORDERS for principle in principles]

    def _planned(self, pair: ResponsePair, order: Order, principle: Principle) -> Ask:
        comparison_id = Comparison.make_id(
            pair.a.response_id,
            pair.b.response_id,
            order,
            principle.id,
            principle.digest("preference"),
            self.template_digest,
            self.judge_digest,
        )
        return Ask(comparison_id, order, principle)


async def label(
    pairs: Iterable[ResponsePair],
    *,
    constitution: Constitution,
    engine: Engine,
    ledger: Ledger,
    config: FeedbackConfig,
    seed: int,
    max_concurrency: int,
    progress: OnProgress | None = None,
) -> LabelResult:
    """Every ask of every pair, `max_concurrency` pairs in flight; each comparison handed to the ledger as it is made.

    Progress counts asks. Comparisons found in the ledger are not asked for again; an ask that does not fit the
    context becomes a `Reject`.

    Raises:
        ConstitutionError: no principle has the stage `preference`.
        EngineDied, EngineUnreachable, StorageError: at once; the rows made so far are with the ledger.
    """
    labelling = Labelling(constitution, config, seed=seed, judge_digest=engine.model_digest)
    n_total = len(pairs) * labelling.n_asks if isinstance(pairs, Sized) else None
    asker = Asker("labels", engine, ledger, n_total=n_total, progress=progress)
    judge = Judge(asker, labelling)

    async def one(pair: ResponsePair) -> None:
        for ask in labelling.asks(pair):
            row = await judge.compare(pair, ask)
            asker.close_item(rejected=isinstance(row, Reject))

    n_pairs = len(await in_window(pairs, one, max_concurrency))
    asker.report()
    n_asks = asker.n_done + asker.n_rejected
    return LabelResult(n_pairs, n_asks, asker.n_done, asker.n_rejected, asker.n_requests, asker.n_reused)


class Judge:
    """The feedback model, with the few-shots it is always shown. Shared by all pairs of a run."""

    def __init__(self, asker: Asker, labelling: Labelling) -> None:
        self._asker = asker
        self._labelling = labelling
        self._template = labelling.constitution.template("comparison")
        self._constitution_digest = labelling.constitution.digest()
        self._shots = preference_shots(labelling.constitution)

    async def compare(self, pair: ResponsePair, ask: Ask) -> Comparison | Reject:
        """One ask: found, or asked for and written, or rejected."""
        key = Key(ask.comparison_id, pair.prompt.prompt_id, (pair.a.response_id, pair.b.response_id))
        if done := self._asker.find(Comparison, key.row_id) or self._asker.find_reject(["comparison"], key):
            return done
        first, second = (pair.a, pair.b) if ask.order == "ab" else (pair.b, pair.a)
        question = comparison_message(
            self._template, pair.prompt.messages, first.text, second.text, ask.principle.preference
        )
        choice = await self._asker.choose("comparison", key, (*self._shots, question), OPTIONS)
        if isinstance(choice, Reject):
            return choice
        comparison = self._row(pair, ask, choice)
        self._asker.add(comparison)
        return comparison

    def _row(self, pair: ResponsePair, ask: Ask, choice: Choice) -> Comparison:
        logp_first, logp_second = choice.logps  # of the letters, as shown
        logp_a, logp_b = (logp_first, logp_second) if ask.order == "ab" else (logp_second, logp_first)
        return Comparison(
            comparison_id=ask.comparison_id,
            prompt_id=pair.prompt.prompt_id,
            response_a=pair.a.response_id,
            response_b=pair.b.response_id,
            order=ask.order,
            principle_id=ask.principle.id,
            principle_digest=ask.principle.digest("preference"),
            constitution_digest=self._constitution_digest,
            template_digest=self._labelling.template_digest,
            judge_digest=self._labelling.judge_digest,
            logp_a=logp_a,
            logp_b=logp_b,
            mass_outside=choice.mass_outside,
            exact=choice.exact,
        )


def comparison_message(template: str, messages: Sequence[Message], first: str, second: str, preference: str) -> Message:
    """The question, with the responses as shown: `first` under A, `second` under B."""
    fields = {"messages": messages, "response_a": first, "response_b": second, "preference": preference}
    return Message("user", render(template, fields))


def preference_shots(constitution: Constitution) -> tuple[Message, ...]:
    """The worked comparisons as earlier turns, in the frame of the real question."""
    template = constitution.template("comparison")
    turns: list[Message] = []
    for shot in constitution.examples.preference:
        turns.append(comparison_message(template, shot.messages, shot.response_a, shot.response_b, shot.preference))
        turns.append(Message("assistant", shot.answer))
    return tuple(turns)


def make_pairs(prompts: Iterable[Prompt], responses: Iterable[Response]) -> PairsResult:
    """All pairs of each prompt's responses, by prompt and then by the order the responses came in.

    Identical texts have nothing to prefer, and one response nothing to be compared with: both become rejects of the
    stage `pair`, for the caller to write.

    Raises:
        DataError: a response belongs to none of the prompts.
    """
    known = list(distinct(prompts))
    of_prompt: dict[str, dict[str, Response]] = defaultdict(dict)
    for response in responses:
        of_prompt[response.prompt_id][response.response_id] = response
    if strays := of_prompt.keys() - {prompt.prompt_id for prompt in known}:
        raise DataError(
            f"responses to {len(strays)} prompts that were not given, the first {min(strays)!r}; "
            "pass the prompts that the responses answer"
        )
    result = PairsResult([], [])
    for prompt in known:
        for made in _pairs_of(prompt, list(of_prompt[prompt.prompt_id].values())):
            result.rejects.append(made) if isinstance(made, Reject) else result.pairs.append(made)
    return result


def _pairs_of(prompt: Prompt, responses: Sequence[Response]) -> Iterator[ResponsePair | Reject]:
    if len(responses) < 2:
        parents = (prompt.prompt_id, *(response.response_id for response in responses))
        yield Reject.make(
            "pair",
            "too_few_responses",
            prompt_id=prompt.prompt_id,
            parents=parents,
            detail=f"{len(responses)} responses; a pair needs 2",
        )
    for one, other in combinations(responses, 2):
        pair = ResponsePair.of(prompt, one, other)
        if one.text == other.text:
            parents = (pair.a.response_id, pair.b.response_id)
            yield Reject.make("pair", "identical_responses", prompt_id=prompt.prompt_id, parents=parents, text=one.text)
        else:
            yield pair
