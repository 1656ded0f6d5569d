"""Writes Fixtures/mixers/<kind>__<variant>.safetensors: one residual sub-layer each, in float64.

    python3 Fixtures/generate/mixers.py [NAME...]        (torch 2, safetensors)

Tensors: the pieces by role (model pieces as "model.<role>"), `input` [B, T, D], the residual stream
entering the sub-layer, and `output`, the stream leaving it. Metadata: `kind`, `attributes` and
`self_extend` as JSON. Where the sub-layer reads what an earlier one leaves, that one stands before it:
its pieces are "before.<role>", its kind and attributes `before_kind` and `before_attributes`. The equations are those of the papers and of the modules named in the Swift
files, written once more as plain recurrences, with no code in common with the engine.
"""
import json
import math
import pathlib
import sys

import torch
import torch.nn.functional as F
from safetensors.torch import save_file

OUT = pathlib.Path(__file__).resolve().parent.parent / "mixers"
f64 = torch.float64
torch.set_default_dtype(f64)


def rms(x, w, eps):
    y = x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + eps)
    return y if w is None else y * w


def layer(x, w, b, eps):
    return F.layer_norm(x, (x.shape[-1],), w, b, eps)


class Pieces(dict):
    """Random pieces, made when first asked for; a linear map of n inputs is scaled by n^-0.5."""

    def __init__(self, seed):
        super().__init__()
        self.rng = torch.Generator().manual_seed(seed)

    def normal(self, *shape, scale=1.0, shift=0.0):
        return torch.randn(*shape, generator=self.rng) * scale + shift

    def matrix(self, role, rows, columns, gain=1.0):
        return self.setdefault(role, self.normal(rows, columns, scale=gain * columns**-0.5))

    def vector(self, role, *shape, scale=0.5, shift=0.0):
        return self.setdefault(role, self.normal(*shape, scale=scale, shift=shift))

    def linear(self, x, name, rows, bias=False, gain=1.0):
        b = self.vector(name + ".bias", rows) if bias else None
        return F.linear(x, self.matrix(name + ".weight", rows, x.shape[-1], gain), b)

    def conv(self, x, name, width, bias, act=F.silu):
        """SiLU of the causal depthwise convolution of x [B, T, C]; `act` in SiLU's place."""
        c = x.shape[-1]
        w = self.vector(name + ".weight", c, width)
        b = self.vector(name + ".bias", c) if bias else None
        y = F.conv1d(F.pad(x.transpose(1, 2), (width - 1, 0)), w[:, None], b, groups=c)
        return act(y.transpose(1, 2))


def selective_scan(u, dt, A, B, C, D):
    h = u.new_zeros(u.shape[0], u.shape[2], A.shape[1])
    out = []
    for t in range(u.shape[1]):
        h = torch.exp(dt[:, t, :, None] * A) * h + (dt[:, t] * u[:, t])[:, :, None] * B[:, t, None, :]
        out.append((h * C[:, t, None, :]).sum(-1))
    return torch.stack(out, 1) + u * D


def ssm(p, u, a, eps=None, weights=False):
    e, n, r = u.shape[-1], a["d_state"], a["dt_rank"]
    dt, B, C = p.linear(u, "x_dt", r), p.linear(u, "x_b", n), p.linear(u, "x_c", n)
    if eps is not None:
        weight = lambda n, k: p.vector(f"{n}_norm.weight", k, shift=1) if weights else None
        dt, B, C = rms(dt, weight("x_dt", r), eps), rms(B, weight("x_b", n), eps), rms(C, weight("x_c", n), eps)
    dt = F.softplus(p.linear(dt, "dt", e, bias=True))
    A = -torch.exp(p.vector("a_log", e, n))
    return selective_scan(u, dt, A, B, C, p.vector("d", e))


def mamba(p, x, a, biases=False, conv_bias=True, jamba=False):
    e = a["d_inner"]
    u = p.conv(p.linear(x, "in_x", e, biases), "conv", a["d_conv"], conv_bias)
    p.left = ssm(p, u, a, a.get("bcdt_norm_eps"), jamba)
    y = p.left * F.silu(p.linear(x, "in_z", e, biases))
    return p.linear(y, "out", x.shape[-1], biases)


