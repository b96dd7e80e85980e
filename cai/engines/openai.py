"""Any OpenAI-compatible server, or several of one model: `vllm serve`, or a hosted API. Retries what waiting may mend,
and gives up in the end.

Where the server returns log-probabilities, `choose` sees the 20 most probable tokens; where it returns none, the
verdict is read from the reply's text. Both say `exact=False`.
"""

import asyncio
import logging
import os
import random
import re
from collections.abc import Mapping, Sequence
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import Any, NamedTuple

import httpx

from cai.config import EngineConfig
from cai.engines.base import Choice, FinishReason, Generation
from cai.engines.options import begun_option, choice_from, said_option
from cai.engines.replicas import Replicas
from cai.errors import ConfigError, EngineError, EngineUnreachable, ModelNotFound, PromptTooLong
from cai.records import Message, Sampling, digest

logger = logging.getLogger(__name__)

MAX_WAIT_S = 60.0
TOP_LOGPROBS = 20
VERDICT_TOKENS = 8
# The server refuses what is too long itself, so a length it does not tell is no limit of ours.
UNTOLD_LENGTH = 2**31 - 1

_RETRIED = {408, 409, 425, 429, 500, 502, 503, 504}
_TOO_LONG = re.compile(r"context[ _]length|max_model_len|too many tokens|prompt is too long", re.IGNORECASE)
_LIMIT = re.compile(r"context length is (?:only )?(\d+)", re.IGNORECASE)


class Served(NamedTuple):
    """A model as the server lists it."""

    name: str
    root: str
    context_length: int | None

    @property
    def digest(self) -> str:
        """Of the name and root the server reports, whatever its address; weights it does not show are not in it.

        A server that changes the weights behind a name must change the name or the root, or stored rows pass for new.
        """
        return digest("served", self.name, self.root)


class Refused(EngineError):
    """The server answered that it will not; `status` and what it said."""

    def __init__(self, status: int, text: str, url: str) -> None:
        super().__init__(f"{url} answered {status}: {text[:300]}")
        self.status = status
        self.text = text


