"""Our logits and greedy text beside peft, transformers and llama.cpp on a real model.

    python tests/peers/parity.py --model BASE --adapter ADAPTER --merged MERGED --gguf MERGED.gguf [--setup]

For 5 prompts: `afina logits` of the base, of base + adapter and of the merged folder against transformers, peft, and
transformers on the merged folder: the largest |difference| of any logit stays within 1e-3. Then `afina generate` against
llama.cpp on the F32 GGUF (of --gguf-model, else of the merged folder, else of the base): prompt tokens equal, and 48 greedy
tokens equal for at least 32, or differing only where the two largest logits are closer than 0.01. Exit 1 beyond that.
Versions: torch 2.9.1, transformers 5.23.0, peft 0.21.2, safetensors 0.8.0, node-llama-cpp 3.22.1 (`peers.py`); `--setup`
installs them with pip and npm into a temporary folder. What is not given is not compared.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

from peers import (REPOSITORY, afina, afina_json, markdown_table, node_modules, require_node_modules, require_paths,
                   require_versions)

PROMPTS = [
    "The following is a list of ten large cities of Italy, with a sentence about each of them:",
    "Once upon a time, in a village by the sea, there lived an old",
    "<|im_start|>user\nWhere is my parcel? I ordered it 10 days ago.<|im_end|>\n<|im_start|>assistant\n",
    "¿Cuánto tarda un envío a Canarias? El plazo habitual es de",
    "def fibonacci(n):\n    \"\"\"Return the n-th Fibonacci number.\"\"\"\n",
]
MAX_LOGIT_DIFFERENCE = 1e-3
MAX_TOKENS = 48
MIN_EQUAL_TOKENS = 32
NEAR_TIE = 0.01


def load_model(folder, adapter=None):
    import torch
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32, attn_implementation="eager")
    if adapter:
        from peft import PeftModel
        model = PeftModel.from_pretrained(model, adapter)
    return model.eval()


def our_logits(args, folder, adapter, prompt, to):
    """`afina logits`: token ids of the raw prompt `[tokens]` and logits `[tokens, vocab]`."""
    from safetensors.torch import load_file

    extra = ["--adapter", adapter] if adapter else []
    afina(args.afina, "logits", "--model", folder, *extra, "--prompt", prompt, "--to", to)
    tensors = load_file(to)
    return tensors["tokens"].flatten(), tensors["logits"].reshape(tensors["tokens"].numel(), -1)


def peer_logits(model, tokens):
    import torch

    with torch.no_grad():
        return model(input_ids=tokens[None], use_cache=False).logits[0].float()


def compare_logits(args, folder, adapter, peers):
    """Rows of the table: our logits of `folder` (+ `adapter`) against each of `peers`, the worst of all prompts."""
    rows, fine = [], True
    with tempfile.TemporaryDirectory() as temporary:
        ours = [our_logits(args, folder, adapter, prompt, Path(temporary) / "logits.safetensors") for prompt in PROMPTS]
    for name, model in peers.items():
        worst, agreeing, count = 0.0, 0, 0
        for tokens, logits in ours:
            reference = peer_logits(model, tokens)
            if reference.shape != logits.shape:
                sys.exit(f"error: {name}: expected logits {tuple(reference.shape)}, found {tuple(logits.shape)}")
            if not logits.isfinite().all():
                sys.exit(f"error: {name}: our logits are not all finite")
            worst = max(worst, (reference - logits).abs().max().item())
            agreeing += int((reference.argmax(-1) == logits.argmax(-1)).sum())
            count += tokens.numel()
        within = worst <= MAX_LOGIT_DIFFERENCE
        fine = fine and within
        ours_name = "base + adapter" if adapter else Path(folder).name
        rows.append([f"{ours_name} / {name}", f"{worst:.1e}", f"{agreeing}/{count}", "yes" if within else "NO"])
    return rows, fine


def all_logits(args):
    rows, fine = [], True
    cases = [(args.model, None, {"transformers": load_model(args.model)})]
    merged = {"transformers on the merged folder": load_model(args.merged)} if args.merged else {}
    if args.adapter:
        cases.append((args.model, args.adapter, {"peft": load_model(args.model, args.adapter)} | merged))
    if args.merged:
        cases.append((args.merged, None, merged))
    for folder, adapter, peers in cases:
        more, within = compare_logits(args, folder, adapter, peers)
        rows, fine = rows + more, fine and within
    header = [f"ours / peer, {len(PROMPTS)} prompts", "max |Δlogit|", "same top token", f"≤ {MAX_LOGIT_DIFFERENCE}"]
    print(markdown_table(header, rows))
    if args.adapter:
        from transformers import AutoTokenizer
        tokens = AutoTokenizer.from_pretrained(args.model)(PROMPTS[0], return_tensors="pt", add_special_tokens=False).input_ids[0]
        base, adapted = (peer_logits(peers[name], tokens) for (_, _, peers), name in zip(cases, ["transformers", "peft"]))
        moved = (base - adapted).abs().max().item()
        print(f"the adapter moves the first prompt's logits by up to {moved:.2f}")
        if moved <= MAX_LOGIT_DIFFERENCE:
            sys.exit("error: an adapter that moves nothing proves nothing")
    return fine


def compare_greedy(args):
    """Our greedy tokens against llama.cpp's on the F32 GGUF, and how near a tie was where they part."""
    folder = args.gguf_model or args.merged or args.model
    request = json.dumps({"prompts": PROMPTS, "max_tokens": MAX_TOKENS})
    command = ["node", Path(__file__).with_name("greedy.mjs"), args.node_modules.resolve(), args.gguf.resolve()]
    run = subprocess.run(command, input=request, capture_output=True, text=True)
    if run.returncode != 0:
        sys.exit(f"error: llama.cpp ended with {run.returncode}\n{run.stderr.strip()[-2000:]}")
    rows, fine, model = [], True, load_model(folder)
    with tempfile.TemporaryDirectory() as temporary:
        for prompt, theirs in zip(PROMPTS, json.loads(run.stdout)):
            tokens, _ = our_logits(args, folder, None, prompt, Path(temporary) / "logits.safetensors")
            ours = afina_json(args.afina, "generate", "--model", folder, "--prompt", prompt, "--raw", "--max-tokens", MAX_TOKENS,
                              "--temperature", 0, "--json", keys=["text", "finish_reason", "token_ids"])
            same_prompt = tokens.tolist() == theirs["tokens"]
            equal, verdict = judge(model, tokens, ours, theirs)
            if not same_prompt:
                verdict = f"prompt tokens differ: {tokens.tolist()} and {theirs['tokens']}"
            within = same_prompt and not verdict.startswith("differs")
            fine = fine and within
            rows.append([prompt.replace("\n", "⏎")[:40], equal, verdict, "yes" if within else "NO"])
            if not within:
                print(f"ours:      {ours['text']!r}\nllama.cpp: {theirs['text']!r}", file=sys.stderr)
    print(markdown_table(["greedy text: afina / llama.cpp, F32 GGUF", "equal tokens", "then", "passed"], rows))
    return fine


