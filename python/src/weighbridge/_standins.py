"""Stand-ins for the modules that the frameworks import and that need a GPU, each with the plain equation in its place."""
import importlib.machinery
import logging
import os
import sys
import types
import warnings

os.environ.setdefault("TRITON_INTERPRET", "1")  # "0" where a GPU runs the kernels themselves
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


def up(x):
    """At least float32, in which the kernels accumulate."""
    return x if x.dtype == torch.float64 else x.float()


def windowed_attention(q, k, v, causal=True, window_size=(-1, -1), softmax_scale=None, **_):
    """flash_attn_func's contract: [B, T, H, d]; window (w, 0) sees w keys before its own."""
    g = q.shape[2] // k.shape[2]
    k, v = k.repeat_interleave(g, 2), v.repeat_interleave(g, 2)
    s = torch.einsum("bqhd,bkhd->bhqk", up(q), up(k)) * (softmax_scale or q.shape[-1] ** -0.5)
    i, j = torch.arange(q.shape[1], device=q.device)[:, None], torch.arange(k.shape[1], device=q.device)[None]
    dead = j > i
    if window_size[0] >= 0:
        dead = dead | (j < i - window_size[0])
    return torch.einsum("bhqk,bkhd->bqhd", s.masked_fill(dead, -torch.inf).softmax(-1), up(v)).to(q.dtype)


class RMSNorm(nn.Module):
    def __init__(self, dim, eps=1e-5, device=None, dtype=None, **_):
        super().__init__()
        self.weight, self.eps = nn.Parameter(torch.ones(dim)), eps

    def forward(self, x):
        y = up(x)
        return (y * torch.rsqrt(y.pow(2).mean(-1, keepdim=True) + self.eps) * up(self.weight)).to(x.dtype)


class GatedNorm(RMSNorm):
    def forward(self, x, g):
        return (super().forward(up(x)) * nnf.silu(up(g))).to(x.dtype)


class SwiGLU(nn.Module):
    """xformers' module with _pack_weights=False: w3(silu(w1 x) * w2 x)."""

    def __init__(self, d, hidden, bias=True, **_):
        super().__init__()
        self.w1, self.w2, self.w3 = nn.Linear(d, hidden, bias=bias), nn.Linear(d, hidden, bias=bias), nn.Linear(hidden, d, bias=bias)

    def forward(self, x):
        return self.w3(nnf.silu(self.w1(x)) * self.w2(x))


def causal_conv(x, weight, bias=None, activation=None, **_):
    """[B, C, T], weight [C, W]."""
    y = nnf.conv1d(nnf.pad(x, (weight.shape[1] - 1, 0)), weight[:, None], bias, groups=weight.shape[0])
    return nnf.silu(y) if activation else y


def scan(u, delta, A, B, C, D=None, z=None, delta_bias=None, delta_softplus=False, return_last_state=None, **_):
    """u, delta [B, E, T]; A [E, N]; B, C [B, N, T]."""
    dtype, (u, delta, A, B, C) = u.dtype, map(up, (u, delta, A, B, C))
    delta = nnf.softplus(delta + delta_bias[:, None]) if delta_softplus else delta + delta_bias[:, None]
    h, out = u.new_zeros(u.shape[0], *A.shape), []
    for t in range(u.shape[2]):
        h = torch.exp(delta[:, :, t, None] * A) * h + (delta[:, :, t] * u[:, :, t])[..., None] * B[:, None, :, t]
        out.append((h * C[:, None, :, t]).sum(-1))
    y = torch.stack(out, 2) + (0 if D is None else u * D[:, None])
    return (y if z is None else y * nnf.silu(up(z))).to(dtype)


def mamba_inner(xz, conv, conv_bias, x_proj, dt_proj, out, out_bias, A, B, C, D, delta_bias=None, delta_softplus=True, **_):
    x, z = xz.chunk(2, 1)
    x = causal_conv(x, conv[:, 0], conv_bias, "silu")
    d, B, C = nnf.linear(x.transpose(1, 2), x_proj).split([dt_proj.shape[1], A.shape[1], A.shape[1]], -1)
    y = scan(x, nnf.linear(d, dt_proj).transpose(1, 2), A, B.transpose(1, 2), C.transpose(1, 2), D, z, delta_bias, delta_softplus)
    return nnf.linear(y.transpose(1, 2), out, out_bias)