class OpenAIEngine:
    """See `Engine`. `seed` is passed on; whether it is honoured is up to the server.

    A reply that the server cut off for any reason (its content filter too) has finish reason "length".
    """

    def __init__(self, config: EngineConfig, *clients: httpx.AsyncClient, backoff_s: float = 0.5) -> None:
        self._replicas = Replicas(clients)
        self._config = config
        self._backoff_s = backoff_s
        self._places = asyncio.Semaphore(config.max_concurrency)
        self._served = Served(config.model, "", None)
        self._sees_logprobs = True
        self._length_key = "max_tokens"

    @property
    def model_digest(self) -> str:
        return self._served.digest

    @property
    def context_length(self) -> int:
        return self._config.context_length or self._served.context_length or UNTOLD_LENGTH

    async def complete(self, messages: Sequence[Message], sampling: Sampling, seed: int) -> Generation:
        body = await self._chat(
            messages,
            sampling.max_tokens,
            {"temperature": sampling.temperature, "top_p": sampling.top_p, "seed": seed},
        )
        choice, usage = _first(body), body.get("usage") or {}
        reason: FinishReason = "stop" if choice.get("finish_reason") == "stop" else "length"
        cached = (usage.get("prompt_tokens_details") or {}).get("cached_tokens") or 0
        return Generation(
            _text(choice), reason, int(usage.get("prompt_tokens", 0)), int(usage.get("completion_tokens", 0)), cached
        )

    async def choose(self, messages: Sequence[Message], options: Sequence[str]) -> Choice:
        """See `Engine`; never exact.

        From log-probabilities: what the top 20 do not show counts as outside; an option not among them has
        `options.NEVER`. From text: the option that the whole reply says has 0 and the others `options.NEVER`; a reply
        that says no option, or says more, gives all of them `options.NEVER` and a mass outside of 1.
        """
        if self._sees_logprobs:
            seen = await self._top(messages)
            if seen is not None:
                return seen.choice(options)
            logger.warning("%s returns no log-probabilities: verdicts are read from text", self._url)
            self._sees_logprobs = False
        body = await self._chat(messages, VERDICT_TOKENS, {"temperature": 0.0, "seed": 0})
        said = said_option(_text(_first(body)), options)
        logps = [[0.0] if i == said else [] for i in range(len(options))]
        return choice_from(logps, False, int((body.get("usage") or {}).get("prompt_tokens", 0)))

    async def load(self, model: Path | str) -> None:
        """Ask another of the models the server serves; nothing is loaded.

        Raises:
            ModelNotFound: the server does not list it.
        """
        self._served = await self._listed(str(model), must=True)

    async def close(self) -> None:
        for client in self._replicas.clients:
            await client.aclose()

    async def connect(self) -> "OpenAIEngine":
        """Find the configured model on every server."""
        self._served = await self._listed(self._config.model, must=False)
        return self

    @property
    def _url(self) -> str:
        """Of the first, or only, server."""
        return _address(self._replicas.clients[0])

    async def _listed(self, name: str, *, must: bool) -> Served:
        """The model as every server lists it.

        Raises:
            EngineError: two of them list it as different models.
        """
        found = [await self._listed_by(client, name, must) for client in self._replicas.clients]
        for client, served in zip(self._replicas.clients, found, strict=True):
            if served.digest != found[0].digest:
                raise EngineError(
                    f"{_address(client)} serves {name!r} from {served.root!r} and {self._url} from {found[0].root!r}; "
                    "`engine.replicas` must all serve one model"
                )
        return found[0]

    async def _listed_by(self, client: httpx.AsyncClient, name: str, must: bool) -> Served:
        try:
            body = await self._request("GET", "models", None, client)
        except Refused as error:
            if error.status == 404 and not must:  # some servers list nothing
                return Served(name, "", None)
            raise
        entries = {str(entry.get("id")): entry for entry in body.get("data") or []}
        if name not in entries:
            some = ", ".join(sorted(entries)[:5]) or "nothing"
            raise ModelNotFound(
                f"{_address(client)} does not serve {name!r}; it serves {some}. Set `engine.model` to one of them"
            )
        entry = entries[name]
        return Served(name, str(entry.get("root") or ""), entry.get("max_model_len"))

    async def _top(self, messages: Sequence[Message]) -> "_Top | None":
        """The most probable first tokens, or None where the server gives no log-probabilities."""
        wish = {"temperature": 0.0, "seed": 0, "logprobs": True, "top_logprobs": TOP_LOGPROBS}
        try:
            body = await self._chat(messages, 1, wish)
        except Refused as error:
            if "logprobs" in error.text:
                return None
            raise
        content = (_first(body).get("logprobs") or {}).get("content") or []
        if not content or not content[0].get("top_logprobs"):
            return None
        tokens = [(str(t["token"]), float(t["logprob"])) for t in content[0]["top_logprobs"]]
        return _Top(tokens, int((body.get("usage") or {}).get("prompt_tokens", 0)))

    async def _chat(self, messages: Sequence[Message], max_tokens: int, wish: Mapping[str, Any]) -> dict[str, Any]:
        body = {
            "model": self._served.name,
            "messages": [{"role": m.role, "content": m.content} for m in messages],
            **wish,
        }
        try:
            return await self._request("POST", "chat/completions", body | {self._length_key: max_tokens})
        except Refused as error:
            if error.status in (400, 413, 422) and _TOO_LONG.search(error.text):
                room = 0 if max_tokens == 1 else await self._room(messages, error)
                if not 1 <= room < max_tokens:
                    raise PromptTooLong(f"the prompt does not fit: {error}; shorten it") from error
                return await self._request("POST", "chat/completions", body | {self._length_key: room})
            if self._length_key == "max_tokens" and "max_completion_tokens" in error.text:
                self._length_key = "max_completion_tokens"  # the newer name, which some hosted models insist on
                return await self._chat(messages, max_tokens, wish)
            raise

    async def _room(self, messages: Sequence[Message], error: Refused) -> int:
        """Tokens left for the reply; 0 where that cannot be known. Servers refuse a reply that could overflow.

        Their message may name a lower bound of the prompt's tokens only, so one token is asked for, which tells.
        """
        told = _LIMIT.search(error.text)
        limit = int(told.group(1)) if told else self.context_length
        usage = (await self._chat(messages, 1, {"temperature": 0.0, "seed": 0})).get("usage") or {}
        n_prompt = int(usage.get("prompt_tokens", 0))
        return limit - n_prompt if n_prompt and limit < UNTOLD_LENGTH else 0

    async def _request(
        self, method: str, path: str, body: Mapping[str, Any] | None, only: httpx.AsyncClient | None = None
    ) -> dict[str, Any]:
        """One answer, after as many tries as it takes and `engine.tries` allows; of `only`, where it is given.

        Raises:
            EngineUnreachable: no answer, or only "later", every time.
            Refused: the server will not, and asking again would not help.
        """
        last = ""
        for attempt in range(self._config.tries):
            wait_s = self._backoff_s * 2**attempt
            client = only or self._replicas.choose(body)
            try:
                async with self._places:
                    answer = await client.request(method, path, json=body)
            except httpx.LocalProtocolError:  # what it says may quote a header, and so the key
                raise EngineError(
                    f"the request to {_address(client)} is none that can be sent: a header is not as HTTP has it; "
                    f"look at the variable {self._config.api_key_env}"
                ) from None
            except httpx.TransportError as error:
                last = type(error).__name__ + (f": {error}" if str(error) else "")
                self._replicas.gave_no_answer(client)
                if only is None and self._replicas.is_another_up():
                    wait_s = 0.0
            else:
                if answer.is_success:
                    return _json(answer, _address(client))
                if answer.status_code not in _RETRIED:
                    raise self._refusal(answer, client, path)
                last = f"status {answer.status_code}: {answer.text[:200]}"
                wait_s = max(wait_s, _retry_after_s(answer))
            if attempt + 1 < self._config.tries:
                # Whoever was sent away together must not come back together, and none sooner than it was told to.
                await asyncio.sleep(min(wait_s, MAX_WAIT_S) * random.uniform(1.0, 1.5))
        raise EngineUnreachable(
            f"{_address(client)} gave no answer in {self._config.tries} tries (last: {last}); start the server or mend "
            "`engine.base_url`, then run again: finished rows are kept"
        )

    def _refusal(self, answer: httpx.Response, client: httpx.AsyncClient, path: str) -> EngineError:
        url = _address(client)
        if answer.status_code in (401, 403):
            key = self._config.api_key_env
            known = "is set but not accepted" if _key(self._config) else "is not set"
            return EngineError(f"{url} answered {answer.status_code}: the API key in ${key} {known}")
        return Refused(answer.status_code, answer.text, f"{url}/{path}")


