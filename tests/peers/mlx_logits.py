"""Logits of mlx-lm with an adapter, for `adapters.py`: run by the Python that has it.

    python mlx_logits.py MODEL ADAPTER TOKENS.json LOGITS.npy
"""

import json
import sys
from pathlib import Path

import mlx.core as mx
import numpy as np
from mlx_lm.tuner.utils import load_adapters
from mlx_lm.utils import load_model


def main():
    folder, adapter, tokens, to = sys.argv[1:]
    mx.set_default_device(mx.cpu)
    model, _ = load_model(Path(folder))
    model = load_adapters(model, adapter)
    model.eval()
    logits = [np.array(model(mx.array([ids]))[0].astype(mx.float32)) for ids in json.loads(Path(tokens).read_text())]
    np.save(to, np.concatenate(logits))


if __name__ == "__main__":
    main()
