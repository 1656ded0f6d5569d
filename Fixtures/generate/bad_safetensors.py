"""Writes the corpus of malformed safetensors files and shard indexes, and of odd but good ones.

    python3 Fixtures/generate/bad_safetensors.py

Only Python's standard library; the same bytes every time. The part of a bad file's name before `__`
is the code of the one diagnostic that it must give. Files stay small: what is huge is only claimed.
"""

import json
import os
import shutil
import struct

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
BAD = os.path.join(ROOT, "bad", "safetensors")
GOOD = os.path.join(ROOT, "good", "safetensors")
GOOD_INDEX = os.path.join(ROOT, "good", "shard-index")
INDEX = os.path.join(ROOT, "bad", "shard-index")


def entry(dtype="F32", shape=(2,), offsets=(0, 8)):
    return {"dtype": dtype, "shape": list(shape), "data_offsets": list(offsets)}


def text(header):
    return header if isinstance(header, bytes) else json.dumps(header, separators=(",", ":")).encode()


def file(header, data=b"\x00" * 8, length=None):
    """8 bytes with the header's length (or another claim), the header, the data."""
    header = text(header)
    return struct.pack("<Q", len(header) if length is None else length) + header + data


def write(folder, name, content):
    os.makedirs(folder, exist_ok=True)
    with open(os.path.join(folder, name), "wb") as out:
        out.write(content)


def bad(code, what, content):
    write(BAD, f"safetensors.{code}__{what}.safetensors", content)


def one(field, value):
    """A header of one tensor in which one field's text is replaced."""
    fields = {"dtype": '"F32"', "shape": "[2]", "data_offsets": "[0,8]"}
    fields[field] = value
    inner = ",".join(f'"{key}":{fields[key]}' for key in fields)
    return ('{"a":{' + inner + "}}").encode()


