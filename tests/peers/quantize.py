"""`afina quantize` beside llama.cpp's own `llama_model_quantize`: every tensor's type and bytes, all metadata, and the time.

    python tests/peers/quantize.py [--setup] --model BASE [--rounds 3]

Two models: the one given, and a random Llama with a hidden size of 2048, whose rows are whole blocks of every format and whose
head is a matrix of its own. `afina` writes each as an F32 GGUF; from that file both make one of every type, and from further
files some (BF16, Q8_0 that is quantized again, and the F32 one cut in three). Both take two threads and turns; seconds are medians of `--rounds`, theirs
those of the call, ours those of the whole program, which also sees the file to the disk. Beside them, `afina export` from the
folder itself must give the same file. Exit 1 when anything but time differs. Versions: node-llama-cpp 3.22.1 (`peers.py`),
numpy 2.4.6; `--setup` installs them.
"""

import argparse
import ctypes
import json
import mmap
import shutil
import statistics
import struct
import sys
import tempfile
import time
from pathlib import Path

from peers import (REPOSITORY, afina, llama_cpp, markdown_table, node_modules, require_node_modules, require_paths,
                   require_versions)

PYTHON = {"numpy": "2.4.6"}
# `enum llama_ftype`.
TYPES = {"Q4_0": 2, "Q4_1": 3, "Q5_0": 8, "Q5_1": 9, "Q8_0": 7, "Q4_K_S": 14, "Q4_K_M": 15, "Q5_K_S": 16, "Q5_K_M": 17,
         "Q6_K": 18, "F16": 1, "BF16": 32, "F32": 0}
# `enum ggml_type`: values and bytes of a block.
BLOCKS = {0: (1, 4), 1: (1, 2), 2: (32, 18), 3: (32, 20), 6: (32, 22), 7: (32, 24), 8: (32, 34), 12: (256, 144), 13: (256, 176),
          14: (256, 210), 30: (1, 2)}
SIZES = {0: 1, 1: 1, 2: 2, 3: 2, 4: 4, 5: 4, 6: 4, 7: 1, 10: 8, 11: 8, 12: 8}
THREADS = 2


