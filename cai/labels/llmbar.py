"""LLMBar's files (pairs with a gold label, and a judge's stored verdicts in both orders) as rows of our tables.

It only reads. A verdict that names neither output is a reject.

    from cai.labels.llmbar import read_llmbar; Store(home).append(read_llmbar(folder))
"""

import json
import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from cai.errors import DataError
from cai.feedback import ResponsePair
from cai.records import Annotation, Comparison, Message, Order, Prompt, Record, Reject, Response, digest

SOURCE = "llmbar"
LICENCE = "MIT"
PRINCIPLE = "follows-the-instruction"
_GOLD_FILE = "dataset"
_SWAPS = {"swap = False": False, "swap = True": True}


def read_llmbar(folder: Path) -> list[Record]:
    """The rows of `folder/dataset.json`, and of each other JSON file there the verdicts of the judge it is named for.

    Raises:
        DataError: a file is missing or has another shape; says which row.
    """
    rows: list[Record] = []
    for path in [folder / f"{_GOLD_FILE}.json", *sorted(p for p in folder.glob("*.json") if p.stem != _GOLD_FILE)]:
        for place, row in enumerate(_items(path)):
            try:
                rows += _rows(row, folder.name, path.stem)
            except (KeyError, TypeError, IndexError, AttributeError) as error:
                raise DataError(
                    f"row {place} of {path} lacks {error}; `input`, `output_1`, `output_2`, `label` are expected, and "
                    "`results` beside them where a judge was asked"
                ) from error
    return rows


def _items(path: Path) -> list[Any]:
    try:
        items = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise DataError(f"{path} cannot be read as JSON: {error}; name a folder of LLMBar, such as Natural") from error
    if not isinstance(items, list):
        raise DataError(f"{path} holds {type(items).__name__}, a list of rows is expected")
    return items


def _rows(row: Mapping[str, Any], subset: str, stem: str) -> Iterator[Record]:
    prompt = Prompt.make([Message("user", row["input"])], SOURCE, LICENCE, (subset,), "eval")
    outputs = [Response.given(prompt.prompt_id, row[name], SOURCE) for name in ("output_1", "output_2")]
    pair = ResponsePair.of(prompt, *outputs)
    yield prompt
    yield from outputs
    if stem == _GOLD_FILE:
        yield _gold(pair, winner=outputs[row["label"] - 1])
        return
    asked = row["results"][0]  # a second result is what the judge said after it had contradicted itself
    for name, is_swapped in _SWAPS.items():
        yield _verdict(pair, outputs, asked[name], is_swapped, stem)


def _gold(pair: ResponsePair, winner: Response) -> Annotation:
    ids = pair.a.response_id, pair.b.response_id
    row_id = Annotation.make_id(*ids, SOURCE, "", "", is_gold=True)
    return Annotation(row_id, pair.prompt.prompt_id, *ids, float(winner is pair.a), SOURCE, is_gold=True)


def _verdict(
    pair: ResponsePair, outputs: list[Response], said: Mapping[str, Any], is_swapped: bool, judge: str
) -> Comparison | Reject:
    first = outputs[1] if is_swapped else outputs[0]
    order: Order = "ab" if first is pair.a else "ba"
    ids = pair.a.response_id, pair.b.response_id
    texts = digest("principle", PRINCIPLE), digest("template", SOURCE, judge)
    row_id = Comparison.make_id(*ids, order, PRINCIPLE, *texts, judge)
    reasoning = str(said["completion"][0])
    if said["winner"] not in ("1", "2"):
        detail = f"winner {said['winner']!r}, 1 or 2 is expected"
        prompt_id = pair.prompt.prompt_id
        return Reject.make(
            "comparison", "no_verdict", prompt_id=prompt_id, parents=(row_id,), detail=detail, text=reasoning
        )
    prefers_a = outputs[int(said["winner"]) - 1] is pair.a
    return Comparison(
        row_id,
        pair.prompt.prompt_id,
        *ids,
        order,
        PRINCIPLE,
        texts[0],
        digest("constitution", SOURCE),
        texts[1],
        judge,
        logp_a=0.0 if prefers_a else -math.inf,
        logp_b=-math.inf if prefers_a else 0.0,
        mass_outside=0.0,
        exact=False,
        reasoning=reasoning,
        method="text",
    )
