"""The checks, each a function that yields (subject, complaint or None)."""
import glob
import json
import os
import re
import shutil
from concurrent.futures import ThreadPoolExecutor

import h5py
import torch
from safetensors.torch import load_file, save_file

from . import cases, loading
from . import files as F
from . import model as M
from . import write as W

LAYOUTS = ["hf", "fla", "mamba_ssm", "lit_gpt", "torchscale", "berlino"]
ROUNDS_VALUES = {("berlino", "fla")}  # k scaled, v centred: values are rounded, so float64 parity is not at 1e-10
KEEPS_F32 = ("A_log", ".D", "dt_proj.bias", "dt_bias")


class Bench:
    def __init__(self, tool, work):
        self.tool, self.work, self.pool = F.Tool(tool), work, ThreadPoolExecutor(os.cpu_count())
        self.results = {}  # (case, layout, target) -> Result, source folder
        self.logits = {}

    def dst(self, *name):
        return os.path.join(self.work, "out", "-".join(name))

    def each(self, f, jobs):
        for r in self.pool.map(lambda j: list(f(*j)), jobs):
            yield from r


def meanings(a, b):
    a, b = a.meaning(), b.meaning()
    if 1.0 != next((x["scale"] for x in (a, b) if x["scale"]), 1.0):
        a.pop("tied")  # a scaled embedding is untied
    a.pop("scale")
    return [f"{k}: {a[k]} became {b[k]}"[:400] for k in a if a[k] != b[k]]


def guarded(f):
    def g(*a):
        try:
            yield from f(*a)
        except Exception as e:
            yield " ".join(x for x in a if isinstance(x, str)), f"{f.__name__}: {type(e).__name__}: {e}"[:600]
    return g


# ------------------------------------------------------------------ every case to every layout
def words(text):
    return set(re.findall(r"[A-Za-z_][A-Za-z_0-9.]+", text))


def conversions(bench, cs):
    names = set()
    for _, _, d, _ in cs:
        c = F.config(d)
        names |= set(c) | {k for v in c.values() if isinstance(v, dict) for k in v}

    @guarded
    def one(case, layout, folder, to, must):
        what, dst = f"{case} {layout} -> {to}", bench.dst(case, layout, to)
        os.makedirs(os.path.dirname(dst), exist_ok=True)
        r = bench.tool.convert(folder, dst, to)
        bench.results[case, layout, to] = r, folder
        if r.rc:
            text = " ".join(p["message"] + " " + str(p["subject"]) + " " + str(p["help"]) for p in r.problems)
            keys = {w for w in words(text) if w in names or w.count(".") >= 1}
            left = [p for p in os.listdir(os.path.dirname(dst)) if os.path.basename(dst) + "." in p or p == os.path.basename(dst)]
            yield what, (f"should convert: {r.why()}" if must else f"refused with {r.why()}" if r.rc != 1 else
                         f"left behind {left}" if left else None if keys or any(p["code"] == "convert.no-such-mixer" for p in r.problems) else f"the refusal names no config key or tensor: {r.why()}")
            return
        if must is False:
            yield what, f"should be refused, but is {r.doc['exactness']}: {r.doc['reasons']}"
        src, c, w = M.read(layout, F.config(folder), F.weights(folder)), F.config(dst), F.weights(dst)
        yield what + " tensors", "; ".join(W.compare(W.write(to, src, c), w)[:6]) or None
        yield what + " config", "; ".join(meanings(src, M.read(to, c, w))) or None

    yield from bench.each(one, [(n, lay, d, t, None if ok is None else t in ok) for n, lay, d, ok in cs for t in LAYOUTS])


def done(bench):
    return [(k, src, bench.dst(*k)) for k, (r, src) in sorted(bench.results.items()) if r.rc == 0]


def verified(bench, cs):
    """convert --verify holds on every conversion."""
    @guarded
    def one(key, src, dst):
        r = bench.tool.convert(src, dst + ".v", key[2], "--verify")
        yield "--verify " + " ".join(key), r.why() if r.rc else None
    yield from bench.each(one, done(bench))


