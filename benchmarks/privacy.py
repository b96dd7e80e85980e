"""Recall and false alarms of the detectors of personal items: 1,000 planted items in 10,000 prompts.

    python -m benchmarks.privacy [--held-back [1|2|3|4]] [--seed 0] [--data ../shared/data] [--misses 20]

Items come from `benchmarks/privacy_items.py`; with `--held-back` from `benchmarks/privacy_held_back.py`: other formats,
other contexts, written when the detectors were done; with `--held-back 2`, `3` and `4` from
`benchmarks/privacy_held_back_2.py`, `_3.py` and `_4.py`, each written without a look at the detectors and with
look-alikes of its own; the forms of `4` are weighted as people are expected to paste them. An item is found where
every character of it is covered by what was found, whatever it is called; a prompt without one that is said to have
one is a false alarm. Clean prompts are human turns of HH-RLHF (where the folder is there), prompts of the small world,
and texts of numbers that look alike.
"""

import argparse
import gzip
import json
import random
import time
from collections import Counter, defaultdict
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import NamedTuple

from benchmarks import (
    privacy_held_back,
    privacy_held_back_2,
    privacy_held_back_3,
    privacy_held_back_4,
    privacy_items,
)
from benchmarks.privacy_items import UNICODE, Planted
from cai.intervals import wilson
from cai.privacy import KINDS, Found, Kind, find
from cai.smallworld import world

N_ITEMS, N_PROMPTS = 1_000, 10_000
SHARES: dict[Kind, float] = {
    "email": 0.18, "phone": 0.24, "card": 0.13, "iban": 0.12, "key": 0.19, "ip": 0.07, "ssn": 0.07,
}  # fmt: skip
PATTERNED = tuple(kind for kind in KINDS if kind != "name")
UNICODE_SHARE = 0.1
SETS = dict(
    enumerate((privacy_items, privacy_held_back, privacy_held_back_2, privacy_held_back_3, privacy_held_back_4))
)


class Row(NamedTuple):
    text: str
    source: str
    planted: Planted | None = None
    span: tuple[int, int] = (0, 0)
    """Where the secret part of the item is."""


def planted_rows(rng: random.Random, module: ModuleType) -> Iterator[Row]:
    for kind, share in SHARES.items():
        for _ in range(round(share * N_ITEMS)):
            planted = module.MAKERS[kind](rng)
            start, end = module.secret_of(planted)
            before, secret, after = planted.item[:start], planted.item[start:end], planted.item[end:]
            form = planted.form
            if rng.random() < UNICODE_SHARE:
                name = rng.choice(list(UNICODE))
                secret, form = UNICODE[name](secret), f"{form}, {name}"
            contexts = module.CONTEXTS[kind] if planted.needs_words else module.CONTEXTS[kind] + module.ANYWHERE
            lead, _, rest = rng.choice(contexts).partition("{}")
            text = f"{lead}{before}{secret}{after}{rest}"
            place = len(lead) + len(before)
            yield Row(text, "planted", planted._replace(form=form), (place, place + len(secret)))


def human_turns(data: Path) -> list[str]:
    """Each once."""
    path = data / "hh-rlhf" / "harmless-base-test.jsonl.gz"
    if not path.is_file():
        return []
    with gzip.open(path, "rt", encoding="utf-8") as file:
        dialogues = [json.loads(line)["chosen"] for line in file]
    turns = (part.split("\n\nAssistant:")[0].strip() for each in dialogues for part in each.split("\n\nHuman:")[1:])
    return list(dict.fromkeys(filter(None, turns)))


def clean_rows(rng: random.Random, module: ModuleType, data: Path) -> Iterator[Row]:
    """As many as are missing of `N_PROMPTS`: a quarter numbers that look alike, the rest of either other source."""
    n = N_PROMPTS - N_ITEMS
    turns = human_turns(data)[: n // 2]
    n_alike = n // 4
    yield from (Row(text, "HH-RLHF") for text in turns)
    look_alike = getattr(module, "look_alike", privacy_items.look_alike)
    yield from (Row(look_alike(rng), "look-alikes") for _ in range(n_alike))
    prompts = world.prompts("train", n - n_alike - len(turns), 0)
    yield from (Row(prompt.messages[-1].content, "small world") for prompt in prompts)


def is_covered(row: Row, found: list[Found]) -> bool:
    covered = {place for each in found for place in range(each.start, each.end)}
    return all(place in covered for place in range(*row.span) if row.text[place].isalnum())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--held-back", type=int, nargs="?", choices=SETS, default=0, const=1)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--data", type=Path, default=Path(__file__).parents[2] / "shared" / "data")
    parser.add_argument("--misses", type=int, default=20)
    args = parser.parse_args()
    rng = random.Random(args.seed)
    module = SETS[args.held_back]
    rows = [*planted_rows(rng, module), *clean_rows(rng, module, args.data)]
    rng.shuffle(rows)
    results = [find(row.text, PATTERNED) for row in rows]
    started = time.perf_counter()
    for row in rows:
        find(row.text, PATTERNED)
    seconds = time.perf_counter() - started
    _print_recall(rows, results, args.misses)
    _print_alarms(rows, results)
    n_chars = sum(len(row.text) for row in rows)
    print(f"\n{len(rows) / seconds:,.0f} rows/s on one core once warm, {n_chars / len(rows):.0f} characters each")


def _print_recall(rows: list[Row], results: list[list[Found]], n_misses: int) -> None:
    n, hits, named = Counter[str](), Counter[str](), Counter[str]()
    misses = []
    for row, found in zip(rows, results, strict=True):
        if row.planted is None:
            continue
        for name in (row.planted.kind, "all"):
            n[name] += 1
            hits[name] += is_covered(row, found)
            named[name] += any(each.kind == row.planted.kind for each in found)
        if not is_covered(row, found):
            misses.append(row)
    print(f"{'kind':8}{'items':>7}{'found':>7}  recall (95 %)            as that kind")
    for name in [*SHARES, "all"]:
        low, high = wilson(hits[name] / n[name], n[name])
        print(
            f"{name:8}{n[name]:7}{hits[name]:7}  {hits[name] / n[name]:.4f} ({low:.4f} to {high:.4f})  {named[name]:7}"
        )
    print(f"\nmissed: {len(misses)}")
    for row in misses[:n_misses]:
        assert row.planted is not None, "only planted items are missed"
        print(f"  {row.planted.kind}, {row.planted.form}: {row.text!r:.150}")


def _print_alarms(rows: list[Row], results: list[list[Found]]) -> None:
    n, alarms = Counter[str](), Counter[str]()
    kinds: defaultdict[str, Counter[str]] = defaultdict(Counter)
    for row, found in zip(rows, results, strict=True):
        if row.planted is None:
            for name in (row.source, "all"):
                n[name] += 1
                alarms[name] += bool(found)
                kinds[name].update(each.kind for each in found)
    print(f"\n{'clean':12}{'prompts':>8}{'alarms':>8}  rate (95 %)")
    for name, total in n.items():
        low, high = wilson(alarms[name] / total, total)
        rate = f"{alarms[name] / total:.4f} ({low:.4f} to {high:.4f})"
        print(f"{name:12}{total:8}{alarms[name]:8}  {rate}  {dict(kinds[name]) or ''}")
    for row, found in zip(rows, results, strict=True):
        if row.source == "look-alikes" and found:
            print(f"  {[each.kind for each in found]}: {row.text!r:.150}")


if __name__ == "__main__":
    main()
