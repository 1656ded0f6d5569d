"""Writes Fixtures/good/hdf5: small HDF5 files as people write them with h5py.

    python3 good_hdf5.py            # needs h5py (these were made with 3.16, HDF5 2.0) and numpy

Every file but `everything.h5` holds the same tensors, whose values follow from their names and
places: element i of a tensor of n elements is (i - n // 2) / 8. The tests compute them again.
"""

import json
import pathlib

import h5py
import numpy as np

OUT = pathlib.Path(__file__).resolve().parent.parent / "good" / "hdf5"

# Distinct odd extents, so that no axis is taken for another.
SHAPES = {
    "embed.weight": (11, 6),
    "layers.0.mixer.A_log": (5, 3),
    "layers.0.mixer.conv1d.weight": (5, 1, 4),
    "layers.0.norm.weight": (6,),
    "layers.10.norm.weight": (6,),
    "step": (),
    "empty": (0, 6),
}
CONFIG = {"model_type": "samba", "hidden_size": 6, "rms_norm_eps": 1e-5, "name": "ü"}


def values(shape, dtype="<f4"):
    n = int(np.prod(shape))
    return ((np.arange(n) - n // 2) / 8).reshape(shape).astype(dtype)


def bfloat16_bits(shape):
    # Exact: the values have at most 6 significant bits.
    return (values(shape).view(np.uint32) >> 16).astype("<u2")


def bfloat16_type(order=h5py.h5t.ORDER_LE):
    kind = h5py.h5t.IEEE_F32LE.copy()
    kind.set_fields(15, 7, 8, 0, 7)
    kind.set_size(2)
    kind.set_ebias(127)
    kind.set_order(order)
    return kind


def write(name, put, libver=None, userblock=0, nested=True):
    with h5py.File(OUT / name, "w", libver=libver, userblock_size=userblock) as file:
        file.attrs["config"] = json.dumps(CONFIG)
        file.attrs["format"] = "pt"
        file.attrs["fixed"] = np.bytes_("padded")
        for tensor, shape in SHAPES.items():
            put(file, tensor.replace(".", "/") if nested else tensor, shape)


def plain(file, path, shape):
    file.create_dataset(path, data=values(shape))


def big_endian(file, path, shape):
    file.create_dataset(path, data=values(shape, ">f4"))


def half_big_endian(file, path, shape):
    file.create_dataset(path, data=values(shape, ">f2"))


def packed(**options):
    def put(file, path, shape):
        if 0 in shape or shape == ():
            return plain(file, path, shape)
        # Chunks that no extent is a multiple of, so that there are edges.
        chunks = tuple(min(4, n) for n in shape)
        file.create_dataset(path, data=values(shape), chunks=chunks, **options)

    return put


def keras(file, path, shape):
    # keras/src/saving/saving_lib.py: numpy's two-byte void and an attribute.
    data = file.create_dataset(path, data=bfloat16_bits(shape).view("V2"))
    data.attrs["dtype"] = "bfloat16"


def bfloat16(order):
    def put(file, path, shape):
        parent, _, name = path.rpartition("/")
        group = file.require_group(parent or "/")
        space = h5py.h5s.create_simple(shape) if shape else h5py.h5s.create(h5py.h5s.SCALAR)
        kind = bfloat16_type(order)
        data = h5py.h5d.create(group.id, name.encode(), kind, space)
        bits = bfloat16_bits(shape)
        if order == h5py.h5t.ORDER_BE:
            bits = bits.byteswap()
        if bits.size:
            data.write(h5py.h5s.ALL, h5py.h5s.ALL, np.asarray(bits), mtype=kind)

    return put


def compact(file, path, shape):
    parent, _, name = path.rpartition("/")
    group = file.require_group(parent or "/")
    space = h5py.h5s.create_simple(shape) if shape else h5py.h5s.create(h5py.h5s.SCALAR)
    creation = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    creation.set_layout(h5py.h5d.COMPACT)
    data = h5py.h5d.create(group.id, name.encode(), h5py.h5t.IEEE_F32LE, space, creation)
    if 0 not in shape:
        data.write(h5py.h5s.ALL, h5py.h5s.ALL, np.asarray(values(shape)))


def everything():
    with h5py.File(OUT / "everything.h5", "w") as file:
        for kind in "bool i1 u1 i2 u2 i4 u4 i8 u8 f2 f4 f8 c8".split():
            for order in "<>":
                data = (np.arange(6) - 2).reshape(2, 3)
                data = (data % 2 == 0) if kind == "bool" else data.astype(order + kind)
                if kind == "c8":
                    data = (data + 0.5j).astype(order + kind)
                suffix = "le" if order == "<" else "be"
                file.create_dataset(f"{kind}.{suffix}", data=data)
        # Never written: the fill value is the value.
        file.create_dataset("unwritten", (3, 2), "<f4")
        file.create_dataset("filled", (3, 2), ">f4", fillvalue=2.5)
        sparse = file.create_dataset("sparse", (5, 4), "<f4", chunks=(2, 4), fillvalue=-1)
        sparse[2:4] = 7
        # One dataset, two names.
        file["tied/a"] = values((4, 3))
        file["tied.b"] = file["tied/a"]
        file["dotted.name/inner.name"] = values((2,))
        file["µ"] = values((1,))
        file["a named type"] = np.dtype("<f4")
        file.attrs["number"] = 3


OUT.mkdir(parents=True, exist_ok=True)
for old in OUT.glob("*.h5"):
    old.unlink()
write("nested.h5", plain)
write("flat.h5", plain, nested=False)
write("v110.h5", plain, libver="v110")
write("userblock.h5", plain, userblock=1024)
write("big-endian.h5", big_endian)
write("half-big-endian.h5", half_big_endian)
write("gzip.h5", packed(compression="gzip"))
write("gzip-shuffle.h5", packed(compression="gzip", shuffle=True))
write("gzip-shuffle-fletcher32.h5", packed(compression="gzip", shuffle=True, fletcher32=True))
write("chunked-userblock.h5", packed(), userblock=512)
write("chunked-v110.h5", packed(compression="gzip"), libver="v110")
write("keras-bfloat16.h5", keras)
write("bfloat16.h5", bfloat16(h5py.h5t.ORDER_LE))
write("bfloat16-big-endian.h5", bfloat16(h5py.h5t.ORDER_BE))
write("compact.h5", compact)
everything()
