"""ArchScale's and Phi-4-mini-flash's models in float64, and small checkpoints of them in their files.

    python3 Fixtures/generate/archscale.py check            # every as-* and phi4flash trace again from the weights
    python3 Fixtures/generate/archscale.py make             # writes the models below, Fixtures/models/as-{name}

Needs torch and safetensors. The equations are those of microsoft/ArchScale (July 2025 and 2026) and of the remote
code of Phi-4-mini-flash-reasoning, written once more as plain recurrences; no code of theirs is here.
checks/verify-archscale draws many configurations and takes its forward pass from here.
"""
import argparse
import json
import math
import pathlib
import sys

import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save_file

MODELS = pathlib.Path(__file__).resolve().parent.parent / "models"
f64 = torch.float64

# asdict(Config) of 2026 and of July 2025.
PRESETS = json.loads((pathlib.Path(__file__).resolve().parents[2] / "formats/archscale-presets.json").read_text())
NEW, OLD = PRESETS["defaults"], PRESETS["fused_defaults"]


def complete(options, fused=False):
    """A whole config: asdict after __post_init__."""
    c = {**(OLD if fused else NEW), "name": "tiny", **options}
    if c.get("ar") is not None:
        c["n_embd"] = c["ar"] * c["n_layer"]
        c["intermediate_size"] = c["mlp_expand"] * c["n_embd"]
    if c.get("intermediate_size") is None:
        c["intermediate_size"] = c["mlp_expand"] * c["n_embd"]
    if c.get("padded_vocab_size") is None:
        m = c["padding_multiple"]
        c["padded_vocab_size"] = -(-c["vocab_size"] // m) * m
    c.setdefault("head_dim", None)
    if c.get("n_query_groups") is None:
        c["n_query_groups"] = c["n_head"]
    return c


class Facts:
    """What follows from a config, in words of its own."""

    def __init__(self, c):
        self.c, g = c, c.get
        self.L, self.H, self.G, self.D = c["n_layer"], c["n_head"], c["n_query_groups"], c["n_embd"]
        self.hs = g("head_dim") or self.D // self.H
        self.Q, self.KV, self.I, self.V = self.H * self.hs, self.G * self.hs, c["intermediate_size"], c["padded_vocab_size"]
        self.separate = g("separate_qkv", False)
        self.norm = g("_norm_class", "FusedRMSNorm")
        self.R, self.E = -(-self.D // 16), 2 * self.D
        self.E2 = 512 * -(-2 * self.D // 512)
        self.scale = (g("attn_scale") or self.hs**-0.5) * (math.sqrt(g("mup_hd0")) / math.sqrt(self.hs) if g("mup") else 1)
        deep = c["depth_scale"] if "depth_scale" in c else g("mup") and not g("original_mup")
        self.branch = (2 * self.L) ** -0.5 if deep else 1.0
        self.logit = g("mup_d0") / self.L if g("mup") and not g("use_muonh") else 1.0
        self.layers = [self.layer(i) for i in range(self.L)]

    def layer(self, i):
        g, half = self.c.get, self.L // 2
        every, window, cross = g("rnn_per_layer"), g("local_window"), False
        if g("yoco"):
            rnn = every > 0 and (i % every == 0 if i < half else i == half)
            cross = i >= half + 2
            if i > half:
                window = g("block_size") // 2 if g("yoco_window") else -1
        elif g("attn_layer_pos") is not None:
            rnn = i not in json.loads(g("attn_layer_pos"))
        else:
            rnn = every > 0 and i % every == 0
        period = g("full_per_layer")
        seen = window if window > -1 and i % period < period - 1 else None
        if cross and g("gmu_yoco") and i % g("gmu_per_layer") == 0:
            mixer = "gmu"
        else:
            mixer = g("rnn_type") if rnn else "cross" if cross else "attention"
        turns = not g("nope") and not (g("yoco_nope") and (seen is None or cross))
        return argparse.Namespace(i=i, p=f"transformer.h.{i}.", mixer=mixer, window=seen, given=window, turns=turns)

    def memory(self):
        g = self.c.get
        if g("gmu_attn"):
            return self.Q
        if g("gmu_mlp"):
            return self.I
        return self.E2 if g("rnn_type") == "mamba2" and g("rnn_per_layer") > 0 else self.E

    def memory_norm(self):
        return self.c["rnn_type"] == "mamba2" and self.c["rnn_per_layer"] > 0


# ---------------------------------------------------------------- names and shapes

def shapes(c):
    f, g = Facts(c), c.get
    s = {"transformer.wte.weight": (f.V, f.D), "lm_head.weight": (f.V, f.D)}

    def norm(name, n):
        if f.norm.endswith("Func"):
            return
        s[name + ".weight"] = (n,)
        if f.norm == "LayerNorm":
            s[name + ".bias"] = (n,)

    def linear(name, rows, columns, bias):
        s[name + ".weight"] = (rows, columns)
        if bias:
            s[name + ".bias"] = (rows,)

    norm("transformer.ln_f", f.D)
    for l in f.layers:
        p, a = l.p, l.p + "attn."
        norm(p + "norm_1", f.D)
        if l.mixer == "mamba":
            s.update({a + "A_log": (f.E, 16), a + "D": (f.E,), a + "in_proj.weight": (2 * f.E, f.D), a + "conv1d.weight": (f.E, 1, 4),
                      a + "conv1d.bias": (f.E,), a + "x_proj.weight": (f.R + 32, f.E), a + "dt_proj.weight": (f.E, f.R),
                      a + "dt_proj.bias": (f.E,), a + "out_proj.weight": (f.D, f.E)})
            if g("jamba_norm"):
                s.update({a + "dt_layernorm.weight": (f.R,), a + "b_layernorm.weight": (16,), a + "c_layernorm.weight": (16,)})
        elif l.mixer == "mamba2":
            e, n = f.E2, f.E2 // 64
            s.update({a + "in_proj.weight": (2 * e + 256 + n, f.D), a + "conv1d.weight": (e + 256, 1, 4), a + "conv1d.bias": (e + 256,),
                      a + "dt_bias": (n,), a + "A_log": (n,), a + "D": (n,), a + "norm.weight": (e,), a + "out_proj.weight": (f.D, e)})
        elif l.mixer == "retnet":
            h = f.H // 2
            s.update({a + "q_proj.weight": (f.D, f.D), a + "k_proj.weight": (f.D, f.D), a + "v_proj.weight": (2 * f.D, f.D),
                      a + "g_proj.weight": (2 * f.D, f.D), a + "out_proj.weight": (f.D, 2 * f.D), a + "group_norm.weight": (2 * f.D // h,)})
        elif l.mixer == "gla":
            h = f.D // 384
            s.update({a + "q_proj.weight": (f.D // 2, f.D), a + "k_proj.weight": (f.D // 2, f.D), a + "v_proj.weight": (f.D, f.D),
                      a + "g_proj.weight": (f.D, f.D), a + "gk_proj.0.weight": (16, f.D), a + "gk_proj.1.weight": (f.D // 2, 16),
                      a + "gk_proj.1.bias": (f.D // 2,), a + "o_proj.weight": (f.D, f.D), a + "g_norm_swish_gate.weight": (f.D // h,)})
        elif l.mixer == "gmu":
            m = f.memory()
            linear(a + "gmu.in_proj", m, f.D, g("bias"))
            linear(a + "gmu.out_proj", f.D, m, g("bias"))
            if f.memory_norm():
                s[a + "gmu.norm.weight"] = (m,)
        else:
            cross, bias = l.mixer == "cross", g("attn_bias")
            if f.separate:
                linear(a + "q_proj", f.Q, f.D, bias)
                if not cross:
                    linear(a + "k_proj", f.KV, f.D, False)
                    linear(a + "v_proj", f.KV, f.D, bias)
                if g("gated_attn"):
                    linear(a + "g_proj", f.H, f.D, bias)
            else:
                linear(a + "attn", (f.Q if cross else f.Q + 2 * f.KV) + (f.H if g("gated_attn") else 0), f.D, bias)
            linear(a + "proj", f.D, f.Q, g("attn_out_bias"))
            if g("qk_norm"):
                s[a + "q_norm.weight"] = s[a + "k_norm.weight"] = (f.hs,)
            if g("attn_norm"):
                norm(a + "attn_norm", f.Q)
            if g("sc_attn"):
                s.update({a + "q_conv1d.weight": (f.Q, 1, 4), a + "k_conv1d.weight": (f.KV, 1, 4), a + "v_conv1d.weight": (f.KV, 1, 4)})
            if g("use_da"):
                s.update({a + "da." + n: (f.hs,) for n in ("lambda_q1", "lambda_k1", "lambda_q2", "lambda_k2")})
                s[a + "da.subln.weight"] = (2 * f.hs,)
        every = g("skip_weight_per_layer") or -1
        if every > 0 and l.i % every == every - 1:
            linear(p + "skip_proj", f.D, f.D, g("bias"))
        if g("mlp"):
            norm(p + "norm_2", f.D)
            linear(p + "mlp.w1", 2 * f.I, f.D, g("bias"))
            linear(p + "mlp.w3", f.D, f.I, g("bias"))
            if g("ffn_norm"):
                norm(p + "mlp.norm", f.I)
    return s


def value(name, shape, rng):
    """Realistic scale, and no value under which a wrong mapping would go unseen."""
    x = torch.randn(*shape, generator=rng)
    if name.endswith("A_log"):
        base = torch.arange(1, shape[-1] + 1).float().log() if len(shape) == 2 else torch.full(shape, 1.2)
        return base + 0.3 * x
    if name.endswith(("dt_proj.bias", "dt_bias")):
        return 0.5 * x - 2
    if name.endswith("gk_proj.1.bias"):
        return x + 2
    if name.endswith(".D") or name.endswith("weight") and len(shape) == 1:
        return 1 + 0.3 * x
    if name.endswith("conv1d.weight"):
        return 0.5 * x
    if "wte" in name or "embed" in name:
        return x
    if "lambda_" in name:
        return 0.3 * x
    if len(shape) == 1:
        return 0.3 * x
    return 1.2 * x * shape[-1] ** -0.5


def weights(c, seed, dtype=torch.float32):
    rng = torch.Generator().manual_seed(seed)
    keep = ("A_log", "dt_bias", "dt_proj.bias", ".D", "lambda_q1", "lambda_k1", "lambda_q2", "lambda_k2")
    # Without norms the stream grows from layer to layer.
    gain = lambda n, s: 0.1 if c["_norm_class"] == "NoNorm" and len(s) == 1 and "norm" in n and "attn." not in n.replace("attn.attn_norm", "") else 1
    sd = {n: (gain(n, s) * value(n, s, rng)).to(torch.float32 if n.endswith(keep) else dtype) for n, s in shapes(c).items()}
    if c["tied_embed"]:
        sd["lm_head.weight"] = sd["transformer.wte.weight"].clone()
    return sd


# ---------------------------------------------------------------- the equations

def rms(x, w, eps):
    y = x / (x.square().mean(-1, keepdim=True) + eps).sqrt()
    return y if w is None else y * w


def normed(x, sd, name, eps, kind):
    w, b = sd.get(name + ".weight"), sd.get(name + ".bias")
    if kind == "NoNorm":
        return x * w
    if kind.startswith("LayerNorm"):
        x = x - x.mean(-1, keepdim=True)
    y = rms(x, w, eps)
    return y if b is None else y + b


def linear(x, sd, name):
    return F.linear(x, sd[name + ".weight"], sd.get(name + ".bias"))


def convolved(x, w, b=None):
    """x [B, T, C], w [C, 1, K]: SiLU of a causal convolution of each channel."""
    k = w.shape[-1]
    y = sum(w[:, 0, k - 1 - j] * F.pad(x, (0, 0, j, 0))[:, : x.shape[1]] for j in range(k))
    return F.silu(y if b is None else y + b)


def mamba(x, sd, p, jamba):
    u, z = linear(x, sd, p + "in_proj").chunk(2, -1)
    u = convolved(u, sd[p + "conv1d.weight"], sd[p + "conv1d.bias"])
    r = sd[p + "dt_proj.weight"].shape[1]
    dt, b, c = F.linear(u, sd[p + "x_proj.weight"]).split([r, 16, 16], -1)
    if jamba:
        dt, b, c = (rms(t, sd[p + n + "_layernorm.weight"], 1e-5) for t, n in ((dt, "dt"), (b, "b"), (c, "c")))
    dt = F.softplus(linear(dt, sd, p + "dt_proj"))
    a, h, out = -sd[p + "A_log"].exp(), 0, []
    for t in range(x.shape[1]):
        h = torch.exp(dt[:, t, :, None] * a) * h + (dt[:, t] * u[:, t])[..., None] * b[:, t, None]
        out.append((h * c[:, t, None]).sum(-1) + sd[p + "D"] * u[:, t])
    memory = torch.stack(out, 1)
    return linear(memory * F.silu(z), sd, p + "out_proj"), memory


def mamba2(x, sd, p):
    heads = sd[p + "A_log"].shape[0]
    e = 64 * heads
    z, u, b, c, dt = linear(x, sd, p + "in_proj").split([e, e, 128, 128, heads], -1)
    u, b, c = convolved(torch.cat([u, b, c], -1), sd[p + "conv1d.weight"], sd[p + "conv1d.bias"]).split([e, 128, 128], -1)
    u, dt, a = u.unflatten(-1, (heads, 64)), F.softplus(dt + sd[p + "dt_bias"]), -sd[p + "A_log"].exp()
    h, out = 0, []
    for t in range(x.shape[1]):
        h = torch.exp(dt[:, t] * a)[..., None, None] * h + torch.einsum("bh,bhp,bn->bhpn", dt[:, t], u[:, t], b[:, t])
        out.append(torch.einsum("bhpn,bn->bhp", h, c[:, t]) + sd[p + "D"][:, None] * u[:, t])
    memory = torch.stack(out, 1).flatten(2)
    return linear(rms(memory * F.silu(z), sd[p + "norm.weight"], 1e-5), sd, p + "out_proj"), memory


def gmu(x, memory, sd, p):
    y = F.silu(linear(x, sd, p + "in_proj")) * memory
    if p + "norm.weight" in sd:
        y = rms(y, sd[p + "norm.weight"], 1e-5)
    return linear(y, sd, p + "out_proj")


def decayed(q, k, v, log):
    """Linear attention: q, k [B, T, H, d], v [B, T, H, e], log the decay's logarithm, [H, 1] or [B, T, H, d]."""
    s, out = 0, []
    for t in range(q.shape[1]):
        g = (log if log.dim() == 2 else log[:, t]).exp()[..., None]
        s = g * s + k[:, t][..., None] * v[:, t][:, :, None]
        out.append(torch.einsum("bhk,bhkv->bhv", q[:, t], s) * q.shape[-1] ** -0.5)
    return torch.stack(out, 1)


def split(x, h):
    return x.unflatten(-1, (h, -1))


def retention(x, sd, p, h):
    q, k, v = (split(linear(x, sd, p + n + "_proj"), h) for n in "qkv")
    n = q.shape[-1]
    angle = torch.outer(torch.arange(x.shape[1], dtype=f64), 10000.0 ** (-torch.arange(0, n, 2, dtype=f64) / n))
    q, k = turned(q, angle.cos(), angle.sin()), turned(k, angle.cos(), angle.sin())
    o = decayed(q, k, v, torch.log(1 - 2.0 ** (-5 - torch.arange(h, dtype=f64)))[:, None])
    return linear(rms(o, sd[p + "group_norm.weight"], 1e-5).flatten(2) * F.silu(linear(x, sd, p + "g_proj")), sd, p + "out_proj")


def gla(x, sd, p, h):
    q, k, v = (split(linear(x, sd, p + n + "_proj"), h) for n in "qkv")
    log = F.logsigmoid(split(linear(linear(x, sd, p + "gk_proj.0"), sd, p + "gk_proj.1"), h)) / 16
    o = rms(decayed(q, k, v, log), sd[p + "g_norm_swish_gate.weight"], 1e-5).flatten(2)
    return linear(o * F.silu(linear(x, sd, p + "g_proj")), sd, p + "o_proj")


def turned(x, cos, sin):
    n = 2 * cos.shape[-1]
    a, b, rest = x[..., : n // 2], x[..., n // 2 : n], x[..., n:]
    cos, sin = cos[None, :, None], sin[None, :, None]
    return torch.cat([a * cos - b * sin, a * sin + b * cos, rest], -1)


def tables(length, n, base, factor, condense=1):
    """Angles in float32, tables in bfloat16; YaRN where factor > 1. Positions divided by condense."""
    power, magnitude = base ** (torch.arange(0, n, 2) / n), 1.0
    inverse = 1.0 / power
    if factor > 1:
        magnitude = 0.1 * math.log(factor) + 1
        low, high = (n / 2 * math.log(4096 / (turns * 2 * math.pi)) / math.log(base) for turns in (32, 1))
        kept = 1 - ((torch.arange(n / 2, dtype=torch.float32) - low) / (high - low)).clamp(0, 1)
        inverse = 1.0 / (factor * power) * (1 - kept) + inverse * kept
    angle = torch.outer(torch.arange(length) / condense, inverse)
    return (angle.cos() * magnitude).bfloat16().to(f64), (angle.sin() * magnitude).bfloat16().to(f64)


def attend(q, k, v, scale, window):
    r, t = q.shape[2] // k.shape[2], q.shape[1]
    k, v = k.repeat_interleave(r, 2), v.repeat_interleave(r, 2)
    i = torch.arange(t)
    seen = (i[None] <= i[:, None]) & (i[None] > i[:, None] - (window or t + 1))
    s = torch.einsum("bqhd,bkhd->bhqk", q, k) * scale
    return torch.einsum("bhqk,bkhe->bqhe", s.masked_fill(~seen, -math.inf).softmax(-1), v)


def differential(q, k, v, scale, window, sd, p, layer):
    even, odd = (lambda x: x[:, :, 0::2]), (lambda x: x[:, :, 1::2])
    both = torch.cat([even(v), odd(v)], -1)
    first = 0.8 - 0.6 * math.exp(-0.3 * layer)
    dot = lambda n: (sd[p + "lambda_q" + n] * sd[p + "lambda_k" + n]).sum().exp()
    o = attend(even(q), even(k), both, scale, window) - (dot("1") - dot("2") + first) * attend(odd(q), odd(k), both, scale, window)
    return ((1 - first) * rms(o, sd[p + "subln.weight"], 1e-5)).unflatten(-1, (2, -1)).flatten(2, 3)


def archscale(sd, c, ids):
    f, g, eps = Facts(c), c.get, c["norm_eps"]
    crossed, out = {}, {}

    def attention(x, l):
        a, cross, gate = l.p + "attn.", l.mixer == "cross", None
        if f.separate:
            parts = [linear(x, sd, a + n) for n in (("q_proj",) if cross else ("q_proj", "k_proj", "v_proj"))]
            gate = linear(x, sd, a + "g_proj") if g("gated_attn") else None
        else:
            y = linear(x, sd, a + "attn")
            if g("gated_attn"):
                y, gate = y.split([y.shape[-1] - f.H, f.H], -1)
            r = f.H // f.G
            parts = [y] if cross else [t.flatten(2) for t in y.unflatten(-1, (f.G, r + 2, f.hs)).split([r, 1, 1], 3)]
        if not cross and g("sc_attn"):
            parts = [convolved(t, sd[a + n + "_conv1d.weight"]) for t, n in zip(parts, "qkv")]
        parts = [split(t, h) for t, h in zip(parts, (f.H, f.G, f.G))]
        if not cross and g("qk_norm"):
            parts[0], parts[1] = rms(parts[0], sd[a + "q_norm.weight"], eps), rms(parts[1], sd[a + "k_norm.weight"], eps)
        if l.turns:
            base, factor = g("rope_base"), g("scaling_factor", 1.0)
            if g("ada_rope"):
                long = g("yoco_window") and l.given == g("block_size") // 2
                base, factor = 0.09 * (4096 if long else l.given) ** 1.628, factor if long else 1.0
            t = tables(x.shape[1], int(g("rotary_percentage") * f.hs), base, factor, g("condense_ratio", 1))
            parts[:2] = [turned(y, *t) for y in parts[:2]]
        if cross:
            q, (k, v) = parts[0], crossed["keys"]
        else:
            q, k, v = parts
            crossed["keys"] = k, v
        if g("use_da"):
            o = differential(q, k, v, f.scale, l.window, sd, a + "da.", 10000 if g("da_const_lamb") else l.i)
        else:
            o = attend(q, k, v, f.scale, l.window)
        if gate is not None:
            o = o * torch.sigmoid(gate)[..., None]
        o = o.flatten(2)
        if not cross:
            if g("gmu_attn"):
                crossed["memory"] = o
            if g("attn_norm"):
                o = normed(o, sd, a + "attn_norm", eps, f.norm)
        return linear(o, sd, a + "proj")

    x = sd["transformer.wte.weight"][ids] * (math.sqrt(f.D) if g("scale_embed") else 1)
    for l in f.layers:
        out[f"hidden_states.{l.i}"] = x
        n, a, memory = normed(x, sd, l.p + "norm_1", eps, f.norm), l.p + "attn.", None
        if l.mixer in ("mamba", "mamba2"):
            y, memory = mamba(n, sd, a, g("jamba_norm")) if l.mixer == "mamba" else mamba2(n, sd, a)
        elif l.mixer == "retnet":
            y = retention(n, sd, a, f.H // 2)
        elif l.mixer == "gla":
            y = gla(n, sd, a, f.D // 384)
        elif l.mixer == "gmu":
            y = gmu(n, crossed["memory"], sd, a + "gmu.")
        else:
            y = attention(n, l)
        if memory is not None and l.i == f.L // 2 and not g("gmu_attn"):
            crossed["memory"] = memory
        x = f.branch * y + (0 if g("no_skip") else x)
        if g("mlp"):
            gate, up = linear(normed(x, sd, l.p + "norm_2", eps, f.norm), sd, l.p + "mlp.w1").chunk(2, -1)
            if g("gmu_mlp") and l.i == f.L // 2 + 1:
                crossed["memory"] = up
            y = F.silu(gate) * up
            if g("ffn_norm"):
                y = normed(y, sd, l.p + "mlp.norm", eps, f.norm)
            x = f.branch * linear(y, sd, l.p + "mlp.w3") + (0 if g("no_skip") else x)
    out[f"hidden_states.{f.L}"] = x
    out["final_norm"] = normed(x, sd, "transformer.ln_f", eps, f.norm)
    head = sd["transformer.wte.weight"] if g("tied_embed") else sd["lm_head.weight"]
    out["logits"] = F.linear(f.logit * out["final_norm"], head)
    return out


def phi4flash(sd, c, ids):
    """Phi4FlashForCausalLM, as ArchScale's model of July 2025 without multipliers."""
    layers, width, h, groups = (c[n] for n in ("num_hidden_layers", "hidden_size", "num_attention_heads", "num_key_value_heads"))
    hs, window, half = width // h, c["sliding_window"], layers // 2
    windows = window if isinstance(window, list) else [window if i % 2 and i < half else None for i in range(layers)]
    norm = lambda x, name: normed(x, sd, name, c.get("layer_norm_eps", 1e-5), "LayerNorm")
    x, out, memory, keys = sd["model.embed_tokens.weight"][ids], {}, None, None
    for i in range(layers):
        p = f"model.layers.{i}."
        a = p + "attn."
        out[f"hidden_states.{i}"] = x
        n = norm(x, p + "input_layernorm")
        if i % 2 == 0:
            if i < half + 2:
                y, memory = mamba(n, sd, a, False)
            else:
                y = gmu(n, memory, sd, a)
        else:
            y = linear(n, sd, a + "Wqkv")
            if i < half + 2:
                y, k, v = y.split([h * hs, groups * hs, groups * hs], -1)
                keys = split(k, groups), split(v, groups)
            o = differential(split(y, h), *keys, hs**-0.5, windows[i] if i <= half else None, sd, a + "inner_cross_attn.", i)
            y = linear(o.flatten(2), sd, a + "out_proj")
        x = x + y
        gate, up = linear(norm(x, p + "post_attention_layernorm"), sd, p + "mlp.fc1").chunk(2, -1)
        x = x + linear(F.silu(gate) * up, sd, p + "mlp.fc2")
    out[f"hidden_states.{layers}"] = x
    out["final_norm"] = norm(x, "model.final_layernorm")
    out["logits"] = F.linear(out["final_norm"], sd.get("lm_head.weight", sd["model.embed_tokens.weight"]))
    return out


# ---------------------------------------------------------------- files

def hparams(c, recipe, fused=False):
    """What the trainer keeps of a run that makes this config."""
    h = {"model_name": c["name"], "train_config": recipe, "depth": c["n_layer"], "name": f"{recipe}_{c['name']}_ctx{c['block_size']}",
         "seq_len": c["block_size"], "mup": c["mup"], "original_mup": c["original_mup"], "use_cu_seqlen": False, "rope_base": c["rope_base"],
         "eos_token_id": 2, "learning_rate": 6e-4, "base_hps.d0": c["mup_d0"], "base_hps.hd0": c["mup_hd0"]}
    h["base_hps.w_init0" if fused else "base_hps.w_init_scale"] = 1.0
    if not fused:
        h.update(depth_scale=c["depth_scale"], super_mup=c["super_mup"], scaling_factor=c["scaling_factor"])
    return h


def save(folder, c, sd, config=True, recipe="scaling", fused=False):
    folder = pathlib.Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    torch.save({"model": sd, "optimizer": {}, "hparams": hparams(c, recipe, fused), "iter_num": 128, "step_count": 16}, folder / "iter-000128-ckpt.pth")
    if config:
        (folder / "archscale_config.json").write_text(json.dumps(c, indent=2) + "\n")


def load(folder):
    """The weights in float64 and the config of a folder."""
    folder = pathlib.Path(folder)
    path = next(folder.glob("*config.json"))
    files = sorted(folder.glob("*.safetensors")) or sorted(folder.glob("*.pth"))
    sd = {}
    for file in files:
        part = load_file(file) if file.suffix == ".safetensors" else torch.load(file, map_location="cpu", weights_only=True)
        sd.update(part.get("model", part))
    return {n: t.to(f64) for n, t in sd.items()}, json.loads(path.read_text())


def forward(folder, ids):
    sd, c = load(folder)
    with torch.no_grad():
        return (phi4flash if c.get("model_type") == "phi4flash" else archscale)(sd, c, ids)


def trace(path, c, sd, ids):
    with torch.no_grad():
        out = archscale({n: t.to(f64) for n, t in sd.items()}, c, ids)
    save_file({**{n: t.contiguous() for n, t in out.items()}, "input_ids": ids}, path, metadata={"format": "pt", "dtype": "float64"})
    return out


# ---------------------------------------------------------------- named configurations

def named(name, fused=False):
    family, depth = name.rsplit("_d", 1)
    p, d = PRESETS["presets"][family], int(depth)
    heads = lambda v: {"d": d, "2d": 2 * d, "d/4": d // 4}.get(v, v)
    return complete({**p["set"], "name": name, "n_layer": d, "n_head": heads(p["n_head"]), "n_query_groups": heads(p["n_query_groups"]),
                     "head_dim": p["head_dim"], "ar": p["ar"]}, fused or bool(p.get("fused")))


def count(c):
    return sum(math.prod(s) for n, s in shapes(c).items() if "skip_proj" not in n and not (n == "lm_head.weight" and c["tied_embed"]))


def parameters():
    """The parameters of every named configuration, a tied head once, as [2026, July 2025]."""
    result = {}
    for family, p in PRESETS["presets"].items():
        for d in () if p.get("hidden") else p["depths"]:
            name = f"{family}_d{d}"
            new = None if p.get("fused") else count(named(name))
            result[name] = [new, count(named(name, True)) if set(p["set"]) <= set(OLD) else None]
    return result


# ---------------------------------------------------------------- the fixtures

# Options that no other case has, each somewhere that it moves the logits.
CASES = {
    "as-norms-gates": (dict(n_layer=4, n_head=6, n_query_groups=2, head_dim=10, n_embd=42, intermediate_size=37, vocab_size=61, padding_multiple=1, qk_norm=True,
                            gated_attn=True, attn_norm=True, ffn_norm=True, sc_attn=True, bias=True, attn_bias=True, attn_out_bias=True, local_window=5,
                            full_per_layer=2, rotary_percentage=0.4, rope_base=500, mup=True, mup_d0=8, mup_hd0=128, use_muonh=True, depth_scale=True), False),
    "as-sambaywdr-yarn": (dict(n_layer=8, n_head=4, n_query_groups=2, head_dim=12, n_embd=32, intermediate_size=40, vocab_size=61, padding_multiple=32,
                               block_size=14, local_window=3, yoco=True, gmu_yoco=True, yoco_window=True, ada_rope=True, scaling_factor=2.5, rnn_per_layer=2,
                               jamba_norm=True, separate_qkv=False, gated_attn=True, use_da=True,
                               da_const_lamb=True, attn_bias=True, mup=True, mup_d0=12, mup_hd0=64, depth_scale=False), False),
    "as-sambayattn-nonorm": (dict(n_layer=8, n_head=4, n_query_groups=2, head_dim=8, n_embd=28, intermediate_size=30, vocab_size=61, padding_multiple=1,
                                  local_window=4, yoco=True, gmu_yoco=True, gmu_attn=True, gmu_per_layer=1, rnn_per_layer=2, nope=True, qk_norm=True,
                                  attn_norm=True, ffn_norm=True, _norm_class="NoNorm", scale_embed=True, tied_embed=True), False),
    "as-swayoco-mlp": (dict(n_layer=8, n_head=4, n_query_groups=1, head_dim=12, n_embd=40, intermediate_size=33, vocab_size=61, padding_multiple=1, local_window=4,
                            yoco=True, gmu_yoco=True, gmu_mlp=True, gmu_per_layer=3, yoco_nope=True, scaling_factor=2.0, attn_scale=0.2, bias=True,
                            _norm_class="LayerNormFunc"), False),
    "as-transformer-condensed": (dict(n_layer=3, n_head=6, n_query_groups=3, head_dim=None, n_embd=48, intermediate_size=31, vocab_size=61, padding_multiple=1,
                                      local_window=4, full_per_layer=3, attn_bias=True, attn_out_bias=True, sc_attn=True, condense_ratio=2, bias=True,
                                      mup=True, mup_hd0=64, original_mup=True, _norm_class="LayerNorm", norm_eps=1e-3), True),
}


def make():
    for seed, (name, (options, fused)) in enumerate(CASES.items()):
        c = complete({**options, "name": f"{name}_d{options['n_layer']}"}, fused)
        sd = weights(c, 100 + seed)
        folder = MODELS / name
        save(folder / "archscale", c, sd, recipe="scaling_muonh" if c.get("use_muonh") else "scaling", fused=fused)
        ids = torch.randint(0, c["vocab_size"], (2, 21), generator=torch.Generator().manual_seed(seed))
        out = trace(folder / "trace.safetensors", c, sd, ids)
        moved = []
        for key in sd:
            other = {n: t.to(f64) * (1.2 if n == key else 1) for n, t in sd.items()}
            if key == "transformer.wte.weight" and c["tied_embed"]:
                other["lm_head.weight"] = other[key]
            with torch.no_grad():
                moved.append((float((archscale(other, c, ids)["logits"] - out["logits"]).abs().max() / out["logits"].abs().max()), key))
        dead = [k for m, k in moved if m < 1e-4]
        print(f"{name}: {count(c)} parameters, largest logit {float(out['logits'].abs().max()):.3g}, moves nothing: {dead}")
    faulty()
    path = MODELS.parent / "archscale-parameters.json"
    path.write_text(json.dumps(parameters(), indent=1) + "\n")


def faulty():
    """Traces of Phi-4-mini-flash by code that takes another memory: behind the gate z, and without the skip D."""
    right = mamba
    folder = MODELS / "phi4flash/hf"
    sd, c = load(folder)
    ids = torch.randint(0, c["vocab_size"], (1, 12), generator=torch.Generator().manual_seed(9))
    for name in ("gated", "no-skip"):
        def other(x, sd, p, jamba):
            y, memory = right(x, sd, p, jamba)
            u, z = linear(x, sd, p + "in_proj").chunk(2, -1)
            skip = sd[p + "D"] * convolved(u, sd[p + "conv1d.weight"], sd[p + "conv1d.bias"])
            return y, memory * F.silu(z) if name == "gated" else memory - skip
        globals()["mamba"] = other
        with torch.no_grad():
            out = phi4flash(sd, c, ids)
        globals()["mamba"] = right
        save_file({**{n: t.contiguous() for n, t in out.items()}, "input_ids": ids},
                  MODELS.parent / f"faulty/phi4flash-memory-{name}.safetensors", metadata={"format": "pt", "dtype": "float64"})


def check():
    for case in sorted(MODELS.iterdir()):
        for folder in sorted(p for p in case.iterdir() if p.name == "archscale" or case.name == "phi4flash" and p.is_dir()):
            wanted = load_file(case / "trace.safetensors")
            found = forward(folder, wanted["input_ids"])
            off = max(float((found[n] - wanted[n]).abs().max() / wanted[n].abs().max()) for n in found)
            print(f"{case.name}/{folder.name}: {off:.1e}")


if __name__ == "__main__":
    {"check": check, "make": make}[sys.argv[1]]()
