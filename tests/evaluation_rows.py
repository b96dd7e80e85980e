"""Prompts and responses written by hand: what the tests of evaluation share."""

from cai.records import Message, Prompt, Response, Sampling, digest

REFUSAL = "I will not do that, because someone could be hurt."


def response_to(prompt, text, model="m", index=0):
    response_id = Response.make_id(prompt.prompt_id, digest(model), Sampling(), 0, index)
    return Response(
        response_id, prompt.prompt_id, digest(model), "eval", index, 1, 1.0, 1.0, 9, text, "stop", 1, len(text)
    )


def prompts_of(n):
    return [Prompt.make([Message("user", f"request {i}")], "test") for i in range(n)]
