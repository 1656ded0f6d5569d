import Checkpoints
import Hub
import Inference
import Layouts
import Tensors

#if canImport(Glibc)
  import Glibc
#elseif canImport(Musl)
  import Musl
#else
  import Darwin
#endif

/// A reader of bytes from strangers, with the fixtures that its inputs are made of.
public enum FuzzTarget: String, CaseIterable, Sendable {
  /// The header of a safetensors file, and the tensors that it promises.
  case safetensors
  /// The pickle machine.
  case pickle
  /// The zip directory, and the whole PyTorch checkpoint where that stands.
  case zip
  /// An HDF5 file, and every tensor in it.
  case hdf5
  /// The index of a sharded checkpoint, and the files that it names.
  case dcp
  /// A GGUF file, and every tensor in it.
  case gguf
  /// A numpy archive, and every array in it.
  case npz
  /// The index of shards.
  case shards
  /// JSON texts.
  case json
  /// A model's config, bound to a fixture's tensors by every layout that could fit.
  case config
  /// A layout's YAML, expanded with a fixture's config.
  case layout
  /// An expression of a layout, evaluated with a fixture's config.
  case expression

  var kind: Mutator.Kind {
    switch self {
    case .safetensors: .safetensors
    case .pickle: .pickle
    case .zip, .hdf5, .dcp, .gguf, .npz: .binary
    case .shards, .json, .config: .text
    case .layout, .expression: .layout
    }
  }

  /// Where the inputs come from, below the package's directory.
  private var places: [(directory: String, ending: String)] {
    switch self {
    case .safetensors:
      [("Fixtures/good/safetensors", ".safetensors"), ("Fixtures/bad/safetensors", ".safetensors")]
    case .pickle, .zip: [("Fixtures/good/pytorch", ".pt"), ("Fixtures/bad/pytorch", ".pt")]
    case .hdf5: [("Fixtures/good/hdf5", ".h5"), ("Fixtures/bad/hdf5", ".h5")]
    case .dcp: [("Fixtures/good/dcp", ".metadata"), ("Fixtures/bad/dcp", ".metadata")]
    case .gguf: [("Fixtures/good/gguf", ".gguf"), ("Fixtures/bad/gguf", ".gguf")]
    case .npz: [("Fixtures/good/npz", ".npz"), ("Fixtures/bad/npz", ".npz")]
    case .shards: [("Fixtures/bad/shard-index", ".json")]
    case .json, .config: Self.models.map { ("Fixtures/models/\($0)", ".json") }
    case .layout, .expression: [("formats", ".yaml")]
    }
  }

  static let models = [
    "mamba-tied/hf", "samba-fla/fla", "lit-samba/lit_gpt", "gla-base/fla", "retnet-base/fla",
    "gla-berlino/berlino", "mamba-tied/mamba_ssm", "retnet-torchscale/torchscale",
  ]

  /// The unchanged inputs.
  ///
  /// - Throws: `io.*`; nothing but the fixtures is read.
  func seeds(in package: String) throws -> [[UInt8]] {
    var seeds: [[UInt8]] = []
    for place in places {
      for path in Self.files(in: package + "/" + place.directory, ending: place.ending) {
        let file = try RandomAccessFile(path: path)
        // Large inputs make slow runs and find nothing else.
        guard file.byteCount <= 1 << 16 else { continue }
        if self == .expression {
          let text = String(decoding: try file.bytes(at: 0, count: file.byteCount), as: UTF8.self)
          seeds += text.split(separator: "\n").compactMap { Self.expression(ofLine: $0) }
        } else if self == .pickle {
          guard let zip = try? ZipDirectory(file: file),
            let entry = zip.entries.first(where: { $0.name.hasSuffix("data.pkl") }),
            let bytes = try? zip.bytes(of: entry, in: file)
          else { continue }
          seeds.append(bytes)
        } else {
          seeds.append(try file.bytes(at: 0, count: file.byteCount))
        }
      }
    }
    precondition(!seeds.isEmpty, "no fixtures for \(rawValue) in \(package)")
    return seeds
  }

  /// What stands behind a line's key, where that is an expression.
  private static func expression(ofLine line: Substring) -> [UInt8]? {
    guard let colon = line.firstRange(of: ": ") else { return nil }
    let text = line[colon.upperBound...].filter { $0 != "\"" }
    return (try? Expression(parsing: text)) == nil ? nil : Array(text.utf8)
  }

  fileprivate static func files(in directory: String, ending: String) -> [String] {
    guard let stream = opendir(directory) else { return [] }
    defer { closedir(stream) }
    var paths: [String] = []
    while let entry = readdir(stream) {
      let name = withUnsafeBytes(of: entry.pointee.d_name) {
        String(decoding: $0.prefix { $0 != 0 }, as: UTF8.self)
      }
      let path = directory + "/" + name
      // The index of a sharded checkpoint is a hidden file.
      if name.hasPrefix("."), name != ending { continue }
      var info = stat()
      guard stat(path, &info) == 0 else { continue }
      if info.st_mode & S_IFMT == S_IFDIR {
        paths += files(in: path, ending: ending)
      } else if name.hasSuffix(ending) {
        paths.append(path)
      }
    }
    return paths.sorted()
  }
}

