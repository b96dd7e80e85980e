"""Another engine on the same comparisons: what flips is counted by hand, and what was paid for is kept."""

import asyncio
import json
import math
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
import yaml
from click.testing import CliRunner, Result
from sklearn.metrics import cohen_kappa_score

from cai.cli.labels.compare import command
from cai.config import FeedbackConfig, PreferencesConfig, load_profile
from cai.constitution import Constitution, Principle
from cai.engines.scripted import ScriptedEngine
from cai.feedback import Labelling, ResponsePair, label
from cai.labels.engine_change import EngineChange, Renamed, compare, passed, slice_of
from cai.ledger import MemoryLedger
from cai.records import Comparison, Message, Prompt, Response, digest
from flows.import_step import import_prompts
from flows.labelling import labels
from flows.runs import RunFolder, create_run
from flows.session import Session
from flows.steps import candidates
from storage.store import Store

CONSTITUTION = Constitution("c", "", (Principle("kind", "kind", 1.0, (), ("preference",), "", "", "Kinder?"),))
CONFIG = FeedbackConfig()


def pair(i: int, of: int | None = None) -> ResponsePair:
    prompt = Prompt.make([Message("user", f"question {i if of is None else of}")], "test")
    one, other = (Response.given(prompt.prompt_id, f"{name} {i}", "test") for name in ("GOOD", "BAD"))
    return ResponsePair.of(prompt, one, other)


def follows(p_good: Callable[[str], float]) -> ScriptedEngine:
    """Gives the GOOD reply the probability that its conversation has."""

    def choose(messages: Sequence[Message], options: Sequence[str]) -> tuple[float, float]:
        shown = messages[-1].content
        p = p_good(shown)
        return (p, 1 - p) if shown.index("GOOD") < shown.index("BAD") else (1 - p, p)

    return ScriptedEngine(choices=choose)


def answered(pairs: Sequence[ResponsePair], engine: ScriptedEngine) -> list[Comparison]:
    ledger = MemoryLedger()
    settings = {"constitution": CONSTITUTION, "config": CONFIG, "seed": 0, "max_concurrency": 4}
    asyncio.run(label(pairs, engine=engine, ledger=ledger, **settings))
    return ledger.rows(Comparison)


def changed(pairs: Sequence[ResponsePair], before: ScriptedEngine, after: ScriptedEngine) -> EngineChange:
    labelling = Labelling(CONSTITUTION, CONFIG, seed=0, judge_digest=before.model_digest)
    rows = answered(pairs, before), answered(pairs, after)
    return compare(pairs, *rows, labelling, labelling, config=PreferencesConfig())


def test_the_same_judge_changes_nothing() -> None:
    pairs = [pair(i) for i in range(20)]
    made = changed(pairs, follows(lambda shown: 0.9), follows(lambda shown: 0.9))
    assert (made.n_asks, made.flip_rate.value, made.drift.value, made.shift.value) == (40, 0.0, 0.0, 0.0)
    assert made.kappa.value == pytest.approx(1.0) and passed(made, 0.0)


def test_flips_drift_and_kappa_by_hand() -> None:
    """5 of 20 pairs are turned round: P(GOOD) from 0.8 to 0.4; in the others it sinks to 0.7."""
    pairs = [pair(i) for i in range(20)]
    turned = {pair(i).prompt.messages[0].content for i in range(5)}
    after = follows(lambda shown: 0.4 if any(f"{text}\n" in shown for text in turned) else 0.7)
    made = changed(pairs, follows(lambda shown: 0.8), after)
    assert made.flip_rate.value == 0.25 and made.flip_rate.low < 0.25 < made.flip_rate.high
    drift = (5 * math.log(0.4 / 0.8) + 15 * math.log(0.7 / 0.8)) / 20
    assert made.drift.value == pytest.approx(drift) and made.shift.value == pytest.approx(-drift)
    assert made.p_shift.value == pytest.approx((5 * 0.4 + 15 * 0.1) / 20)
    good = ["a" if p.a.text.startswith("GOOD") else "b" for p in pairs]
    other = [("b" if side == "a" else "a") if i < 5 else side for i, side in enumerate(good)]
    assert made.kappa.value == pytest.approx(cohen_kappa_score(good, other), abs=1e-12)
    assert made.kappa.low < made.kappa.value < made.kappa.high
    assert passed(made, 0.25) and not passed(made, 0.24)


def test_rounding_near_one_half_flips_nothing() -> None:
    """A judge in half the precision turned one ask of six round, all of them ties that nobody would miss."""
    pairs = [pair(i) for i in range(20)]
    made = changed(pairs, follows(lambda shown: 0.504), follows(lambda shown: 0.497))
    assert made.flip_rate.value == 0 and made.p_shift.value == pytest.approx(0.007)
    parted = changed(pairs, follows(lambda shown: 0.504), follows(lambda shown: 0.48))
    assert parted.flip_rate.value == 0 and not parted.kappa.value > 0


