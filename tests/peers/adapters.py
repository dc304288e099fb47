"""`afina export --as gguf-lora|mlx|peft` beside peft, llama.cpp and mlx-lm: the same adapter gives the same logits.

    python tests/peers/adapters.py [--setup] --model BASE [--mlx PYTHON] [--llama-cpp CHECKOUT]

peft makes random adapters on all seven linear layers of the model, with one rank and alpha, with rsLoRA, with ranks and alphas
of their own for some layers, and with both. Of each, `afina` makes llama.cpp's file and mlx-lm's folder, and goes round:
PEFT, MLX, GGUF, PEFT. Compared are

- the logits of peft with those of llama.cpp, on the F32 GGUF of the base with the adapter's file (`llama_adapter_lora_init`,
  `llama_set_adapters_lora`), and with those of mlx-lm, where `--mlx` names a Python that has it: max |Δlogit| ≤ 1e-3;
- the product scaling · B · A of every layer with that of the adapter that came round: 1e-6 of its largest number;
- that the adapter does something: peft's logits move by more than 0.1;
- of the plain adapter, every tensor with that of llama.cpp's own `convert_lora_to_gguf.py`, where `--llama-cpp` names a
  checkout of it, as F32, F16 and Q8_0: equal bytes. (It knows neither rsLoRA nor patterns.)

Exit 1 beyond that. Versions: `peers.py`; seen with mlx 0.32.4 and mlx-lm 0.32.2 on a processor.
"""

import argparse
import ctypes
import json
import subprocess
import sys
import tempfile
from pathlib import Path

from peers import (PYTHON, REPOSITORY, afina, markdown_table, node_modules, require_node_modules, require_paths,
                   require_versions)
from quantize import Gguf

PROMPTS = ["Once upon a time, in a village by the sea, there lived an old",
           "<|im_start|>user\nWhere is my parcel? I ordered it 10 days ago.<|im_end|>\n<|im_start|>assistant\n",
           "¿Cuánto tarda un envío a Canarias? El plazo habitual es de"]
TARGETS = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
PATTERNS = {"rank_pattern": {"k_proj": 3, "model.layers.3.mlp.down_proj": 16},
            "alpha_pattern": {"v_proj": 20, "model.layers.5.self_attn.q_proj": 5}}
ADAPTERS = {"plain": {}, "rsLoRA": {"use_rslora": True}, "patterns": PATTERNS,
            "patterns, rsLoRA": PATTERNS | {"use_rslora": True}}
MAX_LOGIT_DIFFERENCE = 1e-3
MAX_DELTA_DIFFERENCE = 1e-6
MIN_EFFECT = 0.1
F32 = 0


class Params(ctypes.Structure):
    """A struct of llama.cpp's that is passed by value, as bytes: at least as many as it has, and it is the last argument."""
    _fields_ = [("words", ctypes.c_int32 * 128)]


class Batch(ctypes.Structure):
    _fields_ = [("n_tokens", ctypes.c_int32), ("token", ctypes.c_void_p), ("embd", ctypes.c_void_p), ("pos", ctypes.c_void_p),
                ("n_seq_id", ctypes.c_void_p), ("seq_id", ctypes.c_void_p), ("logits", ctypes.c_void_p)]


