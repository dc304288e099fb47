"""Our block formats beside llama.cpp's reference functions and bitsandbytes' CPU code, byte by byte; and their speed.

    python tests/peers/quant_blocks.py [--setup] [--speed]

For each format: edge cases and random blocks, encoded and decoded by both, equal in every bit. What `Format::encode` refuses
is what llama.cpp refuses (`ggml_validate_row_data`). NF4: with bitsandbytes' Python functions on the CPU. `--speed` encodes
the same 64 MiB with two threads each, interleaved, medians of 9, beside `ggml_quantize_chunk` and `quantize_4bit`. Exit 1
when a byte differs; speed is only told. Versions: node-llama-cpp 3.22.1 (`peers.py`), torch 2.9.1, bitsandbytes 0.50.2,
numpy 2.4.6; `--setup` installs them.
"""

import argparse
import contextlib
import ctypes
import os
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

from peers import REPOSITORY, markdown_table, node_modules, require_node_modules, require_versions

PYTHON = {"torch": "2.9.1", "bitsandbytes": "0.50.2", "numpy": "2.4.6"}
# Name: ggml type, values and bytes of a block, ggml's functions.
FORMATS = {
    "F16": (1, 1, 2, "ggml_fp32_to_fp16_row", "ggml_fp16_to_fp32_row"),
    "BF16": (30, 1, 2, "ggml_fp32_to_bf16_row", "ggml_bf16_to_fp32_row"),
    "Q8_0": (8, 32, 34, "quantize_row_q8_0_ref", "dequantize_row_q8_0"),
    "Q4_0": (2, 32, 18, "quantize_row_q4_0_ref", "dequantize_row_q4_0"),
    "Q4_1": (3, 32, 20, "quantize_row_q4_1_ref", "dequantize_row_q4_1"),
    "Q5_0": (6, 32, 22, "quantize_row_q5_0_ref", "dequantize_row_q5_0"),
    "Q5_1": (7, 32, 24, "quantize_row_q5_1_ref", "dequantize_row_q5_1"),
    "Q4_K": (12, 256, 144, "quantize_row_q4_K_ref", "dequantize_row_q4_K"),
    "Q5_K": (13, 256, 176, "quantize_row_q5_K_ref", "dequantize_row_q5_K"),
    "Q6_K": (14, 256, 210, "quantize_row_q6_K_ref", "dequantize_row_q6_K"),
}
SPEED_ROWS, SPEED_COLUMNS, SPEED_ROUNDS = 8192, 2048, 9


