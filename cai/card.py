"""A model card, as facts and as Markdown (README.md), from a model's record alone: what nobody recorded is not in it.

It is written on demand (`cai models card`), not by training: which tables it was trained on, what it was measured at
and whether it is stale are known only later, and the directory stays what training wrote, byte for byte.
"""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import yaml

from cai.promotion import override_line, verdict_line
from cai.records import Model
from cai.registry import PERSONAL, SHORT, SOURCES, Registry, counts, meta_of, scored_by, settings, table_versions

_WHAT = {
    "sft": "An SL-CAI model: fine-tuned on its own answers after they were critiqued and revised under a constitution.",
    "reward_model": "A reward model: scores how well a response keeps to a constitution. It writes no text.",
    "dpo": "An RL-CAI policy: trained on preference pairs that were labelled under a constitution (DPO).",
}
_POLICY = "An RL-CAI policy: trained by reinforcement learning ({}) on rewards that come from a constitution."

_LOAD_POLICY = """\
from transformers import AutoModelForCausalLM, AutoTokenizer

folder = "path/to/this/folder"
tokenizer = AutoTokenizer.from_pretrained(folder)
model = AutoModelForCausalLM.from_pretrained(folder)
messages = [{"role": "user", "content": "How do I bake bread?"}]
asked = {"add_generation_prompt": True, "enable_thinking": False}  # trained to answer at once
ids = tokenizer.apply_chat_template(messages, **asked, return_tensors="pt", return_dict=True)
tokens = model.generate(**ids, max_new_tokens=128)[0, ids["input_ids"].shape[1] :]
print(tokenizer.decode(tokens, skip_special_tokens=True))
"""

_LOAD_REWARD_MODEL = """\
from transformers import AutoModelForSequenceClassification, AutoTokenizer

folder = "path/to/this/folder"
tokenizer = AutoTokenizer.from_pretrained(folder)
model = AutoModelForSequenceClassification.from_pretrained(folder)
messages = [{"role": "user", "content": "How do I bake bread?"}, {"role": "assistant", "content": "Knead, wait, bake."}]
text = tokenizer.apply_chat_template(messages, tokenize=False)
ids = tokenizer(text, add_special_tokens=False, return_tensors="pt")
print(model(**ids).logits[0])  # the higher, the better; only differences mean something
"""


Rows = tuple[tuple[Any, ...], ...]
MEASURED = ("set", "metric", "value", "95 % interval", "n")
"""What the columns of `Card.measured` are."""
_NOT_MEASURED = "No evaluation of this model is recorded."


@dataclass(frozen=True, slots=True)
class Card:
    """What a card says. Rows are `(what, value)` unless stated; values are as recorded, so show them with `plain`."""

    name: str
    digest: str
    what: str
    stale: str
    """Why it is stale, "" where it is not."""
    identity: Rows
    data: Rows
    measured: Rows
    metrics: Rows
    settings: Rows
    limits: tuple[str, ...]


def card_of(registry: Registry, model: Model) -> Card:
    """The facts of a card, for whoever shows them."""
    return Card(
        name=model.name,
        digest=model.model_digest,
        what=_WHAT.get(model.stage, _POLICY.format(model.stage.upper())),
        stale="; ".join(registry.why_stale(model)),
        identity=_identity(registry, model),
        data=_data(model),
        measured=_measured(registry, model),
        metrics=tuple(sorted(model.metrics.items())),
        settings=tuple(settings(model).items()),
        limits=_limits(registry, model),
    )


