"""MB/s of `afina validate` beside Python's JSON parsers, the cookbook's checks and tokenizers, in interleaved rounds.

    python tests/peers/bench_validate.py --setup [--model checkpoints/base/smollm2-135m-instruct-q4_1]

Files of real conversations, and one with pictures, are made once and kept (`chat_files.py`). A round takes each
measurement once and begins with another one. `afina` is timed as a process, from its start to its end with its report
thrown away; the peers in a process of their own, from the first line to the last, without Python's start and imports.

core            `afina validate --no-statistics`, without near duplicates, secrets, PII, and the images' bytes
json.loads      each line of a file opened as text; orjson.loads: each line of bytes
cookbook        json.loads and the format checks of OpenAI's data preparation notebook (types, keys, roles, contents, an
                assistant message), its counts of examples without system or user message and of messages; in the table
                of tokens also its token counts, with tiktoken's cl100k_base

Parts and tokens are those of `afina bench validate`: what a part adds to the time of the rules, or of the statistics.
tokenizers' encode_batch_fast gets the same chats as ChatML texts, made before the clock runs: it has no part in reading,
rendering or masks. tiktoken gets the contents of a record as one text, through encode_ordinary_batch on two threads. It
downloads its vocabularies; here it reads those in the sources of the crate tiktoken-rs, and is left out where there are
none.
"""

import argparse
import collections
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from peers import REPOSITORY, SETUP, afina_json, markdown_table, require_paths, require_versions

PACKAGES = {"orjson": "3.13.0", "tiktoken": "0.14.0", "tokenizers": "0.23.3", "chitchat-dataset": "0.9.0",
            "easy-vqa": "1.0", "pillow": "13.0.0"}
HERE = Path(__file__).resolve().parent
DEAR = ["near-duplicate-example", "secret-detected", "pii-detected"]
PARTS = {"rules": "rules", "near-duplicates": "rules + near duplicates", "secrets": "rules + secrets and PII",
         "images": "rules + images", "statistics": "rules + statistics", "tokens": "statistics + tokens", "all": "all"}
THREADS = (1, 2)
UNITS = {"KB": 1e3, "MB": 1e6, "GB": 1e9}


def size(text):
    return int(float(text[:-2]) * UNITS[text[-2:].upper()])


def label(size):
    return f"{size / 1e9:g} GB" if size >= 1e8 else f"{size / 1e6:g} MB"


def run(command, env=None, stdout=subprocess.PIPE):
    """Wall seconds, peak resident bytes and standard output of a process; 3 is `afina`'s word for faults in the data."""
    with tempfile.TemporaryFile() as errors:
        began = time.perf_counter()
        process = subprocess.Popen([str(part) for part in command], stdout=stdout, stderr=errors, env=env)
        out = process.stdout.read() if process.stdout else b""
        _, status, usage = os.wait4(process.pid, 0)
        seconds = time.perf_counter() - began
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode not in (0, 3):
            errors.seek(0)
            sys.exit(f"error: `{' '.join(map(str, command))}` ended with {process.returncode}\n{errors.read().decode()[-2000:]}")
    return seconds, usage.ru_maxrss * (1 if sys.platform == "darwin" else 1024), out


def afina_pass(args, flags, threads):
    """A contender: `afina validate` with these flags."""
    def measure(file):
        command = [args.afina, "validate", file, "--profile", "local", "--quiet", "--threads", threads, *flags]
        seconds, peak, _ = run(command, stdout=subprocess.DEVNULL)
        return {"seconds": seconds, "peak": peak}

    return measure


def peer(name, *more, threads=1):
    """A contender: one of `validate_peers.py` in a process of its own."""
    def measure(file):
        # The name is followed by what it needs; tiktoken and tokenizers find their number of threads here.
        env = os.environ | {"RAYON_NUM_THREADS": str(threads), "TOKENIZERS_PARALLELISM": str(threads > 1).lower()}
        _, peak, out = run([sys.executable, HERE / "validate_peers.py", name, file, *more], env)
        return {"seconds": json.loads(out)["seconds"], "peak": peak}

    return measure


def bench(args, threads, flags):
    """Several at once: the rows of `afina bench validate`, by part."""
    def measure(file):
        rows = afina_json(args.afina, "bench", "validate", file, "--rounds", 1, "--threads", threads, "--quiet", "--json",
                          *flags, keys=["rows"])["rows"]
        return [{"part": row["part"], "seconds": row["seconds"], "added": row["added_seconds"],
                 "peak": row["peak_memory_bytes"]} for row in rows]

    return measure