/// Runs inputs through a target's reader.
struct FuzzReader {
  private let target: FuzzTarget
  /// A file in memory where there is one, for readers of files.
  private let path: String
  private var library: LayoutLibrary?
  private var inventories: [Inventory] = []
  private var configs: [JSONObject] = []

  init(_ target: FuzzTarget, package: String) throws {
    self.target = target
    var info = stat()
    let directory = stat("/dev/shm", &info) == 0 ? "/dev/shm" : "/tmp"
    path = "\(directory)/weighbridge-fuzz-\(getpid())-\(target.rawValue).bin"
    if target == .dcp {
      mkdir(self.directory, 0o700)
      let data = try RandomAccessFile(
        path: package + "/Fixtures/good/dcp/three-rows/__0_0.distcp")
      write(
        try data.bytes(at: 0, count: data.byteCount), to: self.directory + "/__0_0.distcp")
    }
    if [.config, .layout, .expression].contains(target) {
      library = try LayoutLibrary.bundled()
      for name in FuzzTarget.models {
        let directory = package + "/Fixtures/models/" + name
        for path in FuzzTarget.files(in: directory, ending: "config.json") {
          let file = try RandomAccessFile(path: path)
          let bytes = try file.bytes(at: 0, count: file.byteCount)
          configs += [try JSONParser.parse(bytes, file: path, mode: .python).object ?? [:]]
        }
        let source = try openCheckpoint(at: directory)
        inventories.append(
          try Inventory(infos: source.tensors, values: { _ in nil }, sameBytes: { _, _ in true }))
      }
    }
  }

  /// Removes the file.
  func close() {
    unlink(path)
    if target == .dcp {
      unlink(directory + "/.metadata")
      unlink(directory + "/__0_0.distcp")
      rmdir(directory)
    }
  }

  /// A sharded checkpoint's directory.
  private var directory: String { path + ".d" }

  /// Whether `input` was taken; an error is as good an answer, a trap is none.
  mutating func accepts(_ input: [UInt8]) -> Bool {
    do {
      try read(input)
      return true
    } catch {
      // Messages are made of hostile bytes too.
      return "\(error)".isEmpty
    }
  }

  private mutating func read(_ input: [UInt8]) throws {
    switch target {
    case .safetensors:
      write(input)
      try readAll(try SafetensorsReader(path: path))
    case .pickle: _ = try PickleMachine.run(input, subject: "input")
    case .zip:
      write(input)
      _ = try ZipDirectory(file: try RandomAccessFile(path: path))
      try readAll(try TorchReader(path: path))
    case .hdf5:
      write(input)
      try readAll(try HDF5Reader(path: path))
    case .dcp:
      write(input, to: directory + "/.metadata")
      try readAll(try DCPReader(directory: directory))
    case .gguf:
      write(input)
      try readAll(try GGUFReader(path: path))
    case .npz:
      write(input)
      try readAll(try NpzReader(path: path))
    case .shards: _ = try ShardIndex(parsing: input, path: "index").files
    case .json: _ = try JSONParser.parse(input, file: "input", mode: .python).text()
    case .config:
      guard let library,
        let config = try JSONParser.parse(input, file: "input", mode: .python).object
      else { return }
      let inventory = inventories[input.count % inventories.count]
      let fitting = library.candidates(for: inventory, config: config).prefix(2)
      for candidate in fitting {
        _ = candidate.layout.bind(inventory, config: config, vocabulary: .standard)
      }
    case .layout:
      let layout = try Layout(yaml: String(decoding: input, as: UTF8.self), file: "input")
      let place = input.count % configs.count
      _ = layout.expand(config: configs[place], vocabulary: .standard, inventory: nil)
    case .expression:
      let expression = try Expression(parsing: String(decoding: input, as: UTF8.self))
      var scope = Scope(
        configs[input.count % configs.count].reduce(into: [:]) { $0[$1.key] = $1.value })
      scope.values["i"] = 1
      scope.values["n_layer"] = 4
      _ = try expression.value(in: scope)
    }
  }

  private func readAll(_ source: any TensorSource) throws {
    for (number, tensor) in source.tensors.enumerated() where tensor.byteCount <= 1 << 20 {
      _ = try source.bytes(of: number)
    }
  }

  private func write(_ input: [UInt8], to given: String? = nil) {
    let path = given ?? self.path
    let descriptor = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0o600)
    precondition(descriptor >= 0, "\(path) cannot be written")
    let count = input.withUnsafeBytes { pwrite(descriptor, $0.baseAddress, $0.count, 0) }
    precondition(count == input.count, "\(path) cannot be written")
    _ = sysClose(descriptor)
  }
}

/// The C library's `close`, which the method of that name would hide.
private func sysClose(_ descriptor: Int32) -> Int32 { close(descriptor) }
