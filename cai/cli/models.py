"""`cai models`: what was trained, from what, how good it is, which is in use. Reads the tables; loads no weights.

MODEL is a digest or the beginning of one, a name (`rl_cai`), a folder's name, or a channel (`production`).
"""

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict
from math import isfinite, nan
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from cai.cli.tables import checked_home, format_table, home_option, plain

if TYPE_CHECKING:
    from cai.records import Evaluation, Model
    from cai.registry import Registry
    from storage.store import Store

# What a model is judged by at a glance; `show` has the rest.
_KEY_METRICS = ("held_out/accuracy", "held_out/ece", "reward/mean/last", "kl/k3/last", "loss/last")
_N_SHOWN = 3
_MODEL = click.argument("name", metavar="MODEL")
_STYLE = click.option("--format", "style", type=click.Choice(["text", "json"]), default="text", show_default=True)


@click.group(
    epilog="\b\nExamples:\n  cai models list --stage reward_model\n  cai models compare 3f2a production\n"
    '  cai models promote rl_cai --note "first with the new constitution"'
)
def models() -> None:
    """The trained models: list, show, compare and promote them, and write a model card.

    MODEL is a digest or its first digits, a name such as rl_cai, the name of the model's folder, or a channel.
    """


def _open(home: Path) -> "tuple[Store, Registry]":
    from storage.registry import load
    from storage.store import Store

    store = Store(checked_home(home))
    return store, load(store)


def _print(style: str, body: Any, text: Callable[[], str]) -> None:
    click.echo(json.dumps(plain(body), indent=2, ensure_ascii=False, allow_nan=False) if style == "json" else text())


# cai models list


@models.command("list", epilog="\b\nExample:\n  cai models list --stage reward_model --format json")
@home_option()
@click.option("--stage", help="Only of this stage: sft, reward_model, grpo, …")
@_STYLE
def list_models(home: Path, stage: str | None, style: str) -> None:
    """Every trained model, the newest first; `verdict` is what its gate last said of it.

    `stale` marks reward models of an old base, and policies of those.
    """
    _, registry = _open(home)
    chosen = [model for model in registry.newest_first() if stage in (None, model.stage)]
    _print(style, [_in_short(registry, model) for model in chosen], lambda: _list_text(registry, chosen))


def _in_short(registry: "Registry", model: "Model") -> dict[str, Any]:
    from cai.promotion import out_of_date

    named = ("name", "stage", "model_digest", "parent_digest", "run_id", "created_at", "metrics")
    verdicts = registry.verdicts(model)
    return {
        **{name: getattr(model, name) for name in named},
        "promoted": registry.channels(model),
        "overridden": [asdict(row) for row in registry.overridden(model)],
        "verdicts": {channel: said.verdict for channel, said in verdicts.items()},
        "out_of_date": {channel: late for channel, said in verdicts.items() if (late := out_of_date(registry, said))},
        "stale": list(registry.why_stale(model)),
    }


def _list_text(registry: "Registry", chosen: "Sequence[Model]") -> str:
    from cai.registry import SHORT

    rows = [
        [
            model.name,
            model.stage,
            model.model_digest[:SHORT],
            model.parent_digest[:SHORT],
            model.run_id,
            model.created_at,
            ", ".join(registry.channels(model)) + (" (overridden)" if registry.overridden(model) else ""),
            _verdicts(registry, model),
            "stale" if registry.why_stale(model) else "",
            _key_metrics(model.metrics),
        ]
        for model in chosen
    ]
    header = ["name", "stage", "digest", "parent", "run", "made", "promoted", "verdict", "stale", "metrics"]
    return format_table(header, rows)


def _verdicts(registry: "Registry", model: "Model") -> str:
    """What its gate last said; with the channel, where it is another than `production`."""
    from cai.promotion import out_of_date
    from cai.registry import CHANNEL

    return ", ".join(
        ("" if channel == CHANNEL else f"{channel}: ")
        + said.verdict
        + (" beside another baseline" if out_of_date(registry, said) else "")
        for channel, said in registry.verdicts(model).items()
    )


def _key_metrics(metrics: Mapping[str, float]) -> str:
    names = [name for name in _KEY_METRICS if name in metrics] or sorted(metrics)
    return ", ".join(f"{name} {metrics[name]:.4g}" for name in names[:_N_SHOWN])


# cai models show


