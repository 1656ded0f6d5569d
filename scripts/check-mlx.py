#!/usr/bin/env python3
"""Checks what `weighbridge convert --to mlx` writes against mlx-lm, and reads what MLX writes.

    scripts/check-mlx.py [--tool .build/release/weighbridge] CHECKPOINT ...

Needs mlx and mlx-lm (PyPI; on Linux `pip install "mlx[cpu]" mlx-lm`), which nothing else here needs. For each checkpoint

  logits  mlx-lm loads the directory strictly; the largest difference of its float32 logits from Weighbridge's float64
  back    mlx-lm saves its model; Weighbridge reads that as MLX's and has every tensor bitwise
  npz     Weighbridge's weights.npz read by mx.load, and mx.savez's read by Weighbridge, bitwise
"""
import argparse, json, pathlib, subprocess, sys, tempfile
import numpy as np
import mlx.core as mx
from mlx.utils import tree_flatten
from mlx_lm.utils import load_model, save_model
from safetensors.numpy import load_file


def run(tool, *arguments):
    done = subprocess.run([tool, *map(str, arguments)], capture_output=True, text=True)
    if done.returncode != 0:
        raise SystemExit(f"{' '.join(map(str, arguments))}: exit {done.returncode}\n{done.stderr}")
    return done.stdout


def raw(path):
    """Tensors as bits: numpy has no bfloat16."""
    data = path.read_bytes()
    size = int.from_bytes(data[:8], "little")
    head = json.loads(data[8:8 + size])
    head.pop("__metadata__", None)
    return {k: (v["dtype"], v["shape"], data[8 + size + v["data_offsets"][0]:8 + size + v["data_offsets"][1]]) for k, v in head.items()}


def check(tool, source, home):
    print(source)
    run(tool, "convert", source, home / "mlx", "--to", "mlx")
    own = raw(home / "mlx" / "model.safetensors")
    model, config = load_model(home / "mlx", strict=True)
    rows = config["vocab_size"]
    tokens = [int(t) for t in np.random.default_rng(0).integers(0, rows, 24)]
    (home / "tokens.json").write_text(json.dumps([tokens]))
    run(tool, "trace", home / "mlx", home / "trace.safetensors", "--tokens", home / "tokens.json")
    exact = load_file(home / "trace.safetensors")["logits"][0].astype(np.float64)
    ok = True
    for way, cache in (("whole", None), ("cached", model.make_cache() if hasattr(model, "make_cache") else None)):
        theirs = np.array(model(mx.array([tokens]), cache=cache).astype(mx.float32))[0].astype(np.float64)
        off = np.abs(theirs - exact).max() / np.abs(exact).max()
        # bfloat16 weights make bfloat16 activations there.
        small = 1e-5 if all(t[0] in ("F32", "F64") for t in own.values()) else 5e-2
        ok &= off <= small
        print(f"  logits  {off:.1e} of the largest ({way})")
    # mlx-lm's own files.
    save_model(home / "saved", model)
    (home / "saved" / "config.json").write_text((home / "mlx" / "config.json").read_text())
    found = json.loads(run(tool, "inspect", home / "saved", "--json"))
    for name, where in (("again", home / "mlx"), ("back", home / "saved")):
        run(tool, "convert", where, home / name, "--to", "hf")
    same = raw(home / "again" / "model.safetensors") == raw(home / "back" / "model.safetensors")
    ok &= same and found["layout"] == "mlx"
    print(f"  back    read as {found['layout']}, {'bitwise' if same else 'DIFFERENT'}")
    # npz, both ways.
    run(tool, "convert", home / "mlx", home / "npz", "--to", "mlx", "--container", "npz")
    loaded = mx.load(str(home / "npz" / "weights.npz"))
    weights = dict(tree_flatten(model.parameters()))
    bits = lambda a: bytes(memoryview(mx.view(mx.contiguous(a).reshape(-1), mx.uint8)))
    same = loaded.keys() == weights.keys() and all(loaded[k].shape == v.shape and bits(loaded[k]) == bits(v) for k, v in weights.items())
    (home / "theirs").mkdir()
    mx.savez(str(home / "theirs" / "weights.npz"), **weights)
    (home / "theirs" / "config.json").write_text((home / "mlx" / "config.json").read_text())
    run(tool, "convert", home / "theirs", home / "from-npz", "--from", "mlx", "--to", "hf")
    read = raw(home / "from-npz" / "model.safetensors") == raw(home / "again" / "model.safetensors")
    ok &= same and read
    print(f"  npz     {'read by mx.load' if same else 'READ OTHERWISE'}, mx.savez's {'read' if read else 'DIFFERENT'}")
    return ok


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--tool", default=".build/release/weighbridge")
    parser.add_argument("checkpoints", nargs="+")
    options = parser.parse_args()
    mx.set_default_device(mx.cpu)
    results = []
    for source in options.checkpoints:
        with tempfile.TemporaryDirectory() as home:
            results.append(check(options.tool, source, pathlib.Path(home)))
    sys.exit(0 if all(results) else 1)


if __name__ == "__main__":
    main()
