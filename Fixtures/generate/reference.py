"""Makes models like those of Fixtures/models, and the float64 traces of any of them.

    python3 reference.py check                    # every trace again from the weights; prints the error
    python3 reference.py trace MODEL_DIR OUT.safetensors [--tokens B T] [--seed N]
    python3 reference.py make OUT_DIR             # fresh models of every framework, with their traces

Needs torch, safetensors, and for `make` also transformers and flash-linear-attention (the fixtures were
made with torch 2.13, transformers 5.23, flash-linear-attention 0.6.0). `make` lets transformers and
flash-linear-attention build and save their own classes; what microsoft/Samba, mamba_ssm, torchscale and
berlino save is put together by their names and shapes, in their file formats.

The forward passes below are written from the papers' equations, in float64, one small function each.
They are the arbiter: the frameworks' own modules agree with them to about 1e-5 of the largest logit.
"""

import argparse
import ast
import importlib.machinery
import json
import math
import pathlib
import sys
import types

import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save_file

MODELS = pathlib.Path(__file__).resolve().parent.parent / "models"
D = torch.float64


# ---------------------------------------------------------------- the equations

def rms(x, w, eps):
    y = x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + eps)
    return y if w is None else y * w


def linear(x, sd, name):
    return F.linear(x, sd[name + ".weight"], sd.get(name + ".bias"))


def causal_conv(x, w, b):
    """x [B,T,C], w [C,1,K], depthwise; the last tap multiplies the current token."""
    y = F.conv1d(F.pad(x.transpose(1, 2), (w.shape[-1] - 1, 0)), w, b, groups=w.shape[0])
    return y.transpose(1, 2)


def selective_scan(u, dt, A, B, C, skip):
    """Mamba's recurrence: u, dt [B,T,E], A [E,N], B, C [B,T,N]."""
    h = u.new_zeros(u.shape[0], u.shape[2], A.shape[1])
    out = []
    for t in range(u.shape[1]):
        h = torch.exp(dt[:, t, :, None] * A) * h + (dt[:, t] * u[:, t])[:, :, None] * B[:, t, None]
        out.append((h * C[:, t, None]).sum(-1))
    return torch.stack(out, 1) + u * skip


def ssm(u, sd, p):
    """From the convolved input to the scan's output."""
    state = sd[p + "A_log"].shape[1]
    rank = sd[p + "dt_proj.weight"].shape[1]
    dt, B, C = F.linear(u, sd[p + "x_proj.weight"]).split([rank, state, state], -1)
    dt = F.softplus(linear(dt, sd, p + "dt_proj"))
    return selective_scan(u, dt, -torch.exp(sd[p + "A_log"]), B, C, sd[p + "D"])


def mamba(x, sd, p):
    u, z = linear(x, sd, p + "in_proj").chunk(2, -1)
    u = F.silu(causal_conv(u, sd[p + "conv1d.weight"], sd.get(p + "conv1d.bias")))
    return linear(ssm(u, sd, p) * F.silu(z), sd, p + "out_proj")


def rope_tables(T, d, inv=None, bfloat16=False):
    if bfloat16:  # lit_gpt: angles in float32, tables rounded
        a = torch.outer(torch.arange(T) / 1, 1.0 / 10000 ** (torch.arange(0, d, 2) / d))
        return a.cos().bfloat16().to(D), a.sin().bfloat16().to(D)
    inv = 1.0 / 10000 ** (torch.arange(0, d, 2, dtype=D) / d) if inv is None else inv
    a = torch.outer(torch.arange(T, dtype=D), inv)
    return a.cos(), a.sin()


def rope_half(x, cos, sin):
    """x [B,T,H,d]; i and i + d/2 are a pair."""
    a, b = x.chunk(2, -1)
    c, s = cos[None, :, None], sin[None, :, None]
    return torch.cat([a * c - b * s, a * s + b * c], -1)


