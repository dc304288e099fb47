"""Folders with quantized weights, beside the programs that write and read them.

    python tests/peers/quantized_folders.py [--setup] --model BASE

Read: transformers and bitsandbytes quantize BASE to NF4 on the processor, with and without double quantization, in f32 and
bf16, and save it; AutoGPTQ's and AutoAWQ's own layers pack its first layers (`tests/fixtures/golden/quantized`). Every tensor
that `afina` reads from those folders must have the bits that the program itself decodes.

Written: `afina quantize --type nf4` beside `save_pretrained`: keys, shapes, config, and the bytes of every tensor. The offset
of double quantization is torch's mean of the scales there, whose last bits depend on its threads; where it differs, the rest
must be what bitsandbytes makes with our offset. The folder is loaded by transformers, and its logits compared.

Exit 1 when anything differs. Versions: `peers.py`, bitsandbytes 0.50.2, accelerate 1.15.0, numpy 2.4.6; `--setup` installs them.
"""

import argparse
import json
import shutil
import sys
import tempfile
from pathlib import Path

from peers import PYTHON, REPOSITORY, afina, markdown_table, require_paths, require_versions

PYTHON = PYTHON | {"bitsandbytes": "0.50.2", "accelerate": "1.15.0", "numpy": "2.4.6"}
LINEAR = ["self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj", "self_attn.o_proj", "mlp.gate_proj", "mlp.up_proj",
          "mlp.down_proj"]
GGUF_NAMES = dict(zip(LINEAR, ["attn_q", "attn_k", "attn_v", "attn_output", "ffn_gate", "ffn_up", "ffn_down"]))
NF4 = [(dtype, nested) for dtype in ("float32", "bfloat16") for nested in (False, True)]
PACKED_LAYERS = 4
TOKENS = [[1, 4093, 198, 2683, 418, 260, 3575, 282, 4649, 47], [1, 11, 22, 33, 44, 55, 66, 77, 88, 99]]


def read_by_afina(binary, folder, scratch, config):
    """Name → tensor in f32, as `afina` reads the folder: out of the F32 GGUF that it writes of it."""
    import numpy as np
    import torch

    from quantize import Gguf

    path = scratch / "read.gguf"
    afina(binary, "export", "--model", folder, "--as", "gguf", "--type", "F32", "--to", path)
    tensors = {}
    for name, (shape, _, data) in Gguf(path).tensors.items():
        tensor = torch.from_numpy(np.frombuffer(data, np.float32).copy()).reshape(shape[::-1])
        heads = {"attn_q": config["num_attention_heads"], "attn_k": config["num_key_value_heads"]}.get(
            name.decode().split(".")[-2])
        if heads:
            tensor = tensor.reshape(heads, -1, 2, tensor.shape[1]).swapaxes(1, 2).reshape(tensor.shape)
        tensors[name.decode()] = tensor
    path.unlink()
    return tensors


def gguf_name(name):
    for hf, gguf in GGUF_NAMES.items():
        name = name.replace(hf, gguf)
    for hf, gguf in [("model.layers.", "blk."), ("input_layernorm", "attn_norm"), ("post_attention_layernorm", "ffn_norm"),
                     ("model.embed_tokens", "token_embd"), ("model.norm", "output_norm"), ("lm_head", "output")]:
        name = name.replace(hf, gguf)
    return name


def compare_read(label, binary, folder, scratch, expected):
    """A line of the table, and whether `afina` reads what is expected: name → tensor."""
    import torch

    config = json.loads((folder / "config.json").read_text())
    found = read_by_afina(binary, folder, scratch, config)
    equal = 0
    for name, tensor in expected.items():
        ours = found.get(gguf_name(name))
        same = ours is not None and ours.shape == tensor.shape and torch.equal(
            ours.contiguous().view(torch.int32), tensor.float().contiguous().view(torch.int32))
        equal += same
        if not same and equal > len(expected) - 4:
            print(f"{label}: {name} differs")
    count = len(expected)
    return [label, count, f"{equal}/{count}"], equal == count == len(found)


def load(folder, **options):
    import torch
    from transformers import AutoModelForCausalLM

    options.setdefault("dtype", torch.float32)
    return AutoModelForCausalLM.from_pretrained(folder, local_files_only=True, attn_implementation="eager", **options).eval()


