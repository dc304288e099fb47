#!/usr/bin/env python3
"""Kills a training run again and again, resumes it each time, and compares the adapter's bytes with those of a run never stopped.

    afina pull smollm2-135m-instruct
    python3 tests/peers/kill_test.py --model checkpoints/base/smollm2-135m-instruct-q4_1 --kills 20 --steps 24

Each kill is SIGKILL, or SIGTERM for every fourth (the run saves inside its step and exits with 130), at a moment drawn from
--seed: a while after the first step has begun, so that it falls into forward, backward, optimizer, evaluation or the writing
of a checkpoint. Exits with 1 where the bytes differ.
"""

import argparse
import hashlib
import json
import pathlib
import random
import signal
import subprocess
import sys
import tempfile
import threading
import time

ROOT = pathlib.Path(__file__).resolve().parents[2]


def recipe(args, folder):
    return f"""
version = 1
recipe = "lora_finetune"
run = "{folder}/whole"
[model]
base = "{args.model.resolve()}"
[lora]
r = 8
[data]
train = ["{ROOT}/data/router/train.jsonl"]
validation = ["{folder}/valid.jsonl"]
seq_len = 128
[train]
max_steps = {args.steps}
micro_batch_size = 1
gradient_accumulation_steps = 3
learning_rate = 1e-3
[eval]
every_steps = 5
[save]
every_steps = 1
keep = 2
"""


class Run:
    """The program, and whether it has begun to train."""

    def __init__(self, args, folder, name):
        command = [args.afina, "train", f"{folder}/r.toml", f"run={folder}/{name}"]
        if (folder / name).is_dir():
            command.append("--resume")
        self.process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
        self.trains = threading.Event()
        self.said = []
        threading.Thread(target=self.read, daemon=True).start()

    def read(self):
        for line in self.process.stderr:
            self.said.append(line)
            if line.startswith(("rehearsal ", "resumed ")):
                self.trains.set()
        self.trains.set()


def step_of(run):
    """The step that a resume goes on from, and the micro-batches of the next one that are saved."""
    states = [json.loads(path.read_text()) for path in run.glob("step-*/state.json")]
    step = max((state["step"] for state in states), default=0)
    partial = run / "partial" / "partial.json"
    if partial.is_file():
        partial = json.loads(partial.read_text())
        if partial["after_step"] == step:
            return step, partial["micro_batches"]
    return step, 0


def sha256(run):
    return hashlib.sha256((run / "adapter_model.safetensors").read_bytes()).hexdigest()


def whole_run(args, folder):
    run = Run(args, folder, "whole")
    run.trains.wait()
    began = time.time()
    if run.process.wait() != 0:
        sys.exit("".join(run.said))
    seconds = time.time() - began
    print(f"never stopped: {args.steps} steps in {seconds:.1f} s, adapter {sha256(folder / 'whole')[:16]}", flush=True)
    return seconds


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=pathlib.Path, required=True)
    parser.add_argument("--afina", default=str(ROOT / "target/release/afina"))
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--steps", type=int, default=24)
    parser.add_argument("--seed", type=int, default=7)
    args = parser.parse_args()

    random.seed(args.seed)
    with tempfile.TemporaryDirectory() as folder:
        folder = pathlib.Path(folder)
        lines = (ROOT / "data/router/valid.jsonl").read_text().splitlines(keepends=True)
        (folder / "valid.jsonl").write_text("".join(lines[:8]))
        (folder / "r.toml").write_text(recipe(args, folder))
        longest = 2 * whole_run(args, folder) / args.kills  # so that the kills fall over the whole run
        kills, runs, equal = 0, 0, True
        while kills < args.kills:
            name = f"killed-{runs}"
            while True:
                run = Run(args, folder, name)
                run.trains.wait()
                began = time.time()
                try:
                    run.process.wait(timeout=random.uniform(0, longest) if kills < args.kills else None)
                    break
                except subprocess.TimeoutExpired:
                    pass
                term = kills % 4 == 3
                run.process.send_signal(signal.SIGTERM if term else signal.SIGKILL)
                code = run.process.wait()
                kills += 1
                step, micro_batches = step_of(folder / name)
                cut = sorted(path.name for path in (folder / name).glob(".*.partial"))
                print(
                    f"kill {kills:2} ({'SIGTERM' if term else 'SIGKILL'}, {time.time() - began:5.2f} s into training, exit {code}): "
                    f"goes on after step {step}" + (f" and {micro_batches} micro-batches" if micro_batches else "")
                    + (f"; cut off while writing {', '.join(cut)}" if cut else ""),
                    flush=True,
                )
            if run.process.returncode != 0:
                sys.exit("".join(run.said))
            same = sha256(folder / name) == sha256(folder / "whole")
            equal &= same
            print(f"{name}: finished after {kills} kills in all, bytes equal: {'yes' if same else 'NO'}", flush=True)
            runs += 1
    sys.exit(0 if equal else 1)


if __name__ == "__main__":
    main()
