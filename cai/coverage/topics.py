"""What prompts are about, without embeddings: TF-IDF over the words of what users say, and its non-negative factors
(Lee & Seung 1999). Pure, and the same for the same prompts in any order.

A topic is named by its heaviest words. Function words of English are left out; those of other languages are not, and
make topics of their own.
"""

import warnings
from collections.abc import Sequence
from typing import NamedTuple

from cai.records import Prompt
from cai.words import function_words, words_in

N_TOPICS = 12
N_WORDS = 4
"""That name a topic."""
N_FITTED = 20_000
"""Prompts that the topics are found among, at most: those with the lowest ids. The others are then placed."""
MAX_WORDS = 5_000
OTHER = "other"
"""Prompts that have none of the words that topics are made of."""


class Topic(NamedTuple):
    words: tuple[str, ...]
    prompt_ids: tuple[str, ...]

    @property
    def name(self) -> str:
        return ", ".join(self.words) or OTHER


def topics_of(prompts: Sequence[Prompt], n_topics: int = N_TOPICS) -> list[Topic]:
    """The topics and the prompts that each has most of, the largest topic first and `OTHER` last.

    Fewer where there are few words. Empty where no word is in two prompts.
    """
    ordered = sorted({prompt.prompt_id: prompt for prompt in prompts}.values(), key=lambda prompt: prompt.prompt_id)
    placed = _placed([_said(prompt) for prompt in ordered], n_topics)
    if placed is None:
        return []
    names, places = placed
    groups: dict[int, list[str]] = {}
    for prompt, place in zip(ordered, places, strict=True):
        groups.setdefault(place, []).append(prompt.prompt_id)
    found = [Topic(names[place] if place >= 0 else (), tuple(ids)) for place, ids in groups.items()]
    return sorted(found, key=lambda topic: (not topic.words, -len(topic.prompt_ids), topic.words))


def _said(prompt: Prompt) -> str:
    return " ".join(message.content for message in prompt.messages if message.role == "user")


def _placed(texts: Sequence[str], n_topics: int) -> tuple[list[tuple[str, ...]], list[int]] | None:
    """The words of each topic, and the topic of each text, -1 where it has none of the words."""
    import numpy as np
    from sklearn.decomposition import NMF
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.feature_extraction.text import TfidfVectorizer

    dropped = function_words()

    def words(text: str) -> list[str]:
        return [word for word in words_in(text) if word not in dropped and len(word) > 1 and not word.isdecimal()]

    fitted = texts[:N_FITTED]
    if not any(set(words(text)) for text in fitted):
        return None
    vectors = TfidfVectorizer(analyzer=words, max_features=MAX_WORDS, min_df=min(2, len(fitted)), sublinear_tf=True)
    try:
        matrix = vectors.fit_transform(fitted)
    except ValueError:  # scikit-learn's word for: no word is in two texts
        return None
    n = max(1, min(n_topics, *(size - 1 for size in matrix.shape)))
    factors = NMF(n, init="nndsvd", max_iter=200, tol=1e-3, random_state=0)
    # Which words weigh most is settled long before the last digits are; and the error of an exact fit is a root of
    # zero, or of a little less.
    with warnings.catch_warnings(), np.errstate(invalid="ignore"):
        warnings.simplefilter("ignore", ConvergenceWarning)
        weights = factors.fit_transform(matrix)
    if len(texts) > len(fitted):
        weights = np.vstack([weights, factors.transform(vectors.transform(texts[N_FITTED:]))])
    vocabulary = vectors.get_feature_names_out()
    names = [tuple(vocabulary[i] for i in _heaviest(row)) for row in factors.components_]
    places = [int(row.argmax()) if row.max() > 0 else -1 for row in weights]
    return names, places


def _heaviest(row: "Sequence[float]") -> list[int]:
    order = sorted(range(len(row)), key=lambda i: (-row[i], i))
    return [i for i in order[:N_WORDS] if row[i] > 0]
