"""Recall and precision of near-duplicate removal on planted variants among prompts, with seconds and memory.

    python -m benchmarks.near_duplicates [--n 100000] [--data ../shared/data/hh-rlhf] [--json FILE]

How the truth is known: half by construction, half by comparing everything.

- Texts of HH-RLHF (its dialogues, and each human turn as a prompt of its own) are first compared all with all, exactly
  and with other code than what is measured: of two that have the same words, or half of their pairs of neighbouring
  words, one is left out. What is left has no near duplicates.
- The others are composed: six sentences, each one of 53, chosen by a Reed-Solomon code over GF(53) with three
  information symbols, so any two share at most two of their six sentences. Each sentence stands in some 1,500 prompts.
- Controls look like near duplicates and are none: a short question with another thing in it; something else asked
  after a long instruction that forty prompts share (composed like the others); a conversation that goes on with another
  question.
- Variants are planted on prompts of both origins, one each. A removed prompt is right where what it is said to repeat
  is the prompt that it was made from.
"""

import argparse
import json
import random
import re
import resource
import string
import sys
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from scipy.sparse import csr_matrix

from cai.config import PromptSource
from cai.coverage.near import near_duplicates
from cai.intervals import wilson
from cai.records import Message, Prompt
from storage.imports import read_prompts

VARIANTS = 0.2
"""Share of all prompts that is planted."""
CONTROLS = 0.05
FIELD = 53
ALIKE = 0.5
LONG_TURN = 4
"""Sentences of a turn in which one may be edited; the edit touches at most a quarter of the words."""

SLOTS = (
    (
        "I work as a|My sister is a|We hired a new|My neighbour became a|They trained me as a|He left his job as a"
        "|She always wanted to be a|Somebody called me a",
        "night porter in a seaside hotel|welder on the northern docks|teacher at the village school"
        "|baker with two ovens|pilot of small cargo planes|nurse on the children's ward|tailor for the opera house",
    ),
    (
        "Last winter we lost|In the spring I repaired|Nobody here can find|Somebody stole|For months I have collected"
        "|My uncle sold us|The court took away|Yesterday they delivered",
        "a box of old silver spoons|the keys of the tractor|three letters from the tax office|a crate of green bottles"
        "|the plans of the water mill|seven unpaid telephone bills|an antique brass telescope",
    ),
    (
        "Since then the dog|Every morning the landlord|On Sundays the whole choir|The man next door|Our youngest son"
        "|The insurance company|A friend of the mayor|Some tourist with a camera",
        "complains about the noise upstairs|refuses to use the front stairs|asks me for more money"
        "|waits beside the gate|writes a note to the newspaper|wants to see the cellar|hides behind the garden wall",
    ),
    (
        "I already tried to|The police told me to|My lawyer would rather|It seems wise to|You once advised me to"
        "|The manual says to|Nobody dares to|It would be cheaper to",
        "paint the whole thing dark red|wait until the market closes|call the number on the receipt"
        "|burn what is left of it|measure everything twice again|ask for a second opinion"
        "|sell it to the highest bidder",
    ),
    (
        "Please explain|Could you describe|Write a short text about|Tell me honestly|Give me a list of|Summarise for me"
        "|Teach my class|Explain like a lawyer",
        "how other people deal with that|what it would cost in the city|which laws apply to such a case"
        "|who is usually to blame for it|why that happens every year|where one buys the missing parts"
        "|when the next chance comes along",
    ),
    (
        "Answer in|Keep it to|Format the reply as|Use no more than|I would like|Send me|Finish with",
        "three plain sentences for a child|one table with four columns|a numbered list of the steps"
        "|the tone of an old sea captain|rhyming couplets about autumn|a formal letter to the council"
        "|bullet points without any jargon|half a page of careful prose",
    ),
)
ADDED = (
    "I hope that this is not too much to ask.",
    "By the way, thank you for the help of last week.",
    "It has been raining here for days.",
    "Sorry for my long message.",
)
FAMILY = 40
"""Prompts that begin with the same long instruction."""
THINGS = "bicycle scarf kettle piano tent lantern mattress ladder camera violin anvil parrot canoe drill".split()
ACTS = "repair steal paint sell hide ship weigh clean".split()
_SENTENCE = re.compile(r"(?<=[.?!])(?=\s)")