class Llama:
    """A model of llama.cpp, all in F32."""

    def __init__(self, folder, path):
        ctypes.CDLL(str(folder / "libggml-base.so"), mode=ctypes.RTLD_GLOBAL)
        ggml = ctypes.CDLL(str(folder / "libggml.v0.5.0.so"), mode=ctypes.RTLD_GLOBAL)
        self.lib = lib = ctypes.CDLL(str(folder / "libllama.v0.5.0.so"))
        self.silent = ctypes.CFUNCTYPE(None, ctypes.c_int, ctypes.c_char_p, ctypes.c_void_p)(lambda *_: None)
        lib.llama_log_set(self.silent, None)
        ggml.ggml_backend_load_all_from_path(str(folder).encode())
        lib.llama_backend_init()
        pointer = ctypes.c_void_p
        for name, result, arguments in [
            ("llama_model_default_params", Params, []), ("llama_context_default_params", Params, []),
            ("llama_model_load_from_file", pointer, [ctypes.c_char_p, Params]),
            ("llama_init_from_model", pointer, [pointer, Params]), ("llama_get_memory", pointer, [pointer]),
            ("llama_memory_clear", None, [pointer, ctypes.c_bool]), ("llama_model_get_vocab", pointer, [pointer]),
            ("llama_vocab_n_tokens", ctypes.c_int32, [pointer]), ("llama_decode", ctypes.c_int32, [pointer, Batch]),
            ("llama_get_logits", ctypes.POINTER(ctypes.c_float), [pointer]),
            ("llama_adapter_lora_init", pointer, [pointer, ctypes.c_char_p]), ("llama_adapter_lora_free", None, [pointer]),
            ("llama_set_adapters_lora", ctypes.c_int32,
             [pointer, ctypes.POINTER(pointer), ctypes.c_size_t, ctypes.POINTER(ctypes.c_float)]),
        ]:
            function = getattr(lib, name)
            function.restype, function.argtypes = result, arguments
        self.model = lib.llama_model_load_from_file(str(path).encode(), lib.llama_model_default_params())
        if not self.model:
            sys.exit(f"error: llama.cpp did not load `{path}`")
        params = lib.llama_context_default_params()
        words = params.words
        # The layout is this version's: tokens, threads, four kinds that are chosen by themselves, keys and values in F16.
        seen = (words[0:4], words[7:9], words[10:14], words[26:28])
        assert seen == ([512, 2048, 512, 1], [4, 4], [-1] * 4, [1, 1]), list(words)
        words[7] = words[8] = 1  # thread: they wait for each other by spinning
        words[13] = 0  # no flash attention
        words[26] = words[27] = F32
        self.context = lib.llama_init_from_model(self.model, params)
        if not self.context:
            sys.exit("error: llama.cpp made no context")
        self.vocabulary = lib.llama_vocab_n_tokens(lib.llama_model_get_vocab(self.model))

    def logits(self, np, prompts, adapter):
        """Of every token of every prompt."""
        lora = ctypes.c_void_p(self.lib.llama_adapter_lora_init(self.model, str(adapter).encode()))
        if not lora:
            sys.exit(f"error: llama.cpp did not load the adapter `{adapter}`")
        scale = ctypes.c_float(1.0)
        code = self.lib.llama_set_adapters_lora(self.context, ctypes.byref(lora), 1, ctypes.byref(scale))
        assert code == 0, code
        out = []
        for ids in prompts:
            self.lib.llama_memory_clear(self.lib.llama_get_memory(self.context), True)
            tokens = (ctypes.c_int32 * len(ids))(*ids)
            wanted = (ctypes.c_int8 * len(ids))(*[1] * len(ids))
            batch = Batch(len(ids), ctypes.cast(tokens, ctypes.c_void_p), None, None, None, None,
                          ctypes.cast(wanted, ctypes.c_void_p))
            code = self.lib.llama_decode(self.context, batch)
            assert code == 0, code
            values = np.ctypeslib.as_array(self.lib.llama_get_logits(self.context), (len(ids) * self.vocabulary,))
            out.append(values.reshape(len(ids), self.vocabulary).copy())
        self.lib.llama_set_adapters_lora(self.context, None, 0, None)
        self.lib.llama_adapter_lora_free(lora)
        return np.concatenate(out)


def random_adapter(torch, model, settings, to):
    """A PEFT folder with random matrices, and the model's logits with it on, and without."""
    from peft import LoraConfig, get_peft_model

    torch.manual_seed(len(json.dumps(settings)))
    config = LoraConfig(r=8, lora_alpha=12, target_modules=TARGETS, task_type="CAUSAL_LM", init_lora_weights=False, **settings)
    tuned = get_peft_model(model, config)
    with torch.no_grad():
        for name, parameter in tuned.named_parameters():
            if "lora_" in name:
                parameter.normal_(std=0.02)
    tuned.save_pretrained(to)
    return tuned


def torch_logits(torch, model, prompts):
    with torch.no_grad():
        return torch.cat([model(input_ids=torch.tensor([ids]), use_cache=False).logits[0].float() for ids in prompts]).numpy()


def deltas(np, folder):
    """scaling · B · A of each module, by PEFT's own rules."""
    import torch
    from peft import LoraConfig
    from peft.utils import load_peft_weights
    from peft.utils.other import get_pattern_key

    config, weights = LoraConfig.from_pretrained(folder), load_peft_weights(folder, device="cpu")
    out = {}
    for name, a in weights.items():
        if ".lora_A." not in name:
            continue
        module = name.removeprefix("base_model.model.").split(".lora_A.")[0]
        pattern = lambda patterns, default: patterns.get(get_pattern_key(patterns.keys(), module), default)
        r, alpha = pattern(config.rank_pattern, config.r), pattern(config.alpha_pattern, config.lora_alpha)
        scaling = alpha / r ** 0.5 if config.use_rslora else alpha / r
        assert a.shape[0] == r, (module, a.shape, r)
        b = weights[name.replace("lora_A", "lora_B")]
        out[module] = (scaling * b.to(torch.float64) @ a.to(torch.float64)).numpy()
    return out


