/// Changes inputs at random, the same way in every run: what an input becomes depends on nothing but
/// the run's seed and the input's number.
struct Mutator {
  /// How inputs of a target are built.
  enum Kind { case text, layout, binary, pickle, safetensors }

  private var state: UInt64
  private let kind: Kind

  init(seed: UInt64, number: Int, kind: Kind) {
    state = seed &* 0xD134_2543_DE82_EF95 &+ UInt64(truncatingIfNeeded: number)
    self.kind = kind
    _ = next()
  }

  /// splitmix64 (Steele et al. 2014).
  mutating func next() -> UInt64 {
    state &+= 0x9E37_79B9_7F4A_7C15
    var z = state
    z = (z ^ (z >> 30)) &* 0xBF58_476D_1CE4_E5B9
    z = (z ^ (z >> 27)) &* 0x94D0_49BB_1331_11EB
    return z ^ (z >> 31)
  }

  mutating func below(_ limit: Int) -> Int { limit <= 1 ? 0 : Int(next() % UInt64(limit)) }

  /// A changed copy of one of `seeds`.
  mutating func input(from seeds: [[UInt8]]) -> [UInt8] {
    let seed = seeds[below(seeds.count)]
    return input(from: seed, and: seeds[below(seeds.count)])
  }

  /// A changed copy of `seed`, with pieces of `other`.
  mutating func input(from seed: [UInt8], and other: [UInt8]) -> [UInt8] {
    guard kind == .safetensors, seed.count > 8 else { return changed(seed, other) }
    // Header and length are changed apart, or else nearly every input would die at the length.
    let (header, data) = Self.parts(seed)
    return joined(changed(header, Array(other.dropFirst(8))), data)
  }

  /// A safetensors file's header and what follows.
  static func parts(_ file: [UInt8]) -> (header: [UInt8], data: ArraySlice<UInt8>) {
    let length = min(Int(file[0]) | Int(file[1]) << 8 | Int(file[2]) << 16, file.count - 8)
    return (Array(file[8..<8 + length]), file[(8 + length)...])
  }

  /// A file of these, mostly with the right length before the header.
  mutating func joined(_ header: [UInt8], _ data: ArraySlice<UInt8>) -> [UInt8] {
    var prefix = (0..<8).map { UInt8(truncatingIfNeeded: header.count >> ($0 * 8)) }
    if below(16) == 0 { prefix[below(8)] = UInt8(truncatingIfNeeded: next()) }
    return prefix + header + data
  }

  private mutating func changed(_ seed: [UInt8], _ other: [UInt8]) -> [UInt8] {
    var bytes = seed
    for _ in 0...below(below(4) == 0 ? 12 : 3) {
      if bytes.isEmpty { bytes = [UInt8(truncatingIfNeeded: next())] }
      step(&bytes, other)
      // Repetition must not grow an input without end.
      if bytes.count > 1 << 18 { bytes.removeLast(bytes.count - 1 << 18) }
    }
    return bytes
  }

  private mutating func step(_ bytes: inout [UInt8], _ other: [UInt8]) {
    let at = below(bytes.count)
    switch below(12) {
    case 0: bytes[at] ^= 1 << UInt8(below(8))
    case 1: bytes[at] = UInt8(truncatingIfNeeded: next())
    case 2: bytes.remove(at: at)
    case 3: bytes.insert(bytes[below(bytes.count)], at: at)
    case 4: bytes.removeSubrange(at..<min(bytes.count, at + below(64)))
    case 5:
      let from = below(bytes.count)
      let piece = Array(bytes[from..<min(bytes.count, from + below(64))])
      for _ in 0...(below(16) == 0 ? below(200) : 0) { bytes.insert(contentsOf: piece, at: at) }
    case 6:
      guard !other.isEmpty else { return }
      let from = below(other.count)
      bytes.insert(contentsOf: other[from..<min(other.count, from + below(128))], at: at)
    case 7: bytes.removeSubrange(at...)
    case 8, 9: number(&bytes, at)
    default: word(&bytes, at)
    }
  }

