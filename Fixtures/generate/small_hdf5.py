#!/usr/bin/env python3
"""Makes Fixtures/good/hdf5-small: files small enough that a test can change every byte of them, in the
oldest form that h5py writes and in the newest. Needs h5py and numpy."""
import pathlib

import h5py
import numpy

out = pathlib.Path(__file__).resolve().parent.parent / "good" / "hdf5-small"
out.mkdir(parents=True, exist_ok=True)
for version in ["earliest", "latest"]:
    with h5py.File(out / f"{version}.h5", "w", libver=version, meta_block_size=256) as file:
        file.attrs["config"] = '{"a": 1}'
        file.create_dataset("a.weight", data=numpy.arange(4, dtype="<f4"), track_times=False)
        group = file.create_group("b")
        group.create_dataset(
            "w", data=numpy.arange(6, dtype="<f2"), chunks=(4,), compression="gzip", shuffle=True,
            track_times=False)