def gla(q, k, v, g, **_):
    """[B, H, T, d]; g the logarithm of the decay."""
    dtype, (q, k, v, g) = v.dtype, map(up, (q, k, v, g))
    S, out = q.new_zeros(*q.shape[:2], q.shape[3], v.shape[3]), []
    for t in range(q.shape[2]):
        S = torch.exp(g[:, :, t, :, None]) * S + k[:, :, t, :, None] * v[:, :, t, None]
        out.append(torch.einsum("bhk,bhkv->bhv", q[:, :, t] * q.shape[3] ** -0.5, S))
    return torch.stack(out, 2).to(dtype), None


def retention(q, k, v, **_):
    g = torch.log(1 - 2.0 ** (-5 - torch.arange(q.shape[1], dtype=up(q).dtype, device=q.device)))
    return gla(q, k, v, g[None, :, None, None].expand(q.shape))


def rotate(x1, x2, cos, sin, o1, o2, conj):
    """rotary_emb.apply_rotary, with float32 arithmetic on the table as given."""
    cos, sin, x1, x2 = map(up, (cos, sin, x1, x2))
    a, b = x1 * cos - x2 * sin, x1 * sin + x2 * cos
    o1.copy_(a)
    o2.copy_(b)


class OnCPU(torch.overrides.TorchFunctionMode):
    """What asks for a GPU gets the CPU, or another device."""

    def __init__(self, device="cpu"):
        super().__init__()
        self.device = device

    def __torch_function__(self, f, types_, args=(), kwargs=None):
        kwargs = dict(kwargs or {})
        if str(kwargs.get("device", "")).startswith("cuda"):
            kwargs["device"] = self.device
        return f(*args, **kwargs)


def fla():
    module("flash_attn", flash_attn_func=windowed_attention, flash_attn_varlen_func=None)
    if os.environ["TRITON_INTERPRET"] == "1":
        first_configuration()
    import fla.models  # noqa: F401
    import transformers
    transformers.utils.logging.disable_progress_bar()
    transformers.utils.logging.set_verbosity_error()


def first_configuration():
    """Autotuning times kernels, which an interpreter cannot."""
    from triton.runtime import autotuner

    def run(self, *a, **k):
        c = self.configs[0]
        self.nargs = dict(zip(self.arg_names, a))
        return self.fn.run(*a, **k, **c.all_kwargs())
    autotuner.Autotuner.run = run


def samba(checkout):
    """microsoft/Samba's lit_gpt from a checkout."""
    module("lightning_utilities"), module("lightning_utilities.core")
    module("lightning_utilities.core.imports", RequirementCache=lambda *a, **k: True)
    module("lightning"), module("lightning.fabric"), module("lightning.fabric.loggers", CSVLogger=object)
    module("xformers"), module("xformers.ops", SwiGLU=SwiGLU)
    module("rotary_emb", apply_rotary=rotate), module("xentropy_cuda_lib"), module("dropout_layer_norm")
    module("causal_conv1d", causal_conv1d_fn=causal_conv, causal_conv1d_update=None)
    for n in ("mamba_ssm", "mamba_ssm.ops", "mamba_ssm.ops.triton"):
        module(n)
    module("mamba_ssm.ops.selective_scan_interface", selective_scan_fn=scan, mamba_inner_fn=mamba_inner)
    module("mamba_ssm.ops.triton.layernorm", RMSNorm=RMSNorm, layer_norm_fn=None, rms_norm_fn=None)
    module("mamba_ssm.ops.triton.layer_norm", RMSNorm=RMSNorm, layer_norm_fn=None, rms_norm_fn=None)
    module("mamba_ssm.ops.triton.selective_state_update", selective_state_update=None)
    import fla.modules
    import fla.ops.gla
    import fla.ops.retention
    fla.modules.FusedRMSNormSwishGate = GatedNorm
    for ops, f, names in ((fla.ops.gla, gla, "chunk_gla fused_chunk_gla fused_recurrent_gla"),
                          (fla.ops.retention, retention, "chunk_retention fused_chunk_retention fused_recurrent_retention parallel_retention")):
        for n in names.split():
            if not hasattr(ops, n):
                setattr(ops, n, f)
    if not hasattr(torch.serialization, "normalize_storage_type"):
        torch.serialization.normalize_storage_type = None
    sys.path.insert(0, checkout)
    import lit_gpt.rmsnorm
    lit_gpt.rmsnorm.FusedRMSNorm = RMSNorm
    import lit_gpt.gla
    import lit_gpt.mega
    import lit_gpt.model
    import lit_gpt.multiscale_retention
    lit_gpt.mega.FusedRMSNorm = RMSNorm
    lit_gpt.gla.fused_chunk_gla = gla
    lit_gpt.multiscale_retention.fused_chunk_retention = retention

    def attend(self, q, k, v, mask=None):
        w = self.config.local_window
        return windowed_attention(q, k, v, window_size=(w - 1, 0) if self.local and w > -1 else (-1, -1))
    lit_gpt.model.CausalSelfAttention.scaled_dot_product_attention = attend
    forget()
    return lit_gpt


