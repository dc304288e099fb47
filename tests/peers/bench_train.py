"""Training speed and memory: afina beside PyTorch + PEFT, the same steps in interleaved rounds.

    python tests/peers/bench_train.py --setup --model checkpoints/base/smollm2-135m-instruct-q4_1
    python tests/peers/bench_train.py --setup --model DIR --only "1x256,chat,afina f32,PEFT f32" --rounds 7
    python tests/peers/bench_train.py --model DIR --drift 500

A step is forward, backward, clipping at 1.0 and AdamW (1e-4, 0.9, 0.999, 1e-8, 0.01) of LoRA r = 8, alpha = 16, no dropout,
on all seven projections, without recomputing activations. Why it is fair:

- The same work: every contender gets the same tokens, the same targets and the same adapter, made once by PEFT with a B that
  is not zero. The losses of the first three steps are printed side by side, and at f32 the script fails unless they agree
  within 1e-4: a wrong gradient would show in the second.
- The same machine: one process a measurement, the same number of threads on the same cores, the contenders by turns in each
  round. The first step of a process is not timed. A figure is the median of the rounds, of each the median of its steps. Who
  takes ten times as long as the quickest is measured in one round, and after 150 s takes no further step.
- The peer at its best: sdpa, AdamW in its fused form, glibc's thresholds raised so that freed memory stays with the process
  (afina's allocator does so too). At bf16 its frozen weights are bf16 and its adapter what PEFT makes of it, f32. "PEFT bf16
  autocast", there to choose with --only, runs that under torch.autocast: within a tenth of the same time on a CPU without
  bf16 instructions, where torch's products at bf16 take many times those at f32. So each peer is held to both of ours.
- Otherwise both as they come. afina computes the head's logits only where a token is trained; transformers everywhere.

Shapes are sequences x tokens, drawn at random and all trained, and `chat`: rows of real chats as `afina` packs them, with only
the assistant's tokens trained, other rows in each round. They are those of data/router/train.jsonl and as many chats of two
people from chitchat-dataset, if that is installed. The peer gets the packed rows with restarted positions and a mask that
keeps the examples apart, and as "padded" each example in a row of its own: those of like length together, in batches no
larger than the packed one. Tokens a second never count padding.

GFLOP/s is what `afina bench train` counts, beside the best that torch.mm reaches at the shapes of that step, in each round.
"""

import argparse
import importlib.util
import json
import os
import random
import re
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

import chat_files
from peers import PYTHON, REPOSITORY, afina, afina_json, markdown_table, require_paths, require_versions

CHITCHAT = {"chitchat-dataset": "0.9.0"}
TUNED_MALLOC = {"MALLOC_MMAP_THRESHOLD_": "4294967296", "MALLOC_TRIM_THRESHOLD_": "17179869184", "MALLOC_TOP_PAD_": "268435456"}
SHAPES = ["1x256", "4x256", "1x512", "2x512", "1x2048", "chat"]
# Name: precision, and for the peer how it gets the rows and whether under autocast.
CONTENDERS = {"afina f32": ("f32",), "PEFT f32": ("f32", "packed", "plain"), "PEFT f32 padded": ("f32", "padded", "plain"),
              "afina bf16": ("bf16",), "PEFT bf16": ("bf16", "packed", "plain"),
              "PEFT bf16 padded": ("bf16", "padded", "plain"), "PEFT bf16 autocast": ("bf16", "packed", "autocast")}
ON_DEMAND = ["PEFT bf16 autocast"]
OURS = ["afina f32", "afina bf16"]
COMPARED_STEPS = 3
HOPELESS = 10
AGREEMENT = 1e-4


def pinned(args):
    """The environment of a measurement, and what puts its process on the first `--threads` cores that this one may use."""
    threads = str(args.threads)
    env = os.environ | {"RAYON_NUM_THREADS": threads, "OMP_NUM_THREADS": threads, "MKL_NUM_THREADS": threads, "HF_HUB_OFFLINE": "1"}
    if not hasattr(os, "sched_setaffinity"):
        return {"env": env}
    cores = sorted(os.sched_getaffinity(0))[: args.threads]
    return {"env": env, "preexec_fn": lambda: os.sched_setaffinity(0, cores)}


