/// Unpacks raw deflate data (RFC 1951) into memory of known size; nothing is taken beyond it.
struct Inflater {
  /// Why data cannot be unpacked.
  enum Fault: Error {
    /// The data contradict the format, or end early.
    case damaged
    /// The data hold fewer bytes than were promised.
    case short
    /// The data hold more bytes than were promised.
    case long
  }

  private let input: UnsafeRawBufferPointer
  private var at = 0
  private var bits: UInt64 = 0
  private var bitCount = 0
  private let output: UnsafeMutableRawBufferPointer
  private var count = 0
  /// Whether it is enough to fill the output: the rest is not looked at.
  private let isPrefix: Bool

  /// Fills `output` from `input`, which must hold exactly as much, or with `isPrefix` at least as
  /// much.
  static func run(
    _ input: UnsafeRawBufferPointer, into output: UnsafeMutableRawBufferPointer,
    isPrefix: Bool = false
  ) throws(Fault) {
    var inflater = Inflater(input: input, output: output, isPrefix: isPrefix)
    try inflater.blocks()
  }

  private init(
    input: UnsafeRawBufferPointer, output: UnsafeMutableRawBufferPointer, isPrefix: Bool
  ) {
    self.input = input
    self.output = output
    self.isPrefix = isPrefix
  }

  /// Codes by length and value, as RFC 1951 orders them: decoding walks one bit at a time.
  private struct Codes {
    /// How many codes have each length from 0 to 15.
    var counts = [UInt16](repeating: 0, count: 16)
    var symbols: [UInt16] = []

    init(_ lengths: ArraySlice<UInt8>) throws(Fault) {
      for length in lengths { counts[Int(length)] += 1 }
      var left = 1
      for length in 1...15 {
        left = left * 2 - Int(counts[length])
        guard left >= 0 else { throw .damaged }
      }
      var offsets = [Int](repeating: 0, count: 16)
      for length in 1..<15 { offsets[length + 1] = offsets[length] + Int(counts[length]) }
      symbols = [UInt16](repeating: 0, count: lengths.count)
      for (symbol, length) in lengths.enumerated() where length != 0 {
        symbols[offsets[Int(length)]] = UInt16(symbol)
        offsets[Int(length)] += 1
      }
      counts[0] = 0
    }
  }

  private var isFull: Bool { isPrefix && count == output.count }

  private mutating func blocks() throws(Fault) {
    while !isFull {
      let isLast = try take(1) == 1
      switch try take(2) {
      case 0: try stored()
      case 1: try block(Self.fixed.literals, Self.fixed.distances)
      case 2:
        let (literals, distances) = try dynamic()
        try block(literals, distances)
      default: throw .damaged
      }
      if isLast { break }
    }
    guard count == output.count else { throw .short }
    // What is left of the input would be another tool's secret.
    guard isPrefix || at - bitCount / 8 == input.count else { throw .damaged }
  }

  private mutating func take(_ wanted: Int) throws(Fault) -> Int {
    while bitCount < wanted {
      guard at < input.count else { throw .damaged }
      bits |= UInt64(input[at]) << UInt64(bitCount)
      at += 1
      bitCount += 8
    }
    defer {
      bits >>= UInt64(wanted)
      bitCount -= wanted
    }
    return Int(bits & (1 << UInt64(wanted) - 1))
  }

  private mutating func symbol(_ codes: Codes) throws(Fault) -> Int {
    var code = 0
    var first = 0
    var index = 0
    for length in 1...15 {
      code |= try take(1)
      let own = Int(codes.counts[length])
      if code - own < first { return Int(codes.symbols[index + code - first]) }
      index += own
      first = (first + own) << 1
      code <<= 1
    }
    throw .damaged
  }

  private mutating func stored() throws(Fault) {
    _ = try take(bitCount % 8)
    let length = try take(16)
    guard try take(16) == ~length & 0xFFFF else { throw .damaged }
    // Whole bytes that were taken in advance go back.
    at -= bitCount / 8
    (bits, bitCount) = (0, 0)
    guard length <= input.count - at else { throw .damaged }
    let room = output.count - count
    guard length <= room || isPrefix else { throw .long }
    let copied = min(length, room)
    UnsafeMutableRawBufferPointer(rebasing: output[count..<count + copied]).copyMemory(
      from: UnsafeRawBufferPointer(rebasing: input[at..<at + copied]))
    count += copied
    at += length
  }

