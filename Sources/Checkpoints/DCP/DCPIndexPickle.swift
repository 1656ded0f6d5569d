import Tensors

/// Writes the pickled index of a sharded checkpoint: protocol 2, with the classes that
/// `torch.distributed.checkpoint` has had since PyTorch 2.3.
enum DCPIndexPickle {
  /// A part with its place.
  struct Chunk {
    var box: DCPMetadata.Box
    var file: String
    var offset: Int
    var length: Int
  }

  /// A tensor with its parts.
  struct Entry {
    /// The keys that lead to it in the saved dict.
    var path: [String]
    var dtype: String
    var dims: [Int]
    var chunks: [Chunk]

    var name: String { path.joined(separator: ".") }
  }

  fileprivate static let module = "torch.distributed.checkpoint.metadata"

  /// The pickle of an index of `entries`.
  static func encode(_ entries: [Entry]) -> [UInt8] {
    var pickle = PickleWriter()
    pickle.object(module, "Metadata")
    pickle.dict { pickle in
      pickle.remembered("state_dict_metadata")
      pickle.dict { pickle in
        for entry in entries {
          pickle.remembered(entry.name)
          pickle.tensor(entry)
        }
      }
      pickle.remembered("planner_data")
      pickle.dict { pickle in
        for entry in entries {
          pickle.remembered(entry.name)
          pickle.op(.mark)
          for part in entry.path { pickle.remembered(part) }
          pickle.op(.tuple)
        }
      }
      pickle.remembered("storage_data")
      pickle.dict { pickle in
        for entry in entries {
          for (number, chunk) in entry.chunks.enumerated() {
            pickle.key(entry.name, chunk, number)
            pickle.place(chunk)
          }
        }
      }
      pickle.remembered("storage_meta")
      pickle.op(.none)
      pickle.remembered("version")
      pickle.remembered("1.0.0")
    }
    pickle.op(.build)
    pickle.op(.stop)
    return pickle.bytes
  }
}

// MARK: Parts

extension PickleWriter {
  fileprivate mutating func tensor(_ entry: DCPIndexPickle.Entry) {
    object(DCPIndexPickle.module, "TensorStorageMetadata")
    dict { pickle in
      pickle.remembered("properties")
      pickle.object(DCPIndexPickle.module, "TensorProperties")
      pickle.op(.mark)
      pickle.global("torch", entry.dtype)
      pickle.global("torch.serialization", "_get_layout")
      pickle.remembered("torch.strided")
      pickle.op(.tuple1)
      pickle.op(.reduce)
      pickle.op(.newFalse)
      pickle.global(DCPIndexPickle.module, "_MEM_FORMAT_ENCODING")
      pickle.int(0)
      pickle.op(.tuple1)
      pickle.op(.reduce)
      pickle.op(.newFalse)
      pickle.op(.tuple)
      pickle.op(.build)
      pickle.remembered("size")
      pickle.size(entry.dims)
      pickle.remembered("chunks")
      pickle.op(.emptyList)
      pickle.op(.mark)
      for chunk in entry.chunks {
        pickle.object(DCPIndexPickle.module, "ChunkStorageMetadata")
        pickle.dict { pickle in
          pickle.remembered("offsets")
          pickle.size(chunk.box.offsets)
          pickle.remembered("sizes")
          pickle.size(chunk.box.sizes)
        }
        pickle.op(.build)
      }
      pickle.op(.appends)
    }
    op(.build)
  }

  fileprivate mutating func key(_ name: String, _ chunk: DCPIndexPickle.Chunk, _ number: Int) {
    object(DCPIndexPickle.module, "MetadataIndex")
    dict { pickle in
      pickle.remembered("fqn")
      pickle.remembered(name)
      pickle.remembered("offset")
      pickle.size(chunk.box.offsets)
      pickle.remembered("index")
      pickle.int(number)
    }
    op(.build)
  }

  fileprivate mutating func place(_ chunk: DCPIndexPickle.Chunk) {
    object("torch.distributed.checkpoint.filesystem", "_StorageInfo")
    dict { pickle in
      pickle.remembered("relative_path")
      pickle.remembered(chunk.file)
      pickle.remembered("offset")
      pickle.int(chunk.offset)
      pickle.remembered("length")
      pickle.int(chunk.length)
    }
    op(.build)
  }

  fileprivate mutating func size(_ dims: [Int]) {
    global("torch", "Size")
    op(.mark)
    for dim in dims { int(dim) }
    op(.tuple)
    op(.tuple1)
    op(.reduce)
  }
}
