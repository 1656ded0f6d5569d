"""The tensors that a target layout must hold for a Model, name by name; arithmetic in float64, rounded once."""

import torch

from . import model as M

MAMBA_ORDER = M.MAMBA


class Expected(dict):
    """name -> tensor; `computed` holds the names whose values went through arithmetic (compared to one unit in the last place)."""

    def __init__(self):
        super().__init__()
        self.computed = set()

    def put(self, name, t, computed=False):
        if t is not None:
            self[name] = t
            if computed:
                self.computed.add(name)


def pad_mlp(s, multiple):
    g, u, d = s.t["gate"], s.t["up"], s.t["down"]
    n = -g.shape[0] % multiple
    if n:
        z = g.new_zeros(n, g.shape[1])
        g, u, d = torch.cat([g, z]), torch.cat([u, z]), torch.cat([d, d.new_zeros(d.shape[0], n)], 1)
    return g, u, d


def head(out, m, name, emb_name, both):
    """both: the container's files hold the head although it is tied (mamba_ssm, lit_gpt, torchscale)."""
    if m.head is not None:
        out.put(name, m.head)
    elif both:
        out.put(name, out[emb_name])


def mamba_layers(m, out, emb):
    out.put(emb, m.emb)
    out.put("backbone.norm_f.weight", m.norm)
    for i, s in enumerate(m.subs):
        p = f"backbone.layers.{i}."
        out.put(p + "norm.weight", s.norm)
        for n, t in s.t.items():
            out.put(p + "mixer." + n, t)


def hf_mamba(m, c):
    out = Expected()
    mamba_layers(m, out, "backbone.embeddings.weight")
    head(out, m, "lm_head.weight", "backbone.embeddings.weight", False)
    return out


def pairs(m):
    """[(mixer, mlp or None)]"""
    out, subs = [], list(m.subs)
    while subs:
        a = subs.pop(0)
        out.append((a, subs.pop(0) if subs and subs[0].kind == "mlp" else None))
    return out


def mamba_ssm(m, c):
    out = Expected()
    out.put("backbone.embedding.weight", m.emb)
    out.put("backbone.norm_f.weight", m.norm)
    for i, (a, b) in enumerate(pairs(m)):
        p = f"backbone.layers.{i}."
        out.put(p + "norm.weight", a.norm)
        if a.kind in ("mamba", "mamba2"):
            for n, t in a.t.items():
                out.put(p + "mixer." + n, t)
        else:
            out.put(p + "mixer.in_proj.weight", torch.cat([a.t[x] for x in "qkv"]))
            if "qb" in a.t:
                out.put(p + "mixer.in_proj.bias", torch.cat([a.t[x + "b"] for x in "qkv"]))
            out.put(p + "mixer.out_proj.weight", a.t["o"])
            out.put(p + "mixer.out_proj.bias", a.t.get("ob"))
        if b:
            g, u, d = pad_mlp(b, 128)
            out.put(p + "norm2.weight", b.norm)
            out.put(p + "mlp.fc1.weight", torch.cat([u, g]))
            out.put(p + "mlp.fc2.weight", d)
    head(out, m, "lm_head.weight", "backbone.embedding.weight", True)
    return out


def fla_attn(out, p, a):
    for x in "qkvo":
        out.put(f"{p}{x}_proj.weight", a.t[x])
    for x in "qkv":
        out.put(f"{p}{x}_proj.bias", a.t.get(x + "b"))
        if x != "v":
            out.put(f"{p}{x}_norm.weight", a.t.get(x + "n"))


