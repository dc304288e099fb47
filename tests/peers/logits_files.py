"""The two files of `afina parity --peer`: tokens that are read, logits that are written a sequence at a time."""

import json
import struct
from pathlib import Path


def read_tokens(path):
    """Lists of token ids: the tensors `tokens.0`, `tokens.1`, … of I32."""
    data = Path(path).read_bytes()
    length = struct.unpack_from("<Q", data)[0]
    header = json.loads(data[8:8 + length])
    sequences = []
    while entry := header.get(f"tokens.{len(sequences)}"):
        start, end = entry["data_offsets"]
        assert entry["dtype"] == "I32", entry
        sequences.append(list(struct.unpack(f"<{(end - start) // 4}i", data[8 + length + start:8 + length + end])))
    return sequences


def write_logits(path, model, sequences, vocabulary, compute):
    """`compute(tokens)` gives the bytes of `[tokens, vocabulary]` in F32; `model` is the file or folder that it uses."""
    header, at = {"__metadata__": {"model": str(model)}}, 0
    for index, tokens in enumerate(sequences):
        size = 4 * len(tokens) * vocabulary
        header[f"logits.{index}"] = {"dtype": "F32", "shape": [len(tokens), vocabulary], "data_offsets": [at, at + size]}
        at += size
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    with open(path, "wb") as file:
        file.write(struct.pack("<Q", len(text)) + text)
        for tokens in sequences:
            logits = compute(tokens)
            assert len(logits) == 4 * len(tokens) * vocabulary, (len(logits), len(tokens), vocabulary)
            file.write(logits)
