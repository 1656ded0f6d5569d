"""Writes Fixtures/bad/hdf5: files that must be refused, each named <error-code>__<what>.h5.

    python3 bad_hdf5.py             # needs h5py (these were made with 3.16, HDF5 2.0) and numpy

Opening the file or reading its tensors must give the diagnostic with that code, and no other. What libhdf5 would not write is patched into the bytes of a good file.
"""

import pathlib
import struct
import zlib

import h5py
import numpy as np

OUT = pathlib.Path(__file__).resolve().parent.parent / "bad" / "hdf5"
FLOATS = np.arange(12, dtype="<f4").reshape(3, 4)


def make(name, libver=None):
    """A decorator: the function fills an open file, which also holds one good tensor."""

    def run(fill):
        with h5py.File(OUT / f"{name}.h5", "w", libver=libver) as file:
            file["good"] = FLOATS
            fill(file)
        return fill

    return run


def patched(name, base, change):
    """The file `base` (already written) under a new name, its bytes changed."""
    data = bytearray((OUT / base).read_bytes())
    (OUT / base).unlink()
    data = change(data) or data
    (OUT / f"{name}.h5").write_bytes(data)


def scratch(fill, libver=None):
    with h5py.File(OUT / "scratch.h5", "w", libver=libver) as file:
        fill(file)
    return "scratch.h5"


def plain(file):
    file["a"] = FLOATS
    file["b"] = FLOATS + 100


OUT.mkdir(parents=True, exist_ok=True)
for old in OUT.glob("*.h5"):
    # What the fuzzer found no script makes again.
    if not old.name.startswith("hdf5.crash__"):
        old.unlink()

# --- the start of the file -----------------------------------------------------------------------

(OUT / "container.text__under_hdf5_name.h5").write_bytes(b"this is no HDF5 file\n" * 40)
(OUT / "container.empty__no_bytes.h5").write_bytes(b"")
(OUT / "container.unknown__seven_bytes.h5").write_bytes(b"\x89HDF\r\n\x1a")
# A user block of 100 bytes: signatures are looked for at 0, 512, 1024, …
patched("container.unknown__signature_at_byte_100", scratch(plain), lambda d: bytearray(100) + d)


def text_mode(data):
    return bytearray(bytes(data).replace(b"\r\n", b"\n"))


