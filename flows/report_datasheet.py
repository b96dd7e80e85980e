"""The datasheet of a run: where its prompts come from, who labelled its pairs, and what speaks against either."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence

from cai.config.prompts import GENERATED
from cai.privacy import KINDS, NAMES, Tally, added
from cai.records import PreferencePair, Prompt
from cai.report.data import Datasheet, LabelCount, LabelQuality, PersonalCount, RejectCount, Source
from cai.smallworld import world
from flows.runs import RunFolder

N_TAGS = 8
N_ORIGINS = 8
"""Of one source: where each row states another one, the rest are counted together."""
ORIGINS = {"ai": "feedback model", "human": "people", "verifier": "verifier"}
_MANY = 0.05
"""Share of rows from which dropping them is worth a sentence."""


def datasheet(
    used: Mapping[str, Sequence[Prompt]],
    pairs: Sequence[PreferencePair],
    rejects: Sequence[RejectCount],
    labels: LabelQuality | None,
    personal: Tally | None = None,
) -> Datasheet:
    """`used`: what for → the prompts. `personal`: items found at import; None where the imports did not look."""
    sources = tuple(source for use, prompts in used.items() for source in _sources(use, prompts))
    limits = tuple(_limits(sources, pairs, rejects, labels))
    return Datasheet(sources, tuple(_labels(pairs)), limits, None if personal is None else tuple(_personal(personal)))


def personal_of(run: RunFolder, steps: Sequence[str] = ("prompts", "helpful", "evaluate")) -> Tally | None:
    """Personal items in what these steps of the run have read; None where none of them looked."""
    results = [result for step in steps if (result := run.result(step)) is not None and "personal" in result]
    return added(*(result["personal"] for result in results)) if results else None


def _personal(tally: Tally) -> Iterator[PersonalCount]:
    for kind in KINDS:
        if n := tally.get(kind):
            yield PersonalCount(NAMES[kind], n.get("redact", 0), n.get("reject", 0), n.get("keep", 0))


def _sources(use: str, prompts: Sequence[Prompt]) -> Iterator[Source]:
    origins: dict[str, Counter[str]] = {}
    for prompt in prompts:
        origins.setdefault(prompt.source, Counter())[prompt.origin] += 1
    named = {name: dict(counts.most_common(N_ORIGINS)) for name, counts in origins.items()}
    groups: dict[tuple[str, str, str], list[Prompt]] = {}
    for prompt in prompts:
        others = f"{len(origins[prompt.source]) - N_ORIGINS} others"
        origin = prompt.origin if prompt.origin in named[prompt.source] else others
        groups.setdefault((prompt.source, prompt.licence, origin), []).append(prompt)
    for (name, licence, origin), group in sorted(groups.items()):
        tags = Counter(tag for prompt in group for tag in set(prompt.tags))
        most = sorted(tags.items(), key=lambda each: (-each[1], each[0]))[:N_TAGS]
        yield Source(name, licence, origin, use, len(group), tuple(most))


def sources_in_words(prompts: Sequence[Prompt]) -> str:
    """How many prompts are of which source, licence and origin, on one line."""
    return "; ".join(
        f"{source.n_prompts:,} of {source.name} ({source.licence or 'no licence stated'}, "
        f"{f'origin {source.origin}' if source.origin else 'no origin stated'})"
        for source in _sources("", prompts)
    )


def _labels(pairs: Sequence[PreferencePair]) -> Iterator[LabelCount]:
    found = Counter((pair.source, pair.objective) for pair in pairs)
    ties = Counter((pair.source, pair.objective) for pair in pairs if pair.is_tie)
    for (source, objective), n in sorted(found.items()):
        yield LabelCount(ORIGINS[source], objective, n, ties[source, objective])


def _limits(
    sources: Sequence[Source],
    pairs: Sequence[PreferencePair],
    rejects: Sequence[RejectCount],
    labels: LabelQuality | None,
) -> Iterator[str]:
    """What follows from the record; opinions about the data do not belong in it."""
    n_prompts = sum(source.n_prompts for source in sources)
    if unstated := sum(source.n_prompts for source in sources if not source.licence):
        yield f"No licence is stated for {unstated:,} of {n_prompts:,} prompts: whether they may be used is unknown."
    if unknown := sum(source.n_prompts for source in sources if not source.origin and source.name != world.SOURCE):
        yield f"No origin is stated for {unknown:,} of {n_prompts:,} prompts: who made them is unknown."
    if written := sum(source.n_prompts for source in sources if source.name == GENERATED):
        yield f"{written:,} of {n_prompts:,} prompts were written by a model, and no person has looked at each."
    if any(source.name == world.SOURCE for source in sources):
        yield "Prompts of the small world come from a generator: what holds there is a test, no claim about people."
    if pairs and all(pair.source == "ai" for pair in pairs):
        yield "Every preference pair was labelled by the feedback model, and none by a person."
    n_imported = n_prompts + sum(reject.n_rows for reject in rejects if reject.stage == "import")
    if (dropped := n_imported - n_prompts) > _MANY * n_imported:
        yield f"{dropped:,} of {n_imported:,} rows were not imported; the reasons stand under Work."
    if labels is not None and labels.gold is None:
        yield "No gold labels were known of these pairs, so how often the labels are right was not measured."
    if labels is not None and labels.n_ties > labels.n_pairs / 2:
        yield f"{labels.n_ties:,} of {labels.n_pairs:,} pairs are ties, which say little about what is better."