def same_as_converter(checkout, binary, model, adapter, scratch):
    """Whether llama.cpp's own converter gives the same tensors."""
    fine = True
    for kind in ("F32", "F16", "Q8_0"):
        ours, theirs = scratch / f"ours-{kind}.gguf", scratch / f"theirs-{kind}.gguf"
        afina(binary, "export", "--model", model, "--adapter", adapter, "--as", "gguf-lora", "--type", kind, "--to", ours)
        subprocess.run([sys.executable, checkout / "convert_lora_to_gguf.py", "--base", model, "--outtype", kind.lower(),
                        "--outfile", theirs, adapter], check=True, capture_output=True)
        ours, theirs = Gguf(ours), Gguf(theirs)
        equal = sum(ours.tensors.get(name) == tensor for name, tensor in theirs.tensors.items())
        print(f"{kind}: {equal} of {len(theirs.tensors)} tensors equal llama.cpp's own converter's")
        fine = fine and equal == len(theirs.tensors) == len(ours.tensors)
    return fine


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, required=True, help="a Hugging Face model folder")
    parser.add_argument("--afina", type=Path, default=REPOSITORY / "target/release/afina")
    parser.add_argument("--mlx", type=Path, help="a Python that has mlx-lm, as `pip install mlx[cpu] mlx-lm` makes one")
    parser.add_argument("--llama-cpp", type=Path, help="a checkout of llama.cpp, for its converter")
    parser.add_argument("--only", choices=ADAPTERS, nargs="+", default=list(ADAPTERS), help="some of the adapters")
    parser.add_argument("--node-modules", type=Path)
    parser.add_argument("--setup", action="store_true", help="install the pinned versions into a temporary folder")
    args = parser.parse_args()
    require_versions(args.setup, PYTHON)
    modules = args.node_modules or node_modules(args.setup)
    require_node_modules(modules)
    require_paths(args.model, args.afina, args.mlx, args.llama_cpp)
    import numpy as np
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(args.model)
    prompts = [tokenizer(text, add_special_tokens=False).input_ids for text in PROMPTS]
    rows, fine = [], True
    with tempfile.TemporaryDirectory() as temporary:
        scratch = Path(temporary)
        afina(args.afina, "export", "--model", args.model, "--as", "gguf", "--type", "F32", "--to", scratch / "base.gguf")
        llama = Llama(modules / "@node-llama-cpp/linux-x64/bins/linux-x64", scratch / "base.gguf")
        (scratch / "tokens.json").write_text(json.dumps(prompts))
        for name in args.only:
            settings = ADAPTERS[name]
            model = AutoModelForCausalLM.from_pretrained(args.model, dtype=torch.float32, attn_implementation="eager").eval()
            base = torch_logits(torch, model, prompts)
            peft = scratch / name
            tuned = random_adapter(torch, model, settings, peft).eval()
            expected = torch_logits(torch, tuned, prompts)
            effect = np.abs(expected - base).max()
            mlx, lora, back = scratch / f"{name} mlx", scratch / f"{name}.gguf", scratch / f"{name} back"
            export = lambda source, kind, to: afina(args.afina, "export", "--model", args.model, "--adapter", source, "--as",
                                                    kind, "--to", to)
            export(peft, "mlx", mlx)
            export(peft, "gguf-lora", lora)
            export(mlx, "gguf-lora", scratch / f"{name} round.gguf")
            export(scratch / f"{name} round.gguf", "peft", back)
            in_llama = np.abs(llama.logits(np, prompts, lora) - expected).max()
            given, round_trip = deltas(np, peft), deltas(np, back)
            assert given.keys() == round_trip.keys()
            delta = max(np.abs(round_trip[key] - given[key]).max() / np.abs(given[key]).max() for key in given)
            in_mlx = None
            if args.mlx:
                to = scratch / "mlx.npy"
                script = Path(__file__).with_name("mlx_logits.py")
                subprocess.run([args.mlx, script, args.model.resolve(), mlx, scratch / "tokens.json", to], check=True)
                in_mlx = np.abs(np.load(to) - expected).max()
            fine = fine and effect > MIN_EFFECT and delta <= MAX_DELTA_DIFFERENCE
            fine = fine and all(found <= MAX_LOGIT_DIFFERENCE for found in (in_llama, in_mlx) if found is not None)
            if args.llama_cpp and not settings:
                fine = same_as_converter(args.llama_cpp, args.afina, args.model, peft, scratch) and fine
            rows.append([name, f"{effect:.2f}", f"{in_llama:.1e}", "not run" if in_mlx is None else f"{in_mlx:.1e}",
                         f"{delta:.1e}"])
    print(markdown_table(["adapter", "moves logits by", "llama.cpp, max |Δlogit|", "mlx-lm", "round, ΔW"], rows))
    sys.exit(0 if fine else 1)


if __name__ == "__main__":
    main()
