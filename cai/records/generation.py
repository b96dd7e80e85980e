"""What models wrote: responses, and the critiques and revisions of them."""

from dataclasses import asdict, dataclass
from typing import Literal

from cai.records.base import digest


@dataclass(frozen=True, slots=True)
class Sampling:
    """How text is drawn. `temperature` 0 is greedy."""

    temperature: float = 1.0
    top_p: float = 1.0
    max_tokens: int = 256


@dataclass(frozen=True, slots=True)
class Response:
    """One reply. `stage` names who asked for it: `initial` (SL-CAI data), `candidate` (labelling), `eval`, `attempt` (a
    prompt that a model wrote is tried); or it says that nobody did: a `given` reply came with its prompt, its
    `model_digest` is the file's name, and the numbers of its sampling are 0. A `draft` replies to the request to write
    a prompt; that request is its `prompt_id`, and no row of `prompts`.
    """

    response_id: str
    prompt_id: str
    model_digest: str
    stage: Literal["initial", "candidate", "eval", "given", "draft", "attempt"]
    index: int
    seed: int
    temperature: float
    top_p: float
    max_tokens: int
    text: str
    finish_reason: str
    n_prompt_tokens: int
    n_tokens: int

    @staticmethod
    def make_id(prompt_id: str, model_digest: str, sampling: Sampling, run_seed: int, index: int) -> str:
        """The stage is not in it: the same sample asked for by two stages is one row."""
        return digest("response", prompt_id, model_digest, asdict(sampling), run_seed, index)

    @staticmethod
    def given(prompt_id: str, text: str, source: str) -> "Response":
        """The reply that the row of a file has."""
        row_id = digest("given", prompt_id, text)
        return Response(row_id, prompt_id, source, "given", 0, 0, 0.0, 0.0, 0, text, "given", 0, 0)


@dataclass(frozen=True, slots=True)
class Revision:
    """One critique-and-revise step. `parent_id` is the response of round 0 or the revision of the round before."""

    revision_id: str
    prompt_id: str
    response_id: str
    parent_id: str
    round: int
    principle_id: str
    principle_digest: str
    constitution_digest: str
    template_digest: str
    model_digest: str
    seed: int
    critique: str
    critique_finish_reason: str
    text: str
    finish_reason: str
    n_prompt_tokens: int
    n_tokens: int

    @staticmethod
    def make_id(
        parent_id: str,
        round: int,
        principle_id: str,
        principle_digest: str,
        template_digest: str,
        model_digest: str,
        critique: Sampling,
        revision: Sampling,
        run_seed: int,
    ) -> str:
        """`constitution_digest` is not in it: editing one principle leaves the rows of the others alone."""
        return digest(
            "revision",
            parent_id,
            round,
            principle_id,
            principle_digest,
            template_digest,
            model_digest,
            asdict(critique),
            asdict(revision),
            run_seed,
        )
