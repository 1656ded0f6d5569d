#!/usr/bin/env python3
"""llama.cpp beside EngineBench's Mamba: the same shapes with random weights, as float32 and bfloat16.

    python3 Benchmarks/peers/llama.py [--runs 3] [--layers 48] [--directory DIR]

Writes a GGUF file to DIR (a temporary directory), runs it with a thread for each core, and prints
tokens per second as JSON: prefill of 512 tokens, and decoding behind a short prompt. Needs
llama-cpp-python, gguf and numpy. `scripts/bench` runs it in turn with EngineBench.
"""
import argparse
import json
import os
import statistics
import tempfile
import time

import gguf
import llama_cpp
import numpy as np

D, E, N, W, R, V = 1024, 2048, 16, 4, 64, 50280


def write(path, layers, narrow):
    """Matrices in `narrow`'s type, the rest in float32, as llama.cpp's own conversion has it."""
    random = np.random.default_rng(7)
    out = gguf.GGUFWriter(path, "mamba")
    out.add_context_length(1 << 20)
    out.add_embedding_length(D)
    out.add_feed_forward_length(0)
    out.add_head_count(0)
    out.add_block_count(layers)
    out.add_ssm_conv_kernel(W)
    out.add_ssm_inner_size(E)
    out.add_ssm_state_size(N)
    out.add_ssm_time_step_rank(R)
    out.add_layer_norm_rms_eps(1e-5)
    out.add_vocab_size(V)
    out.add_tokenizer_model("no_vocab")
    out.add_file_type(gguf.LlamaFileType.MOSTLY_BF16 if narrow else gguf.LlamaFileType.ALL_F32)

    def add(name, *shape, scale=None, matrix=False):
        values = random.standard_normal(shape, dtype=np.float32) * np.float32(scale or shape[-1] ** -0.5)
        if matrix and narrow:
            kind = gguf.GGMLQuantizationType.BF16
            out.add_tensor(name, gguf.quantize(values, kind), raw_dtype=kind)
        else:
            out.add_tensor(name, values)

    add("token_embd.weight", V, D, matrix=True)
    add("output_norm.weight", D, scale=1)
    for i in range(layers):
        p = f"blk.{i}."
        add(p + "attn_norm.weight", D, scale=1)
        add(p + "ssm_in.weight", 2 * E, D, matrix=True)
        add(p + "ssm_conv1d.weight", E, W)
        add(p + "ssm_conv1d.bias", E, scale=0.1)
        add(p + "ssm_x.weight", R + 2 * N, E, matrix=True)
        add(p + "ssm_dt.weight", E, R, matrix=True)
        add(p + "ssm_dt.bias", E, scale=0.1)
        out.add_tensor(p + "ssm_a", -np.tile(np.arange(1, N + 1, dtype=np.float32), (E, 1)))
        add(p + "ssm_d", E, scale=1)
        add(p + "ssm_out.weight", D, E, matrix=True)
    out.write_header_to_file()
    out.write_kv_data_to_file()
    out.write_tensors_to_file()
    out.close()


def measure(path, runs):
    cores = os.cpu_count()
    model = llama_cpp.Llama(path, n_ctx=1024, n_batch=512, n_ubatch=512, n_threads=cores, n_threads_batch=cores,
                            verbose=False)

    def seconds(tokens):
        start = time.perf_counter()
        model.eval(tokens)
        return time.perf_counter() - start

    prompt = [i * 37 % V for i in range(512)]
    prefill = []
    for _ in range(runs + 1):
        model.reset()
        prefill.append(seconds(prompt))
    model.reset()
    seconds(prompt[:16])
    steps = [seconds([i]) for i in range(15)]
    return 512 / statistics.median(prefill[1:]), 1 / statistics.median(steps)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--layers", type=int, default=48)
    parser.add_argument("--directory")
    options = parser.parse_args()
    figures = {}
    with tempfile.TemporaryDirectory(dir=options.directory) as work:
        for narrow in (False, True):
            path = os.path.join(work, "model.gguf")
            write(path, options.layers, narrow)
            prefill, decode = measure(path, options.runs)
            kind = "bfloat16" if narrow else "float32"
            figures[f"prefill 512, mamba, {kind}"] = prefill
            figures[f"decode, mamba, {kind}"] = decode
            os.remove(path)
    print(json.dumps({"llama_cpp": llama_cpp.__version__, "tokens_per_second": figures}, indent=2))


main()
