"""What fewer bits cost, on real chats: size, perplexity, KL divergence and agreement, in our engine and in llama.cpp.

    python tests/peers/perplexity.py [--setup] --model BASE [--adapter ADAPTER] [--data CHATS.jsonl] [--rows 24]

BASE, with ADAPTER merged into it if one is given, becomes a GGUF of each type; `afina parity` compares each with the base and
its adapter as they are trained, computed by us and, over the same tokens, by llama.cpp (`llama_cpp_logits.py`). Perplexity is
that of the chats' answers; KL divergence and the same likeliest token are of all tokens. Without --data the chats are the first
of chitchat-dataset's 7,168, one person as the user and the other as the assistant (`chat_files.py`). Exit 1 when something is
further apart than its format explains (`afina parity`'s own limits), which a small model in four bits may well be.
Versions: node-llama-cpp 3.22.1 (`peers.py`), chitchat-dataset 0.9.0; `--setup` installs them.
"""

import argparse
import itertools
import json
import shlex
import subprocess
import sys
import tempfile
from importlib.util import find_spec
from pathlib import Path

from chat_files import conversations, record
from peers import REPOSITORY, afina, markdown_table, node_modules, require_node_modules, require_paths, require_versions

PACKAGES = {"chitchat-dataset": "0.9.0"}
TYPES = ["F32", "BF16", "F16", "Q8_0", "Q6_K", "Q5_K_M", "Q5_1", "Q5_0", "Q4_K_M", "Q4_1", "Q4_0"]


def chitchat(to, rows):
    dataset = Path(find_spec("chitchat_dataset").origin).parent / "dataset.json"
    lines = [json.dumps(record(turns), ensure_ascii=False) for turns in itertools.islice(conversations(dataset), rows)]
    to.write_text("\n".join(lines) + "\n")
    return to


def parity(args, models, peers):
    adapter = ["--adapter", args.adapter] if args.adapter else []
    command = [args.afina, "parity", "--model", args.model, *adapter, "--data", args.data, "--rows", args.rows, "--json",
               "--generate", args.generate]
    for model in models:
        command += ["--with", model]
    for name, model in peers:
        script = [sys.executable, Path(__file__).with_name("llama_cpp_logits.py"), "--node-modules", args.node_modules]
        command += ["--peer", f"{name}={shlex.join(map(str, [*script, '--threads', args.threads, model]))}"]
    run = subprocess.run(list(map(str, command)), capture_output=True, text=True)
    if run.returncode not in (0, 3):
        sys.exit(f"error: `afina parity` ended with {run.returncode}\n{run.stderr.strip()}")
    return json.loads(run.stdout)


def cells(pair):
    if pair is None:
        return ["-"] * 4
    return [f"{pair['perplexity']:.3f}", f"{pair['mean_kl']:.2e}", f"{pair['max_kl']:.2e}", f"{100 * pair['top1']:.2f} %"]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, required=True, help="a Hugging Face model folder")
    parser.add_argument("--adapter", type=Path, help="an adapter that was trained on it")
    parser.add_argument("--data", type=Path, help="chat JSONL [default: chitchat-dataset]")
    parser.add_argument("--rows", type=int, default=24)
    parser.add_argument("--generate", type=int, default=0, help="answers that are generated and compared, too")
    parser.add_argument("--types", nargs="+", default=TYPES)
    parser.add_argument("--threads", type=int, default=2, help="of llama.cpp")
    parser.add_argument("--afina", type=Path, default=REPOSITORY / "target/release/afina")
    parser.add_argument("--node-modules", type=Path)
    parser.add_argument("--setup", action="store_true", help="install the pinned versions into a temporary folder")
    args = parser.parse_args()
    if not args.data:
        require_versions(args.setup, PACKAGES, "perplexity")
    args.node_modules = args.node_modules or node_modules(args.setup)
    require_node_modules(args.node_modules)
    require_paths(args.model, args.adapter, args.data, args.afina)
    rows = []
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        args.data = args.data or chitchat(folder / "chats.jsonl", args.rows)
        merged = args.model
        if args.adapter:
            merged = folder / "merged"
            afina(args.afina, "merge", "--base", args.model, "--adapter", args.adapter, "--to", merged)
        files = [folder / f"{name}.gguf" for name in args.types]
        for name, file in zip(args.types, files):
            afina(args.afina, "export", "--model", merged, "--as", "gguf", "--type", name, "--to", file)
        report = parity(args, [merged, *files], [(f"llama.cpp {name}", file) for name, file in zip(args.types, files)])
        reference, pairs = report["reference"], report["pairs"]
        ours, theirs = pairs[:len(files) + 1], [None, *pairs[len(files) + 1:]]
        for name, ours, theirs in zip(["merged" if args.adapter else "base", *args.types], ours, theirs):
            row = [name, ours["format"], f"{ours['bytes'] / 1e6:.1f}", f"{ours['max_abs_logit']:.1e}", *cells(ours), *cells(theirs)]
            if args.generate:
                answers = ours["answers"]
                row += [f"{answers['equal_prefix']:.1f} of {answers['reference_tokens']:.1f}", f"{answers['exact']}/{answers['answers']}"]
            rows.append(row)
    print(f"{reference['rows']} conversations, {reference['tokens']} tokens, {reference['trained_tokens']} of answers; "
          f"as trained: perplexity {reference['perplexity']:.3f}\n")
    header = ["weights", "coarsest", "MB", "max |Δlogit|", "perplexity", "mean KL", "max KL", "same top", "llama.cpp: perplexity",
              "mean KL", "max KL", "same top"] + (["equal tokens", "exact"] if args.generate else [])
    print(markdown_table(header, rows))
    if report["failures"]:
        print("\nnot passed:", *report["failures"], sep="\n  ")
    sys.exit(0 if report["passed"] else 1)


if __name__ == "__main__":
    main()
