"""Writes the sharded checkpoints of Fixtures/dcp: the weights of models/mamba-bias-untied/hf as torch.distributed.checkpoint saves them.

    pip install torch safetensors zstandard
    python3 Fixtures/generate/dcp.py

Written with torch 2.15 on CPU with gloo. Weights are those of the model, bit for bit; optimizer states are random.
"""
import os
import pathlib
import pickle
import shutil
import socket
import sys

import torch
import torch.distributed as dist
import torch.distributed.checkpoint as dcp
import torch.multiprocessing as mp
from safetensors.torch import load_file
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.tensor import DTensor, Replicate, Shard, distribute_tensor
from torch.distributed.tensor.placement_types import _StridedShard

ROOT = pathlib.Path(__file__).resolve().parent.parent
MODEL = ROOT / "models" / "mamba-bias-untied" / "hf"
OUT = ROOT / "dcp"


def rows(weights, mesh):
    return {k: distribute_tensor(v, mesh, [Shard(0)]) for k, v in weights.items()}


def flame(rank, world):
    """flame: the model under `model`, AdamW's state by flat names, scheduler, dataloader, train state; 3 uneven ranks."""
    mesh = init_device_mesh("cpu", (world,))
    weights = rows(load_file(MODEL / "model.safetensors"), mesh)
    some = [k for k in weights if k.startswith("backbone.layers.0.mixer.dt_proj")] + ["lm_head.weight"]
    torch.manual_seed(1)
    state = {f"state.{k}.{m}": distribute_tensor(torch.rand(weights[k].shape), mesh, [Shard(0)]) for k in some for m in ("exp_avg", "exp_avg_sq")}
    state |= {f"state.{k}.step": torch.tensor(7.0) for k in some}
    state |= {f"param_groups.{k}.{n}": v for k in some for n, v in (("lr", 1e-3), ("betas", (0.9, 0.95)))}
    dcp.save({
        "model": weights, "optimizer": state, "lr_scheduler": {"last_epoch": 7, "base_lrs": [1e-3]},
        "dataloader": {"world_size": 3, f"dp_rank_{rank}": b"state"}, "train_state": {"step": torch.tensor(7), "elapsed": torch.tensor(1.5)},
    }, checkpoint_id="flame-3r/exp/checkpoint/step-7")


def grid(rank, world):
    """Two dimensions of ranks: matrices as grids, vectors in strided shards, whose chunks are not in the order of their rows."""
    mesh = init_device_mesh("cpu", (2, 2), mesh_dim_names=("dp", "tp"))
    weights = {}
    for k, v in load_file(MODEL / "model.safetensors").items():
        if v.dim() == 2 and "out_proj" in k or k.endswith("x_proj.weight"):
            weights[k] = distribute_tensor(v, mesh, [Shard(0), Shard(1)])
        elif v.dim() == 2:
            # FSDP over tensor parallel: rows cut by tp first, then by dp.
            tp = distribute_tensor(v, mesh["tp"], [Shard(0)])
            local = list(torch.chunk(tp.to_local(), 2, dim=0))[mesh["dp"].get_local_rank()].contiguous()
            weights[k] = DTensor.from_local(local, mesh, [_StridedShard(0, split_factor=2), Shard(0)], shape=v.shape, stride=v.stride(), run_check=False)
        else:
            weights[k] = distribute_tensor(v, mesh, [Replicate(), Replicate()])
    dcp.save({"model": weights}, checkpoint_id="grid-2x2/step-10")


def titan(rank, world):
    """torchtitan since July 2025: the model's keys at the top level beside the optimizer's; two files a rank; ranks without rows."""
    mesh = init_device_mesh("cpu", (world,))
    weights = rows(load_file(MODEL / "model.safetensors"), mesh)
    torch.manual_seed(2)
    bias = "backbone.layers.0.mixer.dt_proj.bias"
    dcp.save(
        weights | {"optimizer": {"state": {bias: {"exp_avg": distribute_tensor(torch.rand(weights[bias].shape), mesh, [Shard(0)])}}, "param_groups": [{"lr": 1e-3}]},
                   "train_state": {"step": torch.tensor(100)}},
        storage_writer=dcp.FileSystemWriter("titan-5r/outputs/checkpoint/step-100", thread_count=2))


