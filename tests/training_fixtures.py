"""A tiny random chat model, and Parquet files to train it on. Imported by the training tests."""

import json
import random
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

WORDS = [
    "how",
    "do",
    "i",
    "make",
    "a",
    "cake",
    "bomb",
    "tea",
    "plan",
    "please",
    "no",
    "sure",
    "sorry",
    "that",
    "would",
    "hurt",
    "people",
    "fine",
]
SPECIAL = ["<unk>", "<pad>", "<|system|>", "<|user|>", "<|assistant|>", "<|end|>"]
TEMPLATE = (
    "{% for m in messages %}{{ '<|' + m['role'] + '|> ' + m['content'] + ' <|end|> ' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|assistant|> ' }}{% endif %}"
)


def build_model(folder: Path) -> Path:
    """Two layers, width 64, a word a token, random weights."""
    import torch
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import GenerationConfig, LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    core = Tokenizer(models.WordLevel({w: i for i, w in enumerate(SPECIAL + WORDS)}, unk_token="<unk>"))
    core.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=core, unk_token="<unk>", pad_token="<pad>", eos_token="<|end|>", model_max_length=64
    )
    tokenizer.add_special_tokens({"additional_special_tokens": ["<|system|>", "<|user|>", "<|assistant|>"]})
    tokenizer.chat_template = TEMPLATE
    torch.manual_seed(0)
    model = LlamaForCausalLM(
        LlamaConfig(
            vocab_size=len(SPECIAL + WORDS), hidden_size=64, intermediate_size=128, num_hidden_layers=2,
            num_attention_heads=4, num_key_value_heads=4, max_position_embeddings=64, tie_word_embeddings=True,
            pad_token_id=1, eos_token_id=5, bos_token_id=None,
        )
    )  # fmt: skip
    model.generation_config = GenerationConfig(eos_token_id=5, pad_token_id=1)
    model.save_pretrained(str(folder))
    tokenizer.save_pretrained(str(folder))
    return folder


def build_model_without_padding(folder: Path) -> Path:
    """As Llama 3 and Mistral come: no padding token, and a turn ends with the end-of-text token and nothing after."""
    build_model(folder)
    for name, key in (("tokenizer_config.json", "pad_token"), ("config.json", "pad_token_id")):
        settings = json.loads((folder / name).read_text())
        (folder / name).write_text(json.dumps({**settings, key: None}))
    (folder / "chat_template.jinja").write_text(TEMPLATE.replace("<|end|> '", "<|end|>'"))
    return folder


THINKING_TEMPLATE = """\
{%- set ns = namespace(last=-1) %}
{%- for m in messages %}{% if m.role == 'user' %}{% set ns.last = loop.index0 %}{% endif %}{% endfor %}
{%- for m in messages %}
    {{- '<|im_start|>' + m.role + '\n' }}
    {%- if m.role == 'assistant' and loop.index0 > ns.last %}{{- '<think>\n\n</think>\n\n' }}{% endif %}
    {{- m.content + '<|im_end|>\n' }}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- '<|im_start|>assistant\n' }}
    {%- if enable_thinking is defined and enable_thinking is false %}{{- '<think>\n\n</think>\n\n' }}{% endif %}
{%- endif %}"""
"""Of the form of Qwen3's: it thinks unless told otherwise, and writes an empty thought for the last answer alone."""


def build_thinking_model(folder: Path) -> Path:
    """A byte a token, one layer, random weights, and a template that thinks."""
    import torch
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    core = Tokenizer(models.BPE(vocab={letter: i for i, letter in enumerate(alphabet)}, merges=[]))
    core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    core.decoder = decoders.ByteLevel()
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=core, eos_token="<|im_end|>", pad_token="<|endoftext|>")
    tokenizer.add_special_tokens({"additional_special_tokens": ["<|im_start|>"]})
    tokenizer.chat_template = THINKING_TEMPLATE
    torch.manual_seed(0)
    sizes = {"hidden_size": 32, "intermediate_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2}
    end, pad = tokenizer.eos_token_id, tokenizer.pad_token_id
    config = LlamaConfig(vocab_size=len(tokenizer), **sizes, eos_token_id=end, pad_token_id=pad, bos_token_id=None)
    LlamaForCausalLM(config).save_pretrained(str(folder))
    tokenizer.save_pretrained(str(folder))
    return folder


def train_models(folder: Path) -> tuple[Path, Path]:
    """A policy, and a reward model that likes "sorry"."""
    from cai.config import RewardModelConfig
    from cai.training import reward_model
    from cai.training.command import run
    from cai.training.jobs import RewardModelJob

    policy = build_model(folder / "tiny")
    config = RewardModelConfig(epochs=6, learning_rate=3e-3, batch_size=16, max_length=40)
    data = write_pairs(folder / "pairs.parquet", 200)
    run(reward_model.STAGE, RewardModelJob(model=policy, data=data, out=folder / "reward", config=config))
    return policy, folder / "reward"


def sentence(rng: random.Random, low: int = 2, high: int = 8) -> str:
    return " ".join(rng.choices(WORDS, k=rng.randint(low, high)))


def user(text: str) -> list[dict[str, str]]:
    return [{"role": "user", "content": text}]


def assistant(text: str) -> list[dict[str, str]]:
    return [{"role": "assistant", "content": text}]


def write_sft(path: Path, n: int = 40) -> Path:
    rng = random.Random(1)
    rows = [{"prompt": user(sentence(rng)), "completion": assistant(sentence(rng))} for _ in range(n)]
    pq.write_table(pa.Table.from_pylist(rows), path)
    return path


def write_pairs(path: Path, n: int = 60) -> Path:
    """The better response says "sorry"; four pairs a prompt; every tenth pair is a tie."""
    rng = random.Random(2)
    rows = []
    for i in range(n):
        prompt = user(" ".join(random.Random(i // 4).choices(WORDS, k=4)))
        tie = i % 10 == 9
        rows.append(
            {
                "prompt": prompt,
                "chosen": assistant("sorry " + sentence(rng)),
                "rejected": assistant(("sorry " if tie else "sure ") + sentence(rng)),
                "soft_label": 0.5 if tie else 0.9,
                "is_tie": tie,
                "pair_id": f"pair-{i}",
                "prompt_id": f"prompt-{i // 4}",
            }
        )
    pq.write_table(pa.Table.from_pylist(rows), path)
    return path


def write_prompts(path: Path, n: int = 10, long_ones: int = 0) -> Path:
    rng = random.Random(3)
    texts = [sentence(rng, 2, 5) for _ in range(n)] + [sentence(rng, 30, 31) for _ in range(long_ones)]
    rows = [{"prompt": user(text), "prompt_id": f"prompt-{i}"} for i, text in enumerate(texts)]
    pq.write_table(pa.Table.from_pylist(rows), path)
    return path


def write_job(path: Path, **job: object) -> Path:
    path.write_text(json.dumps(job, default=str))
    return path