def torch_side(args, *arguments):
    """A call of `train_peers.py`."""
    options = pinned(args)
    options["env"] |= TUNED_MALLOC
    command = [sys.executable, Path(__file__).with_name("train_peers.py"), *arguments]
    run = subprocess.run([str(part) for part in command], capture_output=True, text=True, **options)
    if run.returncode != 0:
        sys.exit(f"error: `{' '.join(map(str, command))}` ended with {run.returncode}\n{run.stderr.strip()[-2000:]}")
    return json.loads(run.stdout.splitlines()[-1])


def our_side(args, rows, steps, precision):
    keys = ["losses", "step_seconds", "resident_bytes", "peak_memory_bytes", "gflop", "tokens", "trained_tokens"]
    return afina_json(args.afina, "bench", "train", "--model", args.model, "--adapter", args.adapter, "--rows", rows,
                      "--precision", precision, "--steps", steps, "--json", keys=keys, **pinned(args))


def measure(args, contender, rows):
    precision, *peer = CONTENDERS[contender]
    if peer:
        return torch_side(args, "train", args.model, args.adapter, rows, args.steps, precision, *peer)
    return our_side(args, rows, args.steps, precision)


def step_seconds(result):
    return statistics.median(result["step_seconds"][1:])


def write_rows(path, rows):
    path.write_text(json.dumps({"rows": rows}))
    return path


def random_rows(args, shape):
    """Rows of one example each, drawn with a fixed seed."""
    count, length = map(int, shape.split("x"))
    rng, vocab = random.Random(0), json.loads((args.model / "config.json").read_text())["vocab_size"]
    rows = [[{"tokens": [rng.randrange(vocab) for _ in range(length)], "loss_mask": [True] * length}] for _ in range(count)]
    return write_rows(args.scratch / f"{shape}.json", rows)


def chat_rows(args):
    """A file of rows for each round, and what the chats are."""
    count, seq_len = map(int, args.chat.split("x"))
    records = [json.loads(line) for line in (REPOSITORY / "data/router/train.jsonl").read_text().splitlines()]
    source, rng = f"{len(records)} of data/router/train.jsonl", random.Random(0)
    if package := importlib.util.find_spec("chitchat_dataset"):
        chats = map(chat_files.record, chat_files.conversations(Path(package.origin).parent / "dataset.json"))
        # Half of the characters of usual English, and the template's own: these fit into a row.
        chats = [chat for chat in chats if sum(len(message["content"]) + 20 for message in chat["messages"]) <= 2 * seq_len]
        records += rng.sample(chats, len(records))
        source += " and as many of chitchat-dataset"
    rng.shuffle(records)
    data, packed = args.scratch / "chat.jsonl", args.scratch / "chat.json"
    data.write_text("".join(json.dumps(record, ensure_ascii=False) + "\n" for record in records))
    afina(args.afina, "bench", "train", "--model", args.model, "--data", data, "--seq-len", seq_len, "--write-rows", packed)
    rows = json.loads(packed.read_text())["rows"]
    if len(rows) < count * args.rounds:
        sys.exit(f"error: {args.rounds} rounds of {count} rows of {seq_len} tokens need more chats: there are {len(rows)} rows")
    parts = [rows[index * count : (index + 1) * count] for index in range(args.rounds)]
    return [write_rows(args.scratch / f"chat-{index}.json", part) for index, part in enumerate(parts)], source


def run_rounds(args, shape):
    """All contenders once a round, each round starting with another one, so that a slow minute hits all alike."""
    files, source = chat_rows(args) if shape == "chat" else ([random_rows(args, shape)] * args.rounds, "random tokens")
    names = [name for name in args.contenders if shape == "chat" or not name.endswith("padded")]
    results, peaks = {name: [] for name in names}, {"f32": [], "bf16": []}
    for index, rows in enumerate(files):
        turn = index % len(names)
        first = {name: step_seconds(runs[0]) for name, runs in results.items() if runs}
        for name in names[turn:] + names[:turn]:
            if first and first[name] > HOPELESS * min(first.values()):
                continue
            results[name].append(measure(args, name, rows))
            print(f"{shape} round {index + 1} of {args.rounds}: {name}: {1000 * step_seconds(results[name][-1]):.0f} ms",
                  file=sys.stderr)
        counted = {(runs[index]["tokens"], runs[index]["trained_tokens"]) for runs in results.values() if len(runs) > index}
        if len(counted) != 1:
            sys.exit(f"error: {shape}: the contenders do not agree on tokens and trained tokens: {counted}")
        for precision in (CONTENDERS[name][0] for name in OURS if name in names):
            peaks[precision].append(torch_side(args, "gemm", args.model, counted.copy().pop()[0], precision)["gflops"])
    return {"rows": source, "results": results, "gemm_gflops": peaks}


