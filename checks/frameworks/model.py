"""A model as a list of sub-layers, read from any layout by the tables of LAYOUTS.md.

This is an independent second reading: it shares no code with the tool. `read(layout, config, tensors)` gives a Model; comparing the
Model of a source with that of a result compares what both configs *mean*; `write.py` computes the tensors that a target must hold.
"""
import ast
import math

import torch

LIT_DEFAULTS = dict(block_size=4096, vocab_size=50254, padding_multiple=512, padded_vocab_size=None, n_layer=16, n_head=32, n_embd=4096,
                    rotary_percentage=0.25, parallel_residual=True, bias=True, local_window=-1, mlp=True, full_per_layer=1000000,
                    mb_per_layer=-1, ret_per_layer=-1, gla_per_layer=-1, nope=False, mamba=False, sc_attn=False, rms_norm=True,
                    mamba_init=False, attn_layer_pos=None, use_mega=False, abl_mamba=False, mamba_swa_mlp=False, n_query_groups=None,
                    shared_attention_norm=False, _norm_class="LayerNorm", norm_eps=1e-5, _mlp_class="GptNeoxMLP", intermediate_size=None,
                    condense_ratio=1)


class Model:
    def __init__(self, emb, head, norm, subs, eps, **attrs):
        if head is not None and head.dtype == emb.dtype and torch.equal(head, emb):
            head = None
        self.emb, self.head, self.norm, self.subs, self.eps, self.attrs = emb, head, norm, subs, eps, attrs

    @property
    def D(self):
        return self.emb.shape[1]

    def kinds(self):
        return [s.kind for s in self.subs]

    def meaning(self):
        """What the config says, in comparable values; MLPs of zeros and what is folded into weights left out."""
        subs = [(s.kind, {k: v for k, v in s.a.items() if k != "affine"}) for s in self.subs if s.kind != "mlp" or s.t["down"].any()]
        return {"rows": self.emb.shape[0], "tied": self.head is None, "scale": self.attrs.get("scale"), "eps": self.eps, "subs": subs}


class Sub:
    """One residual branch: its kind, its norm's weight, tensors by piece, and the numbers of the config that it runs by."""

    def __init__(self, kind, norm, t, **a):
        self.kind, self.norm, self.t, self.a = kind, norm, {k: v for k, v in t.items() if v is not None}, a


MAMBA = ["A_log", "D", "in_proj.weight", "in_proj.bias", "conv1d.weight", "conv1d.bias", "x_proj.weight", "dt_proj.weight", "dt_proj.bias",
         "out_proj.weight", "out_proj.bias"]


def mamba(sd, p, norm, state, width, rank, bias, conv_bias, eps):
    t = {n: sd.get(p + n) for n in MAMBA}
    assert (t["in_proj.bias"] is not None) == bias, "use_bias does not agree with the tensors"
    assert (t["conv1d.bias"] is not None) == conv_bias, "use_conv_bias does not agree with the tensors"
    assert t["A_log"].shape[1] == state and t["conv1d.weight"].shape[2] == width and t["dt_proj.weight"].shape[1] == rank, "mamba sizes"
    return Sub("mamba", sd[norm], t, state=state, width=width, rank=rank, inner=t["A_log"].shape[0], eps=eps)


def read_mamba2(sd, layers, bias, conv_bias, **a):
    """Mamba-2 mixers; a: eps, state, width, head_dim, groups, inner, gated, before, wide_d, limit."""
    subs, heads = [], a["inner"] // a["head_dim"]
    for i in range(layers):
        p = f"backbone.layers.{i}.mixer."
        t = {n: sd.get(p + n) for n in MAMBA2}
        assert t["in_proj.weight"].shape[0] == 2 * a["inner"] + 2 * a["groups"] * a["state"] + heads and t["conv1d.weight"].shape[2] == a["width"], "mamba-2 sizes"
        assert (t["in_proj.bias"] is not None) == bias and (t["conv1d.bias"] is not None) == conv_bias, "biases"
        assert (t["norm.weight"] is not None) == a["gated"] and t["D"].shape[0] == (a["inner"] if a["wide_d"] else heads), "gated norm, D"
        subs.append(Sub("mamba2", sd[f"backbone.layers.{i}.norm.weight"], t, **a))
    return subs


