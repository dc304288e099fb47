#!/usr/bin/env python3
"""Compares what `afina plan` forecasts with what `afina train` then takes: memory, and with --time the seconds of a step.

    afina pull smollm2-135m-instruct
    python3 tests/peers/plan_check.py --model checkpoints/base/smollm2-135m-instruct-q4_1
    python3 tests/peers/plan_check.py --model DIR --time --only 0 1 11 --steps 12

Memory is the largest `peak_memory` (VmHWM) of a run's steps, the time of a step the median of them; the run's folder is removed.
The shapes marked `seen` were there while the formulas were written; the others were written down before they were first
measured, and no formula was changed after them. Models are the given one and random Llamas
that this script writes around its tokenizer: `deep` (8 layers of 512, as many key heads as query heads, untied head) and
`wide` (3 layers of 768, 12 query heads of 80, 3 key heads). Data are data/router (short chats, packed), `turns` (the same
chats joined to conversations that fill a row) and `mixed` (short training rows, validation on such conversations).

Exits with 1 where a forecast of memory is off by more than --tolerance.
"""

import argparse
import json
import random
import shutil
import statistics
import struct
import tempfile
from pathlib import Path

from peers import REPOSITORY, afina, afina_json, require_paths

# Model, data, rows of seq_len tokens, precision, gradient_checkpointing, r, more.
SEEN = [
    ("given", "router", "1x512", "f32", "off", 16, []),
    ("given", "router", "1x512", "f32", "on", 16, []),
    ("given", "router", "1x512", "bf16", "off", 16, []),
    ("given", "router", "2x1024", "f32", "on", 64, []),
    ("given", "router", "4x512", "bf16", "on", 8, ['lora.target_modules=["q_proj", "v_proj"]']),
    ("given", "router", "2x512", "f32", "off", 32, ["train.gradient_accumulation_steps=2"]),
    ("deep", "router", "1x512", "f32", "off", 16, []),
    ("deep", "router", "4x1024", "bf16", "off", 32, []),
    ("deep", "router", "8x1024", "f32", "on", 16, []),
    ("deep", "router", "2x256", "bf16", "on", 128,
     ['lora.target_modules=["gate_proj", "up_proj", "down_proj"]', "train.gradient_accumulation_steps=3"]),
]
HELD_OUT = [
    ("given", "router", "1x128", "f32", "off", 8, []),
    ("given", "turns", "1x2048", "f32", "off", 16, []),
    ("given", "turns", "1x2048", "bf16", "on", 16, []),
    ("given", "router", "8x256", "bf16", "off", 4, ['lora.target_modules=["q_proj", "v_proj"]']),
    ("given", "mixed", "1x2048", "f32", "on", 16, []),
    ("given", "turns", "2x1024", "bf16", "off", 16, ["train.gradient_accumulation_steps=2"]),
    ("given", "turns", "4x512", "f32", "on", 16, ["data.train_on=all"]),
    ("given", "router", "1x256", "bf16", "off", 256, []),
    ("wide", "turns", "2x1536", "f32", "off", 24, ["data.train_on=all"]),
    ("wide", "turns", "3x700", "bf16", "off", 24, []),
]
SHAPES = [("seen", *shape) for shape in SEEN] + [("held out", *shape) for shape in HELD_OUT]

LLAMA = {
    "architectures": ["LlamaForCausalLM"], "model_type": "llama", "hidden_act": "silu", "attention_bias": False, "mlp_bias": False,
    "max_position_embeddings": 4096, "rms_norm_eps": 1e-5, "rope_theta": 10000.0, "bos_token_id": 1, "eos_token_id": 2,
}
MADE = {
    "deep": {"hidden_size": 512, "intermediate_size": 1400, "num_hidden_layers": 8, "num_attention_heads": 8, "num_key_value_heads": 8,
             "tie_word_embeddings": False},
    "wide": {"hidden_size": 768, "intermediate_size": 3100, "num_hidden_layers": 3, "num_attention_heads": 12, "num_key_value_heads": 3,
             "head_dim": 80, "tie_word_embeddings": True},
}


