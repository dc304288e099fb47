"""transformers' logits, and peft's, for `afina parity --peer`:

    afina parity … --peer 'peft=PYTHON tests/peers/transformers_logits.py BASE --adapter ADAPTER'

Reads a safetensors file of token sequences and writes one of logits (`afina parity --help` has both). The model is computed in
F32, eager attention, a sequence at a time. PYTHON needs the pinned versions of `peers.py`.
"""

import argparse
import os
from pathlib import Path

from logits_files import read_tokens, write_logits
from peers import require_paths, require_versions


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path, help="a Hugging Face model folder")
    parser.add_argument("tokens", type=Path)
    parser.add_argument("logits", type=Path)
    parser.add_argument("--adapter", type=Path, help="an adapter folder in peft's format")
    args = parser.parse_args()
    require_versions(False)
    require_paths(args.model, args.adapter, args.tokens)
    os.environ["HF_HUB_OFFLINE"] = "1"
    import torch
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(args.model, dtype=torch.float32, attn_implementation="eager")
    vocabulary = model.config.vocab_size
    if args.adapter:
        from peft import PeftModel
        model = PeftModel.from_pretrained(model, args.adapter)
    model.eval()

    def compute(tokens):
        with torch.no_grad():
            return model(input_ids=torch.tensor([tokens]), use_cache=False).logits[0].float().numpy().tobytes()

    write_logits(args.logits, args.model, read_tokens(args.tokens), vocabulary, compute)


if __name__ == "__main__":
    main()
