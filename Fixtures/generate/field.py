#!/usr/bin/env python3
"""Makes Fixtures/field/<case>: small inputs of the kinds that users reported, and relatives of them, as
the libraries themselves write them. Tests/CommandsTests/FieldTests.swift holds what must happen to each.

    python3 Fixtures/generate/field.py        (torch, transformers, safetensors, h5py)
"""
import collections, datetime, json, pathlib, warnings

import h5py
import numpy as np
import torch
import transformers as T
from safetensors.torch import save_file

warnings.filterwarnings("ignore")
FIXTURES = pathlib.Path(__file__).resolve().parent.parent
HOME = FIXTURES / "field"


def shaken(model, seed=1):
    g = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, p in model.named_parameters():
            if p.dim() > 1 and "A_log" not in name:
                p.add_(0.05 * torch.randn(p.shape, generator=g))
            elif name.endswith(("norm.weight", "norm_f.weight")):
                p.add_(0.1 * torch.randn(p.shape, generator=g))
    return model.eval()


def mamba(tie=True, D=16, L=2, V=32):
    torch.manual_seed(0)
    return shaken(T.MambaForCausalLM(T.MambaConfig(
        hidden_size=D, num_hidden_layers=L, vocab_size=V, state_size=4, tie_word_embeddings=tie)))


def mamba2(n_groups=1, L=2, tie=True):
    torch.manual_seed(0)
    return shaken(T.Mamba2ForCausalLM(T.Mamba2Config(
        hidden_size=16, num_hidden_layers=L, vocab_size=32, state_size=8, num_heads=4, head_dim=8,
        n_groups=n_groups, tie_word_embeddings=tie, chunk_size=16)))


def llama(tie=False):
    torch.manual_seed(0)
    return shaken(T.LlamaForCausalLM(T.LlamaConfig(
        hidden_size=16, intermediate_size=24, num_hidden_layers=2, vocab_size=32,
        num_attention_heads=4, num_key_value_heads=2, tie_word_embeddings=tie,
        max_position_embeddings=128)))


def folder(name):
    path = HOME / name
    path.mkdir(parents=True, exist_ok=True)
    return path


def config(path, values):
    text = values if isinstance(values, str) else json.dumps(values, indent=1)
    (path / "config.json").write_text(text)


def tensors(model, tied=True):
    return {k: v.detach().clone().contiguous() for k, v in model.state_dict().items()
            if not (tied and k == "lm_head.weight")}


def hf(path, state, values, name="model.safetensors", metadata=None):
    path.mkdir(parents=True, exist_ok=True)
    save_file(state, str(path / name), metadata=metadata or {"format": "pt"})
    config(path, values if isinstance(values, (dict, str)) else values.to_json_string())


def pt(path, value, values, name="pytorch_model.bin"):
    torch.save(value, path / name)
    config(path, values if isinstance(values, (dict, str)) else values.to_json_string())


def ssm(model):
    c = model.config
    state = {k.replace("embeddings", "embedding"): v.detach() for k, v in model.state_dict().items()}
    return state, dict(
        d_model=c.hidden_size, n_layer=c.num_hidden_layers, vocab_size=c.vocab_size,
        ssm_cfg={"d_state": c.state_size}, rms_norm=True, residual_in_fp32=True,
        fused_add_norm=True, pad_vocab_size_multiple=8, tie_embeddings=True)


def ssm2(model, **more):
    state = {k.replace("embeddings", "embedding"): v.detach().clone()
             for k, v in model.state_dict().items()}
    return state, dict(
        d_model=16, n_layer=model.config.num_hidden_layers, vocab_size=32,
        ssm_cfg={"layer": "Mamba2", "d_state": 8, "headdim": 8, **more}, rms_norm=True,
        residual_in_fp32=True, fused_add_norm=True, pad_vocab_size_multiple=16, tie_embeddings=True)


IN = "backbone.layers.0.mixer.in_proj.weight"
m = mamba()
own, own_config = ssm(m)

