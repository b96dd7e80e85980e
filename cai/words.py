"""The words of a text, by which texts are compared: no case, punctuation, spacing, diacritics or Unicode form. Pure."""

import re
import unicodedata
from collections.abc import Iterator
from functools import lru_cache

from cai.privacy.fold import is_unseen
from cai.privacy.items import PLACEHOLDER
from cai.records import Prompt

Words = tuple[str, ...]

# Characters that are a word each, for nothing divides words there: Thai, Lao, Burmese, Khmer, Japanese, Chinese.
_UNSPACED = "\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff"
_WORD = re.compile(rf"[{_UNSPACED}]|[^\W_{_UNSPACED}]+")
_CONTRACTED = frozenset(
    "dont doesnt didnt isnt arent wasnt cant couldnt wont wouldnt shouldnt im ive id ill youre youve youd youll hes"
    " shes its theyre were weve whats thats theres lets".split()
)
_APOSTROPHES = "'`´‘’ʼ"


class _Kept(dict[int, int | None]):
    """What is left of each character, itself or none; worked out when it is first met."""

    def __missing__(self, code: int) -> int | None:
        self[code] = kept = None if _is_dropped(chr(code)) else code
        return kept


def _is_dropped(char: str) -> bool:
    """Apostrophes, diacritics, and what is not seen: "don't", "don’t" and "dont" are one word, and so are "café",
    "cafe". A mark of a script without spaces is a letter: か and が are two.
    """
    if char in _APOSTROPHES or is_unseen(char):
        return True
    category = unicodedata.category(char)
    return category in ("Mn", "Me") and not _WORD.match(char) or category == "Cc" and not char.isspace()


_KEPT = _Kept()
# The same for ASCII, several times faster: what is in no word divides words.
_DROPPED = bytes(code for code in range(128) if _is_dropped(chr(code)))
_ASCII = bytes(ord(chr(code).lower()) if chr(code).isalnum() and code < 128 else 0x20 for code in range(256))


def words_of(prompt: Prompt) -> Words:
    """The words of a conversation, in order; what the system says is left out, for it comes with any question.

    A placeholder of a personal item is one word whatever its number, which goes by what the conversation had before.
    """
    text = " ".join([message.content for message in prompt.messages if message.role != "system"])
    return words_in(PLACEHOLDER.sub(r" \1placeholder ", text) if "[" in text else text)


def words_in(text: str) -> Words:
    if text.isascii():
        return tuple(text.encode().translate(_ASCII, _DROPPED).decode().split())
    text = unicodedata.normalize("NFKD", text.replace("´", "")).casefold()  # a form of it is a space and a mark
    return tuple(_WORD.findall(text.translate(_KEPT)))


@lru_cache(maxsize=1)
def function_words() -> frozenset[str]:
    """Those of English, as `words_in` writes them: scikit-learn's, which takes a second to import, and contractions."""
    from sklearn.feature_extraction.text import ENGLISH_STOP_WORDS

    return frozenset(form for word in ENGLISH_STOP_WORDS for form in words_in(word)) | _CONTRACTED


def runs(words: Words, n: int) -> Iterator[Words]:
    """Every `n` words in a row, in order; none where there are fewer."""
    return zip(*(words[i:] for i in range(n)), strict=False)
