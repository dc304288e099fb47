#!/usr/bin/env python3
"""Compares what `afina plan` forecasts with what `afina train` then takes: memory at each of a list of shapes, and with --time the
seconds of a step.

    afina pull smollm2-135m-instruct
    python3 tests/peers/plan_check.py --model checkpoints/base/smollm2-135m-instruct-q4_1

The shapes are tokens x precision x recompute x r on the model, and on a random Llama of other proportions (untied head) that this
script writes around the model's tokenizer. Memory is the largest `peak_memory` (VmHWM) of three steps, in a run folder that is
removed. Exits with 1 where a forecast of memory is off by more than --tolerance.
"""

import argparse
import json
import pathlib
import random
import shutil
import statistics
import struct
import subprocess
import sys
import tempfile

ROOT = pathlib.Path(__file__).resolve().parents[2]

# model, rows of seq_len tokens, seq_len, precision, gradient_checkpointing, r, target modules, more
SHAPES = [
    ("given", 1, 512, "f32", "off", 16, "all-linear", []),
    ("given", 1, 512, "f32", "on", 16, "all-linear", []),
    ("given", 1, 512, "bf16", "off", 16, "all-linear", []),
    ("given", 2, 1024, "f32", "on", 64, "all-linear", []),
    ("given", 4, 512, "bf16", "on", 8, '["q_proj", "v_proj"]', []),
    ("given", 2, 512, "f32", "off", 32, "all-linear", ["train.gradient_accumulation_steps=2"]),
    ("made", 1, 512, "f32", "off", 16, "all-linear", []),
    ("made", 4, 1024, "bf16", "off", 32, "all-linear", []),
    ("made", 8, 1024, "f32", "on", 16, "all-linear", []),
    ("made", 2, 256, "bf16", "on", 128, '["gate_proj", "up_proj", "down_proj"]', ["train.gradient_accumulation_steps=3"]),
]

MADE = {
    "architectures": ["LlamaForCausalLM"], "model_type": "llama", "hidden_act": "silu", "attention_bias": False, "mlp_bias": False,
    "hidden_size": 512, "intermediate_size": 1400, "num_hidden_layers": 8, "num_attention_heads": 8, "num_key_value_heads": 8,
    "max_position_embeddings": 4096, "rms_norm_eps": 1e-5, "rope_theta": 10000.0, "tie_word_embeddings": False,
    "bos_token_id": 1, "eos_token_id": 2,
}