def judge(model, tokens, ours, theirs):
    """The number of equal tokens, and in words what comes after them ("differs …" is a failure)."""
    a, b = list(ours["token_ids"]), theirs["generated"]
    # A token that ends generation may or may not be part of our list: leave it out of both.
    ended = [i for i, end in enumerate(theirs["end"]) if end]
    if ended:
        b = b[: ended[0]]
        a = a[:-1] if a[-1:] == theirs["generated"][ended[0]: ended[0] + 1] else a
    equal = next((i for i, (x, y) in enumerate(zip(a, b)) if x != y), min(len(a), len(b)))
    if equal == len(a) == len(b):
        return equal, "both end" if ended else "nothing: all equal"
    if equal >= MIN_EQUAL_TOKENS:
        return equal, f"{MIN_EQUAL_TOKENS} are enough"
    import torch

    logits = peer_logits(model, torch.cat([tokens, torch.tensor(a[:equal], dtype=tokens.dtype)]))[-1]
    top = logits.topk(2)
    gap = (top.values[0] - top.values[1]).item()
    next_ids = {ids[equal] for ids in (a, b) if len(ids) > equal}
    if gap < NEAR_TIE and next_ids <= set(top.indices.tolist()):
        return equal, f"a near tie: {gap:.4f}"
    return equal, f"differs where the top two are {gap:.4f} apart"


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", required=True, type=Path, help="base model folder")
    parser.add_argument("--adapter", type=Path, help="adapter folder in peft's format")
    parser.add_argument("--merged", type=Path, help="folder that `afina merge` made of the two")
    parser.add_argument("--gguf", type=Path, help="F32 GGUF that `afina export --as gguf` made of --gguf-model")
    parser.add_argument("--gguf-model", type=Path, help="the model folder behind --gguf [default: --merged, else --model]")
    parser.add_argument("--afina", type=Path, default=REPOSITORY / "target/release/afina",
                        help="the program [default: target/release/afina]")
    parser.add_argument("--node-modules", type=Path, help="folder with node-llama-cpp [default: the one that --setup makes]")
    parser.add_argument("--setup", action="store_true", help="install the pinned versions into a temporary folder")
    args = parser.parse_args()
    require_versions(args.setup)
    if not args.afina.is_file():
        sys.exit(f"error: no program at `{args.afina}`\nhint: `cargo build --release`, or `--afina PATH`")
    require_paths(args.model, args.adapter, args.merged, args.gguf, args.gguf_model)
    if args.gguf:
        args.node_modules = args.node_modules or node_modules(args.setup)
        require_node_modules(args.node_modules)
    os.environ["HF_HUB_OFFLINE"] = "1"
    from transformers.utils import logging
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    fine = all_logits(args)
    if args.gguf:
        print()
        fine = compare_greedy(args) and fine
    sys.exit(0 if fine else 1)


if __name__ == "__main__":
    main()
