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


def widened():
    """In float64 also what PyTorch code casts to float32 inside."""
    class Float64(torch.overrides.TorchFunctionMode):
        def __torch_function__(self, f, types_, args=(), kwargs=None):
            wide = lambda x: torch.float64 if x is torch.float32 else x  # noqa: E731
            if f is torch.Tensor.float:
                return args[0].double()
            return f(*(wide(x) for x in args), **{k: wide(v) for k, v in (kwargs or {}).items()})
    return Float64()


class Unrounded(torch.overrides.TorchFunctionMode):
    """ArchScale casts what its norms give to bfloat16, whatever type it runs in: here it stays."""

    def __torch_function__(self, f, types_, args=(), kwargs=None):
        return args[0] if f is torch.Tensor.bfloat16 else f(*args, **(kwargs or {}))


class GateFirst(RMSNorm):
    """mamba_ssm's gated norm with norm_before_gate=False, in one group."""

    def forward(self, x, z=None):
        return super().forward(x if z is None else up(x) * nnf.silu(up(z))).to(x.dtype)


def chunk_scan(x, dt, A, B, C, chunk_size=None, D=None, z=None, dt_bias=None, dt_softplus=False, **_):
    """Mamba-2's: x [B, T, H, P], dt [B, T, H], A [H], B, C [B, T, G, N]."""
    dtype, (x, dt, A, B, C) = x.dtype, map(up, (x, dt, A, B, C))
    dt = nnf.softplus(dt + dt_bias) if dt_softplus else dt + dt_bias
    B, C = (t.repeat_interleave(x.shape[2] // t.shape[2], 2) for t in (B, C))
    S, out = 0, []
    for t in range(x.shape[1]):
        S = torch.exp(dt[:, t] * A)[..., None, None] * S + (dt[:, t, :, None] * x[:, t])[..., None] * B[:, t, :, None]
        out.append((S * C[:, t, :, None]).sum(-1))
    y = torch.stack(out, 1) + (0 if D is None else D[:, None] * x)
    return (y if z is None else y * nnf.silu(up(z))).to(dtype)


def split_conv_scan(zxbcdt, conv, conv_bias, dt_bias, A, D, chunk_size, rmsnorm_weight=None, rmsnorm_eps=1e-6, outproj_weight=None, outproj_bias=None,
                    headdim=None, ngroups=1, **_):
    """Mamba-2's whole mixer behind its input projection."""
    heads = A.shape[0]
    e = heads * headdim
    n = (conv.shape[0] - e) // 2 // ngroups
    z, x, dt = zxbcdt.split([e, e + 2 * ngroups * n, heads], -1)
    x, B, C = causal_conv(x.transpose(1, 2), conv, conv_bias, "silu").transpose(1, 2).split([e, ngroups * n, ngroups * n], -1)
    y = chunk_scan(x.unflatten(-1, (heads, headdim)), dt, A, B.unflatten(-1, (ngroups, n)), C.unflatten(-1, (ngroups, n)), D=D, dt_bias=dt_bias, dt_softplus=True)
    y = up(y.flatten(2)) * nnf.silu(up(z))
    y = y * torch.rsqrt(y.pow(2).mean(-1, keepdim=True) + rmsnorm_eps) * up(rmsnorm_weight)
    return nnf.linear(y.to(zxbcdt.dtype), outproj_weight, outproj_bias)


def archscale(checkout):
    """microsoft/ArchScale's lit_gpt of 2026 from a checkout: Config and GPT. What July 2025 wrote is separate_qkv=False here."""
    for name in [n for n in sys.modules if n == "utils" or n.split(".")[0] == "lit_gpt"]:
        del sys.modules[name]
    module("utils", torch_default_init=lambda x: None)
    module("transformer_engine"), module("transformer_engine.pytorch", GroupedLinear=nn.Linear)
    module("flash_attn.flash_attn_interface", flash_attn_func=windowed_attention, flash_attn_varlen_func=windowed_attention)
    module("causal_conv1d", causal_conv1d_fn=causal_conv, causal_conv1d_update=None)
    for n in ("mamba_ssm", "mamba_ssm.ops", "mamba_ssm.ops.triton", "mamba_ssm.distributed"):
        module(n)
    module("mamba_ssm.ops.triton.layernorm_gated", RMSNorm=GateFirst)
    module("mamba_ssm.ops.triton.ssd_combined", mamba_chunk_scan_combined=chunk_scan, mamba_split_conv1d_scan_combined=split_conv_scan)
    module("mamba_ssm.distributed.tensor_parallel", ColumnParallelLinear=None, RowParallelLinear=None)
    module("mamba_ssm.distributed.distributed_utils", all_reduce=None, reduce_scatter=None)
    package = module("lit_gpt")
    package.__path__ = [os.path.join(checkout, "lit_gpt")]
    # What the dense models do not use, and what is a kernel.
    module("lit_gpt.moe", MoE=None, get_moe=None), module("lit_gpt.delta_net", DeltaNet=None), module("lit_gpt.gla", GatedLinearAttention=None)
    module("lit_gpt.multiscale_retention", MultiScaleRetention=None), module("lit_gpt.gated_deltanet", GatedDeltaNet=None)
    module("lit_gpt.mega", S6GatedAttention=None), module("lit_gpt.relu2_attn_glu", Relu2Attention=None, Relu2MLP=None)
    module("lit_gpt.layer_configurator", LayerConfigurator=None)
    module("lit_gpt.rmsnorm", RMSNorm=RMSNorm, FusedRMSNorm=RMSNorm)
    module("lit_gpt.ops"), module("lit_gpt.ops.layernorm_gated", RMSNorm=GateFirst)
    module("lit_gpt.triton_sequential_scan", triton_selective_scan_sequential=None)
    module("lit_gpt.selective_scan_interface", selective_scan_fn=scan,
           mamba_inner_fn=lambda xz, conv, conv_bias, *a, **k: mamba_inner(xz, conv, conv_bias, *a, **k))
    module("lit_gpt.bert_padding", pad_input=None, unpad_input=None)
    module("lit_gpt.utils", find_multiple=lambda n, k: -(-n // k) * k)

    def turn(x, cos, sin, interleaved=False, inplace=False):
        d, dtype = 2 * cos.shape[-1], x.dtype
        c, s = up(cos)[None, :, None].to(up(x).dtype), up(sin)[None, :, None].to(up(x).dtype)
        a, b = up(x)[..., :d].chunk(2, -1)
        return torch.cat([a * c - b * s, a * s + b * c, up(x)[..., d:]], -1).to(dtype)
    module("lit_gpt.fused_rotary_embedding", apply_rotary_emb_func=turn)
    kept = torch.compile, torch.compiler.disable, torch.cuda.get_device_capability, torch.cuda.jiterator._create_jit_fn, torch.cuda.jiterator._create_multi_output_jit_fn
    forward = lambda code, **_: (lambda x, y: torch.sigmoid(x) * (y if "glu_fwd(T x, T y) {\n    float" in code else x * y))
    torch.compile = lambda f=None, **_: f if callable(f) else (lambda g: g)
    torch.compiler.disable = lambda f=None, **_: f if callable(f) else (lambda g: g)
    torch.cuda.get_device_capability = lambda *a: (8, 0)
    torch.cuda.jiterator._create_jit_fn = forward
    torch.cuda.jiterator._create_multi_output_jit_fn = lambda *a, **k: None
    try:
        path = os.path.join(checkout, "lit_gpt", "diff_attn.py")
        m = module("lit_gpt.diff_attn")
        # It insists on a GPU and a half type.
        text = "\n".join(line for line in open(path) if "assert q." not in line)
        exec(compile(text, path, "exec"), m.__dict__)
        import lit_gpt.model as model
        from lit_gpt.config import Config
    finally:
        torch.compile, torch.compiler.disable, _, torch.cuda.jiterator._create_jit_fn, torch.cuda.jiterator._create_multi_output_jit_fn = kept
    import lit_gpt.attention as attention
    tables = attention.build_rope_cache

    def as_written(*a, **k):
        with torch._C.DisableTorchFunction():
            return tables(*a, **k)
    model.build_rope_cache = attention.build_rope_cache = as_written
    forget()
    return Config, model.GPT


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