def safetensors():
    good = text({"a": entry()})

    # The 8 bytes in front.
    bad("too-short", "empty", b"")
    bad("too-short", "seven-bytes", b"\x02\x00\x00\x00\x00\x00\x00")
    bad("header-length", "zero", file(b"", b"", 0))
    bad("header-length", "one", file(b"{", b"", 1))
    bad("header-length", "over-100000000", file(good, length=100_000_001))
    bad("header-length", "limit-but-past-the-end", file(good, length=100_000_000))
    bad("header-length", "one-past-the-end", file(good, b"", len(good) + 1))
    bad("header-length", "2-to-63", file(good, length=1 << 63))
    bad("header-length", "2-to-64-minus-1", file(good, length=(1 << 64) - 1))
    bad("header-length", "wraps-when-8-is-added", file(good, length=(1 << 64) - 8))
    bad("header-length", "big-endian", struct.pack(">Q", len(good)) + good + b"\x00" * 8)

    # The text.
    bad("header-utf8", "latin-1-name", file(b'{"\xe9":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}}'))
    bad("header-utf8", "overlong-slash", file(b'{"\xc0\xaf":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}}'))
    bad("header-utf8", "encoded-surrogate", file(b'{"\xed\xa0\x80":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}}'))
    bad("header-utf8", "cut-in-a-character", file(b'{"\xe2\x82', b""))
    bad("header-bom", "utf-8-mark", file(b"\xef\xbb\xbf" + good))
    bad("header-utf8", "utf-16", file("{}".encode("utf-16-le") + b"\xff\xfe", b""))
    bad("header-trailing", "nul-padding", file(good + b"\x00\x00\x00"))
    bad("header-trailing", "text-behind", file(good + b"x"))
    bad("header-trailing", "second-object", file(good + b"{}"))
    bad("header-trailing", "nul-behind-spaces", file(good + b"   \x00"))
    bad("header-truncated", "length-too-small", file(good[:-1], b"}" + b"\x00" * 8))
    bad("header-truncated", "inside-a-string", file(b'{"a', b""))
    bad("header-truncated", "behind-a-colon", file(b'{"a":', b""))
    bad("header-syntax", "only-spaces-and-word", file(b"{nonsense}", b""))
    bad("header-syntax", "single-quotes", file(b"{'a':1}", b""))
    bad("header-syntax", "comment", file(b"{/* */}", b""))
    bad("header-syntax", "nan-in-shape", file(one("shape", "[NaN]")))
    bad("header-syntax", "plus-sign", file(one("shape", "[+2]")))
    bad("header-syntax", "missing-comma", file(one("shape", "[2 1]")))
    bad("header-string", "raw-line-break", file(b'{"a\n":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}}'))
    bad("header-string", "unknown-escape", file(b'{"\\a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}}'))
    bad("header-string", "bad-hexadecimal", file(b'{"\\u00zz":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}}'))
    # Texts are compared in a normal form whose marks are sorted: that takes the square of a run's length.
    marks = "a" + "\u0301\u0316" * 50
    bad("header-marks", "in-a-name", file(json.dumps({marks: entry()}, ensure_ascii=False).encode()))
    bad("header-marks", "in-a-name-by-their-numbers", file({marks: entry()}))
    bad("header-marks", "in-a-key-of-metadata", file({"__metadata__": {marks: "x"}}, b""))
    bad("header-marks", "in-a-field", file({"a": {**entry(), marks: 1}}))
    bad("header-surrogate", "lone-high", file(b'{"\\ud800":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}}'))
    bad("header-surrogate", "lone-low", file(b'{"\\udc00":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}}'))
    bad("header-surrogate", "high-high", file(b'{"\\ud800\\ud800":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}}'))
    bad("header-surrogate", "in-metadata", file(b'{"__metadata__":{"k":"\\udfff"}}', b""))
    bad("header-trailing-comma", "in-root", file(good[:-1] + b",}"))
    bad("header-trailing-comma", "in-entry", file(good[:-2] + b",}}"))
    bad("header-trailing-comma", "in-shape", file(one("shape", "[2,]")))
    bad("header-trailing-comma", "in-offsets", file(one("data_offsets", "[0,8,]")))
    bad("header-trailing-comma", "in-metadata", file(b'{"__metadata__":{"a":"b",}}', b""))
    bad("header-number", "leading-zero-in-shape", file(one("shape", "[02]")))
    bad("header-number", "leading-zero-in-offsets", file(one("data_offsets", "[00,8]")))
    bad("header-number", "minus-alone", file(one("shape", "[-]")))
    bad("header-number", "point-without-digits", file(one("shape", "[2.]")))
    bad("header-depth", "thousand-lists-as-entry", file(b'{"a":' + b"[" * 1000 + b"]" * 1000 + b"}", b""))
    bad("header-depth", "hundred-thousand-open-brackets", file(b'{"a":' + b"[" * 100_000, b""))
    bad("header-depth", "in-shape", file(one("shape", "[" + "[" * 500 + "]" * 500 + "]")))
    bad("header-depth", "in-metadata", file(b'{"__metadata__":{"a":' + b'{"a":' * 500 + b"1" + b"}" * 502, b""))
    bad("header-start", "space-in-front", file(b" " + good))
    bad("header-start", "line-break-in-front", file(b"\n" + good))
    bad("header-padding", "line-break-behind", file(good + b"\n"))
    bad("header-padding", "tab-among-spaces", file(good + b"  \t "))
    for kind, root in [("list", b"[]"), ("text", b'"a"'), ("number", b"17"), ("null", b"null"), ("truth", b"true")]:
        bad("header-root", kind, file(root, b""))
    bad("header-root", "list-of-entries", file(b"[" + good + b"]"))

    # The same key twice, at every level.
    pair = b'"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}'
    bad("duplicate", "same-tensor", file(b"{" + pair + b"," + pair + b"}"))
    bad("duplicate", "same-tensor-other-place", file(b"{" + pair + b',"a":{"dtype":"F32","shape":[2],"data_offsets":[8,16]}}', b"\x00" * 16))
    bad("duplicate", "escaped-alike", file(b"{" + pair + b"," + pair.replace(b'"a"', b'"\\u0061"') + b"}"))
    bad("duplicate", "metadata-twice", file(b'{"__metadata__":{},"__metadata__":{}}', b""))
    bad("duplicate-key", "dtype", file(b'{"a":{"dtype":"F32","dtype":"F32","shape":[2],"data_offsets":[0,8]}}'))
    bad("duplicate-key", "shape", file(b'{"a":{"dtype":"F32","shape":[2],"shape":[2],"data_offsets":[0,8]}}'))
    bad("duplicate-key", "data-offsets", file(b'{"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8],"data_offsets":[0,8]}}'))
    bad("duplicate-key", "metadata-key", file(b'{"__metadata__":{"k":"1","k":"2"}}', b""))

    # Metadata.
    for kind, value in [("list", "[]"), ("text", '"x"')]:
        bad("metadata", f"is-{kind}", file(b'{"__metadata__":' + value.encode() + b"}", b""))
    for kind, value in [("number", "1"), ("null", "null"), ("object", "{}"), ("list", "[]"), ("truth", "true")]:
        bad("metadata", f"value-is-{kind}", file(b'{"__metadata__":{"k":' + value.encode() + b"}}", b""))

    # Entries and their fields.
    for kind, value in [("null", None), ("list", ["F32", [2], [0, 8]]), ("text", "F32"), ("number", 1)]:
        bad("entry", f"is-{kind}", file({"a": value}))
    for field in ["dtype", "shape", "data_offsets"]:
        fields = entry()
        del fields[field]
        bad("field-missing", field.replace("_", "-"), file({"a": fields}))
    bad("field-missing", "all", file({"a": {}}))
    bad("field-unknown", "strides", file({"a": {**entry(), "strides": [1]}}))
    bad("field-unknown", "upper-case-dtype-beside", file({"a": {**entry(), "DTYPE": "F32"}}))
    bad("field-unknown", "nested", file({"a": {**entry(), "x": {"y": [1, {"z": None}]}}}))
    for name in ["f32", "Bf16", "float32", "F128", "I4", "", "F32 ", "F8_E4M3B11", "BFLOAT16", "C128"]:
        bad("dtype", f"unknown-{name.strip().lower() or 'empty'}-{len(name)}", file(one("dtype", json.dumps(name))))
    for kind, value in [("number", "1"), ("null", "null"), ("list", '["F32"]')]:
        bad("dtype", f"is-{kind}", file(one("dtype", value)))
    for kind, value in [("null", "null"), ("number", "2"), ("text", '"2"'), ("object", '{"0":2}')]:
        bad("shape", f"is-{kind}", file(one("shape", value)))
    for kind, value in [("null", "null"), ("number", "8"), ("text", '"0,8"'), ("empty", "[]"), ("one-number", "[0]"),
                        ("three-numbers", "[0,8,16]"), ("object", '{"begin":0,"end":8}')]:
        bad("offsets", f"is-{kind}", file(one("data_offsets", value)))
    for kind, value in [("fraction", "2.0"), ("exponent", "2e0"), ("negative", "-2"), ("minus-zero", "-0"), ("text", '"2"'),
                        ("null", "null"), ("truth", "true"), ("list", "[2]")]:
        bad("integer", f"shape-{kind}", file(one("shape", f"[{value}]")))
    for kind, value in [("fraction", "8.0"), ("exponent", "8E0"), ("text", '"8"'), ("null", "null")]:
        bad("integer", f"end-{kind}", file(one("data_offsets", f"[0,{value}]")))
    for kind, value in [("negative", "-1"), ("minus-zero", "-0"), ("fraction", "0.0")]:
        bad("integer", f"begin-{kind}", file(one("data_offsets", f"[{value},8]")))

    # Names that a container of paths would follow.
    for kind, name in [("empty", ""), ("nul", "a\0b"), ("parent", "../a"), ("parent-inside", "a/../../b"),
                       ("absolute", "/etc/passwd"), ("dot", "a/./b"), ("only-parent", "..")]:
        bad("name", kind, file({name: entry()}))

    # Shapes.
    big = 1 << 40
    bad("overflow", "product", file({"a": entry(shape=[big, big])}))
    bad("overflow", "product-before-a-zero", file({"a": entry(shape=[big, big, 0], offsets=[0, 0])}, b""))
    bad("overflow", "product-behind-a-zero", file({"a": entry(shape=[0, big, big], offsets=[0, 0])}, b""))
    bad("overflow", "bits", file({"a": entry(shape=[1 << 60])}))
    bad("overflow", "extent-2-to-63", file({"a": entry(shape=[1 << 63])}))
    bad("overflow", "extent-2-to-64", file({"a": entry(shape=[1 << 64])}))
    bad("overflow", "extent-30-digits", file(one("shape", "[" + "9" * 30 + "]")))
    bad("overflow", "offset-2-to-64", file(one("data_offsets", f"[0,{1 << 64}]")))
    bad("overflow", "offset-near-2-to-63", file_overflow())
    bad("sub-byte", "one-f4", file({"a": entry("F4", [1], [0, 1])}, b"\x00"))
    bad("sub-byte", "three-f6", file({"a": entry("F6_E2M3", [3], [0, 3])}, b"\x00" * 3))
    bad("sub-byte", "scalar-f6", file({"a": entry("F6_E3M2", [], [0, 1])}, b"\x00"))

    # Where the bytes lie.
    bad("size", "span-too-small", file({"a": entry(shape=[3])}))
    bad("size", "span-too-large", file({"a": entry(shape=[1])}))
    bad("size", "scalar-with-two-elements", file({"a": entry(shape=[])}))
    bad("size", "empty-with-bytes", file({"a": entry(shape=[0])}))
    bad("size", "claims-a-terabyte", file({"a": entry(shape=[1 << 38])}))
    bad("offset-order", "end-before-begin", file({"a": entry(shape=[0], offsets=[8, 0])}))
    bad("offset-order", "second-tensor", file({"a": entry(), "b": entry(offsets=[16, 8])}, b"\x00" * 16))
    bad("hole", "in-front", file({"a": entry(offsets=[8, 16])}, b"\x00" * 16))
    bad("hole", "between", file({"a": entry(), "b": entry(offsets=[12, 20])}, b"\x00" * 20))
    bad("hole", "empty-tensor-far-away", file({"a": entry(), "b": entry(shape=[0], offsets=[16, 16])}, b"\x00" * 16))
    bad("overlap", "same-bytes", file({"a": entry(), "b": entry()}))
    bad("overlap", "by-one-element", file({"a": entry(), "b": entry(offsets=[4, 12])}, b"\x00" * 12))
    bad("overlap", "one-inside-the-other", file({"a": entry(shape=[4], offsets=[0, 16]), "b": entry(offsets=[4, 12])}, b"\x00" * 16))
    bad("overlap", "empty-inside-another", file({"a": entry(), "b": entry(shape=[0], offsets=[4, 4])}))
    bad("trailing-bytes", "one", file({"a": entry()}, b"\x00" * 9))
    bad("trailing-bytes", "behind-no-tensors", file({}, b"\x00"))
    bad("trailing-bytes", "second-file-appended", file({"a": entry()}, b"\x00" * 8 + file({"a": entry()})))
    bad("truncated", "one-byte", file({"a": entry()}, b"\x00" * 7))
    bad("truncated", "all-data", file({"a": entry()}, b""))
    bad("truncated", "claims-8-tib", file({"a": entry("U8", [1 << 43], [0, 1 << 43])}))
    bad("truncated", "second-tensor", file({"a": entry(), "b": entry(offsets=[8, 16])}, b"\x00" * 12))