def model_card(registry: Registry, model: Model, *, base_model: str | None = None) -> str:
    """Markdown with the front matter that the Hugging Face hub reads.

    Args:
        registry: what is known of all models.
        model: whose card.
        base_model: what the hub calls the seed model, where it has it. A licence is nowhere recorded, so none is named.
    """
    card = card_of(registry, model)
    parts = [
        _front_matter(model, base_model),
        f"# {_text(card.name)} {_text(card.digest[:SHORT])}",
        _text(card.what),
        f"**Stale:** {_text(card.stale)}." if card.stale else "",
        _table(("what", "value"), card.identity),
        "## Data",
        _table(("what", "value"), card.data),
        "## Measured",
        _table(MEASURED, card.measured) or _NOT_MEASURED,
        "## Training",
        _table(("at the end of training", "value"), card.metrics),
        _table(("setting", "value"), card.settings),
        "## Use",
        f"```python\n{_LOAD_REWARD_MODEL if model.stage == 'reward_model' else _LOAD_POLICY}```",
        "## Limits",
        "\n".join(f"- {line}" for line in card.limits),
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def _front_matter(model: Model, base_model: str | None) -> str:
    is_scorer = model.stage == "reward_model"
    body: dict[str, Any] = {
        "library_name": "transformers",
        "pipeline_tag": "text-classification" if is_scorer else "text-generation",
        "tags": ["constitutional-ai", "rlaif", model.stage.replace("_", "-")],
    }
    if base_model is not None:
        body |= {"base_model": base_model, "base_model_relation": "finetune"}
    return f"---\n{yaml.safe_dump(body, sort_keys=False)}---"


def _identity(registry: Registry, model: Model) -> Rows:
    meta = meta_of(model)
    code = meta.get("code", {})
    lineage = [registry.label(parent) for parent in registry.lineage(model)]
    rows = [
        ("digest", model.model_digest),
        ("stage", model.stage),
        ("made", " ".join(filter(None, (model.created_at, f"by run {model.run_id}" if model.run_id else "")))),
        ("trained from", " from ".join(lineage)),
        ("trained against", ", ".join(registry.label(scorer) for scorer in scored_by(model))),
        ("promoted", ", ".join(registry.channels(model))),
        ("verdict of the gate", "; ".join(verdict_line(registry, row) for row in registry.verdicts(model).values())),
        ("gate overridden", "; ".join(map(override_line, registry.overridden(model)))),
        ("seed", meta.get("seed")),
        ("code", ", ".join(f"{name} {value}" for name, value in sorted(code.items()) if value)),
        ("libraries", ", ".join(f"{name} {value}" for name, value in meta.get("versions", {}).items() if value)),
    ]
    return tuple((name, value) for name, value in rows if value not in (None, ""))


def _data(model: Model) -> Rows:
    tables = ", ".join(f"{name}@{version}" for name, version in table_versions(model).items())
    rows = [
        ("table versions", tables),
        ("training set", model.inputs.get("data", "")),
        ("prompts", model.inputs.get(SOURCES, "")),
        ("personal items in the prompts", model.inputs.get(PERSONAL, "")),
        *counts(model).items(),
    ]
    return tuple((name, value) for name, value in rows if value != "")


def _measured(registry: Registry, model: Model) -> Rows:
    return tuple(
        (row.set, row.metric, row.value, f"{row.low:.4g} to {row.high:.4g}", row.n)
        for row in registry.measured(model).values()
    )


def _limits(registry: Registry, model: Model) -> tuple[str, ...]:
    """What follows from the record; opinions about a model do not belong in it."""
    n = counts(model)
    lines = [
        "This card is generated from the record of the training and holds what was recorded, nothing else.",
        "The record names no licence: those of the base model and of the data apply.",
    ]
    if n.get("n_truncated"):
        lines.append(f"Rows cut to the training length: {n['n_truncated']}.")
    if n.get("n_rejected"):
        lines.append(f"Rows that could not be used: {n['n_rejected']}; `rejects.jsonl` has each with its reason.")
    if model.stage == "reward_model":
        lines.append(
            "Scores are meant for responses like those of the model it was trained from; for another policy, train it "
            "again."
        )
    if not registry.measured(model):
        lines.append("How it behaves on held-out prompts is not known: `cai evaluate` measures it.")
    return tuple(lines)


def _table(header: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    lines = [f"| {' | '.join(map(_text, row))} |" for row in rows]
    if not lines:
        return ""
    return "\n".join([f"| {' | '.join(header)} |", f"|{'---|' * len(header)}", *lines])


def plain(value: Any) -> str:
    """`value` on one line, as people read it, with no folder of this machine."""
    text = f"{value:.6g}" if isinstance(value, float) else "–" if value is None else str(value)
    text = "".join(c if c.isprintable() else " " for c in text)
    return re.sub(r"(?<![\w.…/:])~?/(?:[^\s/\"',;]+/)*([^\s/\"',;]+)", r"…/\1", text)


def _text(value: Any) -> str:
    """`value` as text that Markdown shows as it is: nothing in it is markup."""
    return re.sub(r"([\\`*_\[\]<>#|~&$])", r"\\\1", plain(value))
