/// The file formats that hold tensors.
public enum Container: String, Sendable, Hashable, CaseIterable {
  /// Hugging Face's safetensors, single or sharded.
  case safetensors
  /// PyTorch's zip checkpoints (`torch.save`).
  case pytorch
  /// HDF5, through libhdf5.
  case hdf5
  /// llama.cpp's GGUF, one file or several.
  case gguf
  /// numpy's archives of arrays.
  case npz
}