def edge_blocks(np, n):
    """Blocks of n values that an encoder can get wrong."""
    f32 = np.float32
    ramp = np.arange(n, dtype=f32)
    even = ramp % 2 == 0
    yield np.zeros(n, f32)
    yield -np.zeros(n, f32)
    yield np.where(even, 0.0, -0.0)
    yield np.where(even, -0.0, 0.0)
    for constant in (1, -1, 0.1, -65504, 65520, 1e-8, -1e-8, 1e-15, 9e-16, 1e-20, 1e-38, -1e-40, 1.4e-45, 1e5, -1e9, 1e20,
                     -1e30, 3.4e38):
        yield np.full(n, constant, f32)
        yield np.where(even, constant, -f32(constant))  # alternating
        yield np.where(even, constant, 0.0)
        yield np.where(ramp == n // 3, constant, 0.0)  # one value
        yield np.where(ramp == n // 3, constant, ramp / n)
        yield np.where(ramp == n // 3, constant, 1e-3 * ((ramp * 7) % 5 - 2))
        yield ramp * f32(constant / n)
        yield (ramp % 32 - 16) * f32(constant / 16)
    for scale in (1.0, 1e-3, 1e-7, 1e-15, 1e-38, 1e-42, 1e4, 1e30):
        for multiple in range(1, 9):
            yield (np.floor(ramp * multiple / 3) % 33 - 16 + 0.5) * f32(scale)  # ties
            yield np.floor((ramp * 37) % 17 - 8) * f32(scale * multiple)
    yield np.where(ramp == n // 2, -3.0, np.where(ramp == n - 1, 3.0, 0.5))  # equal magnitudes, minus first
    yield np.where(ramp == n // 2, 3.0, np.where(ramp == n - 1, -3.0, 0.5))
    yield 1000 + ramp / 1000  # a large minimum, a small range
    yield -1000 - ramp / 1000
    yield 1.0 + ramp * f32(2.0**-23)  # neighbouring floats
    yield -1.0 - ramp * f32(2.0**-23)


def random_blocks(np, rng, n, count):
    for index in range(count):
        kind = index % 10
        scale = 10.0 ** rng.uniform(-6, 3)
        if kind < 3:
            yield rng.standard_normal(n) * (0.02 if kind else scale)
        elif kind == 3:
            yield rng.standard_t(2, n) * scale
        elif kind == 4:
            yield rng.uniform(0, 1, n) * scale + rng.uniform(-1, 1) * scale
        elif kind == 5:  # another scale for each 16 values, twelve decades apart
            yield rng.standard_normal(n) * np.repeat(10.0 ** rng.uniform(-9, 3, -(-n // 16)), 16)[:n]
        elif kind == 6:  # bf16 weights: many equal values
            yield ((rng.standard_normal(n) * 0.05).astype(np.float32).view(np.uint32) & 0xFFFF0000).view(np.float32)
        elif kind == 7:  # integers, and halves between them
            yield rng.integers(-33, 33, n) / 2 * scale
        elif kind == 8:  # any finite bits
            bits = rng.integers(0, 2**32, n, dtype=np.uint32)
            yield np.where(bits & 0x7F800000 == 0x7F800000, bits & 0x807FFFFF, bits).astype(np.uint32).view(np.float32)
        else:  # subnormal numbers among normal ones
            yield rng.standard_normal(n) * 10.0 ** rng.uniform(-45, -30, n)


def run_ours(binary, *arguments, data):
    run = subprocess.run([binary, *arguments], input=data, capture_output=True)
    if run.returncode != 0:
        sys.exit(f"error: `{binary} {' '.join(arguments)}` ended with {run.returncode}\n{run.stderr.decode().strip()}")
    return run.stdout


def pointer(array):
    return array.ctypes.data_as(ctypes.c_void_p)


@contextlib.contextmanager
def without_stderr():
    """ggml writes a line for each block that it finds invalid."""
    sys.stderr.flush()
    saved, null = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, 2)
    try:
        yield
    finally:
        os.dup2(saved, 2)
        os.close(saved)
        os.close(null)


def compare_ggml(np, ggml, binary, blocks):
    rows, fine = [], True
    ggml.ggml_validate_row_data.restype = ctypes.c_bool
    ggml.ggml_quantize_chunk.restype = ctypes.c_size_t
    for name, (kind, block, size, quantize, dequantize) in FORMATS.items():
        rng = np.random.default_rng(7)
        cases = [*edge_blocks(np, max(block, 32)), *random_blocks(np, rng, max(block, 32), blocks)]
        with np.errstate(all="ignore"):
            values = np.concatenate([np.asarray(case).astype(np.float32) for case in cases])
        values = np.where(np.isfinite(values), values, np.float32(0)).astype(np.float32)
        n = len(values) // block
        ours = np.frombuffer(run_ours(binary, "encode", name, data=values.tobytes()), np.uint8).reshape(n, size)
        theirs = np.zeros((n, size), np.uint8)
        getattr(ggml, quantize)(pointer(values), pointer(theirs), ctypes.c_int64(len(values)))
        chunk = np.zeros((n, size), np.uint8)
        ggml.ggml_quantize_chunk(kind, pointer(values), pointer(chunk), ctypes.c_int64(0), ctypes.c_int64(n),
                                 ctypes.c_int64(block), None)
        equal = (ours == theirs).all(1) & (ours == chunk).all(1)
        again = np.zeros(len(values), np.float32)
        getattr(ggml, dequantize)(pointer(theirs), pointer(again), ctypes.c_int64(len(values)))
        decoded = np.frombuffer(run_ours(binary, "decode", name, data=theirs.tobytes()), np.float32)
        equal_decode = (decoded.view(np.uint32) == again.view(np.uint32)).reshape(n, block).all(1)
        # Bytes that no encoder wrote: every bit pattern of scales and numbers.
        wild = rng.integers(0, 256, (n, size), dtype=np.uint8)
        getattr(ggml, dequantize)(pointer(wild), pointer(again), ctypes.c_int64(len(values)))
        decoded = np.frombuffer(run_ours(binary, "decode", name, data=wild.tobytes()), np.float32)
        same = (decoded.view(np.uint32) == again.view(np.uint32)) | (np.isnan(decoded) & np.isnan(again))
        equal_wild = same.reshape(n, block).all(1)
        with without_stderr():
            valid = [ggml.ggml_validate_row_data(kind, ctypes.c_void_p(block_.ctypes.data), ctypes.c_size_t(size))
                     for block_ in theirs]
        refused = np.frombuffer(run_ours(binary, "refused", name, data=values.tobytes()), np.uint8).astype(bool)
        same_refused = int((refused == ~np.array(valid)).sum())
        for kind_of, flags in (("encoding", equal), ("decoding", equal_decode)):
            for index in np.flatnonzero(~flags)[:3]:
                print(f"{name}: {kind_of} of block {index} differs: {values[index * block:][:block][:8]}…\n"
                      f"  ours   {ours[index].tobytes().hex()}\n  theirs {theirs[index].tobytes().hex()}")
        rows.append([name, n, f"{equal.sum()}/{n}", f"{equal_decode.sum()}/{n}", f"{equal_wild.sum()}/{n}",
                     f"{same_refused}/{n}", int(refused.sum())])
        fine = fine and all(f.all() for f in (equal, equal_decode, equal_wild)) and same_refused == n
    print(markdown_table(["format", "blocks", "equal encode", "equal decode", "equal decode of any bytes",
                          "refused as llama.cpp does", "refused"], rows))
    return fine


def compare_nf4(np, binary, count):
    """bitsandbytes' Python functions on the CPU: quantize_4bit and dequantize_4bit, with and without compress_statistics."""
    import bitsandbytes.functional as bnb
    import torch

    rows, fine = [], True
    rng = np.random.default_rng(13)
    for block in (32, 64, 128, 256, 4096):
        n = max(block, 64)
        cases = [*edge_blocks(np, n), *random_blocks(np, rng, n, max(count * 64 // n, 20))]
        with np.errstate(all="ignore"):
            values = np.concatenate([np.asarray(case).astype(np.float32) for case in cases])
        values = np.where(np.isfinite(values), values, np.float32(0)).astype(np.float32)
        for ragged in (0, 1, 17):
            x = values[:len(values) - ragged]
            blocks = -(-len(x) // block)
            packed, state = bnb.quantize_4bit(torch.from_numpy(x.copy()), blocksize=block, quant_type="nf4")
            packed, absmax = packed.numpy().tobytes(), state.absmax.numpy().tobytes()
            ours = run_ours(binary, "nf4", str(block), data=x.tobytes())
            again = bnb.dequantize_4bit(torch.frombuffer(bytearray(packed), dtype=torch.uint8).unsqueeze(1), state).numpy()
            decoded = np.frombuffer(run_ours(binary, "nf4-decode", str(block), str(len(x)), data=packed + absmax), np.float32)
            half = np.arange(len(packed)) * 2 // block
            bad = np.frombuffer(ours[:len(packed)], np.uint8) != np.frombuffer(packed, np.uint8)
            bad_blocks = set(half[bad]) | set(np.flatnonzero(np.frombuffer(ours[len(packed):], np.uint32) !=
                                                             np.frombuffer(absmax, np.uint32)))
            bad_decoded = set(np.flatnonzero(decoded.view(np.uint32) != again.reshape(-1).view(np.uint32)) // block)
            rows.append([f"NF4, {block} a block" + (", the last shorter" if ragged else ""), blocks,
                         f"{blocks - len(bad_blocks)}/{blocks}", f"{blocks - len(bad_decoded)}/{blocks}"])
            fine = fine and not bad_blocks and not bad_decoded
    # Scales in eight bits, with bitsandbytes' offset; and how our offset differs from torch.mean.
    equal, equal_decode, equal_offset, furthest, total = 0, 0, 0, 0.0, 0
    for size in [1, 2, 255, 256, 257, 5000, 200_000, *rng.integers(300, 3000, 200)]:
        weights = (rng.standard_normal((int(size), 64)) * 10.0 ** rng.uniform(-4, 1)).astype(np.float32)
        _, state = bnb.quantize_4bit(torch.from_numpy(weights), quant_type="nf4", compress_statistics=True)
        scales = np.abs(weights).max(1)
        offset = state.offset.numpy()
        nested = state.state2.absmax.numpy().tobytes()
        theirs = state.absmax.numpy().tobytes() + nested
        ours = run_ours(binary, "nest", repr(float(offset)), data=scales.tobytes())
        again = bnb.dequantize_blockwise(state.absmax, state.state2)
        again += state.offset
        decoded = run_ours(binary, "unnest", repr(float(offset)), str(size), data=theirs)
        our_offset = np.frombuffer(run_ours(binary, "offset", data=scales.tobytes()), np.float32)[0]
        total += 1
        equal += ours == theirs
        equal_decode += decoded == again.numpy().tobytes()
        equal_offset += our_offset == offset
        furthest = max(furthest, abs(float(our_offset) - float(offset)) / float(np.spacing(np.abs(offset))))
    rows.append(["NF4, scales in 8 bits (tensors)", total, f"{equal}/{total}", f"{equal_decode}/{total}"])
    fine = fine and equal == equal_decode == total
    print(markdown_table(["format", "blocks", "equal encode", "equal decode"], rows))
    print(f"the offset is torch.mean's on {equal_offset} of {total} tensors, and at most {furthest:.0f} ulp from it (not judged)")
    return fine


def ggml_seconds(np, ggml, kind, values, bytes_, row_bytes, threads=2):
    """`ggml_quantize_chunk` over as many threads, each on its share of the rows."""
    def work(thread):
        first = SPEED_ROWS * thread // threads
        rows = SPEED_ROWS * (thread + 1) // threads - first
        ggml.ggml_quantize_chunk(kind, pointer(values), pointer(bytes_), ctypes.c_int64(first * SPEED_COLUMNS),
                                 ctypes.c_int64(rows), ctypes.c_int64(SPEED_COLUMNS), None)
    workers = [threading.Thread(target=work, args=(thread,)) for thread in range(1, threads)]
    start = time.perf_counter()
    for worker in workers:
        worker.start()
    work(0)
    for worker in workers:
        worker.join()
    return time.perf_counter() - start


def compare_speed(np, ggml, binary):
    rng = np.random.default_rng(11)
    values = (rng.standard_normal((SPEED_ROWS, SPEED_COLUMNS), dtype=np.float32) * np.float32(0.02))
    gigabytes = values.nbytes / 1e9
    rows = []
    with tempfile.TemporaryDirectory() as temporary:
        file = Path(temporary) / "values.f32"
        values.tofile(file)
        environment = os.environ | {"RAYON_NUM_THREADS": "2"}
        ours = subprocess.Popen([binary, "time", str(SPEED_COLUMNS), file], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                text=True, env=environment)

        def our_seconds(name):
            ours.stdin.write(name + "\n")
            ours.stdin.flush()
            return float(ours.stdout.readline())

        bytes_ = np.ones(values.nbytes, np.uint8)
        for name, (kind, block, size, *_) in FORMATS.items():
            seconds = ([], [])
            for round_ in range(SPEED_ROUNDS + 1):
                pair = (our_seconds(name), ggml_seconds(np, ggml, kind, values, bytes_, SPEED_COLUMNS // block * size))
                if round_ > 0:  # the first round fills pages and tables
                    seconds[0].append(pair[0])
                    seconds[1].append(pair[1])
            us, them = map(statistics.median, seconds)
            rows.append([name, f"{gigabytes / us:.2f}", f"{gigabytes / them:.2f}", f"{them / us:.1f}"])
        import bitsandbytes.functional as bnb
        import torch
        torch.set_num_threads(2)
        tensor, seconds = torch.from_numpy(values), ([], [])
        for round_ in range(4):
            us = our_seconds("NF4")
            start = time.perf_counter()
            bnb.quantize_4bit(tensor, quant_type="nf4")
            if round_ > 0:
                seconds[0].append(us)
                seconds[1].append(time.perf_counter() - start)
        us, them = map(statistics.median, seconds)
        rows.append(["NF4 (bitsandbytes)", f"{gigabytes / us:.2f}", f"{gigabytes / them:.2f}", f"{them / us:.1f}"])
        ours.stdin.close()
        ours.wait()
    print(markdown_table(["format", "GB/s of f32, ours", "theirs", "ratio"], rows))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--blocks", type=int, default=2000, help="random blocks for each format, beside the edge cases")
    parser.add_argument("--speed", action="store_true", help="also measure speed with two threads")
    parser.add_argument("--node-modules", type=Path)
    parser.add_argument("--setup", action="store_true", help="install the pinned versions into a temporary folder")
    args = parser.parse_args()
    require_versions(args.setup, PYTHON)
    modules = args.node_modules or node_modules(args.setup)
    require_node_modules(modules)
    import numpy as np

    subprocess.run(["cargo", "build", "--release", "-p", "afina-quant", "--example", "blocks"], cwd=REPOSITORY, check=True)
    target = Path(os.environ.get("CARGO_TARGET_DIR", REPOSITORY / "target"))
    binary = target / "release/examples/blocks"
    ggml = ctypes.CDLL(str(modules / "@node-llama-cpp/linux-x64/bins/linux-x64/libggml-base.so"))
    fine = compare_ggml(np, ggml, binary, args.blocks)
    print()
    fine = compare_nf4(np, binary, args.blocks) and fine
    if args.speed:
        print()
        compare_speed(np, ggml, binary)
    sys.exit(0 if fine else 1)


if __name__ == "__main__":
    main()
