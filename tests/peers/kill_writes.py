"""`afina merge`, `export` and `quantize`, killed again and again while they write, and on a disk that is too small (no peer needed).

    python tests/peers/kill_writes.py [--setup] [--kills 10] [--seed 1]

A random Llama of 0.44 GB (`memory.py`) and an adapter. Each command runs once whole; then it is killed (SIGKILL) at random moments
of its run, the target of a file being there already. After each kill the target must be what it was, or the whole new one; what lies aside
is called `.TARGET.….partial`, and the next write of the same target removes it. Then each runs on a file system of 200 MB, less than
it needs, where one can be mounted (as root, or in a user namespace): it must say so before it writes, leave nothing, and exit with 1.
Exit 1 where anything else is found. Versions: numpy 2.4.6, safetensors 0.8.0; `--setup` installs them.
"""

import argparse
import os
import random
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from memory import PYTHON, digest, remove, write_adapter, write_model
from peers import REPOSITORY, require_paths, require_versions


def jobs(folder, out):
    model, adapter = folder / "model", folder / "adapter"
    yield "merge", ["merge", "--base", model, "--adapter", adapter, "--to", out / "merged"], out / "merged"
    yield "export hf", ["export", "--as", "hf", "--model", model, "--shard-size", "100MB", "--to", out / "hf"], out / "hf"
    yield "quantize", ["quantize", "--model", model, "--type", "Q4_K_M", "--to", out / "m.gguf"], out / "m.gguf"
    merged = ["export", "--as", "gguf", "--model", model, "--adapter", adapter, "--type", "F16", "--to", out / "a.gguf"]
    yield "merge and export gguf", merged, out / "a.gguf"
    ollama = ["export", "--as", "ollama", "--model", model, "--type", "Q4_0", "--to", out / "ollama"]
    yield "export ollama", ollama, out / "ollama"


def command(binary, arguments):
    return [str(binary), *map(str, arguments), "--quiet"]


def state(target):
    return digest(target) if target.exists() else None


def killed(binary, arguments, target, longest, kills):
    """Kills, and returns how often something lay aside, and what was wrong."""
    run = subprocess.run(command(binary, arguments), capture_output=True, text=True)
    if run.returncode != 0:
        return 0, run.stderr
    whole = state(target)
    is_file, old = target.is_file(), b"the old one"
    left = 0
    for _ in range(kills):
        remove(target)
        before = None
        if is_file:
            target.write_bytes(old)
            before = state(target)
        process = subprocess.Popen(command(binary, arguments), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        time.sleep(random.uniform(0, longest))
        process.kill()
        process.wait()
        found = state(target)
        if found not in (before, whole):
            return left, "the target is neither the old one nor the new one"
        aside = [path.name for path in target.parent.iterdir() if path != target]
        # The one of the run before was removed by this one, if it came so far.
        wrong = [name for name in aside if not (name.startswith(f".{target.name}.") and name.endswith(".partial"))]
        if wrong:
            return left, f"left {wrong}"
        left += bool(aside)
    remove(target)
    run = subprocess.run(command(binary, arguments), capture_output=True, text=True)
    if run.returncode != 0 or state(target) != whole:
        return left, f"the last run gave other bytes, or failed: {run.stderr}"
    aside = [path.name for path in target.parent.iterdir() if path != target]
    return left, f"{aside} stayed" if aside else None


def in_little_room(binary, arguments, mount):
    """Runs `afina` on a small file system that exists for it alone; None where none can be mounted."""
    unshare = ["unshare", "--mount"] if os.geteuid() == 0 else ["unshare", "--mount", "--user", "--map-root-user"]
    script = 'mount -t tmpfs -o size=200m none "$0" || exit 99; "$@"; code=$?; ls -A "$0"; exit $code'
    words = [*unshare, "sh", "-c", script, str(mount), *command(binary, arguments)]
    run = subprocess.run(words, capture_output=True, text=True)
    return None if run.returncode == 99 or "unshare failed" in run.stderr else run


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--afina", type=Path, default=REPOSITORY / "target/release/afina")
    parser.add_argument("--kills", type=int, default=10, help="of each command")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--setup", action="store_true", help="install the pinned versions into a temporary folder")
    args = parser.parse_args()
    require_versions(args.setup, PYTHON)
    require_paths(args.afina)
    import numpy as np

    random.seed(args.seed)
    fine = True
    with tempfile.TemporaryDirectory() as temporary:
        folder, out = Path(temporary), Path(temporary) / "out"
        out.mkdir()
        write_model(np, folder / "model", 2, "BF16")
        write_adapter(np, folder / "adapter", 2)
        for title, arguments, target in jobs(folder, out):
            start = time.perf_counter()
            subprocess.run(command(args.afina, arguments), check=True, stdout=subprocess.DEVNULL)
            longest = time.perf_counter() - start
            remove(target)
            left, wrong = killed(args.afina, arguments, target, longest, args.kills)
            remove(target)
            print(f"{title}: {args.kills} kills within {longest:.2f} s, {left} while something lay aside: {wrong or 'nothing half'}")
            fine = fine and wrong is None
        for title, arguments, target in jobs(folder, out):
            run = in_little_room(args.afina, arguments, out)
            if run is None:
                print("no file system could be mounted: nothing tried on a small one")
                break
            said = run.stderr.strip().splitlines()
            reason = next((line.strip() for line in said if " are needed, " in line), None)
            # 8 and 4 bits fit: that is seen, too.
            good = (run.returncode == 1 and reason and not run.stdout.strip()) or run.returncode == 0
            print(f"{title}, 200 MB of room: exit {run.returncode}, {reason or 'fits'}")
            if not good:
                print(run.stdout, run.stderr)
            fine = fine and bool(good)
    sys.exit(0 if fine else 1)


if __name__ == "__main__":
    main()
