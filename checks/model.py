"""Models of any size for checks."""
import array
import json
import math
import os
import random
import struct


def write_model(path, megabytes, dtype="F32"):
    """Writes a Mamba of transformers, of as many layers as it takes, its numbers random."""
    d, inner, state, rank, rows = 1024, 2048, 16, 64, 4096
    size = {"F32": 4, "BF16": 2}[dtype]
    shapes = {"mixer.A_log": [inner, state], "mixer.D": [inner], "mixer.conv1d.bias": [inner], "mixer.conv1d.weight": [inner, 1, 4],
              "mixer.dt_proj.bias": [inner], "mixer.dt_proj.weight": [inner, rank], "mixer.in_proj.weight": [2 * inner, d],
              "mixer.out_proj.weight": [d, inner], "mixer.x_proj.weight": [rank + 2 * state, inner], "norm.weight": [d]}
    each = size * sum(math.prod(s) for s in shapes.values())
    layers = max(2, megabytes * 1_000_000 // each)
    tensors = {"backbone.embeddings.weight": [rows, d], "backbone.norm_f.weight": [d]}
    for i in range(layers):
        tensors |= {f"backbone.layers.{i}.{name}": shape for name, shape in shapes.items()}
    header, place = {}, 0
    for name, shape in tensors.items():
        length = size * math.prod(shape)
        header[name] = {"dtype": dtype, "shape": shape, "data_offsets": [place, place + length]}
        place += length
    os.makedirs(path)
    text = json.dumps(header).encode()
    chance = random.Random(1)
    block = array.array("f", [chance.uniform(-1, 1) for _ in range(100_003)]).tobytes()
    if dtype == "BF16":
        # The upper halves.
        block = bytes(b for i in range(0, len(block), 4) for b in block[i + 2:i + 4])
    with open(os.path.join(path, "model.safetensors"), "wb") as file:
        file.write(struct.pack("<Q", len(text)) + text)
        while place > 0:
            place -= file.write(block[:place])
    config = {"model_type": "mamba", "architectures": ["MambaForCausalLM"], "hidden_size": d, "intermediate_size": inner, "expand": 2, "state_size": state,
              "time_step_rank": rank, "conv_kernel": 4, "use_bias": False, "use_conv_bias": True, "hidden_act": "silu", "num_hidden_layers": layers,
              "vocab_size": rows, "layer_norm_epsilon": 1e-5, "tie_word_embeddings": True, "residual_in_fp32": True, "torch_dtype": "float32" if dtype == "F32" else "bfloat16"}
    with open(os.path.join(path, "config.json"), "w") as file:
        json.dump(config, file)