MAMBA2 = ["A_log", "D", "dt_bias", "in_proj.weight", "in_proj.bias", "conv1d.weight", "conv1d.bias", "norm.weight", "out_proj.weight", "out_proj.bias"]


def limits(x):
    x = x and [float(v["__float__"]) if isinstance(v, dict) else v for v in x]  # as transformers writes an infinity
    return None if x is None or (float(x[0]) == 0 and float(x[1]) == math.inf) else [float(v) for v in x]


def read_mamba2_hf(c, sd, fla=False):
    d, eps = c["hidden_size"], c.get("norm_eps" if fla else "layer_norm_epsilon", 1e-5)
    a = dict(eps=eps, state=c.get("state_size", 128), width=c.get("conv_kernel", 4), head_dim=c.get("head_dim", 64), groups=c.get("n_groups", 1 if fla else 8),
             inner=int(c.get("expand", 2) * d), gated=True, before=False, wide_d=False, limit=limits(c.get("dt_limit" if fla else "time_step_limit")))
    if fla:
        a.update(gated=c.get("rmsnorm", True), before=c.get("norm_before_gate", False), wide_d=c.get("D_has_hdim", False))
    else:
        assert c.get("num_heads", 128) * a["head_dim"] == a["inner"], "num_heads"
    m = Model(sd["backbone.embeddings.weight"], sd.get("lm_head.weight"), sd["backbone.norm_f.weight"],
              read_mamba2(sd, c["num_hidden_layers"], c.get("use_bias", False), c.get("use_conv_bias", True), **a), eps)
    assert c["vocab_size"] == m.emb.shape[0] and c.get("tie_word_embeddings", False) == (m.head is None), "vocab_size, tie_word_embeddings"
    return m


def read_mamba2_ssm(c, sd):
    s = c["ssm_cfg"]
    inner = s.get("expand", 2) * c["d_model"]
    assert c.get("rms_norm", True) and s.get("d_ssm") in (None, inner) and not c.get("d_intermediate") and not c.get("attn_layer_idx")
    a = dict(eps=1e-5, state=s.get("d_state", 128), width=s.get("d_conv", 4), head_dim=s.get("headdim", 64), groups=s.get("ngroups", 1), inner=inner,
             gated=s.get("rmsnorm", True), before=s.get("norm_before_gate", False), wide_d=s.get("D_has_hdim", False), limit=limits(s.get("dt_limit")))
    subs = read_mamba2(sd, c["n_layer"], s.get("bias", False), s.get("conv_bias", True), **a)
    return ssm_model(c, sd, subs)