def quantized_by_transformers(base, to, dtype, nested):
    """Saves BASE in NF4; gives the tensors that bitsandbytes decodes, and the logits."""
    import bitsandbytes as bnb
    import torch
    from transformers import BitsAndBytesConfig

    config = BitsAndBytesConfig(load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_use_double_quant=nested,
                                bnb_4bit_compute_dtype=getattr(torch, dtype))
    model = load(base, dtype=getattr(torch, dtype), quantization_config=config)
    model.save_pretrained(to)
    for name in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copy(base / name, to / name)
    expected = {}
    for name, parameter in model.named_parameters():
        if isinstance(parameter, bnb.nn.Params4bit):
            parameter = bnb.functional.dequantize_4bit(parameter.data, parameter.quant_state).reshape(
                parameter.quant_state.shape)
        expected[name] = parameter.detach().clone()
    return expected, logits(model)


def logits(model):
    import torch

    with torch.no_grad():
        return model(torch.tensor(TOKENS)).logits.float()


def divergence(reference, other):
    """Mean KL(reference || other) over all tokens, in nats."""
    p, q = reference.double().log_softmax(-1), other.double().log_softmax(-1)
    return (p.exp() * (p - q)).sum(-1).mean().item()


def same(one, other):
    import torch

    return one.dtype == other.dtype and one.shape == other.shape and torch.equal(
        one.contiguous().view(torch.uint8), other.contiguous().view(torch.uint8))


def compare_written(label, ours, theirs, base):
    """A line of the table, and whether our folder is theirs."""
    import bitsandbytes as bnb
    import torch
    from safetensors.torch import load_file

    settings = [json.loads((folder / "config.json").read_text())["quantization_config"] for folder in (ours, theirs)]
    us, them, plain = load_file(ours / "model.safetensors"), load_file(theirs / "model.safetensors"), base
    fine = us.keys() == them.keys() and settings[0] == settings[1]
    if not fine:
        print(f"{label}: keys {sorted(us.keys() ^ them.keys())[:4]}, settings {settings}")
    equal, of_offset = 0, 0
    for name in them:
        if name in us and same(us[name], them[name]):
            equal += 1
            continue
        weight = name.split(".weight.")[0] + ".weight"
        state = bytes(us.get(f"{weight}.quant_state.bitsandbytes__nf4", torch.zeros(0, dtype=torch.uint8)).tolist())
        if b"nested_offset" not in state:
            print(f"{label}: {name} differs")
            fine = False
            continue
        # What bitsandbytes makes of the same scales with our offset.
        offset = json.loads(state)["nested_offset"]
        theirs_is = json.loads(bytes(them[f"{weight}.quant_state.bitsandbytes__nf4"].tolist()))
        _, whole = bnb.functional.quantize_4bit(plain[weight], blocksize=64, quant_type="nf4")
        numbers, nested = bnb.functional.quantize_blockwise(whole.absmax - torch.tensor(offset), blocksize=256)
        made = {"absmax": numbers, "nested_absmax": nested.absmax,
                "quant_state.bitsandbytes__nf4": torch.tensor(list(json.dumps(theirs_is | {"nested_offset": offset}).encode()),
                                                              dtype=torch.uint8)}
        near = abs(offset - theirs_is["nested_offset"]) <= 1e-6 * abs(offset)
        if near and same(us[name], made[name.split(".weight.")[1]]):
            of_offset += 1
        else:
            print(f"{label}: {name} differs")
            fine = False
    return [label, len(them), equal, of_offset], fine