class Planted(NamedTuple):
    prompt: Prompt
    family: str
    """The id of the prompt it was made from, its own for the others."""
    kind: str


Edit = Callable[[str, random.Random], str | None]


def case(text: str, rng: random.Random) -> str | None:
    changed = rng.choice([str.upper, str.lower, str.title, str.swapcase])(text)
    return changed if changed != text else None


def punctuation(text: str, rng: random.Random) -> str | None:
    if rng.random() < 0.5:
        bare = "".join(c for c in text if c not in string.punctuation.replace("'", ""))
        return bare if bare != text and " ".join(bare.split()) else None
    ends = {".": "...", "?": "??!", ",": " -", "!": " ;"}
    return "".join(ends.get(c, c) for c in text) + rng.choice([" !!", " …", " ??"])


def word_swap(text: str, rng: random.Random) -> str | None:
    """Two words that stand side by side change places."""
    words = text.split(" ")
    places = [i for i in range(len(words) - 1) if words[i].isalpha() and words[i + 1].isalpha()]
    places = [i for i in places if words[i].lower() != words[i + 1].lower()]
    if not places:
        return None
    at = rng.choice(places)
    words[at : at + 2] = words[at + 1], words[at]
    return " ".join(words)


def _sentences(text: str) -> list[str]:
    """Each with the space before it."""
    return [s for s in _SENTENCE.split(text) if s]


def _small(sentences: Sequence[str]) -> list[int]:
    """Those with at most a quarter of the words."""
    counts = [len(s.split()) for s in sentences]
    return [i for i, n in enumerate(counts) if n and 4 * n <= sum(counts)] if len(counts) >= LONG_TURN else []


def sentence_left_out(text: str, rng: random.Random) -> str | None:
    sentences = _sentences(text)
    if not (places := _small(sentences)) or len(text.split()) < 24:
        return None
    del sentences[rng.choice(places)]
    return "".join(sentences).strip()


def sentence_added(text: str, rng: random.Random) -> str | None:
    sentences, added = _sentences(text), rng.choice(ADDED)
    if len(sentences) < LONG_TURN or len(text.split()) < 4 * len(added.split()):
        return None
    sentences.insert(rng.randrange(len(sentences) + 1), f" {added} ")
    return "".join(sentences).strip()


def sentence_reworded(text: str, rng: random.Random) -> str | None:
    """Up to three words of one sentence are others."""
    sentences = _sentences(text)
    if not (places := _small(sentences)) or len(text.split()) < 24:
        return None
    at = rng.choice(places)
    words = sentences[at].split()
    for i in rng.sample(range(len(words)), min(3, len(words))):
        words[i] = rng.choice(THINGS)
    space = sentences[at][: len(sentences[at]) - len(sentences[at].lstrip())]
    sentences[at] = space + " ".join(words)
    return "".join(sentences)


EDITS: tuple[Edit, ...] = (case, punctuation, word_swap, sentence_left_out, sentence_added, sentence_reworded)


def real_prompts(folder: Path) -> tuple[list[Prompt], int]:
    """Prompts of HH-RLHF of which none is near another, and how many were left out for that."""
    source = PromptSource(path=str(folder / "harmless-base-test.jsonl.gz"))
    dialogues = [row for row in read_prompts(source, 0) if isinstance(row, Prompt)]
    turns = (m for row in dialogues for m in row.messages if m.role == "user")
    both = [*dialogues, *(Prompt.make([turn], "hh-turn") for turn in turns if turn.content)]
    prompts = list({prompt.prompt_id: prompt for prompt in both}.values())
    kept = apart([" ".join(m.content for m in prompt.messages) for prompt in prompts])
    return [prompts[i] for i in kept], len(prompts) - len(kept)