def fla(m, c):
    kind = c["model_type"]
    if kind in ("mamba", "mamba2"):
        return hf_mamba(m, c)
    out = Expected()
    root, norm = ("backbone.", "norm_f") if kind == "samba" else ("model.", "norm")
    scale = m.attrs.get("scale", 1.0)
    out.put(root + "embeddings.weight", (m.emb.double() * scale).to(m.emb.dtype), scale != 1.0)
    out.put(root + norm + ".weight", m.norm)
    layers = pairs(m)
    if kind == "samba" and any(b is None for _, b in layers):  # Mamba-SWA-MLP: an MLP of zeros after each Mamba
        I = next((b.t["gate"].shape[0] for _, b in layers if b), 256)
        zero = torch.zeros(I, m.D, dtype=m.emb.dtype)
        layers = [(a, b or M.mlp(torch.ones_like(a.norm), zero, zero, zero.T.contiguous(), a.a["eps"])) for a, b in layers]
    for i, (a, b) in enumerate(layers):
        p = f"{root}layers.{i}."
        mixer, mnorm = ("mixer.", "mixer_norm") if kind == "samba" else ("attn.", "attn_norm")
        out.put(f"{p}{mnorm}.weight", a.norm)
        if a.kind == "mamba":
            for n, t in a.t.items():
                out.put(p + mixer + n, t)
        elif a.kind == "attention":
            fla_attn(out, p + mixer, a)
        else:
            g = "g_norm_swish_gate" if c.get("fuse_norm", True) and c.get("use_output_gate", True) else "g_norm"
            H, Vd = a.a["heads"], a.a["Vd"]
            for n, t in a.t.items():
                n = n.replace("g_norm_swish_gate", g)
                if n == "g_proj.bias":
                    continue
                if m.attrs.get("berlino") and n == "k_proj.weight":
                    out.put(p + "attn." + n, (t.double() * (m.D / H) ** -0.5).to(t.dtype), True)
                elif m.attrs.get("berlino") and n == "v_proj.weight":
                    w = t.double().view(H, -1, m.D)
                    out.put(p + "attn." + n, (w - w.mean(1, keepdim=True)).reshape(t.shape).to(t.dtype), True)
                else:
                    out.put(p + "attn." + n, t)
            if c.get("elementwise_affine", True) and not a.a["affine"]:
                out.put(f"{p}attn.{g}.weight", torch.ones(Vd // H, dtype=a.norm.dtype))
        gate, up, down = pad_mlp(b, 256) if kind == "samba" else (b.t["gate"], b.t["up"], b.t["down"])
        out.put(p + "mlp_norm.weight", b.norm)
        for n, t in (("gate", gate), ("up", up), ("down", down)):
            out.put(f"{p}mlp.{n}_proj.weight", t)
    if scale != 1.0 and m.head is None:
        out.put("lm_head.weight", m.emb)
    else:
        head(out, m, "lm_head.weight", None, False)
    return out


def lit(m, c):
    c = {**M.LIT_DEFAULTS, **c}
    out = Expected()
    out.put("transformer.wte.weight", m.emb)
    out.put("transformer.ln_f.weight", m.norm)
    subs = list(m.subs)
    for i in range(c["n_layer"]):
        p, kind = f"transformer.h.{i}.", M.lit_kind(c, i)

        def put_attn(a, norm):
            out.put(p + norm, a.norm)
            H, G = a.a["heads"], a.a["groups"]
            out.put(p + "attn.attn.weight", M.merge_qkv(a.t["q"], a.t["k"], a.t["v"], H, G))
            if "qb" in a.t:
                out.put(p + "attn.attn.bias", M.merge_qkv(a.t["qb"], a.t["kb"], a.t["vb"], H, G))
            out.put(p + "attn.proj.weight", a.t["o"])
            out.put(p + "attn.proj.bias", a.t.get("ob"))
            for x in "qkv":
                out.put(p + f"attn.{x}_conv1d.weight", a.t.get(x + "_conv"))
        a = subs.pop(0)
        if kind == "mamba_only":
            out.put(p + "norm.weight", a.norm)
            for n, t in a.t.items():
                out.put(p + "mixer." + n, t)
            continue
        if kind == "mamba_swa_mlp":
            out.put(p + "norm_m.weight", a.norm)
            for n, t in a.t.items():
                out.put(p + "mb." + n, t)
            put_attn(subs.pop(0), "norm_attn.weight")
        elif kind == "mega":
            for n, t in a.t.items():
                out.put(n, t)
        elif kind == "attention":
            put_attn(a, "norm_1.weight")
        else:
            out.put(p + "norm_1.weight", a.norm)
            if kind == "abl":
                for j, x in enumerate(("gate", "up", "down"), 1):
                    out.put(p + f"attn.swiglu.w{j}.weight", a.t[x])
            else:
                for n, t in a.t.items():
                    out.put(p + "attn." + n, t)
                if kind in ("gla", "retention") and not a.a["affine"]:
                    out.put(p + "attn.g_norm_swish_gate.weight", torch.ones(a.a["Vd"] // a.a["heads"], dtype=a.norm.dtype))
        if c["mlp"]:
            b = subs.pop(0)
            out.put(p + "norm_2.weight", b.norm)
            for j, (x, y) in enumerate((("gate", "gb"), ("up", "ub"), ("down", "db")), 1):
                out.put(p + f"mlp.swiglu.w{j}.weight", b.t[x])
                if c["bias"]:
                    out.put(p + f"mlp.swiglu.w{j}.bias", b.t.get(y, torch.zeros(b.t[x].shape[0], dtype=b.t[x].dtype)))
    assert not subs, "the result's layers are fewer than the source's"
    head(out, m, "lm_head.weight", "transformer.wte.weight", True)
    return out


def llama(m, c):
    out = Expected()
    out.put("model.embed_tokens.weight", m.emb)
    out.put("model.norm.weight", m.norm)
    for i, (a, b) in enumerate(pairs(m)):
        p = f"model.layers.{i}."
        out.put(p + "input_layernorm.weight", a.norm)
        for x in "qkvo":
            out.put(f"{p}self_attn.{x}_proj.weight", a.t[x])
            out.put(f"{p}self_attn.{x}_proj.bias", a.t.get(x + "b"))
        out.put(p + "post_attention_layernorm.weight", b.norm)
        for n, y in (("gate", "gb"), ("up", "ub"), ("down", "db")):
            out.put(f"{p}mlp.{n}_proj.weight", b.t[n])
            out.put(f"{p}mlp.{n}_proj.bias", b.t.get(y))
    head(out, m, "lm_head.weight", None, False)
    return out


def torchscale(m, c, prefix=""):
    """From an fla RetNet: frequencies of fla in the angle buffer, group-norm weights folded into out_proj."""
    out, same = Expected(), "scale" in m.attrs
    out.put("embed_tokens.weight", m.emb)
    out.put("layer_norm.weight", m.norm)
    for i, (a, b) in enumerate(pairs(m)):
        p, H = f"layers.{i}.", a.a["heads"]
        for x in "qk":
            out.put(f"{p}retention.{x}_proj.weight", M.half_to_interleaved(a.t[f"{x}_proj.weight"], H))
        for x in "vg":
            out.put(f"{p}retention.{x}_proj.weight", a.t[f"{x}_proj.weight"])
        o = a.t["o_proj.weight"]
        w = a.t.get("g_norm_swish_gate.weight")
        if w is not None:
            o = (o.double() * w.double().repeat(H)).to(o.dtype)
        out.put(p + "retention.out_proj.weight", o, w is not None)
        out.put(p + "retention_layer_norm.weight", a.norm)
        out.put(p + "final_layer_norm.weight", b.norm)
        for n, x in (("fc1", "gate"), ("gate", "up"), ("fc2", "down")):
            out.put(f"{p}ffn.{n}.weight", b.t[x])
    dk = m.subs[0].a["Kd"] // m.subs[0].a["heads"]
    if same:
        out.put("layernorm_embedding.weight", m.emb_norm)
        out.put("retnet_rel_pos.angle", m.angle)
        out.put("retnet_rel_pos.decay", m.decay)
    else:
        angle = 10000.0 ** (-2 * torch.arange(dk // 2, dtype=torch.float64) / dk)
        out.put("retnet_rel_pos.angle", angle.repeat_interleave(2).float(), True)
        out.put("retnet_rel_pos.decay", torch.log(1 - 2.0 ** (-5 - torch.arange(m.subs[0].a["heads"], dtype=torch.float64))).float(), True)
    head(out, m, "output_projection.weight", "embed_tokens.weight", True)
    return out


def berlino(m, c):
    out = Expected()
    out.put("transformer.wte.weight", m.emb)
    out.put("transformer.ln_f.weight", m.norm)
    for i, (a, b) in enumerate(pairs(m)):
        p = f"transformer.h.{i}."
        out.put(p + "ln_1.weight", a.norm)
        out.put(p + "ln_2.weight", b.norm)
        for x in "qkvg":
            out.put(f"{p}attn.{x}_proj.weight", a.t[f"{x}_proj.weight"])
        out.put(p + "attn.g_proj.bias", a.t.get("g_proj.bias"))
        out.put(p + "attn.out_proj.weight", a.t["o_proj.weight"])
        for n in ("0.weight", "1.weight", "1.bias"):
            out.put(f"{p}attn.k_gate.{n}", a.t[f"gk_proj.{n}"])
        for j, x in ((1, "gate"), (3, "up"), (2, "down")):
            out.put(f"{p}w{j}.weight", b.t[x])
    out.put("lm_head.weight", m.head if m.head is not None else m.emb)
    return out


def write(layout, m, c):
    if layout == "hf":
        return hf_mamba(m, c) if c["model_type"] in ("mamba", "mamba2") else llama(m, c)
    return {"fla": fla, "mamba_ssm": mamba_ssm, "lit_gpt": lit, "torchscale": torchscale, "berlino": berlino}[layout](m, c)


def ulps(a, b):
    """Largest distance in units of the last place."""
    step = torch.finfo(b.dtype).eps
    x, y = a.double(), b.double()
    scale = torch.maximum(y.abs(), x.abs()).clamp_min(torch.finfo(b.dtype).tiny)
    return float(((x - y).abs() / (scale * step)).max()) if x.numel() else 0.0


def compare(expected, actual):
    """Complaints: missing and extra names, dtypes, shapes, values."""
    bad = []
    for n in expected:
        if n not in actual:
            bad.append(f"missing {n}")
    for n in actual:
        if n not in expected:
            bad.append(f"unexpected {n} {tuple(actual[n].shape)}")
    for n, e in expected.items():
        a = actual.get(n)
        if a is None or n.endswith("_float_tensor"):  # uninitialised memory
            continue
        if a.dtype != e.dtype:
            bad.append(f"{n} is {a.dtype}, expected {e.dtype}")
        elif a.shape != e.shape:
            bad.append(f"{n} is {tuple(a.shape)}, expected {tuple(e.shape)}")
        elif n in expected.computed:
            u = ulps(a, e)
            if not u <= 1.01:
                bad.append(f"{n} is off by {u:.3g} ulp")
        elif not torch.equal(a.contiguous().view(torch.uint8) if a.dim() else a, e.contiguous().view(torch.uint8) if e.dim() else e):
            bad.append(f"{n} differs, by up to {float((a.double() - e.double()).abs().max()):.3g}")
    return bad