def rounds(title, contenders, file, count):
    """Each contender once a round, each round starting with another one, so that a slow minute hits all alike. The file is
    read once before, so that none of them waits for the disk."""
    with open(file, "rb") as warm:
        while warm.read(1 << 24):
            pass
    results = {name: [] for name in contenders}
    names = list(contenders)
    for index in range(count):
        turn = index % len(names)
        for name in names[turn:] + names[:turn]:
            results[name].append(contenders[name](file))
            print(f"{title}, round {index + 1} of {count}: {name}", file=sys.stderr)
    return results


def speeds(results, file, key="seconds"):
    megabytes = file.stat().st_size / 1e6
    return [megabytes / result[key] for result in results if result[key]]


def median(values):
    return f"{statistics.median(values):.1f}" if values else "-"


def spread(values):
    return f"{min(values):.1f}-{max(values):.1f}" if values else "-"


def peak(results):
    return f"{max(result['peak'] for result in results) / 1e6:.0f}"


def core_flags(args):
    """What leaves the rules of lines, JSON, messages and tools, and exact duplicates."""
    rules = afina_json(args.afina, "rules", "--json", keys=["rules"])["rules"]
    images = [rule["rule"] for rule in rules if rule["group"] == "images"]
    return ["--no-statistics", "--ignore", ",".join(DEAR + images)]


def size_table(files, args):
    """Speed of each contender for each file, and its ratio to json.loads."""
    core = core_flags(args)
    contenders = {f"afina, core, {threads} thread{'s'[:threads > 1]}": afina_pass(args, core, threads) for threads in THREADS}
    contenders["afina, all rules, 2 threads"] = afina_pass(args, ["--no-statistics"], 2)
    contenders["afina, as it comes, 2 threads"] = afina_pass(args, [], 2)
    contenders |= {name: peer(name) for name in ("json.loads", "orjson.loads", "cookbook")}
    rows, linear = [], collections.defaultdict(list)
    for name, file in files.items():
        results = rounds(name, contenders, file, args.rounds)
        base = statistics.median(speeds(results["json.loads"], file))
        for contender, runs in results.items():
            values = speeds(runs, file)
            rows.append([name, contender, median(values), spread(values), f"{statistics.median(values) / base:.2f}", peak(runs)])
            linear[contender].append((name, statistics.median(values), peak(runs)))
    print(markdown_table(["file", "program", "MB/s", "range", "x json.loads", "peak MB"], rows))
    texts = [name for name in files if name.startswith("chat")]
    if len(texts) > 1:
        print("\nMB/s and peak MB by size: time is linear where MB/s stays\n")
        header = ["program", *texts, *(f"peak {name}" for name in texts)]
        print(markdown_table(header, [
            [contender, *(f"{speed:.1f}" for name, speed, _ in by_size if name in texts),
             *(top for name, _, top in by_size if name in texts)]
            for contender, by_size in linear.items() if contender.startswith("afina")]))


def by_part(runs):
    """Measurements of `afina bench validate` in several rounds, by part."""
    parts = collections.defaultdict(list)
    for rows in runs:
        for row in rows:
            parts[row["part"]].append(row)
    return parts


def part_table(files, args):
    """What each part adds to the rules."""
    rows = []
    for name, file in files.items():
        contenders = {threads: bench(args, threads, []) for threads in THREADS}
        for threads, runs in rounds(f"parts, {name}", contenders, file, args.rounds).items():
            for part, found in by_part(runs).items():
                values, added = speeds(found, file), speeds(found, file, "added")
                rows.append([name, PARTS[part], threads, median(values), spread(values), median(added), peak(found)])
    print(markdown_table(["file", "part", "threads", "MB/s", "range", "alone MB/s", "peak MB"], rows))


def vocabularies(args):
    """The folder with tiktoken's vocabularies that the crate tiktoken-rs brings."""
    if args.vocabularies:
        return args.vocabularies
    cargo = Path(os.environ.get("CARGO_HOME", Path.home() / ".cargo"))
    found = sorted(cargo.glob("registry/src/*/tiktoken-rs-*/assets/o200k_base.tiktoken"))
    return found[-1].parent if found else None


