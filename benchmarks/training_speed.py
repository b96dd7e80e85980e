"""How long the three training commands take on the demo's sizes, start-up and imports included.

`python benchmarks/training_speed.py [--model DIR] [--stages sft,reward_model,grpo]` prints one JSON line a stage.
Without `--model` it makes a random Llama of about 1 M parameters, a word a token. `cpu_s` is what counts on a
busy machine; the demo's budget is 20, 20 and 40 s.
"""

import argparse
import json
import random
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

BUDGET_S = {"sft": 20, "reward_model": 20, "grpo": 40}
N_SFT, N_PAIRS, STEPS = 2000, 1500, 25
SPECIAL = ["<unk>", "<pad>", "<|user|>", "<|assistant|>", "<|end|>"]
TEMPLATE = (
    "{% for m in messages %}{{ '<|' + m['role'] + '|> ' + m['content'] + ' <|end|> ' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|assistant|> ' }}{% endif %}"
)


def make_model(folder: Path, width: int, layers: int) -> Path:
    import torch
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import GenerationConfig, LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    words = [*SPECIAL, *(f"word{i}" for i in range(1000))]
    core = Tokenizer(models.WordLevel({w: i for i, w in enumerate(words)}, unk_token="<unk>"))
    core.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=core, unk_token="<unk>", pad_token="<pad>", eos_token="<|end|>", chat_template=TEMPLATE
    )
    config = LlamaConfig(
        vocab_size=len(words), hidden_size=width, intermediate_size=3 * width, num_hidden_layers=layers,
        num_attention_heads=4, num_key_value_heads=4, max_position_embeddings=512, tie_word_embeddings=True,
        pad_token_id=1, eos_token_id=4, bos_token_id=None,
    )  # fmt: skip
    torch.manual_seed(0)
    model = LlamaForCausalLM(config)
    model.generation_config = GenerationConfig(eos_token_id=4, pad_token_id=1)
    model.save_pretrained(str(folder))
    tokenizer.save_pretrained(str(folder))
    return folder


def write_data(folder: Path, words: list[str]) -> None:
    """Requests of 6 to 14 words and replies of 8 to 24, about what the small world has."""
    rng = random.Random(0)

    def turn(role: str, low: int, high: int) -> list[dict[str, str]]:
        return [{"role": role, "content": " ".join(rng.choices(words, k=rng.randint(low, high)))}]

    sft = [{"prompt": turn("user", 6, 14), "completion": turn("assistant", 8, 24)} for _ in range(N_SFT)]
    pairs = [
        {
            "prompt": turn("user", 6, 14), "chosen": turn("assistant", 8, 24), "rejected": turn("assistant", 8, 24),
            "soft_label": rng.uniform(0.5, 1), "is_tie": False, "pair_id": str(i), "prompt_id": str(i),
        }
        for i in range(N_PAIRS)
    ]  # fmt: skip
    prompts = [{"prompt": turn("user", 6, 14), "prompt_id": str(i)} for i in range(300)]
    for name, rows in {"sft": sft, "pairs": pairs, "prompts": prompts}.items():
        pq.write_table(pa.Table.from_pylist(rows), folder / f"{name}.parquet")


def jobs(folder: Path, model: Path) -> dict[str, dict[str, object]]:
    common = {"model": str(model), "seed": 0}
    return {
        "sft": {
            **common, "data": str(folder / "sft.parquet"),
            "config": {"epochs": 1, "learning_rate": 3e-4, "batch_size": 32, "max_length": 256},
        },
        "reward_model": {
            **common, "data": str(folder / "pairs.parquet"),
            "config": {"epochs": 3, "learning_rate": 3e-4, "batch_size": 32, "max_length": 256},
        },
        "grpo": {
            **common, "data": str(folder / "prompts.parquet"), "reward_model": str(folder / "out-reward_model"),
            "config": {"steps": STEPS, "prompts_per_step": 12, "samples_per_prompt": 8, "learning_rate": 1e-4,
                       "beta": 0.1, "max_tokens": 32, "save_steps": 10},
        },
    }  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", type=Path)
    parser.add_argument("--width", type=int, default=128)
    parser.add_argument("--layers", type=int, default=4)
    parser.add_argument("--stages", default="sft,reward_model,grpo")
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        model = chosen.model or make_model(folder / "model", chosen.width, chosen.layers)
        vocabulary = json.loads((model / "tokenizer.json").read_text())["model"]["vocab"]
        write_data(folder, [word for word in vocabulary if word.isalnum()])
        for stage, body in jobs(folder, model).items():
            if stage in chosen.stages.split(","):
                measure(folder, stage, body)


def cpu_s() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def measure(folder: Path, stage: str, body: dict[str, object]) -> None:
    job = folder / f"{stage}.json"
    job.write_text(json.dumps({**body, "out": str(folder / f"out-{stage}")}))
    started, cpu = time.monotonic(), cpu_s()
    done = subprocess.run(
        [sys.executable, "-m", f"cai.training.{stage}", "--job", str(job)], capture_output=True, text=True
    )
    wall_s = round(time.monotonic() - started, 1)
    if done.returncode:
        sys.exit(done.stderr)
    summary = json.loads(done.stdout)
    line = {
        "stage": stage,
        "wall_s": wall_s,
        "cpu_s": round(cpu_s() - cpu, 1),
        "training_s": summary["seconds"],
        "budget_s": BUDGET_S[stage],
        "n_steps": summary["n_steps"],
        "metrics": summary["metrics"],
    }
    print(json.dumps(line), flush=True)


if __name__ == "__main__":
    main()
