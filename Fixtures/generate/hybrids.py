"""Makes small hybrids of Mamba and attention, with their float64 traces.

    python3 hybrids.py make OUT_DIR                    # the cases hy-* of Fixtures/models
    python3 hybrids.py random ARCHITECTURE SEED OUT    # one of random sizes and options
    python3 hybrids.py trace MODEL_DIR OUT.safetensors [--seed N]

Needs torch and safetensors (made with torch 2.13). Configs and names are those that transformers 5
saves (Bamba, GraniteMoeHybrid, Falcon-H1, Nemotron-H, Zamba2, Jamba), and mamba_ssm's. The forward
passes are written from the equations of these frameworks' modules, in float64, with no code in common
with the engine; transformers' own classes agree with them to float32's digits.
"""
import argparse
import json
import math
import pathlib
import random

import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save_file

D = torch.float64
ARCHITECTURES = ["bamba", "granitemoehybrid", "falcon_h1", "nemotron_h", "zamba2", "jamba", "mamba_ssm"]


# ---------------------------------------------------------------- the equations

def rms(x, w, eps):
    y = x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + eps)
    return y if w is None else y * w


def linear(x, sd, name):
    return F.linear(x, sd[name + ".weight"], sd.get(name + ".bias"))


def conv(x, sd, name):
    w = sd[name + ".weight"]
    y = F.conv1d(F.pad(x.transpose(1, 2), (w.shape[-1] - 1, 0)), w, sd.get(name + ".bias"), groups=w.shape[0])
    return y.transpose(1, 2)


