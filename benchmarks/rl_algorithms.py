"""PPO, GRPO, RLOO and DPO from the same SL-CAI model, the same pairs and the same reward model, in the small world.

    cai run deployments/profiles/demo.yaml --home cai-home --until reward_model
    python benchmarks/rl_algorithms.py --home cai-home --out algorithms

Each is a job of `cai.training`, then all are measured by `cai evaluate` on the demo's held-out requests. Prints a
Markdown table; run again, it trains only what is missing.
"""

import argparse
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

SAMPLED = {
    "steps": 20, "prompts_per_step": 24, "samples_per_prompt": 4, "learning_rate": 3e-4,
    "temperature": 1.0, "max_tokens": 48, "max_prompt_tokens": 256,
}  # fmt: skip
# The strength of the KL is not comparable: GRPO weighs it against advantages scaled to 1, RLOO and PPO against the raw
# reward, whose margins are about 0.1 here, and DPO has it in the labels.
SETTINGS: dict[str, dict[str, Any]] = {
    "ppo": {**SAMPLED, "value_learning_rate": 1e-3, "kl_coef": 0.05, "epochs": 2, "minibatch_size": 32},
    "grpo": {**SAMPLED, "beta": 0.3},
    "rloo": {**SAMPLED, "beta": 0.01},
    "dpo": {"epochs": 2, "learning_rate": 3e-4, "batch_size": 32, "max_length": 256, "beta": 0.1},
}
RATES = ("harmful_rate", "helpful_rate", "over_refusal_rate", "evasive_rate", "rude_rate")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--home", type=Path, default=Path("cai-home"), help="a home with a run of the demo")
    parser.add_argument("--run", default="", help="the run's id; the first demo run of the home otherwise")
    parser.add_argument("--out", type=Path, default=Path("algorithms"), help="where models and rates.json go")
    parser.add_argument("--only", default=",".join(SETTINGS), help="algorithms, with commas between")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    run = options.home / "runs" / options.run if options.run else demo_run(options.home)
    names = options.only.split(",")
    options.out.mkdir(parents=True, exist_ok=True)
    metas = {name: train(name, run, options.out, options.seed) for name in names}
    sl_cai = path_of(run, "sft")
    rates = measured({"sl_cai": sl_cai, **{n: options.out / f"{n}-{options.seed}" for n in names}}, options)
    show(rates, metas)


def demo_run(home: Path) -> Path:
    found = sorted(p for p in home.glob("runs/demo-*") if (p / "steps" / "reward_model.json").is_file())
    whole = [p for p in found if "without" not in p.name]
    if not whole:
        sys.exit(f"no run of the demo in {home} has a reward model; see the first lines of this file")
    return whole[0]


def path_of(run: Path, step: str) -> Path:
    """The model of a step, in the home the run is in now, which may have been moved."""
    name = Path(json.loads((run / "steps" / f"{step}.json").read_text())["path"]).name
    return (run.parents[1] / "models" / name).resolve()


def train(name: str, run: Path, out: Path, seed: int) -> dict[str, Any]:
    """The `meta.json` of one algorithm's model."""
    made = out / f"{name}-{seed}"
    job = {"model": str(path_of(run, "sft")), "out": str(made), "seed": seed, "config": SETTINGS[name]}
    if name == "dpo":
        job |= {"data": str(run / "preferences.parquet")}
    else:
        job |= {"data": str(run / "rl_prompts.parquet"), "reward_models": [str(path_of(run, "reward_model"))]}
    path = out / f"{name}-{seed}.json"
    path.write_text(json.dumps(job, indent=1))
    subprocess.run([sys.executable, "-m", f"cai.training.{name}", "--job", str(path)], check=True)
    return json.loads((made / "meta.json").read_text()) | {"kl": kl_per_response(made)}


def kl_per_response(model: Path) -> float | None:
    """Nats per response from the SL-CAI model, over the last step's replies; DPO samples none."""
    path = model / "rollouts.parquet"
    if not path.is_file():
        return None
    rows = pq.read_table(path, columns=["step", "kl", "n_tokens"]).to_pylist()
    last = [r["kl"] * r["n_tokens"] for r in rows if r["step"] == rows[-1]["step"] and r["kl"] is not None]
    return sum(last) / len(last)


def measured(models: dict[str, Path], options: argparse.Namespace) -> dict[str, Any]:
    path = options.out / f"rates-{options.seed}.json"
    given = [word for name, model in models.items() for word in ("--model", f"{name}={model}")]
    command = [sys.executable, "-c", "from cai.cli import main; main()", "evaluate", *given]
    command += ["--model", "seed=smallworld", "--home", str(options.out / "home"), "--n", "1000"]
    subprocess.run([*command, "--win-rate-prompts", "0", "--json", str(path)], check=True, stdout=subprocess.DEVNULL)
    return json.loads(path.read_text())


def show(rates: dict[str, Any], metas: dict[str, dict[str, Any]]) -> None:
    print("| model | " + " | ".join(name.removesuffix("_rate").replace("_", " ") for name in RATES) + " | KL | s |")
    print("|---|" + "---|" * (len(RATES) + 2))
    for name in ("seed", "sl_cai", *metas):
        cells = [cell(rates[name][metric]) for metric in RATES]
        meta = metas.get(name, {})
        kl, seconds = meta.get("kl"), meta.get("seconds")
        cells += ["" if kl is None else f"{kl:.2f}", "" if seconds is None else f"{seconds:.0f}"]
        print(f"| {name} | " + " | ".join(cells) + " |")


def cell(rate: dict[str, float]) -> str:
    return f"{100 * rate['value']:.1f} ({100 * rate['low']:.1f}–{100 * rate['high']:.1f})"


if __name__ == "__main__":
    main()
