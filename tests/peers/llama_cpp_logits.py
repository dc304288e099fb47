"""llama.cpp's logits, for `afina parity --peer`:

    afina parity … --peer 'llama.cpp=python3 tests/peers/llama_cpp_logits.py MODEL.gguf'

Reads a safetensors file of token sequences and writes one of logits (`afina parity --help` has both). llama.cpp is the prebuilt
library of the npm package @node-llama-cpp/linux-x64, whose folder is `--node-modules` or the one that the `--setup` of the
other scripts makes; no Python package is needed. Each sequence is one batch in an empty context, logits asked for behind every
token, the key/value cache in F32 and no flash attention, so that what differs is the weights. Weights in a quantized format are
multiplied as llama.cpp does it: the activations are quantized, too, to eight bits.
"""

import argparse
import ctypes
from pathlib import Path

from logits_files import read_tokens, write_logits
from peers import llama_cpp, node_modules, require_node_modules, require_paths

PARAMS = ctypes.c_char * 256


class ModelParams(ctypes.Structure):
    """`llama_model_params`, which keeps its defaults, and more room than it takes."""
    _fields_ = [("all", PARAMS)]


class ContextParams(ctypes.Structure):
    """The fields of `llama_context_params` up to the last that is set; what follows keeps its defaults."""
    _fields_ = [("n_ctx", ctypes.c_uint32), ("n_batch", ctypes.c_uint32), ("n_ubatch", ctypes.c_uint32),
                ("n_seq_max", ctypes.c_uint32), ("counts", ctypes.c_uint32 * 3), ("n_threads", ctypes.c_int32),
                ("n_threads_batch", ctypes.c_int32), ("kinds", ctypes.c_int32 * 4), ("flash_attn_type", ctypes.c_int32),
                ("rope", ctypes.c_float * 8), ("cb_eval", ctypes.c_void_p * 2), ("type_k", ctypes.c_int32),
                ("type_v", ctypes.c_int32), ("rest", PARAMS)]


class Batch(ctypes.Structure):
    """`llama_batch`."""
    _fields_ = [("n_tokens", ctypes.c_int32), ("token", ctypes.POINTER(ctypes.c_int32)), ("embd", ctypes.c_void_p),
                ("pos", ctypes.POINTER(ctypes.c_int32)), ("n_seq_id", ctypes.POINTER(ctypes.c_int32)),
                ("seq_id", ctypes.POINTER(ctypes.POINTER(ctypes.c_int32))), ("logits", ctypes.POINTER(ctypes.c_int8))]


class Model:
    def __init__(self, lib, path, longest, threads):
        self.lib = lib
        pointer = ctypes.c_void_p
        for name, result, arguments in [
            ("llama_model_default_params", ModelParams, []),
            ("llama_context_default_params", ContextParams, []),
            ("llama_model_load_from_file", pointer, [ctypes.c_char_p, ModelParams]),
            ("llama_init_from_model", pointer, [pointer, ContextParams]),
            ("llama_model_get_vocab", pointer, [pointer]),
            ("llama_vocab_n_tokens", ctypes.c_int32, [pointer]),
            ("llama_batch_init", Batch, [ctypes.c_int32, ctypes.c_int32, ctypes.c_int32]),
            ("llama_decode", ctypes.c_int32, [pointer, Batch]),
            ("llama_get_logits_ith", ctypes.POINTER(ctypes.c_float), [pointer, ctypes.c_int32]),
            ("llama_get_memory", pointer, [pointer]),
            ("llama_memory_clear", None, [pointer, ctypes.c_bool]),
        ]:
            function = getattr(lib, name)
            function.restype, function.argtypes = result, arguments
        self.model = lib.llama_model_load_from_file(str(path).encode(), lib.llama_model_default_params())
        assert self.model, f"llama.cpp does not load `{path}`"
        params = lib.llama_context_default_params()
        # The layout is this version's: batches of 2048 in parts of 512, a cache in F16.
        seen = (params.n_ctx, params.n_batch, params.n_ubatch, params.n_seq_max, params.flash_attn_type, params.type_k, params.type_v)
        assert seen == (512, 2048, 512, 1, -1, 1, 1), seen
        params.n_ctx = params.n_batch = params.n_ubatch = longest
        params.n_threads = params.n_threads_batch = threads
        params.flash_attn_type = params.type_k = params.type_v = 0
        self.context = lib.llama_init_from_model(self.model, params)
        assert self.context, "llama.cpp makes no context"
        self.vocabulary = lib.llama_vocab_n_tokens(lib.llama_model_get_vocab(self.model))
        self.batch = lib.llama_batch_init(longest, 0, 1)

    def logits(self, tokens):
        self.lib.llama_memory_clear(self.lib.llama_get_memory(self.context), True)
        self.batch.n_tokens = len(tokens)
        for index, token in enumerate(tokens):
            self.batch.token[index], self.batch.pos[index] = token, index
            self.batch.n_seq_id[index], self.batch.seq_id[index][0], self.batch.logits[index] = 1, 0, 1
        code = self.lib.llama_decode(self.context, self.batch)
        assert code == 0, f"llama_decode returned {code}"
        rows = (self.lib.llama_get_logits_ith(self.context, index) for index in range(len(tokens)))
        return b"".join(ctypes.string_at(row, 4 * self.vocabulary) for row in rows)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path, help="a GGUF file")
    parser.add_argument("tokens", type=Path)
    parser.add_argument("logits", type=Path)
    parser.add_argument("--threads", type=int, default=1, help="one does not wait for another at barriers [default: 1]")
    parser.add_argument("--node-modules", type=Path)
    args = parser.parse_args()
    modules = args.node_modules or node_modules(False)
    require_node_modules(modules)
    require_paths(args.model, args.tokens)
    sequences = read_tokens(args.tokens)
    longest = max(map(len, sequences))
    model = Model(llama_cpp(modules), args.model, longest, args.threads)
    write_logits(args.logits, args.model, sequences, model.vocabulary, model.logits)


if __name__ == "__main__":
    main()
