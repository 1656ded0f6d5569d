"""Writes Fixtures/good/hdf5: small HDF5 files as people write them with h5py.

    python3 good_hdf5.py            # needs h5py (these were made with 3.16, HDF5 2.0) and numpy

Every file but `everything.h5` and `lzf/runs.h5` holds the same tensors, whose values follow from their names and
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


def arrays(file, path, shape):
    # The last extents belong to the type of an element.
    if len(shape) < 2:
        return plain(file, path, shape)
    parent, _, name = path.rpartition("/")
    group = file.require_group(parent or "/")
    kind = h5py.h5t.array_create(h5py.h5t.IEEE_F32LE, shape[1:])
    creation = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    if 0 not in shape:
        creation.set_chunk((4,))
        creation.set_shuffle()
        creation.set_deflate(4)
    space = h5py.h5s.create_simple(shape[:1])
    data = h5py.h5d.create(group.id, name.encode(), kind, space, creation)
    if 0 not in shape:
        data.write(h5py.h5s.ALL, h5py.h5s.ALL, values(shape), mtype=kind)


def named_bfloat16(kind, text):
    def put(file, path, shape):
        data = file.create_dataset(path, data=bfloat16_bits(shape).astype(kind))
        data.attrs["dtype"] = text

    return put


def company(name, fill, **options):
    """The same tensors, and beside them what can be no weights."""
    with h5py.File(OUT / "company" / name, "w", **options) as file:
        for tensor, shape in SHAPES.items():
            plain(file, tensor, shape)
        fill(file)


def texts(file):
    file["config_json"] = json.dumps(CONFIG)
    file["fixed"] = np.array([b"ab", b"cd"])
    # Its name would be a tensor's.
    file["layers/0.norm.weight"] = "the first norm"
    file["tokens"] = ["<s>", "</s>", "ü"]
    file.create_dataset("tokenizer/vocabulary", (3,), h5py.string_dtype(), compression="gzip")


def odd_types(file):
    one = h5py.h5s.create_simple((2,))
    file["history"] = np.zeros(3, [("step", "<i8"), ("loss", "<f8")])
    file["pair"] = np.zeros(3, [("x", "<f4"), ("n", "<i4")])
    file.create_dataset("lists", (2,), h5py.vlen_dtype("<f4"))
    file.create_dataset("colour", (2,), h5py.enum_dtype({"RED": 0, "GREEN": 1, "BLUE": 2}, "i1"))
    file.create_dataset("two", (2,), h5py.enum_dtype({"OFF": 0, "ON": 1}, "i1"))
    h5py.h5d.create(file.id, b"bits", h5py.h5t.STD_B8LE, one)
    h5py.h5d.create(file.id, b"time", h5py.h5t.UNIX_D32LE, one)
    h5py.h5d.create(file.id, b"names", h5py.h5t.array_create(h5py.h5t.C_S1, (3,)), one)
    file["pickle"] = np.void(b"\x80\x04K\x01.")
    file.create_dataset("when", data=np.array([0], "M8[s]").astype(h5py.opaque_dtype("M8[s]")))
    file.create_dataset("objects", (1,), h5py.ref_dtype)[0] = file["embed.weight"].ref
    file.create_dataset("regions", (1,), h5py.regionref_dtype)[0] = (
        file["embed.weight"].regionref[:2])
    file["nothing"] = h5py.Empty("<f4")


def links_and_scales(file):
    file["nowhere"] = h5py.SoftLink("/not/there")
    file["group/beside"] = h5py.SoftLink("gone")
    file["behind"] = h5py.SoftLink("/embed.weight/x")
    file["a named type"] = np.dtype("<f4")
    file["channel"] = np.arange(6, dtype="<f4")
    file["channel"].make_scale("channel")
    file["embed.weight"].dims[1].attach_scale(file["channel"])
    file["embed.weight"].dims[0].label = "token"


def fixed(text):
    return np.bytes_(text)


def pandas(file):
    # What pandas.HDFStore (PyTables) makes of a frame, in its two formats.
    file.attrs["CLASS"], file.attrs["VERSION"] = fixed("GROUP"), fixed("1.0")
    file.attrs["TITLE"] = h5py.Empty("S1")
    log = file.create_group("log")
    log.attrs["CLASS"], log.attrs["pandas_type"] = fixed("GROUP"), fixed("frame")
    log["axis0"] = np.array([b"loss", b"rate"])
    log["axis1"] = np.arange(3)
    log["block0_items"] = log["axis0"][:]
    log["block0_values"] = np.zeros((3, 2))
    table = file.create_group("runs")
    table["table"] = np.zeros(3, [("index", "<i8"), ("values_block_0", "<f8", (2,))])
    index = table.create_group("_i_table")
    index["index/sorted"] = np.arange(4)
    # The same frame, copied by a program that leaves attributes behind.
    for part in ["axis0", "axis1", "block0_items", "block0_values"]:
        file[part] = log[part][:]
    file.create_dataset("objects", (1,), h5py.vlen_dtype("u1"))


def matlab(file):
    for tensor in file:
        file[tensor].attrs["MATLAB_class"] = fixed("single")
    file["name"] = np.array([[109], [97]], "<u2")
    file["name"].attrs["MATLAB_class"] = fixed("char")
    file["nothing"] = np.array([0, 0], "<u8")
    file["nothing"].attrs["MATLAB_class"] = fixed("double")
    file["nothing"].attrs["MATLAB_empty"] = np.uint8(1)
    file["#refs#/a"] = np.zeros((2, 2))
    file.create_dataset("cells", (1, 1), h5py.ref_dtype)[0, 0] = file["#refs#/a"].ref
    file["cells"].attrs["MATLAB_class"] = fixed("cell")


def write_matlab():
    path = OUT / "company" / "matlab.h5"
    company("matlab.h5", matlab, userblock_size=512)
    data = bytearray(path.read_bytes())
    text = b"MATLAB 7.3 MAT-file, Platform: GLNXA64, Created on: Thu Jan  1 00:00:00 1970"
    data[: len(text)] = text
    data[124:128] = b"\x00\x02IM"
    path.write_bytes(data)


def lzf_runs():
    # Long and short repetitions, and what cannot be packed, which h5py then stores as it is.
    with h5py.File(OUT / "lzf" / "runs.h5", "w") as file:
        n = 5000
        every = np.arange(n, dtype="<u8")
        for tensor, data in {
            "constant": every * 0 + 7,
            "steps": every // 37,
            "period": every % 5,
            "far": every % 1100,
            "noise": every * every * 2654435761 % 4294967291,
        }.items():
            file.create_dataset(
                tensor, data=data.astype("<u4"), chunks=(2048,), compression="lzf")


for folder in [OUT, OUT / "company", OUT / "lzf"]:
    folder.mkdir(parents=True, exist_ok=True)
    for old in folder.glob("*.h5"):
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
write("lzf.h5", packed(compression="lzf"))
write("lzf-shuffle-fletcher32.h5", packed(compression="lzf", shuffle=True, fletcher32=True))
write("arrays.h5", arrays)
write("chunked-userblock.h5", packed(), userblock=512)
write("chunked-v110.h5", packed(compression="gzip"), libver="v110")
write("keras-bfloat16.h5", keras)
write("bfloat16.h5", bfloat16(h5py.h5t.ORDER_LE))
write("bfloat16-big-endian.h5", bfloat16(h5py.h5t.ORDER_BE))
write("uint16-bfloat16.h5", named_bfloat16("<u2", "bfloat16"))
write("uint16-bfloat16-big-endian.h5", named_bfloat16(">u2", "torch.bfloat16"))
write("compact.h5", compact)
company("texts.h5", texts)
company("odd-types.h5", odd_types)
company("links-and-scales.h5", links_and_scales)
company("pandas.h5", pandas)
write_matlab()
lzf_runs()
everything()