def rope_interleaved(x, cos, sin):
    """x [B,T,H,d]; 2i and 2i + 1 are a pair."""
    a, b = x[..., ::2], x[..., 1::2]
    c, s = cos[None, :, None], sin[None, :, None]
    return torch.stack([a * c - b * s, a * s + b * c], -1).flatten(-2)


def softmax_attention(q, k, v, window):
    """q [B,T,H,d], k, v [B,T,G,d]; position t sees t-window+1..t (all, when window is None)."""
    r = q.shape[2] // k.shape[2]
    k, v = k.repeat_interleave(r, 2), v.repeat_interleave(r, 2)
    s = torch.einsum("bqhd,bkhd->bhqk", q, k) * q.shape[-1] ** -0.5
    i, j = torch.arange(q.shape[1])[:, None], torch.arange(q.shape[1])[None]
    dead = (j > i) if window is None else (j > i) | (j <= i - window)
    return torch.einsum("bhqk,bkhd->bqhd", s.masked_fill(dead, -math.inf).softmax(-1), v)


def linear_attention(q, k, v, logdecay):
    """q, k [B,T,H,dk], v [B,T,H,dv]; logdecay [B,T,H,dk], or [H] for retention."""
    S = q.new_zeros(q.shape[0], q.shape[2], q.shape[3], v.shape[3])
    out = []
    for t in range(q.shape[1]):
        g = logdecay.exp()[None, :, None] if logdecay.dim() == 1 else logdecay[:, t].exp()
        S = S * g[..., None] + k[:, t][..., None] * v[:, t][:, :, None]
        out.append(torch.einsum("bhk,bhkv->bhv", q[:, t] * q.shape[3] ** -0.5, S))
    return torch.stack(out, 1)


def heads(x, h):
    return x.unflatten(-1, (h, -1))


def projected(x, sd, p, name, h):
    y = linear(x, sd, f"{p}{name}_proj")
    if f"{p}{name}_conv1d.weight" in sd:
        y = F.silu(causal_conv(y, sd[f"{p}{name}_conv1d.weight"], None))
    return heads(y, h)


def gated_out(o, x, sd, p, eps):
    """A norm of each head, the gate, the output projection."""
    o = rms(o, sd.get(p + "g_norm_swish_gate.weight", sd.get(p + "g_norm.weight")), eps)
    if p + "g_proj.weight" in sd:
        o = o * F.silu(heads(linear(x, sd, p + "g_proj"), o.shape[2]))
    return linear(o.flatten(2), sd, p + "o_proj")