patched("container.unknown__line_ends_converted", scratch(plain), text_mode)
patched("hdf5.truncated__half", scratch(plain), lambda d: d[: len(d) // 2])
patched("hdf5.truncated__last_byte", scratch(plain), lambda d: d[:-1])
patched("hdf5.truncated__after_signature", scratch(plain), lambda d: d[:12])


def set_byte(position, value):
    def change(data):
        data[position] = value

    return change


patched("hdf5.version__superblock_9", scratch(plain), set_byte(8, 9))
patched("hdf5.corrupt__addresses_of_4_bytes", scratch(plain), set_byte(13, 4))
patched("hdf5.corrupt__superblock_checksum", scratch(plain, "v110"), set_byte(44, 0x55))


def root_address(data):
    # Superblock version 0: the root's symbol table entry is at byte 56, its header's address at 64.
    data[64:72] = struct.pack("<Q", 1 << 40)


patched("hdf5.corrupt__root_past_the_end", scratch(plain), root_address)


def btree_signature(data):
    at = data.index(b"TREE")
    data[at : at + 4] = b"EERT"


patched("hdf5.corrupt__btree_signature", scratch(plain), btree_signature)


# --- links ---------------------------------------------------------------------------------------


@make("hdf5.external-link__other_file")
def _(file):
    file["leak"] = h5py.ExternalLink("/etc/passwd", "/x")


@make("hdf5.external-link__relative")
def _(file):
    file["leak"] = h5py.ExternalLink("../secret.h5", "/weights")


@make("hdf5.soft-link__to_a_tensor")
def _(file):
    file["again"] = h5py.SoftLink("/good")


@make("hdf5.soft-link__to_itself")
def _(file):
    file["loop"] = h5py.SoftLink("/loop")


def user_link(data):
    # Link messages hold the type (64 is external) before the name's length and the name.
    at = data.index(b"\x04leak")
    assert data[at - 1] == 64 or data[at - 2] == 64
    data[at - 1 if data[at - 1] == 64 else at - 2] = 99


def external(file):
    file["leak"] = h5py.ExternalLink("x.h5", "/x")


patched("hdf5.user-link__type_99", scratch(external), user_link)


@make("hdf5.cycle__root_in_itself")
def _(file):
    file["loop"] = file["/"]


@make("hdf5.cycle__two_groups")
def _(file):
    file.create_group("a/b")
    file["a/b/back"] = file["a"]


@make("hdf5.group-alias__two_names")
def _(file):
    file["a/w"] = FLOATS
    file["b"] = file["a"]


@make("hdf5.depth__100_groups")
def _(file):
    file["/".join("g" * 100) + "/w"] = FLOATS


# --- names ---------------------------------------------------------------------------------------


@make("hdf5.name__not_utf8")
def _(file):
    h5py.h5d.create(file.id, b"\xff\xfe", h5py.h5t.IEEE_F32LE, h5py.h5s.create_simple((2,)))


# Texts are compared in a normal form whose marks are sorted: that takes the square of a run's length.
@make("hdf5.name__hundred_marks")
def _(file):
    file["w" + "\u0301\u0316" * 50] = FLOATS


# 104 kB, of which the paths would make 60 MB.
@make("hdf5.name__long_paths", "latest")
def _(file):
    group = file
    for _ in range(60):
        group = group.create_group("x" * 1000)
    group["w"] = FLOATS
    for k in range(1000):
        group[f"w{k}"] = group["w"]


@make("hdf5.name__attribute_is_a_number")
def _(file):
    file["g/tensor"] = FLOATS
    file["g"].attrs["weighbridge.tensor-name"] = 7


@make("hdf5.name__attribute_for_two")
def _(file):
    file["g/tensor"] = FLOATS
    file["g/other"] = FLOATS
    file["g"].attrs["weighbridge.tensor-name"] = "a/b"


@make("hdf5.duplicate__path_and_dots")
def _(file):
    file["a/b"] = FLOATS
    file["a.b"] = FLOATS


@make("hdf5.duplicate__by_attribute")
def _(file):
    file["g/tensor"] = FLOATS
    file["g"].attrs["weighbridge.tensor-name"] = "good"


# --- storage -------------------------------------------------------------------------------------


@make("hdf5.external-storage__passwd")
def _(file):
    file.create_dataset("leak", (8,), "u1", external=[("/etc/passwd", 0, 8)])


@make("hdf5.virtual__other_file")
def _(file):
    layout = h5py.VirtualLayout((4,), "<f4")
    layout[:] = h5py.VirtualSource("/tmp/other.h5", "x", (4,))
    file.create_virtual_dataset("leak", layout)


@make("hdf5.virtual__same_file")
def _(file):
    layout = h5py.VirtualLayout((4,), "<f4")
    layout[:] = h5py.VirtualSource(".", "good", (3, 4))[0]
    file.create_virtual_dataset("again", layout)


@make("hdf5.shape-bomb__gzip_nothing_written")
def _(file):
    file.create_dataset("w", (1 << 20, 1 << 20), "<f4", chunks=(64, 64), compression="gzip")


@make("hdf5.shape-bomb__contiguous_nothing_written")
def _(file):
    file.create_dataset("w", (1 << 30, 1 << 10), "<f4")


@make("hdf5.shape-bomb__chunked_one_written")
def _(file):
    data = file.create_dataset("w", (1 << 30, 16), "<f4", chunks=(16, 16))
    data[:16] = 1


@make("hdf5.shape-bomb__many_small")
def _(file):
    for index in range(64):
        file.create_dataset(f"w{index}", (15 << 20,), "u1")


@make("hdf5.shape-bomb__many_names")
def _(file):
    file.create_dataset("w", (1 << 20,), "u1", chunks=(1 << 20,), compression="gzip", data=np.zeros(1 << 20, "u1"))
    for index in range(100):
        file[f"w{index}"] = file["w"]


@make("hdf5.shape__overflow")
def _(file):
    file.create_dataset("w", (1 << 31, 1 << 31), "<f8", chunks=(64, 64))


def find_layout(data, offset, size):
    """Where a contiguous layout message (version 3: address, size) states this place."""
    return data.index(struct.pack("<QQ", offset, size))


def move(to_offset, to_size=None):
    def change(data):
        offsets = change.offsets
        at = find_layout(data, offsets["b"], 48)
        data[at : at + 8] = struct.pack("<Q", to_offset(offsets, len(data)))
        if to_size:
            data[at + 8 : at + 16] = struct.pack("<Q", to_size)

    return change


def moved(name, change):
    base = scratch(plain)
    with h5py.File(OUT / base) as file:
        change.offsets = {key: file[key].id.get_offset() for key in file}
    patched(name, base, change)


moved("hdf5.extent__starts_past_the_end", move(lambda o, n: n + 1000))
moved("hdf5.extent__ends_past_the_end", move(lambda o, n: n - 8))
moved("hdf5.extent__address_2_to_62", move(lambda o, n: 1 << 62))
moved("hdf5.overlap__same_bytes", move(lambda o, n: o["a"]))
moved("hdf5.overlap__half", move(lambda o, n: o["a"] + 24))

# --- types and shapes ----------------------------------------------------------------------------


@make("hdf5.compound__complex128")
def _(file):
    file["w"] = np.zeros(3, "<c16")


@make("hdf5.compound__complex_of_halves")
def _(file):
    file["w"] = np.zeros(3, [("r", "<f2"), ("i", "<f2")])


@make("hdf5.dtype__array_of_long_doubles")
def _(file):
    kind = h5py.h5t.array_create(h5py.h5t.py_create(np.dtype(np.longdouble)), (3,))
    h5py.h5d.create(file.id, b"w", kind, h5py.h5s.create_simple((2,)))


@make("hdf5.dtype__eight_of_one_kind")
def _(file):
    for index in range(8):
        file.create_dataset(f"w{index}", (2,), np.longdouble)


with h5py.File(OUT / "hdf5.no-tensors__only_a_text.h5", "w") as file:
    file["config"] = "{}"


@make("hdf5.dtype__opaque_without_attribute")
def _(file):
    file["w"] = np.zeros(4, "V2")


@make("hdf5.dtype__opaque_attribute_says_else")
def _(file):
    file["w"] = np.zeros(4, "V2")
    file["w"].attrs["dtype"] = "float16"


@make("hdf5.dtype__integer_of_12_bits")
def _(file):
    kind = h5py.h5t.STD_U16LE.copy()
    kind.set_precision(12)
    h5py.h5d.create(file.id, b"w", kind, h5py.h5s.create_simple((2,)))


@make("hdf5.dtype__float_with_other_bias")
def _(file):
    kind = h5py.h5t.IEEE_F16LE.copy()
    kind.set_ebias(31)
    h5py.h5d.create(file.id, b"w", kind, h5py.h5s.create_simple((2,)))


@make("hdf5.dtype__long_double")
def _(file):
    file.create_dataset("w", (2,), np.longdouble)


@make("hdf5.packed-shape__missing")
def _(file):
    kind = h5py.h5t.create(h5py.h5t.OPAQUE, 1)
    kind.set_tag(b"F4")
    h5py.h5d.create(file.id, b"w", kind, h5py.h5s.create_simple((2,)))


@make("hdf5.packed-shape__wrong")
def _(file):
    kind = h5py.h5t.create(h5py.h5t.OPAQUE, 1)
    kind.set_tag(b"F4")
    h5py.h5d.create(file.id, b"w", kind, h5py.h5s.create_simple((2,)))
    file["w"].attrs["shape"] = np.array([3, 3])


# --- filters and chunks --------------------------------------------------------------------------


@make("hdf5.filter__twenty_datasets")
def _(file):
    for index in range(20):
        file.create_dataset(f"w{index}", data=np.arange(12), chunks=(12,), scaleoffset=4)


@make("hdf5.filter__scaleoffset")
def _(file):
    file.create_dataset("w", data=np.arange(12), chunks=(12,), scaleoffset=4)


def unknown_filter(file):
    creation = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    creation.set_chunk((3, 4))
    # Optional, so that libhdf5 goes on without it when writing.
    creation.set_filter(40000, h5py.h5z.FLAG_OPTIONAL)
    h5py.h5d.create(
        file.id, b"w", h5py.h5t.IEEE_F32LE, h5py.h5s.create_simple((3, 4)), creation)


make("hdf5.filter__unknown_40000")(unknown_filter)


def chunk(stored, mask=0, **options):
    """A dataset of one chunk whose stored bytes are given."""

    def fill(file):
        data = file.create_dataset("w", (3, 4), "<f4", chunks=(3, 4), **options)
        data.id.write_direct_chunk((0, 0), stored, mask)

    return fill


PACKED = zlib.compress(FLOATS.tobytes())
gzip = {"compression": "gzip"}
make("hdf5.chunk__gzip_garbage")(chunk(b"\x00" * 40, **gzip))
make("hdf5.chunk__gzip_cut")(chunk(PACKED[:-6], **gzip))
make("hdf5.chunk__gzip_checksum")(chunk(PACKED[:-1] + bytes([PACKED[-1] ^ 1]), **gzip))
make("hdf5.chunk__gzip_too_short")(chunk(zlib.compress(FLOATS.tobytes()[:40]), **gzip))
make("hdf5.chunk__gzip_too_long")(chunk(zlib.compress(FLOATS.tobytes() + b"more"), **gzip))
# 48 bytes are expected; this unpacks to 4 MB.
make("hdf5.chunk__gzip_bomb")(chunk(zlib.compress(bytes(4 << 20), 9), **gzip))
lzf = {"compression": "lzf"}
LITERAL = b"".join(bytes([15]) + FLOATS.tobytes()[k : k + 16] for k in range(0, 48, 16))
make("hdf5.chunk__lzf_cut_in_literals")(chunk(LITERAL[:-1], **lzf))
make("hdf5.chunk__lzf_cut_in_a_length")(chunk(LITERAL[:34] + b"\xe0", **lzf))
make("hdf5.chunk__lzf_cut_in_a_distance")(chunk(LITERAL[:34] + b"\x20", **lzf))
make("hdf5.chunk__lzf_too_short")(chunk(LITERAL[:34], **lzf))
make("hdf5.chunk__lzf_too_long")(chunk(LITERAL + b"\x00x", **lzf))
make("hdf5.chunk__lzf_copy_too_long")(chunk(LITERAL[:34] + b"\xe0\xff\x00", **lzf))
make("hdf5.chunk__lzf_before_the_start")(chunk(b"\x00x" + b"\x20\x01" + LITERAL[:34], **lzf))


@make("hdf5.chunk__lzf_bomb")
def _(file):
    # The longest copy makes 264 bytes of 3; 65536 are claimed for a chunk of 5.
    data = file.create_dataset("w", (16384,), "<f4", chunks=(16384,), compression="lzf")
    data.id.write_direct_chunk((0,), b"\x00x\xe0\xff\x00")


make("hdf5.chunk__shuffle_too_short")(chunk(b"\x01" * 40, shuffle=True))
make("hdf5.chunk__skipped_filter_wrong_size")(chunk(b"\x01" * 40, mask=1, **gzip))
make("hdf5.chunk__fletcher32")(chunk(FLOATS.tobytes() + b"\x00\x00\x00\x00", fletcher32=True))
make("hdf5.chunk__fletcher32_missing")(chunk(b"\x01\x02", fletcher32=True))