  private static let lengthBase = [
    3, 4, 5, 6, 7, 8, 9, 10, 11, 13, 15, 17, 19, 23, 27, 31, 35, 43, 51, 59, 67, 83, 99, 115, 131,
    163, 195, 227, 258,
  ]
  private static let lengthBits = [
    0, 0, 0, 0, 0, 0, 0, 0, 1, 1, 1, 1, 2, 2, 2, 2, 3, 3, 3, 3, 4, 4, 4, 4, 5, 5, 5, 5, 0,
  ]
  private static let distanceBase = [
    1, 2, 3, 4, 5, 7, 9, 13, 17, 25, 33, 49, 65, 97, 129, 193, 257, 385, 513, 769, 1025, 1537,
    2049, 3073, 4097, 6145, 8193, 12289, 16385, 24577,
  ]
  private static let distanceBits = [
    0, 0, 0, 0, 1, 1, 2, 2, 3, 3, 4, 4, 5, 5, 6, 6, 7, 7, 8, 8, 9, 9, 10, 10, 11, 11, 12, 12, 13,
    13,
  ]
  private static let order = [
    16, 17, 18, 0, 8, 7, 9, 6, 10, 5, 11, 4, 12, 3, 13, 2, 14, 1, 15,
  ]

  private static let fixed: (literals: Codes, distances: Codes) = {
    let lengths =
      [UInt8](repeating: 8, count: 144) + [UInt8](repeating: 9, count: 112)
      + [UInt8](repeating: 7, count: 24) + [UInt8](repeating: 8, count: 8)
    let distances = [UInt8](repeating: 5, count: 30)
    do throws(Fault) { return (try Codes(lengths[...]), try Codes(distances[...])) } catch {
      preconditionFailure("RFC 1951's own codes are whole")
    }
  }()

  private mutating func dynamic() throws(Fault) -> (Codes, Codes) {
    let literals = try take(5) + 257
    let distances = try take(5) + 1
    let given = try take(4) + 4
    guard literals <= 286, distances <= 30 else { throw .damaged }
    var lengths = [UInt8](repeating: 0, count: 19)
    for i in 0..<given { lengths[Self.order[i]] = UInt8(try take(3)) }
    let codes = try Codes(lengths[...])
    var all: [UInt8] = []
    while all.count < literals + distances {
      let symbol = try symbol(codes)
      switch symbol {
      case 0..<16: all.append(UInt8(symbol))
      case 16:
        guard let last = all.last else { throw .damaged }
        all += [UInt8](repeating: last, count: try take(2) + 3)
      case 17: all += [UInt8](repeating: 0, count: try take(3) + 3)
      default: all += [UInt8](repeating: 0, count: try take(7) + 11)
      }
    }
    guard all.count == literals + distances, all[256] != 0 else { throw .damaged }
    return (try Codes(all[..<literals]), try Codes(all[literals...]))
  }

  private mutating func block(_ literals: Codes, _ distances: Codes) throws(Fault) {
    while true {
      if isFull { return }
      let code = try symbol(literals)
      if code < 256 {
        guard count < output.count else { throw .long }
        output[count] = UInt8(code)
        count += 1
        continue
      }
      if code == 256 { return }
      guard code - 257 < Self.lengthBase.count else { throw .damaged }
      let length = Self.lengthBase[code - 257] + (try take(Self.lengthBits[code - 257]))
      let place = try symbol(distances)
      guard place < Self.distanceBase.count else { throw .damaged }
      let distance = Self.distanceBase[place] + (try take(Self.distanceBits[place]))
      guard distance <= count else { throw .damaged }
      let copied = min(length, output.count - count)
      guard copied == length || isPrefix else { throw .long }
      for _ in 0..<copied {
        output[count] = output[count - distance]
        count += 1
      }
    }
  }
}
