"""Texts that `max_tokens` ended before their author did: what a run does with them, and what it says of them.

The end of a turn stands behind every text that is trained on, so a model that is shown half a revision learns to stop
in the middle: such a revision is a reject, and an earlier one or the response is no substitute, for it is what was
to be revised. Candidates stay: RL samples replies that are cut off too, and a reward model has to have seen some; but
the judge's opinion is then of half a text, so their share is said.
"""

from collections.abc import Iterable

from cai.records import Reject, Response, Revision

MANY = 0.05
"""The share from which they are worth a warning."""


def is_cut_off(row: Response | Revision) -> bool:
    return row.finish_reason == "length"


def cut_off_revisions(rows: Iterable[Revision]) -> list[Reject]:
    """A reject for each revision that was cut off."""
    return [
        Reject.make(
            "sft_set",
            "cut_off",
            prompt_id=row.prompt_id,
            parents=(row.revision_id,),
            detail=f"a revision of {row.n_tokens} tokens was cut off; raise `chains.revision.max_tokens`",
            text=row.text,
        )
        for row in rows
        if is_cut_off(row)
    ]


def revision_warnings(n_cut_off: int, n: int) -> list[str]:
    what = "and are not trained on: the rows that are left are the shorter ones"
    return _warnings("revisions", n_cut_off, n, f"{what}; raise `chains.revision.max_tokens`")


def candidate_warnings(n_cut_off: int, n: int) -> list[str]:
    what = "and stay: of these a label is the judge's opinion of half a text"
    return _warnings("candidates", n_cut_off, n, f"{what}; raise `candidates.response.max_tokens`")


def _warnings(name: str, n_cut_off: int, n: int, what: str) -> list[str]:
    if n_cut_off <= MANY * n:
        return []
    return [f"{n_cut_off:,} of {n:,} {name} ({n_cut_off / n:.1%}) were cut off {what}"]
