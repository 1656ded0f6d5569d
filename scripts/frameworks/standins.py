"""Stand-ins for the modules that the frameworks import and that need a GPU, each with the plain equation in its place."""
import importlib.machinery
import logging
import os
import sys
import types
import warnings

os.environ["TRITON_INTERPRET"] = "1"
warnings.filterwarnings("ignore")
logging.disable(logging.WARNING)

import torch  # noqa: E402
import torch.nn as nn  # noqa: E402
import torch.nn.functional as nnf  # noqa: E402


def module(name, **names):
    m = types.ModuleType(name)
    m.__spec__ = importlib.machinery.ModuleSpec(name, None, is_package=True)
    m.__path__ = []
    m.__version__ = "2.7.0"
    for k, v in names.items():
        setattr(m, k, v)
    sys.modules[name] = m
    parent, _, leaf = name.rpartition(".")
    if parent in sys.modules:
        setattr(sys.modules[parent], leaf, m)
    return m


def windowed_attention(q, k, v, causal=True, window_size=(-1, -1), softmax_scale=None, **_):
    """flash_attn_func's contract: [B, T, H, d]; window (w, 0) sees w keys before its own."""
    g = q.shape[2] // k.shape[2]
    k, v = k.repeat_interleave(g, 2), v.repeat_interleave(g, 2)
    s = torch.einsum("bqhd,bkhd->bhqk", q.float(), k.float()) * (softmax_scale or q.shape[-1] ** -0.5)
    i, j = torch.arange(q.shape[1])[:, None], torch.arange(k.shape[1])[None]
    dead = j > i
    if window_size[0] >= 0:
        dead = dead | (j < i - window_size[0])
    return torch.einsum("bhqk,bkhd->bqhd", s.masked_fill(dead, -torch.inf).softmax(-1), v.float()).to(q.dtype)


def fla():
    module("flash_attn", flash_attn_func=windowed_attention, flash_attn_varlen_func=None)
    from triton.runtime import autotuner

    def run(self, *a, **k):
        c = self.configs[0]
        self.nargs = dict(zip(self.arg_names, a))
        return self.fn.run(*a, **k, **c.all_kwargs())
    autotuner.Autotuner.run = run
    import fla.models  # noqa: F401
    import transformers
    transformers.utils.logging.disable_progress_bar()
    transformers.utils.logging.set_verbosity_error()


fla()
