"""Drives a running server with OpenAI's own Python client and says what held.

    pip install openai==3.54.0
    afina serve --model DIR &
    python tests/peers/openai_client.py --base-url http://127.0.0.1:8000/v1 --model NAME

Needs no particular model: what is checked is the shape of answers, that a streamed answer is the whole one, usage, and
that failures arrive as the client's own exceptions. Prints one line per check; exits with 1 if one failed.
"""

import argparse
import json
import sys
import urllib.error
import urllib.request

import openai


def check(name):
    """Registers a check; it fails by raising, and what it returns is printed."""

    def register(function):
        CHECKS.append((name, function))
        return function

    return register


CHECKS = []
QUESTION = [{"role": "user", "content": "¿Cuál es la capital de España? Answer in one short sentence, please. 🦤"}]


def greedy(client, model, **more):
    return client.chat.completions.create(
        model=model, messages=QUESTION, temperature=0, seed=1, **({"max_tokens": 24} | more)
    )


def streamed(client, model, **more):
    """Text, finish reason and usage of a streamed answer, and its chunks."""
    chunks = list(greedy(client, model, stream=True, stream_options={"include_usage": True}, **more))
    text = "".join(c.choices[0].delta.content or "" for c in chunks if c.choices)
    finish = [c.choices[0].finish_reason for c in chunks if c.choices and c.choices[0].finish_reason]
    usage = [c.usage for c in chunks if c.usage]
    assert len(finish) == 1 and len(usage) == 1, (finish, usage)
    assert not chunks[-1].choices, "the usage chunk is the last"
    assert all(c.usage is None for c in chunks[:-1])
    return text, finish[0], usage[0], chunks


@check("models are listed and found")
def models(client, model):
    listed = [m.id for m in client.models.list()]
    assert model in listed, listed
    found = client.models.retrieve(model)
    assert found.id == model and found.object == "model"
    return ", ".join(listed)


@check("a whole answer")
def whole(client, model):
    answer = greedy(client, model)
    usage, choice = answer.usage, answer.choices[0]
    assert answer.object == "chat.completion" and answer.id.startswith("chatcmpl-"), answer
    assert answer.model == model and answer.system_fingerprint.startswith("fp_")
    assert choice.message.role == "assistant" and isinstance(choice.message.content, str)
    assert choice.finish_reason in ("stop", "length"), choice.finish_reason
    assert usage.prompt_tokens > 0 and 0 < usage.completion_tokens <= 24, usage
    assert usage.total_tokens == usage.prompt_tokens + usage.completion_tokens
    return repr(choice.message.content)


@check("streamed is whole")
def stream_is_whole(client, model):
    answer = greedy(client, model)
    text, finish, usage, chunks = streamed(client, model)
    assert text == answer.choices[0].message.content, (text, answer.choices[0].message.content)
    assert finish == answer.choices[0].finish_reason
    assert usage == answer.usage, (usage, answer.usage)
    assert len({(c.id, c.created, c.model, c.object, c.system_fingerprint) for c in chunks}) == 1
    return f"{len(chunks)} chunks"


@check("the client's stream helper")
def stream_helper(client, model):
    with client.chat.completions.stream(model=model, messages=QUESTION, temperature=0, seed=1, max_tokens=24) as stream:
        final = stream.get_final_completion()
    assert final.choices[0].message.content == greedy(client, model).choices[0].message.content
    return "same text"


@check("max_tokens is obeyed")
def limited(client, model):
    for name in ("max_tokens", "max_completion_tokens"):
        more = {"max_tokens": openai.NOT_GIVEN, name: 2}
        answer = greedy(client, model, **more)
        assert answer.usage.completion_tokens <= 2, answer.usage
    assert answer.choices[0].finish_reason == "length" or answer.usage.completion_tokens < 2
    return f"finish_reason {answer.choices[0].finish_reason}"