def token_table(file, args):
    """Token counts beside the tokenizers that Python has."""
    counted = ["--parts", "statistics,tokens"]
    folder = vocabularies(args)
    ours = {"afina, o200k_base": ["--tokenizer", "o200k_base"]}
    peers = {}
    if folder:
        peers["tiktoken, o200k_base"] = ["tiktoken", folder]
    if args.model:
        ours["afina, the model's"] = ["--model", args.model]
        peers["tokenizers, the model's"] = ["tokenizers", args.model]
    contenders = {}
    for threads in THREADS:
        contenders |= {(name, threads): bench(args, threads, [*counted, *flags]) for name, flags in ours.items()}
        contenders |= {(name, threads): peer(*what, threads=threads) for name, what in peers.items()}
    if folder:
        contenders["cookbook and its tokens, cl100k_base", 1] = peer("cookbook", folder)
    rows = []
    for (name, threads), runs in sorted(rounds("tokens", contenders, file, args.rounds).items()):
        if name.startswith("afina"):
            found = by_part(runs)["tokens"]
            values, added = speeds(found, file), speeds(found, file, "added")
            rows.append([f"{name}: all of the pass", threads, median(values), spread(values), peak(found)])
            rows.append([f"{name}: tokens alone", threads, median(added), spread(added), ""])
        else:
            values = speeds(runs, file)
            rows.append([name, threads, median(values), spread(values), peak(runs)])
    print(markdown_table(["tokens", "threads", "MB/s", "range", "peak MB"], rows))
    if not folder:
        print("\ntiktoken was left out, and with it the cookbook's token counts: no vocabulary was found on this machine")
    if not args.model:
        print("\nwithout --model nothing is said of a model's tokenizer")


def made(kind, size, args):
    """The file of this kind and size, made unless it is there. Another process makes it: the peak memory that the system
    tells of a process is at least that of the one which started it."""
    file = args.folder / f"{kind}-{size}.jsonl"
    if not file.exists():
        args.folder.mkdir(parents=True, exist_ok=True)
        print(f"making {file}", file=sys.stderr)
        more = [args.chats] if kind == "chat" else []
        subprocess.run([sys.executable, HERE / "chat_files.py", kind, str(size), file, *more], check=True)
    return file


def chats():
    from importlib.util import find_spec

    return Path(find_spec("chitchat_dataset").origin).parent / "dataset.json"


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--afina", type=Path, default=REPOSITORY / "target/release/afina",
                        help="the program [default: target/release/afina]")
    parser.add_argument("--model", type=Path, help="model folder whose tokens are counted")
    parser.add_argument("--sizes", default="0.25GB,0.5GB,1GB",
                        help="of the files of chats, with commas [default: 0.25GB,0.5GB,1GB]")
    parser.add_argument("--pictures", default="0.25GB", help="size of the file with pictures; 0MB makes none [default: 0.25GB]")
    parser.add_argument("--tokens", default="32MB", help="size of the file for tokens [default: 32MB]")
    parser.add_argument("--rounds", type=int, default=3, help="interleaved rounds [default: 3]")
    parser.add_argument("--folder", type=Path, default=SETUP / "validate",
                        help=f"where the files are made and kept [default: {SETUP / 'validate'}]")
    parser.add_argument("--chats", type=Path, help="dataset.json of chitchat-dataset [default: the installed package's]")
    parser.add_argument("--vocabularies", type=Path, help="folder with o200k_base.tiktoken and cl100k_base.tiktoken "
                                                          "[default: that of the crate tiktoken-rs in cargo's registry]")
    parser.add_argument("--setup", action="store_true", help="install the pinned versions into a temporary virtual environment")
    args = parser.parse_args()
    packages = {name: pinned for name, pinned in PACKAGES.items() if name != "chitchat-dataset" or not args.chats}
    require_versions(args.setup, packages, "venv-validate")
    if not args.afina.is_file():
        sys.exit(f"error: no program at `{args.afina}`\nhint: `cargo build --release`, or `--afina PATH`")
    require_paths(args.model, args.chats, args.vocabularies)
    args.chats = args.chats or chats()
    sizes = sorted(map(size, args.sizes.split(",")))
    texts = {f"chat, {label(bytes)}": made("chat", bytes, args) for bytes in sizes}
    pictures = {f"pictures, {label(bytes)}": made("pictures", bytes, args) for bytes in [size(args.pictures)] if bytes}
    smallest = dict(list(texts.items())[:1])

    versions = ", ".join(f"{name} {version}" for name, version in packages.items())
    print(f"interleaved rounds: {args.rounds}, medians; Python {sys.version.split()[0]}, {versions}\n")
    size_table(texts | pictures, args)
    print("\nWhat each part of `afina validate` adds to the rules\n")
    part_table(smallest | pictures, args)
    print(f"\nTokens, of {label(size(args.tokens))} of chats\n")
    token_table(made("chat", size(args.tokens), args), args)


if __name__ == "__main__":
    main()
