#!/usr/bin/env python3
"""The peers of EngineBench on a CPU: transformers' Mamba and flash-linear-attention's naive forms of
gated linear attention and retention, on the same shapes.

    python3 Benchmarks/peers/engine.py [--only mamba,gla,retnet] [--layers N] [--runs 3]

Random weights of the whole widths, few layers (4), since every layer costs the same; figures, printed
as JSON, are for all layers. Needs torch, transformers and, for the naive forms,
flash-linear-attention. `scripts/bench` runs it in turn with EngineBench.
"""
import argparse
import json
import statistics
import time

import torch
import torch.nn.functional as F

TOKENS = 512


def seconds(body, runs):
    body()
    times = []
    for _ in range(runs):
        start = time.perf_counter()
        body()
        times.append(time.perf_counter() - start)
    return statistics.median(times)


def mamba(layers, runs):
    """transformers' slow path: prefill and decode, without its head."""
    from transformers import MambaConfig, MambaModel

    config = MambaConfig(hidden_size=1024, num_hidden_layers=layers, vocab_size=256, state_size=16)
    model = MambaModel(config).eval()
    ids = torch.arange(TOKENS)[None] % 256
    with torch.no_grad():
        prefill = seconds(lambda: model(ids, use_cache=False), runs)
        cache = model(ids[:, :16], use_cache=True).cache_params
        try:
            step = seconds(
                lambda: model(ids[:, :1], cache_params=cache, use_cache=True,
                              cache_position=torch.tensor([16])), 4 * runs)
        except TypeError:  # later versions count positions themselves
            step = seconds(lambda: model(ids[:, :1], cache_params=cache, use_cache=True), 4 * runs)
    yield "prefill 512, mamba", TOKENS / prefill * layers / 48
    yield "decode, mamba", 1 / step * layers / 48


class Linear(torch.nn.Module):
    """A layer of fla's GLA or RetNet with its naive form, and its MLP: the same products as ours."""

    def __init__(self, kind, width=1024, heads=4):
        super().__init__()
        self.kind, self.heads = kind, heads
        dk, dv = (width // 2, width) if kind == "gla" else (width, 2 * width)
        sizes = {"q": (width, dk), "k": (width, dk), "v": (width, dv), "g": (width, dv),
                 "o": (dv, width), "up": (width, 2816), "gate": (width, 2816), "down": (2816, width)}
        if kind == "gla":
            sizes |= {"low": (width, 16), "high": (16, dk)}
        self.maps = torch.nn.ModuleDict(
            {n: torch.nn.Linear(*s, bias=False) for n, s in sizes.items()})

    def forward(self, x):
        m = self.maps
        n = F.rms_norm(x, x.shape[-1:])
        q, k, v = (m[s](n).unflatten(-1, (self.heads, -1)) for s in "qkv")
        if self.kind == "gla":
            from fla.ops.gla.naive import naive_recurrent_gla
            gates = F.logsigmoid(m["high"](m["low"](n))).unflatten(-1, (self.heads, -1)) / 16
            o = naive_recurrent_gla(q, k, v, gates)
        else:
            from fla.ops.retention.naive import naive_retention
            # This form has the heads before the tokens.
            q, k, v = (t.transpose(1, 2) for t in (q, k, v))
            o = naive_retention(q, k, v).transpose(1, 2)
        o = (o[0] if isinstance(o, tuple) else o).reshape(*x.shape[:2], -1)
        x = x + m["o"](F.rms_norm(o, o.shape[-1:]) * F.silu(m["g"](n)))
        n = F.rms_norm(x, x.shape[-1:])
        return x + m["down"](F.silu(m["gate"](n)) * m["up"](n))


def linear(kind, layers, runs, all_layers):
    model = torch.nn.Sequential(*(Linear(kind) for _ in range(layers)))
    x = torch.randn(1, TOKENS, 1024)
    with torch.no_grad():
        yield f"prefill 512, {kind}", TOKENS / seconds(lambda: model(x), runs) * layers / all_layers


def mixing(kind, runs):
    """Milliseconds of the naive form alone, in one layer: what is no product of weights."""
    heads, dk, dv = 4, *((128, 256) if kind == "gla" else (256, 512))
    if kind == "gla":
        from fla.ops.gla.naive import naive_recurrent_gla
        q, k = torch.randn(2, 1, TOKENS, heads, dk)
        v, gates = torch.randn(1, TOKENS, heads, dv), F.logsigmoid(torch.randn(1, TOKENS, heads, dk)) / 16
        body = lambda: naive_recurrent_gla(q, k, v, gates)
    else:
        from fla.ops.retention.naive import naive_retention
        q, k = torch.randn(2, 1, heads, TOKENS, dk)
        v = torch.randn(1, heads, TOKENS, dv)
        body = lambda: naive_retention(q, k, v)
    with torch.no_grad():
        return 1e3 * seconds(body, runs)


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", default="mamba,gla,retnet")
    parser.add_argument("--layers", type=int, default=4)
    parser.add_argument("--runs", type=int, default=3)
    options = parser.parse_args()
    peers = {
        "mamba": lambda: mamba(options.layers, options.runs),
        "gla": lambda: linear("gla", options.layers, options.runs, 28),
        "retnet": lambda: linear("retnet", options.layers, options.runs, 22),
    }
    figures = {label: value for name in options.only.split(",") for label, value in peers[name]()}
    alone = {name: mixing(name, options.runs) for name in options.only.split(",") if name in ("gla", "retnet")}
    print(json.dumps({"torch": torch.__version__, "threads": torch.get_num_threads(),
                      "tokens_per_second": figures, "mixing_ms": alone}, indent=2))


main()
