"""Labels: every pair is put to the feedback model in both orders, under several principles. Raw values are stored.

It draws no conclusion: `preferences.derive` does, from the same `Labelling`, without asking again.
"""

import math
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence, Sized
from itertools import combinations
from typing import Literal, NamedTuple

from cai.asks import Asker, Key, OnProgress, distinct, in_window
from cai.config import FeedbackConfig
from cai.constitution import Constitution, Principle, principles_for_pair
from cai.engines.base import Engine
from cai.errors import ConstitutionError, DataError
from cai.labels.fence import delimiter, neutralise
from cai.records import Comparison, Ledger, Message, Order, Prompt, Reject, Response, Sampling, digest, seed_from
from cai.templates import render
from cai.verdict import Unscored, text_verdict

OPTIONS = ("A", "B")
ORDERS: tuple[Order, Order] = ("ab", "ba")
STAGES = ("comparison", "reasoning")  # of the rejects an ask may end in


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
    sample: int = 0


class LabelResult(NamedTuple):
    """`n_asks` = `n_done` + `n_rejected`, over all pairs, orders, principles and samples; found ones included."""

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
        self.config = config
        self.judge_digest = judge_digest
        self.template_digest = constitution.template_digest("comparison" if config.reasoning is None else "reasoning")
        self.mode = mode_digest(config, seed)
        self.n_samples = 1 if config.reasoning is None else config.reasoning.samples
        self._principles = constitution.for_stage("preference")
        self._n = constitution.feedback.principles or config.principles
        self._seed = seed
        if not self._principles:
            raise ConstitutionError(f"constitution {constitution.name!r} has no principle for the stage 'preference'")

    @property
    def n_asks(self) -> int:
        """Asks a pair."""
        n = len(self._principles)
        return len(ORDERS) * (n if self._n == "all" else min(self._n, n)) * self.n_samples

    def principles(self, pair: ResponsePair) -> tuple[Principle, ...]:
        ids = pair.a.response_id, pair.b.response_id
        return principles_for_pair(self._principles, self._n, seed=self._seed, response_a=ids[0], response_b=ids[1])

    def asks(self, pair: ResponsePair) -> list[Ask]:
        """One order after the other: all asks of one order share the conversation and both responses as a prefix."""
        principles = self.principles(pair)
        return [
            self._planned(pair, order, principle, sample)
            for order in ORDERS
            for principle in principles
            for sample in range(self.n_samples)
        ]

    def _planned(self, pair: ResponsePair, order: Order, principle: Principle, sample: int) -> Ask:
        comparison_id = Comparison.make_id(
            pair.a.response_id,
            pair.b.response_id,
            order,
            principle.id,
            principle.digest("preference"),
            self.template_digest,
            self.judge_digest,
            self.mode,
            sample,
        )
        return Ask(comparison_id, order, principle, sample)


def mode_digest(config: FeedbackConfig, seed: int) -> str:
    """How the judge is asked, "" where it chooses at once after all few-shots. The seed counts where something is
    drawn by it; how many samples there are does not, so that more of them keep the first ones.
    """
    parts: dict[str, object] = {}
    if config.reasoning is not None:
        parts["reasoning"] = config.reasoning.sampling.model_dump(mode="json")
    if config.verdict == "text":
        parts["text"] = config.verdict_max_tokens
    if config.shots != "all":
        parts["shots"] = config.shots
    if config.shots != "all" or (config.reasoning is not None and config.reasoning.sampling.temperature > 0):
        parts["seed"] = seed
    return digest("mode", parts) if parts else ""


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


class _Said(NamedTuple):
    """What came of one ask: log-probabilities of the letters as shown, and what they cost."""

    logps: tuple[float, ...]
    mass_outside: float
    exact: bool
    n_prompt_tokens: int
    n_tokens: int
    reasoning: str | None = None


