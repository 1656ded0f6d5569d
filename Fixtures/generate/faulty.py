#!/usr/bin/env python3
"""Makes Fixtures/faulty/samba-fla-heads-swapped: models/samba-fla with query heads 0 and 1 of layer 1 exchanged,
as a converter with a wrong head order would write it. Standard library only: the rows are exchanged in place."""
import json
import pathlib
import shutil
import struct

fixtures = pathlib.Path(__file__).resolve().parent.parent
source = fixtures / "models" / "samba-fla" / "fla"
out = fixtures / "faulty" / "samba-fla-heads-swapped"
out.mkdir(parents=True, exist_ok=True)
shutil.copyfile(source / "config.json", out / "config.json")
data = bytearray((source / "model.safetensors").read_bytes())
length = struct.unpack("<Q", data[:8])[0]
info = json.loads(data[8 : 8 + length])["backbone.layers.1.mixer.q_proj.weight"]
start = 8 + length + info["data_offsets"][0]
rows, columns = info["shape"]
head = rows // 4 * columns * 4
first, second = data[start : start + head], data[start + head : start + 2 * head]
data[start : start + 2 * head] = second + first
(out / "model.safetensors").write_bytes(data)