def attention(norm, q, k, v, o, heads, groups, window, theta, eps, biases=None, factor=1.0, extra=None):
    t = dict(q=q, k=k, v=v, o=o, **(biases or {}), **(extra or {}))
    return Sub("attention", norm, t, heads=heads, groups=groups, head_dim=q.shape[0] // heads, window=window, theta=theta, eps=eps, factor=factor)


def mlp(norm, gate, up, down, eps, act="silu", biases=None):
    return Sub("mlp", norm, dict(gate=gate, up=up, down=down, **(biases or {})), act=act, eps=eps)


# ---------------------------------------------------------------- readers
def read_mamba_hf(c, sd, fla=False):
    eps = c.get("norm_eps", c.get("layer_norm_epsilon", 1e-5)) if fla else c.get("layer_norm_epsilon", 1e-5)
    d = c["hidden_size"]
    rank = c.get("dt_rank", c.get("time_step_rank", "auto")) if fla else c.get("time_step_rank", "auto")
    rank = math.ceil(d / 16) if rank == "auto" else rank
    subs = [mamba(sd, f"backbone.layers.{i}.mixer.", f"backbone.layers.{i}.norm.weight", c.get("state_size", 16), c.get("conv_kernel", 4), rank,
                  c.get("use_bias", False), c.get("use_conv_bias", True), eps) for i in range(c["num_hidden_layers"])]
    m = Model(sd["backbone.embeddings.weight"], sd.get("lm_head.weight"), sd["backbone.norm_f.weight"], subs, eps)
    assert c["vocab_size"] == m.emb.shape[0], "vocab_size is not the rows"
    assert c.get("tie_word_embeddings", not fla) == (m.head is None), "tie_word_embeddings"
    assert c.get("expand", 2) * d == subs[0].a["inner"]
    return m


def read_mamba_ssm(c, sd):
    s = c.get("ssm_cfg", {})
    if s.get("layer", "Mamba1") == "Mamba2":
        return read_mamba2_ssm(c, sd)
    assert s.get("layer", "Mamba1") == "Mamba1"
    assert c.get("rms_norm", True)
    d = c["d_model"]
    rank = s.get("dt_rank", "auto")
    rank = math.ceil(d / 16) if rank == "auto" else rank
    att, ac, subs = c.get("attn_layer_idx", []), c.get("attn_cfg", {}), []
    for i in range(c["n_layer"]):
        p = f"backbone.layers.{i}."
        if i in att:
            H = ac["num_heads"]
            G = ac.get("num_heads_kv") or H
            hs = ac.get("head_dim") or d // H
            assert ac.get("causal") is True and ac.get("rotary_emb_dim", 0) in (0, hs), "attn_cfg: causal, rotary_emb_dim"
            assert not ac.get("d_conv") and not ac.get("mlp_dim")
            assert ac.get("qkv_proj_bias", True) == (p + "mixer.in_proj.bias" in sd), "qkv_proj_bias"
            assert ac.get("out_proj_bias", True) == (p + "mixer.out_proj.bias" in sd), "out_proj_bias"
            q, k, v = sd[p + "mixer.in_proj.weight"].split([H * hs, G * hs, G * hs])
            b = {}
            if p + "mixer.in_proj.bias" in sd:
                b = dict(zip(("qb", "kb", "vb"), sd[p + "mixer.in_proj.bias"].split([H * hs, G * hs, G * hs])))
            if p + "mixer.out_proj.bias" in sd:
                b["ob"] = sd[p + "mixer.out_proj.bias"]
            subs.append(attention(sd[p + "norm.weight"], q, k, v, sd[p + "mixer.out_proj.weight"], H, G, None,
                                  ac.get("rotary_emb_base", 10000.0) if ac.get("rotary_emb_dim") else None, 1e-5, b))
        else:
            subs.append(mamba(sd, p + "mixer.", p + "norm.weight", s.get("d_state", 16), s.get("d_conv", 4), rank, s.get("bias", False), s.get("conv_bias", True), 1e-5))
        I = c.get("d_intermediate", 0)
        if I:
            I = (I + 127) // 128 * 128
            up, gate = sd[p + "mlp.fc1.weight"].split([I, I])
            subs.append(mlp(sd[p + "norm2.weight"], gate, up, sd[p + "mlp.fc2.weight"], 1e-5))
    return ssm_model(c, sd, subs)


def ssm_model(c, sd, subs):
    m = Model(sd["backbone.embedding.weight"], sd.get("lm_head.weight"), sd["backbone.norm_f.weight"], subs, 1e-5)
    k = c.get("pad_vocab_size_multiple", 8)
    assert (c["vocab_size"] + k - 1) // k * k == m.emb.shape[0], "vocab_size padded by pad_vocab_size_multiple is not the rows"
    assert c.get("tie_embeddings", True) == (m.head is None), "tie_embeddings"
    return m


def lit_kind(c, i):
    if c["mamba"]:
        return "mamba_only"
    if c["mamba_swa_mlp"]:
        return "mamba_swa_mlp"
    if c["use_mega"]:
        return "mega"
    if c["attn_layer_pos"] is not None:
        return ("abl" if c["abl_mamba"] else "mamba") if i not in ast.literal_eval(c["attn_layer_pos"]) else "attention"
    if c["mb_per_layer"] > 0 and i % c["mb_per_layer"] == 0:
        return "abl" if c["abl_mamba"] else "mamba"
    if c["ret_per_layer"] > 0 and i % c["ret_per_layer"] == 0:
        return "retention"
    if c["gla_per_layer"] > 0 and i % c["gla_per_layer"] == 0:
        return "gla"
    return "attention"


def split_qkv(w, H, G):
    hs, r = w.shape[0] // (H + 2 * G), H // G
    w = w.view(G, r + 2, hs, *w.shape[1:])
    return w[:, :r].reshape(-1, *w.shape[3:]), w[:, r].reshape(-1, *w.shape[3:]), w[:, r + 1].reshape(-1, *w.shape[3:])


def merge_qkv(q, k, v, H, G):
    hs, r = q.shape[0] // H, H // G
    rest = q.shape[1:]
    return torch.cat([q.view(G, r, hs, *rest), k.view(G, 1, hs, *rest), v.view(G, 1, hs, *rest)], 1).reshape(-1, *rest)


def read_lit(c, sd):
    c = {**LIT_DEFAULTS, **c}
    H, D = c["n_head"], c["n_embd"]
    G = c["n_query_groups"] or H
    eps, subs, rank = c["norm_eps"], [], math.ceil(D / 16)
    theta = None if c["nope"] else 10000.0
    for i in range(c["n_layer"]):
        p, kind = f"transformer.h.{i}.", lit_kind(c, i)

        def attn(norm):
            q, k, v = split_qkv(sd[p + "attn.attn.weight"], H, G)
            b = {}
            if c["bias"]:
                b = dict(zip(("qb", "kb", "vb"), split_qkv(sd[p + "attn.attn.bias"], H, G)), ob=sd[p + "attn.proj.bias"])
            local = i % c["full_per_layer"] < c["full_per_layer"] - 1
            window = c["local_window"] if local and c["local_window"] > -1 else None
            extra = {x: sd[p + f"attn.{x}_conv1d.weight"] for x in ()}
            if c["sc_attn"]:
                extra = {x + "_conv": sd[p + f"attn.{x}_conv1d.weight"] for x in "qkv"}
            return attention(sd[p + norm], q, k, v, sd[p + "attn.proj.weight"], H, G, window, theta, eps, b, float(c["condense_ratio"]), extra)

        def lin(kind, heads):
            t = {n: sd.get(p + "attn." + n) for n in LINEAR}
            return linear(kind, sd[p + "norm_1.weight"], t, heads, heads, eps, 1e-5)
        if kind == "mamba_only":
            subs.append(mamba(sd, p + "mixer.", p + "norm.weight", 16, 4, rank, False, True, eps))
            continue
        if kind == "mamba_swa_mlp":
            subs.append(mamba(sd, p + "mb.", p + "norm_m.weight", 16, 4, rank, False, True, eps))
            subs.append(attn("norm_attn.weight"))
        elif kind == "mega":
            subs.append(Sub("mega", sd[p + "attn.norm.weight"], {k: v for k, v in sd.items() if k.startswith(p + "attn.")}))
        elif kind == "mamba":
            subs.append(mamba(sd, p + "attn.", p + "norm_1.weight", 16, 4, rank, False, True, eps))
        elif kind == "abl":
            subs.append(mlp(sd[p + "norm_1.weight"], *(sd[p + f"attn.swiglu.w{j}.weight"] for j in (1, 2, 3)), eps))
        elif kind == "retention":
            subs.append(lin("retention", H // 2))
        elif kind == "gla":
            subs.append(lin("gla", D // 384))
        else:
            subs.append(attn("norm_1.weight"))
        if c["mlp"]:
            b = {x: sd[p + f"mlp.swiglu.w{j}.bias"] for j, x in ((1, "gb"), (2, "ub"), (3, "db"))} if c["bias"] else {}
            subs.append(mlp(sd[p + "norm_2.weight"], *(sd[p + f"mlp.swiglu.w{j}.weight"] for j in (1, 2, 3)), eps, biases=b))
    m = Model(sd["transformer.wte.weight"], sd.get("lm_head.weight"), sd["transformer.ln_f.weight"], subs, eps)
    padded = c["padded_vocab_size"] or -(-c["vocab_size"] // c["padding_multiple"]) * c["padding_multiple"]
    assert padded == m.emb.shape[0], "padded_vocab_size is not the rows"
    if c["mamba"] or c["mamba_init"]:
        assert m.head is None, "lit_gpt ties with mamba or mamba_init, the head differs"
    m.lit_ties = c["mamba"] or c["mamba_init"]
    return m


LINEAR = ["q_proj.weight", "k_proj.weight", "v_proj.weight", "g_proj.weight", "o_proj.weight", "gk_proj.0.weight", "gk_proj.1.weight",
          "gk_proj.1.bias", "g_norm_swish_gate.weight", "g_norm.weight", "q_conv1d.weight", "k_conv1d.weight", "v_conv1d.weight"]


def linear(kind, norm, t, heads, kv, eps, group_eps, clamp=None, feature=None):
    t = dict(t)
    if t.get("g_norm.weight") is not None:
        t["g_norm_swish_gate.weight"] = t["g_norm.weight"]
    t.pop("g_norm.weight", None)
    return Sub(kind, norm, t, heads=heads, kv=kv, Kd=t["q_proj.weight"].shape[0], Vd=t["o_proj.weight"].shape[1], eps=eps, group_eps=group_eps,
               gate=t.get("g_proj.weight") is not None, affine=t.get("g_norm_swish_gate.weight") is not None, clamp=clamp, feature=feature)


def fla_mlp(sd, p, norm, eps):
    gate, up, down = sd[p + "mlp.gate_proj.weight"], sd.get(p + "mlp.up_proj.weight"), sd[p + "mlp.down_proj.weight"]
    if up is None:
        gate, up = gate[:down.shape[1]], gate[down.shape[1]:]
    return mlp(sd[p + norm], gate, up, down, eps)


def fla_attn_plan(c, i):
    a = c.get("attn")
    for x in [] if a is None else a if isinstance(a, list) else [a]:
        if i in x["layers"]:
            return x
    return None


def fla_attention(sd, p, norm, a, eps):
    H = a["num_heads"]
    b = {x + "b": sd.get(p + f"{x}_proj.bias") for x in "qkv"}
    assert (b["qb"] is not None) == bool(a.get("qkv_bias", False)), "qkv_bias"
    extra = {"qn": sd.get(p + "q_norm.weight"), "kn": sd.get(p + "k_norm.weight")}
    return attention(sd[norm], *(sd[p + f"{x}_proj.weight"] for x in "qkvo"), H, a.get("num_kv_heads") or H, a.get("window_size"),
                     float(a.get("rope_theta", 10000.0)), eps, b, extra=extra)


def read_fla(c, sd):
    kind = c["model_type"]
    if kind in ("mamba", "mamba2"):
        return (read_mamba_hf if kind == "mamba" else read_mamba2_hf)(c, sd, fla=True)
    eps = c.get("norm_eps", c.get("rms_norm_eps", 1e-5 if kind == "samba" else 1e-6))
    D, subs = c["hidden_size"], []
    act = c.get("hidden_act", "swish")
    assert act in ("swish", "silu"), f"hidden_act {act}"
    for i in range(c["num_hidden_layers"]):
        plan = fla_attn_plan(c, i)
        if kind == "samba":
            p = f"backbone.layers.{i}."
            if plan:
                subs.append(fla_attention(sd, p + "mixer.", p + "mixer_norm.weight", plan, eps))
            else:
                rank = c.get("time_step_rank", "auto")
                rank = math.ceil(D / 16) if rank == "auto" else rank
                subs.append(mamba(sd, p + "mixer.", p + "mixer_norm.weight", c.get("state_size", 16), c.get("conv_kernel", 4), rank,
                                  c.get("use_bias", False), True, eps))
                assert int(c.get("expand", 2) * D) == subs[-1].a["inner"], "expand"
            subs.append(fla_mlp(sd, p, "mlp_norm.weight", eps))
            ratio = 4 if c.get("hidden_ratio") is None else c["hidden_ratio"]
            assert 256 * -(-int(D * ratio * 2 / 3) // 256) == subs[-1].t["gate"].shape[0], f"hidden_ratio {ratio} does not give {subs[-1].t['gate'].shape[0]}"
            continue
        p = f"model.layers.{i}."
        if kind == "transformer":
            subs.append(fla_attention(sd, p + "attn.", p + "attn_norm.weight", {"layers": [], "num_heads": c["num_heads"], "num_kv_heads": c.get("num_kv_heads"),
                        "qkv_bias": c.get("qkv_bias", False), "window_size": c.get("window_size"), "rope_theta": c.get("rope_theta", 10000.0)}, eps))
        elif plan:
            subs.append(fla_attention(sd, p + "attn.", p + "attn_norm.weight", plan, eps))
        else:
            t = {n: sd.get(p + "attn." + n) for n in LINEAR}
            H = c["num_heads"]
            s = linear("gla" if kind == "gla" else "retention", sd[p + "attn_norm.weight"], t, H, c.get("num_kv_heads") or H, eps, eps, c.get("clamp_min"), c.get("feature_map"))
            ek, ev = (0.5, 1.0) if kind == "gla" else (1.0, 2.0)
            assert int(D * c.get("expand_k", ek)) == s.a["Kd"] and int(D * c.get("expand_v", ev)) == s.a["Vd"], "expand_k, expand_v"
            assert c.get("elementwise_affine", True) == s.a["affine"], "elementwise_affine"
            assert c.get("use_output_gate", True) == s.a["gate"], "use_output_gate"
            want = "g_norm_swish_gate" if c.get("fuse_norm", True) and c.get("use_output_gate", True) else "g_norm"
            assert not s.a["affine"] or t.get(want + ".weight") is not None, "fuse_norm: name of the g-norm"
            assert not c.get("use_short_conv") or t["q_conv1d.weight"] is not None or kind == "retnet"
            subs.append(s)
        subs.append(fla_mlp(sd, p, "mlp_norm.weight", eps))
        I = c.get("intermediate_size")
        if I is None:
            ratio = c.get("hidden_ratio")
            I = 256 * -(-int(D * ((4 if kind != "retnet" else 2) if ratio is None else ratio) * 2 / 3) // 256)
        assert I == subs[-1].t["gate"].shape[0], "intermediate_size"
    root, norm = ("backbone.", "norm_f") if kind == "samba" else ("model.", "norm")
    m = Model(sd[root + "embeddings.weight"], sd.get("lm_head.weight"), sd[root + norm + ".weight"], subs, eps)
    assert c["vocab_size"] == m.emb.shape[0], "vocab_size is not the rows"
    assert c.get("tie_word_embeddings", False) == (m.head is None), "tie_word_embeddings"
    return m


def read_llama(c, sd):
    H, D = c["num_attention_heads"], c["hidden_size"]
    mistral = c["model_type"] == "mistral"
    G = c.get("num_key_value_heads") or H
    eps = c.get("rms_norm_eps", 1e-6)
    rope = c.get("rope_parameters") or c.get("rope_scaling") or {}
    theta = rope.get("rope_theta", c.get("rope_theta", 10000.0))
    kind = rope.get("rope_type", rope.get("type", "default"))
    factor = float(rope.get("factor", 1.0)) if kind == "linear" else 1.0
    window = c.get("sliding_window", 4096) if mistral else None
    subs = []
    for i in range(c["num_hidden_layers"]):
        p = f"model.layers.{i}."
        b = {x + "b": sd.get(p + f"self_attn.{x}_proj.bias") for x in "qkvo"}
        assert (b["qb"] is not None) == bool(c.get("attention_bias", False)), "attention_bias"
        subs.append(attention(sd[p + "input_layernorm.weight"], *(sd[p + f"self_attn.{x}_proj.weight"] for x in "qkvo"), H, G, window, float(theta), eps, b, factor))
        mb = {x: sd.get(p + f"mlp.{n}_proj.bias") for x, n in (("gb", "gate"), ("ub", "up"), ("db", "down"))}
        assert (mb["gb"] is not None) == bool(c.get("mlp_bias", False)), "mlp_bias"
        subs.append(mlp(sd[p + "post_attention_layernorm.weight"], *(sd[p + f"mlp.{n}_proj.weight"] for n in ("gate", "up", "down")), eps, biases=mb))
        assert c["intermediate_size"] == subs[-1].t["gate"].shape[0]
    m = Model(sd["model.embed_tokens.weight"], sd.get("lm_head.weight"), sd["model.norm.weight"], subs, eps)
    assert c["vocab_size"] == m.emb.shape[0] and c.get("tie_word_embeddings", False) == (m.head is None), "vocab_size, tie_word_embeddings"
    assert (c.get("head_dim") or D // H) == subs[0].a["head_dim"]
    return m


def interleaved_to_half(w, H):
    return w.view(H, -1, 2, w.shape[1]).transpose(1, 2).reshape(w.shape)


def half_to_interleaved(w, H):
    return w.view(H, 2, -1, w.shape[1]).transpose(1, 2).reshape(w.shape)


def read_torchscale(c, sd):
    sd = {k.removeprefix("decoder."): v for k, v in sd.items()}
    H, D, eps, subs = c["decoder_retention_heads"], c["decoder_embed_dim"], c.get("layernorm_eps", 1e-6), []
    for i in range(c["decoder_layers"]):
        p = f"layers.{i}."
        t = {f"{x}_proj.weight": sd[p + f"retention.{x}_proj.weight"] for x in "qkvg"}
        t["o_proj.weight"] = sd[p + "retention.out_proj.weight"]
        for x in "qk":
            t[f"{x}_proj.weight"] = interleaved_to_half(t[f"{x}_proj.weight"], H)
        s = linear("retention", sd[p + "retention_layer_norm.weight"], t, H, H, eps, eps)
        subs.append(s)
        subs.append(mlp(sd[p + "final_layer_norm.weight"], sd[p + "ffn.fc1.weight"], sd[p + "ffn.gate.weight"], sd[p + "ffn.fc2.weight"], eps,
                        "silu" if c.get("activation_fn", "gelu") == "swish" else c.get("activation_fn", "gelu")))
        assert c["decoder_value_embed_dim"] == s.a["Vd"] and c["decoder_ffn_embed_dim"] == subs[-1].t["gate"].shape[0]
    emb = sd["embed_tokens.weight"]
    m = Model(emb, sd.get("output_projection.weight"), sd["layer_norm.weight"], subs, eps, scale=1.0 if c.get("no_scale_embedding", True) else math.sqrt(D))
    m.angle, m.decay = sd.get("retnet_rel_pos.angle"), sd.get("retnet_rel_pos.decay")
    m.emb_norm = sd["layernorm_embedding.weight"] if c.get("layernorm_embedding") else None
    assert bool(c.get("share_decoder_input_output_embed", False)) == (m.head is None), "share_decoder_input_output_embed"
    return m


def read_berlino(c, sd):
    H, subs = c["n_head"], []
    for i in range(c["n_layer"]):
        p = f"transformer.h.{i}."
        t = {f"{x}_proj.weight": sd[p + f"attn.{x}_proj.weight"] for x in "qkvg"}
        t.update({f"gk_proj.{n}": sd[p + f"attn.k_gate.{n}"] for n in ("0.weight", "1.weight", "1.bias")})
        t["o_proj.weight"] = sd[p + "attn.out_proj.weight"]
        s = linear("gla", sd[p + "ln_1.weight"], t, H, H, 1e-5, 1e-5)
        s.t["g_proj.bias"] = sd[p + "attn.g_proj.bias"]
        subs += [s, mlp(sd[p + "ln_2.weight"], *(sd[p + f"w{j}.weight"] for j in (1, 3, 2)), 1e-5)]
    return Model(sd["transformer.wte.weight"], sd.get("lm_head.weight"), sd["transformer.ln_f.weight"], subs, 1e-5, berlino=True)


def read(layout, c, sd):
    if layout == "hf":
        return {"mamba": read_mamba_hf, "mamba2": read_mamba2_hf}.get(c["model_type"], read_llama)(c, sd)
    return {"fla": read_fla, "mamba_ssm": read_mamba_ssm, "lit_gpt": read_lit, "torchscale": read_torchscale, "berlino": read_berlino}[layout](c, sd)