def _address(client: httpx.AsyncClient) -> str:
    return str(client.base_url.copy_with(username=None, password=None)).rstrip("/")


class _Top(NamedTuple):
    """The most probable first tokens with their log-probabilities (nats)."""

    tokens: list[tuple[str, float]]
    n_prompt_tokens: int

    def choice(self, options: Sequence[str]) -> Choice:
        logps: list[list[float]] = [[] for _ in options]
        for text, logp in self.tokens:
            index = said_option(text, options)
            if index is None:
                index = begun_option(text, options)
            if index is not None:
                logps[index].append(logp)
        return choice_from(logps, False, self.n_prompt_tokens)


def _first(body: Mapping[str, Any]) -> Mapping[str, Any]:
    choices = body.get("choices") or []
    if not choices:
        raise EngineError(f"the server's answer has no choices: {str(dict(body))[:200]}")
    first: Mapping[str, Any] = choices[0]
    return first


def _text(choice: Mapping[str, Any]) -> str:
    return str((choice.get("message") or {}).get("content") or "")


def _json(answer: httpx.Response, url: str) -> dict[str, Any]:
    try:
        body = answer.json()
    except ValueError as error:
        raise EngineError(f"{url} answered no JSON: {answer.text[:200]!r}; is `engine.base_url` right?") from error
    if not isinstance(body, dict):
        raise EngineError(f"{url} answered {type(body).__name__}, expected a JSON object; is `engine.base_url` right?")
    return body


def _retry_after_s(answer: httpx.Response) -> float:
    """Seconds the server asks us to wait: a number or a date; 0 where it does not."""
    value = answer.headers.get("retry-after", "")
    try:
        return max(0.0, float(value))
    except ValueError:
        pass
    try:
        at = parsedate_to_datetime(value)
        now = parsedate_to_datetime(answer.headers["date"])
        return max(0.0, (at - now).total_seconds())
    except (ValueError, KeyError, TypeError):
        return 0.0


async def open(config: EngineConfig) -> OpenAIEngine:
    """Connect to `config.base_url` and `config.replicas`, and find the model at each.

    Raises:
        ConfigError: an address is empty or no http address, or the key cannot be sent.
        EngineUnreachable: nothing answers at one of them.
        ModelNotFound: one does not serve `config.model`.
        EngineError: they serve different models under its name.
    """
    for url in (config.base_url, *config.replicas):
        if not url.startswith(("http://", "https://")):
            raise ConfigError(
                f"engine.base_url is {url!r}; the openai engine needs an address such as http://127.0.0.1:8000/v1"
            )
    engine = OpenAIEngine(config, *(_client(config, url) for url in (config.base_url, *config.replicas)))
    try:
        return await engine.connect()
    except BaseException:
        await engine.close()
        raise


def _key(config: EngineConfig) -> str:
    """The API key, without the line end that comes with a file; "" where none is set.

    Raises:
        ConfigError: it has a character that no header may have. It is not quoted.
    """
    key = os.environ.get(config.api_key_env, "").strip()
    if not (key.isascii() and key.isprintable()):
        raise ConfigError(
            f"the API key in ${config.api_key_env} is expected to be printable ASCII, and holds another character (a "
            "line end, a quotation mark from a text processor): set the variable to the key alone"
        )
    return key


def _client(config: EngineConfig, url: str) -> httpx.AsyncClient:
    key = _key(config)
    return httpx.AsyncClient(
        base_url=url,
        headers={"Authorization": f"Bearer {key}"} if key else {},
        timeout=httpx.Timeout(config.timeout_s, connect=min(10.0, config.timeout_s), pool=None),
        limits=httpx.Limits(max_connections=config.max_concurrency, max_keepalive_connections=config.max_concurrency),
    )
