"""A result loaded by the target framework's own class, strictly, and run."""
import glob
import os

import torch

from . import files as F
from . import standins


def auto(folder):
    """transformers (with fla's classes registered) of an hf or fla folder; complaints instead of a model when it is not strict."""
    import transformers
    c = F.config(folder)
    name = c["architectures"][0]
    if c["_layout"] == "fla":
        import fla.models as X
        cls = getattr(X, name)
    else:
        cls = getattr(transformers, name)
    m, info = cls.from_pretrained(folder, output_loading_info=True, dtype=torch.float32)
    bad = [f"{k}: {sorted(map(str, v))[:4]}" for k, v in info.items() if v]
    return m.eval(), bad
