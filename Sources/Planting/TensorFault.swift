import Hub
import Tensors

/// What may happen to a tensor.
package enum TensorFault: String, CaseIterable, Sendable {
  case scale2 = "scaled by 1e-2"
  case scale3 = "scaled by 1e-3"
  case scale4 = "scaled by 1e-4"
  case scale5 = "scaled by 1e-5"
  case scale6 = "scaled by 1e-6"
  case element = "one element"
  case row = "one row scaled"
  case swappedRows = "two rows exchanged"
  case swappedHalves = "halves exchanged"
  case heads = "a block of rows moved"
  case negated
  case zeroed
  case notANumber = "one NaN"
  case transposed
  case cast = "cast to BF16"
  case rounded = "rounded to BF16 and back"

  /// Changes tensor `index`.
  package func apply(
    _ checkpoint: inout MemoryCheckpoint, _ index: Int, _ random: inout SplitMix
  ) {
    var values = checkpoint[index]
    guard !values.isEmpty else { return }
    let shape = checkpoint.tensors[index].shape
    let rows = max(shape.rows, 1)
    let width = max(values.count / rows, 1)
    func scaled(_ by: Double) -> [Double] { values.map { $0 * (1 + by) } }
    func exchange(_ a: Int, _ b: Int, _ count: Int) {
      for i in 0..<count * width { values.swapAt(a * width + i, b * width + i) }
    }
    switch self {
    case .scale2: values = scaled(1e-2)
    case .scale3: values = scaled(1e-3)
    case .scale4: values = scaled(1e-4)
    case .scale5: values = scaled(1e-5)
    case .scale6: values = scaled(1e-6)
    case .element:
      let i = random.next(values.count)
      values[i] += 1e-3 * max(abs(values[i]), 1e-2)
    case .row:
      let row = random.next(rows)
      for i in row * width..<(row + 1) * width { values[i] *= 1.001 }
    case .swappedRows:
      guard rows > 1 else { return }
      let a = random.next(rows)
      exchange(a, (a + 1 + random.next(rows - 1)) % rows, 1)
    case .swappedHalves:
      guard rows > 1 else { return }
      exchange(0, rows - rows / 2, rows / 2)
    case .heads:
      let block = max(1, rows / 4)
      guard rows >= 2 * block else { return }
      exchange(0, block, block)
    case .negated: values = values.map { -$0 }
    case .zeroed: values = values.map { _ in 0 }
    case .notANumber: values[random.next(values.count)] = .nan
    case .transposed:
      guard rows == width, rows > 1 else { return }
      values = (0..<rows * width).map { values[$0 % width * width + $0 / width] }
    case .cast, .rounded:
      let own = checkpoint.tensors[index].dtype
      guard own.bitWidth > 16 else { return }
      checkpoint.store(values, index, as: .bf16)
      if self == .rounded { checkpoint.store(checkpoint[index], index, as: own) }
      return
    }
    checkpoint[index] = values
  }

  /// Whether what should not stay float32 may have it done to it on purpose.
  package var isDeliberate: Bool { self == .cast || self == .rounded }
}

/// Random numbers that are the same everywhere (Steele, Lea and Flood 2014).
package struct SplitMix: Sendable {
  private var state: UInt64

  /// Numbers from `seed` on.
  package init(_ seed: UInt64) { state = seed }

  /// The next number.
  package mutating func next() -> UInt64 {
    state &+= 0x9e37_79b9_7f4a_7c15
    var z = state
    z = (z ^ (z >> 30)) &* 0xbf58_476d_1ce4_e5b9
    z = (z ^ (z >> 27)) &* 0x94d0_49bb_1331_11eb
    return z ^ (z >> 31)
  }

  /// A number below `count`.
  package mutating func next(_ count: Int) -> Int { Int(next() >> 33) % max(count, 1) }

  /// The numbers below `count` in another order.
  package mutating func permutation(_ count: Int) -> [Int] {
    var order = Array(0..<count)
    for i in stride(from: count - 1, to: 0, by: -1) { order.swapAt(i, next(i + 1)) }
    return order
  }
}
