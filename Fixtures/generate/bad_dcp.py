"""Writes the malformed sharded checkpoints of Fixtures/bad/dcp, and the odd but sound ones of Fixtures/good/dcp.

    pip install torch
    python3 Fixtures/generate/bad_dcp.py

A directory's name is the code of the diagnostic that it must give, `__`, and what is wrong. The sound ones hold `w` [6, 4] with the values 0 to 23 and, most of them,
`b` [6] with 100 to 105. Written with torch 2.15.
"""
import io
import os
import pathlib
import pickle
import shutil
import struct
import sys

import torch
from torch.distributed.checkpoint.filesystem import _StorageInfo
from torch.distributed.checkpoint.metadata import BytesStorageMetadata, ChunkStorageMetadata, Metadata, MetadataIndex, StorageMeta, TensorProperties, TensorStorageMetadata

ROOT = pathlib.Path(__file__).resolve().parent.parent
W, B = torch.arange(24, dtype=torch.float32).reshape(6, 4), torch.arange(100, 106, dtype=torch.float32)


def saved(value):
    out = io.BytesIO()
    torch.save(value, out)
    return out.getvalue()


def clear_crc(entry):
    """The entry with 0 in every field of a CRC-32, as torch.serialization.set_crc32_options(False) writes it."""
    data, at = bytearray(entry), 0
    while (at := data.find(b"PK\x01\x02", at)) >= 0:
        local = struct.unpack_from("<I", data, at + 42)[0]
        data[at + 16:at + 20] = data[local + 14:local + 18] = bytes(4)
        at += 4
    return bytes(data)


class Checkpoint:
    """A directory in the making; `parts` are (name, offsets, tensor stored)."""

    def __init__(self, name, parts=None, sizes=None, dtype=torch.float32):
        self.name, self.file, self.version = name, b"", "1.0.0"
        self.state, self.storage, self.planner = {}, {}, {}
        if parts is None:
            parts = [("w", (r, 0), W[r:r + 2].clone()) for r in (0, 2, 4)] + [("b", (0,), B)]
        for key, offsets, tensor in parts:
            if key not in self.state:
                size = (sizes or {}).get(key, list({"w": W, "b": B}.get(key, tensor).shape))
                self.state[key] = TensorStorageMetadata(TensorProperties(dtype), torch.Size(size), [])
                self.planner[key] = (key,)
            self.add(key, offsets, saved(tensor), tensor.shape)

    def add(self, key, offsets, entry, sizes):
        self.state[key].chunks.append(ChunkStorageMetadata(torch.Size(offsets), torch.Size(sizes)))
        self.store(MetadataIndex(key, torch.Size(offsets), len(self.state[key].chunks) - 1), entry)

    def store(self, index, entry):
        self.storage[index] = _StorageInfo("__0_0.distcp", len(self.file), len(entry))
        self.file += entry

    def item(self, key, path, entry):
        self.state[key] = BytesStorageMetadata()
        self.planner[key] = path
        self.store(MetadataIndex(key), entry)

    def at(self, key, *offsets):
        return MetadataIndex(key, torch.Size(offsets))

    def pickled(self):
        return pickle.dumps(Metadata(self.state, self.planner, self.storage, StorageMeta("ckpt", "0"), self.version), protocol=4)

    def write(self, metadata=None, file=None, names=(".metadata", "__0_0.distcp")):
        path = ROOT / ("good/dcp" if "__" not in self.name else "bad/dcp") / self.name
        path.mkdir(parents=True)
        for name, data in zip((".metadata", "__0_0.distcp"), (metadata if metadata is not None else self.pickled(), file if file is not None else self.file)):
            if name in names:
                (path / name).write_bytes(data)
        return path


class Call:
    """Pickles as a call of `function` with `arguments`."""

    def __init__(self, function, *arguments):
        self.function, self.arguments = function, arguments

    def __reduce__(self):
        return self.function, self.arguments


def swap(c, old, new):
    """The index with one field's bytes changed."""
    data = c.pickled()
    assert old in data, (c.name, old)
    return data.replace(old, new)


