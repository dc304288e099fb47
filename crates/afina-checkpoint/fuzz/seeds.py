"""Writes corpus/TARGET: a small file of each kind that the targets read, and the tokenizers of the project's fixtures."""

import json
import pathlib
import struct

HERE = pathlib.Path(__file__).resolve().parent
FIXTURES = HERE / "../../../tests/fixtures"
CUT = b"\n%%\n"
LLAMA = {"architectures": ["LlamaForCausalLM"], "model_type": "llama", "hidden_size": 4, "intermediate_size": 2,
         "num_hidden_layers": 1, "num_attention_heads": 2, "num_key_value_heads": 1, "vocab_size": 6, "eos_token_id": 2,
         "rms_norm_eps": 1e-5, "tie_word_embeddings": True}
SHAPES = {"model.embed_tokens": (6, 4), "model.norm": (4,)} | {
    f"model.layers.0.{name}": shape for name, shape in {
        "self_attn.q_proj": (4, 4), "self_attn.k_proj": (2, 4), "self_attn.v_proj": (2, 4), "self_attn.o_proj": (4, 4),
        "mlp.gate_proj": (2, 4), "mlp.up_proj": (2, 4), "mlp.down_proj": (4, 2), "input_layernorm": (4,),
        "post_attention_layernorm": (4,)}.items()}
GGUF_NAMES = {"model.embed_tokens": "token_embd", "model.norm": "output_norm", "self_attn.q_proj": "attn_q",
              "self_attn.k_proj": "attn_k", "self_attn.v_proj": "attn_v", "self_attn.o_proj": "attn_output",
              "mlp.gate_proj": "ffn_gate", "mlp.up_proj": "ffn_up", "mlp.down_proj": "ffn_down", "input_layernorm": "attn_norm",
              "post_attention_layernorm": "ffn_norm"}
NF4 = [-1.0, -0.6961928009986877, -0.5250730514526367, -0.39491748809814453, -0.28444138169288635, -0.18477343022823334,
       -0.09105003625154495, 0.0, 0.07958029955625534, 0.16093020141124725, 0.24611230194568634, 0.33791524171829224,
       0.44070982933044434, 0.5626170039176941, 0.7229568362236023, 1.0]
# GGUF's types of values, by Python's; a float is 32 bits.
KINDS = {int: (4, "<I"), float: (6, "<f"), bool: (7, "<?")}


def count(shape):
    return shape[0] * (shape[1] if len(shape) > 1 else 1)


def safetensors(shapes, dtype="F32", size=4):
    header, at = {"__metadata__": {"format": "pt"}}, 0
    for name, shape in shapes.items():
        header[name] = {"dtype": dtype, "shape": shape, "data_offsets": [at, at := at + size * count(shape)]}
    text = json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + bytes(range(1, 256))[:at].ljust(at, b"\x3c")


def mixed(tensors):
    """A file of tensors given as dtype, shape and bytes."""
    header, data = {}, b""
    for name, (dtype, shape, values) in tensors.items():
        header[name] = {"dtype": dtype, "shape": shape, "data_offsets": [len(data), len(data) + len(values)]}
        data += values
    text = json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + data


def plain(shapes):
    return {name: ("F32", shape, struct.pack("<f", 0.5) * count(shape)) for name, shape in shapes.items()}


def nf4_folder():
    module = "model.layers.0.mlp.up_proj.weight"
    state = {"quant_type": "nf4", "blocksize": 64, "dtype": "float16", "shape": [2, 4]}
    tensors = plain({f"{name}.weight": shape for name, shape in SHAPES.items()}) | {
        module: ("U8", (4, 1), b"\x1f\x2e\x3d\x4c"), f"{module}.absmax": ("F32", (1,), struct.pack("<f", 2.0)),
        f"{module}.quant_map": ("F32", (16,), struct.pack("<16f", *NF4)),
        f"{module}.quant_state.bitsandbytes__nf4": ("U8", (len(json.dumps(state)),), json.dumps(state).encode())}
    settings = {"quant_method": "bitsandbytes", "load_in_4bit": True, "bnb_4bit_quant_type": "nf4"}
    return LLAMA | {"quantization_config": settings}, tensors