  private static let decimals: [String] = [
    "0", "-1", "1", "2", "00", "1e3", "1.5", "255", "65536", "2147483648", "4294967296",
    "4611686018427387904", "9223372036854775807", "9223372036854775808", "-9223372036854775808",
    "18446744073709551615", "18446744073709551616", "1e308", "1e999", "NaN", "-0", "1000000",
  ]

  private static let widths: [UInt64] = [
    0, 1, 0x7F, 0x80, 0xFF, 0x7FFF, 0x8000, 0xFFFF, 0x7FFF_FFFF, 0x8000_0000, 0xFFFF_FFFF,
    0x7FFF_FFFF_FFFF_FFFF, 0x8000_0000_0000_0000, 0xFFFF_FFFF_FFFF_FFFF,
  ]

  /// Puts another number in the place of one: digits in a text, little-endian bytes elsewhere.
  private mutating func number(_ bytes: inout [UInt8], _ at: Int) {
    guard [.text, .layout, .safetensors].contains(kind) else {
      let value = Self.widths[below(Self.widths.count)]
      for i in 0..<min(1 << below(4), bytes.count - at) {
        bytes[at + i] = UInt8(truncatingIfNeeded: value >> UInt64(i * 8))
      }
      return
    }
    func isDigit(_ byte: UInt8) -> Bool { byte >= 48 && byte <= 57 }
    guard let start = bytes[at...].firstIndex(where: isDigit) else { return }
    let end = bytes[start...].firstIndex { !isDigit($0) } ?? bytes.count
    let text = Self.decimals[below(Self.decimals.count)]
    bytes.replaceSubrange(start..<end, with: Array(text.utf8))
  }

  private static let textWords: [String] = [
    "{", "}", "[", "]", ",", ":", "\"", "\\", "\\u0000", "\\ud800", "null", "true", "{}", "[]",
    "\"\"", "[[[[[[[[", "{\"a\":{\"a\":", "\u{FEFF}", "\u{0}", "../", "/", "\u{301}\u{316}",
    "\\u0301\\u0316",
    "&a ", "*a", "- ",
    "\n  ",
    "? ", "<<: ", "!!int ", "{l}", "{n_layer}", "(", ")", "+", "*", "//", "-", "%", "if ", "for ",
  ]

  private static let layoutWords =
    textWords + [
      "&a [*a,*a]", "- - - - ", "range(1000000)", "[x for x in range(99)]", " ?? ", "[i] + ",
    ]

  /// Complete instructions of a pickle, so that more than the first byte is ever reached.
  private static let instructions: [[UInt8]] =
    ([
      "J\u{1}\u{0}\u{0}\u{0}", "K\u{7}", "h\u{0}", "q\u{0}", "r\u{0}\u{0}\u{0}\u{1}",
      "ccollections\nOrderedDict\n", "ctorch._utils\n_rebuild_tensor_v2\n",
      "ctorch\nFloatStorage\n", "cos\nsystem\n", "cbuiltins\ngetattr\n",
      "X\u{1}\u{0}\u{0}\u{0}a", "\u{8c}\u{1}a", "\u{8a}\u{8}", "I1\n", "L1L\n", "S'a'\n", "Va\n",
      "F1.0\n", "P1\n", "i\n\n", "\u{80}\u{2}", "\u{95}", "\u{81}", "\u{85}", "\u{86}", "\u{87}",
      "\u{88}", "\u{8f}", "\u{90}", "\u{91}", "\u{92}", "\u{93}", "\u{94}",
    ] + "(.012}])tldaesubRQoN".map(String.init))
    .map { text in text.unicodeScalars.map { UInt8($0.value) } }

  private mutating func word(_ bytes: inout [UInt8], _ at: Int) {
    switch kind {
    case .pickle:
      bytes.insert(contentsOf: Self.instructions[below(Self.instructions.count)], at: at)
    case .text, .safetensors:
      bytes.insert(contentsOf: Self.textWords[below(Self.textWords.count)].utf8, at: at)
    case .layout:
      bytes.insert(contentsOf: Self.layoutWords[below(Self.layoutWords.count)].utf8, at: at)
    case .binary: number(&bytes, at)
    }
  }
}
