"""The memory that merging, exporting and quantizing need: a few rows at a time, whatever the model's size.

    python tests/peers/memory.py [--setup] [--layers 2 5 11 22] [--dtypes BF16 F32] [--folder DIR] [--equal]

Random Llamas of 1.1 billion parameters (hidden 2048, 22 layers, vocabulary 32000, a head of its own) and of fewer layers, with a
tokenizer of 32000 tokens, in shards, and an adapter of rank 16 on all seven projections. Of each, `afina merge`, `afina export --as
hf` and `afina quantize` (Q8_0, Q4_K_M, Q6_K, Q4_0) are run with two threads: their peak of resident memory (`VmHWM`), and the
seconds. The bound is three times the largest tensor in F32, and 200 MB. The largest model is run again with the address space
limited to the bound (RLIMIT_AS): what it allocates or maps beyond it fails. Exit 1 beyond the bound, where a limited run fails or
writes other bytes, or where a model of n times the layers takes more than 1.5 × n times as long.

`--equal` makes the F32 GGUF of the largest model and compares what `afina` and llama.cpp's `llama_model_quantize` make of it
(`quantize.py`), with GB of F32 a second of both. It needs 12 GB of disk. Versions: numpy 2.4.6, safetensors 0.8.0,
node-llama-cpp 3.22.1 for `--equal`; `--setup` installs them.
"""

import argparse
import hashlib
import json
import os
import resource
import shutil
import struct
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from peers import (REPOSITORY, afina, markdown_table, node_modules, require_node_modules, require_paths,
                   require_versions)