def mamba2(p, x, a, biases=False, conv_bias=True):
    e, n, nh, hd, g = a["d_inner"], a["d_state"], a["n_heads"], a["head_dim"], a["n_groups"]
    bsz, T, _ = x.shape
    x = x * (a.get("input_scale") or 1.0)
    fz, fx, fb, fc, fdt = a.get("in_scales") or [1.0] * 5
    z = fz * p.linear(x, "in_z", e, biases)
    u = p.conv(fx * p.linear(x, "in_x", e, biases), "conv_x", a["d_conv"], conv_bias).unflatten(-1, (nh, hd))
    B = p.conv(fb * p.linear(x, "in_b", g * n, biases), "conv_b", a["d_conv"], conv_bias).unflatten(-1, (g, n))
    C = p.conv(fc * p.linear(x, "in_c", g * n, biases), "conv_c", a["d_conv"], conv_bias).unflatten(-1, (g, n))
    B, C = B.repeat_interleave(nh // g, 2), C.repeat_interleave(nh // g, 2)
    dt = F.softplus(fdt * p.linear(x, "in_dt", nh, biases) + p.vector("dt.bias", nh))
    dt = dt.clamp(max(a.get("dt_min", 0.0), a.get("dt_floor") or 0.0), a.get("dt_max") or math.inf)
    A = -torch.exp(p.vector("a_log", nh))
    S = x.new_zeros(bsz, nh, hd, n)
    out = []
    for t in range(T):
        S = torch.exp(dt[:, t] * A)[..., None, None] * S + (dt[:, t, :, None] * u[:, t])[..., None] * B[:, t, :, None]
        out.append(torch.einsum("bhdn,bhn->bhd", S, C[:, t]))
    D = p.vector("d", e).view(nh, hd) if a.get("d_has_hdim") else p.vector("d", nh)[:, None]
    y = (torch.stack(out, 1) + D * u).flatten(2)
    p.left = y
    norm = lambda v: (rms(v.unflatten(-1, (g, -1)), None, a["gated_norm_eps"]).flatten(2) * p.vector("gated_norm.weight", e, shift=1))
    if a.get("gated_norm") == "none":
        y = y * F.silu(z)
    elif a.get("norm_before_gate"):
        y = norm(y) * F.silu(z)
    else:
        y = norm(y * F.silu(z))
    return p.linear(y, "out", x.shape[-1], biases)


def frequencies(a, d):
    base = a["rope_base"]
    inv = 1.0 / base ** (torch.arange(0, d, 2, dtype=f64) / d)
    s = a.get("rope_scaling")
    scale = 1.0
    if s and s.get("rope_type", s.get("type")) == "linear":
        inv = inv / s["factor"]
    elif s and s["rope_type"] == "llama3":  # transformers, modeling_rope_utils.py
        low, high, old = s["low_freq_factor"], s["high_freq_factor"], s["original_max_position_embeddings"]
        wavelen = 2 * math.pi / inv
        smooth = (old / wavelen - low) / (high - low)
        mixed = (1 - smooth) * inv / s["factor"] + smooth * inv
        inv = torch.where(wavelen > old / low, inv / s["factor"], torch.where(wavelen < old / high, inv, mixed))
    elif s and s["rope_type"] == "yarn":
        old, factor = s["original_max_position_embeddings"], s["factor"]
        turns = lambda n: d * math.log(old / (n * 2 * math.pi)) / (2 * math.log(base))
        low, high = max(math.floor(turns(s.get("beta_fast", 32))), 0), min(math.ceil(turns(s.get("beta_slow", 1))), d - 1)
        ramp = ((torch.arange(d // 2, dtype=f64) - low) / max(high - low, 0.001)).clamp(0, 1)
        inv = inv / factor * ramp + inv * (1 - ramp)
        scale = 0.1 * math.log(factor) + 1
    return inv, scale


def rotate(x, pos, inv, scale=1.0):
    """Half-split rotation of the first 2 * len(inv) channels of x [B, T, H, d]."""
    d = 2 * len(inv)
    angle = torch.outer(pos.to(f64), inv)
    c, s = angle.cos()[None, :, None] * scale, angle.sin()[None, :, None] * scale
    u, v = x[..., :d].chunk(2, -1)
    return torch.cat([u * c - v * s, u * s + v * c, x[..., d:]], -1)


def rotate_lit(x, base, factor, scaling=None, dim=None):
    """lit_gpt's build_rope_cache: angles in float32, tables in bfloat16; ArchScale's YaRN with an unrounded ramp."""
    d, T = dim or x.shape[-1], x.shape[1]
    theta = 1.0 / (base ** (torch.arange(0, d, 2, dtype=torch.float32) / d))
    scale = 1.0
    if scaling:
        f, old = scaling["factor"], scaling["original_max_position_embeddings"]
        scale = 0.1 * math.log(f) + 1
        low, high = (d / 2 * math.log(old / (n * 2 * math.pi)) / math.log(base) for n in (32, 1))
        kept = 1 - ((torch.arange(d // 2, dtype=torch.float32) - low) / (high - low)).clamp(0, 1)
        theta = 1.0 / (f * base ** (torch.arange(0, d, 2, dtype=torch.float32) / d)) * (1 - kept) + theta * kept
    angle = torch.outer(torch.arange(T, dtype=torch.float32) / factor, theta)
    c, s = (angle.cos() * scale).bfloat16().to(f64)[None, :, None], (angle.sin() * scale).bfloat16().to(f64)[None, :, None]
    u, v = x[..., :d].chunk(2, -1)
    return torch.cat([u * c - v * s, u * s + v * c, x[..., d:]], -1)


def inner_norm(p, y, a, name):
    kind = a.get(name)
    if kind is None:
        return y
    w = p.vector(name + ".weight", y.shape[-1], shift=1)
    if kind == "scale":
        return y * w
    return layer(y, w, p.vector(name + ".bias", y.shape[-1]), a[name + "_eps"]) if kind == "layer" else rms(y, w, a[name + "_eps"])


def several_heads(p, n, q, k, v, a):
    """Attention of turned q [B, T, H, d], k, v [B, T, G, d], with what ArchScale puts behind it; n is the normed input."""
    H, d, T = q.shape[2], q.shape[3], q.shape[1]
    dist = torch.arange(T)[:, None] - torch.arange(T)[None]
    dead = (dist < 0) | (dist >= (a.get("window") or T))

    def softmax(q, k, v):
        k, v = (t.repeat_interleave(q.shape[2] // t.shape[2], 2) for t in (k, v))
        s = torch.einsum("bqhd,bkhd->bhqk", q, k) * (a.get("scale") or d**-0.5)
        return torch.einsum("bhqk,bkhd->bqhd", s.masked_fill(dead, -math.inf).softmax(-1), v)

    if a.get("lambda_init") is None:
        o = softmax(q, k, v)
    else:  # pairs of neighbouring heads
        f = a["lambda_init"]
        dots = [torch.exp((p.vector("lambda_q" + i, d, scale=0.4) * p.vector("lambda_k" + i, d, scale=0.4)).sum()) for i in "12"]
        both = torch.cat([v[:, :, 0::2], v[:, :, 1::2]], -1)
        o = softmax(q[:, :, 0::2], k[:, :, 0::2], both) - (dots[0] - dots[1] + f) * softmax(q[:, :, 1::2], k[:, :, 1::2], both)
        o = (1 - f) * rms(o, p.vector("pair_norm.weight", 2 * d, shift=1), a.get("pair_norm_eps") or 1e-5)
        o = o.unflatten(-1, (2, d)).flatten(2, 3)
    if a.get("head_gate"):
        o = o * torch.sigmoid(p.linear(n, "gate", H, True))[..., None]
    p.left = o.flatten(2)
    return p.linear(inner_norm(p, p.left, a, "out_norm"), "o", n.shape[-1], True)


def turned(t, a):
    if a.get("rope_base") is None:
        return t
    return rotate_lit(t, a["rope_base"], a.get("rope_factor", 1.0), a.get("rope_scaling"), a.get("rope_dim"))


def archscale_attention(p, x, a, biases=True):
    q, k, v = (p.linear(x, n, h * a["head_dim"], biases).unflatten(-1, (h, -1))
               for n, h in (("q", a["n_heads"]), ("k", a["n_kv_heads"]), ("v", a["n_kv_heads"])))
    if a.get("qk_norm_eps"):
        q, k = (rms(t, p.vector(f"{n}_norm.weight", a["head_dim"], shift=1), a["qk_norm_eps"]) for t, n in ((q, "q"), (k, "k")))
    p.keys = turned(k, a), v
    return several_heads(p, x, turned(q, a), *p.keys, a)


def cross_attention(p, x, a, before, biases=True):
    q = turned(p.linear(x, "q", a["n_heads"] * a["head_dim"], biases).unflatten(-1, (a["n_heads"], -1)), a)
    return several_heads(p, x, q, *before.keys, a)


def gmu(p, x, a, before, biases=False):
    y = F.silu(p.linear(x, "in", a["d_memory"], biases)) * before.left
    if a.get("memory_norm_eps"):
        y = rms(y, p.vector("memory_norm.weight", a["d_memory"], shift=1), a["memory_norm_eps"])
    return p.linear(y, "out", x.shape[-1], biases)


def attention(p, x, a, biases=False, self_extend=None):
    if set(a) & {"lambda_init", "head_gate", "out_norm", "scale", "shares_kv", "saves_memory"} or "factor" in (a.get("rope_scaling") or {}) and a.get("rope_table") == "bfloat16":
        return archscale_attention(p, x, a, biases)
    H, G, d = a["n_heads"], a["n_kv_heads"], a["head_dim"]
    T = x.shape[1]
    x = x * (a.get("input_scale") or 1.0)
    q, k, v = (p.linear(x, n, h * d, biases) for n, h in (("q", H), ("k", G), ("v", G)))
    k = k * (a.get("k_scale") or 1.0)
    if a.get("d_conv"):
        plain = a.get("conv_activation") is False
        q, k, v = (p.conv(t, n + "_conv", a["d_conv"], plain, (lambda t: t) if plain else F.silu) for n, t in (("q", q), ("k", k), ("v", v)))
    q, k, v = (t.unflatten(-1, (-1, d)) for t in (q, k, v))
    if a.get("qk_norm_eps"):
        q, k = rms(q, p.vector("q_norm.weight", d, shift=1), a["qk_norm_eps"]), rms(k, p.vector("k_norm.weight", d, shift=1), a["qk_norm_eps"])
    pos = torch.arange(T)
    spread = lambda t: t.repeat_interleave(H // G, 2)
    scores = lambda q, k: torch.einsum("bqhd,bkhd->bhqk", q, spread(k)) * (a.get("scale") or d**-0.5)
    dist = pos[:, None] - pos[None]
    if a.get("rope_base") is None:
        s = scores(q, k)
    elif a.get("rope_table") == "bfloat16":
        f = a.get("rope_factor", 1.0)
        s = scores(rotate_lit(q, a["rope_base"], f), rotate_lit(k, a["rope_base"], f))
    else:
        inv, scale = frequencies(a, a.get("rope_dim") or d)
        at = pos.to(f64) / a.get("rope_factor", 1.0)
        s = scores(rotate(q, at, inv, scale), rotate(k, at, inv, scale))
        if self_extend:
            g, w = self_extend
            far = scores(rotate(q, pos // g + w - w // g, inv), rotate(k, pos // g, inv))
            s = torch.where(dist < w, s, far)
    dead = dist < 0
    if a.get("window"):
        dead = dead | (dist >= a["window"])
    o = torch.einsum("bhqk,bkhd->bqhd", s.masked_fill(dead, -math.inf).softmax(-1), spread(v))
    return p.linear(o.flatten(2), "o", x.shape[-1], biases)


FEATURES = {  # fla/modules/activations.py, ACT2FN
    None: lambda x: x, "relu": F.relu, "silu": F.silu, "swish": F.silu, "sigmoid": torch.sigmoid,
    "logsigmoid": F.logsigmoid, "sqrelu": lambda x: F.relu(x) ** 2,
    "gelu": lambda x: x * 0.5 * (1.0 + torch.tanh(0.79788456 * x * (1 + 0.044715 * x * x))),
}


def linear_attention(q, k, v, g):
    """q, k [B,T,H,dk], v [B,T,H,dv], g [B,T,H,dk]: logarithms of the decay."""
    S = q.new_zeros(*q.shape[:1], *q.shape[2:], v.shape[-1])
    out = []
    for t in range(q.shape[1]):
        S = S * g[:, t].exp()[..., None] + k[:, t][..., None] * v[:, t][:, :, None]
        out.append(torch.einsum("bhk,bhkv->bhv", q[:, t] * q.shape[-1] ** -0.5, S))
    return torch.stack(out, 1)


def gated_output(p, o, x, a, affine=True, gate_bias=False):
    dv = o.shape[-1]
    w = p.vector("g_norm.weight", dv, shift=1) if affine else None
    o = layer(o, w, None, a["group_norm_eps"]) if a.get("group_norm") == "layer" else rms(o, w, a["group_norm_eps"])
    if a.get("output_gate", True):
        o = o * F.silu(p.linear(x, "g", o.shape[2] * dv, gate_bias)).unflatten(-1, (-1, dv))
    return p.linear(o.flatten(2), "o", x.shape[-1])


def gla(p, x, a, affine=True, gate_bias=False, gate_shift=0.0, gate_gain=1.0):
    H, G, dk, dv = a["n_heads"], a["n_kv_heads"], a["head_k_dim"], a["head_v_dim"]
    q, k, v = p.linear(x, "q", H * dk), p.linear(x, "k", G * dk), p.linear(x, "v", G * dv)
    if a.get("d_conv"):
        q, k, v = (p.conv(t, n + "_conv", a["d_conv"], False) for n, t in (("q", q), ("k", k), ("v", v)))
    p.vector("gk_b.bias", G * dk, scale=2.0, shift=gate_shift)
    gk = p.linear(p.linear(x, "gk_a", a["gate_rank"]), "gk_b", G * dk, bias=True, gain=gate_gain)
    gk = F.logsigmoid(gk) / a.get("gate_normalizer", 16.0)
    if a.get("gate_min") is not None:
        gk = gk.clamp_min(a["gate_min"])
    f = FEATURES[a.get("feature_map")]
    q, k = f(q), f(k) * a.get("k_scale", 1.0)
    split = lambda t, d: t.unflatten(-1, (-1, d))
    k, v, gk = (split(t, d).repeat_interleave(H // G, 2) for t, d in ((k, dk), (v, dv), (gk, dk)))
    return gated_output(p, linear_attention(split(q, dk), k, v, gk), x, a, affine, gate_bias)


def retention(p, x, a, affine=True, table=False):
    H, G, dk, dv = a["n_heads"], a["n_kv_heads"], a["head_k_dim"], a["head_v_dim"]
    T = x.shape[1]
    q, k, v = p.linear(x, "q", H * dk), p.linear(x, "k", G * dk), p.linear(x, "v", G * dv)
    f = FEATURES[a.get("feature_map")]
    q, k = f(q).unflatten(-1, (-1, dk)), f(k).unflatten(-1, (-1, dk))
    decay = torch.log(1 - 2.0 ** (-5 - torch.arange(H, dtype=f64)))
    inv = 1.0 / 10000.0 ** (torch.arange(0, dk, 2, dtype=f64) / dk)
    if table:  # torchscale's RetNetRelPos
        inv = p.setdefault("model.rotary.frequencies", 1.0 / 10000 ** torch.linspace(0, 1, dk // 2))
        decay = p.setdefault("model.rotary.log_decay", decay * 1.5)
    q, k = rotate(q, torch.arange(T), inv), rotate(k, torch.arange(T), inv)
    k, v = k.repeat_interleave(H // G, 2), v.unflatten(-1, (-1, dv)).repeat_interleave(H // G, 2)
    if a.get("score_norm"):  # torchscale's parallel_forward
        dist = (torch.arange(T)[:, None] - torch.arange(T)[None]).to(f64)
        mask = torch.where(dist >= 0, torch.exp(dist * decay[:, None, None]), 0.0)
        mask = mask / mask.sum(-1, keepdim=True).sqrt()
        qk = torch.einsum("bqhd,bkhd->bhqk", q, k * dk**-0.5) * mask
        qk = qk / qk.abs().sum(-1, keepdim=True).clamp(min=1, max=5e4)
        o = torch.einsum("bhqk,bkhd->bqhd", qk, v)
    else:
        o = linear_attention(q, k, v, decay[None, None, :, None].expand(*q.shape[:3], dk))
    return gated_output(p, o, x, a, affine)


ACTIVATIONS = {"silu": F.silu, "gelu": F.gelu, "relu": F.relu, "relu2": lambda x: F.relu(x) ** 2,
               "gelu_tanh": lambda x: F.gelu(x, approximate="tanh")}


def mlp(p, x, a, biases=False):
    act = ACTIVATIONS[a.get("activation", "silu")]
    gate = p.linear(x, "gate", a["d_ff"], biases) * (a.get("gate_scale") or 1.0)
    p.left = p.linear(x, "up", a["d_ff"], biases)
    return p.linear(inner_norm(p, act(gate) * p.left, a, "inner_norm"), "down", x.shape[-1], biases)


def ffn(p, x, a, biases=False):
    return p.linear(ACTIVATIONS[a.get("activation", "relu2")](p.linear(x, "up", a["d_ff"], biases)), "down", x.shape[-1], biases)


def moe(p, x, a, biases=False):
    """Token by token, expert by expert."""
    E, k, act, gated = a["n_experts"], a["n_active"], ACTIVATIONS[a.get("activation", "silu")], a.get("gated", True)
    scores = p.linear(x, "router", E)
    inner = p.linear(x, "latent_in", a["d_latent"], biases) if a.get("d_latent") else x

    def expert(t, name, width, bias=False):
        up = p.linear(t, name + ".up", width, bias)
        hidden = act(p.linear(t, name + ".gate", width, bias)) * up if gated else act(up)
        return p.linear(hidden, name + ".down", t.shape[-1], bias)

    results = torch.stack([expert(inner, f"experts.{e}", a["d_ff"]) for e in range(E)], -2)
    weights = torch.zeros_like(scores)
    for b in range(x.shape[0]):
        for t in range(x.shape[1]):
            s = scores[b, t]
            s = torch.sigmoid(s) if a.get("router_scores") == "sigmoid" else s.softmax(-1)
            rank = s + p.vector("router.correction", E) if a.get("router_scores") == "sigmoid" else s
            groups = a.get("router_groups", 1)
            size = E // groups
            best = sorted(range(groups), key=lambda g: -sum(sorted(rank[g * size:(g + 1) * size].tolist())[-2:]))
            allowed = [e for e in range(E) if groups == 1 or e // size in best[: a["router_kept_groups"]]]
            chosen = sorted(allowed, key=lambda e: -rank[e])[:k]
            total = sum(s[e] for e in chosen) if a.get("router_normalizes") else 1.0
            for e in chosen:
                weights[b, t, e] = s[e] / total * a.get("router_scale", 1.0)
    y = (weights[..., None] * results).sum(-2)
    y = p.linear(y, "latent_out", x.shape[-1], biases) if a.get("d_latent") else y
    return y + expert(x, "shared", a["d_shared"], biases) if a.get("d_shared") else y


def shared_block(p, x, a, origin):
    """What the norm behind it is given besides the stream."""
    h = rms(torch.cat([x, origin], -1), p.vector("in_norm.weight", 2 * x.shape[-1], shift=1), a["norm_eps"])
    low = lambda t, name, out, rows: p.linear(p.linear(t, name, a["adapter_rank"]), out, rows)
    H, G, d = a["n_heads"], a["n_kv_heads"], a["head_dim"]
    q, k, v = (p.linear(h, n, g * d) for n, g in (("q", H), ("k", G), ("v", G)))
    if a.get("attention_adapters"):
        q, k, v = (t + low(h, f"{n}_low.in", f"{n}_low.out", t.shape[-1]) for n, t in (("q", q), ("k", k), ("v", v)))
    q, k, v = (t.unflatten(-1, (-1, d)) for t in (q, k, v))
    pos = torch.arange(x.shape[1])
    if a.get("rope_base"):
        inv, _ = frequencies(a, d)
        q, k = rotate(q, pos.to(f64), inv), rotate(k, pos.to(f64), inv)
    s = torch.einsum("bqhd,bkhd->bhqk", q, k.repeat_interleave(H // G, 2)) * (a.get("scale") or d**-0.5)
    s = s.masked_fill(pos[None] > pos[:, None], -math.inf).softmax(-1)
    o = torch.einsum("bhqk,bkhd->bqhd", s, v.repeat_interleave(H // G, 2)).flatten(2)
    m = rms(p.linear(o, "o", x.shape[-1]), p.vector("mid_norm.weight", x.shape[-1], shift=1), a["norm_eps"])
    gate = p.linear(m, "gate", a["d_ff"], True) + low(m, "mlp_low.in", "gate_low.out", a["d_ff"])
    up = p.linear(m, "up", a["d_ff"], True) + low(m, "mlp_low.in", "up_low.out", a["d_ff"])
    f = p.linear(ACTIVATIONS[a.get("activation", "gelu")](gate) * up, "down", x.shape[-1], True)
    return p.linear(f, "linear", x.shape[-1])


def mega(p, n, a, residual):
    D, z_dim, C = n.shape[-1], a["d_qk"], a["chunk"]
    v = F.silu(p.linear(n, "v", D, True))
    m = F.silu(ssm(p, p.conv(n, "conv", a["d_conv"], True), a))
    u = torch.sigmoid(p.linear(m, "mx_u", D, True))
    z, r = F.silu(p.linear(m, "mx_z", z_dim, True)), F.silu(p.linear(m, "mx_r", D, True))
    hx = p.linear(m, "mx_h", D, True)
    gamma, beta = p.vector("gamma", 2, z_dim), p.vector("beta", 2, z_dim)
    q, k = z * gamma[0] + beta[0], z * gamma[1] + beta[1]
    inv = 10000.0 ** (-torch.arange(z_dim // 2, dtype=f64) / (z_dim // 2))
    o = []
    for c in range(0, n.shape[1], C):
        qc, kc, vc = q[:, c : c + C], k[:, c : c + C], v[:, c : c + C]
        T = qc.shape[1]
        turn = lambda t: rotate(t.expand(T, z_dim)[None, :, None], torch.arange(T), inv)[0, :, 0]
        bias = turn(p.vector("bias_alpha", 1, z_dim)) @ turn(p.vector("bias_beta", 1, z_dim)).T
        s = qc @ kc.transpose(1, 2) * z_dim**-0.5 + bias
        o.append(s.masked_fill(torch.ones(T, T).triu(1).bool(), -math.inf).softmax(-1) @ vc)
    h = F.silu(hx + p.linear(torch.cat(o, 1) * r, "h", D, True))
    return u * (h - residual)


def case(name, attributes, T=23, B=2, D=12, norm="rms", self_extend=None, scale=1.0, before=None, **options):
    if sys.argv[1:] and name not in sys.argv[1:]:
        return
    kind = name.split("__")[0]
    a = dict({"norm": norm, "norm_eps": 1e-5}, **attributes)
    p = Pieces(sum(map(ord, name)))
    x = p.normal(B, T, D, scale=scale)
    first, extra, entering = None, {}, x
    if before:
        b = dict({"norm": "rms", "norm_eps": 1e-5}, **before[1])
        first = Pieces(1 + sum(map(ord, name)))
        x = x + globals()[before[0]](first, rms(x, first.vector("norm.weight", D, shift=1), 1e-5), b)
        options["before"] = first
        extra = {"before_kind": before[0], "before_attributes": json.dumps(b)}
    if norm == "layer":
        n = layer(x, p.vector("norm.weight", D, shift=1), p.vector("norm.bias", D), 1e-5)
    elif norm == "none":
        n = x
    else:
        n = rms(x, p.vector("norm.weight", D, shift=1), 1e-5)
    if self_extend:
        options["self_extend"] = self_extend
    if kind == "mega":
        options["residual"] = x
    y = globals()[kind](p, n, a, **options) * a.get("residual_scale", 1)
    y = y if a.get("skip") is False else x + y
    meta = {"kind": kind, "attributes": json.dumps(a), "self_extend": json.dumps(self_extend), **extra}
    tensors = {k: v.contiguous() for k, v in p.items()} | {"input": entering, "output": y}
    tensors |= {"before." + k: v.contiguous() for k, v in (first or {}).items()}
    save_file(tensors, OUT / f"{name}.safetensors", metadata=meta)


def pair(name, first, then, T=23, B=2, D=12):
    """Two sub-layers of one layer: a shared block, or a mixer and one parallel to it, and what comes behind."""
    kind, (second, b) = name.split("__")[0], then
    p, q = Pieces(sum(map(ord, name))), Pieces(sum(map(ord, name)) + 1)
    x = p.normal(B, T, D)
    a = dict({"norm_eps": 1e-5}, **first)
    if kind == "shared_block":
        b = dict({"norm": "rms", "norm_eps": 1e-5}, **b)
        n = rms(x + shared_block(p, x, a, x), q.vector("norm.weight", D, shift=1), 1e-5)
        y = x + globals()[second](q, n, b)
    else:
        a, b = dict({"norm": "rms"}, **a), dict({"norm": "parallel", "norm_eps": 1e-5}, **b)
        n = rms(x, p.vector("norm.weight", D, shift=1), 1e-5)
        factor = lambda c: c.get("residual_scale") or 1.0
        y = x + factor(a) * globals()[kind](p, n, a) + factor(b) * globals()[second](q, n, b)
    meta = {"kind": kind, "attributes": json.dumps(a), "then_kind": second, "then_attributes": json.dumps(b), "self_extend": "null"}
    tensors = {k: v.contiguous() for k, v in p.items()} | {"then." + k: v.contiguous() for k, v in q.items()}
    save_file(tensors | {"input": x, "output": y}, OUT / f"{name}.safetensors", metadata=meta)


OUT.mkdir(exist_ok=True)
M = dict(d_inner=20, d_state=5, d_conv=4, dt_rank=3)
case("mamba__plain", M)
case("mamba__long", dict(M, d_inner=70, d_state=16), T=67, B=1)
case("mamba__biases_width3", dict(M, d_conv=3), biases=True, conv_bias=False)
case("mamba__falcon", dict(M, bcdt_norm_eps=1e-6))
case("mamba__layer_norm_width1", dict(M, d_conv=1), norm="layer")
M2 = dict(d_inner=30, d_state=7, d_conv=4, n_heads=6, head_dim=5, n_groups=3, gated_norm_eps=1e-5)
case("mamba2__grouped", M2, T=70)
case("mamba2__one_group_biases", dict(M2, n_groups=1), biases=True)
case("mamba2__norm_first_d_of_channels", dict(M2, norm_before_gate=True, d_has_hdim=True))
case("mamba2__no_norm_limits", dict(M2, gated_norm="none", dt_min=0.5, dt_max=0.9), conv_bias=False)
A = dict(n_heads=6, n_kv_heads=2, head_dim=8, rope_base=10000.0)
case("attention__full", A, T=70)
case("attention__window", dict(A, window=9), T=75)
case("attention__window_of_one", dict(A, window=1), T=5)
case("attention__nope_many_heads", dict(A, n_kv_heads=6, rope_base=None))
case("attention__one_kv_head_bfloat16", dict(A, n_kv_heads=1, rope_table="bfloat16", rope_factor=2.0), T=70)
case("attention__biases_norms", dict(A, qk_norm_eps=1e-5), biases=True)
case("attention__partial_factor", dict(A, rope_dim=4, rope_factor=3.0, rope_base=500.0))
case("attention__short_convolutions", dict(A, d_conv=4, window=6))
case("attention__linear", dict(A, rope_scaling={"type": "linear", "factor": 2.5}))
case("attention__llama3", dict(A, rope_base=500.0, rope_scaling={"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0, "original_max_position_embeddings": 128}))
case("attention__yarn", dict(A, rope_scaling={"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 64}))
case("attention__self_extend", A, T=71, self_extend=[3, 9])
G = dict(n_heads=4, n_kv_heads=4, head_k_dim=5, head_v_dim=7, gate_rank=3, group_norm_eps=1e-6)
case("gla__plain", G, T=75)
case("gla__grouped_convolutions_clamp", dict(G, n_kv_heads=2, d_conv=4, gate_min=-0.05), T=70)
case("gla__layer_norm_gate_bias", dict(G, group_norm="layer", k_scale=0.37), gate_bias=True, affine=False)
case("gla__no_gate", dict(G, output_gate=False, gate_normalizer=4.0), T=19)
case("gla__strong_decay", dict(G, gate_normalizer=1.0), T=75, gate_shift=-40.0, gate_gain=60.0)
for name in ("relu", "sqrelu", "silu", "sigmoid", "logsigmoid", "gelu"):
    case(f"gla__feature_{name}", dict(G, n_heads=2, n_kv_heads=1, feature_map=name), T=18, B=1)
R = dict(n_heads=4, n_kv_heads=4, head_k_dim=6, head_v_dim=7, group_norm_eps=1e-6)
case("retention__plain", R, T=75)
case("retention__grouped_no_gate", dict(R, n_kv_heads=2, output_gate=False), T=66)
case("retention__feature_no_affine", dict(R, feature_map="relu"), affine=False)
case("retention__tables_in_the_file", dict(R, n_kv_heads=2), table=True)
TS = dict(R, score_norm=True)
case("retention__torchscale", TS, T=70, table=True, affine=False)
case("retention__torchscale_small", TS, T=21, norm="none", scale=0.02, table=True, affine=False)
case("mlp__silu", dict(d_ff=29))
case("mlp__gelu_biases", dict(d_ff=29, activation="gelu"), biases=True)
S = dict(d_state=5, d_conv=4, dt_rank=2, d_qk=8)
case("mega__whole", dict(S, chunk=2048), T=70)
case("mega__chunks", dict(S, chunk=7), T=21)
case("mega__rest", dict(S, chunk=9), T=23)
# ArchScale's and Phi-4-mini-flash's: differential attention, gates and norms behind attention, memory and keys of earlier sub-layers.
DA = dict(n_heads=6, n_kv_heads=2, head_dim=8, lambda_init=0.37)
case("attention__differential", DA, T=70, biases=True)
case("attention__differential_window", dict(DA, n_kv_heads=6, window=5, lambda_init=0.8, scale=0.2, pair_norm_eps=1e-3), T=40)
case("attention__gate_norm", dict(A, rope_base=None, head_gate=True, out_norm="rms", out_norm_eps=1e-5, window=6, scale=0.5), T=31)
case("attention__layer_norm_behind", dict(A, rope_base=None, out_norm="layer", out_norm_eps=1e-3, qk_norm_eps=1e-5), T=31)
case("attention__factors_behind", dict(A, rope_base=None, out_norm="scale", out_norm_eps=1e-5), T=13)
YARN = {"rope_type": "archscale_yarn", "factor": 2.5, "original_max_position_embeddings": 4096}
case("attention__archscale_yarn", dict(A, rope_scaling=YARN, rope_table="bfloat16", rope_dim=6, head_gate=True), T=45)
case("attention__scaled_branch", dict(A, rope_base=None, scale=0.3, residual_scale=0.25, skip=False), T=21)
for kind in ("rms", "layer", "scale"):
    case(f"mlp__inner_{kind}", dict(d_ff=29, inner_norm=kind, inner_norm_eps=1e-5), biases=True)
case("mamba__jamba", dict(M, bcdt_norm_eps=1e-5), jamba=True)
case("gmu__mamba", dict(d_memory=20), before=("mamba", dict(M, saves_memory=True)), T=37)
case("gmu__mamba2_norm", dict(d_memory=30, memory_norm_eps=1e-5), before=("mamba2", dict(M2, saves_memory=True)), T=37, biases=True)
case("gmu__attention", dict(d_memory=48), before=("attention", dict(DA, head_gate=True, out_norm="rms", out_norm_eps=1e-5, saves_memory=True)), T=37)
case("gmu__mlp", dict(d_memory=29), before=("mlp", dict(d_ff=29, saves_memory=True)), T=37)
X = dict(n_heads=6, n_kv_heads=2, head_dim=8)
case("cross_attention__plain", X, before=("attention", dict(X, window=4, shares_kv=True)), T=70)
case("cross_attention__differential_window", dict(DA, window=5, scale=0.2, head_gate=True), before=("attention", dict(DA, lambda_init=0.5, shares_kv=True)), T=40)
case("cross_attention__rotary", dict(X, rope_base=10000.0, rope_table="bfloat16"),
     before=("attention", dict(X, rope_base=10000.0, rope_table="bfloat16", qk_norm_eps=1e-5, shares_kv=True)), T=37)
case("mamba2__factors_floor", dict(M2, in_scales=[0.9, 0.6, 0.75, 1.3, 0.5], input_scale=0.8, dt_floor=0.6, gated_norm="none"))
case("attention__plain_convolutions_scale", dict(A, d_conv=3, conv_activation=False, scale=0.21, rope_dim=4), biases=True)
case("attention__key_factor", dict(A, k_scale=0.6, input_scale=1.3, rope_dim=3))
case("mlp__relu2_gate_factor", dict(d_ff=29, activation="relu2", gate_scale=0.85))
case("mlp__gelu_tanh", dict(d_ff=29, activation="gelu_tanh"))
case("ffn__relu2", dict(d_ff=29))
case("ffn__relu_biases", dict(d_ff=29, activation="relu"), biases=True)
E = dict(n_experts=5, n_active=2, d_ff=11)
case("moe__softmax", E)
case("moe__softmax_of_the_chosen_shared", dict(E, router_normalizes=True, d_shared=9))
case("moe__one_of_many_long", dict(E, n_experts=9, n_active=1), T=70)
case("moe__all", dict(E, n_active=5))
case("moe__sigmoid_groups_latent", dict(E, n_experts=6, gated=False, activation="relu2", router_scores="sigmoid", router_normalizes=True,
                                        router_scale=2.5, router_groups=3, router_kept_groups=2, d_latent=7, d_shared=9), biases=True)
case("moe__sigmoid", dict(E, gated=False, activation="relu2", router_scores="sigmoid", d_shared=9))
Z = dict(n_heads=4, n_kv_heads=2, head_dim=6, scale=0.577, d_ff=13, adapter_rank=3)
pair("shared_block__plain", Z, ("mamba2", M2))
pair("shared_block__rope_updates_silu", dict(Z, attention_adapters=True, rope_base=10000.0, activation="silu"), ("mlp", dict(d_ff=9)))
pair("mamba2__beside_attention", dict(M2, residual_scale=0.55, input_scale=0.8), ("attention", dict(A, residual_scale=0.7, input_scale=1.2, k_scale=0.6)))