def parity(bench, cs):
    """The tool's own: source against result, float64."""
    @guarded
    def one(key, src, dst):
        r = bench.tool("parity", src, dst, "--random", "2x24", "--seed", "3", "--json")
        what = "parity " + " ".join(key)
        if r.rc or r.doc["verdict"] != "pass":
            yield what, f"{r.why()} {r.doc and r.doc['first_divergence']}"
            return
        exact = bench.results[key][0].doc["exactness"]
        rel = max(s["relative"] for s in r.doc["stages"])
        yield what, None if exact == "rounding" or key[1:] in ROUNDS_VALUES or rel <= 1e-10 else f"is called {exact}, but differs by {rel:.2g} in float64"
        if exact == "bitwise" and rel != 0:
            yield what, f"is called bitwise, but differs by {rel:.2g}"
    yield from bench.each(one, done(bench))


def back(bench, cs):
    """A -> B -> A: the tensors of A, or at least its function where a width was padded or a layer added."""
    @guarded
    def one(key, src, dst):
        case, layout, to = key
        half = any(t.dtype == torch.bfloat16 for t in F.weights(src).values())
        if key[1:] in (("berlino", "fla"), ("lit_gpt", "torchscale")) or half and to == "torchscale":
            return  # one way: folded means and score norms have no inverse there; folding in bfloat16 rounds
        what, again = f"back {case} {layout} -> {to} -> {layout}", bench.dst("back", *key)
        r = bench.tool.convert(dst, again, layout)
        if r.rc:
            yield what, r.why()
            return
        a, b = F.weights(bench.dst(case, layout, layout)), F.weights(again)
        bad = [n for n in a.keys() | b.keys() if n not in a or n not in b or not F.same(a[n], b[n])]
        renamed = a.keys() != b.keys() and all(F.same(a[n], b[n]) for n in a.keys() & b.keys())  # another class with the same function
        if not bad:
            yield what, None
            return
        p = bench.tool("parity", src, again, "--random", "1x24", "--json")
        rounds = key[1:] in ROUNDS_VALUES or "torchscale" in key[1:]
        yield what, (None if p.rc == 0 and (renamed or rounds or len(bench.results[key][0].doc["reasons"])) else
                     f"{sorted(bad)[:3]} differ, reasons {bench.results[key][0].doc['reasons']}; parity {p.why() if p.rc else 'passes'}")
    yield from bench.each(one, [j for j in done(bench) if j[0][1] != j[0][2]])


# ------------------------------------------------------------------ the frameworks' own classes
def frameworks(bench, cs):
    """Strict loads of sources and results; the real modules' logits agree; the tool agrees with their traces."""
    traces = []

    def trace(key, folder, layout):
        if layout == "mamba_ssm" and layout in loading.CHECKOUTS:
            return loading.mamba_ssm(folder), None
        m = loading.load(folder, layout)
        if m is None:
            return None
        # fla's Mamba-2 without a GPU tiles groups where its own decoding, mamba_ssm and transformers repeat them
        if layout == "fla" and F.config(folder).get("model_type") == "mamba2" and F.config(folder).get("n_groups", 1) > 1:
            return m.complaints, None
        t = m.trace(torch.randint(0, 61, (2, 20), generator=torch.Generator().manual_seed(5)))
        path = bench.dst("trace", *key) + ".safetensors"
        save_file(t, path)
        traces.append((key, folder, path))
        plain = loading.load(folder, layout, True).trace(t["input_ids"])["logits"] if layout == "lit_gpt" else t["logits"]
        return m.complaints, plain

    @guarded
    def one(case, layout, folder):
        src = None
        if not case.startswith("old-"):
            src = trace((case, layout), folder, layout)
            if src:
                yield f"load {case} {layout}", "; ".join(src[0]) or None
        for to in LAYOUTS:
            if (case, layout, to) not in bench.results or bench.results[case, layout, to][0].rc:
                continue
            for r in guarded(two)(case, layout, to, src):
                yield r

    def two(case, layout, to, src):
        what = f"load {case} {layout} -> {to}"
        res = trace((case, layout, to), bench.dst(case, layout, to), to)
        if not res:
            return
        yield what, "; ".join(res[0]) or None
        if src and src[1] is not None and res[1] is not None:
            n = min(src[1].shape[2], res[1].shape[2])
            e = float((src[1] - res[1])[..., :n].abs().max() / src[1].abs().max())
            # torchscale divides scores before the group norm's eps: LAYOUTS 3.4
            bound = 1e-4 if "torchscale" in (layout, to) and layout != to else 3e-5
            half = any(x.dtype != torch.float32 and x.is_floating_point() for x in F.weights(folder_of(case, layout)).values())
            if half and (layout, to) == ("fla", "torchscale"):
                bound = 2 ** -8 / 3  # the norms' weights are folded into projections, which are rounded to bfloat16 again
            yield what.replace("load", "forward"), None if e <= bound * (3 if half else 1) else f"real modules' logits differ by {e:.2g} of the largest"

    folders = {(n, lay): d for n, lay, d, _ in cs}

    def folder_of(case, layout):
        return folders[case, layout]
    for n, lay, d, _ in cs:
        yield from one(n, lay, d)

    @guarded
    def compare(key, folder, path):
        r = bench.tool("parity", folder, "--trace", path, "--precision", "float32", "--rtol", "3e-5", "--json")
        yield "trace of the real module " + " ".join(key), None if r.rc == 0 else f"{r.why()} {[(s['name'], s['relative']) for s in (r.doc or {}).get('stages', [])][-1:]} {r.doc and r.doc['first_divergence']}"
    yield from bench.each(compare, traces)


