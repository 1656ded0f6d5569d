#!/usr/bin/env python3
"""Makes models/retnet-torchscale-norm with torchscale's own RetNetDecoder: a norm behind a scaled
embedding (`layernorm_embedding`).

    python3 torchscale.py SOURCE      SOURCE: a checkout of github.com/microsoft/torchscale

The weights are random and float32; the trace is the module's own forward pass in float64. Needs torch
and safetensors; fairscale and timm are stood in for, since nothing here calls them.
"""
import argparse
import json
import math
import pathlib
import sys
import types

import torch
from safetensors.torch import save_file

from reference import MODELS, randomised

CASE = MODELS / "retnet-torchscale-norm"
VOCAB = 90


def main():
    source = argparse.ArgumentParser()
    source.add_argument("source", type=pathlib.Path)
    sys.path.insert(0, str(source.parse_args().source))
    for name in ("fairscale", "fairscale.nn", "timm", "timm.models", "timm.models.layers"):
        sys.modules[name] = types.ModuleType(name)
    sys.modules["fairscale.nn"].checkpoint_wrapper = sys.modules["fairscale.nn"].wrap = lambda m: m
    sys.modules["timm.models.layers"].drop_path = None
    from torchscale.architecture.config import RetNetConfig
    from torchscale.architecture.retnet import RetNetDecoder

    config = RetNetConfig(
        decoder_embed_dim=48, decoder_value_embed_dim=96, decoder_retention_heads=3,
        decoder_ffn_embed_dim=80, decoder_layers=2, vocab_size=VOCAB, activation_fn="swish",
        layernorm_embedding=True, no_scale_embedding=False)
    torch.manual_seed(3)
    model = RetNetDecoder(config, torch.nn.Embedding(VOCAB, 48))
    weights = randomised(model.state_dict(), 31)
    # Beside the scale and the norm, whose eps would else not show.
    weights["embed_tokens.weight"] = weights["embed_tokens.weight"] * 1e-3
    model.load_state_dict(weights)

    folder = CASE / "torchscale"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps(vars(config), indent=2) + "\n")
    torch.save(
        {"args": argparse.Namespace(arch="retnet_base"),
         "model": {"decoder." + k: v for k, v in weights.items()},
         "last_optimizer_state": None, "extra_state": {}}, folder / "checkpoint_last.pt")

    ids = torch.randint(0, VOCAB, (2, 21), generator=torch.Generator().manual_seed(5))
    model = model.double().eval()
    # Norms and activations go through float32 whatever they are given.
    torch.Tensor.float = lambda x: x
    with torch.no_grad():
        logits, found = model(ids)
    stages = {f"hidden_states.{i}": x.contiguous() for i, x in enumerate(found["inner_states"])}
    final = model.layer_norm(found["inner_states"][-1])
    save_file(
        stages | {"input_ids": ids, "final_norm": final.detach(), "logits": logits},
        CASE / "trace.safetensors",
        metadata={"format": "pt", "dtype": "float64", "note": "torchscale's own RetNetDecoder"})
    assert math.isfinite(float(logits.abs().max()))
    print(sum(v.numel() for k, v in weights.items() if "rel_pos" not in k), "parameters")


main()