def torchscale(checkout):
    """microsoft/torchscale's RetNet from a checkout."""
    module("fairscale"), module("fairscale.nn", checkpoint_wrapper=None, wrap=lambda x: x)
    module("timm"), module("timm.models"), module("timm.models.layers", drop_path=lambda x, *a: x)
    sys.path.insert(0, checkout)
    import torchscale.architecture.config as C
    import torchscale.architecture.retnet as R
    return C.RetNetConfig, R.RetNetDecoder


def mamba(checkout):
    """state-spaces' mamba_ssm from a checkout: its names and shapes; Mamba-1 without attention also runs."""
    module("selective_scan_cuda"), module("causal_conv1d", causal_conv1d_fn=causal_conv, causal_conv1d_update=None)
    module("causal_conv1d.cpp_functions", causal_conv1d_fwd_function=None, causal_conv1d_bwd_function=None, causal_conv1d_update_function=None)
    module("causal_conv1d.causal_conv1d_varlen", causal_conv1d_varlen_states=None)
    sys.modules["flash_attn"].flash_attn_with_kvcache = None
    module("flash_attn.layers"), module("flash_attn.layers.rotary", RotaryEmbedding=lambda *a, **k: nn.Identity())
    module("mamba_ssm").__path__ = [os.path.join(checkout, "mamba_ssm")]
    from mamba_ssm.models.config_mamba import MambaConfig
    import mamba_ssm.models.mixer_seq_simple as models
    import mamba_ssm.modules.block as block
    import mamba_ssm.modules.mamba_simple as mixer
    mixer.selective_scan_fn, mixer.mamba_inner_fn = scan, mamba_inner
    models.RMSNorm = block.RMSNorm = RMSNorm
    forget()
    return MambaConfig, models.MambaLMHeadModel


def berlino(checkout):
    """berlino's gated_linear_attention from a checkout."""
    import fla.ops.gla
    kept = {n: getattr(fla.ops.gla, n) for n in ("fused_chunk_gla", "chunk_gla", "fused_recurrent_gla") if hasattr(fla.ops.gla, n)}
    for n in ("fused_chunk_gla", "chunk_gla", "fused_recurrent_gla"):
        setattr(fla.ops.gla, n, lambda q, k, v, g, **_: gla(q, k, v, g)[0])
    sys.path.insert(0, checkout)
    import gla_model
    for n, f in kept.items():
        setattr(fla.ops.gla, n, f)
    return gla_model.GLAConfig, gla_model.GLAForCausalLM


def forget():
    """So that transformers does not take the stand-ins for fast kernels."""
    for n in [n for n in sys.modules if n.split(".")[0] in ("mamba_ssm", "causal_conv1d", "selective_scan_cuda")]:
        del sys.modules[n]


fla()
