import Tensors

/// Collects the elements of a view whose order in the file is not the tensor's.
///
/// The wanted stretch is cut into boxes; each box is walked in the file's order, in blocks of at most
/// a mebibyte, so that a transposed matrix costs few reads and no more memory than a small one.
struct StridedGather {
  private let view: StridedView
  private let file: any StoredBytes
  private let block: UnsafeMutableRawPointer

  private static let blockBytes = 1 << 20
  /// Reading a gap is cheaper than another call up to this many bytes.
  private static let cheapBytes = 4096

  init(view: StridedView, file: any StoredBytes) {
    self.view = view
    self.file = file
    block = .allocate(byteCount: Self.blockBytes, alignment: 64)
  }

  func free() { block.deallocate() }

  /// One dimension of a box: its extent, and its strides in the file and in the output, in elements.
  private struct Axis {
    var count: Int
    var source: Int
    var target: Int
  }

  /// Collects the elements `range` of the row-major order, densely, at `out`.
  func elements(_ range: Range<Int>, into out: UnsafeMutableRawPointer) throws(Diagnostic) {
    let rank = view.dims.count
    // blocks[k]: elements of dimensions k and inward.
    var blocks = [Int](repeating: 1, count: rank + 1)
    for k in stride(from: rank - 1, through: 0, by: -1) {
      blocks[k] = blocks[k + 1] * view.dims[k]
    }
    var at = range.lowerBound
    while at < range.upperBound {
      // The outermost dimension of which whole rows fit here.
      var k = 0
      while k < rank, at % blocks[k + 1] != 0 || blocks[k + 1] > range.upperBound - at { k += 1 }
      let axis = min(k, rank - 1)
      let row = blocks[axis + 1]
      let index = at / row % view.dims[axis]
      let count = min(view.dims[axis] - index, (range.upperBound - at) / row)
      var source = 0
      var rest = at
      for j in 0...axis {
        source += rest / blocks[j + 1] * view.strides[j]
        rest %= blocks[j + 1]
      }
      var axes = [Axis(count: count, source: view.strides[axis], target: row)]
      for j in axis + 1..<max(rank, axis + 1) {
        axes.append(Axis(count: view.dims[j], source: view.strides[j], target: blocks[j + 1]))
      }
      try box(axes, source, out + (at - range.lowerBound) * view.itemSize)
      at += count * row
    }
  }

  /// Collects a box whose first element is number `source` of the storage.
  private func box(
    _ all: [Axis], _ source: Int, _ out: UnsafeMutableRawPointer
  ) throws(Diagnostic) {
    var axes = all.filter { $0.count > 1 }.sorted { $0.source < $1.source }
    if axes.isEmpty { axes = [Axis(count: 1, source: 1, target: 1)] }
    let limit = Self.blockBytes / view.itemSize
    // Inner axes that one block holds whole, and how far the next one can be taken along.
    var span = 1
    var count = 1
    var inner = 0
    while inner < axes.count {
      let next = span + (axes[inner].count - 1) * axes[inner].source
      guard worthwhile(next, count * axes[inner].count, limit, step: axes[inner].source) else {
        break
      }
      span = next
      count *= axes[inner].count
      inner += 1
    }
    if inner == axes.count {
      try load(source, span, at: 0)
      return scatter(axes[...], out)
    }
    let cut = axes[inner]
    var step = 1
    if cut.source == 0 || span + cut.source <= limit {
      let most = cut.source == 0 ? cut.count : min(cut.count, 1 + (limit - span) / cut.source)
      if worthwhile(span + (most - 1) * cut.source, count * most, limit, step: cut.source) {
        step = most
      }
    }
    // Where the gaps are too wide, single runs are packed side by side: one block still fills whole
    // lines of the output.
    let isPacked = step == 1
    if isPacked { step = min(cut.count, limit / span) }
    let outer = axes[(inner + 1)...]
    var odometer = [Int](repeating: 0, count: outer.count)
    while true {
      var from = source
      var to = 0
      for (axis, index) in zip(outer, odometer) {
        from += axis.source * index
        to += axis.target * index
      }
      var at = 0
      while at < cut.count {
        let here = min(step, cut.count - at)
        var part = axes[...inner]
        part[inner].count = here
        let first = from + at * cut.source
        if isPacked {
          part[inner].source = span
          for run in 0..<here { try load(first + run * cut.source, span, at: run * span) }
        } else {
          try load(first, span + (here - 1) * cut.source, at: 0)
        }
        scatter(part, out + (to + at * cut.target) * view.itemSize)
        at += here
      }
      guard advance(&odometer, outer) else { return }
    }
  }

  /// Whether to read `span` elements at once for `count` wanted ones that lie `step` apart at the
  /// outermost: a small gap is read faster than another call is made.
  private func worthwhile(_ span: Int, _ count: Int, _ limit: Int, step: Int) -> Bool {
    span <= limit && (span / 8 <= count || step * view.itemSize <= Self.cheapBytes)
  }

  private func advance(_ odometer: inout [Int], _ axes: ArraySlice<Axis>) -> Bool {
    for (place, axis) in zip(odometer.indices, axes) {
      odometer[place] += 1
      if odometer[place] < axis.count { return true }
      odometer[place] = 0
    }
    return false
  }

  /// Reads `span` elements from element `source` on to element `place` of the block.
  private func load(_ source: Int, _ span: Int, at place: Int) throws(Diagnostic) {
    try file.read(
      at: view.base + source * view.itemSize,
      into: UnsafeMutableRawBufferPointer(
        start: block + place * view.itemSize, count: span * view.itemSize))
  }

  /// Puts the elements of `axes` from the block to where they belong.
  private func scatter(_ axes: ArraySlice<Axis>, _ out: UnsafeMutableRawPointer) {
    // Innermost here: the axis along which the output lies closest.
    let loop = axes.indices.min { axes[$0].target < axes[$1].target }!
    let others = axes.indices.filter { $0 != loop }.map { axes[$0] }
    var odometer = [Int](repeating: 0, count: others.count)
    repeat {
      var from = 0
      var to = 0
      for (axis, index) in zip(others, odometer) {
        from += axis.source * index
        to += axis.target * index
      }
      let input = UnsafeRawPointer(block) + from * view.itemSize
      let output = out + to * view.itemSize
      switch view.itemSize {
      case 1: Self.copyLine(input, output, axes[loop], UInt8.self)
      case 2: Self.copyLine(input, output, axes[loop], UInt16.self)
      case 4: Self.copyLine(input, output, axes[loop], UInt32.self)
      default: Self.copyLine(input, output, axes[loop], UInt64.self)
      }
    } while advance(&odometer, others[...])
  }

  @inline(__always)
  private static func copyLine<Item: BitwiseCopyable>(
    _ input: UnsafeRawPointer, _ output: UnsafeMutableRawPointer, _ axis: Axis, _: Item.Type
  ) {
    let from = axis.source * MemoryLayout<Item>.size
    let to = axis.target * MemoryLayout<Item>.size
    for k in 0..<axis.count {
      output.storeBytes(
        of: input.loadUnaligned(fromByteOffset: k * from, as: Item.self), toByteOffset: k * to,
        as: Item.self)
    }
  }
}