class Judge:
    """The feedback model, with the few-shots it is shown. Shared by all pairs of a run."""

    def __init__(self, asker: Asker, labelling: Labelling) -> None:
        self._asker = asker
        self._labelling = labelling
        self._template = labelling.constitution.template("comparison")
        self._constitution_digest = labelling.constitution.digest()
        self._shots = preference_shots(labelling.constitution)
        self._reasoning = labelling.config.reasoning

    async def compare(self, pair: ResponsePair, ask: Ask) -> Comparison | Reject:
        """One ask: found, or asked for and written, or rejected."""
        key = Key(ask.comparison_id, pair.prompt.prompt_id, (pair.a.response_id, pair.b.response_id))
        if done := self._asker.find(Comparison, key.row_id) or self._asker.find_reject(STAGES, key):
            return done
        said = await self._ask(pair, ask, key)
        if isinstance(said, Reject):
            return said
        comparison = self._row(pair, ask, said)
        self._asker.add(comparison)
        return comparison

    async def _ask(self, pair: ResponsePair, ask: Ask, key: Key) -> _Said | Reject:
        first, second = (pair.a, pair.b) if ask.order == "ab" else (pair.b, pair.a)
        question = comparison_message(
            self._template, pair.prompt.messages, first.text, second.text, ask.principle.preference
        )
        shots = self._shots_of(ask)
        shown = (neutralise(first.text), neutralise(second.text))
        if self._reasoning is None:
            return await self._conclude(key, (*shots, question), shown)
        constitution = self._labelling.constitution
        request = Message("user", render(constitution.template("reasoning"), {"question": question.content}))
        said = await self._asker.complete(
            "reasoning", key, (*shots, request), self._reasoning.sampling.sampling(), seed_from(key.row_id)
        )
        if isinstance(said, Reject):
            return said
        if said.finish_reason == "length":
            detail = f"{said.n_tokens} tokens and no end; raise `feedback.reasoning.sampling.max_tokens`"
            return self._asker.reject("reasoning", "cut_off_reasoning", key, detail, said.text)
        fields = {"preference": ask.principle.preference}
        conclusion = Message("user", render(constitution.template("conclusion"), fields))
        turns = (*shots, request, Message("assistant", said.text), conclusion)
        last = await self._conclude(key, turns, shown)
        if isinstance(last, Reject):
            return last
        return last._replace(
            n_prompt_tokens=said.n_prompt_tokens + last.n_prompt_tokens,
            n_tokens=said.n_tokens + last.n_tokens,
            reasoning=said.text,
        )

    async def _conclude(self, key: Key, messages: Sequence[Message], shown: Sequence[str]) -> _Said | Reject:
        if self._labelling.config.verdict == "text":
            return await self._in_words(key, messages, shown)
        choice = await self._asker.choose("comparison", key, messages, OPTIONS)
        if isinstance(choice, Reject):
            return choice
        return _Said(choice.logps, choice.mass_outside, choice.exact, choice.n_prompt_tokens, 1)

    async def _in_words(self, key: Key, messages: Sequence[Message], shown: Sequence[str]) -> _Said | Reject:
        """The greedy reply, read: certain of one letter, or a reject with the text."""
        sampling = Sampling(temperature=0.0, max_tokens=self._labelling.config.verdict_max_tokens)
        said = await self._asker.complete("comparison", key, messages, sampling, seed_from(key.row_id))
        if isinstance(said, Reject):
            return said
        if said.finish_reason == "length":
            detail = f"{said.n_tokens} tokens and no end; raise `feedback.verdict_max_tokens`"
            return self._asker.reject("comparison", "cut_off_verdict", key, detail, said.text)
        letter = text_verdict(said.text, OPTIONS, shown)
        if isinstance(letter, Unscored):
            return self._asker.reject("comparison", letter.reason, key, letter.detail, said.text)
        logps = tuple(0.0 if option == letter else -math.inf for option in OPTIONS)
        return _Said(logps, 0.0, False, said.n_prompt_tokens, said.n_tokens)

    def _shots_of(self, ask: Ask) -> tuple[Message, ...]:
        """All few-shots in the file's order, or so many, drawn by the ask's own id."""
        n, order = self._labelling.config.shots, range(len(self._shots))
        places = order if n == "all" else sorted(order, key=lambda i: digest("shot", ask.comparison_id, i))[:n]
        return tuple(turn for place in places for turn in self._shots[place])

    def _row(self, pair: ResponsePair, ask: Ask, said: _Said) -> Comparison:
        logp_first, logp_second = said.logps  # of the letters, as shown
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
            mass_outside=said.mass_outside,
            exact=said.exact,
            reasoning=said.reasoning,
            sample=ask.sample,
            method=self._labelling.config.verdict,
            n_prompt_tokens=said.n_prompt_tokens,
            n_tokens=said.n_tokens,
        )


def comparison_message(template: str, messages: Sequence[Message], first: str, second: str, preference: str) -> Message:
    """The question, with the responses as shown: `first` under A, `second` under B.

    The conversation and the responses are fenced where the template has a fence, and steer no chat in any case.
    """
    texts = [neutralise(text) for text in (first, second, *(message.content for message in messages))]
    fields = {
        "messages": [{"role": m.role, "content": text} for m, text in zip(messages, texts[2:], strict=True)],
        "response_a": texts[0],
        "response_b": texts[1],
        "preference": preference,
        "fence": delimiter(texts),
    }
    return Message("user", render(template, fields))


def preference_shots(constitution: Constitution) -> tuple[tuple[Message, Message], ...]:
    """Each worked comparison as two earlier turns, in the frame of the real question."""
    template = constitution.template("comparison")
    return tuple(
        (
            comparison_message(template, shot.messages, shot.response_a, shot.response_b, shot.preference),
            Message("assistant", shot.answer),
        )
        for shot in constitution.examples.preference
    )


def make_pairs(
    prompts: Iterable[Prompt], responses: Iterable[Response], pairing: Literal["all", "circle"] = "all"
) -> PairsResult:
    """The pairs of each prompt's responses, by prompt: all of them, by the order the responses came in, or a circle.

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
        for made in _pairs_of(prompt, list(of_prompt[prompt.prompt_id].values()), pairing):
            result.rejects.append(made) if isinstance(made, Reject) else result.pairs.append(made)
    return result


def _pairs_of(
    prompt: Prompt, responses: Sequence[Response], pairing: Literal["all", "circle"]
) -> Iterator[ResponsePair | Reject]:
    if len(responses) < 2:
        parents = (prompt.prompt_id, *(response.response_id for response in responses))
        yield Reject.make(
            "pair",
            "too_few_responses",
            prompt_id=prompt.prompt_id,
            parents=parents,
            detail=f"{len(responses)} responses; a pair needs 2",
        )
    for one, other in combinations(responses, 2) if pairing == "all" else circle(responses):
        pair = ResponsePair.of(prompt, one, other)
        if one.text == other.text:
            parents = (pair.a.response_id, pair.b.response_id)
            yield Reject.make("pair", "identical_responses", prompt_id=prompt.prompt_id, parents=parents, text=one.text)
        else:
            yield pair


def circle(responses: Sequence[Response]) -> list[tuple[Response, Response]]:
    """Each response with its neighbour, in an order that hashes decide: as many pairs as responses, of two only one."""
    drawn = sorted(responses, key=lambda response: digest("circle", response.response_id))
    pairs = list(zip(drawn, drawn[1:] + drawn[:1], strict=True))
    return pairs[:1] if len(drawn) == 2 else pairs if len(drawn) > 2 else []
