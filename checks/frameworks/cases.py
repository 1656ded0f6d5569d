"""Generated checkpoints: odd sizes and options that the reference cases do not have. Written by the frameworks' own classes where they
install (transformers, fla), else from the names and shapes of LAYOUTS.md."""
import math
import os

import torch

from . import files as F

GEN = torch.Generator()


def randn(*shape, std=1.0):
    return torch.randn(*shape, generator=GEN) * std


def fill(name, shape):
    """Random values of realistic scale, none left where a wrong mapping would go unseen."""
    if name.endswith("A_log") and len(shape) == 1:
        return torch.log(1 + 15 * torch.rand(*shape, generator=GEN))
    if name.endswith("A_log"):
        return torch.log(torch.arange(1, shape[-1] + 1).float()).expand(shape) + randn(*shape, std=0.3)
    if name.endswith(("dt_proj.bias", "dt_bias")):
        return randn(*shape, std=0.5) - 3
    if name.endswith("gk_proj.1.bias") or name.endswith("k_gate.1.bias"):
        return randn(*shape, std=1.0) + 2
    if name.endswith(".D") or (("norm" in name or "ln_" in name) and name.endswith("weight") and len(shape) == 1):
        return 1 + randn(*shape, std=0.3)
    if "embed" in name or "wte" in name:
        return randn(*shape)
    if len(shape) == 1:
        return randn(*shape, std=0.2)
    if "conv1d" in name:
        return randn(*shape, std=0.5)
    return randn(*shape, std=1.2 / math.sqrt(shape[-1]))


def randomize(shapes, seed, dtype=torch.float32, keep_f32=("A_log", ".D")):
    GEN.manual_seed(seed)
    return {n: fill(n, tuple(s)).to(torch.float32 if n.endswith(keep_f32) else dtype).contiguous() for n, s in shapes.items()}


# ------------------------------------------------------------------ names and shapes, from LAYOUTS 2
def mamba_shapes(p, D, E, N=16, W=4, R=None, bias=False, conv_bias=True):
    R = R or math.ceil(D / 16)
    s = {p + "A_log": (E, N), p + "D": (E,), p + "in_proj.weight": (2 * E, D), p + "conv1d.weight": (E, 1, W), p + "x_proj.weight": (R + 2 * N, E),
         p + "dt_proj.weight": (E, R), p + "dt_proj.bias": (E,), p + "out_proj.weight": (D, E)}
    if conv_bias:
        s[p + "conv1d.bias"] = (E,)
    if bias:
        s[p + "in_proj.bias"], s[p + "out_proj.bias"] = (2 * E,), (D,)
    return s