def good():
    Checkpoint("three-rows").write()
    grid = [("w", (r, c), W[r:r + 3, c:c + 2].clone()) for c in (0, 2) for r in (3, 0)]
    Checkpoint("grid", grid).write()
    Checkpoint("uneven-grid", [("w", (0, 0), W[:4, :1].clone()), ("w", (4, 0), W[4:, :3].clone()), ("w", (0, 1), W[:4, 1:].clone()), ("w", (4, 3), W[4:, 3:].clone())]).write()
    Checkpoint("out-of-order", [("w", (r, 0), W[r:r + 1].clone()) for r in (0, 4, 2, 1, 5, 3)] + [("b", (0,), B)]).write()
    Checkpoint("empty-shard", [("w", (0, 0), W.clone()), ("w", (6, 0), W[6:].clone()), ("b", (0,), B)]).write()
    Checkpoint("column-major", [("w", (0, 0), W[:3].t().contiguous().t()), ("w", (3, 0), W[3:].t().contiguous().t()), ("b", (0,), B)]).write()
    larger = torch.arange(-8, 30, dtype=torch.float32)
    Checkpoint("view-of-larger-storage", [("w", (0, 0), larger[8:32].view(6, 4)), ("b", (0,), B)]).write()
    c = Checkpoint("scalar", [("s", (), torch.tensor(7.0)), ("w", (0, 0), W), ("b", (0,), B)])
    c.write()
    c = Checkpoint("byte-item")
    c.item("train.step", ("train", "step"), b"no pickle at all")
    c.item("train.lr", ("train", "lr"), b"")
    c.storage[MetadataIndex("train.lr")] = _StorageInfo("__0_0.distcp", 0, 100)
    c.write()
    c = Checkpoint("no-checksums", [])
    for key, t in (("w", W), ("b", B)):
        c.state[key], c.planner[key] = TensorStorageMetadata(TensorProperties(torch.float32), t.shape, []), (key,)
        c.add(key, [0] * t.dim(), clear_crc(saved(t)), t.shape)
    c.write()
    c = Checkpoint("parameter", [("w", (0, 0), torch.nn.Parameter(W.clone())), ("b", (0,), B)])
    c.write()
    c = Checkpoint("unflattened")
    c.planner = None
    c.write()
    c = Checkpoint("unknown-class-in-planner-data")
    c.planner["custom"] = OpaqueThing()
    c.write()


class OpaqueThing:
    """An instance of a class that no reader knows."""

    def __init__(self):
        self.note = "custom planner"