def make_model(folder, tokenizer_of):
    """A random Llama whose weights are bf16: numbers of about ±0.02, drawn once and repeated."""
    folder.mkdir()
    for name in ["tokenizer.json", "tokenizer_config.json", "special_tokens_map.json"]:
        if (tokenizer_of / name).is_file():
            shutil.copy(tokenizer_of / name, folder)
    config = dict(MADE, vocab_size=json.loads((tokenizer_of / "config.json").read_text())["vocab_size"])
    (folder / "config.json").write_text(json.dumps(config))
    hidden, inner, vocabulary = config["hidden_size"], config["intermediate_size"], config["vocab_size"]
    shapes = {"model.embed_tokens.weight": [vocabulary, hidden], "model.norm.weight": [hidden], "lm_head.weight": [vocabulary, hidden]}
    for layer in range(config["num_hidden_layers"]):
        at = f"model.layers.{layer}"
        for name in "qkvo":
            shapes[f"{at}.self_attn.{name}_proj.weight"] = [hidden, hidden]
        for name, shape in [("gate", [inner, hidden]), ("up", [inner, hidden]), ("down", [hidden, inner])]:
            shapes[f"{at}.mlp.{name}_proj.weight"] = shape
        for name in ["input_layernorm", "post_attention_layernorm"]:
            shapes[f"{at}.{name}.weight"] = [hidden]
    draw = random.Random(1)
    # The upper half of an f32 is a bf16. A prime length, so that no two rows are alike.
    drawn = b"".join(struct.pack("<f", draw.gauss(0, 0.02))[2:] for _ in range(65537))
    header, offset = {}, 0
    for name, shape in shapes.items():
        size = 2 * shape[0] * (shape[1] if len(shape) > 1 else 1)
        header[name] = {"dtype": "BF16", "shape": shape, "data_offsets": [offset, offset + size]}
        offset += size
    text = json.dumps(header).encode()
    with open(folder / "model.safetensors", "wb") as file:
        file.write(struct.pack("<Q", len(text)) + text)
        for entry in header.values():
            size = entry["data_offsets"][1] - entry["data_offsets"][0]
            ones = len(entry["shape"]) == 1
            pattern = b"\x80\x3f" if ones else drawn
            file.write((pattern * (size // len(pattern) + 1))[:size])
    return folder


def recipe(folder, model):
    (folder / "r.toml").write_text(f"""
version = 1
recipe = "lora_finetune"
run = "{folder}/run"
[model]
base = "{model.resolve()}"
[data]
train = ["{ROOT}/data/router/train.jsonl"]
validation = ["{ROOT}/data/router/valid.jsonl"]
[train]
gradient_accumulation_steps = 1
""")
    return folder / "r.toml"


def call(args, command, path, overrides, *flags):
    words = [args.afina, command, path, *overrides, *flags, "--json"]
    done = subprocess.run(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, check=False)
    if done.returncode != 0:
        sys.exit(f"{' '.join(map(str, words))} failed with {done.returncode}\n{done.stderr}")
    return json.loads(done.stdout)


def measure(args, models, folder, shape):
    model, rows, seq_len, precision, checkpointing, r, modules, more = shape
    path = recipe(folder, models[model])
    overrides = [
        f"train.micro_batch_size={rows}", f"data.seq_len={seq_len}", f"train.precision={precision}", f"lora.r={r}",
        f"train.gradient_checkpointing={checkpointing}", f"lora.target_modules={modules}", "train.max_steps=3", *more,
    ]
    planned = call(args, "plan", path, overrides, *(["--probe"] if args.time else []))
    call(args, "train", path, overrides)
    steps = [json.loads(line) for line in (folder / "run/metrics.jsonl").read_text().splitlines()]
    tokens = [step["num_tokens"] - before for step, before in zip(steps, [0] + [step["num_tokens"] for step in steps])]
    return {
        "planned": planned, "peak": max(step["peak_memory"] for step in steps),
        "step": statistics.median(count / step["tokens_per_second"] for count, step in zip(tokens, steps)),
    }


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=pathlib.Path, required=True, help="a Hugging Face folder of a Llama")
    parser.add_argument("--afina", default=ROOT / "target/release/afina", type=pathlib.Path)
    parser.add_argument("--only", type=int, nargs="*", help="numbers of shapes, from 0")
    parser.add_argument("--time", action="store_true", help="probe too: the forecast of a step's seconds")
    parser.add_argument("--tolerance", type=float, default=0.10)
    args = parser.parse_args()
    worst = 0.0
    print(f"{'':3}{'model':6}{'tokens':>7} {'':5}{'again':6}{'r':>4}{'forecast':>10}{'measured':>10}{'error':>8}"
          + (f"{'step':>9}{'measured':>10}{'error':>8}" if args.time else ""), flush=True)
    with tempfile.TemporaryDirectory() as place:
        place = pathlib.Path(place)
        models = {"given": args.model, "made": make_model(place / "made", args.model)}
        for number, shape in enumerate(SHAPES):
            if args.only and number not in args.only:
                continue
            folder = place / str(number)
            folder.mkdir()
            found = measure(args, models, folder, shape)
            shutil.rmtree(folder)
            planned, peak = found["planned"], found["peak"]
            forecast = planned["memory"]["peak"]
            error = forecast / peak - 1
            worst = max(worst, abs(error))
            line = (f"{number:<3}{shape[0]:6}{planned['largest_micro_batch']:>7} {shape[3]:5}{shape[4]:6}{shape[5]:>4}"
                    f"{forecast / 1e6:>7.0f} MB{peak / 1e6:>7.0f} MB{100 * error:>6.1f} %")
            if args.time:
                step = planned["time"]["median_step_seconds"]
                line += f"{step:>7.2f} s{found['step']:>8.2f} s{100 * (step / found['step'] - 1):>6.1f} %"
            print(line, flush=True)
    print(f"largest error of memory {100 * worst:.1f} %, allowed {100 * args.tolerance:.0f} %")
    sys.exit(worst > args.tolerance)


if __name__ == "__main__":
    main()