def lightning(rank, world):
    """Lightning's ModelParallelStrategy: a directory named as a file, with meta.pt; names with wrappers in them."""
    mesh = init_device_mesh("cpu", (world,))
    weights = rows(load_file(MODEL / "model.safetensors"), mesh)
    path = pathlib.Path("lightning-2r") / "iter-000128-ckpt.pth"
    dcp.save({"model": {"_orig_mod." + k.replace("layers.1.", "layers.1._checkpoint_wrapped_module."): v for k, v in weights.items()},
              "optimizer": {"param_groups": [{"lr": 1e-3}]}}, checkpoint_id=str(path))
    if rank == 0:
        torch.save({"hparams": {"learning_rate": 4e-4, "name": "none of Samba's"}, "iter_num": 128, "step_count": 16}, path / "meta.pt")


def shards(rank, world):
    """The safetensors files of every rank."""
    mesh = init_device_mesh("cpu", (world,))
    weights = rows(load_file(MODEL / "model.safetensors"), mesh)
    writer = dcp.HuggingFaceStorageWriter(path="safetensors-2r/sharded", save_distributed=True)
    dcp.save(weights, storage_writer=writer)


def zstd(rank, world):
    """Entries compressed by torch's own extension."""
    from torch.distributed.checkpoint._extension import ZStandard
    mesh = init_device_mesh("cpu", (world,))
    writer = dcp.FileSystemWriter("zstd-2r", _extensions=[ZStandard()])
    dcp.save(rows(load_file(MODEL / "model.safetensors"), mesh), storage_writer=writer)


def run(rank, job, world, port):
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "RANK": str(rank), "WORLD_SIZE": str(world), "GLOO_SOCKET_IFNAME": "lo"}
    torch.set_num_threads(1)
    # The index keeps the path as it was given.
    os.chdir(OUT)
    dist.init_process_group("gloo", rank=rank, world_size=world)
    job(rank, world)
    dist.barrier()
    dist.destroy_process_group()


def port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def torch21():
    """The lightning case's model with its index as PyTorch 2.1 pickles it: another module for the properties, no storage_meta and no version."""
    from torch.distributed._shard.sharded_tensor.metadata import TensorProperties
    source, target = OUT / "flame-3r" / "exp" / "checkpoint" / "step-7", OUT / "torch21-3r"
    metadata = pickle.loads((source / ".metadata").read_bytes())
    for item in metadata.state_dict_metadata.values():
        if hasattr(item, "properties"):
            item.properties = TensorProperties(dtype=item.properties.dtype)
    for field in ("storage_meta", "version"):
        metadata.__dict__.pop(field, None)
    metadata.storage_data = {k: v for k, v in metadata.storage_data.items() if k.fqn.startswith("model.")}
    metadata.state_dict_metadata = {k: v for k, v in metadata.state_dict_metadata.items() if k.startswith("model.")}
    metadata.planner_data = {k: v for k, v in metadata.planner_data.items() if k.startswith("model.")}
    target.mkdir()
    for file in source.glob("*.distcp"):
        shutil.copy(file, target)
    (target / ".metadata").write_bytes(pickle.dumps(metadata, protocol=4))


def main():
    shutil.rmtree(OUT, ignore_errors=True)
    OUT.mkdir()
    for job, world, config in ((flame, 3, "flame-3r/exp/config.json"), (grid, 4, "grid-2x2/step-10/config.json"), (titan, 5, "titan-5r/outputs/configs/mamba.json"),
                               (lightning, 2, "lightning-2r/config.json"), (shards, 2, "safetensors-2r/config.json"), (zstd, 2, "zstd-2r/config.json")):
        mp.spawn(run, (job, world, port()), nprocs=world)
        path = OUT / config
        path.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(MODEL / "config.json", path)
    torch21()
    shutil.copy(MODEL / "config.json", OUT / "torch21-3r" / "config.json")


if __name__ == "__main__":
    sys.exit(main())
