import Checkpoints
import Hub
import Tensors
import TestSupport
import WeighbridgeKit

/// A copy of a fixture, `models/samba-fla/fla` unless it is said, in which something was changed by hand.
struct Altered {
  /// The directory of the copy.
  let path: String
  private let directory: TemporaryDirectory

  /// Copies the fixture; `change` may exchange tensors, `config` replaces texts in the config.
  init(
    of model: String = "samba-fla/fla", config replacements: [(String, String)] = [],
    _ change: (inout Weights) -> Void = { _ in }
  ) throws {
    directory = TemporaryDirectory()
    path = directory.path
    let source = Fixtures.path("models/\(model)")
    var weights = try Weights(source + "/model.safetensors")
    change(&weights)
    Files.write(weights.file, to: path + "/model.safetensors")
    var text = Files.text(source + "/config.json")
    for (old, new) in replacements {
      let parts = text.split(separator: old, maxSplits: 1, omittingEmptySubsequences: false)
      precondition(parts.count == 2, "the config does not say \(old)")
      text = parts[0] + new + parts[1]
    }
    Files.write(text, to: path + "/config.json")
  }

  /// The input for the facade.
  var input: CheckpointInput { CheckpointInput(path: path) }

  /// Float32 tensors by name, in the order of the file.
  struct Weights {
    private var names: [String] = []
    private var shapes: [[Int]] = []
    private var values: [[Float]] = []
    /// Tensors that are to be written in bfloat16.
    var bfloat16: Set<String> = []

    init(_ path: String) throws {
      let reader = try SafetensorsReader(path: path)
      for (i, info) in reader.tensors.enumerated() {
        names.append(info.name.string)
        shapes.append(info.shape.dims)
        let bytes = try reader.bytes(of: i)
        values.append(
          bytes.withUnsafeBytes { raw in
            (0..<raw.count / 4).map {
              Float(bitPattern: raw.loadUnaligned(fromByteOffset: 4 * $0, as: UInt32.self))
            }
          })
      }
    }

    subscript(name: String) -> [Float] {
      get { values[names.firstIndex(of: name)!] }
      set { values[names.firstIndex(of: name)!] = newValue }
    }

    func columns(_ name: String) -> Int {
      shapes[names.firstIndex(of: name)!].dropFirst().reduce(1, *)
    }

    /// Exchanges `count` rows from row `a` on with those from row `b` on.
    mutating func swapRows(_ name: String, _ a: Int, _ b: Int, _ count: Int) {
      let width = columns(name)
      for i in 0..<count * width { self[name].swapAt(a * width + i, b * width + i) }
    }

    var file: [UInt8] {
      var builder = SafetensorsBuilder()
      for i in names.indices {
        guard bfloat16.contains(names[i]) else {
          builder.add(names[i], shapes[i], values[i])
          continue
        }
        // The fixture's own rounding, apart from the code under test: to nearest, ties to even.
        let bytes = values[i].flatMap { value -> [UInt8] in
          let bits = value.bitPattern
          let rounded = (bits &+ 0x7fff &+ ((bits >> 16) & 1)) >> 16
          return [UInt8(rounded & 0xff), UInt8(rounded >> 8)]
        }
        builder.add(names[i], .bf16, shapes[i], bytes)
      }
      return builder.bytes
    }
  }
}
