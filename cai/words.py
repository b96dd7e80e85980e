"""The words of a text, by which texts are compared: no case, punctuation, spacing, diacritics or Unicode form. Pure."""

import re
import unicodedata
from collections.abc import Iterator
from functools import lru_cache

from cai.records import Prompt

Words = tuple[str, ...]

# Characters that are a word each, for nothing divides words there: Thai, Lao, Burmese, Khmer, Japanese, Chinese.
_UNSPACED = "\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff"
_WORD = re.compile(rf"[{_UNSPACED}]|[^\W_{_UNSPACED}]+")
_CONTRACTED = frozenset(
    "dont doesnt didnt isnt arent wasnt cant couldnt wont wouldnt shouldnt im ive id ill youre youve youd youll hes"
    " shes its theyre were weve whats thats theres lets".split()
)
# Apostrophes, diacritics, and what is not seen: "don't", "don’t" and "dont" are one word, and so are "café", "cafe".
_DROPPED = re.compile("['’ʼ`\u0300-\u036f\u00ad\u200b-\u200f\u2060\ufeff]")
# The same for ASCII, several times faster: an apostrophe is dropped, and what is in no word divides words.
_ASCII = {code: None if chr(code) in "'`" else chr(code).lower() if chr(code).isalnum() else " " for code in range(128)}


def words_of(prompt: Prompt) -> Words:
    """The words of a conversation, in order; what the system says is left out, for it comes with any question."""
    return words_in(" ".join(message.content for message in prompt.messages if message.role != "system"))


def words_in(text: str) -> Words:
    if text.isascii():
        return tuple(text.translate(_ASCII).split())
    text = unicodedata.normalize("NFKD", text)
    return tuple(_WORD.findall(_DROPPED.sub("", text.casefold())))


@lru_cache(maxsize=1)
def function_words() -> frozenset[str]:
    """Those of English, as `words_in` writes them: scikit-learn's, which takes a second to import, and contractions."""
    from sklearn.feature_extraction.text import ENGLISH_STOP_WORDS

    return frozenset(form for word in ENGLISH_STOP_WORDS for form in words_in(word)) | _CONTRACTED


def runs(words: Words, n: int) -> Iterator[Words]:
    """Every `n` words in a row, in order; none where there are fewer."""
    return zip(*(words[i:] for i in range(n)), strict=False)
