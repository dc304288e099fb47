"""Training tokens per second: afina beside PyTorch + PEFT, the same work in interleaved rounds.

    python tests/peers/bench_train.py --model checkpoints/base/smollm2-135m-instruct-q4_1 [--setup]

The work: LoRA r = 8 on all seven projections, f32, every token trained, forward + backward + AdamW, on a batch of
random tokens. Each measurement is a process of its own (one warm-up step, then --steps timed ones) on the same cores.
Ours is `AFINA bench train --model DIR --shape 1x256 --steps N --json`. The peer runs twice: as it comes, and with glibc's
mmap and trim thresholds raised, which is worth 4 to 17 % to it. Peer versions: torch 2.9.1, transformers 5.23.0,
peft 0.21.2, safetensors 0.8.0 (`peers.py`); `--setup` installs them with pip into a virtual environment in a temporary folder.
"""

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import time
from pathlib import Path

from peers import PYTHON, REPOSITORY, afina_json, markdown_table, require_paths, require_versions

ALL_LINEAR = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
TUNED_MALLOC = {"MALLOC_MMAP_THRESHOLD_": "4294967296", "MALLOC_TRIM_THRESHOLD_": "17179869184", "MALLOC_TOP_PAD_": "268435456"}
CONTENDERS = ["afina", "PyTorch + PEFT", "PyTorch + PEFT, malloc tuned"]


def worker(args):
    """One measurement of the peer, printed as JSON."""
    import torch
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM
    from transformers.utils import logging

    logging.set_verbosity_error()
    logging.disable_progress_bar()
    torch.set_num_threads(args.threads)
    torch.manual_seed(0)
    batch, seq = map(int, args.worker.split("x"))
    base = AutoModelForCausalLM.from_pretrained(args.model, dtype=torch.float32, attn_implementation="sdpa")
    model = get_peft_model(base, LoraConfig(r=8, lora_alpha=16, target_modules=ALL_LINEAR, task_type="CAUSAL_LM")).train()
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=2e-4)
    tokens = torch.randint(0, base.config.vocab_size, (batch, seq))

    def step():
        optimizer.zero_grad()
        loss = model(input_ids=tokens, labels=tokens, use_cache=False).loss
        loss.backward()
        optimizer.step()
        return loss.item()

    step()
    start = time.perf_counter()
    for _ in range(args.steps):
        step()
    seconds = time.perf_counter() - start
    unit = 1 if sys.platform == "darwin" else 1024
    print(json.dumps({"tokens_per_second": batch * seq * args.steps / seconds, "seconds": seconds,
                      "peak_memory_bytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit}))


def measure(contender, shape, args):
    """One measurement of one contender, on the first `--threads` cores that this process may use."""
    cores = set(sorted(os.sched_getaffinity(0))[: args.threads]) if hasattr(os, "sched_setaffinity") else None

    def pin():
        if cores:
            os.sched_setaffinity(0, cores)

    threads = str(args.threads)
    env = os.environ | {"RAYON_NUM_THREADS": threads, "OMP_NUM_THREADS": threads, "MKL_NUM_THREADS": threads,
                        "HF_HUB_OFFLINE": "1"}
    keys = ["tokens_per_second", "seconds", "peak_memory_bytes"]
    if contender == "afina":
        return afina_json(args.afina, "bench", "train", "--model", args.model, "--shape", shape, "--steps", args.steps, "--json",
                          keys=keys, env=env, preexec_fn=pin)
    if contender.endswith("malloc tuned"):
        env |= TUNED_MALLOC
    command = [sys.executable, __file__, "--worker", shape, "--model", args.model, "--steps", args.steps,
               "--threads", args.threads]
    run = subprocess.run([str(part) for part in command], capture_output=True, text=True, env=env, preexec_fn=pin)
    if run.returncode != 0:
        sys.exit(f"error: the peer's process ended with {run.returncode}\n{run.stderr.strip()[-2000:]}")
    return json.loads(run.stdout.splitlines()[-1])


def run_rounds(shape, contenders, args):
    """All contenders once a round, each round starting with another one, so that a slow minute hits all alike."""
    results = {name: [] for name in contenders}
    for round_index in range(args.rounds):
        turn = round_index % len(contenders)
        for name in contenders[turn:] + contenders[:turn]:
            result = measure(name, shape, args)
            results[name].append(result)
            print(f"{shape} round {round_index + 1}: {name}: {result['tokens_per_second']:.1f} tokens/s", file=sys.stderr)
    return results


def summarize(shape, results):
    rows = []
    medians = {name: statistics.median(r["tokens_per_second"] for r in runs) for name, runs in results.items()}
    for name, runs in results.items():
        speeds = [r["tokens_per_second"] for r in runs]
        memory = statistics.median(r["peak_memory_bytes"] for r in runs) / 1e6
        ratio = f"{medians['afina'] / medians[name]:.2f}" if "afina" in medians and name != "afina" else ""
        rows.append([shape, name, f"{medians[name]:.1f}", f"{min(speeds):.1f}-{max(speeds):.1f}", f"{memory:.0f}", ratio])
    return rows


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", required=True, type=Path, help="Hugging Face model folder, such as SmolLM2-135M's")
    parser.add_argument("--afina", type=Path, default=REPOSITORY / "target/release/afina",
                        help="the program [default: target/release/afina]")
    parser.add_argument("--shapes", default="1x256,4x256", help="batch x sequence, with commas [default: 1x256,4x256]")
    parser.add_argument("--rounds", type=int, default=3, help="interleaved rounds [default: 3]")
    parser.add_argument("--steps", type=int, default=4, help="timed steps a measurement [default: 4]")
    parser.add_argument("--threads", type=int, default=2, help="threads and cores of every contender [default: 2]")
    parser.add_argument("--peers-only", action="store_true", help="leave afina out")
    parser.add_argument("--json", action="store_true", help="print every measurement as one JSON object instead of the table")
    parser.add_argument("--setup", action="store_true", help="install the pinned versions into a temporary virtual environment")
    parser.add_argument("--worker", help=argparse.SUPPRESS)
    args = parser.parse_args()
    require_versions(args.setup)
    if args.worker:
        return worker(args)
    contenders = CONTENDERS[1:] if args.peers_only else CONTENDERS
    if not args.peers_only and not args.afina.is_file():
        sys.exit(f"error: no program at `{args.afina}`\nhint: `cargo build --release`, or `--afina PATH`")
    require_paths(args.model)
    results = {shape: run_rounds(shape, contenders, args) for shape in args.shapes.split(",")}
    if args.json:
        print(json.dumps({"versions": PYTHON, "threads": args.threads, "steps": args.steps, "results": results}, indent=2))
        return
    print(f"LoRA r = 8 on all seven projections, f32, forward + backward + AdamW, {args.threads} threads; medians of "
          f"{args.rounds} interleaved rounds of {args.steps} steps; {', '.join(f'{k} {v}' for k, v in PYTHON.items())}\n")
    header = ["batch x seq", "program", "tokens/s", "range", "peak MB", "afina is x times"]
    print(markdown_table(header, [row for shape, result in results.items() for row in summarize(shape, result)]))


if __name__ == "__main__":
    main()