@check("a stop string never shows, and cuts the streamed answer where it cuts the whole one")
def stops(client, model):
    text = greedy(client, model).choices[0].message.content
    assert len(text) >= 3, f"too short an answer to cut: {text!r}"
    cuts = {text[at : at + length] for at in range(len(text)) for length in (1, 2, 5) if text[at : at + length].strip()}
    cuts = sorted(cuts)[:: max(1, len(cuts) // 6)]
    for stop in cuts:
        answer = greedy(client, model, stop=stop).choices[0]
        assert answer.message.content == text[: text.index(stop)], (stop, answer.message.content)
        assert answer.finish_reason == "stop"
        assert streamed(client, model, stop=[stop, "\ue000"])[0] == answer.message.content
    return f"{len(cuts)} stop strings"


@check("an answer can be sent back as it came")
def second_turn(client, model):
    first = greedy(client, model).choices[0].message
    messages = [*QUESTION, first, {"role": "user", "content": "gracias"}]
    answer = client.chat.completions.create(model=model, messages=messages, max_tokens=4, temperature=0)
    return f"{answer.usage.prompt_tokens} prompt tokens"


@check("harmless fields are accepted and listed")
def ignored(client, model):
    raw = client.chat.completions.with_raw_response.create(
        model=model, messages=QUESTION, max_tokens=1, user="ana", metadata={"a": "b"}, n=1, store=False
    )
    assert raw.headers["x-afina-ignored"] == "user, metadata, store", raw.headers
    return raw.headers["x-afina-ignored"]


@check("errors are the client's own exceptions")
def errors(client, model):
    def refused(kind, status, code, call):
        try:
            call()
        except kind as error:
            assert (error.status_code, error.code) == (status, code), (error.status_code, error.code, error.message)
            assert error.body.keys() >= {"message", "type", "param", "code"}, error.body
            return
        raise AssertionError(f"{kind.__name__} {code} was expected")

    refused(openai.NotFoundError, 404, "model_not_found", lambda: greedy(client, "no-such-model"))
    refused(openai.NotFoundError, 404, "model_not_found", lambda: greedy(client, "no-such-model", stream=True))
    refused(openai.NotFoundError, 404, "model_not_found", lambda: client.models.retrieve("org/no-such-model"))
    refused(openai.NotFoundError, 404, "unknown_url", lambda: client.responses.create(model=model, input="x"))
    refused(openai.BadRequestError, 400, "unsupported_parameter", lambda: greedy(client, model, n=2))
    refused(openai.BadRequestError, 400, "unsupported_parameter", lambda: greedy(client, model, logprobs=True))
    refused(openai.BadRequestError, 400, "invalid_value",
            lambda: client.chat.completions.create(model=model, messages=QUESTION, temperature=9))
    refused(openai.BadRequestError, 400, "invalid_value",
            lambda: client.chat.completions.create(model=model, messages=[]))
    refused(openai.BadRequestError, 400, "missing_required_parameter",
            lambda: client.chat.completions.create(model=model, messages=[{"role": "user"}]))
    return "9 refusals"


@check("broken JSON, wrong method and unknown url answer in JSON")
def raw_errors(client, model):
    def answer(method, path, body=None):
        headers = {"authorization": f"Bearer {client.api_key}", "content-type": "application/json"}
        request = urllib.request.Request(f"{client.base_url}{path}", data=body, headers=headers, method=method)
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        try:
            opener.open(request)
        except urllib.error.HTTPError as error:
            return error.code, json.loads(error.read())["error"]
        raise AssertionError(f"{method} {path} was not refused")

    status, broken = answer("POST", "chat/completions", b'{"model": "x",\n "messages": [}')
    assert status == 400 and "line 2 column 15" in broken["message"], broken
    status, error = answer("GET", "chat/completions")
    assert status == 405 and error["code"] == "method_not_allowed", error
    status, error = answer("GET", "nothing")
    assert status == 404 and error["code"] == "unknown_url", error
    return broken["message"]


@check("scores of given continuations")
def scores(client, model):
    labels = ["Madrid", "París"]
    body = {"model": model, "messages": QUESTION, "continuations": labels}
    answer = client.post("/score", body=body, cast_to=object)
    assert [row["text"] for row in answer["data"]] == labels and answer["model"] == model, answer
    for row in answer["data"]:
        assert len(row["tokens"]) == len(row["token_logprobs"]) > 0
        assert abs(sum(row["token_logprobs"]) - row["logprob"]) < 1e-3 and row["logprob"] <= 0, row
    usage = answer["usage"]
    assert usage["completion_tokens"] == sum(len(row["tokens"]) for row in answer["data"])
    assert usage["total_tokens"] == usage["prompt_tokens"] + usage["completion_tokens"]
    return json.dumps({row["text"]: round(row["logprob"], 3) for row in answer["data"]}, ensure_ascii=False)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--base-url", default="http://127.0.0.1:8000/v1")
    parser.add_argument("--model", required=True)
    parser.add_argument("--api-key", default="none", help="the client wants one, whether the server does or not")
    arguments = parser.parse_args()
    client = openai.OpenAI(base_url=arguments.base_url, api_key=arguments.api_key, max_retries=0)
    failed = 0
    for name, function in CHECKS:
        try:
            print(f"ok      {name}: {function(client, arguments.model)}")
        except Exception as error:
            failed += 1
            print(f"FAILED  {name}: {type(error).__name__}: {error}")
    print(f"{len(CHECKS) - failed} of {len(CHECKS)} checks held (openai {openai.__version__})")
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()
