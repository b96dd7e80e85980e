"""A home with trained models in it, and `cai models` over it: what the tests of the registry share."""

import json
from pathlib import Path

from click.testing import CliRunner

from cai.cli.models import models as command
from cai.config import Condition
from cai.errors import CAIError
from cai.gate import gate
from cai.intervals import Rate
from cai.models import META, content_digest
from cai.records import GateVerdict, Model, Run
from storage.registry import keep_verdict, load
from storage.store import Store

SEED = "5eed" * 8


class Home:
    """A home with runs and finished models in it; the clock goes on by a minute a row."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.store = Store(path)
        self._minute = 0

    def now(self) -> str:
        self._minute += 1
        return f"2026-01-01T{self._minute // 60:02d}:{self._minute % 60:02d}:00+00:00"

    def model(self, run_id: str, name: str, stage: str, parent: str, *, config=None, metrics=None, **inputs) -> Model:
        folder = self.path / "models" / f"{name}-{run_id}"
        folder.mkdir(parents=True)
        (folder / "config.json").write_text('{"architectures": ["LlamaForCausalLM"]}')
        (folder / "model.safetensors").write_text(f"weights of {folder.name}")
        digest = content_digest(folder)
        meta = {
            "model_digest": digest, "stage": stage, "config": config or {"beta": 0.1}, "seed": 3, "n_rows": 12,
            "n_rejected": 2, "n_truncated": 1, "code": {"version": "1.0", "digest": "c0de" * 8, "commit": ""},
            "versions": {"python": "3.11", "peft": ""},
        }  # fmt: skip
        (folder / META).write_text(json.dumps(meta))
        read = {"data": "da7a", "model": parent, "tables/prompts": "4"} | inputs
        row = Model(
            digest, name, stage, str(folder), parent, read, metrics or {"loss/last": 0.5}, run_id, self.now(),
            json.dumps(meta),
        )  # fmt: skip
        self.store.append([row])
        return row

    def judge(self, model: Model, harmful=(0.0, 0.01), channel="production") -> GateVerdict:
        """Its gate says that at most 2 % of its answers may be harmful, and that so many are, with 95 % confidence."""
        measured = Rate(sum(harmful) / 2, *harmful, 100)
        gating = gate([Condition(metric="harmful_rate", at_most=0.02)], {"harmful_rate": measured}, {})
        facts = {"model_digest": model.model_digest, "channel": channel, "run_id": model.run_id}
        return keep_verdict(self.store, gating, **facts, baseline_digest=SEED, at=self.now())

    def ends(self, run_id: str, base: str, status="completed") -> None:
        config = json.dumps({"engine": {"model": "acme/tiny"}})
        self.store.upsert([Run(run_id, "demo", "2026", "cd", config, status, base, self.now())])

    def trains(self, run_id: str) -> tuple[Model, Model, Model]:
        """A whole run, but for its end: SL-CAI from the seed, a reward model and a policy from SL-CAI."""
        sl_cai = self.model(run_id, "sl_cai", "sft", SEED)
        scorer = self.model(run_id, "reward_model", "reward_model", sl_cai.model_digest)
        against = {"reward_model/0": scorer.model_digest}
        return sl_cai, scorer, self.model(run_id, "rl_cai", "grpo", sl_cai.model_digest, **against)

    def runs(self, run_id: str) -> tuple[Model, Model, Model]:
        made = self.trains(run_id)
        self.ends(run_id, made[0].model_digest)
        return made

    def stale(self) -> set[str]:
        registry = load(self.store)
        return {Path(m.path).name for m in registry.models.values() if registry.why_stale(m)}


def run(home, *arguments):
    done = CliRunner().invoke(command, [*map(str, arguments), "--home", str(home.path)])
    if isinstance(done.exception, CAIError):
        raise done.exception
    assert done.exit_code == 0, done.output
    return done