class Gguf:
    """Metadata as bytes by key, in order; and for each tensor its shape, type and bytes."""

    def __init__(self, path):
        with open(path, "rb") as file:
            self.data = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        self.at = 4
        version, tensors, keys = self.read("<IQQ")
        assert self.data[:4] == b"GGUF" and version == 3, path
        self.keys = {}
        for _ in range(keys):
            key = self.text()
            start = self.at
            self.skip(self.read("<I")[0])
            self.keys[key] = self.data[start:self.at]
        infos = []
        for _ in range(tensors):
            name = self.text()
            shape = self.read(f"<{self.read('<I')[0]}Q")
            infos.append((name, shape, *self.read("<IQ")))
        start = (self.at + 31) // 32 * 32
        self.tensors = {}
        for name, shape, kind, offset in infos:
            values, size = BLOCKS[kind]
            count = 1
            for dimension in shape:
                count *= dimension
            self.tensors[name] = (shape, kind, memoryview(self.data)[start + offset:start + offset + count // values * size])

    def read(self, form):
        values = struct.unpack_from(form, self.data, self.at)
        self.at += struct.calcsize(form)
        return values

    def text(self):
        length = self.read("<Q")[0]
        self.at += length
        return self.data[self.at - length:self.at]

    def skip(self, kind):
        if kind == 8:
            self.text()
        elif kind == 9:
            kind, count = self.read("<IQ")
            if kind in SIZES:
                self.at += SIZES[kind] * count
            else:
                for _ in range(count):
                    self.skip(kind)
        else:
            self.at += SIZES[kind]


class QuantizeParams(ctypes.Structure):
    """The first fields of `llama_model_quantize_params`; what follows keeps its defaults."""
    _fields_ = [("nthread", ctypes.c_int32), ("ftype", ctypes.c_int), ("output_tensor_type", ctypes.c_int),
                ("token_embedding_type", ctypes.c_int), ("allow_requantize", ctypes.c_bool),
                ("quantize_output_tensor", ctypes.c_bool), ("only_copy", ctypes.c_bool), ("pure", ctypes.c_bool),
                ("rest", ctypes.c_char * 236)]


class Llama:
    def __init__(self, modules):
        self.lib = llama_cpp(modules)
        self.lib.llama_model_quantize_default_params.restype = QuantizeParams
        self.lib.llama_model_quantize.restype = ctypes.c_uint32
        defaults = self.lib.llama_model_quantize_default_params()
        # The layout is this version's: no type set, only the output quantized by its own rule.
        seen = (defaults.nthread, defaults.allow_requantize, defaults.quantize_output_tensor, defaults.only_copy, defaults.pure)
        assert seen == (0, False, True, False, False), seen
        assert defaults.output_tensor_type == defaults.token_embedding_type, "both are GGML_TYPE_COUNT"

    def quantize(self, source, to, name, again):
        """Seconds, or None where llama.cpp refuses."""
        params = self.lib.llama_model_quantize_default_params()
        params.nthread, params.ftype, params.allow_requantize = THREADS, TYPES[name], again
        start = time.perf_counter()
        code = self.lib.llama_model_quantize(str(source).encode(), str(to).encode(), ctypes.byref(params))
        return time.perf_counter() - start if code == 0 else None


def random_llama(np, folder, binary):
    """A Hugging Face folder: six layers of hidden size 2048, a test model's vocabulary and rope scaling, random weights."""
    afina(binary, "pull", REPOSITORY / "tests/fixtures/gguf/tiny-bpe.gguf", "--to", folder)
    (folder / "manifest.json").unlink()
    config = json.loads((folder / "config.json").read_text())
    config |= {"hidden_size": 2048, "intermediate_size": 2816, "num_hidden_layers": 6, "num_attention_heads": 32,
               "num_key_value_heads": 8, "head_dim": 64, "tie_word_embeddings": False}
    (folder / "config.json").write_text(json.dumps(config))
    rng = np.random.default_rng(3)
    hidden, kv, ffn, vocabulary = 2048, 512, 2816, config["vocab_size"]
    shapes = {"model.embed_tokens.weight": (vocabulary, hidden), "lm_head.weight": (vocabulary, hidden),
              "model.norm.weight": (hidden,)}
    for layer in range(6):
        for name, shape in {"self_attn.q_proj": (hidden, hidden), "self_attn.k_proj": (kv, hidden),
                            "self_attn.v_proj": (kv, hidden), "self_attn.o_proj": (hidden, hidden),
                            "mlp.gate_proj": (ffn, hidden), "mlp.up_proj": (ffn, hidden), "mlp.down_proj": (hidden, ffn),
                            "input_layernorm": (hidden,), "post_attention_layernorm": (hidden,)}.items():
            shapes[f"model.layers.{layer}.{name}.weight"] = shape
    header, at = {}, 0
    for name, shape in shapes.items():
        size = 4 * int(np.prod(shape))
        header[name] = {"dtype": "F32", "shape": shape, "data_offsets": [at, at + size]}
        at += size
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    with open(folder / "model.safetensors", "wb") as file:
        file.write(struct.pack("<Q", len(text)) + text)
        for name, shape in shapes.items():
            # A scale for each row, so that sub-blocks differ, and a few outliers.
            values = rng.standard_normal(shape, dtype=np.float32) * np.float32(0.02)
            if len(shape) == 2:
                values *= np.exp(rng.standard_normal((shape[0], 1), dtype=np.float32) / 2)
                values *= np.where(rng.random(shape, dtype=np.float32) < 1e-3, np.float32(8), np.float32(1))
            file.write(values.tobytes())


def cut(path, folder, count):
    """Cuts a file as llama.cpp's `gguf-split` does, and gives the last part: any of them stands for all."""
    folder.mkdir()
    source = Gguf(path)
    names = list(source.tensors)
    each = -(-len(names) // count)
    for no in range(count):
        keys = (source.keys if no == 0 else {}) | {
            b"split.no": struct.pack("<IH", 2, no), b"split.count": struct.pack("<IH", 2, count),
            b"split.tensors.count": struct.pack("<Ii", 5, len(names))}
        part = [(name, *source.tensors[name]) for name in names[no * each:(no + 1) * each]]
        header = b"GGUF" + struct.pack("<IQQ", 3, len(part), len(keys))
        header += b"".join(struct.pack("<Q", len(key)) + key + value for key, value in keys.items())
        at = 0
        for name, shape, kind, data in part:
            header += struct.pack("<Q", len(name)) + name + struct.pack(f"<I{len(shape)}QIQ", len(shape), *shape, kind, at)
            at += -(-len(data) // 32) * 32
        last = folder / f"model-{no + 1:05}-of-{count:05}.gguf"
        with open(last, "wb") as file:
            file.write(header + bytes(-len(header) % 32))
            for *_, data in part:
                file.write(data)
                file.write(bytes(-len(data) % 32))
    return last


def same_bytes(one, other):
    with open(one, "rb") as a, open(other, "rb") as b:
        while True:
            left, right = a.read(1 << 24), b.read(1 << 24)
            if left != right:
                return False
            if not left:
                return True


def compare(label, ours, theirs, seconds):
    """A line of the table, and whether all is equal."""
    us, them = Gguf(ours), Gguf(theirs)
    names = [name for name in them.tensors if name in us.tensors]
    types = sum(us.tensors[name][:2] == them.tensors[name][:2] for name in names)
    equal = [name for name in names if us.tensors[name] == them.tensors[name]]
    keys = sum(us.keys.get(key) == value for key, value in them.keys.items())
    for name in [name for name in names if name not in equal][:3]:
        print(f"{label}: {name.decode()} differs: {us.tensors[name][:2]} {them.tensors[name][:2]}")
    for key in [key for key in {**us.keys, **them.keys} if us.keys.get(key) != them.keys.get(key)][:3]:
        print(f"{label}: {key.decode()} differs")
    whole = same_bytes(ours, theirs)
    count, fine = len(them.tensors), len(us.tensors) == len(them.tensors) == len(equal) and us.keys == them.keys
    row = [label, count, f"{types}/{count}", f"{len(equal)}/{count}", f"{keys}/{len(them.keys)}",
           "equal" if whole else "differs", f"{ours.stat().st_size / 1e6:.1f}"]
    medians = [statistics.median(times) for times in seconds]
    row += [f"{medians[0]:.2f}", f"{medians[1]:.2f}", f"{medians[1] / medians[0]:.1f}"]
    return row, fine and whole


def run_model(title, folder, scratch, llama, binary, rounds, types):
    ours, theirs, direct = scratch / "ours.gguf", scratch / "theirs.gguf", scratch / "direct.gguf"
    sources = {}
    for name in ("F32", "BF16", "Q8_0"):
        # One name for all, which the file takes over from it where the folder has none.
        (scratch / name).mkdir(exist_ok=True)
        sources[name] = scratch / name / "model.gguf"
        afina(binary, "export", "--model", folder, "--as", "gguf", "--type", name, "--to", sources[name])
    sources["3 parts"] = cut(sources["F32"], scratch / "parts", 3)
    cases = [(name, "F32") for name in types] + [("Q4_K_M", "3 parts")] + [(name, source) for source in ("BF16", "Q8_0") for name in ("Q4_K_M", "Q8_0")]
    rows, fine = [], True
    for name, source in cases:
        seconds, again = ([], []), source == "Q8_0"
        flags = ["--allow-requantize"] if again else []
        for _ in range(rounds):
            start = time.perf_counter()
            afina(binary, "quantize", "--quiet", "--threads", THREADS, "--model", sources[source], "--type", name, "--to", ours,
                  *flags)
            seconds[0].append(time.perf_counter() - start)
            # llama.cpp opens the others from the first.
            first = sorted(sources[source].parent.glob("*.gguf"))[0]
            taken = llama.quantize(first, theirs, name, again)
            if taken is None:
                sys.exit(f"error: llama.cpp did not make a {name} of `{sources[source]}`")
            seconds[1].append(taken)
        row, equal = compare(name if source == "F32" else f"{name}, from {source}", ours, theirs, seconds)
        rows.append(row)
        fine = fine and equal
        if source == "F32":
            (scratch / "direct").mkdir(exist_ok=True)
            direct = scratch / "direct/model.gguf"
            afina(binary, "export", "--model", folder, "--as", "gguf", "--type", name, "--to", direct)
            if not same_bytes(direct, ours):
                print(f"{name}: the folder's own export differs")
                fine = False
    print(f"{title}\n")
    print(markdown_table(["type", "tensors", "equal types", "equal bytes", "equal keys", "file", "MB", "our s", "their s",
                          "ratio"], rows))
    print()
    return fine


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, required=True, help="a Hugging Face model folder")
    parser.add_argument("--afina", type=Path, default=REPOSITORY / "target/release/afina")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--types", nargs="+", choices=TYPES, default=list(TYPES))
    parser.add_argument("--only", choices=["given", "random"], help="one of the two models")
    parser.add_argument("--node-modules", type=Path)
    parser.add_argument("--setup", action="store_true", help="install the pinned versions into a temporary folder")
    args = parser.parse_args()
    require_versions(args.setup, PYTHON)
    modules = args.node_modules or node_modules(args.setup)
    require_node_modules(modules)
    require_paths(args.model, args.afina)
    import numpy as np

    llama = Llama(modules)
    fine = True
    with tempfile.TemporaryDirectory() as temporary:
        for which in ("given", "random"):
            if args.only not in (None, which):
                continue
            scratch = Path(temporary) / which
            scratch.mkdir()
            folder, title = args.model, f"`{args.model.name}`"
            if which == "random":
                folder, title = scratch / "random-llama", "a random Llama, hidden size 2048, six layers"
                random_llama(np, folder, args.afina)
            fine = run_model(title, folder, scratch, llama, args.afina, args.rounds, args.types) and fine
            shutil.rmtree(scratch)
    sys.exit(0 if fine else 1)


if __name__ == "__main__":
    main()
