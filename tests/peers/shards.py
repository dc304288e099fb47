"""`--shard-size` beside huggingface_hub's own split, and the folder in transformers.

    python tests/peers/shards.py [--setup]

A random Llama of two layers (`memory.py`), exported with several sizes. The files, the tensors of each and the index must be those of
`split_torch_state_dict_into_shards` on the same tensors in afina's order, with transformers' `total_parameters`; transformers must
load the folder, every tensor equal to the source's. Exit 1 otherwise. Versions: torch 2.9.1, transformers 5.23.0, safetensors 0.8.0,
numpy 2.4.6; `--setup` installs them.
"""

import argparse
import json
import sys
import tempfile
from pathlib import Path

from memory import shapes_of, write_model
from peers import REPOSITORY, afina, require_paths, require_versions

PYTHON = {"torch": "2.9.1", "transformers": "5.23.0", "safetensors": "0.8.0", "numpy": "2.4.6"}
SIZES = ["1kB", "20MB", "50MB", "131.072MB", "131.1MB", "300MB", "5GB"]


def order(layers):
    """The tensors in the order of the forward pass, which afina writes them in."""
    names = ["input_layernorm", "self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj", "self_attn.o_proj",
             "post_attention_layernorm", "mlp.gate_proj", "mlp.up_proj", "mlp.down_proj"]
    yield "model.embed_tokens.weight"
    for layer in range(layers):
        yield from (f"model.layers.{layer}.{name}.weight" for name in names)
    yield from ["model.norm.weight", "lm_head.weight"]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--afina", type=Path, default=REPOSITORY / "target/release/afina")
    parser.add_argument("--setup", action="store_true", help="install the pinned versions into a temporary folder")
    args = parser.parse_args()
    require_versions(args.setup, PYTHON)
    require_paths(args.afina)
    import numpy as np
    import torch
    from huggingface_hub import split_torch_state_dict_into_shards
    from safetensors import safe_open
    from transformers import AutoModelForCausalLM

    fine, shapes = True, shapes_of(2)
    state = {name: torch.empty(shapes[name], dtype=torch.bfloat16, device="cpu") for name in order(2)}
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        write_model(np, folder / "model", 2, "BF16")
        source = AutoModelForCausalLM.from_pretrained(folder / "model", dtype="auto").state_dict()
        for size in SIZES:
            to = folder / size
            afina(args.afina, "export", "--as", "hf", "--model", folder / "model", "--shard-size", size, "--to", to)
            pattern = "model{suffix}.safetensors"
            split = split_torch_state_dict_into_shards(state, filename_pattern=pattern, max_shard_size=size)
            found = {}
            for path in to.glob("*.safetensors"):
                with safe_open(path, "pt") as file:
                    found[path.name] = set(file.keys())
            same = found == {name: set(tensors) for name, tensors in split.filename_to_tensors.items()}
            index = to / "model.safetensors.index.json"
            if split.is_sharded:
                total = sum(tensor.numel() for tensor in state.values())
                expected = {"metadata": {"total_parameters": total, **split.metadata},
                            "weight_map": split.tensor_to_filename}
                same = same and index.read_text() == json.dumps(expected, indent=2, sort_keys=True) + "\n"
            else:
                same = same and not index.exists()
            model = AutoModelForCausalLM.from_pretrained(to, dtype="auto").state_dict()
            loads = model.keys() == source.keys() and all(torch.equal(model[name], source[name]) for name in source)
            print(f"{size}: {len(found)} files, {'cut as huggingface_hub does' if same else 'CUT ELSEWHERE'}, "
                  f"{'equal in transformers' if loads else 'DIFFERENT in transformers'}")
            fine = fine and same and loads
    sys.exit(0 if fine else 1)


if __name__ == "__main__":
    main()
