"""A reward model of few pairs, no KL penalty, many steps: proxy and gold reward part ways, and the guard stops in time.

python -m benchmarks.overoptimisation --home HOME --out overoptimisation.html

HOME is that of a `cai demo`, whose SL-CAI model and preferences are used. The gold reward is the small world's oracle.
The same training runs twice: to its end, and with the guard. It fails where gold at the step at which the guard stopped
is less than 90 % of the highest gold of the run that went to its end, where what it kept has less than 90 % of the
highest gain, or where gold never fell.
"""

import argparse
import json
import random
import sys
import tempfile
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq

from cai.config import GRPOConfig, GuardConfig, RewardModelConfig, VerifierTerm
from cai.report.curves import overoptimisation
from cai.report.plots import Plot, curve
from cai.training.command import run
from cai.training.jobs import GRPOJob, RewardModelJob

STYLE = Path(__file__).parents[1] / "cai" / "report" / "style.css"
ORACLE = VerifierTerm(name="oracle", check="cai.smallworld.oracle:goodness")
ENOUGH = 0.9
NEVER = 10**6


class Demo(NamedTuple):
    sl_cai: Path
    preferences: Path
    prompts: Path


def find_demo(home: Path) -> Demo:
    """The run in `home` with every principle in its constitution."""
    for path in sorted(home.glob("runs/demo-*/jobs/sft.json")):
        if "-without-" not in str(path):
            job, folder = json.loads(path.read_text()), path.parents[1]
            model = home / "models" / Path(job["out"]).name  # wherever the home was when it ran
            return Demo(model, folder / "preferences.parquet", folder / "rl_prompts.parquet")
    sys.exit(f"no demo run in {home}; make one: cai demo --home {home}")


def few_pairs(preferences: Path, n: int, seed: int, out: Path) -> Path:
    """`n` decided pairs, drawn at random."""
    table = pq.read_table(preferences)
    decided = [row for row in table.to_pylist() if not row["is_tie"]]
    pq.write_table(pa.Table.from_pylist(random.Random(seed).sample(decided, n), schema=table.schema), out)
    return out


def train_reward_model(demo: Demo, chosen: argparse.Namespace, folder: Path) -> Path:
    from cai.training.reward_model import STAGE

    config = RewardModelConfig(
        epochs=chosen.epochs, learning_rate=2e-3, batch_size=16, max_length=256, held_out=0.0, save_steps=1000
    )
    pairs = few_pairs(demo.preferences, chosen.pairs, chosen.seed, folder / "pairs.parquet")
    out = folder / "reward_model"
    run(STAGE, RewardModelJob(model=demo.sl_cai, data=pairs, out=out, config=config, seed=chosen.seed))
    return out


def train_policy(
    demo: Demo, reward_model: Path, chosen: argparse.Namespace, out: Path, limits: dict[str, Any]
) -> tuple[dict[str, Any], list[dict[str, float]]]:
    """`meta.json`, and the rows of metrics.jsonl that have a gold score."""
    from cai.training.grpo import STAGE

    guard = GuardConfig(gold=(ORACLE,), every=chosen.every, gold_prompts=chosen.gold_prompts, **limits)
    config = GRPOConfig(
        steps=chosen.steps, prompts_per_step=12, samples_per_prompt=8, learning_rate=chosen.learning_rate, beta=0.0,
        max_tokens=48, max_prompt_tokens=256, save_steps=1000, guard=guard,
    )  # fmt: skip
    job = GRPOJob(
        model=demo.sl_cai, data=demo.prompts, out=out, reward_models=(reward_model,), config=config, seed=chosen.seed
    )
    meta = run(STAGE, job)
    lines = (out / "metrics.jsonl").read_text().splitlines()
    return meta, [row for row in map(json.loads, lines) if "gold/mean" in row]


def page(plot: Plot) -> str:
    head = f"<!doctype html><meta charset=utf-8><title>{plot.title}</title><style>{STYLE.read_text()}</style>"
    table = "".join(f"<tr>{''.join(f'<td>{cell}' for cell in row)}" for row in (plot.header, *plot.rows))
    return f"{head}<main><h2>{plot.title}</h2>{plot.svg}<p>{plot.note}</p><table>{table}</table></main>\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--home", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True, help="the plot, an HTML page")
    parser.add_argument("--json", type=Path, help="every number")
    parser.add_argument("--pairs", type=int, default=80)
    parser.add_argument("--epochs", type=float, default=10)
    parser.add_argument("--steps", type=int, default=100)
    parser.add_argument("--learning-rate", type=float, default=5e-4)
    parser.add_argument("--every", type=int, default=2)
    parser.add_argument("--gold-prompts", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0)
    chosen = parser.parse_args()
    demo = find_demo(chosen.home)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        reward_model = train_reward_model(demo, chosen, folder)
        free, rows = train_policy(demo, reward_model, chosen, folder / "free", {"patience": NEVER, "stall": None})
        guarded, _ = train_policy(demo, reward_model, chosen, folder / "guarded", {})
    report(free["guard"], guarded["guard"], rows, chosen)


def report(
    free: dict[str, Any], guarded: dict[str, Any], rows: list[dict[str, float]], chosen: argparse.Namespace
) -> None:
    print("step   proxy    gold   ± se  KL/response  entropy  repetition")
    for r in rows:
        print(
            f"{r['step']:4.0f} {r['proxy/mean']:7.3f} {r['gold/mean']:7.3f} {r['gold/sem']:6.3f} {r['guard/kl']:12.3f} "
            f"{r['guard/entropy']:8.3f} {r['guard/repetition']:11.3f}"
        )
    gold = {int(row["step"]): row["gold/mean"] for row in rows}
    start, peak, kept = gold[0], max(gold.values()), gold[guarded["best_step"]]
    share = (kept - start) / (peak - start) if peak > start else 0.0
    at_stop = gold[guarded["stopped"]["step"]] / peak if guarded["stopped"] else 0.0
    print(f"fit: {free['fit']}")
    print(f"guard: {guarded}")
    print(
        f"gold at the start {start:.3f}, at its peak {peak:.3f} (step {free['best_step']}), kept {kept:.3f} (step "
        f"{guarded['best_step']}), at the end {rows[-1]['gold/mean']:.3f}: the guard kept {share:.1%} of the gain, "
        f"and stopped where gold was {at_stop:.1%} of its peak"
    )
    drawn = overoptimisation("RL-CAI", rows, free | {"best_step": guarded["best_step"]})
    assert drawn is not None
    chosen.out.write_text(page(curve(drawn, "overoptimisation")), encoding="utf-8")
    if chosen.json:
        chosen.json.write_text(json.dumps({"free": free, "guarded": guarded, "rows": rows}, indent=1))
    if min(share, at_stop) < ENOUGH:
        sys.exit("proxy and gold did not part, or the guard stopped too late or kept too little")


if __name__ == "__main__":
    main()