def given_traces(bench, cs):
    @guarded
    def one(case, layout, folder):
        t = os.path.join(os.path.dirname(folder.rstrip("/")), "trace.safetensors")
        r = bench.tool("parity", folder, "--trace", t, "--json")
        yield f"given trace {case} {layout}", None if r.rc == 0 else f"{r.why()} {r.doc and r.doc['first_divergence']}"
    yield from bench.each(one, [c[:3] for c in cs if os.path.exists(os.path.join(os.path.dirname(c[2].rstrip("/")), "trace.safetensors"))])


# ------------------------------------------------------------------ containers, casts, vocabulary
HEADS = {"lm_head.weight", "output_projection.weight"}


def containers(bench, cs):
    """Six hops through all containers and back, bit for bit; the config is in the HDF5 file."""
    @guarded
    def one(case, layout, folder):
        a, cur = {k.removeprefix("decoder."): v for k, v in F.weights(folder).items()}, folder
        for k, (c, extra) in enumerate([("hdf5", []), ("pytorch", []), ("safetensors", ["--max-shard-size", "50KB"]), ("hdf5", []), ("safetensors", []), ("pytorch", [])]):
            dst, what = bench.dst("hop", case, layout, str(k)), f"container {case} {layout} {c} ({k})"
            r = bench.tool.convert(cur, dst, layout, "--container", c, *extra)
            if r.rc:
                yield what, r.why()
                return
            b = F.weights(dst)
            bad = [n for n in a.keys() | b.keys() if not (n in a and n in b and F.same(a[n], b[n])) and not (n in HEADS and (n in a) != (n in b))]
            yield what, f"{sorted(bad)[:4]} differ" if bad else None if r.doc["exactness"] == "bitwise" else f"called {r.doc['exactness']}: {r.doc['reasons']}"
            if c == "pytorch":
                torch.load(next(p for e in ("pth", "bin", "pt") for p in glob.glob(f"{dst}/*.{e}")), weights_only=True)
            if c == "hdf5":
                cfg = F.config(dst)
                for p in glob.glob(dst + "/*.json"):
                    os.remove(p)
                yield what + " config attribute", None if F.config(dst) == cfg else "h5py does not find the config in the file"
            if k:
                shutil.rmtree(cur)
            cur = dst
    yield from bench.each(one, [c[:3] for c in cs if not c[0].startswith("old-")])


