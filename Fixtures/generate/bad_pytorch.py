"""Writes the malformed PyTorch checkpoints of Fixtures/bad/pytorch, and the odd but legal ones of
Fixtures/good/pytorch/odd__*.pt.

    python3 Fixtures/generate/bad_pytorch.py

Only Python's standard library is needed. The name of a bad file is `<error code>__<what>.pt`; here
`pytorch.` is left out of the code. Each comment here says what is wrong. The odd ones all hold a
tensor `w` of float32 [1, 2, 3, 4, 5, 6], size (2, 3), and must be read.
"""

import pathlib
import struct
import zlib

ROOT = pathlib.Path(__file__).resolve().parent.parent
BAD = ROOT / "bad" / "pytorch"
ODD = ROOT / "good" / "pytorch"

# ---------------------------------------------------------------- pickles, by hand

MARK, STOP, NONE, TUPLE, REDUCE, BUILD, PERSID = b"(", b".", b"N", b"t", b"R", b"b", b"Q"
DICT, LIST, EMPTY, SETITEM, SETITEMS, APPEND = b"}", b"]", b")", b"s", b"u", b"a"
PROTO = b"\x80\x02"


def text(s):
    raw = s if isinstance(s, bytes) else s.encode()
    return b"X" + struct.pack("<I", len(raw)) + raw