def file_overflow():
    """Offsets that fit, but not behind the header: begin and end at the top of 63 bits."""
    return file(one("data_offsets", f"[{(1 << 63) - 9},{(1 << 63) - 1}]"))


def good_ones():
    bits = {"BOOL": 8, "F4": 4, "F6_E2M3": 6, "F6_E3M2": 6, "U8": 8, "I8": 8, "F8_E5M2": 8, "F8_E4M3": 8, "F8_E8M0": 8,
            "F8_E4M3FNUZ": 8, "F8_E5M2FNUZ": 8, "I16": 16, "U16": 16, "F16": 16, "BF16": 16, "I32": 32, "U32": 32,
            "F32": 32, "C64": 64, "F64": 64, "I64": 64, "U64": 64}

    def good(name, content):
        write(GOOD, name + ".safetensors", content)

    header, data = {"__metadata__": {"format": "pt"}}, b""
    for i, dtype in enumerate(bits):
        size = bits[dtype]  # 8 elements
        header["t." + dtype] = entry(dtype, [2, 4], [len(data), len(data) + size])
        data += bytes((i * 16 + k) % 2 if dtype == "BOOL" else (i * 16 + k) % 256 for k in range(size))
    good("all-dtypes", file(header, data))
    good("no-tensors", file({}, b""))
    good("only-metadata", file({"__metadata__": {"": "", "k\u00e9": "v\n"}}, b""))
    good("scalar", file({"s": entry("F32", [], [0, 4])}, struct.pack("<f", 1.5)))
    good("empty-tensors", file({"e": entry("F32", [0], [0, 0]), "a": entry(), "f": entry("I64", [3, 0, 5], [8, 8])},
                               struct.pack("<2f", 1, 2)))
    good("unaligned", file({"b": entry("U8", [3], [0, 3]), "f": entry("F32", [1], [3, 7]), "d": entry("F64", [1], [7, 15])},
                           b"\x01\x02\x03" + struct.pack("<f", -2.5) + struct.pack("<d", 0.1)))
    good("unaligned-header", file(text({"f": entry("F32", [1], [0, 4])}) + b" " * 3, struct.pack("<f", 7)))
    good("reverse-order", file({"last": entry("F32", [1], [8, 12]), "middle": entry("F32", [1], [4, 8]),
                                "first": entry("F32", [1], [0, 4])}, struct.pack("<3f", 1, 2, 3)))
    good("metadata-null", file(b'{"__metadata__":null,"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}}',
         struct.pack("<2f", 3, 4)))
    good("metadata-last", file({"a": entry(), "__metadata__": {"format": "pt"}}, struct.pack("<2f", 3, 4)))
    good("fields-in-other-order", file(b'{ "a" :\n\t{"data_offsets" : [ 0 , 8 ],"shape":[ 2 ], "dtype":"F32"} }',
                                       struct.pack("<2f", 5, 6)))
    good("names", file({"\u00e9": entry("U8", [1], [0, 1]), "e\u0301": entry("U8", [1], [1, 2]), "a b": entry("U8", [1], [2, 3]),
                        "\U0001f600": entry("U8", [1], [3, 4]), "a/b": entry("U8", [1], [4, 5]), "..a": entry("U8", [1], [5, 6])},
                       bytes(range(6))))
    good("escaped-name", file(b'{"\\u0061\\n\\ud83d\\ude00":{"dtype":"U8","shape":[1],"data_offsets":[0,1]}}', b"\x2a"))
    good("rank-9", file({"r": entry("U8", [1, 2, 1, 1, 1, 1, 1, 1, 2], [0, 4])}, bytes(range(4))))
    good("many-spaces", file(text({"a": entry("U8", [1], [0, 1])}) + b" " * 4096, b"\x09"))


