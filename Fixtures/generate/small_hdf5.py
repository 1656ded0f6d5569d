#!/usr/bin/env python3
"""Makes Fixtures/good/hdf5-small: files small enough that a test can change every byte of them, in the
oldest form that h5py writes, contiguous, and in that of HDF5 1.10, chunked. Needs h5py and numpy."""
import pathlib

import h5py
import numpy

out = pathlib.Path(__file__).resolve().parent.parent / "good" / "hdf5-small"
out.mkdir(parents=True, exist_ok=True)
for version, options in [
    ("earliest", {}), ("v110", {"chunks": (4,), "compression": "gzip"}),
]:
    with h5py.File(out / f"{version}.h5", "w", libver=version, meta_block_size=64) as file:
        file.attrs["config"] = numpy.bytes_('{"a": 1}')
        group = file.create_group("b")
        group.create_dataset(
            "w", data=numpy.arange(6, dtype="<f2"), track_times=False, **options)