def packed_folder(method):
    """A Llama of width 32 whose up_proj lies as GPTQ or AWQ packs four bits."""
    shapes = {f"{name}.weight": tuple(32 if side != 6 else 6 for side in shape) for name, shape in SHAPES.items()}
    shapes |= {f"model.layers.0.self_attn.{name}_proj.weight": (16, 32) for name in "kv"}
    module = "model.layers.0.mlp.up_proj"
    del shapes[f"{module}.weight"]
    qweight = (4, 32) if method == "gptq" else (32, 4)
    tensors = plain(shapes) | {
        f"{module}.qweight": ("I32", qweight, bytes(range(128)) * 4), f"{module}.qzeros": ("I32", (1, 4), bytes(range(16))),
        f"{module}.scales": ("F16", (1, 32), b"\x00\x3c" * 32)}
    settings = {"quant_method": method, "bits": 4, "group_size": 32}
    if method == "gptq":
        tensors[f"{module}.g_idx"] = ("I32", (32,), bytes(128))
    else:
        settings |= {"version": "gemm", "zero_point": True}
    return LLAMA | {"hidden_size": 32, "intermediate_size": 32, "quantization_config": settings}, tensors


def text(value):
    return struct.pack("<Q", len(value.encode())) + value.encode()


def value(item):
    if isinstance(item, str):
        return 8, text(item)
    if isinstance(item, list):
        kinds = [value(each) for each in item]
        return 9, struct.pack("<IQ", kinds[0][0], len(item)) + b"".join(each[1] for each in kinds)
    kind, form = KINDS[type(item)]
    return kind, struct.pack(form, item)