def bad():
    Checkpoint("dcp.unfinished__no-metadata").write(names=("__0_0.distcp",))
    path = Checkpoint("dcp.unfinished__metadata-tmp").write()
    (path / ".metadata.tmp").write_bytes(b"")
    path = Checkpoint("dcp.rank-index__no-collectives").write(names=("__0_0.distcp",))
    (path / "__0.metadata").write_bytes(b"")
    Checkpoint("dcp.missing-file__gone").write(names=(".metadata",))
    c = Checkpoint("dcp.pickle-length__half")
    c.write(metadata=c.pickled()[:400])
    Checkpoint("dcp.metadata__a-dict").write(metadata=pickle.dumps({"state_dict_metadata": {}}, protocol=4))
    Checkpoint("dcp.dangerous-global__os-system").write(metadata=pickle.dumps(Call(os.system, "true"), protocol=4))
    c = Checkpoint("dcp.dangerous-global__in-planner-data")
    c.planner["x"] = Call(os.system, "true")
    c.write()
    c = Checkpoint("dcp.call__in-planner-data")
    c.planner["x"] = Call(struct.Struct, "<I")
    c.write()
    path = Checkpoint("dcp.dangerous-global__in-a-chunk", [("w", (0, 0), W)])
    entry = saved(Call(os.system, "true"))
    path.storage[path.at("w", 0, 0)] = _StorageInfo("__0_0.distcp", len(path.file), len(entry))
    path.file += entry
    path.write()
    path = Checkpoint("dcp.dangerous-global__in-meta-pt").write()
    (path / "meta.pt").write_bytes(saved({"x": Call(os.system, "true")}))

    rows = lambda *starts: [("w", (r, 0), W[r:r + 2].clone()) for r in starts]
    Checkpoint("dcp.hole__rows", rows(0, 4)).write()
    c = Checkpoint("dcp.hole__last-rows", rows(0, 2))
    c.write()
    Checkpoint("dcp.hole__corner", [("w", (0, 0), W[:3, :2].clone()), ("w", (0, 2), W[:3, 2:].clone()), ("w", (3, 0), W[3:, :2].clone())]).write()
    Checkpoint("dcp.overlap__rows", rows(0, 2, 4) + [("w", (3, 0), W[3:5].clone())]).write()
    Checkpoint("dcp.overlap__of-equal-volume", [("w", (0, 0), W[:2].clone()), ("w", (2, 0), W[2:4].clone()), ("w", (3, 0), W[3:5].clone())]).write()
    Checkpoint("dcp.overlap__grid-of-equal-volume", [("w", (0, 0), W[:3, :2].clone()), ("w", (0, 2), W[:3, 2:].clone()), ("w", (3, 0), W[3:, :2].clone()), ("w", (2, 1), W[2:5, 1:3].clone())]).write()
    c = Checkpoint("dcp.overlap__50000-times")
    c.state["w"].chunks += [c.state["w"].chunks[0]] * 50_000
    c.write()
    c = Checkpoint("dcp.chunk-range__negative")
    c.state["w"].chunks[0] = ChunkStorageMetadata(torch.Size([-2, 0]), torch.Size([2, 4]))
    c.write()
    c = Checkpoint("dcp.chunk-range__behind-the-end")
    c.state["w"].chunks[2] = ChunkStorageMetadata(torch.Size([5, 0]), torch.Size([2, 4]))
    c.write()
    c = Checkpoint("dcp.chunk-range__overflow")
    c.state["w"].chunks[2] = ChunkStorageMetadata(torch.Size([2**63 - 1, 0]), torch.Size([2, 4]))
    c.write()
    c = Checkpoint("dcp.chunk-rank__one-dimension")
    c.state["w"].chunks[0] = ChunkStorageMetadata(torch.Size([0]), torch.Size([2]))
    c.write()
    Checkpoint("dcp.size__two-to-the-sixty", [("w", (0, 0), W)], {"w": [2**40, 2**20]}).write()
    Checkpoint("dcp.size__overflow", [("w", (0, 0), W)], {"w": [2**40, 2**40]}).write()
    c = Checkpoint("dcp.size__floats")
    c.state["w"].size = (6.0, 4.0)
    c.write()
    c = Checkpoint("dcp.size__list")
    c.state["w"].size = [6, 4]
    c.write()
    c = Checkpoint("dcp.dtype__unknown")
    c.state["w"].properties = TensorProperties(torch.complex128)
    c.write()

    c = Checkpoint("dcp.range__past-the-end")
    c.storage[c.at("b", 0)] = _StorageInfo("__0_0.distcp", 10**6, 1577)
    c.write()
    c = Checkpoint("dcp.range__overflow")
    c.storage[c.at("b", 0)] = _StorageInfo("__0_0.distcp", 10, 2**63 - 1)
    c.write()
    c = Checkpoint("dcp.range__negative")
    c.storage[c.at("b", 0)] = _StorageInfo("__0_0.distcp", -10, 1577)
    c.write()
    c = Checkpoint("dcp.zip-truncated__length-short")
    info = c.storage[c.at("b", 0)]
    c.storage[c.at("b", 0)] = _StorageInfo("__0_0.distcp", info.offset, info.length - 30)
    c.write()
    for what, name in (("parent", "../dcp.missing-file__gone/__0_0.distcp"), ("absolute", "/etc/hostname"), ("nul", "__0_0.distcp\0"), ("empty", ""), ("dots", "..")):
        c = Checkpoint("dcp.file-name__" + what)
        info = c.storage[c.at("b", 0)]
        c.storage[c.at("b", 0)] = _StorageInfo(name, info.offset, info.length)
        c.write()
    c = Checkpoint("dcp.no-entry__chunk")
    del c.storage[c.at("w", 2, 0)]
    c.write()
    c = Checkpoint("dcp.shared-bytes__two-tensors")
    info = c.storage[c.at("w", 0, 0)]
    c.storage[c.at("w", 2, 0)] = info
    c.write()
    c = Checkpoint("dcp.shared-bytes__partly")
    info = c.storage[c.at("w", 2, 0)]
    c.storage[c.at("w", 2, 0)] = _StorageInfo("__0_0.distcp", info.offset - 8, info.length)
    c.write()
    c = Checkpoint("dcp.transform__zstd")
    c.storage[c.at("b", 0)].transform_descriptors = ["stream.zstd/1"]
    c.write()
    c = Checkpoint("dcp.stored-size__crossed")
    one, two = c.at("w", 0, 0), c.at("b", 0)
    c.storage[one], c.storage[two] = c.storage[two], c.storage[one]
    c.write()
    c = Checkpoint("dcp.stored-size__larger-than-the-chunk", [("w", (0, 0), W[:2].clone())])
    c.add("w", (2, 0), saved(torch.zeros(9, 4)), (4, 4))
    c.write()
    c = Checkpoint("dcp.stored-dtype__double", [("w", (0, 0), W[:3].clone())])
    c.add("w", (3, 0), saved(W[3:].double()), (3, 4))
    c.write()
    c = Checkpoint("dcp.storage-short__expanded", [("w", (0, 0), W[:3].clone())])
    c.add("w", (3, 0), saved(torch.tensor(1.0).expand(3, 4)), (3, 4))
    c.write()
    c = Checkpoint("dcp.not-a-tensor__list", [("w", (0, 0), W[:3].clone())])
    c.add("w", (3, 0), saved([1, 2, 3]), (3, 4))
    c.write()
    c = Checkpoint("dcp.checksum__bit-flip")
    at = c.file.find(struct.pack("<4f", 4, 5, 6, 7))
    c.write(file=c.file[:at] + bytes([c.file[at] ^ 4]) + c.file[at + 1:])
    c = Checkpoint("dcp.checksum__column-major", [("w", (0, 0), W.t().contiguous().t())])
    at = c.file.find(struct.pack("<3f", 4, 8, 12))
    c.write(file=c.file[:at] + bytes([c.file[at] ^ 4]) + c.file[at + 1:])

    c = Checkpoint("dcp.several-models__ema", [("model.w", (0, 0), W), ("ema.w", (0, 0), W)])
    c.planner = {"model.w": ("model", "w"), "ema.w": ("ema", "w")}
    c.write()
    c = Checkpoint("dcp.no-model__optimizer", [("optimizer.w", (0, 0), W)])
    c.planner = {"optimizer.w": ("optimizer", "w")}
    c.write()
    c = Checkpoint("dcp.path__another-name")
    c.planner["w"] = ("b",)
    c.write()
    c = Checkpoint("dcp.path__a-list")
    c.planner["w"] = [["w"]]
    c.write()
    c = Checkpoint("dcp.duplicate__two-paths", [("model.x.w", (0, 0), W), ("model.y.w", (0, 0), W)])
    c.write(metadata=swap(c, b"\x8c\x09model.y.w", b"\x8c\x09model.x.w"))
    c = Checkpoint("dcp.name__nul")
    c.write(metadata=swap(c, b"\x8c\x01b", b"\x8c\x01\0"))


def main():
    sys.modules["my_planner"] = sys.modules[__name__]
    OpaqueThing.__module__ = "my_planner"
    for folder in ("bad/dcp", "good/dcp"):
        shutil.rmtree(ROOT / folder, ignore_errors=True)
    good()
    bad()


if __name__ == "__main__":
    main()