def casts(bench, cs):
    @guarded
    def one(case, layout, folder, dtype, all_):
        dst, what, t = bench.dst("cast", case, layout, dtype, str(all_)), f"--dtype {dtype}{' --cast-all' if all_ else ''} {case}", getattr(torch, dtype)
        r = bench.tool.convert(folder, dst, layout, "--dtype", dtype, *(["--cast-all"] if all_ else []))
        if r.rc:
            yield what, r.why()
            return
        a, b, bad = F.weights(bench.dst(case, layout, layout)), F.weights(dst), []
        for n in a:
            kept = not all_ and a[n].dtype == torch.float32 and n.endswith(KEEPS_F32)
            want = a[n] if kept or "retnet_rel_pos" in n else a[n].to(t)
            if not F.same(want, b[n]):
                bad.append(f"{n} {a[n].dtype} became {b[n].dtype}" + ("" if b[n].dtype != want.dtype else ", other values"))
        yield what, "; ".join(bad[:4]) or None
        rounds = any(not torch.equal(a[n].double(), b[n].double()) for n in a)
        yield what + " exactness", None if r.doc["exactness"] == "rounding" or not rounds else f"{r.doc['exactness']}, but values {'change' if rounds else 'do not change'}"
    pick = {}
    for n, lay, d, _ in cs:
        pick.setdefault((lay, F.config(d).get("model_type")), []).append((n, lay, d))
    jobs = [(*c, t, False) for v in pick.values() for c in v[:3] for t in ("float16", "bfloat16", "float32")]
    jobs += [(*v[0], t, True) for v in pick.values() for t in ("float16", "bfloat16")]
    yield from bench.each(one, jobs)
    # overflow and NaN
    n, lay, d = next(c[:3] for c in cs if c[0] == "hf-mamba-odd")
    sd = F.weights(d)
    x = sd["backbone.layers.0.mixer.in_proj.weight"]
    x[0, :5] = torch.tensor([1e5, -7e4, 65519.0, 65520.0, float("nan")])
    x[1, 0] = float("inf")
    src = F.save_safetensors(bench.dst("overflow-src"), sd, F.config(d))
    r = bench.tool.convert(src, bench.dst("overflow"), lay, "--dtype", "float16")
    text = " ".join(p["subject"] + " " + p["message"] for p in r.problems if p["severity"] == "warning")
    yield "overflow to float16", None if r.rc == 0 and re.search(r"\b3\b", text) else f"expected a warning with the count 3: {r.why()}"
    y = F.weights(bench.dst("overflow"))["backbone.layers.0.mixer.in_proj.weight"]
    yield "overflow values", None if torch.equal(torch.nan_to_num(x.half(), nan=7.0), torch.nan_to_num(y, nan=7.0)) else "differ from torch's"


def vocabulary(bench, cs):
    @guarded
    def one(case, layout, folder):
        a = M.read(layout, F.config(folder), F.weights(folder))
        V = a.emb.shape[0]
        for rows in (V + 7, V - 9):
            dst, what = bench.dst("vocab", case, layout, str(rows)), f"--vocab-size {rows - V:+d} {case}"
            r = bench.tool.convert(folder, dst, layout, "--vocab-size", str(rows))
            if r.rc:
                yield what, r.why()
                continue
            try:
                b = M.read(layout, F.config(dst), F.weights(dst))
            except AssertionError as e:
                yield what, str(e)
                continue
            n, bad = min(rows, V), []
            for x, y, name in ((a.emb, b.emb, "embedding"), (a.head, b.head, "head")):
                if (x is None) != (y is None):
                    bad.append(f"{name} is {'gone' if y is None else 'untied'}")
                elif x is not None and (y.shape[0] != rows or not torch.equal(x[:n], y[:n]) or y[n:].any()):
                    bad.append(f"{name} differs")
            warned = any(p["severity"] == "warning" for p in r.problems)
            if warned != (rows < V):
                bad.append(f"warnings: {r.problems}")
            yield what, "; ".join(bad) or None
            if layout == "mamba_ssm" and layout in loading.CHECKOUTS:
                yield what + " loads", "; ".join(loading.mamba_ssm(dst)[:3]) or None
            elif layout in ("hf", "fla") or layout in loading.CHECKOUTS:
                yield what + " loads", "; ".join(loading.load(dst, layout).complaints) or None
    pick = {}
    for n, lay, d, _ in cs:
        if not n.startswith("old-"):
            pick.setdefault((lay, F.config(d).get("model_type"), F.config(d).get("tie_word_embeddings")), (n, lay, d))
    for j in pick.values():
        yield from one(*j)
    n, lay, d = pick[next(iter(pick))]
    sd = F.weights(d)
    for x in sd:
        if x in HEADS or "embed" in x:
            sd[x][-9:] = 0
    src = F.save_safetensors(bench.dst("zero-rows"), sd, F.config(d))
    r = bench.tool.convert(src, bench.dst("zero-rows-out"), lay, "--vocab-size", str(F.config(d)["vocab_size"] - 9))
    yield "trimming rows of zeros", None if r.rc == 0 and not r.problems else r.why()


