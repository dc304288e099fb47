"""What `bench_validate.py` times beside `afina validate`, one a process: prints its seconds as JSON.

    python validate_peers.py json.loads|orjson.loads|cookbook|tokenizers|tiktoken FILE [WHAT IT NEEDS]
"""

import json
import os
import sys
import time
from collections import Counter
from pathlib import Path

BATCH = 1000


def json_loads(file):
    with open(file, encoding="utf-8") as lines:
        for line in lines:
            json.loads(line)


def orjson_loads(file):
    import orjson

    with open(file, "rb") as lines:
        for line in lines:
            orjson.loads(line)


def cookbook(file, vocabularies=None):
    """The checks of OpenAI's notebook on preparing chat data: a record at a time instead of a list of all."""
    encoding = tiktoken_encoding("cl100k_base", vocabularies) if vocabularies else None
    errors, missing = Counter(), Counter()
    messages_each, tokens_each, answer_tokens_each = [], [], []
    began = time.perf_counter()
    with open(file, encoding="utf-8") as lines:
        for line in lines:
            record = json.loads(line)
            messages = check_format(record, errors)
            if messages is None:
                continue
            roles = [message.get("role") for message in messages]
            missing.update(role for role in ("system", "user") if role not in roles)
            messages_each.append(len(messages))
            if encoding:
                tokens_each.append(count_tokens(messages, encoding))
                answers = (message["content"] for message in messages if message["role"] == "assistant")
                answer_tokens_each.append(sum(len(encoding.encode(answer)) for answer in answers))
    return time.perf_counter() - began


def check_format(record, errors):
    """The messages of a record, after the notebook's checks of its format."""
    if not isinstance(record, dict):
        errors["data_type"] += 1
        return None
    messages = record.get("messages")
    if not messages:
        errors["missing_messages_list"] += 1
        return None
    for message in messages:
        if "role" not in message or "content" not in message:
            errors["message_missing_key"] += 1
        if any(key not in ("role", "content", "name", "function_call", "weight") for key in message):
            errors["message_unrecognized_key"] += 1
        if message.get("role") not in ("system", "user", "assistant", "function"):
            errors["unrecognized_role"] += 1
        content = message.get("content")
        if (not content and not message.get("function_call")) or not isinstance(content, str):
            errors["missing_content"] += 1
    if not any(message.get("role") == "assistant" for message in messages):
        errors["example_missing_assistant_message"] += 1
    return messages


def count_tokens(messages, encoding):
    """3 for the whole, 3 for each message, the tokens of each value, 1 for a name."""
    total = 3
    for message in messages:
        total += 3
        for key, value in message.items():
            total += len(encoding.encode(value)) + (key == "name")
    return total


def tiktoken_encoding(name, vocabularies):
    """tiktoken's own encoding, with its vocabulary from a folder: it would download it."""
    import tiktoken
    from tiktoken_ext import openai_public

    download = openai_public.load_tiktoken_bpe
    openai_public.load_tiktoken_bpe = lambda source, **hashes: download(str(Path(vocabularies, Path(source).name)), **hashes)
    return tiktoken.get_encoding(name)


def batches(texts):
    return [texts[start : start + BATCH] for start in range(0, len(texts), BATCH)]


def conversations(file):
    with open(file, encoding="utf-8") as lines:
        return [json.loads(line)["messages"] for line in lines]


def tokenizers(file, model):
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(f"{model}/tokenizer.json")
    tokenizer.no_truncation()
    tokenizer.no_padding()
    chatml = "<|im_start|>{role}\n{content}<|im_end|>\n"
    texts = ["".join(chatml.format(**message) for message in messages) for messages in conversations(file)]
    began = time.perf_counter()
    total = 0
    for batch in batches(texts):
        total += sum(len(encoding.ids) for encoding in tokenizer.encode_batch_fast(batch, add_special_tokens=False))
    return time.perf_counter() - began


def tiktoken(file, vocabularies):
    encoding = tiktoken_encoding("o200k_base", vocabularies)
    threads = int(os.environ["RAYON_NUM_THREADS"])
    texts = ["\n".join(message["content"] for message in messages) for messages in conversations(file)]
    encoding.encode_ordinary("its first call is slower")
    began = time.perf_counter()
    total = 0
    for batch in batches(texts):
        if threads == 1:
            total += sum(len(encoding.encode_ordinary(text)) for text in batch)
        else:
            total += sum(map(len, encoding.encode_ordinary_batch(batch, num_threads=threads)))
    return time.perf_counter() - began


PEERS = {"json.loads": json_loads, "orjson.loads": orjson_loads, "cookbook": cookbook, "tokenizers": tokenizers,
         "tiktoken": tiktoken}


if __name__ == "__main__":
    name, file, *more = sys.argv[1:]
    began = time.perf_counter()
    seconds = PEERS[name](file, *more)
    print(json.dumps({"seconds": time.perf_counter() - began if seconds is None else seconds}))