# K1: what is not finite
d = tensors(m); d[IN].view(-1)[:3] = 70000.0
hf(folder("k01a-fp16-overflow-passes-parity"), d, m.config)
a = tensors(m); a[IN].view(-1)[:3] = float("nan")
b = {k: v.clone() for k, v in a.items()}; b["backbone.layers.1.mixer.out_proj.weight"].mul_(3)
hf(folder("k01b-both-nan-and-a-real-difference") / "a", a, m.config)
hf(folder("k01b-both-nan-and-a-real-difference") / "b", b, m.config)
a = tensors(m); a["backbone.layers.0.norm.weight"].fill_(1e12); a[IN].mul_(50)
b = {k: v.clone() for k, v in a.items()}; b[IN] = torch.cat([b[IN][32:], b[IN][:32]])
hf(folder("k01c-infinite-bound") / "a", a, m.config)
hf(folder("k01c-infinite-bound") / "b", b, m.config)
# K2: prefixes
m.backbone.save_pretrained(folder("k02a-base-model-without-prefix"))
l = llama()
pt(folder("k02c-lightning-llama"),
   {"state_dict": {"model." + k: v for k, v in l.state_dict().items()}, "epoch": 1}, l.config, "last.pt")
l.model.save_pretrained(folder("k02x-llama-base"))
pt(folder("k02y-net-module"), {"net.module." + k: v for k, v in l.state_dict().items()}, l.config)
# K3: one of two tied names
d = tensors(m, tied=False); del d["backbone.embeddings.weight"]
hf(folder("k03a-only-the-head-kept"), d, m.config,
   metadata={"format": "pt", "backbone.embeddings.weight": "lm_head.weight"})
lt = llama(tie=True); d = tensors(lt, tied=False); del d["model.embed_tokens.weight"]
hf(folder("k03x-llama-only-the-head"), d, lt.config)
d = dict(own); del d["backbone.embedding.weight"]
pt(folder("k03y-pickle-only-the-head"), d, own_config)
# K4: harmless company
o = folder("k04a-size-and-numpy-in-the-state-dict"); config(o, own_config)
torch.save({**own, "in_shape": torch.Size([3, 4])}, o / "size.pt")
torch.save({**own, "best_loss": np.float64(1.5)}, o / "numpy.pt")
torch.save({**own, "device": torch.device("cpu"), "tags": {"a", "b"}}, o / "device-and-set.pt")
torch.save({**own, "when": datetime.datetime(2024, 1, 2), "path": pathlib.PurePosixPath("/x")},
           o / "when-and-where.pt")
# K5: honest files
torch.save(m, folder("k05a-whole-hf-model") / "pytorch_model.bin")
config(folder("k05a-whole-hf-model"), m.config.to_json_string())
torch.save({"model": l, "epoch": 1}, folder("k05x-whole-model-under-a-key") / "pytorch_model.bin")
config(folder("k05x-whole-model-under-a-key"), l.config.to_json_string())
# K6: other forms
case = FIXTURES / "models" / "lit-llama-full" / "lit_gpt"
s = torch.load(next(case.glob("*.pth")), weights_only=True); s = s.get("model", s)
c = json.loads((case / "lit_config.json").read_text())
L = max(int(k.split(".")[2]) for k in s if k.startswith("transformer.h.")) + 1
d = {(k.replace(".weight", ".linear.weight") if ".attn." in k or ".mlp." in k else k): v.half()
     for k, v in s.items()}
d |= {f"transformer.h.{i}.attn.attn.lora_{x}": torch.zeros(4, 64) for i in range(L) for x in "AB"}
o = folder("k06a-unmerged-lora-litgpt")
torch.save({"model": d}, o / "lit_model_lora_finetuned.pth")
(o / "lit_config.json").write_text(json.dumps(c))
mlx = {k: (v.transpose(1, 2).contiguous() if "conv1d.weight" in k else v) for k, v in tensors(m).items()}
hf(folder("k06c-mlx"), mlx, m.config, metadata={"format": "mlx"})
pt(folder("k06e-zero3-placeholders"),
   {k: torch.empty(0, dtype=torch.bfloat16) for k in m.state_dict()}, m.config)
torch.manual_seed(0)
T.BambaForCausalLM(T.BambaConfig(
    hidden_size=16, num_hidden_layers=2, vocab_size=32, intermediate_size=16, num_attention_heads=4,
    num_key_value_heads=2, mamba_n_heads=4, mamba_d_head=8, mamba_d_state=8, mamba_n_groups=1,
    attn_layer_indices=[1], mamba_expand=2)).save_pretrained(folder("k06g-other-architectures"))
