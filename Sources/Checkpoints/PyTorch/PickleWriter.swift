import Tensors

/// Writes a pickle of protocol 2, operation by operation; what is written repeatedly is recalled from
/// the memo.
struct PickleWriter {
  /// What is written so far.
  private(set) var bytes: [UInt8] = [0x80, 2]
  /// Texts and globals that were written once, with their places in the memo.
  private var memo: [String: UInt32] = [:]

  mutating func op(_ opcode: PickleOpcode) { bytes.append(opcode.rawValue) }

  /// A whole number that is not negative.
  mutating func int(_ value: Int) {
    switch value {
    case 0..<0x100:
      op(.binInt1)
      bytes.append(UInt8(value))
    case 0..<0x1_0000:
      op(.binInt2)
      bytes.append16(value)
    case 0..<0x8000_0000:
      op(.binInt)
      bytes.append32(UInt32(value))
    default:
      op(.long1)
      bytes.append(8)
      bytes.append64(value)
    }
  }

  /// A tuple of whole numbers.
  mutating func tuple(_ values: [Int]) {
    switch values.count {
    case 0: op(.emptyTuple)
    case 1...3:
      for value in values { int(value) }
      op([.tuple1, .tuple2, .tuple3][values.count - 1])
    default:
      op(.mark)
      for value in values { int(value) }
      op(.tuple)
    }
  }

  /// A text that is not put into the memo.
  mutating func text(_ text: String) {
    op(.binUnicode)
    bytes.append32(UInt32(text.utf8.count))
    bytes.append(contentsOf: text.utf8)
  }

  /// A text that occurs often.
  mutating func remembered(_ text: String) {
    recall("\"" + text) { $0.text(text) }
  }

  /// A class or function.
  mutating func global(_ module: String, _ name: String) {
    recall(module + "\n" + name) { pickle in
      pickle.op(.global)
      pickle.bytes.append(contentsOf: "\(module)\n\(name)\n".utf8)
    }
  }

  /// A bare instance; its state follows.
  mutating func object(_ module: String, _ name: String) {
    global(module, name)
    op(.emptyTuple)
    op(.newObj)
  }

  /// A dict of the keys and values that `items` writes.
  mutating func dict(_ items: (inout PickleWriter) -> Void) {
    op(.emptyDict)
    op(.mark)
    items(&self)
    op(.setItems)
  }

  private mutating func recall(_ key: String, else write: (inout PickleWriter) -> Void) {
    if let place = memo[key] {
      put(place, .binGet, .longBinGet)
      return
    }
    write(&self)
    let place = UInt32(memo.count)
    memo[key] = place
    put(place, .binPut, .longBinPut)
  }

  private mutating func put(_ place: UInt32, _ short: PickleOpcode, _ long: PickleOpcode) {
    if place < 256 {
      op(short)
      bytes.append(UInt8(place))
    } else {
      op(long)
      bytes.append32(place)
    }
  }
}
