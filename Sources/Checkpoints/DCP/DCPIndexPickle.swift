import Tensors

/// Writes the pickled index of a sharded checkpoint: protocol 2, with the classes that
/// `torch.distributed.checkpoint` has had since PyTorch 2.3.
struct DCPIndexPickle {
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

  private var bytes: [UInt8] = [0x80, 2]
  /// Texts, classes and types that are written once and then recalled.
  private var memo: [String: UInt32] = [:]

  private static let module = "torch.distributed.checkpoint.metadata"

  /// The pickle of an index of `entries`.
  static func encode(_ entries: [Entry]) -> [UInt8] {
    var pickle = DCPIndexPickle()
    pickle.object(module, "Metadata")
    pickle.dict { pickle in
      pickle.text("state_dict_metadata")
      pickle.dict { pickle in
        for entry in entries {
          pickle.text(entry.name)
          pickle.tensor(entry)
        }
      }
      pickle.text("planner_data")
      pickle.dict { pickle in
        for entry in entries {
          pickle.text(entry.name)
          pickle.op(.mark)
          for part in entry.path { pickle.text(part) }
          pickle.op(.tuple)
        }
      }
      pickle.text("storage_data")
      pickle.dict { pickle in
        for entry in entries {
          for (number, chunk) in entry.chunks.enumerated() {
            pickle.key(entry.name, chunk, number)
            pickle.place(chunk)
          }
        }
      }
      pickle.text("storage_meta")
      pickle.op(.none)
      pickle.text("version")
      pickle.text("1.0.0")
    }
    pickle.op(.build)
    pickle.op(.stop)
    return pickle.bytes
  }

  // MARK: Parts

  private mutating func tensor(_ entry: Entry) {
    object(Self.module, "TensorStorageMetadata")
    dict { pickle in
      pickle.text("properties")
      pickle.object(Self.module, "TensorProperties")
      pickle.op(.mark)
      pickle.global("torch", entry.dtype)
      pickle.global("torch.serialization", "_get_layout")
      pickle.text("torch.strided")
      pickle.op(.tuple1)
      pickle.op(.reduce)
      pickle.op(.newFalse)
      pickle.global(Self.module, "_MEM_FORMAT_ENCODING")
      pickle.int(0)
      pickle.op(.tuple1)
      pickle.op(.reduce)
      pickle.op(.newFalse)
      pickle.op(.tuple)
      pickle.op(.build)
      pickle.text("size")
      pickle.size(entry.dims)
      pickle.text("chunks")
      pickle.op(.emptyList)
      pickle.op(.mark)
      for chunk in entry.chunks {
        pickle.object(Self.module, "ChunkStorageMetadata")
        pickle.dict { pickle in
          pickle.text("offsets")
          pickle.size(chunk.box.offsets)
          pickle.text("sizes")
          pickle.size(chunk.box.sizes)
        }
        pickle.op(.build)
      }
      pickle.op(.appends)
    }
    op(.build)
  }

  private mutating func key(_ name: String, _ chunk: Chunk, _ number: Int) {
    object(Self.module, "MetadataIndex")
    dict { pickle in
      pickle.text("fqn")
      pickle.text(name)
      pickle.text("offset")
      pickle.size(chunk.box.offsets)
      pickle.text("index")
      pickle.int(number)
    }
    op(.build)
  }

  private mutating func place(_ chunk: Chunk) {
    object("torch.distributed.checkpoint.filesystem", "_StorageInfo")
    dict { pickle in
      pickle.text("relative_path")
      pickle.text(chunk.file)
      pickle.text("offset")
      pickle.int(chunk.offset)
      pickle.text("length")
      pickle.int(chunk.length)
    }
    op(.build)
  }

  // MARK: Operations

  private mutating func op(_ opcode: PickleOpcode) { bytes.append(opcode.rawValue) }

  /// A bare instance; its state follows.
  private mutating func object(_ module: String, _ name: String) {
    global(module, name)
    op(.emptyTuple)
    op(.newObj)
  }

  private mutating func dict(_ items: (inout DCPIndexPickle) -> Void) {
    op(.emptyDict)
    op(.mark)
    items(&self)
    op(.setItems)
  }

  private mutating func size(_ dims: [Int]) {
    global("torch", "Size")
    op(.mark)
    for dim in dims { int(dim) }
    op(.tuple)
    op(.tuple1)
    op(.reduce)
  }

  private mutating func int(_ value: Int) {
    switch value {
    case 0..<0x100:
      op(.binInt1)
      bytes.append(UInt8(value))
    case 0..<0x8000_0000:
      op(.binInt)
      bytes.append32(UInt32(value))
    default:
      op(.long1)
      bytes.append(8)
      bytes.append64(value)
    }
  }

  private mutating func text(_ text: String) {
    recall("\"" + text) { pickle in
      pickle.op(.binUnicode)
      pickle.bytes.append32(UInt32(text.utf8.count))
      pickle.bytes.append(contentsOf: text.utf8)
    }
  }

  private mutating func global(_ module: String, _ name: String) {
    recall(module + "\n" + name) { pickle in
      pickle.op(.global)
      pickle.bytes.append(contentsOf: "\(module)\n\(name)\n".utf8)
    }
  }

  private mutating func recall(_ key: String, else write: (inout DCPIndexPickle) -> Void) {
    if let place = memo[key] {
      if place < 256 {
        op(.binGet)
        bytes.append(UInt8(place))
      } else {
        op(.longBinGet)
        bytes.append32(place)
      }
      return
    }
    write(&self)
    let place = UInt32(memo.count)
    memo[key] = place
    if place < 256 {
      op(.binPut)
      bytes.append(UInt8(place))
    } else {
      op(.longBinPut)
      bytes.append32(place)
    }
  }
}
