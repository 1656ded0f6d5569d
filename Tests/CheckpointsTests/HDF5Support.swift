import Checkpoints
import Foundation
import Tensors

/// Files and values for the tests of HDF5.
enum HDF5Support {
  /// The repository's `Fixtures/<kind>/hdf5`.
  static func directory(_ kind: String) -> String {
    var path = #filePath.split(separator: "/")
    path.removeLast(3)
    return "/" + path.joined(separator: "/") + "/Fixtures/\(kind)/hdf5"
  }

  /// The names of the files in `Fixtures/<kind>/hdf5`, sorted.
  static func files(_ kind: String) -> [String] {
    let names = try? FileManager.default.contentsOfDirectory(atPath: directory(kind))
    return (names ?? []).filter { $0.hasSuffix(".h5") }.sorted()
  }

  /// What `Fixtures/generate/good_hdf5.py` writes into every file but one, as it says there.
  static let shapes: [TensorName: Shape] = [
    "embed.weight": [11, 6], "layers.0.mixer.A_log": [5, 3],
    "layers.0.mixer.conv1d.weight": [5, 1, 4], "layers.0.norm.weight": [6],
    "layers.10.norm.weight": [6], "step": [], "empty": [0, 6],
  ]

  /// The value of element `index` of a tensor of `count` elements.
  static func value(_ index: Int, of count: Int) -> Float { Float(index - count / 2) / 8 }

  /// Elements as floats: F32, F16, BF16, F64.
  static func floats(_ bytes: [UInt8], _ dtype: DType) -> [Float] {
    bytes.withUnsafeBytes { bytes in
      switch dtype {
      case .f32:
        (0..<bytes.count / 4).map {
          bytes.loadUnaligned(fromByteOffset: $0 * 4, as: Float.self)
        }
      case .f64:
        (0..<bytes.count / 8).map {
          Float(bytes.loadUnaligned(fromByteOffset: $0 * 8, as: Double.self))
        }
      case .f16:
        (0..<bytes.count / 2).map {
          Float(bytes.loadUnaligned(fromByteOffset: $0 * 2, as: Float16.self))
        }
      case .bf16:
        (0..<bytes.count / 2).map {
          Float(
            bitPattern: UInt32(bytes.loadUnaligned(fromByteOffset: $0 * 2, as: UInt16.self)) << 16)
        }
      default: []
      }
    }
  }

  /// Opens a file of `Fixtures/<kind>/hdf5`.
  static func open(_ file: String, _ kind: String = "good") throws -> HDF5Reader {
    try HDF5Reader(path: directory(kind) + "/" + file)
  }

  /// All tensors' bytes by name.
  static func contents(_ reader: HDF5Reader) throws -> [TensorName: [UInt8]] {
    var contents: [TensorName: [UInt8]] = [:]
    for (index, info) in reader.tensors.enumerated() {
      contents[info.name] = try reader.bytes(of: index)
    }
    return contents
  }

  /// Runs `body` with a new directory, and removes it.
  static func withDirectory<R>(_ body: (String) throws -> R) throws -> R {
    let path = NSTemporaryDirectory() + "/hdf5-" + UUID().uuidString
    try FileManager.default.createDirectory(atPath: path, withIntermediateDirectories: true)
    defer { try? FileManager.default.removeItem(atPath: path) }
    return try body(path)
  }

  /// The codes of everything that opening the file at `path` and reading all of it reports.
  static func codes(_ path: String) -> [String] {
    do throws(Problems) {
      let reader = try HDF5Reader(path: path)
      return reader.tensors.indices.compactMap { index in
        do throws(Diagnostic) {
          _ = try reader.bytes(of: index)
          return nil
        } catch { return error.code }
      }
    } catch { return error.diagnostics.map(\.code) }
  }
}