def gguf(metadata, shapes):
    out = b"GGUF" + struct.pack("<IQQ", 3, len(shapes), len(metadata))
    for key, item in metadata.items():
        kind, data = value(item)
        out += text(key) + struct.pack("<I", kind) + data
    at = 0
    for name, shape in shapes.items():
        out += text(name) + struct.pack("<I", len(shape)) + struct.pack(f"<{len(shape)}Q", *reversed(shape))
        out += struct.pack("<IQ", 0, at)
        at += -(-4 * count(shape) // 32) * 32
    return out.ljust(-(-len(out) // 32) * 32, b"\0") + struct.pack("<f", 0.5) * (at // 4)


def gguf_name(module):
    if module in GGUF_NAMES:
        return GGUF_NAMES[module] + ".weight"
    return "blk.0." + GGUF_NAMES[module.removeprefix("model.layers.0.")] + ".weight"


def tokenizers():
    vocab = {"<s>": 0, "<|im_start|>": 1, "<|im_end|>": 2, "a": 3, "b": 4, "ab": 5}
    digits = {"type": "Digits", "individual_digits": True}
    level = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True}
    bpe = {"added_tokens": [{"id": index, "content": token, "special": True} for token, index in list(vocab.items())[:3]],
           "normalizer": None, "pre_tokenizer": {"type": "Sequence", "pretokenizers": [digits, level]},
           "model": {"type": "BPE", "vocab": vocab, "merges": [["a", "b"]]}}
    config = {"bos_token": "<|im_start|>", "eos_token": {"content": "<|im_end|>"}, "unk_token": "<s>", "add_bos_token": False,
              "chat_template": [{"name": "default", "template": "{{ messages }}"}, {"name": "tool_use", "template": "{}"}]}
    yield "bpe", 2, json.dumps(bpe).encode(), json.dumps(config).encode()
    for path in sorted((FIXTURES / "chat/tokenizers").glob("*.json")):
        yield path.stem, 255, json.dumps(json.loads(path.read_text())).encode(), b""


def main():
    metadata = {"general.architecture": "llama", "llama.embedding_length": 4, "llama.feed_forward_length": 2,
                "llama.block_count": 1, "llama.attention.head_count": 2, "llama.attention.head_count_kv": 1,
                "llama.context_length": 128, "llama.attention.layer_norm_rms_epsilon": 1e-5}
    bpe = {"tokenizer.ggml.model": "gpt2", "tokenizer.ggml.pre": "smollm", "tokenizer.ggml.merges": ["a b"],
           "tokenizer.ggml.tokens": ["<s>", "<|im_start|>", "<|im_end|>", "a", "b", "ab"],
           "tokenizer.ggml.token_type": [3, 3, 3, 1, 1, 1], "tokenizer.ggml.bos_token_id": 1, "tokenizer.ggml.eos_token_id": 2,
           "tokenizer.ggml.add_bos_token": False, "tokenizer.chat_template": "{{ messages }}"}
    pieces = ["<unk>", "<s>", "</s>", *(f"<0x{byte:02X}>" for byte in range(256)), "▁", "a", "▁a"]
    spm = {"tokenizer.ggml.model": "llama", "tokenizer.ggml.tokens": pieces,
           "tokenizer.ggml.scores": [-float(index) for index in range(len(pieces))],
           "tokenizer.ggml.token_type": [2, 3, 3, *[6] * 256, 1, 1, 1]}
    weights = {f"{name}.weight": shape for name, shape in SHAPES.items()}
    in_gguf = {gguf_name(name): shape for name, shape in SHAPES.items()}
    names = list(weights)
    index = {"weight_map": {name: "ab"[number % 2] + ".safetensors" for number, name in enumerate(names)}}
    config, generation = json.dumps(LLAMA).encode(), b'{"eos_token_id":[1,2]}'
    rope = {"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
            "original_max_position_embeddings": 64, "rope_theta": 5e5}
    modules = ["model.layers.0.self_attn.q_proj", "model.layers.0.mlp.down_proj"]
    shapes = [SHAPES[module] for module in modules]
    peft = {"peft_type": "LORA", "r": 1, "lora_alpha": 2, "target_modules": ["q_proj", "down_proj"],
            "rank_pattern": {"q_proj": 1}, "alpha_pattern": {"model.layers.0.mlp.down_proj": 0.5}, "use_rslora": True}
    mlx = {"fine_tune_type": "lora", "num_layers": -1,
           "lora_parameters": {"rank": 1, "scale": 2.0, "dropout": 0.0, "keys": ["self_attn.q_proj", "mlp.down_proj"]}}
    lora = {"general.type": "adapter", "general.architecture": "llama", "adapter.type": "lora", "adapter.lora.alpha": 2.0}
    peft_shapes, mlx_shapes, gguf_shapes = {}, {}, {}
    for module, (out, into) in zip(modules, shapes):
        peft_shapes |= {f"base_model.model.{module}.lora_A.weight": (1, into), f"base_model.model.{module}.lora_B.weight": (out, 1)}
        mlx_shapes |= {f"{module}.lora_a": (into, 1), f"{module}.lora_b": (1, out)}
        gguf_shapes |= {f"{gguf_name(module)}.lora_a": (1, into), f"{gguf_name(module)}.lora_b": (out, 1)}
    seeds = {
        "safetensors": {"f32": safetensors(weights), "f16": safetensors({"a": (3,), "b": (2, 2)}, "F16", 2),
                        "ids": safetensors({"ids": (2,)}, "I64", 8)},
        "gguf": {"bpe": gguf(metadata | bpe, in_gguf),
                 "spm": gguf(metadata | spm, in_gguf | {"token_embd.weight": (len(pieces), 4)}),
                 "rope": gguf(metadata | bpe, in_gguf | {"rope_freqs.weight": (1,)}),
                 "tiny": (FIXTURES / "gguf/tiny-bpe.gguf").read_bytes()[:60_000]},
        "model_folder": {
            "whole": CUT.join([config, generation, b"", safetensors(weights)]),
            "rope": CUT.join([json.dumps(LLAMA | {"rope_parameters": rope}).encode(), b"", b"", safetensors(weights)]),
            "sharded": CUT.join([config, generation, json.dumps(index).encode(),
                                 *(safetensors({name: weights[name] for name in names[start::2]}) for start in (0, 1))])},
        "tokenizer": {name: bytes([size]) + tokenizer + CUT + config for name, size, tokenizer, config in tokenizers()},
        "peft_adapter": {"lora": json.dumps(peft).encode() + CUT + safetensors(peft_shapes)} | {
            path.name: CUT.join((path / name).read_bytes() for name in ["adapter_config.json", "adapter_model.safetensors"])
            for path in (FIXTURES / "golden/merge").iterdir() if path.is_dir()},
        "mlx_adapter": {"lora": json.dumps(mlx).encode() + CUT + safetensors(mlx_shapes)},
        "gguf_adapter": {"lora": gguf(lora, gguf_shapes)},
    }
    for name, (config, tensors) in {"nf4": nf4_folder(), "gptq": packed_folder("gptq"), "awq": packed_folder("awq")}.items():
        seeds["model_folder"][name] = CUT.join([json.dumps(config).encode(), b"", b"", mixed(tensors)])
    for target, files in seeds.items():
        (HERE / "corpus" / target).mkdir(parents=True, exist_ok=True)
        for name, data in files.items():
            (HERE / "corpus" / target / name).write_bytes(data)


if __name__ == "__main__":
    main()
