extension HDF5ChunkGrid {
  /// A box of elements that lie one after the other in the dense tensor.
  struct Box: Equatable {
    var start: [Int]
    var count: [Int]
  }

  /// Elements from one index of each axis to the next: `[12, 4, 1]` for `[2, 3, 4]`.
  static func strides(_ dims: [Int]) -> [Int] {
    var strides = [Int](repeating: 1, count: dims.count)
    for axis in stride(from: dims.count - 2, through: 0, by: -1) {
      strides[axis] = strides[axis + 1] * dims[axis + 1]
    }
    return strides
  }

  /// Cuts a range of elements (in row-major order) into boxes, in order: at most two an axis.
  func boxes(_ range: Range<Int>) -> [Box] {
    let strides = Self.strides(dims)
    var boxes: [Box] = []
    func add(_ prefix: [Int], _ rows: Range<Int>) {
      let rest = dims[(prefix.count + 1)...]
      boxes.append(
        Box(
          start: prefix + [rows.lowerBound] + rest.map { _ in 0 },
          count: prefix.map { _ in 1 } + [rows.count] + rest))
    }
    func cut(_ prefix: [Int], _ a: Int, _ b: Int) {
      let size = strides[prefix.count]
      var row = a / size
      if a % size == 0, b % size == 0 { return add(prefix, row..<b / size) }
      if row == (b - 1) / size { return cut(prefix + [row], a - row * size, b - row * size) }
      if a % size != 0 {
        cut(prefix + [row], a - row * size, size)
        row += 1
      }
      let last = b / size
      if row < last { add(prefix, row..<last) }
      if b % size != 0 { cut(prefix + [last], 0, b - last * size) }
    }
    if !range.isEmpty { cut([], range.lowerBound, range.upperBound) }
    return boxes
  }

  /// Copies the part of `box` that is in the chunk at grid place `place` from the chunk's bytes into
  /// `output`, which starts at element `first` of the dense tensor.
  func copy(
    _ box: Box, ofChunkAt place: [Int], from source: UnsafeRawBufferPointer,
    into output: UnsafeMutableRawBufferPointer, first: Int
  ) {
    let rank = dims.count
    let denseStrides = Self.strides(dims)
    let chunkStrides = Self.strides(chunk)
    var low = [Int](repeating: 0, count: rank)
    var high = low
    for axis in 0..<rank {
      let origin = place[axis] * chunk[axis]
      low[axis] = max(box.start[axis], origin)
      high[axis] = min(box.start[axis] + box.count[axis], origin + chunk[axis])
      if low[axis] >= high[axis] { return }
    }
    let run = (high[rank - 1] - low[rank - 1]) * elementBytes
    var index = low
    while true {
      var from = 0
      var to = -first
      for axis in 0..<rank {
        from += (index[axis] - place[axis] * chunk[axis]) * chunkStrides[axis]
        to += index[axis] * denseStrides[axis]
      }
      UnsafeMutableRawBufferPointer(rebasing: output[(to * elementBytes)...]).copyMemory(
        from: UnsafeRawBufferPointer(
          rebasing: source[from * elementBytes..<from * elementBytes + run]))
      var axis = rank - 2
      while axis >= 0 {
        index[axis] += 1
        if index[axis] < high[axis] { break }
        index[axis] = low[axis]
        axis -= 1
      }
      if axis < 0 { return }
    }
  }

  /// Calls `body` with the grid place of every chunk that `box` touches.
  func eachChunk<E: Error>(of box: Box, _ body: ([Int]) throws(E) -> Void) throws(E) {
    let rank = dims.count
    let low = (0..<rank).map { box.start[$0] / chunk[$0] }
    let high = (0..<rank).map { (box.start[$0] + box.count[$0] - 1) / chunk[$0] }
    var place = low
    while true {
      try body(place)
      var axis = rank - 1
      while axis >= 0 {
        place[axis] += 1
        if place[axis] <= high[axis] { break }
        place[axis] = low[axis]
        axis -= 1
      }
      if axis < 0 { return }
    }
  }

  /// Whether a chunk reaches over the dataset's edge.
  func isEdge(_ place: [Int]) -> Bool {
    (0..<dims.count).contains { (place[$0] + 1) * chunk[$0] > dims[$0] }
  }
}