def gla(x, sd, p, H, G, eps, clamp=None):
    q, k, v = (projected(x, sd, p, n, h) for n, h in (("q", H), ("k", G), ("v", G)))
    g = heads(linear(linear(x, sd, p + "gk_proj.0"), sd, p + "gk_proj.1"), G)
    g = F.logsigmoid(g) / 16
    if clamp is not None:
        g = g.clamp_min(clamp)
    k, v, g = (t.repeat_interleave(H // G, 2) for t in (k, v, g))
    return gated_out(linear_attention(q, k, v, g), x, sd, p, eps)


def retention(x, sd, p, H, G, eps):
    q, k, v = (projected(x, sd, p, n, h) for n, h in (("q", H), ("k", G), ("v", G)))
    tables = rope_tables(x.shape[1], q.shape[-1])
    q, k = rope_half(q, *tables), rope_half(k, *tables)
    k, v = (t.repeat_interleave(H // G, 2) for t in (k, v))
    decay = torch.log(1 - 2.0 ** (-5 - torch.arange(H, dtype=D)))
    return gated_out(linear_attention(q, k, v, decay), x, sd, p, eps)


def swiglu(x, gate, up, down, act=F.silu):
    return F.linear(act(F.linear(x, gate)) * F.linear(x, up), down)


def run(ids, sd, embed, layers, norm, eps, head):
    """layers: functions of the residual stream."""
    out, x = {}, sd[embed][ids]
    for i, layer in enumerate(layers):
        out[f"hidden_states.{i}"] = x
        x = layer(x)
    out[f"hidden_states.{len(layers)}"] = x
    out["final_norm"] = rms(x, sd[norm], eps)
    out["logits"] = F.linear(out["final_norm"], sd.get(head, sd[embed]))
    return out


# ---------------------------------------------------------------- the frameworks' models

def hf_mamba(sd, c, ids):  # transformers, fla and mamba_ssm
    eps = c.get("layer_norm_epsilon", c.get("norm_eps", 1e-5))
    embed = next(k for k in sd if k.startswith("backbone.embedding"))

    def layer(i):
        p = f"backbone.layers.{i}."
        return lambda x: x + mamba(rms(x, sd[p + "norm.weight"], eps), sd, p + "mixer.")

    count = c.get("num_hidden_layers", c.get("n_layer"))
    return run(ids, sd, embed, [layer(i) for i in range(count)], "backbone.norm_f.weight", eps,
               "lm_head.weight")


def fla_samba(sd, c, ids):
    eps, a = c["norm_eps"], c["attn"]

    def layer(i):
        p = f"backbone.layers.{i}."

        def f(x):
            n = rms(x, sd[p + "mixer_norm.weight"], eps)
            if i in a["layers"]:
                q, k, v = (projected(n, sd, p + "mixer.", s, h) for s, h in
                           (("q", a["num_heads"]), ("k", a["num_kv_heads"]), ("v", a["num_kv_heads"])))
                t = rope_tables(x.shape[1], q.shape[-1])
                o = softmax_attention(rope_half(q, *t), rope_half(k, *t), v, a["window_size"])
                x = x + linear(o.flatten(2), sd, p + "mixer.o_proj")
            else:
                x = x + mamba(n, sd, p + "mixer.")
            n = rms(x, sd[p + "mlp_norm.weight"], eps)
            return x + swiglu(n, *(sd[f"{p}mlp.{s}_proj.weight"] for s in ("gate", "up", "down")))
        return f

    return run(ids, sd, "backbone.embeddings.weight", [layer(i) for i in range(c["num_hidden_layers"])],
               "backbone.norm_f.weight", eps, "lm_head.weight")


def fla_linear(sd, c, ids):  # gla and retnet
    eps, H = c["norm_eps"], c["num_heads"]
    G = c["num_kv_heads"] or H

    def layer(i):
        p = f"model.layers.{i}."

        def f(x):
            n = rms(x, sd[p + "attn_norm.weight"], eps)
            if c["model_type"] == "gla":
                x = x + gla(n, sd, p + "attn.", H, G, eps, c["clamp_min"])
            else:
                x = x + retention(n, sd, p + "attn.", H, G, eps)
            n = rms(x, sd[p + "mlp_norm.weight"], eps)
            return x + swiglu(n, *(sd[f"{p}mlp.{s}_proj.weight"] for s in ("gate", "up", "down")))
        return f

    return run(ids, sd, "model.embeddings.weight", [layer(i) for i in range(c["num_hidden_layers"])],
               "model.norm.weight", eps, "lm_head.weight")


def lit_kind(c, i):
    """microsoft/Samba lit_gpt/model.py, Block: what stands at layer i."""
    if c["mamba"]:
        return "mamba-only"
    if c["mamba_swa_mlp"]:
        return "mamba-swa"
    if c["use_mega"]:
        return "mega"
    if c["attn_layer_pos"] is not None:
        at_mamba = i not in ast.literal_eval(c["attn_layer_pos"])
    else:
        at_mamba = c["mb_per_layer"] > 0 and i % c["mb_per_layer"] == 0
    if at_mamba:
        return "mlp" if c["abl_mamba"] else "mamba"
    if c["attn_layer_pos"] is None and c["ret_per_layer"] > 0 and i % c["ret_per_layer"] == 0:
        return "retnet"
    if c["attn_layer_pos"] is None and c["gla_per_layer"] > 0 and i % c["gla_per_layer"] == 0:
        return "gla"
    return "attention"


def mega(x, sd, p):
    """S6GatedAttention (lit_gpt/mega.py), for sequences shorter than a chunk; norm and residual inside."""
    n = rms(x, sd[p + "norm.weight"], 1e-5)
    v = F.silu(linear(n, sd, p + "v_proj"))
    u = F.silu(causal_conv(n, sd[p + "move.conv1d.weight"], sd[p + "move.conv1d.bias"]))
    m = F.silu(ssm(u, sd, p + "move."))
    d = x.shape[-1]
    u, z, r, h = linear(m, sd, p + "mx_proj").split([d, 128, d, d], -1)
    u, z, r = torch.sigmoid(u), F.silu(z), F.silu(r)
    q, k = (z * sd[p + "gamma"][i] + sd[p + "beta"][i] for i in (0, 1))
    T = x.shape[1]
    turn = torch.outer(torch.arange(T, dtype=D), 10000 ** -(torch.arange(64, dtype=D) / 64))
    alpha, beta = (rope_half(sd[p + f"rel_pos_bias.{s}"].expand(T, -1)[None, :, None],
                             turn.cos(), turn.sin())[0, :, 0] for s in ("alpha", "beta"))
    s = torch.einsum("bqd,bkd->bqk", q, k) * 128 ** -0.5 + alpha @ beta.T
    dead = torch.ones(T, T, dtype=torch.bool).triu(1)
    y = s.masked_fill(dead, -math.inf).softmax(-1) @ v
    h = F.silu(h + linear(y * r, sd, p + "h_proj"))
    return x + u * (h - x)


def lit_gpt(sd, c, ids):
    eps, H = c["norm_eps"], c["n_head"]
    G = c["n_query_groups"] or H
    w = c["local_window"]

    def attention(x, p, i):
        full = w < 0 or i % c["full_per_layer"] == c["full_per_layer"] - 1
        qkv = linear(x, sd, p + "attn").unflatten(-1, (G, H // G + 2, c["n_embd"] // H))
        q, k, v = qkv.split([H // G, 1, 1], -2)
        q, k, v = q.flatten(2, 3), k.flatten(2, 3), v.flatten(2, 3)
        if not c["nope"]:
            t = rope_tables(x.shape[1], q.shape[-1], bfloat16=True)
            q, k = rope_half(q, *t), rope_half(k, *t)
        return linear(softmax_attention(q, k, v, None if full else w).flatten(2), sd, p + "proj")

    def mlp(x, p):
        return swiglu(x, *(sd[f"{p}swiglu.{s}.weight"] for s in ("w1", "w2", "w3")))

    def layer(i):
        p, kind = f"transformer.h.{i}.", lit_kind(c, i)

        def f(x):
            def n(name):
                return rms(x, sd[p + name + ".weight"], eps)
            if kind == "mamba-only":
                return x + mamba(n("norm"), sd, p + "mixer.")
            if kind == "mamba-swa":
                x = x + mamba(n("norm_m"), sd, p + "mb.")
                x = x + attention(rms(x, sd[p + "norm_attn.weight"], eps), p + "attn.", i)
            elif kind == "mega":
                x = mega(x, sd, p + "attn.")
            elif kind == "gla":
                x = x + gla(n("norm_1"), sd, p + "attn.", c["n_embd"] // 384, c["n_embd"] // 384, 1e-5)
            elif kind == "retnet":
                x = x + retention(n("norm_1"), sd, p + "attn.", H // 2, H // 2, 1e-5)
            elif kind == "mlp":
                x = x + mlp(n("norm_1"), p + "attn.")
            elif kind == "mamba":
                x = x + mamba(n("norm_1"), sd, p + "attn.")
            else:
                x = x + attention(n("norm_1"), p + "attn.", i)
            return x + mlp(rms(x, sd[p + "norm_2.weight"], eps), p + "mlp.")
        return f

    return run(ids, sd, "transformer.wte.weight", [layer(i) for i in range(c["n_layer"])],
               "transformer.ln_f.weight", eps, "lm_head.weight")


def torchscale(sd, c, ids):
    """RetNetDecoder in its parallel form, with the normalisation of its scores."""
    H, eps = c["decoder_retention_heads"], c["layernorm_eps"]
    act = F.gelu if c["activation_fn"] == "gelu" else F.silu
    T = ids.shape[1]
    angle, decay = sd["retnet_rel_pos.angle"], sd["retnet_rel_pos.decay"]
    i, j = torch.arange(T, dtype=D)[:, None], torch.arange(T, dtype=D)[None]
    mask = torch.exp(decay[:, None, None] * (i - j)).masked_fill(j > i, 0)
    mask = mask / mask.sum(-1, keepdim=True).sqrt()

    def layer(l):
        p = f"layers.{l}."

        def f(x):
            n = rms(x, sd[p + "retention_layer_norm.weight"], eps)
            q, k, v, g = (heads(linear(n, sd, f"{p}retention.{s}_proj"), H) for s in "qkvg")
            k = k * k.shape[-1] ** -0.5
            t = rope_tables(T, q.shape[-1], inv=angle[::2])
            q, k = rope_interleaved(q, *t), rope_interleaved(k, *t)
            s = torch.einsum("bqhd,bkhd->bhqk", q, k) * mask
            s = s / s.abs().sum(-1, keepdim=True).clamp(min=1, max=5e4)
            o = rms(torch.einsum("bhqk,bkhd->bqhd", s, v), None, eps)
            x = x + linear((o * F.silu(g)).flatten(2), sd, p + "retention.out_proj")
            n = rms(x, sd[p + "final_layer_norm.weight"], eps)
            return x + swiglu(n, *(sd[f"{p}ffn.{s}.weight"] for s in ("fc1", "gate", "fc2")), act)
        return f

    scaled = dict(sd)
    if not c["no_scale_embedding"]:
        scaled["scaled"] = sd["embed_tokens.weight"] * math.sqrt(c["decoder_embed_dim"])
    if c["layernorm_embedding"]:
        table = scaled.get("scaled", sd["embed_tokens.weight"])
        scaled["scaled"] = rms(table, sd["layernorm_embedding.weight"], eps)
    return run(ids, scaled, "scaled" if "scaled" in scaled else "embed_tokens.weight",
               [layer(l) for l in range(c["decoder_layers"])], "layer_norm.weight", eps,
               "output_projection.weight")


def berlino(sd, c, ids):
    """Keys are scaled twice; the heads' norm is a LayerNorm without affine."""
    H, eps = c["n_head"], 1e-5

    def layer(i):
        p = f"transformer.h.{i}."

        def f(x):
            n = rms(x, sd[p + "ln_1.weight"], eps)
            q, k, v = (heads(linear(n, sd, f"{p}attn.{s}_proj"), H) for s in "qkv")
            k = k * v.shape[-1] ** -0.5
            g = linear(linear(n, sd, p + "attn.k_gate.0"), sd, p + "attn.k_gate.1")
            o = linear_attention(q, k, v, heads(F.logsigmoid(g) / 16, H))
            o = F.layer_norm(o, (o.shape[-1],), eps=eps).flatten(2)
            x = x + linear(o * F.silu(linear(n, sd, p + "attn.g_proj")), sd, p + "attn.out_proj")
            n = rms(x, sd[p + "ln_2.weight"], eps)
            return x + swiglu(n, *(sd[f"{p}{s}.weight"] for s in ("w1", "w3", "w2")))
        return f

    return run(ids, sd, "transformer.wte.weight", [layer(i) for i in range(c["n_layer"])],
               "transformer.ln_f.weight", eps, "lm_head.weight")


FORWARD = {"hf": hf_mamba, "mamba_ssm": hf_mamba, "lit_gpt": lit_gpt, "torchscale": torchscale,
           "berlino": berlino}
FLA = {"mamba": hf_mamba, "samba": fla_samba, "gla": fla_linear, "retnet": fla_linear}


# ---------------------------------------------------------------- files

def load(folder):
    """A model directory: its weights in float64 without prefixes, and its config."""
    folder = pathlib.Path(folder)
    config = json.loads(next(folder.glob("*config.json")).read_text()
                        if not (folder / "config.json").exists() else (folder / "config.json").read_text())
    if (folder / "model.safetensors").exists():
        sd = load_file(folder / "model.safetensors")
    else:
        path = next(p for p in sorted(folder.iterdir()) if p.suffix in (".pt", ".pth", ".bin"))
        # The optimizer and the Namespace beside the weights are the trainer's own objects.
        sd = torch.load(path, map_location="cpu", weights_only=False)
        sd = sd.get("model", sd)
    strip = ("_forward_module.", "decoder.")
    for prefix in strip:
        sd = {k.removeprefix(prefix): v for k, v in sd.items()}
    return {k: v.to(D) for k, v in sd.items() if v.is_floating_point()}, config


def forward(folder, ids):
    folder = pathlib.Path(folder)
    sd, config = load(folder)
    f = FLA[config["model_type"]] if folder.name == "fla" else FORWARD[folder.name]
    with torch.no_grad():
        return f(sd, config, ids)


def trace(folder, out, ids, note=""):
    result = {k: v.contiguous() for k, v in forward(folder, ids).items()}
    result["input_ids"] = ids
    save_file(result, out, metadata={"format": "pt", "dtype": "float64 oracle", "note": note})


def check():
    for case in sorted(MODELS.iterdir()):
        wanted = load_file(case / "trace.safetensors")
        for folder in sorted(p for p in case.iterdir() if p.is_dir()):
            found = forward(folder, wanted["input_ids"])
            largest = wanted["logits"].abs().max()
            off = max(float((found[k] - v).abs().max() / largest)
                      for k, v in wanted.items() if k in found)
            print(f"{case.name}/{folder.name}: off by {off:.1e} of the largest logit")


# ---------------------------------------------------------------- fresh models

def randomised(sd, seed):
    """Realistic scale, and no value under which a wrong mapping would go unseen."""
    g = torch.Generator().manual_seed(seed)
    out = {}
    for name, t in sd.items():
        if not t.is_floating_point() or "retnet_rel_pos" in name:
            out[name] = t
            continue
        x = torch.randn(t.shape, generator=g)
        if name.endswith("A_log"):
            x = torch.log(torch.arange(1, t.shape[-1] + 1).float()) * 0.4 + 0.5 * x
        elif name.endswith("dt_proj.bias"):
            x = x - 2
        elif "norm" in name or name.endswith((".D", "ln_1.weight", "ln_2.weight", "ln_f.weight")):
            x = 1 + 0.3 * x
        elif t.dim() == 1:
            x = 0.2 * x
        elif name.endswith("conv1d.weight"):
            x = 0.65 * x
        else:
            x = 1.3 * x * t.shape[-1] ** -0.5
        out[name] = x.to(t.dtype)
    return out


def saved_by_framework(model, folder, seed):
    model.load_state_dict(randomised(model.state_dict(), seed))
    model.tie_weights()
    model.save_pretrained(folder)


def mamba_shapes(p, d, conv_bias=True):
    e, r = 2 * d, math.ceil(d / 16)
    s = {"A_log": (e, 16), "D": (e,), "in_proj.weight": (2 * e, d), "conv1d.weight": (e, 1, 4),
         "conv1d.bias": (e,), "x_proj.weight": (r + 32, e), "dt_proj.weight": (e, r),
         "dt_proj.bias": (e,), "out_proj.weight": (d, e)}
    return {p + k: v for k, v in s.items()}


def lit_shapes(c):
    """Names and shapes of microsoft/Samba's lit_gpt (without S6-Mega, whose module sets its own)."""
    d, V, I = c["n_embd"], c["padded_vocab_size"], c["intermediate_size"]
    H, G = c["n_head"], c["n_query_groups"]
    s = {"lm_head.weight": (V, d), "transformer.wte.weight": (V, d)}
    for i in range(c["n_layer"]):
        p, kind = f"transformer.h.{i}.", lit_kind(c, i)
        if kind == "mamba-only":
            s |= {p + "norm.weight": (d,)} | mamba_shapes(p + "mixer.", d)
            continue
        if kind == "mamba-swa":
            s |= {p + "norm_m.weight": (d,)} | mamba_shapes(p + "mb.", d)
            s[p + "norm_attn.weight"] = (d,)
        else:
            s[p + "norm_1.weight"] = (d,)
        if kind == "mamba":
            s |= mamba_shapes(p + "attn.", d)
        elif kind == "mlp":
            s |= {p + f"attn.swiglu.{n}.weight": (2 * d, d) for n in ("w1", "w2")}
            s[p + "attn.swiglu.w3.weight"] = (d, 2 * d)
        elif kind in ("gla", "retnet"):
            k, v, h = (d // 2, d, d // 384) if kind == "gla" else (d, 2 * d, H // 2)
            s |= {p + "attn.q_proj.weight": (k, d), p + "attn.k_proj.weight": (k, d),
                  p + "attn.v_proj.weight": (v, d), p + "attn.g_proj.weight": (v, d),
                  p + "attn.o_proj.weight": (d, v), p + "attn.g_norm_swish_gate.weight": (v // h,)}
            if kind == "gla":
                s |= {p + "attn.gk_proj.0.weight": (16, d), p + "attn.gk_proj.1.weight": (k, 16),
                      p + "attn.gk_proj.1.bias": (k,)}
        else:
            s[p + "attn.attn.weight"] = ((H + 2 * G) * d // H, d)
            s[p + "attn.proj.weight"] = (d, d)
        s |= {p + "norm_2.weight": (d,), p + "mlp.swiglu.w1.weight": (I, d),
              p + "mlp.swiglu.w2.weight": (I, d), p + "mlp.swiglu.w3.weight": (d, I)}
    s["transformer.ln_f.weight"] = (d,)
    return s


def stand_in_for_flash_attn():
    """fla's Attention wants the package at construction; nothing here calls it."""
    try:
        import flash_attn  # noqa: F401
    except ImportError:
        module = types.ModuleType("flash_attn")
        module.flash_attn_func = module.flash_attn_varlen_func = lambda *a, **k: None
        module.__spec__ = importlib.machinery.ModuleSpec("flash_attn", None)
        sys.modules["flash_attn"] = module


def make(out):
    stand_in_for_flash_attn()
    from fla.models import (GLAConfig, GLAForCausalLM, MambaConfig as FLAMambaConfig,
                            MambaForCausalLM as FLAMamba, RetNetConfig, RetNetForCausalLM,
                            SambaConfig, SambaForCausalLM)
    from transformers import MambaConfig, MambaForCausalLM
    out = pathlib.Path(out)
    fla = dict(hidden_size=64, intermediate_size=96, vocab_size=100)
    built = {
        "mamba-tied/hf": MambaForCausalLM(MambaConfig(hidden_size=48, num_hidden_layers=3,
                                                      vocab_size=128)),
        "mamba-bias-untied/hf": MambaForCausalLM(MambaConfig(
            hidden_size=40, num_hidden_layers=2, vocab_size=104, state_size=8, conv_kernel=3,
            time_step_rank=5, use_bias=True, tie_word_embeddings=False)),
        "mamba-fla/fla": FLAMamba(FLAMambaConfig(hidden_size=48, num_hidden_layers=2, vocab_size=96)),
        "gla-base/fla": GLAForCausalLM(GLAConfig(num_heads=2, num_hidden_layers=3, **fla)),
        "gla-conv-gqa-clamp/fla": GLAForCausalLM(GLAConfig(
            num_heads=4, num_kv_heads=2, num_hidden_layers=2, use_short_conv=True, clamp_min=-0.05,
            tie_word_embeddings=True, **fla)),
        "retnet-base/fla": RetNetForCausalLM(RetNetConfig(num_heads=2, num_hidden_layers=3, **fla)),
        "retnet-gqa-nogate/fla": RetNetForCausalLM(RetNetConfig(
            num_heads=4, num_kv_heads=2, num_hidden_layers=2, use_output_gate=False, **fla)),
        "samba-fla/fla": SambaForCausalLM(SambaConfig(
            hidden_size=64, num_hidden_layers=4, vocab_size=100, attn=dict(
                layers=[1, 3], num_heads=4, num_kv_heads=2, qkv_bias=False, window_size=8,
                rope_theta=10000.0))),
    }
    for seed, (name, model) in enumerate(built.items()):
        saved_by_framework(model, out / name, seed)
    for case in ("mamba-tied", "mamba-bias-untied"):  # the same weights as mamba_ssm saves them
        sd = load_file(out / case / "hf" / "model.safetensors")
        sd["backbone.embedding.weight"] = sd.pop("backbone.embeddings.weight")
        sd.setdefault("lm_head.weight", sd["backbone.embedding.weight"])
        hf = json.loads((out / case / "hf" / "config.json").read_text())
        folder = out / case / "mamba_ssm"
        folder.mkdir()
        torch.save(sd, folder / "pytorch_model.bin")
        (folder / "config.json").write_text(json.dumps(dict(
            d_model=hf["hidden_size"], n_layer=hf["num_hidden_layers"], vocab_size=hf["vocab_size"] - 5,
            ssm_cfg=dict(d_state=hf["state_size"], d_conv=hf["conv_kernel"], expand=2,
                         dt_rank=hf["time_step_rank"], bias=hf["use_bias"], conv_bias=True),
            rms_norm=True, residual_in_fp32=True, fused_add_norm=True, pad_vocab_size_multiple=8,
            tie_embeddings=hf["tie_word_embeddings"]), indent=2))
    # microsoft/Samba: as pretrain.py saves it. The configs are those of the fixtures.
    for seed, folder in enumerate(sorted(MODELS.glob("lit-*/lit_gpt"))):
        c = json.loads((folder / "lit_config.json").read_text())
        if c["use_mega"]:
            continue
        sd = randomised({k: torch.empty(v) for k, v in lit_shapes(c).items()}, 100 + seed)
        if c["mamba"] or c["mamba_init"]:
            sd["lm_head.weight"] = sd["transformer.wte.weight"].clone()
        to = out / folder.parent.name / "lit_gpt"
        to.mkdir(parents=True)
        torch.save({"model": sd, "optimizer": {"state": {}, "param_groups": []},
                    "hparams": {"model_name": c["name"]}, "iter_num": 128, "step_count": 16},
                   to / "iter-000128-ckpt.pth")
        (to / "lit_config.json").write_text(json.dumps(c, indent=2))
    for folder in sorted(p for p in out.glob("*/*") if p.is_dir()):
        vocab = next(v.shape[0] for k, v in load(folder)[0].items() if "embed" in k or "wte" in k)
        ids = torch.randint(0, vocab, (2, 40), generator=torch.Generator().manual_seed(1))
        trace(folder, folder.parent / "trace.safetensors", ids)
        print(folder)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("check")
    commands.add_parser("make").add_argument("out")
    one = commands.add_parser("trace")
    one.add_argument("model")
    one.add_argument("out")
    one.add_argument("--tokens", nargs=2, type=int, default=(2, 40))
    one.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    if arguments.command == "check":
        check()
    elif arguments.command == "make":
        make(arguments.out)
    else:
        weights, _ = load(arguments.model)
        rows = next(v.shape[0] for k, v in weights.items() if "embed" in k or "wte" in k)
        generator = torch.Generator().manual_seed(arguments.seed)
        trace(arguments.model, arguments.out,
              torch.randint(0, rows, tuple(arguments.tokens), generator=generator))
