"""The chains of a run's report: whole ones, from the last revision back to the response, with what is known of each."""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence

from cai.evaluation import last_request
from cai.records import Message, PreferencePair, Prompt, Response, Revision, Score
from cai.report.data import Chain, Step, Turn
from cai.smallworld import oracle, world
from storage.store import Store


def chains(
    store: Store,
    prompts: Mapping[str, Prompt],
    last_ids: Sequence[str],
    *,
    pairs: Iterable[PreferencePair],
    reward_model: str = "",
) -> Iterator[Chain]:
    """In the order of `last_ids`, the ids of last revisions; scores are those of `reward_model`, a digest."""
    last = store.find_all(Revision, last_ids)
    revisions = {r.revision_id: r for r in store.of_prompts(Revision, [r.prompt_id for r in last.values()])}
    responses = store.find_all(Response, [r.response_id for r in last.values()])
    scores = _scores(store, reward_model)
    soft_labels = defaultdict(list)
    for pair in pairs:
        soft_labels[pair.prompt_id].append(pair.soft_label)
    for row_id in last_ids:
        steps = _steps(revisions, row_id)
        prompt, response = prompts[steps[0].prompt_id], responses[steps[0].response_id]
        ids = [response.response_id, *(step.revision_id for step in steps)]
        yield Chain(
            prompt=turns(prompt.messages),
            response=response.text,
            steps=tuple(Step(r.principle_id, r.critique, r.text) for r in steps),
            tags=prompt.tags,
            labels=_labels(prompt, [response.text, *(step.text for step in steps)]),
            scores=tuple(map(scores.get, ids)) if any(i in scores for i in ids) else (),
            soft_labels=tuple(soft_labels.get(prompt.prompt_id, ())),
            response_id=response.response_id,
        )


def turns(messages: Iterable[Message]) -> tuple[Turn, ...]:
    return tuple(Turn(m.role, m.content) for m in messages)


def _steps(revisions: Mapping[str, Revision], last_id: str) -> list[Revision]:
    """The revisions of a chain, the first one first."""
    steps: list[Revision] = []
    at: Revision | None = revisions[last_id]
    while at is not None:
        steps.append(at)
        at = revisions.get(at.parent_id)
    return steps[::-1]


def _scores(store: Store, reward_model: str) -> dict[str, float]:
    return {row.response_id: row.score for row in store.read(Score) if row.reward_model_digest == reward_model}


def _labels(prompt: Prompt, texts: Sequence[str]) -> tuple[str, ...]:
    """What each text does, by the small world's oracle; elsewhere nobody knows."""
    if prompt.source != world.SOURCE:
        return ()
    request = last_request(prompt)
    acts = {text: oracle.read(request, text).act for text in set(texts)}
    return tuple(acts[text] for text in texts)
