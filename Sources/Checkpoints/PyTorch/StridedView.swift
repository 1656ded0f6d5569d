import Tensors

/// A tensor as PyTorch keeps it: extents and strides over a stretch of a file.
struct StridedView: Sendable {
  /// Where element 0 lies, in bytes from the start of the file.
  var base: Int
  /// Bytes of an element.
  var itemSize: Int
  /// The extents, outermost first.
  var dims: [Int]
  /// Elements from one index to the next, for each extent; never negative.
  var strides: [Int]

  /// Whether the elements lie row-major and without gaps.
  var isDense: Bool {
    guard !dims.contains(0) else { return true }
    var expected = 1
    for (dim, stride) in zip(dims, strides).reversed() where dim > 1 {
      guard stride == expected else { return false }
      expected *= dim
    }
    return true
  }

  /// The number of elements from the first to the last in storage, or `nil` on overflow; 0 if empty.
  static func span(dims: [Int], strides: [Int]) -> Int? {
    guard !dims.contains(0) else { return 0 }
    var last = 0
    for (dim, stride) in zip(dims, strides) {
      guard let step = (dim - 1).checkedTimes(stride), let next = last.checkedPlus(step) else {
        return nil
      }
      last = next
    }
    return last.checkedPlus(1)
  }

  /// Reads the bytes `range` of the dense, row-major form into `buffer`.
  func read(
    _ range: Range<Int>, from file: any StoredBytes, into buffer: UnsafeMutableRawBufferPointer
  ) throws(Diagnostic) {
    guard !range.isEmpty else { return }
    if isDense { return try file.read(at: base + range.lowerBound, into: buffer) }
    let gather = StridedGather(view: self, file: file)
    defer { gather.free() }
    // Whole elements go straight to the buffer; a cut one at either end goes through a small one.
    var at = range.lowerBound
    while at < range.upperBound {
      let element = at / itemSize
      let skipped = at - element * itemSize
      let whole = (range.upperBound - at) / itemSize
      let out = at - range.lowerBound
      if skipped == 0, whole > 0 {
        try gather.elements(element..<element + whole, into: buffer.baseAddress! + out)
        at += whole * itemSize
      } else {
        let count = min(itemSize - skipped, range.upperBound - at)
        var item: (UInt64, UInt64) = (0, 0)
        var failure: Diagnostic?
        withUnsafeMutableBytes(of: &item) { bytes in
          do throws(Diagnostic) {
            try gather.elements(element..<element + 1, into: bytes.baseAddress!)
            (buffer.baseAddress! + out).copyMemory(
              from: bytes.baseAddress! + skipped, byteCount: count)
          } catch { failure = error }
        }
        if let failure { throw failure }
        at += count
      }
    }
  }
}