def apart(texts: Sequence[str]) -> list[int]:
    """Every text is compared with every other: those that no earlier one is like."""
    words = [re.findall(r"\w+", re.sub("['’]", "", text.lower())) for text in texts]
    numbers: dict[tuple[str, ...], int] = {}
    rows = [sorted({numbers.setdefault(p, len(numbers)) for p in zip(w, w[1:], strict=False)}) for w in words]
    indptr = np.cumsum([0, *map(len, rows)])
    flat = np.fromiter((p for row in rows for p in row), np.int32, int(indptr[-1]))
    matrix = csr_matrix((np.ones(len(flat), np.int32), flat, indptr), shape=(len(rows), len(numbers)))
    bags: dict[tuple[str, ...], int] = {}
    kept: set[int] = set()
    for start in range(0, len(rows), 1_000):
        shared = (matrix[start : start + 1_000] @ matrix.T).tocsr()
        for at in range(shared.shape[0]):
            i, span = start + at, slice(shared.indptr[at], shared.indptr[at + 1])
            others = zip(shared.indices[span].tolist(), shared.data[span].tolist(), strict=True)
            is_like = any(j < i and j in kept and n >= ALIKE * (len(rows[i]) + len(rows[j]) - n) for j, n in others)
            if words[i] and not is_like and bags.setdefault(tuple(sorted(words[i])), i) == i:
                kept.add(i)
    return sorted(kept)


def composed(n: int, rng: random.Random) -> Iterator[str]:
    """Reed-Solomon words over GF(53): polynomials of degree below 3 at six points agree at two of them at most."""
    sentences = [[f"{a} {b}." for a in first.split("|") for b in second.split("|")][:FIELD] for first, second in SLOTS]
    for number in rng.sample(range(FIELD**3), n):
        c0, c1, c2 = number % FIELD, number // FIELD % FIELD, number // FIELD**2
        yield " ".join(options[(c0 + c1 * x + c2 * x * x) % FIELD] for x, options in enumerate(sentences))


def controls(real: Sequence[Prompt], instructions: Sequence[str], n_short: int) -> Iterator[Prompt]:
    """Prompts near each other in their words, and none of them a near duplicate."""
    asks = [f"{act} a {thing}" for act in ACTS for thing in THINGS]
    for i in range(n_short):
        yield _prompt(f"How do I {asks[i % len(asks)]} in street {i // len(asks)}?", "short")
    for instruction in instructions:
        for ask in asks[:FAMILY]:
            yield _prompt(f"{instruction} The request is this: {ask} before the guests arrive.", "template")
    for i, talk in enumerate(real):
        other = Message("user", f"Something else: how would one {asks[i % len(asks)]}?")
        yield Prompt.make([*talk.messages[:-1], other], "other question")


def _prompt(text: str, source: str) -> Prompt:
    return Prompt.make([Message("user", text)], source)


