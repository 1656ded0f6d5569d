"""Writes Fixtures/good/gguf and Fixtures/bad/gguf; run in the package's directory, with numpy, safetensors and gguf 0.19.

A bad file is called <code>__<what>.gguf. The shapes of published faults are named where they are made.
"""
import pathlib, struct
import numpy as np
from gguf import GGMLQuantizationType as T
from gguf.constants import GGML_QUANT_SIZES
from gguf.quants import dequantize, quantize
from safetensors.numpy import save_file

U8, I8, U16, I16, U32, I32, F32, BOOL, STR, ARR, U64, I64, F64 = range(13)
FORMS = {U8: "B", I8: "b", U16: "H", I16: "h", U32: "I", I32: "i", F32: "f", BOOL: "?", U64: "Q", I64: "q", F64: "d"}


def text(value):
    value = value.encode() if isinstance(value, str) else value
    return struct.pack("<Q", len(value)) + value


def value(kind, v):
    if kind == STR:
        return text(v)
    if kind == ARR:
        element, items = v
        return struct.pack("<IQ", element, len(items)) + b"".join(value(element, i) for i in items)
    return struct.pack("<" + FORMS[kind], v)


def pair(key, kind, v):
    return text(key) + struct.pack("<I", kind) + value(kind, v)


def info(name, ne, kind=0, offset=0):
    return text(name) + struct.pack("<I", len(ne)) + b"".join(struct.pack("<Q", n) for n in ne) + struct.pack("<IQ", kind, offset)


def whole(pairs, infos, data=b"", version=3, align=32, counts=None):
    nt, nk = counts or (len(infos), len(pairs))
    head = b"GGUF" + struct.pack("<IQQ", version, nt, nk) + b"".join(pairs) + b"".join(infos)
    return head + b"\0" * (-len(head) % align) + data


ARCH = pair("general.architecture", STR, "mamba")
A, B = np.arange(8, dtype="<f4").tobytes(), np.arange(6, dtype="<f4").tobytes() + b"\0" * 8
TWO = [info("a", [4, 2]), info("b", [6], offset=32)]


