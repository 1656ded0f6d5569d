"""Writes Fixtures/good/npz and Fixtures/bad/npz; run in the package's directory, with numpy.

A bad file is called <code>__<what>.npz.
"""
import io, pathlib, struct, zipfile, zlib
import numpy as np

WHEN = (1980, 1, 1, 0, 0, 0)


def npy(text, data=b"", version=(1, 0)):
    text = text.encode() if isinstance(text, str) else text
    size = struct.pack("<H" if version[0] == 1 else "<I", len(text))
    return b"\x93NUMPY" + bytes(version) + size + text + data


def head(descr="'<f4'", fortran="False", shape="(2,)"):
    return "{'descr': %s, 'fortran_order': %s, 'shape': %s, }\n" % (descr, fortran, shape)


def archive(entries, deflate=False):
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED if deflate else zipfile.ZIP_STORED) as z:
        for name, data in entries:
            entry = zipfile.ZipInfo(name, WHEN)
            entry.compress_type = z.compression
            z.writestr(entry, data)
    return out.getvalue()


def good():
    home = pathlib.Path("Fixtures/good/npz")
    home.mkdir(parents=True, exist_ok=True)
    m = np.arange(15, dtype="<f4").reshape(3, 5)
    arrays = {"a.weight": m, "t": np.ascontiguousarray(m).T, "v": np.array([1, -2], "<f2"), "s": np.float64(2.5), "i": np.array([[3], [-4]], ">i4"), "e": np.zeros((0, 3), "<f4")}
    np.savez(home / "stored.npz", **arrays)
    np.savez_compressed(home / "deflated.npz", **arrays)
    # A larger one, with long matches and all kinds of blocks.
    random = np.random.default_rng(1)
    big = np.concatenate([np.zeros(3000), random.integers(0, 3, 3000), random.standard_normal(1000)]).astype("<f4")
    np.savez_compressed(home / "long.npz", big=np.asfortranarray(big.reshape(70, 100)))
    np.savez(home / "long-stored.npz", big=big.reshape(70, 100))
    data = np.array([1, -2], "<f4").tobytes()
    # MLX: no padding, a space behind the comma, fortran_order of vectors; and the two bytes of bfloat16.
    (home / "mlx.npz").write_bytes(archive([("x.npy", npy("{'descr': '<f4', 'fortran_order': True, 'shape': (2, ), }\n", data)),
        ("h.npy", npy(head("'<V2'", shape="(2, 1)"), b"\x80\x3f\x00\xc0")), ("w.npy", npy(head("'<f4'", "False"), data, (2, 0))), ("u.npy", npy(head("'|u1'", shape="(3,)"), b"\1\2\3", (3, 0)))]))


def bad():
    home = pathlib.Path("Fixtures/bad/npz")
    home.mkdir(parents=True, exist_ok=True)
    put = lambda name, data: (home / (name + ".npz")).write_bytes(data)
    one = lambda *a, **k: archive([("x.npy", npy(*a, **k))])
    data = bytes(8)
    put("npz.magic__none", archive([("x.npy", b"nothing of the kind, not even long")]))
    put("npz.version__9", archive([("x.npy", npy(head(), data, (9, 0)))]))
    put("npz.header__length-beyond", archive([("x.npy", b"\x93NUMPY\1\0\xff\xff" + b"{")]))
    put("npz.header__length-2-32", archive([("x.npy", b"\x93NUMPY\2\0\xff\xff\xff\xff" + b"{" * 90)]))
    put("npz.header__expression", one("{'descr': '<f4', 'fortran_order': False, 'shape': (__import__('os'),), }\n", data))
    put("npz.header__list", one("[1]\n", data))
    put("npz.header__twice", one("{'descr': '<f4', 'descr': '<f8', 'fortran_order': False, 'shape': (2,), }\n", data))
    put("npz.header__other-key", one("{'descr': '<f4', 'fortran_order': False, 'shape': (2,), 'x': 1, }\n", data))
    put("npz.header__behind-the-dict", one("{'descr': '<f4', 'fortran_order': False, 'shape': (2,), } 1\n", data))
    put("npz.header__structured", one("{'descr': [('a', '<f4')], 'fortran_order': False, 'shape': (2,), }\n", data))
    put("npz.header__negative", one(head(shape="(-2,)"), data))
    put("npz.header__no-text", one(b"{'descr': '\xff', 'fortran_order': False, 'shape': (2,), }\n", data))
    put("npz.pickle__objects", one(head("'|O'"), data))
    put("npz.dtype__text", one(head("'<U2'"), bytes(16)))
    put("npz.dtype__v1", one(head("'<V1'"), bytes(2)))
    put("npz.dtype__date", one(head("'<M8[ns]'"), bytes(16)))
    put("npz.dtype__no-order", one(head("'|f4'"), data))
    put("npz.shape__2-62", one(head(shape="(4611686018427387904, 4)"), data))
    put("npz.shape__beyond-64-bits", one(head(shape="(99999999999999999999,)"), data))
    put("npz.size__too-few-bytes", one(head(shape="(3,)"), data))
    put("npz.size__too-many-bytes", one(head(), data + b"x"))
    put("npz.entry__no-array", archive([("x.npy", npy(head(), data)), ("readme.txt", b"hello")]))
    # A header of a deflated entry that promises more than deflate can give.
    packed = bytearray(archive([("x.npy", npy(head(shape="(2,)"), data))], deflate=True))
    def sizes(at, value):
        packed[at:at + 4] = struct.pack("<I", value)
    central = packed.rindex(b"PK\1\2")
    sizes(22, 2**31)
    sizes(central + 24, 2**31)
    put("npz.bomb__2-31-bytes", bytes(packed))
    body = npy(head(shape="(3000,)"), np.arange(3000, dtype="<f4").tobytes())
    whole = bytearray(archive([("x.npy", body)], deflate=True))
    central = whole.rindex(b"PK\1\2")
    for at in (22, central + 24):
        whole[at:at + 4] = struct.pack("<I", len(body) + 4)
    put("npz.deflate__fewer-bytes-than-promised", bytes(whole))
    broken = bytearray(archive([("x.npy", npy(head(shape="(8,)"), bytes(range(32))))], deflate=True))
    broken[36] = 0xFF
    put("npz.deflate__damaged", bytes(broken))
    put("pytorch.zip-name__leads-out", archive([("../x.npy", npy(head(), data))]))
    import warnings
    warnings.simplefilter("ignore")
    put("pytorch.zip-duplicate__twice", archive([("x.npy", npy(head(), data)), ("x.npy", npy(head(), data))]))


good()
bad()