def difference(results, name, reference):
    """The largest relative difference of a loss from the reference's, in the first steps of every round."""
    pairs = zip(results[name], results[reference])
    losses = [zip(one["losses"][:COMPARED_STEPS], other["losses"]) for one, other in pairs]
    return max(abs(ours / theirs - 1) for round_ in losses for ours, theirs in round_)


def loss_rows(shape, results, failures):
    """The first losses of the first round, and how far each contender is from the first peer at f32 (or else the first contender)."""
    reference = next((name for name in results if name.startswith("PEFT f32")), next(iter(results)))
    for name, runs in results.items():
        apart = difference(results, name, reference)
        if CONTENDERS[name][0] == CONTENDERS[reference][0] == "f32" and not apart <= AGREEMENT:
            failures.append(f"{shape}: {name} is {apart:.1e} from {reference}, expected at most {AGREEMENT:.0e}")
        losses = [f"{loss:.6f}" for loss in runs[0]["losses"][:COMPARED_STEPS]]
        yield [shape, name, *losses, *[""] * (COMPARED_STEPS - len(losses)), "" if name == reference else f"{apart:.1e}"]


def speed_rows(shape, measured):
    results = measured["results"]
    seconds = {name: [step_seconds(run) for run in runs] for name, runs in results.items()}
    memory = {name: statistics.median(run["peak_memory_bytes"] for run in runs) for name, runs in results.items()}
    for name, runs in results.items():
        speed = statistics.median(run["tokens"] / second for run, second in zip(runs, seconds[name]))
        row = [shape, name, f"{1000 * statistics.median(seconds[name]):.0f}",
               f"{1000 * min(seconds[name]):.0f}-{1000 * max(seconds[name]):.0f}", f"{speed:.0f}", f"{memory[name] / 1e6:.0f}"]
        if name in OURS:
            gflops = [run["gflop"] / second for run, second in zip(runs, seconds[name])]
            share = statistics.median(one / peak for one, peak in zip(gflops, measured["gemm_gflops"][CONTENDERS[name][0]]))
            row += ["", "", "", "", f"{statistics.median(gflops):.0f}", f"{100 * share:.0f} %"]
        else:
            ratios = [statistics.median(theirs / own for theirs, own in zip(seconds[name], seconds[ours])) if ours in results else None
                      for ours in OURS]
            ratios += [memory[name] / memory[ours] if ours in results else None for ours in OURS]
            row += [f"{ratio:.2f}" if ratio else "" for ratio in ratios] + ["", ""]
        yield row


def drift(args):
    """Our side alone: time and memory of a step early in a long run and at its end."""
    rows, measured = random_rows(args, "1x256"), {}
    for precision in (CONTENDERS[name][0] for name in OURS if name in args.contenders):
        measured[precision] = our_side(args, rows, args.drift, precision)
    if args.json:
        return print(json.dumps({"threads": args.threads, "drift": measured}, indent=2))
    table = []
    for precision, run in measured.items():
        early, late = slice(10, 60), slice(-50, None)
        ms = [1000 * statistics.median(run["step_seconds"][part]) for part in (early, late)]
        rss = [statistics.median(run["resident_bytes"][part]) / 1e6 for part in (early, late)]
        table.append([f"afina {precision}", *(f"{value:.1f}" for value in ms), f"{100 * (ms[1] / ms[0] - 1):+.1f} %",
                      *(f"{value:.1f}" for value in rss), f"{rss[1] - rss[0]:+.1f}"])
    print(f"{args.drift} steps at 1x256, {args.threads} thread(s); medians of steps 10 to 60 and of the last 50\n")
    print(markdown_table(["program", "ms, early", "ms, late", "change", "RSS MB, early", "RSS MB, late", "change"], table))


