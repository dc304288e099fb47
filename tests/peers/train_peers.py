"""PyTorch's side of `bench_train.py`: one measurement in this process, printed as JSON.

    python train_peers.py adapter MODEL FOLDER
    python train_peers.py gemm MODEL TOKENS f32|bf16
    python train_peers.py train MODEL ADAPTER ROWS.json STEPS f32|bf16 packed|padded autocast|plain

`adapter` makes the adapter from which every contender starts: PEFT's own initial A, and a B that is not zero. `gemm` finds
the most GFLOP/s of `torch.mm` at the products of a training step. `train` takes the steps.
"""

import contextlib
import json
import os
import resource
import sys
import time
from pathlib import Path

import torch
from peft import LoraConfig, PeftModel, get_peft_model
from transformers import AutoModelForCausalLM
from transformers.utils import logging

DTYPES = {"f32": torch.float32, "bf16": torch.bfloat16}
LONG = 150  # seconds
ALL_LINEAR = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]


def load(model, precision):
    return AutoModelForCausalLM.from_pretrained(model, dtype=DTYPES[precision], attn_implementation="sdpa")


def adapter(model, folder):
    torch.manual_seed(0)
    config = LoraConfig(r=8, lora_alpha=16, lora_dropout=0.0, target_modules=ALL_LINEAR, task_type="CAUSAL_LM")
    lora = get_peft_model(load(model, "f32"), config)
    for name, parameter in lora.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter, std=0.02)
    lora.save_pretrained(folder)
    return {}


def gemm(model, tokens, precision):
    """x·Wᵀ at the shapes of the projections and the head, each repeated for half a second: the best of them all."""
    config, tokens, dtype = json.loads((Path(model) / "config.json").read_text()), int(tokens), DTYPES[precision]
    hidden, wide = config["hidden_size"], config["intermediate_size"]
    best = {}
    for rows, columns in [(hidden, hidden), (wide, hidden), (hidden, wide), (config["vocab_size"], hidden)]:
        x, weight = torch.randn(tokens, columns).to(dtype), torch.randn(rows, columns).to(dtype)
        times, began = [], time.perf_counter()
        while len(times) < 4 or time.perf_counter() - began < 0.5:
            start = time.perf_counter()
            torch.mm(x, weight.t())
            times.append(time.perf_counter() - start)
        best[f"{tokens}x{columns}x{rows}"] = 2e-9 * tokens * columns * rows / min(times)
    return {"gflops": max(best.values()), "shapes": best}


def packed(rows, dtype):
    """One batch: the rows as they are, padded to the longest; every token sees those before it in its own example."""
    longest = max(sum(len(example["tokens"]) for example in row) for row in rows)
    tokens, positions, owner = (torch.zeros(len(rows), longest, dtype=torch.long) for _ in range(3))
    labels = torch.full((len(rows), longest), -100)
    for index, row in enumerate(rows):
        start = 0
        for number, example in enumerate(row):
            place = slice(start, start := start + len(example["tokens"]))
            tokens[index, place] = torch.tensor(example["tokens"])
            positions[index, place] = torch.arange(len(example["tokens"]))
            owner[index, place] = number + 1
            labels[index, place] = targets(example)
    batch = {"input_ids": tokens, "labels": labels, "position_ids": positions}
    if bool((owner == 1).all()):
        return batch  # an example a row and no padding: sdpa's own causal mask, which is faster
    sees = (owner[:, :, None] == owner[:, None, :]).tril()[:, None]
    return batch | {"attention_mask": torch.zeros(sees.shape, dtype=dtype).masked_fill_(~sees, torch.finfo(dtype).min)}


def padded(rows):
    """Batches of one example a row, of like length together, none larger than the packed batch is."""
    area = len(rows) * max(sum(len(example["tokens"]) for example in row) for row in rows)
    batches = []
    for example in sorted((example for row in rows for example in row), key=lambda example: -len(example["tokens"])):
        if not batches or (len(batches[-1]) + 1) * len(batches[-1][0]["tokens"]) > area:
            batches.append([])
        batches[-1].append(example)
    pad = torch.nn.utils.rnn.pad_sequence
    for batch in batches:
        tokens = [torch.tensor(example["tokens"]) for example in batch]
        yield {"input_ids": pad(tokens, batch_first=True),
               "attention_mask": pad([torch.ones_like(some) for some in tokens], batch_first=True),
               "labels": pad([targets(example) for example in batch], batch_first=True, padding_value=-100)}


def targets(example):
    """Transformers shifts these by one: the first token of an example is never a target, of the example before it least of all."""
    labels = torch.tensor(example["tokens"]).masked_fill(~torch.tensor(example["loss_mask"]), -100)
    labels[0] = -100
    return labels


def train(model, adapter, rows, steps, precision, layout, autocast):
    rows = json.loads(Path(rows).read_text())["rows"]
    batches = list(padded(rows)) if layout == "padded" else [packed(rows, DTYPES[precision])]
    trained = sum(int((batch["labels"] != -100).sum()) for batch in batches)
    lora = PeftModel.from_pretrained(load(model, precision), adapter, is_trainable=True).train()
    parameters = [parameter for parameter in lora.parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW(parameters, lr=1e-4, betas=(0.9, 0.999), eps=1e-8, weight_decay=0.01, fused=True)
    cast = torch.autocast("cpu", torch.bfloat16) if autocast == "autocast" else contextlib.nullcontext()

    def step():
        optimizer.zero_grad()
        loss = 0.0
        for batch in batches:
            with cast:
                part = lora(**batch, use_cache=False, num_items_in_batch=trained).loss
            part.backward()
            loss += part.item()
        torch.nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
        return loss

    losses, seconds = [], []
    while len(losses) <= int(steps) and (len(losses) < 2 or sum(seconds) < LONG):
        began = time.perf_counter()
        losses.append(step())
        seconds.append(time.perf_counter() - began)
    return {"losses": losses, "step_seconds": seconds, "peak_memory_bytes": peak_memory_bytes(),
            "tokens": sum(len(example["tokens"]) for row in rows for example in row), "trained_tokens": trained,
            "batches": [list(batch["input_ids"].shape) for batch in batches]}


def peak_memory_bytes():
    """VmHWM as `afina` reads it; `ru_maxrss` could be that of the process which started this one."""
    if (status := Path("/proc/self/status")).exists():
        return 1024 * int(status.read_text().split("VmHWM:")[1].split()[0])
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


if __name__ == "__main__":
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    torch.set_num_threads(int(os.environ["OMP_NUM_THREADS"]))
    name, *rest = sys.argv[1:]
    print(json.dumps({"adapter": adapter, "gemm": gemm, "train": train}[name](*rest)))