def shard_indexes():
    a = file({"a": entry(offsets=[0, 8])}, struct.pack("<2f", 1, 2))
    b = file({"b": entry(offsets=[0, 8])}, struct.pack("<2f", 3, 4))
    ab = file({"a": entry(), "b": entry(offsets=[8, 16])}, struct.pack("<4f", 1, 2, 3, 4))
    one, two = "model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"
    good = {"a": one, "b": two}

    def case(code, what, index, shards, links=()):
        folder = os.path.join(INDEX, f"{code}__{what}") if code else os.path.join(GOOD_INDEX, what)
        os.makedirs(folder)
        if not isinstance(index, bytes):
            index = json.dumps(index, indent=2).encode() + b"\n"
        write(folder, "model.safetensors.index.json", index)
        for name, content in shards.items():
            write(os.path.join(folder, os.path.dirname(name)), os.path.basename(name), content)
        for name, target in links:
            os.symlink(target, os.path.join(folder, name))

    def index(map, total=16):
        return {"metadata": {"total_size": total}, "weight_map": map}

    case("shards.missing-file", "second-shard", index(good), {one: a})
    case("shards.missing", "tensor-in-no-shard", index({**good, "c": two}), {one: a, two: b})
    case("shards.misplaced", "tensor-in-the-other-shard", index({"a": one, "b": two}), {one: ab, two: file({}, b"")})
    case("shards.duplicate", "tensor-in-both-shards", index(good), {one: a, two: ab})
    case("shards.unlisted", "extra-tensor-in-a-shard", index({"a": one}, 8), {one: ab})
    case("shards.path", "absolute", index({"a": "/etc/passwd", "b": two}), {two: b})
    case("shards.path", "parent", index({"a": "../" + one, "b": two}), {two: b})
    case("shards.path", "parent-inside", index({"a": "x/../../" + one, "b": two}), {two: b})
    case("shards.path", "backslash", index({"a": "..\\" + one, "b": two}), {two: b})
    case("shards.path", "empty", index({"a": "", "b": two}), {two: b})
    case("shards.path", "nul", index({"a": one + "\0", "b": two}), {one: a, two: b})
    case("shards.path", "dot", index({"a": "./" + one, "b": two}), {one: a, two: b})
    case("shards.symlink", "out-of-the-directory", index(good), {one: a}, [(two, "../../../good/safetensors/scalar.safetensors")])
    case("shards.missing-file", "dangling-link", index(good), {one: a}, [(two, "nowhere.safetensors")])
    case("shards.index", "no-weight-map", {"metadata": {"total_size": 16}}, {one: a})
    case("shards.index", "weight-map-is-a-list", index([one]), {one: a})
    case("shards.index", "file-is-a-number", index({"a": 1, "b": two}), {two: b})
    case("shards.index", "root-is-a-list", b"[]\n", {one: a})
    case("json.duplicate-key", "tensor-twice", b'{"weight_map": {"a": "%s", "a": "%s"}}' % (one.encode(), two.encode()), {one: a, two: a})
    case("json.duplicate-key", "two-weight-maps", b'{"weight_map": {}, "weight_map": {"a": "%s"}}' % one.encode(), {one: a})
    case("json.trailing-comma", "in-weight-map", b'{"weight_map": {"a": "%s",}}' % one.encode(), {one: a})
    case("json.truncated", "half-an-index", json.dumps(index(good)).encode()[:60], {one: a, two: b})
    case("json.bom", "utf-8-mark", b"\xef\xbb\xbf" + json.dumps(index(good)).encode(), {one: a, two: b})
    case("json.utf8", "latin-1", b'{"weight_map": {"\xe9": "%s"}}' % one.encode(), {one: a})
    case("json.marks", "in-a-name", index({"a" + "\u0301\u0316" * 50: one}), {one: a})
    case("json.depth", "thousand-lists", b"[" * 1000, {one: a})
    case("safetensors.truncated", "shard-cut-short", index(good), {one: a, two: b[:-1]})
    case("container.git-lfs", "pointer-as-shard", index(good),
         {one: a, two: b"version https://git-lfs.github.com/spec/v1\noid sha256:" + b"0" * 64 + b"\nsize 1000\n"})

    # Indexes with a wrong total are about, as writers differ in what they count: a warning, and read.
    for what, total in [("too-small", 8), ("too-large", 2**62), ("negative", -16)]:
        case(None, "shards.total-size__" + what, index(good, total), {one: a, two: b})
    case(None, "total-as-a-fraction", index(good, 16.0), {one: a, two: b})
    case(None, "without-metadata", {"weight_map": good}, {one: a, two: b})
    case(None, "unknown-keys-beside", {**index(good), "x": {"y": [1, None]}}, {one: a, two: b})
    case(None, "metadata-last", {"weight_map": good, "metadata": {"total_size": 16}}, {one: a, two: b})
    case(None, "in-a-folder", index({"a": one, "b": "more/" + two}), {one: a, "more/" + two: b})
    case(None, "a-shard-without-tensors-of-its-own", index({"a": one, "b": one}), {one: ab})


if __name__ == "__main__":
    for folder in [BAD, GOOD, INDEX, GOOD_INDEX]:
        shutil.rmtree(folder, ignore_errors=True)
    safetensors()
    good_ones()
    shard_indexes()
    print(len(os.listdir(BAD)), "bad files,", len(os.listdir(GOOD)), "good files,", len(os.listdir(INDEX)), "bad indexes")