m2 = mamba2(L=3); g = torch.Generator().manual_seed(5)
R = lambda *shape: 0.1 * torch.randn(*shape, generator=g)
d, c = ssm2(m2)
d = {k: v for k, v in d.items() if ".layers.1.mixer." not in k}
d |= {"backbone.layers.1.mixer.in_proj.weight": R(48, 16),
      "backbone.layers.1.mixer.conv1d.weight": R(48, 1, 4),
      "backbone.layers.1.mixer.conv1d.bias": R(48), "backbone.layers.1.mixer.out_proj.weight": R(16, 16)}
pt(folder("k06i-mamba2-with-attention"), d, {
    **c, "attn_layer_idx": [1], "attn_cfg": dict(
        causal=True, d_conv=4, head_dim=4, num_heads=4, out_proj_bias=False, qkv_proj_bias=False,
        rotary_emb_dim=2)})
# K7: one fault in a deep model
deep, deep_config = ssm(mamba(L=48, D=4, V=8))
o = folder("k07a-two-models-in-one-file-48-layers"); config(o, deep_config)
torch.save({**deep, **{"ema." + k: v for k, v in deep.items()}}, o / "ema.pt")
# K8: directories
wrapped = {"state_dict": {"model." + k: v for k, v in own.items()}, "epoch": 1}
pt(folder("k08a-ckpt-directory"), wrapped, own_config, "last.ckpt")
pt(folder("k08x-pth-tar"), wrapped, own_config, "model_best.pth.tar")
d = tensors(m); keys = list(d)
for i in range(3):
    hf(folder("k08c-shards-without-index"), {k: d[k] for k in keys[i::3]}, m.config,
       f"model-{i + 1:05d}-of-00003.safetensors")
for i in (0, 2):
    hf(folder("k08y-a-shard-is-missing"), {k: d[k] for k in keys[i::3]}, m.config,
       f"model-{i + 1:05d}-of-00003.safetensors")
o = folder("k08z-run") / "checkpoint-10"; hf(o, d, m.config)
# K9: which weights
other = {k: v * 0.9 for k, v in own.items()}
o = folder("k09a-ema-unsaid"); config(o, own_config)
torch.save({"model": own, "model_ema": other, "epoch": 3}, o / "b.pth")
torch.save({"state_dict": own, "ema_state_dict": other}, o / "ema_state_dict.pth")
torch.save({"model": own, "swa_model": other}, o / "swa_model.pth")
torch.save({"student": own, "teacher": other}, o / "student-teacher.pth")
o = folder("k09c-other-keys"); config(o, own_config)
torch.save({"net": own, "epoch": 3}, o / "net.pt")
torch.save({"app": {"deep": {"weights": own}}}, o / "deep.pt")
torch.save({"generator": own, "discriminator": {"head.weight": torch.zeros(3, 3)}}, o / "gen-disc.pt")
# K10: HDF5
o = folder("k10a-strings-beside"); config(o, m.config.to_json_string())
with h5py.File(o / "model.h5", "w") as f:
    for k, v in tensors(m).items():
        f.create_dataset(k, data=v.numpy())
    f.create_dataset("config_json", data=m.config.to_json_string())
o = folder("k10x-compound-beside"); config(o, m.config.to_json_string())
with h5py.File(o / "model.h5", "w") as f:
    for k, v in tensors(m).items():
        f.create_dataset(k, data=v.numpy())
    f.create_dataset("log", data=np.array([(1, 2.0)], dtype=[("step", "i4"), ("loss", "f4")]))
o = folder("k10c-lzf"); config(o, m.config.to_json_string())
with h5py.File(o / "model.h5", "w") as f:
    for k, v in tensors(m).items():
        f.create_dataset(k, data=v.numpy(), compression="lzf", shuffle=True)
# K11, K13: configs
pt(folder("k11a-infinity-in-written-config"), *ssm2(mamba2()))
pt(folder("k13a-ssm-cfg-key"), *ssm2(mamba2(), activation="swish"))
pt(folder("k13x-ssm-cfg-silu"), *ssm2(mamba2(), activation="silu", process_group=None))
m2 = mamba2(n_groups=2, tie=False)
hf(folder("k13c-chunk-size-lost"), tensors(m2, tied=False), m2.config)
# K14: casts
d = tensors(m)
for k in d:
    if "x_proj" in k:
        d[k].mul_(1e-7)
hf(folder("k14a-fp16-underflow"), d, m.config)
# K15: the command line
hf(folder("k15a-cli"), tensors(m), m.config)
hf(folder("k15a-cli") / "config-of-another", tensors(m),
   {**json.loads(m.config.to_json_string()), "hidden_size": 64})