def choose(args, parser):
    """--only: names of shapes and of contenders; of what is not named, all."""
    only = [item.strip() for item in args.only.split(",")] if args.only else []
    shapes = [item for item in only if item == "chat" or re.fullmatch(r"[1-9]\d*x[1-9]\d*", item)]
    contenders = [name for name in CONTENDERS if name in only]
    if unknown := set(only) - set(shapes) - set(contenders):
        parser.error(f"--only: expected shapes as in 4x256, chat, or of {list(CONTENDERS)}; found {sorted(unknown)}")
    args.shapes = shapes or SHAPES
    args.contenders = contenders or [name for name in CONTENDERS if name not in ON_DEMAND]


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", required=True, type=Path, help="Hugging Face model folder, such as SmolLM2-135M's")
    parser.add_argument("--afina", type=Path, default=REPOSITORY / "target/release/afina",
                        help="the program [default: target/release/afina]")
    parser.add_argument("--only", help="shapes and contenders, with commas [default: all but PEFT bf16 autocast]")
    parser.add_argument("--rounds", type=int, default=5, help="interleaved rounds [default: 5]")
    parser.add_argument("--steps", type=int, default=3, help="timed steps a measurement [default: 3]")
    parser.add_argument("--threads", type=int, default=2, help="threads and cores of every contender [default: 2]")
    parser.add_argument("--chat", default="2x1024", help="rows x tokens in a row of a step of chat [default: 2x1024]")
    parser.add_argument("--drift", type=int, nargs="?", const=500, metavar="STEPS",
                        help="afina alone for this many steps at 1x256 [default: 500]")
    parser.add_argument("--json", action="store_true", help="print every measurement as one JSON object instead of tables")
    parser.add_argument("--setup", action="store_true", help="install the pinned versions into a temporary virtual environment")
    args = parser.parse_args()
    choose(args, parser)
    if args.drift is not None and args.drift < 120:
        parser.error("--drift: expected at least 120 steps")
    require_versions(args.setup, PYTHON | CHITCHAT if args.setup else PYTHON)
    if not args.afina.is_file():
        sys.exit(f"error: no program at `{args.afina}`\nhint: `cargo build --release`, or `--afina PATH`")
    require_paths(args.model)
    with tempfile.TemporaryDirectory() as scratch:
        args.scratch, args.adapter = Path(scratch), Path(scratch) / "adapter"
        torch_side(args, "adapter", args.model, args.adapter)
        if args.drift:
            return drift(args)
        measured = {shape: run_rounds(args, shape) for shape in args.shapes}
    report(args, measured)


def report(args, measured):
    failures, losses = [], []
    for shape, result in measured.items():
        losses += loss_rows(shape, result["results"], failures)
    if args.json:
        print(json.dumps({"versions": PYTHON, "threads": args.threads, "steps": args.steps, "shapes": measured}, indent=2))
    else:
        print(f"LoRA r = 8 on all seven projections, forward + backward + AdamW, {args.threads} thread(s); medians of "
              f"{args.rounds} interleaved rounds of {args.steps} steps; {', '.join(f'{name} {pinned}' for name, pinned in PYTHON.items())}")
        if "chat" in measured:
            print(f"chat: {args.chat} a step, {measured['chat']['rows']}")
        header = ["step", "program", "ms", "range", "tokens/s", "peak MB", *(f"time / {name}" for name in OURS),
                  *(f"memory / {name}" for name in OURS), "GFLOP/s", "of torch.mm's"]
        print("\n" + markdown_table(header, [row for shape, result in measured.items() for row in speed_rows(shape, result)]))
        header = ["step", "program", *(f"loss {step + 1}" for step in range(COMPARED_STEPS)), "largest difference"]
        print("\n" + markdown_table(header, losses))
    if failures:
        sys.exit("error: the losses differ\n" + "\n".join(failures))


if __name__ == "__main__":
    main()
