"""Writes the sound PyTorch checkpoints of Fixtures/good/pytorch, and what is in them.

    python3 Fixtures/generate/good_pytorch.py [a real pytorch_model.bin]

Written with torch 2.13.0 and numpy 2. Beside each file stands a `.txt` with a line for each tensor:
name, type, size, CRC-32 of its dense little-endian bytes, and the first 64 of these in hex.
`mamba-bias-untied.bin` is a copy of a model that mamba_ssm 2 wrote with `save_pretrained`.
"""

import argparse
import collections
import pathlib
import shutil
import sys
import zlib

import numpy
import torch

OUT = pathlib.Path(__file__).resolve().parent.parent / "good" / "pytorch"
TYPES = {
    torch.float64: "F64", torch.float32: "F32", torch.float16: "F16", torch.bfloat16: "BF16",
    torch.int64: "I64", torch.int32: "I32", torch.int16: "I16", torch.int8: "I8",
    torch.uint64: "U64", torch.uint32: "U32", torch.uint16: "U16", torch.uint8: "U8",
    torch.bool: "BOOL", torch.complex64: "C64", torch.float8_e4m3fn: "F8_E4M3",
    torch.float8_e5m2: "F8_E5M2", torch.float8_e4m3fnuz: "F8_E4M3FNUZ",
    torch.float8_e5m2fnuz: "F8_E5M2FNUZ", torch.float8_e8m0fnu: "F8_E8M0",
}


def describe(name, tensors):
    lines = []
    for key, tensor in tensors.items():
        raw = tensor.detach().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes()
        size = ",".join(map(str, tensor.shape))
        lines.append(f"{key}\t{TYPES[tensor.dtype]}\t{size}\t{zlib.crc32(raw):08x}\t{raw[:64].hex()}\n")
    (OUT / (name + ".txt")).write_text("".join(lines))


def save(name, tensors, value=None, **options):
    torch.save(tensors if value is None else value, OUT / name, **options)
    describe(name, tensors)


def main():
    OUT.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(20)

    # Every type that safetensors has a name for, in two dimensions.
    whole = torch.arange(1, 13).reshape(3, 4)
    save("types.pt", {
        name: (whole % 2 == 0 if dtype == torch.bool
               else whole.to(torch.float32).to(dtype) if name.startswith("F8") else whole.to(dtype))
        for dtype, name in TYPES.items()})

    # Views: transposed, permuted, sliced with steps, expanded, overlapping, offset; all of one storage.
    base = torch.randn(7, 11, 5)
    wide = torch.randn(40, 50).bfloat16()
    save("views.pt", {
        "base": base, "transposed": base.transpose(0, 2), "permuted": base.permute(1, 2, 0),
        "sliced": base[1:5:2, ::3, 1:4], "row": base[3], "element": base[2, 3, 4],
        "expanded": base[0, :1].expand(4, 5), "overlapping": base.as_strided((6, 5), (3, 1)),
        "empty": base[:0], "wide.t": wide.t(), "wide.columns": wide[:, ::7],
        "f64.t": torch.randn(3, 5).double().t(), "bytes.t": torch.arange(35).byte().view(5, 7).t(),
    })

    # Tied weights, scalars, nothing.
    tied = torch.randn(6, 4)
    save("tied.pt", {"embed.weight": tied, "head.weight": tied, "scalar": torch.tensor(2.5),
                     "nothing": torch.empty(0), "flat": torch.empty(2, 0, 3)})

    # What a training loop leaves around its weights.
    model = torch.nn.Sequential(torch.nn.Linear(5, 3), torch.nn.LayerNorm(3))
    optimizer = torch.optim.AdamW(model.parameters())
    model(torch.randn(2, 5)).sum().backward()
    optimizer.step()
    weights = {"_forward_module." + k: v for k, v in model.state_dict().items()}
    around = {
        "model": collections.OrderedDict(weights),
        "optimizer": optimizer.state_dict(),
        "hparams": {"learning_rate": 4e-4, "name": "Samba_421M", "resume": False, "out": None},
        "iter_num": 128,
        "rng": torch.get_rng_state(),
    }
    save("training.pth", weights, around)
    namespace = argparse.Namespace(
        arch="retnet_base", decoder_embed_dim=64, dropout=0.1, betas=(0.9, 0.98),
        dtype=torch.bfloat16, path=pathlib.PurePosixPath("/data/x"), size=torch.Size([2, 3]))
    for protocol in (2, 4):
        save(f"namespace-protocol{protocol}.pt", weights, {
            "args": namespace, "model": {"module": weights}, "best": numpy.float64(1.5),
            "steps": numpy.int64(-7), "state": numpy.random.RandomState(1).get_state(),
            "large": 2**80, "digits": {1, 2}, "keys": {1: "one", None: "none", (1, 2): "pair"},
        }, pickle_protocol=protocol)

    torch.serialization.set_crc32_options(False)
    save("without-checksums.pt", {"w": torch.arange(6.0)})
    torch.serialization.set_crc32_options(True)

    if len(sys.argv) > 1:
        shutil.copyfile(sys.argv[1], OUT / "mamba-bias-untied.bin")
        describe("mamba-bias-untied.bin", torch.load(sys.argv[1], weights_only=True))


if __name__ == "__main__":
    main()