@models.command(epilog="\b\nExample:\n  cai models show 3f2a")
@_MODEL
@home_option()
@_STYLE
def show(name: str, home: Path, style: str) -> None:
    """A model's whole record: what it came from up to the seed model, what came of it, why it is stale."""
    from cai.registry import counts, meta_of, settings

    _, registry = _open(home)
    model = registry.find(name)
    measured = [asdict(row) for row in registry.measured(model).values()]
    body = {
        **_in_short(registry, model),
        "path": model.path,
        "inputs": model.inputs,
        "lineage": registry.lineage(model),
        "children": [child.model_digest for child in registry.children(model)],
        "promotions": [
            asdict(row) | {"override": None if (by := registry.override_of(row)) is None else asdict(by)}
            for row in registry.promotions
            if row.model_digest == model.model_digest
        ],
        "gatings": [
            asdict(row) | {"findings": json.loads(row.findings)}
            for row in registry.gatings
            if row.model_digest == model.model_digest
        ],
        "evaluations": measured,
        "record": meta_of(model),
    }

    def text() -> str:
        sections = [
            ("", format_table(["what", "value"], _facts(registry, model), width=200)),
            ("metrics", format_table(["metric", "value"], sorted(model.metrics.items()))),
            ("counts", format_table(["count", "n"], list(counts(model).items()))),
            ("evaluations", format_table(["set", "metric", "value", "95 % interval", "n"], _measured(registry, model))),
            ("settings", format_table(["setting", "value"], list(settings(model).items()))),
        ]
        return "\n\n".join(f"{title}\n{table}" if title else table for title, table in sections)

    _print(style, body, text)


def _facts(registry: "Registry", model: "Model") -> list[list[Any]]:
    from cai.promotion import override_line, verdict_line
    from cai.registry import meta_of, scored_by

    meta = meta_of(model)
    rows = [
        ("name", [model.name]),
        ("stage", [model.stage]),
        ("digest", [model.model_digest]),
        ("made", [f"{model.created_at} by run {model.run_id}"]),
        ("path", [model.path]),
        ("from", [" < ".join(map(registry.label, registry.lineage(model)))]),
        ("against", map(registry.label, scored_by(model))),
        ("used by", [registry.label(child.model_digest) for child in registry.children(model)]),
        ("input", [f"{name} {value}" for name, value in sorted(model.inputs.items())]),
        ("verdict", [verdict_line(registry, row) for row in registry.verdicts(model).values()]),
        (
            "promoted",
            [f"{row.channel}, since {row.promoted_at}: {row.note or 'no note'}" for row in registry.current(model)],
        ),
        ("overridden", map(override_line, registry.overridden(model))),
        ("stale", registry.why_stale(model) or ["no"]),
        ("seed", [meta.get("seed")]),
        ("code", [f"{name} {value}" for name, value in sorted(meta.get("code", {}).items()) if value]),
        ("library", [f"{name} {value}" for name, value in sorted(meta.get("versions", {}).items()) if value]),
    ]
    return [[what, str(value)] for what, values in rows for value in values]


def _measured(registry: "Registry", model: "Model") -> list[list[Any]]:
    return [[row.set, row.metric, row.value, _interval(row), row.n] for row in registry.measured(model).values()]


def _interval(row: "Evaluation") -> str:
    return f"{row.low:.4g} to {row.high:.4g}"


# cai models compare


@models.command(epilog="\b\nExample:\n  cai models compare 3f2a production")
@click.argument("a")
@click.argument("b")
@home_option()
@_STYLE
def compare(a: str, b: str, home: Path, style: str) -> None:
    """Two models side by side: what they measured, and what differs in settings, data and code."""
    from cai.registry import SHORT

    _, registry = _open(home)
    one, other = registry.find(a), registry.find(b)
    body = _compared(registry, one, other)
    # Two models of one name are told apart by their digests.
    names = [f"{m.name} {m.model_digest[:SHORT]}" for m in (one, other)]

    def text() -> str:
        measured = [
            [e["set"], e["metric"], *(_rate(e[side]) for side in "ab"), e["difference"], "yes" if e["apart"] else "no"]
            for e in body["evaluations"]
        ]
        tables = [
            ("metrics", ["metric", *names, "difference"], [list(row.values()) for row in body["metrics"]]),
            ("evaluations", ["set", "metric", *names, "difference", "intervals apart"], measured),
            *(
                (f"{title}, where they differ", ["name", *names], [list(row.values()) for row in body[title]])
                for title in ("settings", "inputs", "code")
            ),
        ]
        return "\n\n".join(f"{title}\n{format_table(header, rows)}" for title, header, rows in tables)

    _print(style, body, text)


