"""Text that others wrote, made fit to be shown to a judge: between marks its author could not know, without the tokens
that steer a chat. Pure. It decides no label; `cai.preferences` asks it which responses say nothing.
"""

import re
import unicodedata
from collections.abc import Sequence

from cai.records import digest

LENGTH = 12

# Chat-control tokens by their shapes, full-width forms included: <|im_end|> <|assistant|> <｜User｜>, <start_of_turn>
# <bos> </s> <unk> <extra_id_0> <tool_call> <think>, [INST] [/INST] [TOOL_CALLS] [gMASK], <<SYS>>.
_CONTROL = re.compile(
    r"[<＜](?="
    r"[|｜][^\s<>＜＞|｜]{1,64}[|｜][>＞]"
    r"|/?(?:s|bos|eos|pad|unk|mask|cls|sep|sop|eop|bot|eot|eom|eod|think|tool|image|user|assistant|system|human"
    r"|(?:start|end|begin|beginning)_of_\w{1,32}|endoftext|tool_\w{1,32}|unused_?\d{1,6}|extra_id_\d{1,6}"
    r"|reserved_\w{1,32})[>＞]"
    r"|[<＜]/?SYS[>＞]{2})"
    r"|\[(?=/?(?:INST|SYS|[A-Z]{1,24}_(?:PROMPT|TOOLS|CALLS?|RESULTS?|CONTENT)|IMG|PREFIX|SUFFIX|MIDDLE|THINK"
    r"|CLS|SEP|PAD|UNK|MASK|g?MASK|sMASK)\])",
    re.IGNORECASE,
)

# What a response may consist of and still say nothing: letters of the choice, words that announce one, and the other
# openings that have won a judge over by themselves (Zhao et al. 2025, arXiv 2507.08794, Table 1).
_KEYS = frozenset(
    "a b answer answers the is it response responses option verdict choice better best preferred prefer choose pick "
    "select final my i correct right solution thought thoughts process reasoning let's lets let us solve this problem "
    "step by 解 かいせつ 解答 答案 respuesta solución antwort lösung réponse".split()
)
_LONGEST = 10


def neutralise(text: str) -> str:
    """The text with a space in every chat-control token, behind its first bracket: as readable, and no token."""
    return _CONTROL.sub(lambda match: f"{match[0]} ", text)


def delimiter(texts: Sequence[str], length: int = LENGTH) -> str:
    """One word that none of the texts contains, from their SHA-256: the order of the texts is of no account.

    Whoever wrote one of them would have had to know the others, and its own digest while writing it. Nothing else goes
    in, so that a row depends on nothing that its id does not hold, and both orders of a pair begin alike.
    """
    held = [unicodedata.normalize("NFKC", text).casefold() for text in texts]
    n = 0
    while any((word := digest("fence", n, sorted(texts))[:length]) in text for text in held):
        n += 1
    return word


def says_nothing(text: str) -> bool:
    """Whether a response is empty, or nothing but a key such as "A", "Answer: A" or ":"."""
    words = re.findall(r"[\w'’]+", text.casefold().replace("’", "'"))
    return len(words) <= _LONGEST and _KEYS.issuperset(words)
