#!/usr/bin/env python3
"""Checks what `weighbridge convert --to gguf` writes against others' code: the gguf package, llama.cpp, and the source.

    scripts/check-gguf.py [--tool .build/release/weighbridge] CHECKPOINT ...

Needs numpy, gguf, safetensors and, for the logits, llama-cpp-python (PyPI); none of them is needed to build, test or run
Weighbridge. For each checkpoint it writes an F32, a BF16 and a Q8_0 file into a temporary directory and tells

  open    whether the gguf package reads them, and lists as many tensors as Weighbridge says
  logits  the largest difference of llama.cpp's float32 logits from Weighbridge's float64, in the largest logit
  q8_0    how many Q8_0 tensors have other bytes than gguf.quants makes of the same numbers
  back    what differs after GGUF -> hf -> GGUF
"""
import argparse, json, subprocess, sys, tempfile, pathlib
import numpy as np
import gguf
from gguf.quants import quantize
from safetensors.numpy import load_file


def run(tool, *arguments):
    done = subprocess.run([tool, *map(str, arguments)], capture_output=True, text=True)
    if done.returncode != 0:
        raise SystemExit(f"{' '.join(map(str, arguments))}: exit {done.returncode}\n{done.stderr}")
    return done.stdout


def logits(path, tokens):
    import llama_cpp
    model = llama_cpp.Llama(
        str(path), n_ctx=len(tokens) + 8, n_batch=len(tokens) + 8, logits_all=True, verbose=False, n_threads=1,
        type_k=0, type_v=0)
    batch = llama_cpp.llama_batch_init(len(tokens), 0, 1)
    batch.n_tokens = len(tokens)
    for i, token in enumerate(tokens):
        batch.token[i], batch.pos[i], batch.n_seq_id[i], batch.seq_id[i][0], batch.logits[i] = token, i, 1, 0, True
    assert llama_cpp.llama_decode(model.ctx, batch) == 0
    width = llama_cpp.llama_vocab_n_tokens(llama_cpp.llama_model_get_vocab(model.model))
    rows = [np.ctypeslib.as_array(llama_cpp.llama_get_logits_ith(model.ctx, i), (width,)).copy() for i in range(len(tokens))]
    llama_cpp.llama_batch_free(batch)
    return np.stack(rows)


def tensors(path):
    return {t.name: (t.tensor_type, t.data.tobytes(), t) for t in gguf.GGUFReader(path).tensors}


def check(tool, source, home):
    print(source)
    ok = True
    files = {}
    for name, choice in (("f32", "float32"), ("bf16", "bfloat16"), ("q8_0", "q8_0")):
        written = json.loads(run(tool, "convert", source, home / name, "--to", "gguf", "--dtype", choice, "--json"))
        files[name] = home / name / "model.gguf"
        found = tensors(files[name])
        fits = len(found) == written["tensors"]
        ok &= fits
        print(f"  open    {name}: {len(found)} tensors{'' if fits else ', not ' + str(written['tensors'])}, {written['exactness']}")
    rows = np.asarray(tensors(files["f32"])["token_embd.weight"][2].data).shape[0]
    tokens = [int(t) for t in np.random.default_rng(0).integers(0, rows, 24)]
    (home / "tokens.json").write_text(json.dumps([tokens]))
    run(tool, "trace", files["f32"], home / "trace.safetensors", "--tokens", home / "tokens.json")
    own = load_file(home / "trace.safetensors")["logits"][0].astype(np.float64)
    try:
        theirs = logits(files["f32"], tokens).astype(np.float64)
        off = np.abs(theirs - own).max() / np.abs(own).max()
        ok &= off <= 1e-4
        print(f"  logits  {off:.1e} of the largest")
    except ImportError:
        print("  logits  not checked: llama-cpp-python is not installed")
    plain, packed = tensors(files["f32"]), tensors(files["q8_0"])
    quantised = [n for n, t in packed.items() if t[0] == gguf.GGMLQuantizationType.Q8_0]
    other = [n for n in quantised if quantize(np.array(plain[n][2].data), gguf.GGMLQuantizationType.Q8_0).tobytes() != packed[n][1]]
    ok &= not other
    print(f"  q8_0    {len(quantised)} tensors, {len(other)} with other bytes {other[:3]}")
    # Back to the framework and to GGUF again.
    run(tool, "convert", files["f32"], home / "hf", "--to", "hf")
    run(tool, "convert", home / "hf", home / "again", "--to", "gguf")
    again = tensors(home / "again" / "model.gguf")
    differing = [n for n in plain if again.get(n, (0, 0))[1] != plain[n][1]]
    stated = all(n.endswith("ssm_a") for n in differing)
    ok &= stated and set(again) == set(plain)
    print(f"  back    {len(plain)} tensors, {len(differing)} with other bytes{' (A, through A_log)' if differing and stated else ''}")
    return ok


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--tool", default=".build/release/weighbridge")
    parser.add_argument("checkpoints", nargs="+")
    options = parser.parse_args()
    results = []
    for source in options.checkpoints:
        with tempfile.TemporaryDirectory() as home:
            results.append(check(options.tool, source, pathlib.Path(home)))
    sys.exit(0 if all(results) else 1)


if __name__ == "__main__":
    main()