def make_model(folder, proportions, tokenizer_of):
    """A random Llama whose weights are bf16: numbers of about ±0.02, drawn once and repeated."""
    folder.mkdir()
    for name in ["tokenizer.json", "tokenizer_config.json", "special_tokens_map.json"]:
        if (tokenizer_of / name).is_file():
            shutil.copy(tokenizer_of / name, folder)
    config = LLAMA | proportions | {"vocab_size": json.loads((tokenizer_of / "config.json").read_text())["vocab_size"]}
    (folder / "config.json").write_text(json.dumps(config))
    hidden, inner, vocabulary = config["hidden_size"], config["intermediate_size"], config["vocab_size"]
    head_dim = config.get("head_dim", hidden // config["num_attention_heads"])
    queries, keys = config["num_attention_heads"] * head_dim, config["num_key_value_heads"] * head_dim
    block = {"self_attn.q_proj": [queries, hidden], "self_attn.k_proj": [keys, hidden], "self_attn.v_proj": [keys, hidden],
             "self_attn.o_proj": [hidden, queries], "mlp.gate_proj": [inner, hidden], "mlp.up_proj": [inner, hidden],
             "mlp.down_proj": [hidden, inner], "input_layernorm": [hidden], "post_attention_layernorm": [hidden]}
    shapes = {"model.embed_tokens.weight": [vocabulary, hidden], "model.norm.weight": [hidden]}
    if not config["tie_word_embeddings"]:
        shapes["lm_head.weight"] = [vocabulary, hidden]
    for layer in range(config["num_hidden_layers"]):
        shapes |= {f"model.layers.{layer}.{name}.weight": shape for name, shape in block.items()}
    draw = random.Random(1)
    # The upper half of an f32 is a bf16. A prime number of them, so that no two rows are alike.
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
            pattern = b"\x80\x3f" if len(entry["shape"]) == 1 else drawn
            file.write((pattern * (size // len(pattern) + 1))[:size])
    return folder


def joined(path, chats, to):
    """Conversations of so many chats, without their system messages: longer than any row here."""
    lines = [json.loads(line)["messages"] for line in path.read_text().splitlines()]
    turns = [[message for message in messages if message["role"] != "system"] for messages in lines]
    with open(to, "w", encoding="utf-8") as file:
        for start in range(0, len(turns) - chats + 1, chats // 2):
            messages = [message for chat in turns[start:start + chats] for message in chat]
            file.write(json.dumps({"messages": messages}, ensure_ascii=False) + "\n")
    return to


def recipe(folder, model, data, seq_len):
    router = {name: REPOSITORY / f"data/router/{name}.jsonl" for name in ["train", "valid"]}
    files = dict(router)
    if data in ["turns", "mixed"]:
        files["valid"] = joined(router["valid"], 100, folder / "valid.jsonl")
    if data == "turns":
        files["train"] = joined(router["train"], 100, folder / "train.jsonl")
    (folder / "r.toml").write_text(f"""
version = 1
recipe = "lora_finetune"
run = "{folder}/run"
[model]
base = "{model.resolve()}"
[data]
train = ["{files['train']}"]
validation = ["{files['valid']}"]
seq_len = {seq_len}
excess_length = "truncate"
packing = {"false" if data == "mixed" else "true"}
[train]
gradient_accumulation_steps = 1
""")
    return folder / "r.toml"


def measure(args, folder, model, shape):
    _, _, data, rows, precision, checkpointing, r, more = shape
    count, seq_len = map(int, rows.split("x"))
    path = recipe(folder, model, data, seq_len)
    overrides = [
        f"train.micro_batch_size={count}", f"train.precision={precision}", f"lora.r={r}",
        f"train.gradient_checkpointing={checkpointing}", f"train.max_steps={args.steps}", *more,
    ]
    probe = ["--probe"] if args.time else []
    planned = afina_json(args.afina, "plan", path, *overrides, *probe, "--json", keys=["memory", "largest_micro_batch"])
    afina(args.afina, "train", path, *overrides)
    steps = [json.loads(line) for line in (folder / "run/metrics.jsonl").read_text().splitlines()]
    tokens = [step["num_tokens"] - before for step, before in zip(steps, [0] + [step["num_tokens"] for step in steps])]
    seconds = [count / step["tokens_per_second"] for count, step in zip(tokens, steps)]
    return planned, max(step["peak_memory"] for step in steps), statistics.median(seconds)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, required=True, help="a Hugging Face folder of a Llama")
    parser.add_argument("--afina", default=REPOSITORY / "target/release/afina", type=Path)
    parser.add_argument("--only", type=int, nargs="*", help="numbers of shapes, from 0")
    parser.add_argument("--steps", type=int, default=3)
    parser.add_argument("--time", action="store_true", help="probe too: the forecast of a step's seconds")
    parser.add_argument("--tolerance", type=float, default=0.10)
    args = parser.parse_args()
    require_paths(args.model, args.afina)
    worst = 0.0
    print(f"{'':3}{'':9}{'model':6}{'data':7}{'rows':>7}  {'':5}{'again':6}{'r':>4}  {'while':11}{'forecast':>9}{'measured':>12}{'error':>9}"
          + (f"{'step':>10}{'measured':>10}{'error':>9}" if args.time else ""), flush=True)
    with tempfile.TemporaryDirectory() as place:
        place = Path(place)
        models = {"given": args.model}
        for number, shape in enumerate(SHAPES):
            if args.only is not None and number not in args.only:
                continue
            seen, model, data, rows, precision, checkpointing, r, _ = shape
            if model not in models:
                models[model] = make_model(place / model, MADE[model], args.model)
            folder = place / str(number)
            folder.mkdir()
            planned, peak, seconds = measure(args, folder, models[model], shape)
            shutil.rmtree(folder)
            memory = planned["memory"]
            error = memory["peak"] / peak - 1
            worst = max(worst, abs(error))
            line = (f"{number:<3}{seen:9}{model:6}{data:7}{rows:>7}  {precision:5}{checkpointing:6}{r:>4}  {memory['moment']:11}"
                    f"{memory['peak'] / 1e6:>6.0f} MB{peak / 1e6:>9.0f} MB{100 * error:>+7.1f} %")
            if args.time:
                step = planned["time"]["median_step_seconds"]
                line += f"{step:>8.2f} s{seconds:>8.2f} s{100 * (step / seconds - 1):>+7.1f} %"
            print(line, flush=True)
    print(f"largest error of memory {100 * worst:.1f} %, allowed {100 * args.tolerance:.0f} %")
    raise SystemExit(worst > args.tolerance)


if __name__ == "__main__":
    main()