# ------------------------------------------------------------------ what must be refused
def refusals(bench, cs):
    """Section 3 of LAYOUTS.md: each condition that does not hold is refused by its name."""
    folders, g = {n: (lay, d) for n, lay, d, _ in cs}, os.path.join(bench.work, "refuse")
    table = []

    def no(case, to, *names):
        lay, d = folders[case]
        table.append((f"{case} -> {to}", d, to, names))

    def changed(case, cfg, to, *names, tensors=None):
        lay, d = folders[case]
        sd, c = F.weights(d), {**F.config(d), **cfg}
        c = {k: v for k, v in c.items() if v is not ...}
        if tensors:
            tensors(sd)
        out = F.save_safetensors(os.path.join(g, str(len(table))), sd, c, "lit_config.json" if lay == "lit_gpt" else "config.json")
        table.append((f"{case} with {cfg or 'other tensors'} -> {to}", out, to, names))

    def lit(over, to, *names, edit=None):
        d = cases.lit(g, f"lit{len(table)}", 1, **over)
        if edit:
            o = torch.load(d + "/iter-000005-ckpt.pth")
            edit(o["model"])
            torch.save(o, d + "/iter-000005-ckpt.pth")
        table.append((f"lit_gpt with {over} -> {to}", d, to, names))

    def no_norm_2(sd):
        for n in [n for n in sd if ".norm_2." in n]:
            del sd[n]

    def norm_biases(sd):
        sd.update({n.replace("weight", "bias"): torch.randn(t.shape) for n, t in list(sd.items()) if ".norm_" in n or "ln_f" in n})
    # mamba
    for to in ("hf", "fla"):
        changed("ssm-defaults", {"rms_norm": False}, to, "rms_norm", "norm", tensors=lambda sd: sd.update(
            {k.replace("weight", "bias"): torch.randn(v.shape) for k, v in list(sd.items()) if "norm" in k}))
        no("ssm-hybrid", "hf", "attn_layer_idx", "attention")
    for to in ("mamba_ssm",):
        no("hf-mamba-eps", to, "layer_norm_epsilon", "eps")
        no("hf-mamba2-eps", to, "layer_norm_epsilon", "eps")
    for to in LAYOUTS:
        if to in ("fla", "mamba_ssm", "lit_gpt"):
            changed("hf-mamba-odd", {"model_type": "falcon_mamba", "architectures": ["FalconMambaForCausalLM"]}, to, "falcon_mamba", "model_type")
    for to in ("lit_gpt", "torchscale", "berlino"):
        no("hf-mamba2", to, "mamba2", "Mamba-2", "mamba")
    changed("fla-mamba2-nonorm", {}, "hf", "rmsnorm", "gated_norm")
    changed("fla-mamba2", {"norm_before_gate": True}, "hf", "norm_before_gate")
    changed("fla-mamba2", {"D_has_hdim": True}, "hf", "D_has_hdim", tensors=lambda sd: sd.update({k: torch.randn(64) for k in sd if k.endswith(".D")}))
    one = dict(hidden_size=32, num_hidden_layers=1, vocab_size=61, tie_word_embeddings=True)
    import transformers as T
    from fla import models as X

    def hf(name, cls, cfg, to, *names, layout="hf"):
        table.append((f"{name} -> {to}", cases.pretrained(g, f"{name}-{len(table)}", layout, cls(cfg), 1), to, names))
    MA, MC = T.MambaForCausalLM, T.MambaConfig
    for key, v, also in (("state_size", 8, "state"), ("conv_kernel", 3, "conv"), ("expand", 3, "expand"), ("time_step_rank", 5, "rank"), ("use_bias", True, "bias"), ("tie_word_embeddings", False, "tied")):
        hf(f"hf mamba {key} {v}", MA, MC(**{**one, key: v}), "lit_gpt", key, also)
    # samba
    SA, SC = X.SambaForCausalLM, X.SambaConfig
    A = {"layers": [1], "num_heads": 4, "num_kv_heads": 2, "window_size": 8}
    base = dict(fuse_cross_entropy=False, vocab_size=64, num_hidden_layers=4, hidden_size=64, tie_word_embeddings=True)
    for key, v, also in (("state_size", 8, "state"), ("conv_kernel", 3, "conv"), ("expand", 3, "expand"), ("time_step_rank", 5, "rank"), ("use_bias", True, "bias"),
                         ("attn", {**A, "rope_theta": 5000.0}, "rope_theta"), ("attn", [A, {**A, "layers": [2], "window_size": 4}], "window"),
                         ("attn", [A, {**A, "layers": [2], "num_kv_heads": 4}], "num_kv_heads"), ("attn", [A, {**A, "layers": [2], "num_heads": 8}], "num_heads")):
        hf(f"fla samba {key} {v}", SA, SC(**{**base, "attn": A, key: v}), "lit_gpt", key, also)
    hf("fla samba window", SA, SC(**base, attn=A), "mamba_ssm", "window_size", "window")
    hf("fla samba eps", SA, SC(**base, attn={**A, "window_size": None}, norm_eps=1e-6), "mamba_ssm", "norm_eps", "eps")
    changed("fla-samba-full", {"attnres_block_size": 2}, "lit_gpt", "attnres_block_size")
    for to in LAYOUTS:
        if to != "lit_gpt":
            lit(dict(mb_per_layer=2, sc_attn=True, local_window=8), to, "sc_attn", "q_conv1d", "conv")
            lit(dict(mb_per_layer=2, abl_mamba=True), to, "abl_mamba", *(["attention", "mlp"] if to in ("torchscale", "berlino") else []))
    for case in ("lit-sc-attn", "lit-abl", "lit-s6-mega", "lit-samba-gqa-nope", "lit-sliding-gla", "lit-sliding-retnet", "lit-mamba-swa-mlp"):
        if case in folders:
            for to in ("hf", "mamba_ssm", "torchscale", "berlino") + (() if case[4:11] == "sliding" or "swa" in case else ("fla",)):
                no(case, to, {"lit-sc-attn": "sc_attn", "lit-abl": "abl_mamba", "lit-s6-mega": "mega", "lit-samba-gqa-nope": "nope", "lit-sliding-gla": "gla",
                              "lit-sliding-retnet": "ret", "lit-mamba-swa-mlp": "mamba_swa_mlp"}[case], "window", "mamba", "attention", "mlp")
    lit(dict(nope=True, local_window=8), "hf", "nope")
    lit(dict(nope=True), "fla", "nope")
    lit(dict(local_window=8), "mamba_ssm", "local_window")
    lit(dict(local_window=8, full_per_layer=2), "hf", "local_window", "full_per_layer", "window")
    lit(dict(condense_ratio=2), "fla", "condense_ratio")
    lit(dict(condense_ratio=2), "mamba_ssm", "condense_ratio")
    lit(dict(norm_eps=1e-6), "mamba_ssm", "norm_eps")
    for k, v in (("parallel_residual", True), ("shared_attention_norm", True), ("rotary_percentage", 0.25), ("_norm_class", "LayerNorm"), ("_mlp_class", "GptNeoxMLP")):
        for to in ("hf", "fla"):
            lit({k: v}, to, k, *(["norm"] if k == "_norm_class" else []),
                edit={"parallel_residual": no_norm_2, "shared_attention_norm": no_norm_2, "_norm_class": norm_biases}.get(k))
    lit(dict(gla_per_layer=2, n_embd=384, norm_eps=1e-6), "fla", "norm_eps", "eps")
    lit(dict(ret_per_layer=2, norm_eps=1e-6), "fla", "norm_eps", "eps")
    lit(dict(bias=True), "fla", "bias")
    # llama
    LA = dict(hidden_size=64, num_hidden_layers=2, vocab_size=64, num_attention_heads=4, intermediate_size=96, rms_norm_eps=1e-5)
    for to in ("fla", "lit_gpt", "mamba_ssm"):
        no("hf-llama-llama3", to, "rope_scaling", "rope_parameters", "rope_type")
        hf("llama gelu", T.LlamaForCausalLM, T.LlamaConfig(**LA, hidden_act="gelu"), to, "hidden_act")
        hf("llama yarn", T.LlamaForCausalLM, T.LlamaConfig(**LA, rope_parameters={"rope_type": "yarn", "rope_theta": 1e4, "factor": 4.0, "original_max_position_embeddings": 32}), to,
           "rope_parameters", "rope_type", "rope_scaling")
        hf("llama mlp_bias", T.LlamaForCausalLM, T.LlamaConfig(**LA, mlp_bias=True, attention_bias=False), "fla" if to == "lit_gpt" else to, "mlp_bias", "mlp.down_proj.bias")
    no("hf-llama-theta", "lit_gpt", "rope_theta")
    no("hf-llama-linear", "fla", "rope_parameters", "rope_scaling", "rope_type", "factor")
    no("hf-llama-headdim", "lit_gpt", "head_dim")
    no("hf-llama-headdim", "fla", "head_dim")
    no("hf-mistral", "mamba_ssm", "sliding_window")
    hf("llama eps", T.LlamaForCausalLM, T.LlamaConfig(**{**LA, "rms_norm_eps": 1e-6}), "mamba_ssm", "rms_norm_eps")
    no("fla-tf-qknorm-bias", "hf", "qk_norm", "q_norm", "qkv_bias")
    no("fla-tf-qknorm-bias", "lit_gpt", "qk_norm", "q_norm", "qkv_bias")
    # gla, retnet
    for to in ("hf", "mamba_ssm", "torchscale", "berlino"):
        no("fla-gla-noaffine", to, "gla", "GLA", "gk_proj")
    for to in ("hf", "mamba_ssm", "berlino"):
        no("fla-ret-noaffine", to, "ret")
        no("ts-swish", to, "ret")
    no("fla-gla-shards", "lit_gpt", "use_short_conv", "conv")
    no("fla-gla-nogate-relu", "lit_gpt", "feature_map", "use_output_gate")
    no("fla-ret-hybrid", "torchscale", "attn", "attention")
    no("fla-ret-expandk", "torchscale", "expand_k")
    no("fla-ret-expandk", "lit_gpt", "expand_k")
    RA, RC = X.RetNetForCausalLM, X.RetNetConfig
    rb = dict(fuse_cross_entropy=False, vocab_size=64, num_hidden_layers=2, hidden_size=64, num_heads=2)
    hf("retnet without gate", RA, RC(**rb, use_output_gate=False), "torchscale", "output_gate", layout="fla")
    hf("retnet feature map", RA, RC(**rb, feature_map="relu"), "torchscale", "feature_map", layout="fla")
    hf("retnet eps", RA, RC(**rb, norm_eps=1e-6), "lit_gpt", "norm_eps", "eps", layout="fla")
    changed("fla-gla-noaffine", {}, "berlino", "h_conv1d", tensors=lambda sd: sd.update({"model.layers.0.attn.h_conv1d.weight": torch.randn(64, 1, 4)}))
    no("ts-swish", "fla", "retnet_rel_pos.angle", "angle", "frequenc")
    no("ts-fla-angle-gelu", "fla", "activation_fn")
    for over in (dict(deepnorm=True), dict(decoder_normalize_before=False), dict(layernorm_embedding=True), dict(moe_freq=2), dict(multiway=True)):
        d = cases.torchscale(g, f"ts{len(table)}", 1, fla_angle=True, **over)
        if "layernorm_embedding" in over or over.get("decoder_normalize_before") is False:
            sd = F.weights(d)
            sd.pop("layer_norm.weight") if "decoder_normalize_before" in over else sd.update({"layernorm_embedding.weight": torch.randn(48)})
            torch.save(sd, d + "/checkpoint.pt")
        table.append((f"torchscale with {over} -> fla", d, "fla", tuple(over)))
    d = cases.torchscale(g, f"ts{len(table)}", 1, fla_angle=True, decoder_embed_dim=544, decoder_retention_heads=2, decoder_layers=1)
    table.append(("torchscale with keys of 272 -> fla", d, "fla", ("head", "272", "256")))
    no("berlino-bias", "fla", "g_proj.bias")
    for to in ("hf", "mamba_ssm", "torchscale", "lit_gpt"):
        no("berlino-128", to, "gla", "GLA")

    @guarded
    def one_refusal(what, src, to, names):
        dst = bench.dst("refused", str(abs(hash(what + to))))
        r = bench.tool.convert(src, dst, to)
        text = json.dumps(r.problems).lower()
        ok = (1, 2) if any(p["code"] == "layout.unexpected-tensor" for p in r.problems) else (1,)  # tensors that no version of the layout has
        lefts = glob.glob(dst + "*") + glob.glob(os.path.join(os.path.dirname(dst), "." + os.path.basename(dst) + "*"))
        yield "refuse " + what, (f"not refused: exit {r.rc} {r.doc and r.doc['exactness']} {r.doc and r.doc['reasons']} [{src}]" if r.rc == 0 else f"{r.why()} [{src}]" if r.rc not in ok else
                                 f"left {lefts}" if lefts else None if any(n.lower() in text for n in names) else f"names none of {names}: {r.why()}")
    yield from bench.each(one_refusal, table)


ALL = [conversions, verified, parity, back, given_traces, containers, casts, vocabulary, refusals, frameworks]
