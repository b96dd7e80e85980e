"""Prompts that a model wrote and this home keeps, as a source that a profile names `generated`."""

from cai.config.prompts import GENERATED
from cai.records import Prompt, PromptKind, seed_from
from storage.store import Store


def generated_prompts(store: Store, limit: int | None, seed: int, kind: PromptKind = "") -> list[Prompt]:
    """Those to train on, ordered by id; of one kind, or of all. A limit draws by id and seed, so that new ones move as
    few as can be.
    """
    of_kind = f" AND kind = '{kind}'" if kind else ""
    found = store.read(Prompt, f"source = '{GENERATED}' AND split = 'train'{of_kind}")
    if limit is None or limit >= len(found):
        return found
    drawn = sorted(found, key=lambda prompt: (seed_from(prompt.prompt_id, seed), prompt.prompt_id))[:limit]
    return sorted(drawn, key=lambda prompt: prompt.prompt_id)