def _compared(registry: "Registry", a: "Model", b: "Model") -> dict[str, Any]:
    from cai.registry import meta_of, settings

    measured = [registry.measured(model) for model in (a, b)]
    both = [(measured[0][key], measured[1][key]) for key in measured[0] if key in measured[1]]
    inputs = [{**m.inputs, "seed": meta_of(m).get("seed")} for m in (a, b)]
    made_by = [{**meta_of(m).get("code", {}), **meta_of(m).get("versions", {})} for m in (a, b)]
    return {
        "a": _in_short(registry, a),
        "b": _in_short(registry, b),
        "metrics": [
            {"metric": name, "a": x, "b": y, "difference": None if x is None or y is None else y - x}
            for name, x, y in _aligned(a.metrics, b.metrics)
        ],
        "evaluations": [_difference(x, y) for x, y in both],
        "settings": _differing(settings(a), settings(b)),
        "inputs": _differing(*inputs),
        "code": _differing(*made_by),
    }


def _aligned(a: Mapping[str, Any], b: Mapping[str, Any]) -> Iterable[tuple[str, Any, Any]]:
    """Both values of every name; None where a side has none."""
    return ((name, a.get(name), b.get(name)) for name in sorted({*a, *b}))


def _differing(a: Mapping[str, Any], b: Mapping[str, Any]) -> list[dict[str, Any]]:
    return [{"name": name, "a": x, "b": y} for name, x, y in _aligned(a, b) if x != y]


def _difference(a: "Evaluation", b: "Evaluation") -> dict[str, Any]:
    """`apart`: the intervals share no value. Intervals that overlap do not show that the models are equal."""
    sides = [{name: getattr(row, name) for name in ("value", "low", "high", "n")} for row in (a, b)]
    apart = a.high < b.low or b.high < a.low
    difference = b.value - a.value if isfinite(a.value) and isfinite(b.value) else nan
    return {"set": a.set, "metric": a.metric, "a": sides[0], "b": sides[1], "difference": difference, "apart": apart}


def _rate(side: Mapping[str, float]) -> str:
    return f"{side['value']:.4g} ({side['low']:.4g} to {side['high']:.4g})"


# cai models promote


@models.command(epilog='\b\nExample:\n  cai models promote 3f2a --note "harm 0.2 %, helpfulness unchanged"')
@_MODEL
@home_option()
@click.option("--channel", default="production", show_default=True, help="What the model is put to use as.")
@click.option("--note", default="", help="Why; kept with the promotion.")
@click.option("--force", is_flag=True, help="Also a stale model; --note must say why.")
@click.option("--override", "person", metavar="NAME", help="Who promotes it although its gate has not passed it.")
@click.option("--reason", metavar="TEXT", help="Why; kept with the promotion. Goes with --override.")
def promote(
    name: str, home: Path, channel: str, note: str, force: bool, person: str | None, reason: str | None
) -> None:
    """Put a model to use under the name of a channel. Earlier promotions stay on record: `cai sql promotions`.

    Only a model that the channel's gate has passed, beside what is in use there now where it was measured beside
    another at all, that was promoted there before, or with --override. Refused where the model is stale, or its folder
    is unfinished or no longer holds the bytes of its record.
    """
    from cai.promotion import Overriding
    from cai.registry import SHORT
    from flows.runs import now
    from storage import registry as stored

    store, registry = _open(home)
    model = registry.find(name)
    by = None if person is None and reason is None else Overriding(person or "", reason or "")
    row, is_new = stored.promote(store, model, channel=channel, at=now(), note=note, force=force, override=by)
    before = f", in place of {registry.label(row.previous_digest)}" if row.previous_digest else ""
    said = f"promoted{before}" if is_new else f"was promoted at {row.promoted_at}; nothing to do"
    click.echo(f"{channel}: {model.name} {model.model_digest[:SHORT]} {said}")
    if by is not None and stored.load(store).override_of(row) is None:
        click.echo("nothing was overridden: its gate has passed it, or it was promoted there before", err=True)
    if row.stale:
        click.echo(f"it is stale: {row.stale}", err=True)


# cai models card


@models.command(epilog="\b\nExample:\n  cai models card production > README.md")
@_MODEL
@home_option()
def card(name: str, home: Path) -> None:
    """A model card in Markdown, drawn from the record, as the Hugging Face hub reads it."""
    from cai.card import model_card

    _, registry = _open(home)
    model = registry.find(name)
    click.echo(model_card(registry, model, base_model=_hub_name(registry, model)), nl=False)


def _hub_name(registry: "Registry", model: "Model") -> str | None:
    """What the hub calls the seed model: the profile's name for it, where the local cache has it from the hub.

    A path of this machine can look like such a name, and must not be passed off as one.
    """
    from huggingface_hub import try_to_load_from_cache
    from huggingface_hub.errors import HFValidationError

    configs = [json.loads(run.config) for run in registry.runs if run.run_id == model.run_id]
    named = [str(config.get("engine", {}).get("model", "")) for config in configs]
    try:
        cached = [name for name in named if isinstance(try_to_load_from_cache(name, "config.json"), str)]
    except HFValidationError:
        return None
    return next((name for name in cached if not Path(name).exists()), None)