def plant(prompts: Sequence[Prompt], n: int, rng: random.Random) -> list[Planted]:
    """`n` variants, one a prompt, as many of each kind as there are prompts that can have one."""
    made: list[Planted] = []
    wanted = Counter({edit.__name__: n // len(EDITS) for edit in EDITS})
    for prompt in rng.sample(prompts, len(prompts)):
        for edit in sorted(EDITS, key=lambda edit: -wanted[edit.__name__]):
            if wanted[edit.__name__] <= 0:
                break
            last = prompt.messages[-1]
            if (text := edit(last.content, rng)) is not None and text != last.content:
                changed = Prompt.make([*prompt.messages[:-1], replace(last, content=text)], prompt.source)
                made.append(Planted(changed, prompt.prompt_id, edit.__name__))
                wanted[edit.__name__] -= 1
                break
    return made


def compose(n: int, folder: Path, seed: int) -> tuple[list[Planted], dict[str, int]]:
    rng = random.Random(seed)
    n_planted, n_controls = int(VARIANTS * n), int(CONTROLS * n)
    real, n_left_out = real_prompts(folder)
    real = real[: (n - n_planted - n_controls) // 3]
    talks = [prompt for prompt in real if len(prompt.messages) >= 5][: n_controls // 3]
    n_families = n_controls // 3 // FAMILY
    n_composed = n - n_planted - n_controls - len(real)
    texts = list(composed(n_composed + n_families, rng))
    n_short = n_controls - len(talks) - n_families * FAMILY
    others = list(controls(talks, texts[n_composed:], n_short))
    base = [*real, *(_prompt(text, "composed") for text in texts[:n_composed])]
    variants = plant(base, n_planted, rng)
    rows = [Planted(p, p.prompt_id, "") for p in base] + [Planted(p, p.prompt_id, p.source) for p in others] + variants
    rng.shuffle(rows)
    counts = {"HH-RLHF": len(real), "composed": n_composed, "controls": len(others), "variants": len(variants)}
    return rows, counts | {"left out of HH-RLHF beforehand": n_left_out}


def measure(rows: Sequence[Planted]) -> dict[str, Any]:
    family = {row.prompt.prompt_id: row.family for row in rows}
    kind = {row.prompt.prompt_id: row.kind or row.prompt.source for row in rows}
    of_variant = {row.family: row for row in rows if row.prompt.prompt_id != row.family}
    started, worked = time.perf_counter(), time.process_time()
    repeats = near_duplicates(row.prompt for row in rows)
    seconds, cpu_seconds = time.perf_counter() - started, time.process_time() - worked
    right = [r for r in repeats if family[r.prompt_id] == family[r.of]]
    found = {family[r.prompt_id] for r in right}
    recall: dict[str, list[bool]] = defaultdict(list)
    for name, variant in of_variant.items():
        recall[variant.kind].append(name in found)
        recall["all"].append(name in found)
    return {
        "recall": {kind: _rate(sum(hits), len(hits)) for kind, hits in sorted(recall.items())},
        "precision": _rate(len(right), len(repeats)),
        "wrong": dict(Counter(kind[r.prompt_id] for r in repeats if family[r.prompt_id] != family[r.of])),
        "seconds": round(seconds, 2),
        "cpu_seconds": round(cpu_seconds, 2),
        "peak_rss_mib": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024),
    }


def _rate(k: int, n: int) -> dict[str, float | int]:
    low, high = wilson(k / n, n)
    return {"value": k / n, "low": low, "high": high, "n": n}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--n", type=int, default=100_000)
    parser.add_argument("--data", type=Path, default=Path("../shared/data/hh-rlhf"))
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    rows, counts = compose(args.n, args.data, args.seed)
    print(f"{len(rows):,} prompts: " + ", ".join(f"{n:,} {name}" for name, n in counts.items()))
    result = measure(rows)
    for kind, each in result["recall"].items():
        print(f"recall     {kind:<18} {_shown(each)}")
    print(f"precision  {'':<18} {_shown(result['precision'])}   wrong: {result['wrong'] or 'none'}")
    spent = f"{result['seconds']} s ({result['cpu_seconds']} of CPU)"
    print(f"{spent}, peak {result['peak_rss_mib']:,} MiB (the prompts themselves included)")
    if args.json:
        args.json.write_text(json.dumps(result | {"prompts": counts}, indent=1))
    holds = result["recall"]["all"]["value"] >= 0.95 and result["precision"]["value"] >= 0.99
    sys.exit(0 if holds else 1)


def _shown(each: dict[str, float | int]) -> str:
    return f"{100 * each['value']:6.2f} % [{100 * each['low']:.2f}, {100 * each['high']:.2f}] of {each['n']:,}"


if __name__ == "__main__":
    main()
