#if canImport(Glibc)
  import Glibc
#elseif canImport(Musl)
  import Musl
#else
  import Darwin
#endif

/// One target as libFuzzer wants it: bytes to read, and bytes to change.
public final class CoverageGuided {
  private let target: FuzzTarget
  private let seeds: [[UInt8]]
  private var reader: FuzzReader

  /// A target with the fixtures of `package`.
  ///
  /// - Throws: when the fixtures cannot be read.
  public init(_ target: FuzzTarget, package: String) throws {
    self.target = target
    seeds = try target.seeds(in: package)
    reader = try FuzzReader(target, package: package)
  }

  deinit { reader.close() }

  /// Writes the unchanged fixtures into a directory, as a first corpus.
  public func writeSeeds(into directory: String) {
    for (number, seed) in seeds.enumerated() {
      guard let file = fopen("\(directory)/seed-\(number)", "wb") else { continue }
      _ = seed.withUnsafeBytes { fwrite($0.baseAddress, 1, $0.count, file) }
      fclose(file)
    }
  }

  /// Reads an input.
  public func read(_ input: UnsafeRawBufferPointer) { _ = reader.accepts(Array(input)) }

  /// Changes `input` in half of the cases as the structured fuzzer does, in the others with
  /// `general`, and for safetensors corrects the header's length after it.
  public func change(
    _ input: [UInt8], most: Int, seed: UInt32, general: ([UInt8], Int) -> [UInt8]
  ) -> [UInt8] {
    var mutator = Mutator(seed: UInt64(seed), number: input.count, kind: target.kind)
    let structured = mutator.below(2) == 0
    let changed: [UInt8]
    if structured {
      changed = mutator.input(from: input, and: seeds[mutator.below(seeds.count)])
    } else if target.kind == .safetensors, input.count > 8 {
      let (header, data) = Mutator.parts(input)
      changed = mutator.joined(general(header, max(0, most - 8 - data.count)), data)
    } else {
      changed = general(input, most)
    }
    return Array(changed.prefix(most))
  }
}