def number(n):
    if 0 <= n < 256:
        return b"K" + bytes([n])
    raw = n.to_bytes((n.bit_length() + 8) // 8, "little", signed=True)
    return b"\x8a" + bytes([len(raw)]) + raw


def glob(module, name):
    return b"c" + module.encode() + b"\n" + name.encode() + b"\n"


def tup(*items):
    return MARK + b"".join(items) + TUPLE


def nums(*values):
    return tup(*map(number, values))


def put(k):
    return b"q" + bytes([k])


def get(k):
    return b"h" + bytes([k])


def dic(*pairs):
    return DICT + MARK + b"".join(k + v for k, v in pairs) + SETITEMS


def call(module, name, *args):
    return glob(module, name) + tup(*args) + REDUCE


HOOKS = glob("collections", "OrderedDict") + EMPTY + REDUCE
FALSE, TRUE = b"\x89", b"\x88"


def storage(key="0", count=6, kind=("torch", "FloatStorage"), tag="storage"):
    return tup(text(tag), glob(*kind), text(key), text("cpu"), number(count)) + PERSID


def tensor(store=None, offset=0, size=(2, 3), stride=(3, 1), extra=()):
    return call(
        "torch._utils", "_rebuild_tensor_v2", store or storage(), number(offset), nums(*size),
        nums(*stride), FALSE, HOOKS, *extra)


def pickled(value):
    """A whole pickle of protocol 2."""
    return PROTO + value + STOP


def state(*pairs):
    """A bare state dict: `w`, and what else is given."""
    return pickled(dic((text("w"), tensor()), *pairs))


def one(value):
    """A bare state dict with just this under `w`, beside a sound tensor."""
    return pickled(dic((text("fine"), tensor()), (text("w"), value)))


def beside(value):
    """A nested state dict with this value beside it."""
    return pickled(dic((text("model"), dic((text("w"), tensor()))), (text("x"), value)))


WEIGHTS = struct.pack("<6f", 1, 2, 3, 4, 5, 6)

# ---------------------------------------------------------------- zip files, by hand


class Entry:
    """One entry; keywords override what one of its two headers says."""

    def __init__(self, name, data, **over):
        self.name = name if isinstance(name, bytes) else name.encode()
        self.data = data
        self.over = over

    def header(self, which, offset):
        value = dict(
            signature=0x04034B50 if which == "local" else 0x02014B50, flags=0x0800, method=0,
            crc=zlib.crc32(self.data), packed=len(self.data), plain=len(self.data),
            name=self.name, extra=b"", offset=offset)
        for key, v in self.over.items():
            if key.startswith(which + "_"):
                value[key[len(which) + 1:]] = v
            elif key in value:
                value[key] = v
        common = struct.pack(
            "<HHHHHIIIHH", 20, value["flags"], value["method"], 0, 0x21, value["crc"],
            value["packed"], value["plain"], len(value["name"]), len(value["extra"]))
        if which == "local":
            return struct.pack("<I", value["signature"]) + common + value["name"] + value["extra"]
        return (struct.pack("<IH", value["signature"], 20) + common
                + struct.pack("<HHHII", 0, 0, 0, 0, value["offset"])
                + value["name"] + value["extra"])


def archive(entries, prefix=b"", shift=0, gap=b"", comment=b"", tail=b"", end=None, zip64=False,
            end64=None, locator=None, listed=None):
    """The bytes of a zip file. `shift` is added to every offset the directory gives."""
    body, directory = prefix, b""
    for entry in entries:
        offset = len(body) - len(prefix) + shift
        body += entry.header("local", offset) + entry.data
        directory += entry.header("central", offset)
    for entry, offset in listed or []:  # entries of the directory alone
        directory += entry.header("central", offset)
    start = len(body) - len(prefix) + shift
    count = len(entries) + len(listed or [])
    body += gap + directory
    value = dict(disk=0, count=count, size=len(directory), offset=start)
    if zip64:
        value64 = dict(count=count, size=len(directory), offset=start)
        value64.update(end64 or {})
        at = len(body) - len(prefix) + shift
        body += struct.pack("<IQHHIIQQQQ", 0x06064B50, 44, 45, 45, 0, 0, value64["count"],
                            value64["count"], value64["size"], value64["offset"])
        body += struct.pack("<IIQI", 0x07064B50, 0, at if locator is None else locator, 1)
        value.update(count=0xFFFF, size=0xFFFFFFFF, offset=0xFFFFFFFF)
    value.update(end or {})
    body += struct.pack("<IHHHHIIH", 0x06054B50, value["disk"], value["disk"], value["count"],
                        value["count"], value["size"], value["offset"], len(comment))
    return body + comment + tail


def parts(pickle=None, **storages):
    """The entries of a checkpoint; storage keys are given as d0, d1, …"""
    stores = storages or dict(d0=WEIGHTS)
    return ([Entry("m/data.pkl", state() if pickle is None else pickle),
             Entry("m/byteorder", b"little")]
            + [Entry("m/data/" + key[1:], data) for key, data in stores.items()]
            + [Entry("m/version", b"3\n")])


def checkpoint(pickle=None, **storages):
    return archive(parts(pickle, **storages))


def changed(index, **over):
    """A sound checkpoint with overrides for entry number `index` (2 is the storage)."""
    entries = parts()
    entries[index].over = over
    return archive(entries)


def inserted(*more):
    return archive(parts() + list(more))


FILES = {}
ODDS = {}


def bad(name, data):
    if not name.startswith("container."):
        name = "pytorch." + name
    assert name not in FILES, name
    FILES[name] = data


def odd(name, data):
    ODDS[name] = data


# ---------------------------------------------------------------- what is no checkpoint at all

bad("container.empty__no-bytes", b"")
bad("container.git-lfs__pointer", b"version https://git-lfs.github.com/spec/v1\n")  # a pointer, not the file
# torch.save before 1.6: a pickled magic number, then four more pickles
bad("container.legacy-torch__magic-number",
    b"\x80\x02\x8a\x0al\xfc\x9cF\xf9 j\xa8P\x19.\x80\x02M\xe9\x03." + pickled(DICT))
bad("container.pickle__bare", state())
bad("container.tar__storages", b"storages".ljust(257, b"\0") + b"ustar\0" + b"00".ljust(249, b"\0"))

# ---------------------------------------------------------------- the zip file

whole = checkpoint()
bad("zip-truncated__half", whole[:len(whole) // 2])
bad("zip-truncated__without-end", whole[:-22])
bad("zip-truncated__last-byte", whole[:-1])
bad("zip-truncated__bytes-behind-the-end", whole + b"more")
bad("zip-truncated__comment-too-short", archive(parts(), comment=b"hello")[:-2])
bad("container.unknown__zip-behind-a-stub", archive(parts(), prefix=b"#!/bin/sh\nexit\n"))
stub = b"PK\x03\x04 a self-extractor"
bad("zip-prefixed__stub-and-right-offsets", archive(parts(), prefix=stub, shift=len(stub)))
bad("zip-prefixed__gap-before-the-directory", archive(parts(), gap=b"hidden"))
bad("zip-prefixed__zip64", archive(parts(), prefix=b"PK\x03\x04 stub", zip64=True))
deflated = zlib.compress(WEIGHTS)[2:-4]
bad("zip-compressed__deflate",
    archive(parts()[:2] + [Entry("m/data/0", deflated, method=8, plain=24, crc=0)]))
bad("zip-compressed__method-99", changed(2, method=99))
bad("zip-encrypted__flag", changed(2, flags=0x0801))
bad("zip-encrypted__strong", changed(2, flags=0x0841))
bad("zip-duplicate__pickle", inserted(Entry("m/data.pkl", state())))
bad("zip-duplicate__storage", inserted(Entry("m/data/0", bytes(24))))
bad("zip-name__parent", inserted(Entry("m/data/../../x", b"")))
bad("zip-name__absolute", inserted(Entry("/etc/passwd", b"x")))
bad("zip-name__backslash", inserted(Entry("m\\..\\x", b"x")))
bad("zip-name__nul", inserted(Entry("m/data/0\0.txt", b"x")))
bad("zip-name__empty", inserted(Entry("", b"x")))
bad("zip-name__empty-part", inserted(Entry("m//x", b"x")))
bad("zip-name__not-utf8", inserted(Entry(b"m/\xff\xfe", b"x")))
bad("zip-name__hundred-marks", inserted(Entry("m/a" + "\u0301\u0316" * 50, b"x")))
# what the two headers of an entry say must agree
bad("zip-local-header__other-name", changed(2, local_name=b"m/data/1"))
bad("zip-local-header__longer-name", changed(2, local_name=b"m/data/00"))
bad("zip-local-header__other-size", changed(2, local_plain=20, local_packed=20))
bad("zip-local-header__other-checksum", changed(2, local_crc=1))
bad("zip-local-header__other-method", changed(2, local_method=8))
bad("zip-local-header__other-flags", changed(2, local_flags=0x0808))
bad("zip-local-header__no-signature", changed(2, local_signature=0x04034B51))
# entry `inner` lies inside the bytes of entry `outer`
inner = Entry("m/inner", b"12345678")
outer = Entry("m/outer", b"x" * 5 + inner.header("local", 0) + inner.data + b"y" * 5)
before = sum(len(e.header("local", 0)) + len(e.data) for e in parts())
bad("zip-overlap__entry-inside-another",
    archive(parts() + [outer],
            listed=[(inner, before + len(outer.header("local", 0)) + 5)]))
bad("zip-range__data-past-the-directory", changed(3, packed=4096, plain=4096))
bad("zip-range__header-past-the-end", changed(2, central_offset=0x7FFFFFFF))
bad("zip-range__2-to-the-64",
    changed(2, central_plain=0xFFFFFFFF, central_packed=0xFFFFFFFF,
            central_extra=struct.pack("<HHQQ", 1, 16, 2**64 - 1, 2**64 - 1)))
bad("zip-size__packed-and-plain-differ", changed(2, packed=24, plain=48))
bad("zip-count__one-too-many", archive(parts(), end=dict(count=5)))
bad("zip-count__one-too-few", archive(parts(), end=dict(count=3)))
bad("zip-count__more-than-the-bytes-hold", archive(parts(), zip64=True, end64=dict(count=2**40)))
# 200 entries whose local header is the same, with 64 KiB behind its name
shared = Entry("m/shared", b"x", local_extra=struct.pack("<HH", 9, 0xFFF0) + bytes(0xFFF0))
bad("zip-duplicate__a-header-shared-by-hundreds",
    archive([shared], listed=[(shared, 0)] * 200))
bad("zip-directory__signature", changed(1, central_signature=0x02014B51))
bad("zip-directory__runs-past-its-place", archive(parts(), end=dict(offset=2**31)))
bad("zip-directory__ends-inside-an-entry",
    (lambda b: b[:-22 - 11 - 46 + 28] + b"\xff\x7f" + b[-22 - 11 - 46 + 30:])(archive(
        parts()[:3] + [Entry("m/version00", b"3")])))
bad("zip-end64__wrong-place", archive(parts(), zip64=True, locator=10**6))
bad("zip-end64__disagrees", archive(parts(), zip64=True, end=dict(count=7)))
bad("zip-end64__2-to-the-63", archive(parts(), zip64=True, end64=dict(size=2**63)))
bad("zip-extra__zip64-too-short",
    changed(2, central_plain=0xFFFFFFFF, central_extra=struct.pack("<HHI", 1, 4, 24)))
bad("zip-multidisk__second-part", archive(parts(), end=dict(disk=1)))
bad("zip-checksum__pickle", changed(0, crc=0x12345678))
bad("zip-checksum__byteorder", changed(1, crc=0x12345678))

# ---------------------------------------------------------------- the archive's parts

bad("no-pickle__empty-zip", archive([]))
bad("no-pickle__at-the-root", archive([Entry("data.pkl", state()), Entry("data/0", WEIGHTS)]))
bad("no-pickle__other-zip", archive([Entry("word/document.xml", b"<w/>")]))
bad("several-pickles__two-folders", inserted(Entry("n/data.pkl", state())))
bad("torchscript__constants", inserted(Entry("m/constants.pkl", pickled(EMPTY))))
bad("torchscript__code", inserted(Entry("m/code/__torch__.py", b"def f(): pass\n")))
big = parts()
big[1].data = b"big"
bad("byte-order__big", archive(big))
neither = parts()
neither[1].data = b"middle"
bad("byte-order__neither", archive(neither))

# ---------------------------------------------------------------- the pickle's grammar


def machine(name, pickle):
    bad(name, checkpoint(pickle))


machine("pickle-truncated__empty", b"")
machine("pickle-truncated__without-stop", state()[:-1])
machine("pickle-truncated__inside-a-number", PROTO + b"J\x01\x02")
machine("pickle-truncated__inside-a-line", PROTO + b"cos")
machine("pickle-stack__stop-on-nothing", PROTO + STOP)
machine("pickle-stack__reduce-on-nothing", PROTO + REDUCE + STOP)
machine("pickle-stack__tuple-without-mark", PROTO + NONE + TUPLE + STOP)
machine("pickle-stack__below-the-mark", PROTO + NONE + MARK + b"0" + b"0" + b"0" + STOP)
machine("pickle-stack__key-without-value", PROTO + DICT + MARK + text("a") + SETITEMS + STOP)
machine("pickle-stack__mark-left-open", PROTO + DICT + MARK + STOP)
machine("pickle-stack__obj-without-class", PROTO + MARK + b"o" + STOP)
machine("pickle-memo__never-written", PROTO + get(7) + STOP)
machine("pickle-memo__long", PROTO + b"j\xff\xff\xff\xff" + STOP)
machine("pickle-memo__text-negative", PROTO + b"g-1\n" + STOP)
# lengths that no file has: to be refused before anything is allocated
machine("pickle-length__text-of-4-gigabytes", PROTO + b"X\xff\xff\xff\xff" + STOP)
machine("pickle-length__text-of-2-to-the-63", PROTO + b"\x8d" + struct.pack("<Q", 2**63) + STOP)
machine("pickle-length__bytes-of-2-to-the-64", PROTO + b"\x8e" + b"\xff" * 8 + STOP)
machine("pickle-length__bytearray-of-a-terabyte", PROTO + b"\x96" + struct.pack("<Q", 1 << 40))
machine("pickle-length__negative-long", PROTO + b"\x8b" + struct.pack("<i", -1) + STOP)
machine("pickle-length__negative-text", PROTO + b"T" + struct.pack("<i", -5) + STOP)
machine("pickle-length__frame", b"\x80\x04\x95" + struct.pack("<Q", 1 << 50) + state()[2:])
machine("pickle-opcode__unknown", PROTO + b"\xff" + STOP)
machine("pickle-opcode__out-of-band-buffer", b"\x80\x05\x97" + STOP)
machine("pickle-protocol__6", b"\x80\x06" + NONE + STOP)
machine("pickle-text__not-utf8", PROTO + text(b"\xc3\x28") + STOP)
machine("pickle-text__lone-surrogate", PROTO + text(b"\xed\xa0\x80") + STOP)
# Texts are compared in a normal form whose marks are sorted: that takes the square of a run's length.
MARKS = "a" + "\u0301\u0316" * 50
machine("pickle-text__hundred-marks-in-a-name", pickled(dic((text(MARKS), tensor()))))
machine("pickle-text__hundred-marks-by-their-numbers",
        pickled(dic((b"V" + MARKS.encode("unicode-escape").replace(b"\\x", b"\\u00") + b"\n",
                     tensor()))))
machine("pickle-text__hundred-marks-in-a-module", beside(glob(MARKS, "f")))
machine("pickle-text__quote-left-open", PROTO + b"S'abc\n" + STOP)
machine("pickle-text__bad-escape", PROTO + b"S'\\q'\n" + STOP)
machine("pickle-number__int", PROTO + b"I12x\n" + STOP)
machine("pickle-number__float", PROTO + b"Fone\n" + STOP)
machine("pickle-type__append-to-a-tuple", PROTO + EMPTY + NONE + APPEND + STOP)
machine("pickle-type__item-of-a-number", PROTO + number(1) + text("k") + NONE + SETITEM + STOP)
machine("pickle-type__call-without-tuple",
        PROTO + glob("collections", "OrderedDict") + NONE + REDUCE + STOP)
machine("pickle-type__class-named-by-numbers", PROTO + number(1) + number(2) + b"\x93" + STOP)
machine("pickle-type__state-of-a-number", PROTO + number(1) + DICT + BUILD + STOP)
machine("pickle-type__dict-from-numbers",
        pickled(call("collections", "OrderedDict", LIST + number(1) + APPEND)))
machine("pickle-trailing__second-pickle", state() + state())
# one list of pairs made into a dict again and again: quadratic time if it were allowed
pairs = LIST + MARK + tup(text("a"), NONE) * 300 + b"e" + put(0)
again = glob("collections", "OrderedDict") + get(0) + b"\x85" + REDUCE + b"0"
machine("pickle-size__dict-copied-again-and-again", PROTO + pairs + again * 300 + STOP)
for width in (1, 2, 4):
    code = {1: b"\x82", 2: b"\x83", 4: b"\x84"}[width]
    machine(f"extension-code__ext{width}", PROTO + code + b"\x01".ljust(width, b"\0") + STOP)

# ---------------------------------------------------------------- what would run code in Python

rm = text("rm -rf ~")
danger = {
    "os-system": call("os", "system", rm),
    "posix-system": call("posix", "system", rm),
    "nt-system": call("nt", "system", rm),
    "eval": call("builtins", "eval", text("1+1")),
    "exec-of-python-2": call("__builtin__", "exec", text("import os")),
    "builtins-exec": call("builtins", "exec", text("import os")),
    "builtins-open": call("builtins", "open", text("/etc/passwd")),
    "builtins-import": call("builtins", "__import__", text("os")),
    "subprocess": glob("subprocess", "Popen") + tup(rm) + b"\x81",
    "subprocess-newobj-ex": glob("subprocess", "Popen") + tup(rm) + DICT + b"\x92",
    "runpy": call("runpy", "_run_code", text("x")),
    "importlib": call("importlib", "import_module", text("os")),
    "pickle-loads": call("_pickle", "loads", text("x")),
    "marshal": call("marshal", "loads", text("x")),
    "function-type": call("types", "FunctionType", NONE),
    "attrgetter": call("operator", "attrgetter", text("system")),
    "torch-hub": call("torch.hub", "load", text("x")),
    "torch-load": call("torch", "load", text("x")),
    # a pickle in a pickle, out of sight of who looks at the outer one
    "torch-load-from-bytes": call("torch.storage", "_load_from_bytes", b"B\x02\0\0\0N."),
    "torch-config-module": call("torch.utils._config_module", "load_config", text("x")),
    "torch-bottleneck": call("torch.utils.bottleneck.__main__", "run_cprofile", text("x")),
    "torch-collect-env": call("torch.utils.collect_env", "run", rm),
    "logging-config": call("logging.config", "listen", number(9030)),
    "sqlite-of-a-file": call("sqlite3", "connect", text("/tmp/x")),
    "joblib": call("joblib", "load", text("x")),
    "site": call("site", "execsitecustomize"),
    "numpy-runstring": call("numpy.testing._private.utils", "runstring", rm, DICT),
    "ctypes": call("ctypes", "CDLL", text("libc.so.6")),
    "webbrowser": call("webbrowser", "open", text("http://x")),
    # INST and OBJ, the spellings of protocols 0 and 1
    "inst": MARK + rm + b"ios\nsystem\n",
    "obj": MARK + glob("os", "system") + rm + b"o",
    # STACK_GLOBAL, plainly, through the memo, and by a dotted name that reaches into a module
    "stack-global": text("os") + text("system") + b"\x93" + tup(rm) + REDUCE,
    "stack-global-by-memo": text("os") + put(9) + b"0" + get(9) + text("system") + b"\x93"
    + tup(rm) + REDUCE,
    "stack-global-dotted": text("torch.serialization") + text("os.system") + b"\x93" + tup(rm)
    + REDUCE,
    "stack-global-of-protocol-0": b"Vos\nV\\u0073ystem\n\x93" + tup(rm) + REDUCE,
    "module-as-attribute": glob("torch.serialization", "os"),
    "six-moves": call("six.moves.builtins", "eval", text("1")),
    "getattr-of-the-unknown": call("builtins", "getattr", glob("torch", "nn"), text("__dict__")),
    "getattr-by-name": call("builtins", "getattr", glob("torch", "serialization"), text("os")),
    "dunder-name": glob("torch.nn", "Module.__subclasses__") + EMPTY + REDUCE,
    # named, though never called
    "only-named": glob("os", "system"),
    "only-in-the-memo": glob("os", "system") + put(3) + b"0" + NONE,
    "as-setstate": glob("torch", "Generator") + EMPTY + b"\x81"
    + dic((text("__reduce__"), glob("os", "system"))) + BUILD,
}
for name, value in danger.items():
    machine("dangerous-global__" + name, beside(value))
machine("dangerous-global__as-the-weights", one(call("os", "system", rm)))
machine("dangerous-global__as-the-root", pickled(call("os", "system", rm)))
machine("computed-callable__partial",
        beside(call("functools", "partial", glob("torch", "zeros")) + nums(2) + REDUCE))
machine("computed-callable__text", beside(text("os.system") + tup(rm) + REDUCE))
machine("computed-callable__getattr-then-call",
        beside(call("builtins", "getattr", glob("torch", "nn"), text("Linear")) + nums(1, 2)
               + REDUCE))

# ---------------------------------------------------------------- the state dict

machine("no-state-dict__empty", pickled(DICT))
machine("no-state-dict__list", pickled(LIST + tensor() + APPEND))
machine("no-state-dict__tensor", pickled(tensor()))
machine("no-state-dict__number", pickled(number(3)))
machine("no-state-dict__one-level-too-odd",
        pickled(dic((text("state"), dic((text("model"), dic((text("w"), tensor()))))))))
machine("no-state-dict__only-numbers", pickled(dic((text("epoch"), number(3)))))
machine("no-state-dict__holds-itself", PROTO + DICT + put(0) + text("model") + get(0) + SETITEM
        + STOP)
machine("no-state-dict__a-million-nested-tuples", pickled(NONE + b"\x85" * 1_000_000))
machine("ambiguous-state-dict__two-keys",
        pickled(dic((text("model"), dic((text("w"), tensor()))),
                    (text("state_dict"), dic((text("w"), tensor()))))))
machine("whole-module__as-root",
        pickled(glob("mypackage.model", "Samba") + EMPTY + b"\x81"
                + dic((text("_parameters"), DICT)) + BUILD))
machine("whole-module__under-model",
        pickled(dic((text("model"), glob("mypackage.model", "Samba") + EMPTY + b"\x81"))))
machine("duplicate-name__tensor", state((text("w"), tensor())))
machine("name__empty", pickled(dic((text(""), tensor()))))
machine("name__nul", pickled(dic((text("a\0b"), tensor()))))

# ---------------------------------------------------------------- tensors and storages

machine("persistent-id__no-storage", one(tensor(store=number(1))))
machine("persistent-id__no-tuple", one(tensor(store=text("0") + PERSID)))
machine("persistent-id__too-short", one(tensor(store=tup(text("storage")) + PERSID)))
machine("persistent-id__other-tag", one(tensor(store=storage(tag="module"))))
machine("persistent-id__text", one(tensor(store=b"P0\n")))
machine("persistent-id__unknown-class", one(tensor(store=storage(kind=("torch", "Tensor")))))
machine("persistent-id__foreign-class", one(tensor(store=storage(kind=("mine", "FloatStorage")))))
for what, key in {"parent": "../../x", "absolute": "/etc/passwd", "empty": "", "dots": "..",
                  "folder": "a/b", "backslash": "a\\b", "nul": "0\0"}.items():
    machine("storage-key__" + what, one(tensor(store=storage(key=key))))
machine("storage-missing__no-entry", one(tensor(store=storage(key="17"))))
bad("storage-size__entry-too-short", checkpoint(state(), d0=WEIGHTS[:20]))
bad("storage-size__entry-too-long", checkpoint(state(), d0=WEIGHTS + bytes(4)))
machine("storage-size__negative", one(tensor(store=storage(count=-6))))
machine("storage-size__overflows", one(tensor(store=storage(count=2**62 + 6))))
machine("persistent-id__size-beyond-64-bits", one(tensor(store=storage(count=2**70))))
machine("dtype__complex-double", one(tensor(store=storage(kind=("torch", "ComplexDoubleStorage")))))
v3 = ("torch.storage", "UntypedStorage")


def v3_tensor(dtype, count=24):
    return call("torch._utils", "_rebuild_tensor_v3", storage(count=count, kind=v3), number(0),
                nums(2, 3), nums(3, 1), FALSE, HOOKS, dtype)


machine("dtype__float4", one(v3_tensor(glob("torch", "float4_e2m1fn_x2"))))
machine("tensor-arguments__too-few",
        one(call("torch._utils", "_rebuild_tensor_v2", storage(), number(0))))
machine("tensor-arguments__too-many", one(tensor(extra=(NONE, NONE))))
machine("tensor-arguments__size-no-tuple",
        one(call("torch._utils", "_rebuild_tensor_v2", storage(), number(0), number(6), nums(1),
                 FALSE, HOOKS)))
machine("tensor-arguments__fractional-size",
        one(call("torch._utils", "_rebuild_tensor_v2", storage(), number(0),
                 tup(b"G" + struct.pack(">d", 6)), nums(1), FALSE, HOOKS)))
machine("tensor-arguments__offset-beyond-64-bits", one(tensor(offset=2**80)))
machine("tensor-arguments__rank", one(tensor(size=(2, 3), stride=(1,))))
machine("tensor-arguments__65-dimensions", one(tensor(size=(1,) * 65, stride=(1,) * 65)))
machine("tensor-arguments__untyped-without-type", one(tensor(store=storage(count=24, kind=v3))))
machine("tensor-arguments__type-is-a-text", one(v3_tensor(text("float32"))))
machine("tensor-arguments__parameter-of-nothing",
        one(call("torch._utils", "_rebuild_parameter")))
wrapped = tensor()
for _ in range(20):
    wrapped = call("torch._utils", "_rebuild_parameter", wrapped, FALSE, HOOKS)
machine("tensor-arguments__parameter-of-parameters", one(wrapped))
bounds = {
    "offset-negative": dict(offset=-1),
    "offset-past-the-end": dict(offset=1),
    "offset-overflows": dict(offset=2**63 - 1),
    "size-negative": dict(size=(-2, 3)),
    "size-past-the-end": dict(size=(3, 3)),
    "stride-negative": dict(stride=(3, -1)),
    "stride-past-the-end": dict(stride=(4, 1)),
    "stride-overflows": dict(stride=(2**62, 2**62)),
    "product-overflows": dict(size=(2**32, 2**32), stride=(0, 0)),
    "bytes-overflow": dict(size=(2**61,), stride=(0,)),
    "product-overflows-before-a-zero": dict(size=(2**62, 4, 0), stride=(1, 1, 1)),
    "product-overflows-after-a-zero": dict(size=(0, 2**62, 4), stride=(1, 1, 1)),
}
for what, arguments in bounds.items():
    machine("tensor-bounds__" + what, one(tensor(**arguments)))
# 24 bytes that claim a terabyte, at once and by many names
machine("expanded__a-terabyte", one(tensor(size=(2**38,), stride=(0,))))
machine("expanded__overlapping-windows", one(tensor(size=(2**34, 6), stride=(0, 1))))
bad("expanded__many-names", checkpoint(pickled(dic(*[
    (text(f"w{k}"), tensor(size=(2**20, 6), stride=(0, 1))) for k in range(4)]))))
machine("unknown-global__numpy-array",
        one(call("numpy.core.multiarray", "_reconstruct", glob("numpy", "ndarray"), nums(0))))
machine("unknown-global__custom-function", one(call("mypackage", "rebuild", storage())))
machine("unknown-global__custom-subclass",
        one(call("torch._tensor", "_rebuild_from_type_v2", glob("torch._utils", "_rebuild_tensor_v2"),
                 glob("mypackage", "QuantizedTensor"),
                 tup(storage(), number(0), nums(6), nums(1), FALSE, HOOKS), DICT)))
machine("unsupported-tensor__conjugated",
        one(tensor(extra=(dic((text("conj"), TRUE)),))))
machine("unsupported-tensor__sparse", one(call("torch._utils", "_rebuild_sparse_tensor", NONE)))
machine("unsupported-tensor__quantized", one(call("torch._utils", "_rebuild_qtensor", storage())))
machine("unsupported-tensor__without-storage",
        one(call("torch._utils", "_rebuild_meta_tensor_no_storage", glob("torch", "float32"))))

# ---------------------------------------------------------------- several models, and what is none

OTHER = struct.pack("<6f", 10, 20, 30, 40, 50, 60)


def weights(key="0", name="w"):
    """A state dict of the tensor in storage `key`."""
    return dic((text(name), tensor(store=storage(key=key))))


def two(*pairs):
    """A file of several dicts; those of storage 1 hold other values than those of storage 0."""
    return checkpoint(pickled(dic(*[(text(k), v) for k, v in pairs])), d0=WEIGHTS, d1=OTHER)


bad("ambiguous-state-dict__student-and-teacher",
    two(("student", weights()), ("teacher", weights("1"))))
bad("ambiguous-state-dict__model-and-module", two(("model", weights()), ("module", weights("1"))))
bad("ambiguous-state-dict__two-averages", two(("ema_1", weights()), ("ema_2", weights("1"))))
bad("ambiguous-state-dict__nested-peers",
    two(("train", dic((text("student"), weights()), (text("teacher"), weights("1"))))))


def made(module, name, state=None, arguments=b""):
    """An object as protocol 2 makes it: the class's `__new__`, then its state."""
    return (glob(module, name) + (tup(arguments) if arguments else EMPTY) + b"\x81"
            + (state + BUILD if state else b""))


HOOKED = made("torch.nn.modules.module", "_WrappedHook", dic(
    (text("hook"), call("__builtin__", "getattr", made("mypackage.model", "Samba"),
                        text("load_hook")))))
# transformers' modules keep a bound method among their hooks: honest, and spelled getattr
machine("whole-module__with-a-hook", pickled(made("mypackage.model", "Samba", dic(
    (text("_load_state_dict_pre_hooks"), HOOKED), (text("_parameters"), dic((text("w"), tensor())))))))
machine("whole-module__distributed", pickled(made(
    "torch.nn.parallel.distributed", "DistributedDataParallel",
    dic((text("module"), made("mypackage.model", "Samba", dic((text("w"), tensor()))))))))
machine("whole-module__under-net-beside-an-optimizer", pickled(dic(
    (text("net"), made("mypackage.model", "Samba", dic((text("w"), tensor())))),
    (text("optimizer"), dic((text("state"), dic((number(0), dic((text("exp_avg"), tensor()))))),
                            (text("param_groups"), LIST))))))
machine("whole-module__of-protocol-0", pickled(
    call("copy_reg", "_reconstructor", glob("mypackage.model", "Samba"),
         glob("__builtin__", "object"), NONE) + dic((text("w"), tensor())) + BUILD))
# a module that does hide a call
machine("dangerous-global__in-a-whole-module", pickled(made("mypackage.model", "Samba", dic(
    (text("_parameters"), dic((text("w"), tensor()))),
    (text("hook"), call("os", "system", rm))))))
machine("dangerous-global__getattr-of-an-objects-class", beside(call(
    "builtins", "getattr", made("mypackage.model", "Samba"), text("__class__"))))
machine("dangerous-global__getattr-of-a-getattr", beside(call(
    "builtins", "getattr", call("builtins", "getattr", glob("mypackage", "Samba"), text("os")),
    text("system"))))
machine("computed-callable__method-of-an-object", beside(
    call("builtins", "getattr", made("mypackage.model", "Samba"), text("run")) + tup(rm) + REDUCE))
machine("computed-callable__class-inside-a-class-with-a-text", beside(
    call("builtins", "getattr", glob("mypackage", "Outer"), text("Inner")) + tup(rm) + REDUCE))

ARRAY = (call("numpy.core.multiarray", "_reconstruct", glob("numpy", "ndarray"), nums(0),
              b"C\x01b") + tup(number(1), nums(2), call("numpy", "dtype", text("f4"), FALSE, TRUE),
                               FALSE, b"C\x08" + bytes(8)) + BUILD)
machine("numpy-weights__bare", pickled(dic((text("w"), ARRAY))))
machine("numpy-weights__under-model", pickled(dic((text("model"), dic((text("w"), ARRAY))))))
machine("unknown-global__object-with-a-tensor",
        one(made("mypackage", "Packed", dic((text("data"), tensor())))))
machine("zero-shard__optimizer", pickled(dic(
    (text("optimizer_state_dict"), dic(
        (text("zero_stage"), number(3)), (text("fp32_flat_groups"), LIST + tensor() + APPEND))),
    (text("ds_version"), text("0.14.0")))))
nothing = tensor(size=(0,), stride=(1,))
bad("zero3-placeholders__bare", checkpoint(pickled(dic(
    (text("a.weight"), nothing), (text("b.weight"), nothing)))))
bad("zero3-placeholders__with-norms-that-stay-whole", checkpoint(pickled(dic((text("module"), dic(
    (text("a.weight"), nothing), (text("b.weight"), nothing), (text("norm.weight"), tensor()),
    (text("norm.bias"), tensor())))))))
bad("flat-parameters__fsdp", checkpoint(pickled(dic(
    (text("_fsdp_wrapped_module._flat_param"), tensor())))))
bad("flat-parameters__old", checkpoint(pickled(dic((text("layers.0.flat_param"), tensor())))))

TORCH = "torch.distributed."


def subclass(kind, size, state):
    """A tensor of several ranks."""
    return call("torch._tensor", "_rebuild_from_type_v2",
                glob("torch._utils", "_rebuild_wrapper_subclass"), glob(*kind),
                tup(glob(*kind), glob("torch", "float32"), nums(*size), nums(size[1], 1), number(0),
                    call("torch.serialization", "_get_layout", text("torch.strided")),
                    call("torch", "device", text("cpu")), FALSE), state)


def dtensor(size, placement, ranks, parameter=False):
    mesh = made(TORCH + "device_mesh", "DeviceMesh", dic(
        (text("_flatten_rank_map"), nums(*range(ranks))), (text("_hash"), number(-7401783113852209226))))
    spec = made(TORCH + "tensor._dtensor_spec", "DTensorSpec", dic(
        (text("mesh"), mesh),
        (text("placements"), tup(made(TORCH + "tensor.placement_types", placement, DICT)))))
    local = dic((text("_local_tensor"), tensor()), (text("_spec"), spec))
    return subclass((TORCH + "tensor", "DTensor"), size,
                    tup(dic((text("_is_param"), TRUE)) if parameter else NONE, local))


def sharded(size, ranks):
    shard = made(TORCH + "_shard.sharded_tensor.shard", "Shard", tup(NONE, dic(
        (text("tensor"), tensor()), (text("metadata"), NONE))))
    metadata = made(TORCH + "_shard.sharded_tensor.metadata", "ShardedTensorMetadata", dic(
        (text("shards_metadata"), LIST + MARK + number(0) * ranks + b"e")))
    kind = (TORCH + "_shard.sharded_tensor.api", "ShardedTensor")
    group = call("__builtin__", "getattr", glob(*kind), text("ProcessGroupState")) + EMPTY + b"\x81"
    return subclass(kind, size, tup(LIST + shard + APPEND, metadata, group + DICT + BUILD, NONE, FALSE))


machine("sharded-tensor__dtensor-over-two-ranks", pickled(dic(
    (text("v"), dtensor((4, 3), "Shard", 2)), (text("w"), dtensor((4, 3), "Shard", 2)))))
machine("sharded-tensor__dtensor-parameter", one(dtensor((4, 3), "Shard", 2, parameter=True)))
machine("sharded-tensor__dtensor-of-partial-sums", one(dtensor((2, 3), "Partial", 2)))
machine("sharded-tensor__fsdp", one(sharded((4, 3), 2)))

# dicts of tensors that no key reaches
bad("no-state-dict__a-list-of-two", checkpoint(pickled(
    LIST + weights() + APPEND + weights("0", "v") + APPEND)))
bad("no-state-dict__a-tuple", checkpoint(pickled(tup(weights(), number(3)))))
bad("no-state-dict__models-in-a-list", checkpoint(pickled(dic(
    (text("models"), LIST + weights() + APPEND)))))
bad("no-state-dict__numbers-as-keys", checkpoint(pickled(dic(
    (number(0), weights()), (number(1), weights("0", "v"))))))
# a program's code, compressed
CODE = b"class A:\n  pass\n"
bad("torchscript__deflated-code", archive(
    parts() + [Entry("m/code/__torch__.py", zlib.compress(CODE)[2:-4], method=8,
                     plain=len(CODE), crc=zlib.crc32(CODE)),
               Entry("m/constants.pkl", b"\x80\x02).")]))

# ---------------------------------------------------------------- odd, but legal

odd("plain", checkpoint())
odd("zip-comment", archive(parts(), comment=b"PK\x05\x06 a comment that looks like an end"))
odd("zip64", archive(parts(), zip64=True))
odd("without-byteorder", archive([e for e in parts() if e.name != b"m/byteorder"]))
odd("without-checksums", archive([Entry(e.name, e.data, crc=0) for e in parts()]))
odd("folders-as-entries", archive([Entry("m/", b"")] + parts() + [Entry("m/data/", b"")]))
odd("sizes-behind-the-data",
    archive([Entry(e.name, e.data, flags=0x0808, local_crc=0, local_plain=0, local_packed=0)
             for e in parts()]))
odd("zip64-sizes-of-a-small-entry",
    archive([Entry(e.name, e.data, central_plain=0xFFFFFFFF, central_packed=0xFFFFFFFF,
                   central_extra=struct.pack("<HHQQ", 1, 16, len(e.data), len(e.data)))
             for e in parts()]))
odd("metadata-attribute",
    checkpoint(pickled(HOOKS + MARK + text("w") + tensor() + SETITEMS
                       + dic((text("_metadata"), HOOKS)) + BUILD)))
odd("entries-that-are-no-tensors",
    checkpoint(state((text("_metadata"), DICT), (text("version"), number(2)),
                     (text("m._extra_state"), call("mypackage", "make", NONE)))))
odd("nested-twice",
    checkpoint(pickled(dic((text("model"), dic((text("module"), dic((text("w"), tensor()))))),
                           (text("epoch"), number(3))))))
odd("unknown-things-beside", checkpoint(beside(call("mypackage", "Thing", number(1)))))
odd("enum-beside",
    checkpoint(beside(call("builtins", "getattr", glob("mypackage", "Color"), text("RED")))))
odd("extension-of-a-dict", checkpoint(pickled(
    glob("mypackage", "State") + EMPTY + b"\x81" + MARK + text("w") + tensor() + SETITEMS)))
odd("holds-itself-beside",
    checkpoint(beside(DICT + put(5) + text("me") + get(5) + SETITEM)))
# 2^60 values as JSON if shared lists were written out
shared = LIST + put(1)
for _ in range(60):
    shared = MARK + shared + get(1) + b"l" + put(1)
odd("doubles-sixty-times-beside", checkpoint(beside(shared)))
odd("deep-tuples-beside", checkpoint(beside(NONE + b"\x85" * 5000)))
odd("parameter",
    checkpoint(pickled(dic((text("w"), call("torch._utils", "_rebuild_parameter", tensor(), TRUE,
                                            HOOKS))))))
odd("first-version-of-rebuild", checkpoint(pickled(dic(
    (text("w"), call("torch._utils", "_rebuild_tensor", storage(), number(0), nums(2, 3),
                     nums(3, 1)))))))
odd("untyped-storage", checkpoint(pickled(dic((text("w"), v3_tensor(glob("torch", "float32")))))))
odd("cuda-storage",
    checkpoint(pickled(dic((text("w"), tensor(storage(kind=("torch.cuda", "FloatStorage"))))))))

# one dict of tensors, wherever it lies
for key in ("net", "params", "generator", "weights", "backbone", "model_state", "ema", "params_ema"):
    odd("under-" + key, two((key, weights()), ("epoch", number(3))))
odd("under-app-model", two(("app", dic((text("model"), weights()), (text("step"), number(7))))))
odd("under-net-beside-an-optimizer", two(
    ("net", weights()),
    ("optimizer", dic((text("state"), dic((number(0), dic((text("exp_avg"), tensor()))))),
                      (text("param_groups"), LIST))),
    ("opt_g", dic((text("w"), dic((text("exp_avg"), tensor()), (text("step"), tensor()))))),
    ("rng", tensor()), ("lr_scheduler", dic((text("base_lrs"), tensor())))))
# a model and its average: the model is read
for model, ema in (("model", "model_ema"), ("state_dict", "ema_state_dict"), ("model", "shadow"),
                   ("net", "ema"), ("generator", "generator_ema"), ("params", "params_ema")):
    odd(f"{model}-beside-{ema}", two((ema, weights("1")), (model, weights())))
odd("model-beside-a-teacher", two(("model", weights()), ("teacher", weights("1"))))
odd("model-beside-an-average-among-callbacks", two(
    ("state_dict", weights()), ("callbacks", dic((text("EMACallback"), dic(
        (text("ema_weights"), weights("1"))))))))
odd("model-beside-a-whole-average", two(
    ("model", weights()), ("ema", made("mypackage.model", "Samba", weights("1")))))
# copies of the model where no key, or only a long one, reaches
COPY = tensor(store=storage(key="1"))
odd("model-beside-a-list", two(
    ("model", weights()), ("ema", dic((text("decay"), number(1)),
                                      (text("shadow_params"), LIST + COPY + APPEND)))))
odd("model-beside-a-list-of-dicts", two(("model", weights()), ("emas", LIST + weights("1") + APPEND)))
odd("model-beside-a-deep-dict", two(
    ("model", weights()), ("avg", dic((text("a"), dic((text("b"), dic((text("c"), dic(
        (text("d"), weights("1"))))))))))))
odd("model-beside-a-list-among-optimizers", two(
    ("state_dict", weights()), ("optimizer_states", LIST + dic(
        (text("state"), dic((number(0), dic((text("exp_avg"), COPY))))), (text("param_groups"), LIST),
        (text("ema"), LIST + COPY + APPEND)) + APPEND)))
# what holds no weights
NP = "numpy._core.multiarray"
F8 = call("numpy", "dtype", text("f8"), FALSE, TRUE)
LATIN = call("_codecs", "encode", text("8 bytes!"), text("latin1"))
harmless = {
    "size": call("torch", "Size", nums(3, 4)),
    "numpy-scalar": call(NP, "scalar", F8, LATIN),
    "numpy-array": ARRAY,
    "device": call("torch", "device", text("cuda"), number(0)),
    "dtype": glob("torch", "bfloat16"),
    "path": call("pathlib", "PosixPath", text("/"), text("data")),
    "set": call("__builtin__", "set", LIST + number(1) + APPEND),
    "frozenset": call("__builtin__", "frozenset", LIST + number(1) + APPEND),
    "datetime": call("datetime", "datetime", LATIN, call("datetime", "timezone", call(
        "datetime", "timedelta", number(0), number(0), number(0)))),
    "timedelta": call("datetime", "timedelta", number(1), number(0), number(0)),
    "enum": call("mypackage", "Color", number(1)),
    "enum-in-a-class": call("__builtin__", "getattr", glob("mypackage", "Outer"), text("Color"))
    + tup(number(1)) + REDUCE,
    "counter": call("collections", "Counter", dic((text("a"), number(1)))),
    "defaultdict": call("collections", "defaultdict", glob("__builtin__", "list")),
    "deque": call("collections", "deque", LIST),
    "namedtuple": made("mypackage", "Pair", arguments=number(1) + number(2)),
    "partial": call("functools", "partial", glob("torch._C._nn", "gelu"))
    + tup(glob("torch._C._nn", "gelu"), EMPTY, DICT, NONE) + BUILD,
    "partial-of-print": call("functools", "partial", glob("__builtin__", "print")),
    "generator": call("torch._C", "Generator", call("torch", "device", text("cpu")))
    + tup(number(0), NONE, NONE, tensor()) + BUILD,
    "complex": call("__builtin__", "complex", number(0), number(1)),
    "decimal": call("decimal", "Decimal", text("1.5")),
    "fraction": call("fractions", "Fraction", text("1/2")),
    "uuid": made("uuid", "UUID", dic((text("int"), number(2**127)))),
    "bytes-io": made("_io", "BytesIO", tup(LATIN, number(0), NONE)),
    "random-state": call("numpy.random._pickle", "__randomstate_ctor", call(
        "numpy.random._pickle", "__bit_generator_ctor", glob("numpy.random._mt19937", "MT19937"))),
    "seed-sequence": call("numpy.random.bit_generator", "__pyx_unpickle_SeedSequence",
                          glob("numpy.random.bit_generator", "SeedSequence"), number(1), NONE),
    "namespace": made("argparse", "Namespace", dic((text("lr"), number(1)))),
    "none": NONE,
    "long": number(2**100),
}
for what, value in harmless.items():
    odd("harmless-" + what, checkpoint(state((text("x"), value))))
odd("harmless-all", checkpoint(state(*[(text(k), v) for k, v in harmless.items()])))
odd("extra-state-of-bytes", checkpoint(state(
    (text("m._extra_state"), tensor(store=storage(kind=("torch", "ByteStorage"), count=24), size=(24,),
                                    stride=(1,))),
    (text("n._extra_state"), made("_io", "BytesIO", tup(LATIN, number(0), NONE))))))
# numbers that are written longer than they need
wide = {"count": b"\x8a\x10" + (6).to_bytes(16, "little"), "zero": b"\x8a\x0a" + bytes(10),
        "four": b"\x8b\x14\0\0\0" + (3).to_bytes(20, "little")}
odd("long-numbers-with-padding", checkpoint(pickled(dic(
    (text("w"), call("torch._utils", "_rebuild_tensor_v2",
                     tup(text("storage"), glob("torch", "FloatStorage"), text("0"), text("cpu"),
                         wide["count"]) + PERSID, wide["zero"], tup(number(2), wide["four"]),
                     nums(3, 1), FALSE, HOOKS))))))
odd("long-numbers-beside", checkpoint(beside(tup(
    number(2**64), number(-2**64), number(2**127), b"\x8a\xff" + b"\x7f" * 255,
    b"\x8a\x10" + b"\xff" * 16, b"L000000000000000000000000000000005L\n"))))
# a mesh of one device, copies on every rank, one shard that is all
odd("dtensor-on-one-device", checkpoint(pickled(dic((text("w"), dtensor((2, 3), "Shard", 1))))))
odd("dtensor-parameter", checkpoint(pickled(dic((text("w"), dtensor((2, 3), "Shard", 1, True))))))
odd("dtensor-replicated", checkpoint(pickled(dic((text("w"), dtensor((2, 3), "Replicate", 4))))))
odd("dtensor-partial-on-one-device", checkpoint(pickled(dic((text("w"), dtensor((2, 3), "Partial", 1))))))
odd("sharded-tensor-of-one-shard", checkpoint(pickled(dic((text("w"), sharded((2, 3), 1))))))
odd("hooks-beside", checkpoint(beside(HOOKED)))


def main():
    for folder, files, pattern, prefix in (
            (BAD, FILES, "*.pt", ""), (ODD, ODDS, "odd__*.pt", "odd__")):
        folder.mkdir(parents=True, exist_ok=True)
        for old in folder.glob(pattern):
            old.unlink()
        for name, data in files.items():
            (folder / f"{prefix}{name}.pt").write_bytes(data)
        print(folder.name, folder.parent.name, len(files), sum(map(len, files.values())), "bytes")


if __name__ == "__main__":
    main()
