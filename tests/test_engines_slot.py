"""One engine at a time, with the weights asked for: the same one where they fit, another where they do not."""

import asyncio

import pytest
from tiny_model import save_tiny_model

from cai.config import EngineConfig
from cai.engines.slot import EngineSlot
from cai.errors import EngineDied, ModelNotFound
from cai.models import model_digest
from cai.records import Message, Sampling, digest

ASK = [Message("user", "is the answer good ?")]


def test_a_scripted_engine_answers_for_the_model_asked_for_last():
    """The judge after an evaluation once had the digest of the model that was sampled last."""

    async def go():
        slot, config = EngineSlot(), EngineConfig(kind="scripted")
        first = await slot.get(config, "seed")
        await slot.get(config, "trained")
        again = await slot.get(config, "seed")
        assert again is first
        return again.model_digest

    assert asyncio.run(go()) == digest("scripted", "seed")


def test_another_config_closes_the_engine_that_was_up():
    async def go():
        slot = EngineSlot()
        first = await slot.get(EngineConfig(kind="scripted"), "seed")
        other = await slot.get(EngineConfig(kind="scripted", context_length=99), "seed")
        assert other.context_length == 99
        await first.complete(ASK, Sampling(), 0)

    with pytest.raises(EngineDied):
        asyncio.run(go())


def test_weights_are_swapped_where_they_fit_and_another_engine_is_started_where_not(tmp_path):
    first, second = (save_tiny_model(tmp_path / f"m{seed}", seed) for seed in (1, 2))
    wide = save_tiny_model(tmp_path / "wide", 3, width=128)

    async def go():
        slot, config = EngineSlot(), EngineConfig(kind="transformers")
        try:
            engine = await slot.get(config, first)
            assert await slot.get(config, second) is engine
            assert engine.model_digest == model_digest(second)
            other = await slot.get(config, wide)
            assert other is not engine and other.model_digest == model_digest(wide)
            await other.complete(ASK, Sampling(max_tokens=2), 0)
            with pytest.raises(ModelNotFound, match="nowhere"):
                await slot.get(config, tmp_path / "nowhere")
        finally:
            await slot.close()

    asyncio.run(go())
