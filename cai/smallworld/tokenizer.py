"""The tokenizer of the small model: whole lower-cased words and punctuation marks, `<unk>` for the rest.

`A`, `B` and `C` are tokens of their own, apart from the article, because verdicts are read from them, as marks are from
digits.
"""

import re
from collections.abc import Sequence
from pathlib import Path

from cai.metrics.harmfulness import MARKS
from cai.probes import judged_refusal
from cai.smallworld import answers as say
from cai.smallworld import concepts, lessons, lexicon
from cai.templates import DEFAULTS

ASSISTANT = "<|assistant|>"
SPECIAL = ("<|pad|>", "<unk>", "<|end|>", "<|user|>", ASSISTANT, "<|system|>")
OPTIONS = ("A", "B")
CLASSES = tuple(judged_refusal.OPTIONS)

# A word may have apostrophes inside; every other mark stands alone.
WORD = r"[\p{L}\p{N}]+(?:'\p{L}+)*|[^\s\p{L}\p{N}]"
_WORD = re.compile(r"[^\W_]+(?:'[^\W\d_]+)*|[^\w\s]|_")

CHAT_TEMPLATE = (
    "{% for message in messages %}"
    "{% if message['role'] == 'assistant' %}"
    "{{ '<|assistant|>' }}{% generation %}{{ message['content'] + '<|end|>' }}{% endgeneration %}"
    "{% else %}{{ '<|' + message['role'] + '|>' + message['content'] + '<|end|>' }}{% endif %}"
    "{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|assistant|>' }}{% endif %}"
)


def vocabulary() -> list[str]:
    """Special tokens, options, punctuation, every word of the world in order of the alphabet; last what answers the
    questions about one answer alone, so that weights which know the rest can be taught these (`--init`).
    """
    known = {word for text in every_text() for word in _WORD.findall(text.lower())}
    marks = set(".,?!:;-'\"()/")
    further = [option for option in (*CLASSES, *MARKS) if option not in OPTIONS]
    return [*SPECIAL, *OPTIONS, *sorted(marks), *sorted(known - marks), *further]


def every_text() -> list[str]:
    """Texts that between them hold every word of the world, without the marks that stand for other words."""
    lists: list[Sequence[str]] = [
        *lexicon.HARM_ACTIONS.values(), *lexicon.HARM_OBJECTS.values(), *lexicon.INNOCENT_ACTIONS.values(),
        *lexicon.INNOCENT_OBJECTS.values(), *(words for field in lexicon.ORDINARY for words in field),
        lexicon.PHRASINGS, lexicon.HELD_OUT_PHRASINGS, say.TOOLS, say.MANNERS, say.CLOSERS, say.COMPLIES, say.DECLINES,
        say.IN_PART, say.HELD_OUT_IN_PART,
        *say.REASONS.values(), *say.OFFERS.values(), say.OFFERINGS, say.HEDGES, say.DEFLECTIONS, say.DRIFTS,
        say.INSULTS_BEFORE, say.INSULTS_AFTER, lessons.FINE, *lessons.BROKEN.values(),
        tuple(lessons.KIND_WORDS.values()), (lessons.OUT_OF_WORLD, lessons.SYSTEM), lessons.LURES,
        *concepts.NAMES.values(), concepts.ANY_HARM_NAMES, *concepts.SLOTS.values(),
        *(frames for asks in concepts.FRAMES.values() for frames in asks.values()),
        (DEFAULTS["critique"], DEFAULTS["revision"], lessons.COMPARISON, "user : assistant : system"),
    ]  # fmt: skip
    return [re.sub(r"\{%.*?%\}|\{\{.*?\}\}|<\w+>|\{\w+\}|@", " ", text) for texts in lists for text in texts]


def save_tokenizer(directory: Path) -> None:
    """Write the files that `AutoTokenizer` and vLLM read, without any code of ours."""
    from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    vocab = {word: i for i, word in enumerate(vocabulary())}
    tokenizer = Tokenizer(models.WordLevel(vocab, unk_token="<unk>"))
    tokenizer.normalizer = normalizers.Sequence(
        [normalizers.NFKC(), normalizers.Replace("\u2019", "'"), normalizers.Lowercase()]
    )
    tokenizer.pre_tokenizer = pre_tokenizers.Split(Regex(WORD), behavior="removed", invert=True)
    # The mark that the assistant speaks is kept when text is decoded, so that a stream that starts behind it knows that
    # its first word wants no space.
    unspaced = [decoders.Replace(f"{ASSISTANT} ", ASSISTANT), *(decoders.Replace(f" {m}", m) for m in ".,?!:;")]
    tokenizer.decoder = decoders.Sequence([decoders.WordPiece("##", cleanup=False), decoders.Fuse(), *unspaced])
    tokenizer.add_special_tokens([AddedToken(token, normalized=False) for token in SPECIAL if token != ASSISTANT])
    tokenizer.add_tokens([AddedToken(ASSISTANT, normalized=False)])
    tokenizer.add_tokens([AddedToken(option, normalized=False, single_word=True) for option in CLASSES])
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        unk_token="<unk>",
        pad_token="<|pad|>",
        eos_token="<|end|>",
        extra_special_tokens=["<|user|>", "<|system|>"],
        clean_up_tokenization_spaces=False,
        model_max_length=2048,
        model_input_names=["input_ids", "attention_mask"],
    )
    fast.chat_template = CHAT_TEMPLATE
    fast.save_pretrained(str(directory))
