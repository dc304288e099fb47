"""Makes the files that `bench_validate.py` times: chats of two people, and questions about pictures.

    python chat_files.py chat 250000000 OUT.jsonl CHITCHAT_DATASET.json
    python chat_files.py pictures 250000000 OUT.jsonl

Text: the 7,168 conversations of chitchat-dataset (12.5 MB of text), first each as it is, one person as the user and the
other as the assistant, behind a system message. Larger files go on with records of several spans of turns, each of a
conversation and at a place drawn with a fixed seed, so that the words are those of real chats and a record hardly ever
repeats another. Pictures: 8 x 8 of easy-vqa's pictures, drawn with a fixed seed, on one of 512 x 512 pixels; every other
one a JPEG; two or three with a question and an answer each in a record.
"""

import base64
import io
import json
import random
import sys
from pathlib import Path

SYSTEM = {"role": "system", "content": "You are a friendly person who chats."}
ROLES = ("user", "assistant")


def conversations(dataset):
    """The turns of each conversation: what one person said before the other answered."""
    for chat in json.loads(Path(dataset).read_text()).values():
        turns = [" ".join(message["text"].strip() for message in turn).strip() for turn in chat["messages"]]
        turns = [turn for turn in turns if turn]
        if len(turns) >= 2:
            yield turns


def record(turns):
    """A record of an even number of turns, so that the assistant has the last word."""
    even = turns[: len(turns) // 2 * 2]
    return {"messages": [SYSTEM, *({"role": ROLES[index % 2], "content": turn} for index, turn in enumerate(even))]}


def spans(chats, rng):
    """Three to five spans of a few turns each."""
    for _ in range(rng.randint(3, 5)):
        turns = chats[rng.randrange(len(chats))]
        length = min(2 * rng.randint(2, 4), len(turns))
        start = rng.randrange(len(turns) - length + 1)
        yield from turns[start : start + length]


def chat_records(dataset):
    chats = list(conversations(dataset))
    yield from map(record, chats)
    rng = random.Random(3)
    while True:
        yield record(list(spans(chats, rng)))


def picture_records():
    import easy_vqa
    from PIL import Image

    paths = easy_vqa.get_train_image_paths()
    pictures = {number: Image.open(path).convert("RGB") for number, path in paths.items()}
    numbers = sorted(pictures)
    questions = list(zip(*easy_vqa.get_train_questions()))
    rng = random.Random(4)

    def uri(index):
        side = 64
        board = Image.new("RGB", (8 * side, 8 * side))
        for place in range(64):
            board.paste(pictures[rng.choice(numbers)], (place % 8 * side, place // 8 * side))
        kind = ("png", "jpeg")[index % 2]
        out = io.BytesIO()
        board.save(out, kind)
        return f"data:image/{kind};base64,{base64.b64encode(out.getvalue()).decode()}"

    index = 0
    while True:
        messages = []
        for _ in range(rng.randint(2, 3)):
            question, answer, _ = rng.choice(questions)
            picture = {"type": "image_url", "image_url": {"url": uri(index)}}
            messages.append({"role": "user", "content": [{"type": "text", "text": question}, picture]})
            messages.append({"role": "assistant", "content": answer})
            index += 1
        yield {"messages": [{"role": "system", "content": "Answer in a word."}, *messages]}


def make(records, size, out):
    """Writes records until the file has `size` bytes; it gets its name once it is whole."""
    written, part = 0, Path(f"{out}.part")
    with open(part, "wb") as file:
        for value in records:
            line = json.dumps(value, ensure_ascii=False).encode() + b"\n"
            file.write(line)
            written += len(line)
            if written >= size:
                break
    part.rename(out)


if __name__ == "__main__":
    kind, size, out, *dataset = sys.argv[1:]
    make(chat_records(*dataset) if kind == "chat" else picture_records(), int(size), out)
