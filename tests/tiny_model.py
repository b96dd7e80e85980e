"""A random Llama of a few thousand parameters with words as tokens, saved as safetensors, for the tests of engines."""

from pathlib import Path

WORDS = (
    "A B C a b c yes no ( ) . , ? ! : the answer is good bad harm kind help I can not do that this please say letter"
)
TEMPLATE = "{% for m in messages %}<|{{ m.role }}|> {{ m.content }} <|end|>\n{% endfor %}<|assistant|>"
SPECIAL = ["<pad>", "<unk>", "<|end|>", "<|system|>", "<|user|>", "<|assistant|>"]


def save_tiny_model(
    path: Path,
    seed: int,
    *,
    width: int = 64,
    layers: int = 2,
    context: int = 256,
    extra_words: int = 0,
    tied: bool = False,
) -> Path:
    """Weights decided by `seed`; head size 32, the smallest the vLLM CPU attention takes."""
    import torch
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    words = SPECIAL + WORDS.split() + [f"w{i}" for i in range(100 + extra_words)]
    core = Tokenizer(models.WordLevel({word: i for i, word in enumerate(words)}, unk_token="<unk>"))
    core.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=core,
        pad_token="<pad>",
        unk_token="<unk>",
        eos_token="<|end|>",
        additional_special_tokens=SPECIAL[3:],
        chat_template=TEMPLATE,
        clean_up_tokenization_spaces=False,
    )
    torch.manual_seed(seed)
    model = LlamaForCausalLM(
        LlamaConfig(
            vocab_size=len(words),
            hidden_size=width,
            intermediate_size=2 * width,
            num_hidden_layers=layers,
            num_attention_heads=width // 32,
            num_key_value_heads=width // 32,
            max_position_embeddings=context,
            initializer_range=0.2,
            pad_token_id=0,
            bos_token_id=None,
            eos_token_id=2,
            tie_word_embeddings=tied,
        )
    )
    model.save_pretrained(path)
    tokenizer.save_pretrained(path)
    return path
