"""What the tables say of trained models: which is meant, what each came from, which is promoted, which is stale.

Nothing here reads a table (`storage/registry.py` does) or is stored: whether a model is stale follows from the runs.
"""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cai.errors import DataError
from cai.records import Evaluation, GateVerdict, Model, Override, Promotion, Run

CHANNEL = "production"
SHORT = 8
"""Digits of a digest that people are shown."""
SOURCES = "prompts"
"""Of `Model.inputs`: in words, the sources, licences and origins of the prompts it was trained on."""
PERSONAL = "personal"
"""Of `Model.inputs`: in words, the personal items in the prompts it was trained on and what became of them."""
_MIN_PREFIX = 4


@dataclass(frozen=True)
class Registry:
    """Every model, run, promotion, evaluation and verdict of one home."""

    models: Mapping[str, Model]
    """By digest."""
    runs: tuple[Run, ...]
    promotions: tuple[Promotion, ...]
    evaluations: tuple[Evaluation, ...] = ()
    gatings: tuple[GateVerdict, ...] = ()
    overrides: tuple[Override, ...] = ()

    def newest_first(self) -> list[Model]:
        return sorted(self.models.values(), key=lambda m: (m.created_at, m.name, m.model_digest), reverse=True)

    def find(self, text: str) -> Model:
        """The model that `text` means: a digest or the beginning of one, a name, a folder's name, or a channel.

        Raises:
            DataError: it means none, or more than one.
        """
        if text in self.models:
            return self.models[text]
        current = self.promoted(text)
        found = [
            model
            for model in self.newest_first()
            if (len(text) >= _MIN_PREFIX and model.model_digest.startswith(text))
            or text in (model.name, Path(model.path).name)
            or (current is not None and current.model_digest == model.model_digest)
        ]
        if not found:
            raise DataError(
                f"no model is called {text!r}; expected a digest or {_MIN_PREFIX} of its first digits or more, a name, "
                "or a channel: `cai models list` shows them"
            )
        if len(found) > 1:
            listed = ", ".join(f"{m.model_digest[:SHORT]} ({m.name}, {m.created_at or 'no date'})" for m in found[:10])
            raise DataError(
                f"{text!r} may mean {len(found)} models; give the digest of one, the newest first: {listed}"
            )
        return found[0]

    def label(self, model_digest: str) -> str:
        """A model in few words: its short digest, and its name where it is known."""
        model = self.models.get(model_digest)
        return f"{model_digest[:SHORT]} ({'not trained here' if model is None else model.name})"

    def lineage(self, model: Model) -> list[str]:
        """Digests from the model's parent up to the seed model, which is the first that was not trained here."""
        found: list[str] = []
        parent = model.parent_digest
        # Training that changes no weight gives a model its parent's digest, so a chain may close.
        while parent and parent not in found and parent != model.model_digest:
            found.append(parent)
            parent = self.models[parent].parent_digest if parent in self.models else ""
        return found

    def children(self, model: Model) -> list[Model]:
        """The models trained from this one or against it, oldest first."""
        made_of = {
            other.model_digest: {other.parent_digest, *scored_by(other)} - {other.model_digest}
            for other in self.models.values()
        }
        return [other for other in reversed(self.newest_first()) if model.model_digest in made_of[other.model_digest]]

    def promoted(self, channel: str) -> Promotion | None:
        """The promotion that counts in a channel."""
        return max((p for p in self.promotions if p.channel == channel), key=lambda p: p.number, default=None)

    def was_promoted(self, model: Model, channel: str) -> bool:
        return any((p.model_digest, p.channel) == (model.model_digest, channel) for p in self.promotions)

    def override_of(self, promotion: Promotion) -> Override | None:
        """Who had it promoted in spite of its gate; None where nobody had to."""
        wanted = (promotion.promotion_id, promotion.model_digest)
        return next((o for o in self.overrides if (o.promotion_id, o.model_digest) == wanted), None)

    def overridden(self, model: Model) -> list[Override]:
        """Who had the model promoted in spite of its gate where it is promoted now, the first time or again."""
        channels = self.channels(model)
        own = [p for p in self.promotions if p.model_digest == model.model_digest and p.channel in channels]
        found = map(self.override_of, sorted(own, key=lambda p: (p.channel, p.number)))
        return [override for override in found if override is not None]

    def verdicts(self, model: Model) -> dict[str, GateVerdict]:
        """What the gate of each channel last said of the model."""
        own = [row for row in self.gatings if row.model_digest == model.model_digest]
        return {row.channel: row for row in sorted(own, key=lambda row: (row.channel, row.number))}

    def verdict(self, model: Model, channel: str) -> GateVerdict | None:
        return self.verdicts(model).get(channel)

    def channels(self, model: Model) -> list[str]:
        """Where the model is promoted now."""
        return [row.channel for row in self.current(model)]

    def current(self, model: Model) -> list[Promotion]:
        """The model's promotions that count now."""
        found = map(self.promoted, sorted({p.channel for p in self.promotions}))
        return [row for row in found if row is not None and row.model_digest == model.model_digest]

    def measured(self, model: Model) -> dict[tuple[str, str], Evaluation]:
        """What the model was evaluated at, by set and metric; of several measurements the one on the most responses."""
        own = [row for row in self.evaluations if row.model_digest == model.model_digest]
        return {
            (row.set, row.metric): row for row in sorted(own, key=lambda r: (r.set, r.metric, r.n, r.evaluation_id))
        }

    def in_use(self) -> dict[str, Run]:
        """The run that says what is in use, by line: of its completed runs that have a base, the last to complete."""
        completed = [r for r in self.runs if r.status == "completed" and r.base_digest and line(r.run_id)]
        return {line(r.run_id): r for r in sorted(completed, key=lambda r: (r.ended_at, r.run_id))}

    def why_stale(self, model: Model) -> tuple[str, ...]:
        """Why a reward model, or a policy trained against one, is stale; empty where it is not.

        A reward model is stale where all of this holds: a run of its own line completed after it was made; the last
        run to do so has another base than the reward model; and no other line has the reward model's base in use.
        """
        return tuple(self._reasons(model))

    def _reasons(self, model: Model) -> Iterator[str]:
        if model.stage != "reward_model":
            for scorer in scored_by(model):
                if scorer in self.models and (reason := self._superseded(self.models[scorer])):
                    yield f"it was trained against reward model {scorer[:SHORT]}: {reason}"
        elif reason := self._superseded(model):
            yield reason

    def _superseded(self, reward_model: Model) -> str:
        in_use = self.in_use()
        run = in_use.get(line(reward_model.run_id))
        if run is None or run.ended_at < reward_model.created_at:
            return ""
        bases = self._bases(reward_model)
        if not bases or any(other.base_digest in bases for other in in_use.values()):
            return ""
        return (
            f"its base {self.label(bases[-1])} is no longer in use: run {run.run_id}, completed "
            f"{run.ended_at}, starts from {self.label(run.base_digest)}"
        )

    def _bases(self, reward_model: Model) -> list[str]:
        """What a run may call the base of this reward model: its parent and, where that is the policy of an earlier
        round, what the rounds before started from, up to an SL-CAI model or one that was not trained here.
        """
        found = []
        for ancestor in self.lineage(reward_model):
            found.append(ancestor)
            if ancestor not in self.models or self.models[ancestor].stage == "sft":
                break
        return found


