"""`afina merge` beside peft: the merged folder, in transformers, gives the logits of the model with the adapter on it.

    python tests/peers/merge.py [--setup] --model BASE

peft makes random adapters of the model: plain, rsLoRA with ranks and alphas by pattern, DoRA, with whole embeddings, head or
norm (`modules_to_save`), with factors on the embeddings and on the head; and combines two by each of its methods whose result
does not depend on chance. Each is merged in F32: max |Δlogit| over three prompts is at most 1e-3 of peft's forward pass, and the
adapter moves logits by more than 0.1. Exit 1 beyond that. Versions: `peers.py`.
"""

import argparse
import sys
import tempfile
from pathlib import Path

from peers import PYTHON, REPOSITORY, afina_json, markdown_table, require_paths, require_versions

PROMPTS = ["Once upon a time, in a village by the sea, there lived an old",
           "<|im_start|>user\nWhere is my parcel? I ordered it 10 days ago.<|im_end|>\n<|im_start|>assistant\n",
           "¿Cuánto tarda un envío a Canarias? El plazo habitual es de"]
LINEAR = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
SINGLE = {
    "plain": dict(r=8, lora_alpha=16, target_modules=LINEAR),
    "rsLoRA, patterns": dict(r=8, lora_alpha=8, target_modules=LINEAR, use_rslora=True,
                             rank_pattern={r"layers\.[0-9]\.mlp\.\w+": 4}, alpha_pattern={r".*\.(q|k)_proj": 5}),
    "DoRA": dict(r=8, lora_alpha=16, target_modules=LINEAR, use_dora=True),
    "whole embeddings": dict(r=4, lora_alpha=8, target_modules=["v_proj"], modules_to_save=["embed_tokens"]),
    "whole head": dict(r=4, lora_alpha=8, target_modules=["v_proj"], modules_to_save=["lm_head"]),
    "whole norm": dict(r=4, lora_alpha=8, target_modules=["v_proj"], modules_to_save=["model.norm"]),
    "factors on embeddings": dict(r=8, lora_alpha=16, target_modules=["embed_tokens"]),
    "factors on the head": dict(r=8, lora_alpha=16, target_modules=["lm_head"]),
}
COMBINED = {
    "cat": (dict(combination_type="cat"), []),
    "linear": (dict(combination_type="linear"), []),
    "ties": (dict(combination_type="ties", density=0.5), ["--density", "0.5"]),
    "ties, frequency": (dict(combination_type="ties", density=0.5, majority_sign_method="frequency"),
                        ["--density", "0.5", "--majority-sign", "frequency"]),
    "magnitude_prune": (dict(combination_type="magnitude_prune", density=0.5), ["--density", "0.5"]),
}
WEIGHTS = [0.7, 0.4]
MAX_LOGIT_DIFFERENCE = 1e-3
MIN_EFFECT = 0.1


def load(folder):
    import torch
    from transformers import AutoModelForCausalLM

    return AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32, attn_implementation="eager").eval()


def randomize(model, seed):
    """Gives what is trained values that it could have after training."""
    import torch

    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if parameter.requires_grad:
                noise = torch.randn(parameter.shape, generator=generator)
                scale = 0.02 if "lora_" in name and "magnitude" not in name else 0.05 * parameter.abs()
                parameter.copy_(noise * scale + (0 if isinstance(scale, float) else parameter))


def logits(model, prompts):
    import torch

    with torch.no_grad():
        return [model(input_ids=ids, use_cache=False).logits[0] for ids in prompts]


def compare(name, args, prompts, base, adapted, merge, rows):
    """Merges into a folder that is deleted again, and adds a row."""
    with tempfile.TemporaryDirectory() as temporary:
        merged = Path(temporary) / "merged"
        report = afina_json(args.afina, "merge", "--base", args.model, *merge, "--to", merged, "--json", keys=["untied"])
        found = logits(load(merged), prompts)
    apart = max((a - b).abs().max().item() for a, b in zip(adapted, found))
    moved = max((a - b).abs().max().item() for a, b in zip(adapted, base))
    fine = apart <= MAX_LOGIT_DIFFERENCE and moved > MIN_EFFECT
    rows.append([name, report["merged"], "yes" if report["untied"] else "", f"{moved:.2f}", f"{apart:.1e}", "yes" if fine else "NO"])
    print(rows[-1], file=sys.stderr)
    return fine


def all_cases(args, folder):
    from peft import LoraConfig, PeftModel, get_peft_model
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(args.model)
    prompts = [tokenizer(prompt, return_tensors="pt", add_special_tokens=False).input_ids for prompt in PROMPTS]
    base = logits(load(args.model), prompts)
    rows, fine = [], True
    for seed, (name, settings) in enumerate(SINGLE.items()):
        adapter = folder / str(seed)
        model = get_peft_model(load(args.model), LoraConfig(task_type="CAUSAL_LM", **settings))
        randomize(model, seed)
        model.eval().save_pretrained(adapter)
        adapted = logits(model, prompts)
        del model
        fine = compare(name, args, prompts, base, adapted, ["--adapter", adapter], rows) and fine
    second = folder / "second"
    model = get_peft_model(load(args.model), LoraConfig(task_type="CAUSAL_LM", **SINGLE["plain"] | {"lora_alpha": 4}))
    randomize(model, 99)
    model.save_pretrained(second)
    both = [flag for path, weight in zip([folder / "0", second], WEIGHTS) for flag in ["--adapter", f"{path}={weight}"]]
    for name, (settings, flags) in COMBINED.items():
        model = PeftModel.from_pretrained(load(args.model), folder / "0", adapter_name="a")
        model.load_adapter(second, adapter_name="b")
        model.add_weighted_adapter(["a", "b"], WEIGHTS, adapter_name="mix", **settings)
        model.set_adapter("mix")
        adapted = logits(model.eval(), prompts)
        del model
        method = ["--method", settings["combination_type"], *flags]
        fine = compare(name, args, prompts, base, adapted, [*both, *method], rows) and fine
    header = ["adapter", "tensors changed", "head untied", "moves logits by", "max |Δlogit| of merged", "passed"]
    print(markdown_table(header, rows))
    return fine


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", required=True, type=Path, help="base model folder")
    parser.add_argument("--afina", type=Path, default=REPOSITORY / "target/release/afina",
                        help="the program [default: target/release/afina]")
    parser.add_argument("--setup", action="store_true", help="install the pinned versions into a temporary folder")
    args = parser.parse_args()
    require_versions(args.setup, PYTHON)
    require_paths(args.model, args.afina)
    with tempfile.TemporaryDirectory() as folder:
        sys.exit(0 if all_cases(args, Path(folder)) else 1)


if __name__ == "__main__":
    main()
