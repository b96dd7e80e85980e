"""Rows for the tests of `storage`, all decided by a number; and, run as a program, a writer that can be killed.

`python tests/storage_rows.py HOME N` hands N chains to a ledger, compacting now and then, and prints what is durable.
"""

import sys
from pathlib import Path

from cai.records import (
    Annotation,
    Approval,
    Attempt,
    Comparison,
    Contamination,
    Evaluation,
    EvaluationItem,
    GateVerdict,
    Message,
    Model,
    Override,
    PreferencePair,
    Promotion,
    Prompt,
    Rating,
    Recalibration,
    Record,
    Reject,
    Response,
    Revision,
    Rollout,
    Run,
    Sampling,
    Score,
)


def prompt(n: int) -> Prompt:
    return Prompt.make([Message("user", f"question {n} — ünïcode 'quoted' \x00")], "test", "MIT", ("a", "b"))


def contamination(n: int) -> Contamination:
    key = Contamination.make_id(prompt(n).prompt_id, "held", "import", "")
    return Contamination(key, prompt(n).prompt_id, "held", "inside", "import", "", "near_evaluation", "test")


def response(n: int, index: int = 0) -> Response:
    key = Response.make_id(prompt(n).prompt_id, "model", Sampling(), 0, index)
    text = f"answer {n}.{index}"
    return Response(key, prompt(n).prompt_id, "model", "initial", index, 7, 1.0, 1.0, 256, text, "stop", 5, 9)


def revision(n: int, round: int = 1, principle: str = "kind") -> Revision:
    first = response(n).response_id
    parent = first if round == 1 else revision(n, round - 1, principle).revision_id
    key = Revision.make_id(parent, round, principle, "pd", "td", "model", Sampling(), Sampling(), 0)
    decided = (round, principle, "pd", "cd", "td", "model", 7)
    return Revision(
        key, prompt(n).prompt_id, first, parent, *decided, "bad", "stop", f"better {n}.{round}", "stop", 5, 9
    )


def comparison(n: int, order: str = "ab", principle: str = "kind", logp_a: float = -0.1) -> Comparison:
    a, b = sorted([response(n).response_id, response(n, 1).response_id])
    key = Comparison.make_id(a, b, order, principle, "pd", "td", "judge")
    decided = (a, b, order, principle, "pd", "cd", "td", "judge")
    return Comparison(key, prompt(n).prompt_id, *decided, logp_a, -2.4, 0.0, True)


def annotation(n: int, p_a: float = 1.0, annotator: str = "hash", is_gold: bool = False) -> Annotation:
    a, b = sorted([response(n).response_id, response(n, 1).response_id])
    key = Annotation.make_id(a, b, "people.csv", annotator, "harmlessness", is_gold)
    return Annotation(key, prompt(n).prompt_id, a, b, p_a, "people.csv", annotator, "", "harmlessness", is_gold, "b")


def pair(n: int, soft_label: float = 0.9) -> PreferencePair:
    p, a, b = prompt(n), response(n), response(n, 1)
    ids = (f"pair{n:06d}", p.prompt_id, p.messages, a.response_id, b.response_id, a.text, b.text)
    return PreferencePair(*ids, soft_label, soft_label == 0.5, 2, 1.0, 0.0)


def reject(n: int) -> Reject:
    return Reject.make("chains", "prompt_too_long", prompt_id=prompt(n).prompt_id, parents=[str(n)], text="long")


def one_of_each() -> list[Record]:
    """A row of every record, children first, with the values that are easy to lose."""
    return [
        reject(1),
        EvaluationItem.make("set", "sycophancy", prompt(1).prompt_id, options=("A", "B"), opinion="B", twin_id="p0"),
        Evaluation("e1", "seed", "model", "held_out", "harmful_rate", float("nan"), 0.0, float("inf"), 0),
        Rollout("ro1", "r1", 0, prompt(1).prompt_id, "text", 1.5, 0.01, 3, {"length": -0.5}),
        Rating("ra1", prompt(1).prompt_id, response(1).response_id, "harm", "t", "j", (-0.1, -9.0), 0.02, True, 5),
        Attempt(
            "at1",
            prompt(1).prompt_id,
            "c1",
            1,
            "harmful",
            "theft",
            "",
            True,
            ("p0",),
            "d1",
            "t",
            "w",
            "m",
            "r",
            (response(1).response_id,),
            None,
            "mass_outside",
        ),
        Recalibration("rc1", "judge", "isotonic", (0.1, 0.9), (0.2, 0.8), 60, ("g",), 3, 0.1, 0.02, 0.2, 0.18),
        Score("s1", response(1).response_id, "rm", -1.25),
        Model("m1", "rl_cai", "rl", "models/rl", "m0", {"tables/prompts": "1"}, {"a": 1.0, "loss": float("nan")}, "r1"),
        GateVerdict("g1", "m1", "production", 1, "NOT ENOUGH DATA", "[]", None, "r1", "m0", "2026-01-01T00:00:00Z"),
        Override("o1", Promotion.make_id("production", 1), "m1", "g1", "NOT ENOUGH DATA", "Ada", "why", "2026-01-02"),
        Promotion(Promotion.make_id("production", 1), "production", 1, "m1", "", "2026-01-02T00:00:00Z", "why", ""),
        Approval(
            Approval.make_id("r1", "sft", 1), "r1", "sft", 1, "f1", "2026-01-01T00:00:00Z", "2026-01-02T00:00:00Z"
        ),
        pair(1),
        annotation(1),
        comparison(1),
        revision(1),
        response(1),
        contamination(1),
        prompt(1),
        Run("r1", "laptop", "2026-01-01T00:00:00Z", "cd", '{"seed": 0}'),
    ]


def ids_at(home: Path, table: str, version: int) -> list[str]:
    """The ids that a table had at a version."""
    from storage import catalog
    from storage.schemas import TABLES

    with catalog.connect(home, {table: version}) as connection:
        found = catalog.query(connection, f"SELECT {TABLES[table].key} AS id FROM {table} ORDER BY id")
    return [row["id"] for row in found]


def chain(n: int) -> list[Record]:
    return [prompt(n), response(n), revision(n, 1), revision(n, 2), reject(n)]


def write_chains(home: Path, n_chains: int) -> None:
    from storage.ledger import TableLedger
    from storage.store import Store

    sys.stdout.reconfigure(line_buffering=True)
    store = Store(home)
    with TableLedger(store, None, commit_every_s=0.02) as ledger:
        sys.stdout.write("ready" + "\n")
        for n in range(n_chains):
            for row in chain(n):
                ledger.add(row)
            if n % 5 == 4:
                ledger.flush()
                sys.stdout.write(f"durable {n + 1}" + "\n")
            if n % 40 == 39:
                store.compact()
    sys.stdout.write(f"durable {n_chains}" + "\n")


if __name__ == "__main__":
    write_chains(Path(sys.argv[1]), int(sys.argv[2]))