def scored_by(model: Model) -> list[str]:
    """The digests of the reward models that a policy was trained against, or that guarded it."""
    return sorted({value for name, value in model.inputs.items() if name.startswith("reward_model")})


def meta_of(model: Model) -> dict[str, Any]:
    """`meta.json` as training wrote it."""
    meta: dict[str, Any] = json.loads(model.meta)
    return meta


def counts(model: Model) -> dict[str, int]:
    """Rows, tokens and steps: whatever `meta.json` counts."""
    return {name: value for name, value in sorted(meta_of(model).items()) if name.startswith("n_")}


def settings(model: Model) -> dict[str, Any]:
    """The resolved config, flat: `rewards.0.weight` and the like."""
    return dict(flat(meta_of(model).get("config", {})))


def flat(value: Any, name: str = "") -> Iterator[tuple[str, Any]]:
    """Nested settings as single ones, each under its path."""
    inside = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    if not inside:
        yield name, value
    for key, item in inside:
        yield from flat(item, f"{name}.{key}" if name else str(key))


def table_versions(model: Model) -> dict[str, str]:
    """The table versions that its training set was derived from, by table."""
    return {k.removeprefix("tables/"): v for k, v in sorted(model.inputs.items()) if k.startswith("tables/")}


def line(run_id: str) -> str:
    """A run's id without its digest: runs of one profile, with the same principles left out, are one line."""
    return run_id.rpartition("-")[0]