def good():
    home = pathlib.Path("Fixtures/good/gguf")
    home.mkdir(parents=True, exist_ok=True)
    put = lambda name, data: (home / name).write_bytes(data)
    put("plain.gguf", whole([ARCH], TWO, A + B))
    put("version-2.gguf", whole([ARCH], TWO, A + B, version=2))
    put("no-last-padding.gguf", whole([ARCH], TWO, A + B[:24]))
    put("no-tensors.gguf", whole([ARCH], [])[:24 + len(ARCH)])
    put("empty-tensor.gguf", whole([ARCH], [info("none", [0, 3]), info("b", [6])], B))
    put("alignment-64.gguf", whole([ARCH, pair("general.alignment", U32, 64)],
        [info("a", [4, 2]), info("b", [6], offset=64)], A + b"\0" * 32 + B, align=64))
    scalars = {U8: 200, I8: -2, U16: 60000, I16: -3, U32: 4000000000, I32: -4, F32: 1e-5, BOOL: True, STR: "ü", U64: 2**63 + 5, I64: -2**62, F64: 0.1}
    pairs = [ARCH] + [pair(f"one.{k}", k, v) for k, v in scalars.items()]
    pairs += [pair(f"list.{k}", ARR, (k, [v, v])) for k, v in scalars.items()] + [pair("list.empty", ARR, (F32, []))]
    pairs += [pair("tokenizer.ggml.tokens", ARR, (STR, [b"\xff\xfe", b"a"]))]
    put("keys.gguf", whole(pairs, TWO, A + B))
    # One tensor of each plain type, the same numbers.
    infos, data = [], b""
    for kind, form in ((0, "<f4"), (1, "<f2"), (28, "<f8"), (24, "<i1"), (25, "<i2"), (26, "<i4"), (27, "<i8")):
        raw = np.array([[1, -2, 3], [0, 5, -6]], dtype=form).tobytes()
        infos.append(info(f"t{kind}", [3, 2], kind, len(data)))
        data += raw + b"\0" * (-len(raw) % 32)
    raw = (np.array([1, -2, 3, 0, 5, -6], "<f4").view("<u4") >> 16).astype("<u2").tobytes()
    infos.append(info("t30", [3, 2], 30, len(data)))
    put("types.gguf", whole([ARCH], infos, data + raw + b"\0" * (-len(raw) % 32)))
    # Blocks of random bits with small scales, and what the gguf package makes of them.
    random = np.random.default_rng(5)
    infos, data, values = [], b"", {}
    for kind in (T.Q4_0, T.Q4_1, T.Q5_0, T.Q5_1, T.Q8_0, T.Q2_K, T.Q3_K, T.Q4_K, T.Q5_K, T.Q6_K):
        count, size = GGML_QUANT_SIZES[kind]
        rows, per = 3, max(1, 64 // count)
        raw = random.integers(0, 256, (rows, per * size), dtype=np.uint8)
        halves = {T.Q4_0: [0], T.Q4_1: [0, 2], T.Q5_0: [0], T.Q5_1: [0, 2], T.Q8_0: [0], T.Q2_K: [80, 82], T.Q3_K: [108], T.Q4_K: [0, 2], T.Q5_K: [0, 2], T.Q6_K: [208]}[kind]
        blocks = raw.reshape(-1, size)
        for at in halves:
            scale = (random.standard_normal(len(blocks)) / 64).astype("<f2")
            scale[0] = np.float16(6e-8)  # the least subnormal
            blocks[:, at:at + 2] = scale.view(np.uint8).reshape(-1, 2)
        infos.append(info(kind.name, [per * count, rows], int(kind), len(data)))
        values[kind.name] = np.ascontiguousarray(dequantize(raw, kind).astype("<f4"))
        data += raw.tobytes() + b"\0" * (-raw.size % 32)
    infos.append(info("unread", [256, 1], 23, len(data)))
    put("blocks.gguf", whole([ARCH], infos, data + bytes(136) + b"\0" * (-136 % 32)))
    save_file(values, home / "blocks.safetensors")
    # Numbers with halves, zeros, subnormals, extremes; and their Q8_0.
    x = random.standard_normal((16, 32)).astype("<f4")
    x[1] = 0
    x[2] = np.arange(32) - 15.5
    x[2, 0] = 127
    x[3] *= 1e-30
    x[4] = 127 * 65504 * np.linspace(-1, 1, 32, dtype="<f4")
    x[5] *= np.float32(1e-42)
    x[6, 3] = 1e6
    x[7] = -x[2]
    x[8] *= np.float32(2.0) ** -30
    save_file({"x": x, "q": quantize(x, T.Q8_0).view(np.uint8)}, home / "q8_0.safetensors")
    split = lambda no, count, total: [pair("split.no", U16, no), pair("split.count", U16, count), pair("split.tensors.count", I32, total)]
    put("parts-00001-of-00002.gguf", whole([ARCH] + split(0, 2, 2), [info("a", [4, 2])], A))
    put("parts-00002-of-00002.gguf", whole(split(1, 2, 2), [info("b", [6])], B))


def bad():
    home = pathlib.Path("Fixtures/bad/gguf")
    home.mkdir(parents=True, exist_ok=True)
    put = lambda name, data: (home / (name + ".gguf")).write_bytes(data)
    ok = whole([ARCH], TWO, A + B)
    put("gguf.empty__no-bytes", b"")
    put("gguf.version__one", whole([ARCH], TWO, A + B, version=1))
    put("gguf.version__four", whole([ARCH], TWO, A + B, version=4))
    put("gguf.big-endian__version", b"GGUF" + struct.pack(">IQQ", 3, 0, 0))
    put("gguf.length__ends-in-the-counts", ok[:20])
    put("gguf.length__ends-in-a-key", ok[:40])
    put("gguf.truncated__in-the-table", ok[:24 + len(ARCH) + 20])
    put("gguf.truncated__in-the-data", ok[:-20])
    put("gguf.truncated__no-data", ok[:-64])
    put("gguf.trailing__bytes-behind-the-data", ok + b"\0" * 40)
    # CVE-2024-23605 and -25664: n_kv; CVE-2024-21836 and -25666: n_tensors.
    put("gguf.length__kv-count-2-60", whole([ARCH], TWO, A + B, counts=(2, 2**60)))
    put("gguf.length__kv-count-negative", whole([ARCH], TWO, A + B, counts=(2, 2**64 - 1)))
    put("gguf.length__tensor-count-2-61", whole([ARCH], TWO, A + B, counts=(2**61, 1)))
    # llama.cpp #15711: a count that fits until it is multiplied by ggml's own overhead.
    put("gguf.length__tensor-count-2-56", whole([ARCH], TWO, A + B, counts=(2**56, 1)))
    put("gguf.name__tensor-count-one-more", whole([ARCH], TWO, A + B, counts=(3, 1)))
    put("gguf.trailing__tensor-count-one-less", whole([ARCH], TWO[:1], A + B))
    # CVE-2024-23496 and -25665: a text's length plus one wraps to 0.
    put("gguf.length__key-of-2-64-bytes", whole([struct.pack("<Q", 2**64 - 1) + b"key"], [], b"\0" * 64))
    put("gguf.length__key-of-70000-bytes", whole([pair("k" * 70000, U8, 1)], []))
    put("gguf.length__text-beyond-the-end", whole([text("k") + struct.pack("<IQ", STR, 1000) + b"abc"], [], b"\0" * 64))
    # CVE-2024-32878: a value that is not there, behind one that is; a reader freed what it had not read.
    put("gguf.truncated__in-a-value", whole([ARCH, text("k") + struct.pack("<I", STR)], [], counts=(0, 2))[:24 + len(ARCH) + 13])
    # CVE-2024-21825, -25667 and -25668: the bytes of an array wrap; texts in it, CVE-2025-49847.
    put("gguf.length__array-of-2-61-u64", whole([text("k") + struct.pack("<IIQ", ARR, U64, 2**61)], [], b"\0" * 64))
    put("gguf.length__array-of-2-63-bytes", whole([text("k") + struct.pack("<IIQ", ARR, U8, 2**63)], [], b"\0" * 64))
    put("gguf.length__array-of-texts", whole([text("k") + struct.pack("<IIQ", ARR, STR, 2**40)], [], b"\0" * 64))
    put("gguf.length__text-in-an-array", whole([text("k") + struct.pack("<IIQQ", ARR, STR, 2, 2**62)], [], b"\0" * 64))
    # Arrays of arrays, 2,000 deep: readers that call themselves overflow the stack.
    put("gguf.nested-array__deep", whole([text("k") + struct.pack("<I", ARR) + struct.pack("<IQ", ARR, 1) * 2000 + struct.pack("<IQB", U8, 1, 1)], []))
    put("gguf.nested-array__one", whole([text("k") + struct.pack("<I", ARR) + struct.pack("<IQ", ARR, 0)], [], b"\0" * 64))
    put("gguf.value-type__13", whole([text("k") + struct.pack("<I", 13) + b"\0" * 8], []))
    put("gguf.value-type__of-an-array", whole([text("k") + struct.pack("<IIQ", ARR, 99, 0)], [], b"\0" * 64))
    put("gguf.value__truth-of-2", whole([text("k") + struct.pack("<IB", BOOL, 2)], [], b"\0" * 32))
    put("gguf.key__empty", whole([pair("", U8, 1)], [], b"\0" * 32))
    put("gguf.key__no-utf8", whole([pair(b"\xff\xfe", U8, 1)], [], b"\0" * 32))
    put("gguf.duplicate-key__architecture", whole([ARCH, pair("general.architecture", STR, "llama")], TWO, A + B))
    put("gguf.key-type__architecture-is-a-number", whole([pair("general.architecture", U32, 7)], TWO, A + B))
    put("gguf.key-type__alignment-is-a-text", whole([ARCH, pair("general.alignment", STR, "32")], TWO, A + B))
    # llama.cpp #26318.
    put("gguf.key-type__alignment-is-an-i32", whole([ARCH, pair("general.alignment", I32, 32)], TWO, A + B))
    put("gguf.key-type__alignment-is-an-u64", whole([ARCH, pair("general.alignment", U64, 32)], TWO, A + B))
    # A division by zero; llama.cpp #24997: 2^31.
    put("gguf.alignment__zero", whole([ARCH, pair("general.alignment", U32, 0)], TWO, A + B))
    put("gguf.alignment__2-31", whole([ARCH, pair("general.alignment", U32, 2**31)], TWO, A + B))
    put("gguf.alignment__48", whole([ARCH, pair("general.alignment", U32, 48)], TWO, A + B))
    one = lambda *a, **k: whole([ARCH], [info(*a, **k)], A + B)
    # CVE-2024-21802: n_dims beyond a fixed array.
    put("gguf.dimensions__five", one("a", [2, 2, 2, 1, 1]))
    put("gguf.dimensions__2-32", whole([ARCH], [text("a") + struct.pack("<I", 2**32 - 1)], b"\0" * 64))
    # CVE-2026-33298 and GHSA-3p4r-fq3f-q74v: products that wrap.
    put("gguf.size__product-wraps-to-8", one("a", [2**62, 2, 2**61 + 1, 1]))
    put("gguf.size__bytes-wrap", one("a", [2**62]))
    put("gguf.size__extent-negative", one("a", [2**64 - 1]))
    # llama.cpp #24759 and #27203: a size that wraps when it is padded, and one that turns negative.
    put("gguf.size__padding-wraps", whole([ARCH], [info("a", [2**62 - 1]), info("b", [6])], B))
    put("gguf.size__product-turns-negative", one("a", [2**63 - 1, 2], 24))
    # GHSA-vgg9-87g3-85w8, llama.cpp #24759: padded sizes whose sum wraps.
    put("gguf.size__sum-of-sizes-wraps", whole([ARCH], [info("a", [2**60]), info("b", [2**60], offset=2**62)], A))
    # CVE-2026-7482: a shape larger than the data.
    put("gguf.truncated__shape-larger-than-the-data", one("a", [1000, 1000]))
    # CVE-2026-53923: an extent that 32 bits cut to 1.
    put("gguf.truncated__extent-beyond-32-bits", one("a", [2**32 + 1]))
    for number in (4, 5, 31, 32, 33, 36, 37, 38):
        put(f"gguf.tensor-type__removed-{number}", one("a", [32], number))
    # llama.cpp #19856: -1 as an index.
    put("gguf.tensor-type__negative", one("a", [32], 2**32 - 1))
    put("gguf.tensor-type__99", one("a", [32], 99))
    put("gguf.block__q8_0-rows-of-33", one("a", [33, 32], 8))
    put("gguf.block__q4_k-rows-of-32", one("a", [32, 8], 12))
    put("gguf.block__q8_0-scalar", one("a", [], 8))
    put("gguf.duplicate-tensor__twice", whole([ARCH], [info("a", [4, 2]), info("a", [6], offset=32)], A + B))
    put("gguf.name__empty", one("", [4]))
    put("gguf.name__64-bytes", one("n" * 64, [4]))
    put("gguf.name__nul", one("a\0b", [4]))
    put("gguf.name__no-utf8", one(b"\xff", [4]))
    put("gguf.offset__overlap", whole([ARCH], [info("a", [4, 2]), info("b", [6])], A + B))
    put("gguf.offset__hole", whole([ARCH], [info("a", [4, 2]), info("b", [6], offset=64)], A + b"\0" * 32 + B))
    put("gguf.offset__reversed", whole([ARCH], [info("b", [6], offset=32), info("a", [4, 2])], A + B))
    put("gguf.offset__unaligned", whole([ARCH], [info("a", [4, 2]), info("b", [6], offset=33)], A + B))
    put("gguf.offset__past-the-end", one("a", [4], offset=2**40))
    put("gguf.offset__2-64", one("a", [4], offset=2**64 - 32))
    split = lambda no, count, *more: [pair("split.no", U16, no), pair("split.count", U16, count), *more]
    put("gguf.split-name__first-of-two", whole([ARCH] + split(0, 2), TWO, A + B))
    put("gguf.split-missing__gone-00001-of-00003", whole([ARCH] + split(0, 3), TWO, A + B))
    put("gguf.split-part__second-00002-of-00003", whole(split(1, 3), TWO, A + B))
    put("gguf.split-key__text", whole([ARCH, pair("split.count", STR, "2")], TWO, A + B))
    put("gguf.split-key__negative", whole([ARCH, pair("split.count", I32, -1)], TWO, A + B))
    put("container.ggml__magic", b"lmgg" + ok[4:])


good()
bad()
