"""An engine without a model: deterministic replies for tests and dry runs, by function, by rules, or by digest.

Words count as tokens. A script file is YAML:

    rules:
      - when: "(?i)critique request"     # a regular expression searched in the last user message
        reply: The response helps someone do harm.
      - when: "letter A or B"
        choose: [0.8, 0.2]               # probability of each option, in the order they are offered

The first rule that matches and speaks for the verb answers; where none does, the digest of the request answers.
"""

import asyncio
import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated

import yaml
from pydantic import Field, ValidationError

from cai.config import Config, EngineConfig, Share
from cai.engines.base import Choice, Generation, check_fits
from cai.engines.options import choice_from
from cai.errors import ConfigError, EngineDied
from cai.models import model_digest
from cai.records import Message, Sampling, digest

Reply = Callable[[Sequence[Message], Sampling, int], str]
Probabilities = Callable[[Sequence[Message], Sequence[str]], Sequence[float]]

_WORDS = ("no", "yes", "I", "can", "help", "with", "that", "safe", "ask", "harm", "kind", "please", "do", "not", "so")


class Rule(Config):
    """What to say where the last user message matches `when`; at least one of `reply` and `choose`."""

    when: str
    reply: str | None = None
    choose: Annotated[tuple[Share, ...], Field(min_length=1)] | None = None


class Script(Config):
    rules: tuple[Rule, ...] = ()
    latency_s: Annotated[float, Field(ge=0)] = 0.0
    """Seconds every call takes."""


@dataclass(slots=True)
class Counts:
    """Calls that reached the engine, failed ones included."""

    n_complete: int = 0
    n_choose: int = 0


class ScriptedEngine:
    """Answers from `replies` and `choices`; by digest of the request where they are None or no rule matches.

    `failures` maps the number of a call (1 is the first, both verbs together) to the error it raises.
    """

    def __init__(
        self,
        replies: Reply | Sequence[Rule] | None = None,
        choices: Probabilities | None = None,
        *,
        model: Path | str = "scripted",
        context_length: int = 4096,
        latency_s: float = 0.0,
        failures: Mapping[int, Exception] | None = None,
    ) -> None:
        self._reply = replies if callable(replies) else None
        self._rules = () if replies is None or callable(replies) else tuple(replies)
        self._choices = choices
        self._digest = _digest_of(model)
        self._context_length = context_length
        self._latency_s = latency_s
        self._failures = dict(failures or {})
        self._closed = False
        self.counts = Counts()

    @property
    def model_digest(self) -> str:
        return self._digest

    @property
    def context_length(self) -> int:
        return self._context_length

    @property
    def n_complete(self) -> int:
        return self.counts.n_complete

    @property
    def n_choose(self) -> int:
        return self.counts.n_choose

    async def complete(self, messages: Sequence[Message], sampling: Sampling, seed: int) -> Generation:
        self.counts.n_complete += 1
        n_prompt = await self._arrive(messages)
        words = self._text(messages, sampling, seed)
        room = min(sampling.max_tokens, self._context_length - n_prompt)
        n_words = len(words.split())
        if n_words <= room:
            return Generation(words, "stop", n_prompt, n_words)
        return Generation(" ".join(words.split()[:room]), "length", n_prompt, room)

    async def choose(self, messages: Sequence[Message], options: Sequence[str]) -> Choice:
        self.counts.n_choose += 1
        n_prompt = await self._arrive(messages)
        shares = tuple(self._probabilities(messages, options))
        if len(shares) != len(options) or sum(shares) > 1 + 1e-9 or min(shares) < 0:
            raise ConfigError(
                f"the script gives {shares} for the options {list(options)}: expected one share each, sum <= 1"
            )
        return choice_from([[math.log(p)] if p > 0 else [] for p in shares], True, n_prompt)

    async def load(self, model: Path | str) -> None:
        self._digest = _digest_of(model)

    async def close(self) -> None:
        self._closed = True

    async def _arrive(self, messages: Sequence[Message]) -> int:
        """Count the call, fail it where the script says so; the number of words in the prompt."""
        if failure := self._failures.get(self.n_complete + self.n_choose):
            raise failure
        if self._closed:
            raise EngineDied("the scripted engine was closed; open another")
        await asyncio.sleep(self._latency_s)
        n_prompt = sum(len(m.content.split()) for m in messages)
        check_fits(n_prompt, self._context_length)
        return n_prompt

    def _text(self, messages: Sequence[Message], sampling: Sampling, seed: int) -> str:
        if self._reply is not None:
            return self._reply(messages, sampling, seed)
        for rule in self._matching(messages):
            if rule.reply is not None:
                return rule.reply
        # A greedy reply does not depend on the seed, as in a model.
        drawn = 0 if sampling.temperature == 0 else seed
        sha = digest("reply", self._digest, [asdict(m) for m in messages], asdict(sampling), drawn)
        return " ".join(_WORDS[int(sha[i : i + 2], 16) % len(_WORDS)] for i in range(0, 16, 2))

    def _probabilities(self, messages: Sequence[Message], options: Sequence[str]) -> Sequence[float]:
        if self._choices is not None:
            return self._choices(messages, options)
        for rule in self._matching(messages):
            if rule.choose is not None:
                return rule.choose
        sha = digest("choice", self._digest, [asdict(m) for m in messages])
        raw = [1 + int(digest(sha, option)[:4], 16) for option in options]
        return [0.98 * r / sum(raw) for r in raw]

    def _matching(self, messages: Sequence[Message]) -> list[Rule]:
        last = next((m.content for m in reversed(messages) if m.role == "user"), "")
        return [rule for rule in self._rules if re.search(rule.when, last)]


def _digest_of(model: Path | str) -> str:
    """A model directory's own digest, so that a dry run follows real weights; else the digest of the name."""
    path = Path(model)
    return model_digest(path) if (path / "config.json").is_file() else digest("scripted", str(model))


def read_script(path: Path) -> Script:
    """Read a script file.

    Raises:
        ConfigError: the file is missing or no YAML, a key is unknown, or a rule can never answer; says where.
    """
    try:
        script = Script.model_validate(yaml.safe_load(path.read_text(encoding="utf-8")) or {})
    except (OSError, yaml.YAMLError, ValidationError) as error:
        raise ConfigError(f"script {path} cannot be used: {error}") from error
    for number, rule in enumerate(script.rules, start=1):
        if rule.reply is None and rule.choose is None:
            raise ConfigError(f"script {path}, rule {number}: it has neither `reply` nor `choose`; give it one")
        try:
            re.compile(rule.when)
        except re.error as error:
            raise ConfigError(
                f"script {path}, rule {number}: {rule.when!r} is no regular expression: {error}"
            ) from error
    return script


async def open(config: EngineConfig) -> ScriptedEngine:
    script = Script() if config.script is None else read_script(config.script)
    return ScriptedEngine(
        script.rules,
        model=config.model,
        context_length=config.context_length or 4096,
        latency_s=script.latency_s,
    )