def packed_folder(base, to, kind):
    """The first layers of BASE in AutoGPTQ's or AutoAWQ's form; gives the tensors that those decode."""
    import torch
    from safetensors.torch import load_file, save_file

    sys.path.insert(0, str(REPOSITORY / "tests/fixtures/golden/quantized"))
    from make_quantized import awq, gptq

    config = json.loads((base / "config.json").read_text()) | {"num_hidden_layers": PACKED_LAYERS}
    if kind == "awq":
        settings = {"quant_method": "awq", "bits": 4, "group_size": 64, "version": "gemm", "zero_point": True}
    else:
        bits, group_size, ordered = kind
        settings = {"quant_method": "gptq", "bits": bits, "group_size": group_size, "desc_act": ordered, "sym": False,
                    "checkpoint_format": "gptq"}
    to.mkdir()
    (to / "config.json").write_text(json.dumps(config | {"quantization_config": settings}))
    for name in ("tokenizer.json", "tokenizer_config.json", "generation_config.json"):
        shutil.copy(base / name, to / name)
    stored, expected = {}, {}
    for name, tensor in load_file(base / "model.safetensors").items():
        if name.startswith("model.layers.") and int(name.split(".")[2]) >= PACKED_LAYERS:
            continue
        module = name.removesuffix(".weight")
        if module.split(".", 3)[-1] not in LINEAR:
            stored[name] = expected[name] = tensor
            continue
        if kind == "awq":
            layer, expected[name] = awq(tensor.float(), 64)
        else:
            order = torch.randperm(tensor.shape[1]) if ordered else None
            layer, expected[name] = gptq(tensor.float(), bits, group_size, order)
        stored |= {f"{module}.{key}": value.contiguous() for key, value in layer.items()}
    save_file(stored, to / "model.safetensors", metadata={"format": "pt"})
    return expected


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, required=True, help="a Hugging Face model folder in F32")
    parser.add_argument("--afina", type=Path, default=REPOSITORY / "target/release/afina")
    parser.add_argument("--setup", action="store_true", help="install the pinned versions into a temporary folder")
    args = parser.parse_args()
    require_versions(args.setup, PYTHON)
    require_paths(args.model, args.afina)
    import torch
    from safetensors.torch import load_file

    torch.manual_seed(24)
    read, written, said, fine = [], [], [], True
    plain, base_logits = load_file(args.model / "model.safetensors"), logits(load(args.model))
    with tempfile.TemporaryDirectory() as temporary:
        scratch = Path(temporary)
        for dtype, nested in NF4:
            label = f"NF4, {dtype}{', double quantization' if nested else ''}"
            theirs, ours = scratch / "theirs", scratch / "ours"
            expected, their_logits = quantized_by_transformers(args.model, theirs, dtype, nested)
            row, equal = compare_read(label, args.afina, theirs, scratch, expected)
            read.append(row)
            fine = fine and equal
            if dtype == "float32":
                flags = [] if nested else ["--no-double-quant"]
                afina(args.afina, "quantize", "--model", args.model, "--type", "nf4", "--to", ours, *flags)
                row, equal = compare_written(label, ours, theirs, plain)
                written.append(row)
                our_logits = logits(load(ours))
                fine = fine and equal
                if nested:
                    # The offset's last bits turn a scale here and there into its neighbour: as far from BASE as theirs.
                    apart = [divergence(base_logits, found) for found in (our_logits, their_logits)]
                    said.append(f"{label}: mean KL from BASE in transformers {apart[0]:.4f}, of bitsandbytes' own {apart[1]:.4f}")
                    fine = fine and apart[0] <= 1.5 * apart[1]
                else:
                    # All bytes are theirs, so that the logits must be.
                    worst = (our_logits - their_logits).abs().max().item()
                    said.append(f"{label}: max |Δlogit| of the two folders in transformers {worst:.2e} (0 expected)")
                    fine = fine and worst == 0.0
                shutil.rmtree(ours)
            shutil.rmtree(theirs)
        for kind in [(4, 128, False), (4, 64, True), (8, -1, False), (3, 64, True), (2, 64, False), "awq"]:
            label = "AWQ, groups of 64" if kind == "awq" else f"GPTQ, {kind[0]} bits, group_size {kind[1]}, desc_act {kind[2]}"
            folder = scratch / "packed"
            expected = packed_folder(args.model, folder, kind)
            row, equal = compare_read(f"{label}, {PACKED_LAYERS} layers", args.afina, folder, scratch, expected)
            read.append(row)
            fine = fine and equal
            shutil.rmtree(folder)
    print(markdown_table(["read by afina", "tensors", "equal bits"], read))
    print()
    print(markdown_table(["written by afina", "tensors in the file", "equal bytes", "equal with our offset"], written))
    print()
    print("\n".join(said))
    sys.exit(0 if fine else 1)


if __name__ == "__main__":
    main()