def lit_shapes(c):
    from . import model as M
    c = {**M.LIT_DEFAULTS, **c}
    D, H, I = c["n_embd"], c["n_head"], c["intermediate_size"]
    G = c["n_query_groups"] or H
    V = c["padded_vocab_size"] or -(-c["vocab_size"] // c["padding_multiple"]) * c["padding_multiple"]
    s = {"lm_head.weight": (V, D), "transformer.wte.weight": (V, D)}
    for i in range(c["n_layer"]):
        p, kind = f"transformer.h.{i}.", M.lit_kind(c, i)
        if kind == "mamba_only":
            s.update(mamba_shapes(p + "mixer.", D, 2 * D))
            s[p + "norm.weight"] = (D,)
            continue
        if kind in ("attention", "mamba_swa_mlp"):
            rows = (H + 2 * G) * (D // H)
            s[p + "attn.attn.weight"], s[p + "attn.proj.weight"] = (rows, D), (D, D)
            if c["bias"]:
                s[p + "attn.attn.bias"], s[p + "attn.proj.bias"] = (rows,), (D,)
            if c["sc_attn"]:
                s.update({p + f"attn.{x}_conv1d.weight": ((H if x == "q" else G) * (D // H), 1, 4) for x in "qkv"})
        if kind == "mamba_swa_mlp":
            s.update(mamba_shapes(p + "mb.", D, 2 * D))
            s[p + "norm_m.weight"] = s[p + "norm_attn.weight"] = (D,)
        else:
            s[p + "norm_1.weight"] = (D,)
        if kind == "mamba":
            s.update(mamba_shapes(p + "attn.", D, 2 * D))
        if kind == "abl":
            s.update({p + "attn.swiglu.w1.weight": (2 * D, D), p + "attn.swiglu.w2.weight": (2 * D, D), p + "attn.swiglu.w3.weight": (D, 2 * D)})
        if kind == "retention":
            dv = 2 * D // (H // 2)
            s.update({p + f"attn.{x}_proj.weight": (D, D) for x in "qk"}, **{p + f"attn.{x}_proj.weight": (2 * D, D) for x in "vg"})
            s[p + "attn.o_proj.weight"], s[p + "attn.g_norm_swish_gate.weight"] = (D, 2 * D), (dv,)
        if kind == "gla":
            s.update({p + f"attn.{x}_proj.weight": (D // 2, D) for x in "qk"}, **{p + f"attn.{x}_proj.weight": (D, D) for x in "vgo"})
            s.update({p + "attn.gk_proj.0.weight": (16, D), p + "attn.gk_proj.1.weight": (D // 2, 16), p + "attn.gk_proj.1.bias": (D // 2,),
                      p + "attn.g_norm_swish_gate.weight": (D // (D // 384),)})
        if c["mlp"]:
            s[p + "norm_2.weight"] = (D,)
            s.update({p + "mlp.swiglu.w1.weight": (I, D), p + "mlp.swiglu.w2.weight": (I, D), p + "mlp.swiglu.w3.weight": (D, I)})
            if c["bias"]:
                s.update({p + "mlp.swiglu.w1.bias": (I,), p + "mlp.swiglu.w2.bias": (I,), p + "mlp.swiglu.w3.bias": (D,)})
    s["transformer.ln_f.weight"] = (D,)
    return s


LIT = dict(org="Microsoft", name="generated", block_size=256, vocab_size=90, padding_multiple=64, rotary_percentage=1.0, parallel_residual=False,
           bias=False, _norm_class="FusedRMSNorm", norm_eps=1e-5, _mlp_class="LLaMAMLP", n_layer=4, n_head=6, n_embd=96, intermediate_size=256)


def lit(root, name, seed, dtype=torch.float32, prefix="", nested=True, hparams=None, cfg_file=True, tied=None, **over):
    c = {**LIT, "name": name, **over}
    sd = randomize(lit_shapes(c), seed, dtype)
    if tied if tied is not None else (c.get("mamba") or c.get("mamba_init")):
        sd["lm_head.weight"] = sd["transformer.wte.weight"].clone()  # as FSDP writes it: two storages of equal bytes
    if prefix == "fsdp-inside":
        sd = {"_fsdp_wrapped_module." + k.replace("transformer.h.", "transformer.h.").replace(".norm_", "._fsdp_wrapped_module.norm_"): v for k, v in sd.items()}
    elif prefix:
        sd = {prefix + k: v for k, v in sd.items()}
    obj = {"model": sd, "optimizer": {"state": {0: {"step": torch.tensor(3.0), "exp_avg": randn(7, 5)}}, "param_groups": [{"lr": 1e-4, "params": [0]}]},
           "hparams": hparams or {"name": name, "model_name": name}, "iter_num": 5, "step_count": 1} if nested else sd
    d = os.path.join(root, name, "lit_gpt")
    F.save_torch(d, obj, c if cfg_file else None, file="iter-000005-ckpt.pth", name="lit_config.json")
    return d


def ssm(root, name, seed, dtype=torch.float32, vocab=61, tied=True, safetensors=False, layers=3, D=40, ssm_cfg=None, rows=None, **over):
    s = ssm_cfg or {}
    c = dict(d_model=D, n_layer=layers, vocab_size=vocab, ssm_cfg=s, tie_embeddings=tied, **over)
    k = c.get("pad_vocab_size_multiple", 8)
    V = -(-vocab // k) * k
    E, R = s.get("expand", 2) * D, s.get("dt_rank", "auto")
    R = None if R == "auto" else R
    att, ac = c.get("attn_layer_idx", []), c.get("attn_cfg", {})
    I = -(-c.get("d_intermediate", 0) // 128) * 128
    shapes = {"backbone.embedding.weight": (V, D)}
    for i in range(layers):
        p = f"backbone.layers.{i}."
        shapes[p + "norm.weight"] = (D,)
        if i in att:
            H = ac["num_heads"]
            G, hs = ac.get("num_heads_kv") or H, ac.get("head_dim") or D // H
            shapes[p + "mixer.in_proj.weight"], shapes[p + "mixer.out_proj.weight"] = ((H + 2 * G) * hs, D), (D, H * hs)
            if ac.get("qkv_proj_bias", True):
                shapes[p + "mixer.in_proj.bias"] = ((H + 2 * G) * hs,)
            if ac.get("out_proj_bias", True):
                shapes[p + "mixer.out_proj.bias"] = (D,)
        else:
            shapes.update(mamba_shapes(p + "mixer.", D, E, s.get("d_state", 16), s.get("d_conv", 4), R, s.get("bias", False), s.get("conv_bias", True)))
        if I:
            shapes.update({p + "norm2.weight": (D,), p + "mlp.fc1.weight": (2 * I, D), p + "mlp.fc2.weight": (D, I)})
    shapes["backbone.norm_f.weight"] = (D,)
    shapes["lm_head.weight"] = (V, D)
    sd = randomize(shapes, seed, dtype)
    if tied:
        sd["lm_head.weight"] = sd["backbone.embedding.weight"]
    d = os.path.join(root, name, "mamba_ssm")
    if safetensors:
        return F.save_safetensors(d, sd, c)
    return F.save_torch(d, sd, c)


def berlino(root, name, seed, D=128, H=2, L=2, V=77, I=None, dtype=torch.float32, zero_bias=True, **over):
    I = I or 256 * math.ceil(int(D * 8 / 3) / 256)
    s = {"transformer.wte.weight": (V, D), "transformer.ln_f.weight": (D,), "lm_head.weight": (V, D)}
    for i in range(L):
        p = f"transformer.h.{i}."
        s.update({p + "ln_1.weight": (D,), p + "ln_2.weight": (D,), p + "w1.weight": (I, D), p + "w3.weight": (I, D), p + "w2.weight": (D, I)})
        s.update({p + f"attn.{x}_proj.weight": (D // 2, D) for x in "qk"}, **{p + f"attn.{x}_proj.weight": (D, D) for x in ("v", "g", "out")})
        s.update({p + "attn.g_proj.bias": (D,), p + "attn.k_gate.0.weight": (16, D), p + "attn.k_gate.1.weight": (D // 2, 16), p + "attn.k_gate.1.bias": (D // 2,)})
    sd = randomize(s, seed, dtype)
    for n in sd:
        if zero_bias and n.endswith("g_proj.bias"):
            sd[n].zero_()
    c = dict(d_model=D, n_head=H, n_layer=L, vocab_size=V, context_length=2048, model_type="gla", architectures=["GLAForCausalLM"], **over)
    return F.save_safetensors(os.path.join(root, name, "berlino"), sd, c)


TS = dict(decoder_embed_dim=48, decoder_value_embed_dim=72, decoder_retention_heads=3, decoder_ffn_embed_dim=80, decoder_layers=2, activation_fn="swish",
          layernorm_eps=1e-6, decoder_normalize_before=True, no_scale_embedding=True, share_decoder_input_output_embed=False, vocab_size=70)


def torchscale(root, name, seed, fla_angle=False, nested=False, drop=(), dtype=torch.float32, **over):
    c = {**TS, **over}
    D, Vd, H, I, V = (c[k] for k in ("decoder_embed_dim", "decoder_value_embed_dim", "decoder_retention_heads", "decoder_ffn_embed_dim", "vocab_size"))
    s = {"embed_tokens.weight": (V, D), "output_projection.weight": (V, D), "layer_norm.weight": (D,)}
    for i in range(c["decoder_layers"]):
        p = f"layers.{i}."
        s.update({p + f"retention.{x}_proj.weight": (D, D) for x in "qk"}, **{p + f"retention.{x}_proj.weight": (Vd, D) for x in "vg"})
        s.update({p + "retention.out_proj.weight": (D, Vd), p + "retention_layer_norm.weight": (D,), p + "final_layer_norm.weight": (D,),
                  p + "ffn.fc1.weight": (I, D), p + "ffn.gate.weight": (I, D), p + "ffn.fc2.weight": (D, I)})
    sd = randomize(s, seed, dtype)
    if c["share_decoder_input_output_embed"]:
        sd["output_projection.weight"] = sd["embed_tokens.weight"]
    dk = D // H
    e = torch.linspace(0, 1, dk // 2) if not fla_angle else 2 * torch.arange(dk // 2) / dk
    sd["retnet_rel_pos.angle"] = (1.0 / (10000 ** e)).unsqueeze(-1).repeat(1, 2).flatten()
    sd["retnet_rel_pos.decay"] = torch.log(1 - 2 ** (-5 - torch.arange(H, dtype=torch.float)))
    obj = {"model": {"decoder." + k: v for k, v in sd.items()}, "args": None, "extra_state": {}} if nested else sd
    c = {k: v for k, v in c.items() if k not in drop}
    return F.save_torch(os.path.join(root, name, "torchscale"), obj, c, file="checkpoint_last.pt" if nested else "checkpoint.pt")


def pretrained(root, name, layout, model, seed, dtype=None, keep_f32=("A_log", ".D"), shard=None):
    """Random values into a framework's own module, saved by its own save_pretrained."""
    sd = randomize({k: v.shape for k, v in model.state_dict().items()}, seed, torch.float32)
    if model.config.tie_word_embeddings:
        sd["lm_head.weight"] = sd[next(k for k in sd if "embed" in k)]
    model.load_state_dict(sd)
    if dtype:
        for n, p in model.named_parameters():
            if not n.endswith(keep_f32):
                p.data = p.data.to(dtype)
        model.config.dtype = dtype
    d = os.path.join(root, name, layout)
    model.save_pretrained(d, **({"max_shard_size": shard} if shard else {}))
    return d


def generate(root):
    """[(name, layout, folder, the layouts that it must convert to)]; the others must refuse."""
    import transformers as T
    from fla import models as X
    out = []

    def add(name, layout, folder, *ok):
        out.append((name, layout, folder, set(ok) | {layout}))
    MAMBAS = ("hf", "fla", "mamba_ssm")
    # ------- mamba
    def hfm(name, seed, *ok, dtype=None, **k):
        k = {**dict(hidden_size=36, num_hidden_layers=2, vocab_size=61, state_size=7, conv_kernel=3, expand=3, time_step_rank=5, tie_word_embeddings=False), **k}
        add(name, "hf", pretrained(root, name, "hf", T.MambaForCausalLM(T.MambaConfig(**k)), seed, dtype), *ok)
    hfm("hf-mamba-odd", 1, *MAMBAS)
    hfm("hf-mamba-bias-tied", 2, *MAMBAS, use_bias=True, tie_word_embeddings=True)
    hfm("hf-mamba-noconvbias", 3, *MAMBAS, use_conv_bias=False)
    hfm("hf-mamba-bf16", 4, *MAMBAS, "lit_gpt", dtype=torch.bfloat16, hidden_size=32, state_size=16, conv_kernel=4, expand=2, time_step_rank="auto", tie_word_embeddings=True)
    hfm("hf-mamba-eps", 5, "fla", layer_norm_epsilon=1e-6)

    def flm(name, seed, *ok, dtype=None, **k):
        k = {**dict(hidden_size=36, num_hidden_layers=2, vocab_size=61, fuse_cross_entropy=False), **k}
        add(name, "fla", pretrained(root, name, "fla", X.MambaForCausalLM(X.MambaConfig(**k)), seed, dtype), *ok)
    flm("fla-mamba-tied", 6, *MAMBAS, "lit_gpt", tie_word_embeddings=True)
    flm("fla-mamba-bias-rank", 7, *MAMBAS, use_bias=True, dt_rank=5, state_size=9, conv_kernel=2)
    flm("fla-mamba-noconvbias", 8, *MAMBAS, use_conv_bias=False)
    add("ssm-defaults", "mamba_ssm", ssm(root, "ssm-defaults", 9), *MAMBAS, "lit_gpt")
    add("ssm-safetensors", "mamba_ssm", ssm(root, "ssm-safetensors", 10, safetensors=True, tied=False, ssm_cfg={"layer": "Mamba1", "d_state": 5, "bias": True}), *MAMBAS)
    add("ssm-pad1-bf16", "mamba_ssm", ssm(root, "ssm-pad1-bf16", 11, torch.bfloat16, pad_vocab_size_multiple=1, ssm_cfg={"conv_bias": False, "expand": 1}), *MAMBAS)
    HY = dict(causal=True, num_heads=4, num_heads_kv=2, head_dim=12, rotary_emb_dim=12, qkv_proj_bias=False, out_proj_bias=False)
    add("ssm-hybrid", "mamba_ssm", ssm(root, "ssm-hybrid", 12, D=48, layers=4, attn_layer_idx=[1, 3], attn_cfg=HY, d_intermediate=256), "mamba_ssm", "lit_gpt", "fla")
    add("ssm-hybrid-odd-mlp", "mamba_ssm", ssm(root, "ssm-hybrid-odd-mlp", 13, D=48, layers=3, attn_layer_idx=[2], attn_cfg=HY, d_intermediate=200, tied=False), "lit_gpt", "fla")
    add("ssm-hybrid-bias", "mamba_ssm", ssm(root, "ssm-hybrid-bias", 14, D=48, layers=3, attn_layer_idx=[2], attn_cfg={k: v for k, v in HY.items() if "bias" not in k}, d_intermediate=128), "lit_gpt")
    add("ssm-hybrid-nomlp", "mamba_ssm", ssm(root, "ssm-hybrid-nomlp", 15, D=48, layers=3, attn_layer_idx=[1], attn_cfg=HY), "fla")
    # ------- mamba-2
    M2 = dict(hidden_size=32, num_hidden_layers=2, vocab_size=61, state_size=12, head_dim=16, conv_kernel=3, chunk_size=16)

    def m2(name, seed, layout, *ok, **k):
        if layout == "hf":
            m = T.Mamba2ForCausalLM(T.Mamba2Config(**{**M2, "num_heads": 4, "n_groups": 1, **k}))
        else:
            m = X.Mamba2ForCausalLM(X.Mamba2Config(**{**M2, "fuse_cross_entropy": False, **k}))
        add(name, layout, pretrained(root, name, layout, m, seed, keep_f32=("A_log", ".D", "dt_bias")), *ok)
    m2("hf-mamba2", 16, "hf", *MAMBAS)
    m2("hf-mamba2-groups-tied", 17, "hf", *MAMBAS, n_groups=2, tie_word_embeddings=True, use_bias=True, time_step_limit=(0.01, 0.2))
    m2("hf-mamba2-eps", 18, "hf", "fla", layer_norm_epsilon=1e-6, use_conv_bias=False)
    m2("fla-mamba2", 19, "fla", *MAMBAS)
    m2("fla-mamba2-tied-odd", 56, "fla", *MAMBAS, tie_word_embeddings=True, expand=3, conv_kernel=4, head_dim=8)
    m2("fla-mamba2-nonorm", 57, "fla", "mamba_ssm", rmsnorm=False)
    # ------- lit_gpt
    def L(name, seed, *ok, **k):
        add(name, "lit_gpt", lit(root, name, seed, **k), *ok)
    L("lit-samba-gqa", 20, "fla", mb_per_layer=2, mamba_init=True, n_query_groups=2, local_window=8)
    L("lit-samba-mqa-bf16", 21, "fla", mb_per_layer=2, mamba_init=True, n_query_groups=1, local_window=8, dtype=torch.bfloat16, prefix="fsdp-inside")
    L("lit-samba-pos-window", 22, "fla", attn_layer_pos="[1,2]", mamba_init=True, local_window=8, intermediate_size=512)
    L("lit-samba-two-windows", 23, "fla", n_layer=6, mb_per_layer=2, local_window=8, full_per_layer=4, prefix="_orig_mod.")
    L("lit-hybrid-full", 24, "fla", "mamba_ssm", attn_layer_pos="[1]", mamba_init=True, n_query_groups=2)
    L("lit-hybrid-full-untied", 25, "fla", "mamba_ssm", attn_layer_pos="[0, 3]", intermediate_size=250)
    L("lit-swa-mlp-gqa", 26, "fla", mamba_swa_mlp=True, mamba_init=True, n_layer=3, n_query_groups=3, local_window=5, intermediate_size=300)
    L("lit-mamba-only-odd", 27, *MAMBAS, mamba=True, n_embd=90, nested=False)
    L("lit-llama", 28, "hf", "fla", "mamba_ssm", n_query_groups=2)
    L("lit-llama-swa-tied", 29, "hf", "fla", n_query_groups=3, local_window=8, tied=True, mamba_init=True, dtype=torch.bfloat16)
    L("lit-llama-swa-full", 30, "fla", local_window=8, full_per_layer=2)
    L("lit-llama-condense", 31, "hf", condense_ratio=4)
    L("lit-llama-bias", 32, "hf", bias=True)
    L("lit-llama-eps", 33, "hf", "fla", norm_eps=1e-6)
    L("lit-llama-nope", 34, "mamba_ssm", nope=True)
    L("lit-sc-attn", 35, sc_attn=True, local_window=8)
    L("lit-abl", 36, abl_mamba=True, mb_per_layer=2, local_window=8, mamba_init=True)
    L("lit-gla-2", 37, "fla", n_embd=768, n_head=6, n_layer=2, gla_per_layer=2, local_window=8, intermediate_size=200)
    L("lit-retnet-tied", 38, "fla", n_embd=96, n_head=6, n_layer=3, ret_per_layer=3, local_window=8, mamba_init=True, n_query_groups=2)
    L("lit-gla-nolocal", 39, "fla", n_embd=384, n_head=6, n_layer=2, gla_per_layer=1, intermediate_size=200)
    L("lit-ret-pure", 46, "fla", "torchscale", n_embd=96, n_head=6, n_layer=2, ret_per_layer=1, intermediate_size=200)
    # ------- llama, mistral
    def hfl(name, seed, *ok, mistral=False, dtype=None, **k):
        k = {**dict(hidden_size=60, num_hidden_layers=3, vocab_size=101, num_attention_heads=6, num_key_value_heads=2, intermediate_size=100, rms_norm_eps=1e-5, tie_word_embeddings=False), **k}
        m = T.MistralForCausalLM(T.MistralConfig(**k)) if mistral else T.LlamaForCausalLM(T.LlamaConfig(**k))
        add(name, "hf", pretrained(root, name, "hf", m, seed, dtype), *ok)
    hfl("hf-llama-gqa", 40, "fla", "lit_gpt", "mamba_ssm")
    hfl("hf-llama-tied-eps", 41, "fla", "lit_gpt", tie_word_embeddings=True, rms_norm_eps=1e-6, dtype=torch.bfloat16)
    hfl("hf-llama-attnbias", 42, "lit_gpt", "mamba_ssm", attention_bias=True)
    hfl("hf-llama-allbias", 43, "lit_gpt", attention_bias=True, mlp_bias=True)
    hfl("hf-llama-theta", 44, "fla", "mamba_ssm", rope_parameters={"rope_theta": 500000.0, "rope_type": "default"})
    hfl("hf-llama-linear", 45, "lit_gpt", rope_parameters={"rope_theta": 10000.0, "rope_type": "linear", "factor": 4.0})
    hfl("hf-llama-llama3", 47, rope_parameters={"rope_theta": 10000.0, "rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0, "original_max_position_embeddings": 64})
    hfl("hf-llama-headdim", 48, "mamba_ssm", head_dim=16)
    hfl("hf-mistral", 49, "fla", "lit_gpt", mistral=True, sliding_window=8)
    hfl("hf-mistral-nowindow", 50, "fla", "lit_gpt", "mamba_ssm", mistral=True, sliding_window=None, num_key_value_heads=1)
    # ------- fla gla, retnet, transformer, samba
    BASE = dict(fuse_cross_entropy=False, vocab_size=67, num_hidden_layers=2)

    def flx(name, seed, cls, cfg, *ok, dtype=None, shard=None, **k):
        add(name, "fla", pretrained(root, name, "fla", cls(cfg(**{**BASE, **k})), seed, dtype, shard=shard), *ok)
    GL = (X.GLAForCausalLM, X.GLAConfig)
    RN = (X.RetNetForCausalLM, X.RetNetConfig)
    TF = (X.TransformerForCausalLM, X.TransformerConfig)
    SB = (X.SambaForCausalLM, X.SambaConfig)
    A8 = {"layers": [1], "num_heads": 4, "num_kv_heads": 2, "window_size": 8}
    flx("fla-gla-noaffine", 60, *GL, hidden_size=64, num_heads=2, elementwise_affine=False, intermediate_size=100)
    flx("fla-gla-nofuse", 61, *GL, hidden_size=64, num_heads=2, fuse_norm=False, hidden_ratio=3)
    flx("fla-gla-nogate-relu", 62, *GL, hidden_size=64, num_heads=4, num_kv_heads=2, use_output_gate=False, feature_map="relu", tie_word_embeddings=True)
    flx("fla-gla-hybrid", 63, *GL, hidden_size=64, num_heads=2, num_hidden_layers=3, attn={**A8, "qkv_bias": True, "rope_theta": 5000.0}, dtype=torch.bfloat16)
    flx("fla-gla-hybrid-list", 64, *GL, hidden_size=64, num_heads=2, num_hidden_layers=4, attn=[A8, {"layers": [3], "num_heads": 8, "window_size": None}])
    flx("fla-gla-384", 65, *GL, "lit_gpt", hidden_size=384, num_heads=1, norm_eps=1e-5, intermediate_size=100, num_hidden_layers=2,
        attn={"layers": [1], "num_heads": 6, "num_kv_heads": 6, "window_size": 8})
    flx("fla-gla-ratio", 66, *GL, hidden_size=72, num_heads=3, hidden_ratio=4.5, expand_k=0.25, expand_v=2)
    flx("fla-gla-shards", 67, *GL, hidden_size=64, num_heads=2, use_short_conv=True, conv_size=3, shard="60KB")
    flx("fla-ret-noaffine", 70, *RN, "torchscale", hidden_size=48, num_heads=3, elementwise_affine=False, intermediate_size=100, expand_v=1.5)
    flx("fla-ret-nofuse-tied", 71, *RN, "torchscale", "lit_gpt", hidden_size=64, num_heads=4, fuse_norm=False, tie_word_embeddings=True, norm_eps=1e-5)
    flx("fla-ret-hybrid", 72, *RN, hidden_size=64, num_heads=2, num_hidden_layers=3, attn=A8)
    flx("fla-ret-hybrid-lit", 73, *RN, "lit_gpt", hidden_size=64, num_heads=2, num_hidden_layers=4, norm_eps=1e-5,
        attn={"layers": [1, 3], "num_heads": 4, "window_size": 8})
    flx("fla-ret-bf16", 74, *RN, "torchscale", hidden_size=64, num_heads=2, dtype=torch.bfloat16, hidden_ratio=None)
    flx("fla-ret-expandk", 75, *RN, hidden_size=64, num_heads=2, expand_k=0.5)
    flx("fla-tf", 80, *TF, "hf", "lit_gpt", hidden_size=64, num_heads=4, num_kv_heads=2, window_size=8, intermediate_size=90)
    flx("fla-tf-full-tied", 81, *TF, "hf", "lit_gpt", "mamba_ssm", hidden_size=64, num_heads=4, tie_word_embeddings=True, norm_eps=1e-5)
    flx("fla-tf-qknorm-bias", 82, *TF, hidden_size=64, num_heads=4, qk_norm=True, qkv_bias=True)
    flx("fla-tf-theta", 83, *TF, "hf", hidden_size=64, num_heads=4, rope_theta=1e6)
    flx("fla-samba-list", 84, *SB, "lit_gpt", hidden_size=64, num_hidden_layers=6, attn=[{**A8, "layers": [1, 5]}, {**A8, "layers": [3], "window_size": None}], tie_word_embeddings=True)
    flx("fla-samba-ratio", 85, *SB, "lit_gpt", hidden_size=96, hidden_ratio=4.5, num_hidden_layers=3, attn={**A8, "layers": [0, 2]}, dtype=torch.bfloat16)
    flx("fla-samba-bias", 86, *SB, hidden_size=64, use_bias=True, attn=A8, state_size=8, time_step_rank=3)
    flx("fla-samba-full", 87, *SB, "lit_gpt", "mamba_ssm", hidden_size=64, attn={**A8, "window_size": None})
    flx("fla-samba-theta", 88, *SB, hidden_size=64, attn={**A8, "rope_theta": 1e5})
    flx("fla-samba-noattn", 89, *SB, "lit_gpt", "mamba_ssm", hidden_size=64, attn=None)
    out.append(old_fla(root, "old-fla-gla", "fla-gla-noaffine"))
    out.append(old_fla(root, "old-fla-samba", "fla-samba-ratio"))
    out.append(old_fla(root, "old-fla-tf", "fla-tf-full-tied"))
    out.append(old_fla(root, "old-fla-ret", "fla-ret-nofuse-tied"))
    # ------- torchscale, berlino
    add("ts-swish", "torchscale", torchscale(root, "ts-swish", 90))
    add("ts-fla-angle", "torchscale", torchscale(root, "ts-fla-angle", 91, fla_angle=True), "fla")
    add("ts-fla-angle-scale", "torchscale", torchscale(root, "ts-fla-angle-scale", 92, fla_angle=True, no_scale_embedding=False, nested=True), "fla")
    add("ts-fla-angle-scale-tied", "torchscale", torchscale(root, "ts-fla-angle-scale-tied", 93, fla_angle=True, no_scale_embedding=False, share_decoder_input_output_embed=True), "fla")
    add("ts-fla-angle-tied", "torchscale", torchscale(root, "ts-fla-angle-tied", 94, fla_angle=True, share_decoder_input_output_embed=True, layernorm_eps=1e-5), "fla")
    add("ts-fla-angle-gelu", "torchscale", torchscale(root, "ts-fla-angle-gelu", 95, fla_angle=True, activation_fn="gelu"))
    add("ts-sparse-config", "torchscale", torchscale(root, "ts-sparse-config", 96, fla_angle=True, drop=("layernorm_eps", "decoder_normalize_before", "no_scale_embedding", "share_decoder_input_output_embed", "vocab_size")), "fla")
    add("berlino-128", "berlino", berlino(root, "berlino-128", 97), "fla")
    add("berlino-bf16", "berlino", berlino(root, "berlino-bf16", 98, D=96, H=4, dtype=torch.bfloat16), "fla")
    add("berlino-bias", "berlino", berlino(root, "berlino-bias", 99, zero_bias=False))
    add("berlino-384", "berlino", berlino(root, "berlino-384", 100, D=384, H=1, L=1), "fla")
    return out


def old_fla(root, name, like):
    """The same model with gate and up fused, as fla wrote it until February 2025, and the config keys of that time."""
    src = os.path.join(root, like, "fla")
    sd, c = F.weights(src), F.config(src)
    for n in [n for n in sd if "gate_proj" in n]:
        sd[n] = torch.cat([sd[n], sd.pop(n.replace("gate_proj", "up_proj"))])
    for k in ("fuse_swiglu", "attnres_block_size", "use_l2warp", "fuse_linear_cross_entropy"):
        c.pop(k, None)
    if c.get("hidden_act") == "swish":
        c["hidden_act"] = "silu" if c["model_type"] == "samba" else "swish"
    d = F.save_safetensors(os.path.join(root, name, "fla"), sd, c)
    ok = {"fla"}
    if "samba" in name:
        ok |= {"lit_gpt"}
    if "tf" in name:
        ok |= {"hf", "lit_gpt", "mamba_ssm"}
    if "ret" in name:
        ok |= {"torchscale", "lit_gpt"}
    return name, "fla", d, ok
