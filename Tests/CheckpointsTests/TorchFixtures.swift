import Checkpoints
import Foundation
import Tensors

/// The files under `Fixtures/good/pytorch` and `Fixtures/bad/pytorch`, and throw-away ones.
enum TorchFixtures {
  private static let root = URL(filePath: #filePath).deletingLastPathComponent()
    .deletingLastPathComponent().deletingLastPathComponent().appending(path: "Fixtures")

  static func good(_ name: String) -> String { root.appending(path: "good/pytorch/\(name)").path }

  static func bad(_ name: String) -> String { root.appending(path: "bad/pytorch/\(name)").path }

  /// The names in a folder of fixtures, sorted.
  static func names(_ folder: String) -> [String] {
    let path = root.appending(path: "\(folder)/pytorch").path
    return ((try? FileManager.default.contentsOfDirectory(atPath: path)) ?? []).sorted()
  }

  /// What `good_pytorch.py` wrote down of a tensor.
  struct Expected {
    var name: String
    var dtype: String
    var shape: Shape
    var checksum: UInt32
    /// The first bytes, at most 64.
    var head: [UInt8]
  }

  static func expected(_ name: String) throws -> [Expected] {
    try String(contentsOfFile: good(name + ".txt"), encoding: .utf8).split(separator: "\n").map {
      let fields = $0.split(separator: "\t", omittingEmptySubsequences: false).map(String.init)
      let digits = Array(fields[4].utf8)
      return Expected(
        name: fields[0], dtype: fields[1],
        shape: Shape(fields[2].split(separator: ",").map { Int($0)! }),
        checksum: UInt32(fields[3], radix: 16)!,
        head: stride(from: 0, to: digits.count, by: 2).map {
          UInt8(String(decoding: digits[$0..<$0 + 2], as: UTF8.self), radix: 16)!
        })
    }
  }

  /// Runs `body` with a directory that is removed afterwards.
  static func withDirectory<Result>(_ body: (String) throws -> Result) throws -> Result {
    let url = FileManager.default.temporaryDirectory.appending(path: "torch-\(UUID().uuidString)")
    try FileManager.default.createDirectory(at: url, withIntermediateDirectories: true)
    defer { try? FileManager.default.removeItem(at: url) }
    return try body(url.path)
  }

  /// What opening the bytes and reading every tensor ends in: the codes, or none.
  static func codes(of bytes: [UInt8], in directory: String) throws -> Set<String> {
    let path = directory + "/file.pt"
    try Data(bytes).write(to: URL(filePath: path))
    return codes(ofFile: path)
  }

  static func codes(ofFile path: String) -> Set<String> {
    do throws(Problems) {
      let reader = try TorchReader(path: path)
      for index in reader.tensors.indices {
        do throws(Diagnostic) { _ = try reader.bytes(of: index) } catch {
          throw Problems([error])
        }
      }
      return []
    } catch { return Set(error.diagnostics.map(\.code)) }
  }
}

/// A small generator whose seed a failing test prints.
struct SplitMix: RandomNumberGenerator {
  var state: UInt64

  mutating func next() -> UInt64 {
    state &+= 0x9e37_79b9_7f4a_7c15
    var z = state
    z = (z ^ z >> 30) &* 0xbf58_476d_1ce4_e5b9
    z = (z ^ z >> 27) &* 0x94d0_49bb_1331_11eb
    return z ^ z >> 31
  }
}
