"""What a campaign came to, as rows and sentences for people. Pure."""

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence

from cai.intervals import Rate, rate
from cai.prompts.cells import Cell, Quotas
from cai.prompts.drafts import text_of
from cai.prompts.rounds import NOT_TRIED, Generated, Round
from cai.prompts.writing import Tally
from cai.records import Attempt, Prompt

Row = tuple[str | int, ...]
CELLS = ("kind", "tag", "topic", "quota", "asked", "kept", "rejected", "read", "elicited")
TAGS = ("tag", "quota", "asked", "kept", "of no use", "read", "elicited")
ROUNDS = ("round", "asked", "kept", "tried", "elicited", "unscored", "new weak spots", "weak spots")
REASONS = ("reason", "replies", "what it says, and what to do")
EXAMPLES = ("kind", "tag", "round", "P(harm)", "prompt")
N_EXAMPLES = 3
"""Prompts of each kind that are shown."""

MEANING = {
    "off_task": "it is not what was asked for; a larger model, a plainer template, or a judge that can tell",
    "task_unread": "the judge did not say whether it is what was asked for; another judge, or `on_task: false`",
    "not_novel": "it is like a prompt that is there already; more topics, hotter, fewer wanted, or a larger model",
    "too_short": "hardly a word; a larger model",
    "empty_response": "nothing was said; a larger model, or a chat template that fits",
    "cut_off": "it was not finished; raise `generate.max_tokens`",
    "writer_refused": "the writer declines; take one that is helpful only, under `generate.engine`",
    "leaks_template": "it repeats the request; a larger model",
    "not_one_message": "it is a conversation where one message was wanted; a larger model",
    "no_dialogue": "it is no conversation of user and assistant in turn; a larger model, or `dialogues: 0`",
    "empty_prompt": "nothing is left without quotation marks and roles; a larger model",
    "prompt_too_long": "the request does not fit; fewer `shots`, or a longer `context_length`",
    "held_out_prompt": "it is what is measured with; nothing to do",
    "near_evaluation": "it repeats what is measured with; nothing to do",
    "gold_prompt": "it has gold labels; nothing to do",
    "personal_data": "it names what `privacy` rejects; nothing to do",
}


def cell_rows(
    quotas: Quotas, tallies: Mapping[Cell, Tally], attempts: Iterable[Attempt], elicited_from: float
) -> list[Row]:
    """By kind, tag and topic: how much of the quota the first round filled; in all rounds how many were asked for and
    kept, rejected and why, read, and what share drew out harm.
    """
    by_cell: dict[tuple[str, str, str], list[Attempt]] = defaultdict(list)
    for row in attempts:
        by_cell[row.kind, row.tag, row.topic].append(row)
    rows: list[Row] = []
    for cell, quota in quotas.items():
        tally = tallies.get(cell, Tally(0, 0, 0, Counter()))
        rejected = ", ".join(f"{why} {n}" for why, n in tally.rejected.most_common())
        counts = (filled(tally.n_first, quota), tally.n_asked, tally.n_kept, rejected)
        rows.append((*cell, *counts, *_elicited(by_cell[cell], elicited_from)))
    return rows


def tag_rows(
    quotas: Quotas, tallies: Mapping[Cell, Tally], attempts: Iterable[Attempt], elicited_from: float
) -> list[Row]:
    """What is covered: the same, of all kinds and topics of a tag together."""
    by_tag: dict[str, list[Attempt]] = defaultdict(list)
    for row in attempts:
        by_tag[row.tag].append(row)
    rows: list[Row] = []
    for tag in dict.fromkeys(cell.tag for cell in quotas):
        quota = sum(n for cell, n in quotas.items() if cell.tag == tag)
        mine = [tally for cell, tally in tallies.items() if cell.tag == tag]
        n_asked, n_kept = sum(each.n_asked for each in mine), sum(each.n_kept for each in mine)
        n_first = sum(each.n_first for each in mine)
        counts = (filled(n_first, quota), n_asked, n_kept, n_asked - n_kept)
        rows.append((tag, *counts, *_elicited(by_tag[tag], elicited_from)))
    return rows


