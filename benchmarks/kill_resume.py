"""SIGKILL at three random points of every kind of training, then the same command: are the weights the same bits?

    python benchmarks/kill_resume.py [--only ppo,dpo] [--seed 0]

On the shipped small model and rows made up here; minutes. Prints a Markdown table; exits with 1 where they differ.
"""

import argparse
import json
import random
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from cai.smallworld.world import requests

STEPS = 16
SAMPLED = {
    "steps": STEPS, "prompts_per_step": 4, "samples_per_prompt": 4, "learning_rate": 1e-3, "max_tokens": 16,
    "max_prompt_tokens": 128, "save_steps": 2,
}  # fmt: skip
READ = {"epochs": 1, "learning_rate": 1e-3, "batch_size": 8, "max_length": 128, "save_steps": 2}
CONFIGS: dict[str, dict[str, Any]] = {
    "sft": READ,
    "reward_model": {**READ, "held_out": 0.0},
    "dpo": READ,
    "grpo": SAMPLED,
    "rloo": SAMPLED,
    "ppo": {**SAMPLED, "minibatch_size": 8, "target_kl": 0.5},
}
N_KILLS = 3


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default=",".join(CONFIGS), help="stages, with commas between")
    parser.add_argument("--seed", type=int, default=0, help="of the moments at which it kills")
    options = parser.parse_args()
    chance = random.Random(options.seed)
    same = True
    print("| stage | steps | killed after step | went on from step | weights |")
    print("|---|---|---|---|---|", flush=True)
    with tempfile.TemporaryDirectory() as folder:
        bodies = prepare(Path(folder))
        for stage in options.only.split(","):
            same &= tried(stage, bodies[stage], Path(folder), chance)
    sys.exit(0 if same else 1)


def prepare(folder: Path) -> dict[str, dict[str, Any]]:
    """The jobs without `out`, and what they read."""
    prompts = [[{"role": "user", "content": request.text}] for request in requests("train", 8 * STEPS)]
    replies = [[{"role": "assistant", "content": f"i can not do that , {i % 7} ."}] for i in range(len(prompts))]
    others = [[{"role": "assistant", "content": "sure , here is how to do it ."}] for _ in prompts]
    ids = [f"prompt-{i}" for i in range(len(prompts))]
    labels = [0.5 + 0.5 * ((7 * i) % 11) / 10 for i in range(len(prompts))]
    pairs = {"chosen": replies, "rejected": others, "soft_label": labels, "is_tie": [p == 0.5 for p in labels]}
    pq.write_table(pa.table({"prompt": prompts, "completion": replies}), folder / "sft.parquet")
    pq.write_table(pa.table({"prompt": prompts, "prompt_id": ids}), folder / "prompts.parquet")
    pq.write_table(pa.table({"prompt": prompts, "prompt_id": ids, "pair_id": ids, **pairs}), folder / "pairs.parquet")
    data = {"sft": "sft", "reward_model": "pairs", "dpo": "pairs"}
    bodies: dict[str, dict[str, Any]] = {
        stage: {
            "model": "smallworld",
            "data": str(folder / f"{data.get(stage, 'prompts')}.parquet"),
            "seed": 3,
            "config": config,
        }
        for stage, config in CONFIGS.items()
    }
    judge = bodies["reward_model"] | {"out": str(folder / "judge")}
    finish(start("reward_model", judge, folder / "judge.json"))
    for stage in ("grpo", "rloo", "ppo"):
        bodies[stage]["reward_models"] = [str(folder / "judge")]
    return bodies


def tried(stage: str, body: dict[str, Any], folder: Path, chance: random.Random) -> bool:
    alone, killed = folder / f"{stage}-alone", folder / f"{stage}-killed"
    finish(start(stage, body | {"out": str(alone)}, folder / f"{stage}-alone.json"))
    after, resumed = [], []
    for target in sorted(chance.sample(range(2, STEPS - 1), N_KILLS)):
        resumed.append(newest(killed))
        process = start(stage, body | {"out": str(killed)}, folder / f"{stage}-killed.json")
        while process.poll() is None and newest(killed) < target - 1:
            time.sleep(0.002)
        time.sleep(chance.uniform(0, 0.3))
        process.send_signal(signal.SIGKILL)
        process.communicate()
        after.append(newest(killed) if process.returncode == -signal.SIGKILL else STEPS)
    resumed.append(newest(killed))
    finish(start(stage, body | {"out": str(killed)}, folder / f"{stage}-killed.json"))
    digests = {json.loads((path / "meta.json").read_text())["model_digest"] for path in (alone, killed)}
    cells = (stage, STEPS, ", ".join(map(str, after)), ", ".join(map(str, resumed[1:])), "equal", "differ")
    print(f"| {cells[0]} | {cells[1]} | {cells[2]} | {cells[3]} | {cells[3 + len(digests)]} |", flush=True)
    return len(digests) == 1


def newest(out: Path) -> int:
    """The step of the newest checkpoint of an unfinished job; 0 where there is none."""
    found = out.with_name(f"{out.name}.unfinished").glob("checkpoint-*/meta.json")
    return max((int(path.parent.name.removeprefix("checkpoint-")) for path in found), default=0)


def start(stage: str, body: dict[str, Any], path: Path) -> subprocess.Popen[str]:
    path.write_text(json.dumps(body))
    command = [sys.executable, "-m", f"cai.training.{stage}", "--job", str(path)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def finish(process: subprocess.Popen[str]) -> None:
    _, said = process.communicate()
    if process.returncode:
        sys.exit(f"{process.args!r}: {said[-2000:]}")


if __name__ == "__main__":
    main()