def test_asks_of_one_prompt_are_not_independent() -> None:
    """The same flips: all in two prompts, or spread over forty. The interval is wider where they cling together."""
    turned = follows(lambda shown: 0.3 if "question 0\n" in shown else 0.9)
    one = changed([pair(i, of=i // 10) for i in range(40)], follows(lambda shown: 0.9), turned)
    spread = follows(lambda shown: 0.3 if any(f"question {i}\n" in shown for i in range(0, 40, 4)) else 0.9)
    many = changed([pair(i) for i in range(40)], follows(lambda shown: 0.9), spread)
    assert one.flip_rate.value == many.flip_rate.value == 0.25
    assert one.flip_rate.high - one.flip_rate.low > 1.5 * (many.flip_rate.high - many.flip_rate.low)


def test_what_cannot_be_read_and_what_is_missing_is_counted_apart() -> None:
    pairs = [pair(i) for i in range(10)]
    silent = ScriptedEngine(choices=lambda m, o: (0.1, 0.1) if "question 0\n" in m[-1].content else (0.9, 0.1))
    labelling = Labelling(CONSTITUTION, CONFIG, seed=0, judge_digest=silent.model_digest)
    before, after = answered(pairs, follows(lambda shown: 0.9)), answered(pairs[:8], silent)
    made = compare(pairs, before, after, labelling, labelling, config=PreferencesConfig())
    assert (made.n_missing, made.n_unscored, made.n_asks) == (4, 2, 14)
    nothing = compare(pairs, before, [], labelling, labelling, config=PreferencesConfig())
    assert math.isnan(nothing.kappa.value) and not passed(nothing, 1.0)


def test_the_slice_is_the_same_one_and_a_larger_one_begins_with_it() -> None:
    pairs = [pair(i) for i in range(30)]
    rows = answered(pairs, follows(lambda shown: 0.9))
    prompts = {p.prompt.prompt_id: p.prompt for p in pairs}
    responses = {r.response_id: r for p in pairs for r in (p.a, p.b)}
    few, more = slice_of(rows, prompts, responses, 5), slice_of(rows[::-1], prompts, responses, 12)
    assert more[:5] == few and len(more) == 12 and set(more) <= set(pairs)
    assert slice_of(rows, {}, responses, 5) == []


def test_the_same_weights_in_another_setting_have_a_name_of_their_own() -> None:
    engine = ScriptedEngine()
    names = {
        Renamed(engine, *s).model_digest for s in (("vllm", "float32"), ("vllm", "bfloat16"), ("transformers", ""))
    }
    assert len(names) == 3 and engine.model_digest not in names


@pytest.fixture
def run(tmp_path: Path) -> RunFolder:
    """A run that is labelled, by a judge that follows a script."""
    (tmp_path / "prompts.txt").write_text("".join(f"how do i do thing number {i}?\n" for i in range(12)))
    principle = {"id": "kind", "stages": ["preference"], "preference": "Which response is kinder?"}
    (tmp_path / "c.yaml").write_text(yaml.safe_dump({"name": "c", "principles": [principle]}))
    body = {
        "name": "tried",
        "constitution": str(tmp_path / "c.yaml"),
        "engine": {"kind": "scripted", "model": "one"},
        "prompts": [{"path": str(tmp_path / "prompts.txt")}],
    }
    (tmp_path / "profile.yaml").write_text(yaml.safe_dump(body))
    made = create_run(load_profile(tmp_path / "profile.yaml"), tmp_path / "home")
    session = Session(made)
    made.finish("prompts", import_prompts(session))
    asyncio.run(candidates(session, 0, "one"))
    made.finish("labels-0", asyncio.run(labels(session, 0)))
    return made


def called(run: RunFolder, *arguments: str) -> Result:
    return CliRunner().invoke(command, [run.run_id, "--home", str(run.home), *arguments])


def test_the_command_stores_what_it_asked_and_asks_nothing_again(run: RunFolder) -> None:
    n_before = len(Store(run.home).read(Comparison))
    first = called(run, "--model", "another", "--n", "8")
    assert first.exit_code == 1, first.output  # judges that answer by digest agree by chance
    assert "16 asked, 0 found" in first.output and "FAILED: at most 0.05" in first.output
    rows = Store(run.home).read(Comparison)
    assert [r.judge_digest for r in rows].count(digest("scripted", "another")) == 16 == len(rows) - n_before
    again = called(run, "--model", "another", "--n", "8", "--max-flip-rate", "1")
    assert again.exit_code == 0 and "0 asked, 16 found" in again.output


def test_the_same_weights_are_compared_and_stored_apart(run: RunFolder) -> None:
    done = called(run, "--dtype", "bfloat16", "--format", "json")
    made = json.loads(done.stdout)
    assert done.exit_code == 0 and made["flip_rate"]["value"] == 0 and made["passed"]
    assert made["judge_digest"] == digest("scripted", "one") != made["other_digest"]
    assert made["n_asks"] == 24 and made["n_missing"] == 0