PYTHON = {"numpy": "2.4.6", "safetensors": "0.8.0"}
HIDDEN, FFN, HEADS, KV_HEADS, VOCABULARY = 2048, 5632, 32, 4, 32000
TYPES = ["Q8_0", "Q4_K_M", "Q6_K", "Q4_0"]
THREADS, SHARD, RANK = 2, 1_000_000_000, 16
LARGEST = VOCABULARY * HIDDEN * 4
BOUND = 3 * LARGEST + 200_000_000
MODULES = {"self_attn.q_proj": (HIDDEN, HIDDEN), "self_attn.k_proj": (HIDDEN // HEADS * KV_HEADS, HIDDEN),
           "self_attn.v_proj": (HIDDEN // HEADS * KV_HEADS, HIDDEN), "self_attn.o_proj": (HIDDEN, HIDDEN),
           "mlp.gate_proj": (FFN, HIDDEN), "mlp.up_proj": (FFN, HIDDEN), "mlp.down_proj": (HIDDEN, FFN)}


def shapes_of(layers):
    shapes = {"model.embed_tokens.weight": (VOCABULARY, HIDDEN)}
    for layer in range(layers):
        names = {**MODULES, "input_layernorm": (HIDDEN,), "post_attention_layernorm": (HIDDEN,)}
        shapes |= {f"model.layers.{layer}.{name}.weight": shape for name, shape in names.items()}
    return shapes | {"model.norm.weight": (HIDDEN,), "lm_head.weight": (VOCABULARY, HIDDEN)}


def numbers(np, rng, shape, dtype):
    """Normal weights with a scale for each row and a few outliers, as the bytes of `dtype`."""
    values = rng.standard_normal(shape, dtype=np.float32) * np.float32(0.02)
    if len(shape) == 2:
        values *= np.exp(rng.standard_normal((shape[0], 1), dtype=np.float32) / 2)
        values.ravel()[:: 997] *= np.float32(8)
    return values if dtype == "F32" else (values.view(np.uint32) >> 16).astype(np.uint16)  # BF16, cut off


def write_model(np, folder, layers, dtype, seed=5):
    """A folder as transformers would write it, a tensor in memory at a time."""
    folder.mkdir(parents=True)
    rng, width = np.random.default_rng(seed), {"F32": 4, "BF16": 2}[dtype]
    shards, size = [{}], 0
    for name, shape in shapes_of(layers).items():
        length = width * int(np.prod(shape))
        if shards[-1] and size + length > SHARD:
            shards.append({})
            size = 0
        shards[-1][name] = {"dtype": dtype, "shape": shape, "data_offsets": [size, size + length]}
        size += length
    index = {"metadata": {}, "weight_map": {}}
    for number, shard in enumerate(shards, 1):
        name = f"model-{number:05d}-of-{len(shards):05d}.safetensors" if len(shards) > 1 else "model.safetensors"
        index["weight_map"] |= dict.fromkeys(shard, name)
        header = json.dumps({"__metadata__": {"format": "pt"}, **shard}).encode()
        header += b" " * (-len(header) % 8)
        with open(folder / name, "wb") as file:
            file.write(struct.pack("<Q", len(header)) + header)
            for entry in shard.values():
                file.write(numbers(np, rng, entry["shape"], dtype).tobytes())
    if len(shards) > 1:
        (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    (folder / "config.json").write_text(json.dumps({
        "architectures": ["LlamaForCausalLM"], "model_type": "llama", "hidden_size": HIDDEN, "intermediate_size": FFN,
        "num_hidden_layers": layers, "num_attention_heads": HEADS, "num_key_value_heads": KV_HEADS,
        "vocab_size": VOCABULARY, "max_position_embeddings": 2048, "rms_norm_eps": 1e-5, "rope_theta": 10000.0,
        "tie_word_embeddings": False, "bos_token_id": 1, "eos_token_id": 2}))
    write_tokenizer(folder)


def write_tokenizer(folder):
    """A byte-level BPE of 32000 tokens: a test's of SmolLM2's kind, filled up with words that nothing merges into."""
    source = json.loads((REPOSITORY / "tests/fixtures/chat/tokenizers/smollm2.json").read_text())
    vocabulary = source["model"]["vocab"]
    for number in range(len(vocabulary), VOCABULARY):
        vocabulary[f"w{number}"] = number
    (folder / "tokenizer.json").write_text(json.dumps(source))
    template = (REPOSITORY / "tests/fixtures/chat/templates/smollm2.jinja").read_text()
    (folder / "tokenizer_config.json").write_text(json.dumps({"chat_template": template, "eos_token": "<|im_end|>"}))


def write_adapter(np, folder, layers):
    from safetensors.numpy import save_file

    folder.mkdir(parents=True)
    rng = np.random.default_rng(7)
    tensors = {}
    for layer in range(layers):
        for module, (out, width) in MODULES.items():
            key = f"base_model.model.model.layers.{layer}.{module}"
            tensors[f"{key}.lora_A.weight"] = rng.standard_normal((RANK, width), dtype=np.float32) * np.float32(0.02)
            tensors[f"{key}.lora_B.weight"] = rng.standard_normal((out, RANK), dtype=np.float32) * np.float32(0.02)
    save_file(tensors, folder / "adapter_model.safetensors", metadata={"format": "pt"})
    (folder / "adapter_config.json").write_text(json.dumps({
        "peft_type": "LORA", "task_type": "CAUSAL_LM", "r": RANK, "lora_alpha": 32, "inference_mode": True,
        "base_model_name_or_path": "base", "target_modules": [module.split(".")[1] for module in MODULES]}))


def limited(kind):
    return lambda: resource.setrlimit(kind, (BOUND, BOUND))


def measured(binary, arguments, limit=None):
    """Runs `afina` and returns seconds, peak of resident memory, and what it said where it failed."""
    command = [str(binary), *map(str, arguments), "--quiet", "--threads", str(THREADS)]
    start, peak = time.perf_counter(), 0
    with tempfile.TemporaryFile("w+") as said:
        process = subprocess.Popen(command, stdout=said, stderr=said, preexec_fn=limit)
        # Looked at all the time, for it only grows: `ru_maxrss` would count this script's own memory, which the child begins with.
        while process.poll() is None:
            peak = max(peak, high_water(process.pid, Path(binary).name))
            time.sleep(0.002)
        said.seek(0)
        error = said.read().strip() if process.returncode != 0 else None
    if peak == 0 and error is None:
        sys.exit("error: the memory was never seen")
    return time.perf_counter() - start, peak, error


def high_water(pid, program):
    """`VmHWM` in bytes; 0 of a process that is not yet the program, or is ending."""
    try:
        status = Path(f"/proc/{pid}/status").read_text()
        name = Path(f"/proc/{pid}/comm").read_text().strip()
    except (FileNotFoundError, ProcessLookupError):
        return 0
    line = next((line for line in status.splitlines() if line.startswith("VmHWM:")), None)
    return int(line.split()[1]) * 1024 if line and name == program[:15] else 0


def digest(path):
    """Of a file, or of a folder's weights."""
    files = [path] if path.is_file() else sorted(path.glob("*.safetensors"))
    hashed = hashlib.sha256()
    for file in files:
        with open(file, "rb") as reader:
            hashed.update(hashlib.file_digest(reader, "sha256").digest())
    return hashed.hexdigest()


def remove(path):
    shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)


def jobs(model, adapter, to):
    yield "merge", ["merge", "--base", model, "--adapter", adapter, "--to", to / "merged"], to / "merged"
    again = ["export", "--as", "hf", "--model", model, "--shard-size", "300MB", "--to", to / "hf"]
    yield "export hf, 300 MB a file", again, to / "hf"
    for kind in TYPES:
        yield f"quantize {kind}", ["quantize", "--model", model, "--type", kind, "--to", to / f"{kind}.gguf"], to / f"{kind}.gguf"


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--afina", type=Path, default=REPOSITORY / "target/release/afina")
    parser.add_argument("--layers", type=int, nargs="+", default=[2, 5, 11, 22])
    parser.add_argument("--dtypes", nargs="+", choices=["BF16", "F32"], default=["BF16", "F32"])
    parser.add_argument("--folder", type=Path, help="where to work; needs 14 GB [default: a temporary folder]")
    parser.add_argument("--equal", action="store_true", help="compare the largest model's files with llama.cpp's")
    parser.add_argument("--rounds", type=int, default=3, help="of `--equal`")
    parser.add_argument("--node-modules", type=Path)
    parser.add_argument("--setup", action="store_true", help="install the pinned versions into a temporary folder")
    args = parser.parse_args()
    require_versions(args.setup, PYTHON)
    require_paths(args.afina)
    import numpy as np

    fine = True
    with tempfile.TemporaryDirectory(dir=args.folder) as temporary:
        scratch = Path(temporary)
        for dtype in args.dtypes:
            rows, seconds = [], {}
            for layers in sorted(args.layers):
                model, adapter = scratch / "model", scratch / "adapter"
                write_model(np, model, layers, dtype)
                write_adapter(np, adapter, layers)
                for title, arguments, to in jobs(model, adapter, scratch):
                    took, peak, error = measured(args.afina, arguments)
                    if error:
                        sys.exit(f"error: {title}: {error}")
                    seconds[title, layers] = took
                    words, row_fine = [], peak <= BOUND
                    if layers == max(args.layers):
                        expected = digest(to)
                        remove(to)
                        _, _, error = measured(args.afina, arguments, limited(resource.RLIMIT_AS))
                        same = error is None and digest(to) == expected
                        words.append("the same bytes" if same else error or "other bytes")
                        row_fine = row_fine and same
                    remove(to)
                    rows.append([title, layers, f"{peak / 1e6:.0f}", f"{BOUND / 1e6:.0f}", f"{took:.2f}", " ".join(words)])
                    fine = fine and row_fine
                remove(model)
                remove(adapter)
            print(f"{dtype}, two threads; the largest tensor is {LARGEST / 1e6:.0f} MB in F32\n")
            print(markdown_table(["command", "layers", "peak MB", "bound MB", "seconds", "under the limit"], rows))
            least, most = min(args.layers), max(args.layers)
            # Whole models count, not layers alone: embeddings and head take as long in the smallest.
            sizes = {layers: sum(int(np.prod(shape)) for shape in shapes_of(layers).values()) for layers in (least, most)}
            for title in {title for title, _ in seconds}:
                growth = seconds[title, most] / seconds[title, least] / (sizes[most] / sizes[least])
                if growth > 1.5:
                    print(f"{title}: {growth:.2f} × the time a weight of {least} layers")
                    fine = False
            print(flush=True)
        if args.equal:
            fine = equal(np, args, scratch) and fine
    sys.exit(0 if fine else 1)


def equal(np, args, scratch):
    """The largest model's files, beside llama.cpp's own of the same F32 GGUF."""
    import statistics

    import quantize

    modules = args.node_modules or node_modules(args.setup)
    require_node_modules(modules)
    llama = quantize.Llama(modules)
    model, source = scratch / "model", scratch / "f32/model.gguf"
    source.parent.mkdir()
    write_model(np, model, max(args.layers), "F32")
    afina(args.afina, "export", "--model", model, "--as", "gguf", "--type", "F32", "--to", source)
    remove(model)
    ours, theirs = scratch / "ours.gguf", scratch / "theirs.gguf"
    rows, fine = [], True
    for kind in TYPES:
        taken = ([], [])
        for _ in range(args.rounds):
            command = ["quantize", "--model", source, "--type", kind, "--to", ours]
            took, peak, error = measured(args.afina, command)
            if error:
                sys.exit(f"error: {kind}: {error}")
            taken[0].append(took)
            taken[1].append(llama.quantize(source, theirs, kind, False))
        same = quantize.same_bytes(ours, theirs)
        fine = fine and same and peak <= BOUND
        rates = [source.stat().st_size / 1e9 / statistics.median(times) for times in taken]
        rows.append([kind, "equal" if same else "differ", f"{ours.stat().st_size / 1e6:.1f}", f"{peak / 1e6:.0f}",
                     *(f"{rate:.2f}" for rate in rates), f"{rates[0] / rates[1]:.2f}"])
    print(f"from an F32 GGUF of {source.stat().st_size / 1e9:.2f} GB, two threads, medians of {args.rounds}\n")
    print(markdown_table(["type", "bytes", "MB", "our peak MB", "our GB/s", "their GB/s", "ratio"], rows))
    return fine


if __name__ == "__main__":
    main()