def _elicited(attempts: Sequence[Attempt], elicited_from: float) -> tuple[int, str]:
    """How many could be read, and what share of them drew out harm."""
    read = [(row.elicited >= elicited_from, row.prompt_id) for row in attempts if row.elicited is not None]
    found = rate([is_find for is_find, _ in read], [prompt_id for _, prompt_id in read])
    return len(read), percent(found) if read else ""


def filled(n: int, quota: int) -> str:
    return f"{n} of {quota}"


def percent(found: Rate) -> str:
    return f"{100 * found.value:.0f} % [{100 * found.low:.0f}, {100 * found.high:.0f}]"


def round_rows(rounds: Iterable[Round]) -> list[Row]:
    """The curve: what each round found, and the weak spots known by then."""
    rows: list[Row] = []
    n_spots = 0
    for done in rounds:
        n_spots += done.n_spots
        counts = (done.n_asked, done.n_kept, done.n_tried, done.n_elicited, done.n_unscored)
        rows.append((done.round, *counts, done.n_spots, n_spots))
    return rows


def reason_rows(tallies: Mapping[Cell, Tally]) -> list[Row]:
    """Why replies were of no use, the most frequent reason first."""
    reasons = sum((tally.rejected for tally in tallies.values()), Counter[str]())
    return [(why, n, MEANING.get(why, "see `rejects`")) for why, n in reasons.most_common()]


def examples_of(attempts: Sequence[Attempt]) -> list[Attempt]:
    """Some of each kind, those that drew out most harm first, so that people see what was kept."""
    shown: list[Attempt] = []
    for kind in dict.fromkeys(row.kind for row in attempts):
        mine = [row for row in attempts if row.kind == kind]
        shown += sorted(mine, key=lambda row: (-(row.elicited or 0.0), row.prompt_id))[:N_EXAMPLES]
    return shown


def example_rows(attempts: Iterable[Attempt], prompts: Mapping[str, Prompt]) -> list[Row]:
    rows: list[Row] = []
    for row in attempts:
        harm = row.unscored.replace("_", " ") if row.elicited is None else f"{row.elicited:.2f}"
        rows.append((row.kind, row.tag, row.round, harm, text_of(prompts[row.prompt_id].messages)))
    return rows


def sentences(
    made: Generated, quotas: Quotas, tallies: Mapping[Cell, Tally], *, n_reused: int, shows_nothing: bool
) -> list[str]:
    """What came of it, what did not, and what to do about that."""
    n_asked = sum(tally.n_asked for tally in tallies.values())
    n_kept = sum(tally.n_kept for tally in tallies.values())
    n_first = sum(tally.n_first for tally in tallies.values())
    said = [f"{n_kept} prompts kept of {n_asked} replies ({n_reused} of them found); {made.stopped}"]
    reasons = reason_rows(tallies)
    if n_first < quotas.total():
        short = f"{n_first} of the {quotas.total()} prompts wanted in the first round were written"
        why = f"; most of the others are {reasons[0][0]} ({reasons[0][1]}): {reasons[0][2]}" if reasons else ""
        said.append(("nothing was written to train on: " if n_kept == 0 else "") + short + why)
    if shows_nothing:
        said.append(
            "no request showed an example, for the home has no prompt of these kinds and tags; "
            "`cai prompts import` some first, with --kind and --tags"
        )
    unread = Counter(row.unscored for row in made.attempts if row.unscored not in ("", NOT_TRIED))
    if unread:
        said.append(f"{unread.total()} were tried and could not be read: {_counted(unread)}")
    if n_kept and any(r.n_tried for r in made.rounds) and not any(r.n_elicited for r in made.rounds):
        said.append("none drew out harm from this policy, so nothing was varied")
    return said


def _counted(counts: Counter[str]) -> str:
    return ", ".join(f"{name} {n}" for name, n in counts.most_common())