def mamba2(x, sd, p, groups, state, eps, low=0.0, high=math.inf, factors=None, norm_first=False):
    """in_proj's rows are [z; x; B; C; dt]; head h reads group floor(h groups / heads)."""
    heads = sd[p + "A_log"].shape[0]
    width = sd[p + "conv1d.weight"].shape[0] - 2 * groups * state
    parts = linear(x, sd, p + "in_proj").split([width, width, groups * state, groups * state, heads], -1)
    z, u, B, C, dt = (t * f for t, f in zip(parts, factors or [1.0] * 5))
    u, B, C = F.silu(conv(torch.cat([u, B, C], -1), sd, p + "conv1d")).split([width, groups * state, groups * state], -1)
    dt = F.softplus(dt + sd[p + "dt_bias"]).clamp(low, high)
    A, skip = -torch.exp(sd[p + "A_log"]), sd[p + "D"]
    u = u.unflatten(-1, (heads, -1))
    B, C = (t.unflatten(-1, (groups, state)).repeat_interleave(heads // groups, 2) for t in (B, C))
    S, out = u.new_zeros(u.shape[0], heads, u.shape[-1], state), []
    for t in range(u.shape[1]):
        S = S * torch.exp(dt[:, t] * A)[..., None, None] + (dt[:, t, :, None] * u[:, t])[..., None] * B[:, t, :, None]
        out.append((S * C[:, t, :, None]).sum(-1) + skip[:, None] * u[:, t])
    y = torch.stack(out, 1).flatten(2)

    def norm(t):
        return rms(t.unflatten(-1, (groups, -1)), None, eps).flatten(-2) * sd[p + "norm.weight"]

    if p + "norm.weight" not in sd:
        y = y * F.silu(z)
    else:
        y = norm(y) * F.silu(z) if norm_first else norm(y * F.silu(z))
    return linear(y, sd, p + "out_proj")


def mamba1(x, sd, p, eps):
    """With norms of dt, B and C, as Jamba has it."""
    u, z = linear(x, sd, p + "in_proj").chunk(2, -1)
    u = F.silu(conv(u, sd, p + "conv1d"))
    rank, state = sd[p + "dt_proj.weight"].shape[1], sd[p + "A_log"].shape[1]
    dt, B, C = F.linear(u, sd[p + "x_proj.weight"]).split([rank, state, state], -1)
    dt, B, C = (rms(t, sd[f"{p}{n}_layernorm.weight"], eps) for t, n in ((dt, "dt"), (B, "b"), (C, "c")))
    dt, A = F.softplus(linear(dt, sd, p + "dt_proj")), -torch.exp(sd[p + "A_log"])
    h, out = u.new_zeros(u.shape[0], u.shape[2], state), []
    for t in range(u.shape[1]):
        h = torch.exp(dt[:, t, :, None] * A) * h + (dt[:, t] * u[:, t])[..., None] * B[:, t, None]
        out.append((h * C[:, t, None]).sum(-1))
    return linear((torch.stack(out, 1) + u * sd[p + "D"]) * F.silu(z), sd, p + "out_proj")


def rotate(x, rotating, base, interleaved=False):
    """The first `rotating` channels of x [B, T, heads, dim] turn."""
    pairs = (rotating + 1) // 2
    a = torch.outer(torch.arange(x.shape[1], dtype=D), 1 / base ** (torch.arange(0, rotating, 2, dtype=D) / rotating))
    c, s = a.cos()[None, :, None], a.sin()[None, :, None]
    y, rest = x[..., : 2 * pairs], x[..., 2 * pairs:]
    if interleaved:
        p, q = y[..., ::2], y[..., 1::2]
        y = torch.stack([p * c - q * s, p * s + q * c], -1).flatten(-2)
    else:
        p, q = y.chunk(2, -1)
        y = torch.cat([p * c - q * s, p * s + q * c], -1)
    return torch.cat([y, rest], -1)


def softmax_attention(q, k, v, scale):
    k, v = (t.repeat_interleave(q.shape[2] // k.shape[2], 2) for t in (k, v))
    T = q.shape[1]
    later = torch.arange(T)[None] > torch.arange(T)[:, None]
    scores = (torch.einsum("bqhd,bkhd->bhqk", q, k) * scale).masked_fill(later, -math.inf)
    return torch.einsum("bhqk,bkhe->bqhe", scores.softmax(-1), v).flatten(2)


def attention(x, sd, p, heads, groups, scale, rope=None, key_factor=1.0, update=lambda name, x: 0):
    q, k, v = (linear(x, sd, f"{p}{n}_proj") + update(n, x) for n in "qkv")
    q, k, v = q.unflatten(-1, (heads, -1)), (k * key_factor).unflatten(-1, (groups, -1)), v.unflatten(-1, (groups, -1))
    if rope:
        q, k = rotate(q, *rope), rotate(k, *rope)
    return linear(softmax_attention(q, k, v, scale), sd, p + "o_proj")


ACT = dict(silu=F.silu, gelu=F.gelu, relu=F.relu, relu2=lambda x: F.relu(x).square(),
           gelu_pytorch_tanh=lambda x: F.gelu(x, approximate="tanh"))


def glu(x, gate, up, down, act="silu"):
    return F.linear(ACT[act](F.linear(x, gate)) * F.linear(x, up), down)


def mixture(x, weights, index, expert):
    """Σ over a token's experts of weight times expert."""
    out = 0
    for e in range(int(index.max()) + 1):
        w = torch.where(index == e, weights, torch.zeros((), dtype=D)).sum(-1)
        if (w != 0).any():
            out = out + w[..., None] * expert(e, x)
    return out


def number(v):
    return math.inf if isinstance(v, dict) else float(v)


def steps(c):
    return [number(v) for v in c.get("time_step_limit") or [0.0, math.inf]]


def base_of(c):
    return (c.get("rope_parameters") or {}).get("rope_theta", 10000.0)


def one(c, key):
    return 1.0 if c.get(key) is None else c[key]


def finish(out, sd, x, eps, norm, embed, factor=1.0):
    out[f"hidden_states.{len(out)}"] = x
    out["final_norm"] = rms(x, sd[norm], eps)
    out["logits"] = F.linear(out["final_norm"], sd.get("lm_head.weight", sd[embed])) * factor
    return out


def heads_of(c):
    heads = c["num_attention_heads"]
    return heads, c.get("num_key_value_heads") or heads, c.get("head_dim") or c["hidden_size"] // heads


EMBED, FINAL = "model.embed_tokens.weight", "model.final_layernorm.weight"


def bamba(sd, c, ids):
    (heads, groups, dim), eps = heads_of(c), c["rms_norm_eps"]
    turning = int(dim * (c.get("rope_parameters") or {}).get("partial_rotary_factor", 0.5))
    x, out = sd[EMBED][ids], {}
    for i in range(c["num_hidden_layers"]):
        p = f"model.layers.{i}."
        out[f"hidden_states.{i}"] = x
        n = rms(x, sd[p + "input_layernorm.weight"], eps)
        if i in (c["attn_layer_indices"] or []):
            x = x + attention(n, sd, p + "self_attn.", heads, groups, dim**-0.5, (turning, base_of(c)) if turning else None)
        else:
            x = x + mamba2(n, sd, p + "mamba.", c["mamba_n_groups"], c["mamba_d_state"], eps, *steps(c))
        n, f = rms(x, sd[p + "pre_ff_layernorm.weight"], eps), p + "feed_forward."
        x = x + linear(F.silu(linear(n, sd, f + "gate_proj")) * linear(n, sd, f + "up_proj"), sd, f + "down_proj")
    return finish(out, sd, x, eps, FINAL, EMBED)


def granitemoehybrid(sd, c, ids):
    (heads, groups, dim), eps = heads_of(c), c["rms_norm_eps"]
    rope = (dim, base_of(c)) if c["position_embedding_type"] == "rope" else None
    branch = one(c, "residual_multiplier")
    x, out = sd[EMBED][ids] * one(c, "embedding_multiplier"), {}
    for i, kind in enumerate(c["layer_types"]):
        p = f"model.layers.{i}."
        out[f"hidden_states.{i}"] = x
        n = rms(x, sd[p + "input_layernorm.weight"], eps)
        if kind == "full_attention":
            h = attention(n, sd, p + "self_attn.", heads, groups, one(c, "attention_multiplier"), rope)
        else:
            h = mamba2(n, sd, p + "mamba.", c["mamba_n_groups"], c["mamba_d_state"], eps, *steps(c))
        x = x + branch * h
        n = rms(x, sd[p + "post_attention_layernorm.weight"], eps)
        h = glu(n, *sd[p + "shared_mlp.input_linear.weight"].chunk(2), sd[p + "shared_mlp.output_linear.weight"])
        if c["num_local_experts"] > 0:
            m = p + "block_sparse_moe."
            top, index = F.linear(n, sd[m + "router.layer.weight"]).topk(c["num_experts_per_tok"], -1)
            w1, w2 = sd[m + "input_linear.weight"], sd[m + "output_linear.weight"]
            h = h + mixture(n, top.softmax(-1), index, lambda e, t: glu(t, *w1[e].chunk(2), w2[e]))
        x = x + branch * h
    return finish(out, sd, x, eps, "model.norm.weight", EMBED, 1 / one(c, "logits_scaling"))


def falcon_h1(sd, c, ids):
    (heads, groups, dim), eps = heads_of(c), c["rms_norm_eps"]
    gate, down = c["mlp_multipliers"] or [1.0, 1.0]
    x, out = sd[EMBED][ids] * one(c, "embedding_multiplier"), {}
    for i in range(c["num_hidden_layers"]):
        p = f"model.layers.{i}."
        out[f"hidden_states.{i}"] = x
        n = rms(x, sd[p + "input_layernorm.weight"], eps)
        m = mamba2(
            n * one(c, "ssm_in_multiplier"), sd, p + "mamba.", c["mamba_n_groups"], c["mamba_d_state"], eps, *steps(c),
            c["ssm_multipliers"], c["mamba_norm_before_gate"])
        a = attention(
            n * one(c, "attention_in_multiplier"), sd, p + "self_attn.", heads, groups, dim**-0.5, (dim, base_of(c)),
            one(c, "key_multiplier"))
        x = x + m * one(c, "ssm_out_multiplier") + a * one(c, "attention_out_multiplier")
        n, f = rms(x, sd[p + "pre_ff_layernorm.weight"], eps), p + "feed_forward."
        x = x + down * linear(F.silu(gate * linear(n, sd, f + "gate_proj")) * linear(n, sd, f + "up_proj"), sd, f + "down_proj")
    return finish(out, sd, x, eps, FINAL, EMBED, one(c, "lm_head_multiplier"))


def nemotron_h(sd, c, ids):
    """One mixer a layer; dt is raised to time_step_min, as transformers' class does."""
    (heads, groups, dim), eps, act = heads_of(c), c["layer_norm_epsilon"], ACT[c["mlp_hidden_act"]]

    def plain(x, p):
        return linear(act(linear(x, sd, p + "up_proj")), sd, p + "down_proj")

    def moe(x, p):
        s = torch.sigmoid(F.linear(x, sd[p + "gate.weight"]))
        choice = s + sd[p + "gate.e_score_correction_bias"]
        if c["n_group"] > 1:
            g = choice.unflatten(-1, (c["n_group"], -1))
            keep = g.topk(2, -1).values.sum(-1).topk(c["topk_group"], -1).indices
            lost = torch.ones(g.shape[:-1], dtype=torch.bool).scatter(-1, keep, False)
            choice = g.masked_fill(lost[..., None], -math.inf).flatten(-2)
        index = choice.topk(c["num_experts_per_tok"], -1).indices
        w = s.gather(-1, index)
        if c["norm_topk_prob"]:
            w = w / (w.sum(-1, keepdim=True) + 1e-20)
        t = linear(x, sd, p + "fc1_latent_proj") if c["moe_latent_size"] else x

        def expert(e, t):
            return F.linear(act(F.linear(t, sd[f"{p}experts.{e}.up_proj.weight"])), sd[f"{p}experts.{e}.down_proj.weight"])

        y = mixture(t, w * c["routed_scaling_factor"], index, expert)
        y = linear(y, sd, p + "fc2_latent_proj") if c["moe_latent_size"] else y
        return y + plain(x, p + "shared_experts.")

    x, out = sd["backbone.embeddings.weight"][ids], {}
    for i, kind in enumerate(c["layers_block_type"]):
        p = f"backbone.layers.{i}."
        out[f"hidden_states.{i}"] = x
        n, m = rms(x, sd[p + "norm.weight"], eps), p + "mixer."
        if kind == "linear_attention":
            x = x + mamba2(n, sd, m, c["n_groups"], c["ssm_state_size"], eps, c["time_step_min"])
        elif kind == "full_attention":
            x = x + attention(n, sd, m, heads, groups, dim**-0.5)
        else:
            x = x + (plain if kind == "mlp" else moe)(n, m)
    return finish(out, sd, x, eps, "backbone.norm_f.weight", "backbone.embeddings.weight")


def zamba2(sd, c, ids):
    """A shared block reads [stream; embeddings] and is added for the norm before the layer's Mamba-2 alone."""
    kinds, eps = c["layers_block_type"], c["rms_norm_eps"]
    heads, groups = c["num_attention_heads"], c["num_key_value_heads"]
    dim, act = 2 * c["hidden_size"] // heads, ACT[c["hidden_act"]]
    uses = [i for i, kind in enumerate(kinds) if kind == "hybrid"]
    rope = (dim, base_of(c)) if c["use_mem_rope"] else None

    def low(t, q):
        return F.linear(F.linear(t, sd[q + ".0.weight"]), sd[q + ".1.weight"])

    x, out = sd[EMBED][ids], {}
    first = x
    for i, kind in enumerate(kinds):
        p, add = f"model.layers.{i}.", 0
        out[f"hidden_states.{i}"] = x
        m = p
        if kind == "hybrid":
            u = uses.index(i)
            s, m = f"model.layers.{uses[u % c['num_mem_blocks']]}.shared_transformer.", p + "mamba_decoder."
            if p + "shared_transformer.input_layernorm.weight" in sd:
                s = p + "shared_transformer."
            h = rms(torch.cat([x, first], -1), sd[s + "input_layernorm.weight"], eps)
            update = lambda n, t: low(t, f"{s}self_attn.linear_{n}_adapter_list.{u}") if c["use_shared_attention_adapter"] else 0
            h = attention(h, sd, s + "self_attn.", heads, groups, (dim / 2) ** -0.5, rope, update=update)
            h, f = rms(h, sd[s + "pre_ff_layernorm.weight"], eps), s + "feed_forward."
            a, b = (linear(h, sd, f + "gate_up_proj") + low(h, f"{f}gate_up_proj_adapter_list.{u}")).chunk(2, -1)
            add = F.linear(linear(act(a) * b, sd, f + "down_proj"), sd[p + "linear.weight"])
        n = rms(x + add, sd[m + "input_layernorm.weight"], eps)
        x = x + mamba2(n, sd, m + "mamba.", c["mamba_ngroups"], c["mamba_d_state"], 1e-5, c["time_step_min"])
    return finish(out, sd, x, eps, FINAL, EMBED)


def jamba(sd, c, ids):
    """Softmax over all experts, the largest, not divided by their sum; no positions."""
    (heads, groups, dim), eps = heads_of(c), c["rms_norm_eps"]
    x, out = sd[EMBED][ids], {}
    for i in range(c["num_hidden_layers"]):
        p = f"model.layers.{i}."
        out[f"hidden_states.{i}"] = x
        n = rms(x, sd[p + "input_layernorm.weight"], eps)
        if i % c["attn_layer_period"] == c["attn_layer_offset"]:
            x = x + attention(n, sd, p + "self_attn.", heads, groups, dim**-0.5)
        else:
            x = x + mamba1(n, sd, p + "mamba.", eps)
        n, f = rms(x, sd[p + "pre_ff_layernorm.weight"], eps), p + "feed_forward."
        if c["num_experts"] > 1 and i % c["expert_layer_period"] == c["expert_layer_offset"]:
            w, index = F.linear(n, sd[f + "router.weight"]).softmax(-1).topk(c["num_experts_per_tok"], -1)
            x = x + mixture(n, w, index, lambda e, t: glu(t, *(sd[f"{f}experts.{e}.{k}_proj.weight"] for k in ("gate", "up", "down"))))
        else:
            x = x + glu(n, *(sd[f"{f}{k}_proj.weight"] for k in ("gate", "up", "down")))
    return finish(out, sd, x, eps, FINAL, EMBED)


def mamba_ssm(sd, c, ids):
    """MHA: rows [q; k; v], an optional convolution of all three without an activation, rotation of some channels."""
    s, a, eps = c["ssm_cfg"], c["attn_cfg"], 1e-5
    x, out = sd["backbone.embedding.weight"][ids], {}
    for i in range(c["n_layer"]):
        p = f"backbone.layers.{i}."
        out[f"hidden_states.{i}"] = x
        n, m = rms(x, sd[p + "norm.weight"], eps), p + "mixer."
        if i in c["attn_layer_idx"]:
            heads = a["num_heads"]
            groups = a.get("num_heads_kv") or heads
            dim = a.get("head_dim") or c["d_model"] // heads
            y = linear(n, sd, m + "in_proj")
            if a.get("d_conv"):
                y = conv(y, sd, m + "conv1d")
            q, k, v = (t.unflatten(-1, (-1, dim)) for t in y.split([heads * dim, groups * dim, groups * dim], -1))
            if a.get("rotary_emb_dim"):
                q, k = (rotate(t, a["rotary_emb_dim"], a.get("rotary_emb_base", 10000.0), a.get("rotary_emb_interleaved", False)) for t in (q, k))
            x = x + linear(softmax_attention(q, k, v, a.get("softmax_scale") or dim**-0.5), sd, m + "out_proj")
        else:
            limits = s.get("dt_limit") or [0.0, math.inf]
            x = x + mamba2(n, sd, m, s.get("ngroups", 1), s["d_state"], eps, *limits, None, s.get("norm_before_gate", False))
        if c["d_intermediate"]:
            up, gate = linear(rms(x, sd[p + "norm2.weight"], eps), sd, p + "mlp.fc1").chunk(2, -1)
            x = x + linear(up * F.silu(gate), sd, p + "mlp.fc2")
    return finish(out, sd, x, eps, "backbone.norm_f.weight", "backbone.embedding.weight")


def forward(sd, c, ids):
    return globals()[c.get("model_type", "mamba_ssm")]({k: v.to(D) for k, v in sd.items()}, c, ids)


# ---------------------------------------------------------------- models

class Weights(dict):
    """Random tensors; a linear map of n inputs is scaled by n^-0.5, so that no branch dies out."""

    def __init__(self, seed):
        super().__init__()
        self.rng = torch.Generator().manual_seed(seed)

    def normal(self, name, *shape, scale=1.0, shift=0.0):
        self[name] = torch.randn(*shape, generator=self.rng) * scale + shift

    def linear(self, name, rows, columns, bias=False, gain=1.0):
        self.normal(name + ".weight", rows, columns, scale=gain * columns**-0.5)
        if bias:
            self.normal(name + ".bias", rows, scale=0.3)

    def norm(self, name, width):
        self.normal(name + ".weight", width, scale=0.2, shift=1.0)

    def conv(self, name, width, taps, bias=True):
        self.normal(name + ".weight", width, 1, taps, scale=0.5)
        if bias:
            self.normal(name + ".bias", width, scale=0.3)

    def mamba2(self, p, d, inner, heads, groups, state, taps, bias_in, bias_out, bias_conv, norm=True):
        wide = inner + 2 * groups * state
        self.linear(p + "in_proj", inner + wide + heads, d, bias_in)
        self.conv(p + "conv1d", wide, taps, bias_conv)
        # Some steps below every floor.
        self.normal(p + "dt_bias", heads, scale=2.5, shift=-3.0)
        self.normal(p + "A_log", heads, scale=0.5)
        self.normal(p + "D", heads, scale=0.5, shift=1.0)
        if norm:
            self.norm(p + "norm", inner)
        self.linear(p + "out_proj", d, inner, bias_out)

    def attention(self, p, d, heads, groups, dim, bias=False):
        self.linear(p + "q_proj", heads * dim, d, bias)
        self.linear(p + "k_proj", groups * dim, d, bias)
        self.linear(p + "v_proj", groups * dim, d, bias)
        self.linear(p + "o_proj", d, heads * dim, bias)

    def glu(self, p, d, inner, bias=False):
        self.linear(p + "gate_proj", inner, d, bias)
        self.linear(p + "up_proj", inner, d, bias)
        self.linear(p + "down_proj", d, inner, bias)


INFINITE = [0.0, {"__float__": "Infinity"}]


def common(kind, name, d, vocab, tied):
    return {"architectures": [name], "model_type": kind, "hidden_size": d, "vocab_size": vocab, "dtype": "float32",
            "bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 0, "initializer_range": 0.02, "use_cache": True,
            "attention_dropout": 0.0, "max_position_embeddings": 256, "tie_word_embeddings": tied,
            "num_logits_to_keep": 1, "transformers_version": "5.23.0"}


def ends(w, c, norm):
    w.normal(EMBED, c["vocab_size"], c["hidden_size"])
    w.norm(norm, c["hidden_size"])
    if not c["tie_word_embeddings"]:
        w.linear("lm_head", c["vocab_size"], c["hidden_size"])


def sizes(r, even_head=False):
    """Widths that no other width is mistaken for."""
    heads, dim = r.choice([2, 3, 4, 6]), r.choice([4, 6, 8, 10, 12]) if even_head else r.choice([4, 5, 6, 8, 9, 12])
    groups = r.choice([g for g in (1, 2, 3) if heads % g == 0])
    m_groups, m_dim = r.choice([1, 1, 2, 3]), r.choice([4, 5, 7, 8, 12])
    return dict(heads=heads, groups=groups, dim=dim, m_groups=m_groups, m_heads=m_groups * r.choice([2, 3, 4]), m_dim=m_dim,
                state=r.choice([3, 5, 8, 12, 17]), taps=r.choice([2, 3, 4, 5]), vocab=r.choice([41, 64, 90, 97]))


def layout_of_layers(r, count, kinds):
    layers = [r.choice(kinds) for _ in range(count)]
    layers[r.randrange(count)] = kinds[0]
    return layers


def make_bamba(w, r, options):
    z = sizes(r)
    inner = z["m_heads"] * z["m_dim"]
    d = options.get("d") or r.choice([inner, inner // 2] if inner % 2 == 0 else [inner])
    layers = layout_of_layers(r, r.randint(2, 5), ["attention", "mamba", "mamba"])
    part = r.choice([0.5, 0.5, 0.0, 1.0, 0.25])
    turning = int(z["dim"] * part)
    if (turning + 1) // 2 * 2 > z["dim"]:
        part = 0.5
    c = common("bamba", "BambaForCausalLM", d, z["vocab"], r.random() < 0.4) | {
        "attention_bias": r.random() < 0.3, "attn_layer_indices": [i for i, k in enumerate(layers) if k == "attention"] or None,
        "head_dim": z["dim"], "hidden_act": "silu", "intermediate_size": r.choice([13, 24, 40]), "mamba_chunk_size": 8,
        "mamba_conv_bias": r.random() < 0.8, "mamba_d_conv": z["taps"], "mamba_d_head": r.choice([z["m_dim"], "auto"]),
        "mamba_d_state": z["state"], "mamba_expand": inner // d, "mamba_n_groups": z["m_groups"], "mamba_n_heads": z["m_heads"],
        "mamba_proj_bias": r.random() < 0.3, "mlp_bias": r.random() < 0.3, "num_attention_heads": z["heads"],
        "num_hidden_layers": len(layers), "num_key_value_heads": z["groups"], "rms_norm_eps": r.choice([1e-5, 1e-6]),
        "rope_parameters": {"partial_rotary_factor": part, "rope_theta": r.choice([10000.0, 500.0]), "rope_type": "default"},
        "time_step_limit": r.choice([INFINITE, INFINITE, [0.002, 0.3]]), "z_loss_coefficient": 0.0} | options.get("config", {})
    ends(w, c, "model.final_layernorm")
    for i in range(c["num_hidden_layers"]):
        p = f"model.layers.{i}."
        w.norm(p + "input_layernorm", d)
        w.norm(p + "pre_ff_layernorm", d)
        if i in (c["attn_layer_indices"] or []):
            w.attention(p + "self_attn.", d, *heads_of(c), c["attention_bias"])
        else:
            w.mamba2(p + "mamba.", d, inner, c["mamba_n_heads"], c["mamba_n_groups"], c["mamba_d_state"], c["mamba_d_conv"],
                     c["mamba_proj_bias"], c["mamba_proj_bias"], c["mamba_conv_bias"])
        w.glu(p + "feed_forward.", d, c["intermediate_size"], c["mlp_bias"])
    return c


def make_granitemoehybrid(w, r, options):
    z = sizes(r, even_head=True)
    inner = z["m_heads"] * z["m_dim"]
    d = r.choice([inner, inner // 2] if inner % 2 == 0 else [inner])
    experts = r.choice([0, 0, 2, 3, 5])
    layers = ["full_attention" if k == "attention" else "linear_attention" for k in layout_of_layers(r, r.randint(2, 5), ["attention", "mamba"])]
    c = common("granitemoehybrid", "GraniteMoeHybridForCausalLM", d, z["vocab"], r.random() < 0.5) | {
        "attention_bias": r.random() < 0.3, "attention_multiplier": r.choice([1.0, 0.15, z["dim"] ** -0.5]),
        "embedding_multiplier": r.choice([1.0, 12, 3.3]), "head_dim": z["dim"], "hidden_act": "silu", "intermediate_size": 11,
        "layer_types": layers, "logits_scaling": r.choice([1.0, 4.0, 6.3, 3]), "mamba_chunk_size": 8,
        "mamba_conv_bias": r.random() < 0.8, "mamba_d_conv": z["taps"], "mamba_d_head": z["m_dim"], "mamba_d_state": z["state"],
        "mamba_expand": inner // d, "mamba_n_groups": z["m_groups"], "mamba_n_heads": z["m_heads"], "mamba_proj_bias": r.random() < 0.3,
        "num_attention_heads": z["heads"], "num_experts_per_tok": r.randint(1, experts) if experts else 0, "num_hidden_layers": len(layers),
        "num_key_value_heads": z["groups"], "num_local_experts": experts, "output_router_logits": False,
        "position_embedding_type": r.choice(["nope", "rope", None]), "residual_multiplier": r.choice([1.0, 0.22, 0.5]),
        "rms_norm_eps": 1e-5, "rope_parameters": {"rope_theta": 10000.0, "rope_type": "default"}, "router_aux_loss_coef": 0.001,
        "shared_intermediate_size": r.choice([17, 24]), "time_step_limit": r.choice([INFINITE, [0.002, 0.3]])} | options.get("config", {})
    experts, layers = c["num_local_experts"], c["layer_types"]
    ends(w, c, "model.norm")
    for i, kind in enumerate(layers):
        p = f"model.layers.{i}."
        w.norm(p + "input_layernorm", d)
        w.norm(p + "post_attention_layernorm", d)
        if kind == "full_attention":
            w.attention(p + "self_attn.", d, *heads_of(c), c["attention_bias"])
        else:
            w.mamba2(p + "mamba.", d, inner, z["m_heads"], z["m_groups"], z["state"], z["taps"], c["mamba_proj_bias"], c["mamba_proj_bias"], c["mamba_conv_bias"])
        s, f = c["shared_intermediate_size"], c["intermediate_size"]
        w.linear(p + "shared_mlp.input_linear", 2 * s, d)
        w.linear(p + "shared_mlp.output_linear", d, s)
        if experts:
            m = p + "block_sparse_moe."
            w.linear(m + "router.layer", experts, d)
            w.normal(m + "input_linear.weight", experts, 2 * f, d, scale=d**-0.5)
            w.normal(m + "output_linear.weight", experts, d, f, scale=f**-0.5)
    return c


def make_falcon_h1(w, r, options):
    z = sizes(r, even_head=True)
    inner, d = z["m_heads"] * z["m_dim"], r.choice([12, 20, 26])
    pick = lambda *values: r.choice([1.0, *values])
    c = common("falcon_h1", "FalconH1ForCausalLM", d, z["vocab"], r.random() < 0.4) | {
        "attention_bias": r.random() < 0.3, "attention_in_multiplier": pick(1.2), "attention_out_multiplier": pick(0.7),
        "embedding_multiplier": pick(2.5, 5.0), "head_dim": z["dim"], "hidden_act": "silu", "intermediate_size": r.choice([13, 24, 40]),
        "key_multiplier": pick(0.6, 0.2), "lm_head_multiplier": pick(0.3), "mamba_chunk_size": 8, "mamba_conv_bias": r.random() < 0.8,
        "mamba_d_conv": z["taps"], "mamba_d_head": r.choice([z["m_dim"], "auto"]), "mamba_d_ssm": inner, "mamba_d_state": z["state"],
        "mamba_expand": 2, "mamba_n_groups": z["m_groups"], "mamba_n_heads": z["m_heads"], "mamba_norm_before_gate": r.random() < 0.5,
        "mamba_proj_bias": r.random() < 0.3, "mamba_rms_norm": r.random() < 0.5, "mlp_bias": r.random() < 0.3,
        "mlp_multipliers": r.choice([None, [0.85, 0.35], [1.0, 2.0]]), "num_attention_heads": z["heads"],
        "num_hidden_layers": r.randint(1, 4), "num_key_value_heads": z["groups"], "projectors_bias": r.random() < 0.3, "rms_norm_eps": 1e-5,
        "rope_parameters": {"rope_theta": r.choice([1e11, 10000.0]), "rope_type": "default"}, "ssm_in_multiplier": pick(0.8),
        "ssm_multipliers": r.choice([None, [0.9, 0.6, 0.75, 1.3, 0.5]]), "ssm_out_multiplier": pick(0.55),
        "time_step_limit": r.choice([INFINITE, [0.002, 0.3]])} | options.get("config", {})
    ends(w, c, "model.final_layernorm")
    for i in range(c["num_hidden_layers"]):
        p = f"model.layers.{i}."
        w.norm(p + "input_layernorm", d)
        w.norm(p + "pre_ff_layernorm", d)
        w.mamba2(p + "mamba.", d, inner, z["m_heads"], z["m_groups"], z["state"], z["taps"], c["mamba_proj_bias"], c["projectors_bias"],
                 c["mamba_conv_bias"], c["mamba_rms_norm"])
        w.attention(p + "self_attn.", d, *heads_of(c), c["attention_bias"])
        w.glu(p + "feed_forward.", d, c["intermediate_size"], c["mlp_bias"])
    return c


def make_nemotron_h(w, r, options):
    z = sizes(r)
    inner, d = z["m_heads"] * z["m_dim"], r.choice([12, 20, 26])
    names = {"M": "linear_attention", "*": "full_attention", "-": "mlp", "E": "moe"}
    pattern = options.get("pattern") or "".join(r.choice("MM*-E") for _ in range(r.randint(2, 6)))
    n_group, per_group = r.choice([(1, 4), (1, 7), (2, 3), (3, 2), (4, 2)])
    kept = r.randint(1, n_group)
    c = common("nemotron_h", "NemotronHForCausalLM", d, z["vocab"], False) | {
        "attention_bias": False, "chunk_size": 8, "conv_kernel": z["taps"], "expand": 2, "head_dim": z["dim"], "hidden_dropout": 0.0,
        "intermediate_size": r.choice([13, 24, 40]), "layer_norm_epsilon": 1e-5, "layers_block_type": [names[k] for k in pattern],
        "mamba_head_dim": z["m_dim"], "mamba_hidden_act": "silu", "mamba_num_heads": z["m_heads"], "mamba_proj_bias": False,
        "mamba_ssm_cache_dtype": "float32", "mlp_bias": r.random() < 0.3, "mlp_hidden_act": r.choice(["relu2", "relu2", "silu"]),
        "moe_intermediate_size": r.choice([9, 14]), "moe_latent_size": r.choice([None, None, 7]), "moe_shared_expert_intermediate_size": 11,
        "moe_shared_expert_overlap": True, "mtp_layers_block_type": ["full_attention", "moe"], "n_group": n_group, "n_groups": z["m_groups"],
        "n_routed_experts": n_group * per_group, "n_shared_experts": 1, "norm_topk_prob": r.random() < 0.6,
        "num_attention_heads": z["heads"], "num_experts_per_tok": r.randint(1, kept * per_group), "num_key_value_heads": z["groups"],
        "num_nextn_predict_layers": 0, "output_router_logits": False, "rescale_prenorm_residual": True, "residual_in_fp32": False,
        "routed_scaling_factor": r.choice([1.0, 2.5]), "sliding_window": None, "ssm_state_size": z["state"], "time_step_floor": 1e-4,
        "time_step_limit": INFINITE, "time_step_max": 0.1, "time_step_min": r.choice([0.001, 0.01, 0.0]), "topk_group": kept,
        "use_bias": r.random() < 0.3, "use_conv_bias": r.random() < 0.8, "use_mamba_kernels": True} | options.get("config", {})
    w.normal("backbone.embeddings.weight", c["vocab_size"], d)
    w.norm("backbone.norm_f", d)
    w.linear("lm_head", c["vocab_size"], d)
    b = c["mlp_bias"]
    for i, kind in enumerate(c["layers_block_type"]):
        p, m = f"backbone.layers.{i}.", f"backbone.layers.{i}.mixer."
        w.norm(p + "norm", d)
        if kind == "linear_attention":
            w.mamba2(m, d, inner, z["m_heads"], z["m_groups"], z["state"], z["taps"], c["use_bias"], c["use_bias"], c["use_conv_bias"])
        elif kind == "full_attention":
            w.attention(m, d, *heads_of(c))
        elif kind == "mlp":
            w.linear(m + "up_proj", c["intermediate_size"], d, b)
            w.linear(m + "down_proj", d, c["intermediate_size"], b)
        else:
            count, f, latent = c["n_routed_experts"], c["moe_intermediate_size"], c["moe_latent_size"] or d
            w.linear(m + "gate", count, d)
            w.normal(m + "gate.e_score_correction_bias", count, scale=0.3)
            for e in range(count):
                w.linear(f"{m}experts.{e}.up_proj", f, latent)
                w.linear(f"{m}experts.{e}.down_proj", latent, f)
            w.linear(m + "shared_experts.up_proj", c["moe_shared_expert_intermediate_size"], d, b)
            w.linear(m + "shared_experts.down_proj", d, c["moe_shared_expert_intermediate_size"], b)
            if c["moe_latent_size"]:
                w.linear(m + "fc1_latent_proj", latent, d, b)
                w.linear(m + "fc2_latent_proj", d, latent, b)
    return c


def make_zamba2(w, r, options):
    z = sizes(r)
    heads, head = r.choice([2, 3, 4]), r.choice([4, 8, 12])
    d = heads * head // 2
    m_groups = r.choice([1, 2])
    m_heads = m_groups * r.choice([k for k in (1, 2, 3) if 2 * d % (m_groups * k) == 0 and 2 * d // m_groups % 1 == 0])
    blocks = options.get("config", {}).get("num_mem_blocks") or r.choice([1, 2])
    layers = options.get("layers") or ["linear_attention"] + [r.choice(["linear_attention", "hybrid"]) for _ in range(r.randint(1, 4))] + ["hybrid"] * blocks
    uses = [i for i, kind in enumerate(layers) if kind == "hybrid"]
    c = common("zamba2", "Zamba2ForCausalLM", d, z["vocab"], True) | {
        "adapter_rank": r.choice([3, 5]), "add_bias_linear": r.random() < 0.4, "attention_head_dim": head, "attention_hidden_size": 2 * d,
        "chunk_size": 8, "hidden_act": r.choice(["gelu", "gelu", "silu", "gelu_pytorch_tanh"]), "hybrid_layer_ids": uses,
        "intermediate_size": r.choice([13, 24, None]), "kv_channels": d // heads, "layers_block_type": layers, "mamba_d_conv": z["taps"],
        "mamba_d_state": z["state"], "mamba_expand": 2, "mamba_headdim": 2 * d // m_heads, "mamba_ngroups": m_groups,
        "n_mamba_heads": m_heads, "num_attention_heads": heads, "num_hidden_layers": len(layers), "num_key_value_heads": heads,
        "num_mem_blocks": blocks, "num_query_groups": heads, "rms_norm_eps": r.choice([1e-5, 1e-6]),
        "rope_parameters": {"rope_theta": 10000.0, "rope_type": "default"}, "time_step_floor": 1e-4, "time_step_max": 0.1,
        "time_step_min": r.choice([0.001, 0.01]), "use_conv_bias": True, "use_long_context": False, "use_mamba_kernels": True,
        "use_mem_eff_path": False, "use_mem_rope": r.random() < 0.5, "use_shared_attention_adapter": r.random() < 0.5} | options.get("config", {})
    ends(w, c, "model.final_layernorm")
    b, rank, inner = c["add_bias_linear"], c["adapter_rank"], c["intermediate_size"] or 4 * d
    c["intermediate_size"] = inner
    for i, kind in enumerate(layers):
        p = f"model.layers.{i}."
        m = p
        if kind == "hybrid":
            m = p + "mamba_decoder."
            w.linear(p + "linear", d, d)
            if i in uses[:blocks]:
                s, own = p + "shared_transformer.", [u for u in range(len(uses)) if u % blocks == uses.index(i)]
                w.norm(s + "input_layernorm", 2 * d)
                w.norm(s + "pre_ff_layernorm", d)
                for n in "qkv":
                    w.linear(f"{s}self_attn.{n}_proj", 2 * d, 2 * d)
                    for u in own if c["use_shared_attention_adapter"] else []:
                        w.linear(f"{s}self_attn.linear_{n}_adapter_list.{u}.0", rank, 2 * d)
                        w.linear(f"{s}self_attn.linear_{n}_adapter_list.{u}.1", 2 * d, rank)
                w.linear(s + "self_attn.o_proj", d, 2 * d)
                w.linear(s + "feed_forward.gate_up_proj", 2 * inner, d, b)
                w.linear(s + "feed_forward.down_proj", d, inner, b)
                for u in own:
                    w.linear(f"{s}feed_forward.gate_up_proj_adapter_list.{u}.0", rank, d)
                    w.linear(f"{s}feed_forward.gate_up_proj_adapter_list.{u}.1", 2 * inner, rank)
        w.norm(m + "input_layernorm", d)
        w.mamba2(m + "mamba.", d, 2 * d, m_heads, m_groups, z["state"], z["taps"], b, b, True)
    return c


def make_jamba(w, r, options):
    z = sizes(r)
    d = r.choice([12, 18, 20])
    inner, experts = 2 * d, r.choice([1, 2, 4, 5])
    a_period, e_period = r.choice([2, 3, 4]), r.choice([1, 2, 3])
    c = common("jamba", "JambaForCausalLM", d, z["vocab"], r.random() < 0.4) | {
        "attn_layer_offset": r.randrange(a_period), "attn_layer_period": a_period, "expert_layer_offset": r.randrange(e_period),
        "expert_layer_period": e_period, "head_dim": z["dim"], "hidden_act": "silu", "intermediate_size": r.choice([13, 24]),
        "mamba_conv_bias": r.random() < 0.8, "mamba_d_conv": z["taps"], "mamba_d_state": z["state"], "mamba_dt_rank": r.choice([2, 3, "auto"]),
        "mamba_expand": 2, "mamba_proj_bias": r.random() < 0.3, "num_attention_heads": z["heads"], "num_experts": experts,
        "num_experts_per_tok": r.randint(1, experts), "num_hidden_layers": a_period + r.randint(0, 3), "num_key_value_heads": z["groups"],
        "output_router_logits": False, "rms_norm_eps": r.choice([1e-6, 1e-5]), "router_aux_loss_coef": 0.001, "use_associative_scan": True,
        "use_mamba_kernels": True, "use_mambapy": False} | options.get("config", {})
    experts = c["num_experts"]
    rank = math.ceil(d / 16) if c["mamba_dt_rank"] == "auto" else c["mamba_dt_rank"]
    state = c["mamba_d_state"]
    ends(w, c, "model.final_layernorm")
    for i in range(c["num_hidden_layers"]):
        p = f"model.layers.{i}."
        w.norm(p + "input_layernorm", d)
        w.norm(p + "pre_ff_layernorm", d)
        if i % c["attn_layer_period"] == c["attn_layer_offset"]:
            w.attention(p + "self_attn.", d, *heads_of(c))
        else:
            m = p + "mamba."
            w.linear(m + "in_proj", 2 * inner, d, c["mamba_proj_bias"])
            w.conv(m + "conv1d", inner, c["mamba_d_conv"], c["mamba_conv_bias"])
            w.linear(m + "x_proj", rank + 2 * state, inner)
            w.linear(m + "dt_proj", inner, rank, True)
            w.normal(m + "A_log", inner, state, scale=0.5)
            w.normal(m + "D", inner, scale=0.5, shift=1.0)
            for n, width in (("dt", rank), ("b", state), ("c", state)):
                w.norm(f"{m}{n}_layernorm", width)
            w.linear(m + "out_proj", d, inner, c["mamba_proj_bias"])
        f = p + "feed_forward."
        if experts > 1 and i % c["expert_layer_period"] == c["expert_layer_offset"]:
            w.linear(f + "router", experts, d)
            for e in range(experts):
                w.glu(f"{f}experts.{e}.", d, c["intermediate_size"])
        else:
            w.glu(f, d, c["intermediate_size"])
    return c


def make_mamba_ssm(w, r, options):
    z = sizes(r)
    inner = z["m_heads"] * z["m_dim"]
    d = r.choice([inner, inner // 2] if inner % 2 == 0 else [inner])
    count = r.randint(2, 5)
    attention_layers = sorted(r.sample(range(count), r.randint(1, count - 1)))
    turning = r.choice([0, z["dim"] // 2 // 2 * 2, z["dim"] // 2 * 2])
    a = {"causal": True, "num_heads": z["heads"], "num_heads_kv": z["groups"], "head_dim": z["dim"], "d_conv": r.choice([0, 2, 4]),
         "qkv_proj_bias": r.random() < 0.5, "out_proj_bias": r.random() < 0.5, "rotary_emb_dim": turning}
    if turning and r.random() < 0.3:
        a["rotary_emb_interleaved"] = True
    if r.random() < 0.3:
        a["softmax_scale"] = 0.2
    s = {"layer": "Mamba2", "d_state": z["state"], "d_conv": z["taps"], "expand": inner // d, "headdim": z["m_dim"], "ngroups": z["m_groups"],
         "norm_before_gate": r.random() < 0.3, "bias": r.random() < 0.3, "conv_bias": r.random() < 0.8}
    if r.random() < 0.3:
        s["dt_limit"] = [0.002, 0.3]
    c = {"d_model": d, "d_intermediate": r.choice([0, 0, 24]), "n_layer": count, "vocab_size": z["vocab"], "ssm_cfg": s,
         "attn_layer_idx": attention_layers, "attn_cfg": a, "rms_norm": True, "residual_in_fp32": True, "fused_add_norm": True,
         "pad_vocab_size_multiple": r.choice([1, 8, 16]), "tie_embeddings": r.random() < 0.5} | options.get("config", {})
    s, a = c["ssm_cfg"], c["attn_cfg"]
    if options.get("config"):
        s["norm_before_gate"] = False
    rows = -(-c["vocab_size"] // c["pad_vocab_size_multiple"]) * c["pad_vocab_size_multiple"]
    w.normal("backbone.embedding.weight", rows, d)
    w.norm("backbone.norm_f", d)
    if not c["tie_embeddings"]:
        w.linear("lm_head", rows, d)
    for i in range(c["n_layer"]):
        p, m = f"backbone.layers.{i}.", f"backbone.layers.{i}.mixer."
        w.norm(p + "norm", d)
        if i in c["attn_layer_idx"]:
            wide = (a["num_heads"] + 2 * a["num_heads_kv"]) * a["head_dim"]
            w.linear(m + "in_proj", wide, d, a["qkv_proj_bias"])
            if a["d_conv"]:
                w.conv(m + "conv1d", wide, a["d_conv"])
            w.linear(m + "out_proj", d, a["num_heads"] * a["head_dim"], a["out_proj_bias"])
        else:
            w.mamba2(m, d, inner, z["m_heads"], s["ngroups"], s["d_state"], s["d_conv"], s["bias"], s["bias"], s["conv_bias"])
        if c["d_intermediate"]:
            f = -(-c["d_intermediate"] // 128) * 128
            w.norm(p + "norm2", d)
            w.linear(p + "mlp.fc1", 2 * f, d)
            w.linear(p + "mlp.fc2", d, f)
    return c


def make(architecture, seed, out, options=None):
    """A model in `out`, in its framework's files; returns its config and weights."""
    weights, options = Weights(seed), options or {}
    config = globals()[f"make_{architecture}"](weights, random.Random(seed), options)
    dtype = options.get("dtype") or (torch.bfloat16 if seed % 4 == 3 else torch.float32)
    # What frameworks keep in float32 stays so.
    sd = {k: (v if k.endswith(("A_log", ".D", "dt_bias", "correction_bias")) else v.to(dtype)).contiguous() for k, v in weights.items()}
    if "dtype" in config:
        config["dtype"] = str(dtype).removeprefix("torch.")
    out = pathlib.Path(out)
    out.mkdir(parents=True, exist_ok=True)
    (out / "config.json").write_text(json.dumps(config, indent=2, sort_keys=True) + "\n")
    if architecture == "mamba_ssm":
        saved = dict(sd)
        if config["tie_embeddings"]:
            saved["lm_head.weight"] = saved["backbone.embedding.weight"]
        torch.save(saved, out / "pytorch_model.bin")
    else:
        save_file(sd, out / "model.safetensors", metadata={"format": "pt"})
    return config, sd


def trace(config, sd, path, seed=0, tokens=(2, 26)):
    g = torch.Generator().manual_seed(seed + 1000)
    ids = torch.randint(0, config["vocab_size"], tokens, generator=g)
    out = forward(sd, config, ids)
    save_file({"input_ids": ids, **{k: v.contiguous() for k, v in out.items()}}, path)
    return out


# Of Fixtures/models: each option that is off in one is on in another.
CASES = {
    "hy-bamba": ("bamba", "hf", 4, {"config": {"attention_bias": False, "mlp_bias": False, "mamba_proj_bias": False, "time_step_limit": INFINITE,
                                             "rms_norm_eps": 1e-5}, "dtype": torch.float32}),
    "hy-granite-dense": ("granitemoehybrid", "hf", 5, {"config": {"num_local_experts": 0, "num_experts_per_tok": 0, "position_embedding_type": "nope",
        "layer_types": ["linear_attention", "full_attention", "linear_attention"], "num_hidden_layers": 3, "tie_word_embeddings": True,
        "mamba_proj_bias": False,
        "embedding_multiplier": 3.0, "residual_multiplier": 0.25, "attention_multiplier": 0.15, "logits_scaling": 4.0, "time_step_limit": INFINITE}}),
    "hy-granite-moe": ("granitemoehybrid", "hf", 6, {"config": {"num_local_experts": 5, "num_experts_per_tok": 2, "position_embedding_type": "rope"}}),
    "hy-falcon-h1": ("falcon_h1", "hf", 8, {"config": {
        "attention_in_multiplier": 1.2, "attention_out_multiplier": 0.7, "embedding_multiplier": 2.5, "key_multiplier": 0.6,
        "lm_head_multiplier": 0.3, "mlp_multipliers": [0.85, 0.35], "ssm_in_multiplier": 0.8, "ssm_out_multiplier": 0.55,
        "ssm_multipliers": [0.9, 0.6, 0.75, 1.3, 0.5], "mamba_rms_norm": True, "num_hidden_layers": 3}}),
    "hy-nemotron-h": ("nemotron_h", "hf", 9, {"pattern": "M-ME*M", "dtype": torch.float32, "config": {
        "time_step_min": 0.01, "n_group": 2, "topk_group": 1, "n_routed_experts": 6, "num_experts_per_tok": 2, "moe_latent_size": 7, "mlp_bias": True,
        "mlp_hidden_act": "relu2", "norm_topk_prob": True, "routed_scaling_factor": 2.5}}),
    "hy-zamba2": ("zamba2", "hf", 10, {"layers": ["linear_attention", "hybrid", "linear_attention", "hybrid", "hybrid", "hybrid"], "config": {
        "num_mem_blocks": 2, "use_mem_rope": True, "use_shared_attention_adapter": True, "hidden_act": "gelu", "time_step_min": 0.01}}),
    "hy-jamba": ("jamba", "hf", 12, {"config": {"num_experts": 4, "num_experts_per_tok": 2, "attn_layer_period": 3, "attn_layer_offset": 1,
                                            "expert_layer_period": 2, "expert_layer_offset": 1, "num_hidden_layers": 4}}),
    "hy-mamba2attn": ("mamba_ssm", "mamba_ssm", 13, {"config": {"d_intermediate": 0, "tie_embeddings": True, "attn_layer_idx": [1], "n_layer": 3,
        "attn_cfg": {"causal": True, "num_heads": 4, "num_heads_kv": 2, "head_dim": 6, "d_conv": 3, "qkv_proj_bias": True,
                     "out_proj_bias": False, "rotary_emb_dim": 4}}}),
    "hy-mamba2attn-mlp": ("mamba_ssm", "mamba_ssm", 17, {"dtype": torch.float32, "config": {"d_intermediate": 24, "tie_embeddings": False,
        "attn_layer_idx": [1], "n_layer": 2, "attn_cfg": {"causal": True, "num_heads": 4, "num_heads_kv": 2, "head_dim": 6, "d_conv": 0,
                                                         "qkv_proj_bias": True, "out_proj_bias": True, "rotary_emb_dim": 4}}}),
}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    c = commands.add_parser("make")
    c.add_argument("out")
    c = commands.add_parser("random")
    c.add_argument("architecture", choices=ARCHITECTURES)
    c.add_argument("seed", type=int)
    c.add_argument("out")
    c = commands.add_parser("trace")
    c.add_argument("model")
    c.add_argument("out")
    c.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    if arguments.command == "make":
        for name, (architecture, framework, seed, options) in CASES.items():
            out = pathlib.Path(arguments.out) / name
            made = make(architecture, seed, out / framework, options)
            trace(*made, out / "trace.safetensors", seed)
    elif arguments.command == "random":
        out = pathlib.Path(arguments.out)
        made = make(arguments.architecture, arguments.seed, out)
        trace(*made, out / "trace.safetensors", arguments.seed)
    else:
        model = pathlib.Path(arguments.model)
        config = json.loads((model / "config.json").read_text())
        weights = model / "model.safetensors"
        sd = load_file(weights) if weights.exists() else torch.load(model / "pytorch_model.bin")
        trace(config, sd, arguments.out, arguments.seed)


if __name__ == "__main__":
    main()
