"""Checkpoints on disk, read with the libraries that own the containers, and the tool as a subprocess."""
import glob
import json
import os
import shutil
import subprocess

import h5py
import numpy as np
import torch
from safetensors import safe_open
from safetensors.torch import save_file

TORCH = {"F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16, "F64": torch.float64}
WRAPPERS = ("_forward_module.", "_fsdp_wrapped_module.", "_checkpoint_wrapped_module.", "_orig_mod.", "module.")


def read_json(path):
    with open(path) as f:
        return json.load(f)


def strip(name):
    for w in WRAPPERS:
        name = name.replace(w, "")
    return name


def read_h5(path):
    """Tensors of an HDF5 file: a bfloat16 is a 16-bit float type with 8 exponent bits, which h5py reads as float32 numbers."""
    out = {}
    with h5py.File(path, "r") as f:
        def visit(group, prefix):  # not visititems: that one shows a hard-linked dataset (a tie) under one of its names only
            for key, d in group.items():
                if isinstance(d, h5py.Group):
                    visit(d, prefix + key + ".")
                    continue
                t = d.id.get_type()
                a = d[()]
                if isinstance(t, h5py.h5t.TypeFloatID) and t.get_size() == 2 and t.get_fields()[2] == 8:
                    v = torch.from_numpy(np.ascontiguousarray(a, dtype=np.float32)).bfloat16()
                else:
                    v = torch.from_numpy(np.array(a.astype(a.dtype.newbyteorder("="))))
                out[prefix + key] = v
        visit(f, "")
        attrs = dict(f.attrs)
    return out, attrs


def read_torch(path):
    """(state dict with wrapper prefixes stripped, aliases by shared storage, the whole object)"""
    try:
        o = torch.load(path, weights_only=True, map_location="cpu")
    except Exception:
        o = torch.load(path, weights_only=False, map_location="cpu")
    sd = o
    for k in ("model", "state_dict", "model_state_dict", "module"):
        if isinstance(sd, dict) and isinstance(sd.get(k), dict):
            sd = sd[k]
    return {strip(k): v for k, v in sd.items() if isinstance(v, torch.Tensor)}, o


def weights(folder):
    """All tensors of a folder (or file), whatever its container."""
    if os.path.isfile(folder):
        files = [folder]
    else:
        files = sorted(p for e in ("safetensors", "bin", "pth", "pt", "h5", "hdf5") for p in glob.glob(os.path.join(glob.escape(folder), "*." + e)))
    out = {}
    for p in files:
        if p.endswith("safetensors"):
            with safe_open(p, "pt") as f:
                out.update({strip(k): f.get_tensor(k) for k in f.keys()})
        elif p.endswith(("h5", "hdf5")):
            out.update(read_h5(p)[0])
        else:
            out.update(read_torch(p)[0])
    return out


def config(folder):
    for name in ("config.json", "lit_config.json"):
        p = os.path.join(folder, name)
        if os.path.exists(p):
            return read_json(p)
    for p in glob.glob(os.path.join(glob.escape(folder), "*.h5")):
        with h5py.File(p) as f:
            for v in f.attrs.values():
                if isinstance(v, (str, bytes)) and v[:1] in ("{", b"{"):
                    return json.loads(v)
    raise FileNotFoundError(f"no config in {folder}")


def bits(t):
    return t.detach().cpu().contiguous().view(torch.uint8) if t.dim() else t.detach().cpu().reshape(1).view(torch.uint8)


def same(a, b):
    return a.dtype == b.dtype and a.shape == b.shape and torch.equal(bits(a), bits(b))


def save_safetensors(folder, tensors, cfg, name="config.json", metadata=None):
    os.makedirs(folder, exist_ok=True)
    save_file({k: v.contiguous().clone() for k, v in tensors.items()}, os.path.join(folder, "model.safetensors"), metadata=metadata or {"format": "pt"})
    with open(os.path.join(folder, name), "w") as f:
        json.dump(cfg, f, indent=2)
    return folder


def save_torch(folder, obj, cfg=None, file="pytorch_model.bin", name="config.json"):
    os.makedirs(folder, exist_ok=True)
    torch.save(obj, os.path.join(folder, file))
    if cfg is not None:
        with open(os.path.join(folder, name), "w") as f:
            json.dump(cfg, f, indent=2)
    return folder


class Tool:
    def __init__(self, path):
        self.path = path
        self.calls = 0

    def __call__(self, *args, timeout=600):
        self.calls += 1
        p = subprocess.run([self.path, *map(str, args)], capture_output=True, text=True, timeout=timeout)
        try:
            doc = json.loads(p.stdout)
        except ValueError:
            doc = None
        return Result(p.returncode, doc, p.stdout, p.stderr, args)

    def convert(self, src, dst, to, *more):
        if os.path.isdir(dst):
            shutil.rmtree(dst)
        return self("convert", src, dst, "--to", to, "--json", "--no-fsync", *more)


class Result:
    def __init__(self, rc, doc, out, err, args):
        self.rc, self.doc, self.out, self.err, self.args = rc, doc, out, err, args

    @property
    def problems(self):
        return (self.doc or {}).get("problems", [])

    def why(self):
        lines = [f"{p['code']}: {p['subject']}: {p['message']}" for p in self.problems] or [self.err.strip()[-400:]]
        return f"exit {self.rc}: " + " | ".join(lines)[:900]

    def command(self):
        return "weighbridge " + " ".join(map(str, self.args))
