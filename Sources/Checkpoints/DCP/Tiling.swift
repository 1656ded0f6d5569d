import Tensors

/// Whether chunks fill a tensor exactly: nothing outside, no holes, nothing twice.
enum Tiling {
  /// Chunks times corners that are looked at; beyond that a tensor is refused.
  private static let cornerLimit = 1 << 27

  /// Refuses a chunk that is not inside `dims`.
  ///
  /// A chunk without elements may begin behind the end: ranks without rows have such.
  ///
  /// - Throws: `dcp.chunk-rank`, `dcp.chunk-range`.
  static func checkPlace(
    of box: DCPMetadata.Box, in dims: [Int], _ subject: @autoclosure () -> String
  ) throws(Diagnostic) {
    guard box.offsets.count == dims.count, box.sizes.count == dims.count else {
      throw .dcp(
        "chunk-rank", subject(),
        "has \(dims.count) dimensions, but a chunk with offsets \(Shape(box.offsets)) and sizes"
          + " \(Shape(box.sizes))", help: Diagnostic.fetchAgain)
    }
    for (axis, dim) in dims.enumerated() {
      let (offset, size) = (box.offsets[axis], box.sizes[axis])
      guard offset >= 0, size >= 0,
        box.isEmpty || offset.checkedPlus(size).map({ $0 <= dim }) ?? false
      else {
        throw .dcp(
          "chunk-range", subject(),
          "has size \(Shape(dims)), but a chunk of sizes \(Shape(box.sizes)) at"
            + " \(Shape(box.offsets)), which is not inside", help: Diagnostic.fetchAgain)
      }
    }
  }

  /// Refuses chunks that leave a hole or overlap. None of `boxes` is empty or out of `dims`.
  ///
  /// A set of boxes fills a box exactly if and only if their corners, each counted with the sign of a
  /// mixed difference, cancel but for the corners of the whole; so n chunks take n log n steps,
  /// however they lie.
  ///
  /// - Throws: `dcp.hole`, `dcp.overlap`, `dcp.chunk-rank`.
  static func check(
    _ boxes: [DCPMetadata.Box], in dims: [Int], _ subject: @autoclosure () -> String
  ) throws(Diagnostic) {
    guard !dims.contains(0) else { return }
    // Dimensions that no chunk cuts say nothing.
    let axes = dims.indices.filter { axis in
      boxes.contains { $0.sizes[axis] != dims[axis] }
    }
    if axes.count <= 1 { return try checkLine(boxes, axes.first, dims, subject()) }
    guard axes.count < 20,
      boxes.count.checkedTimes(1 << axes.count).map({ $0 <= cornerLimit })
        ?? false
    else {
      throw .dcp(
        "chunk-rank", subject(),
        "is cut along \(axes.count) dimensions into \(boxes.count) chunks, which is not read here")
    }
    var corners: [[Int]: Int] = [:]
    func add(_ offsets: [Int], _ sizes: [Int], _ weight: Int) {
      for corner in 0..<1 << axes.count {
        var point: [Int] = []
        point.reserveCapacity(axes.count)
        var sign = weight
        for (bit, axis) in axes.enumerated() {
          let isUpper = corner >> bit & 1 == 1
          if isUpper { sign = -sign }
          point.append(offsets[axis] + (isUpper ? sizes[axis] : 0))
        }
        corners[point, default: 0] += sign
      }
    }
    add(dims.map { _ in 0 }, dims, -1)
    for box in boxes { add(box.offsets, box.sizes, 1) }
    // At the first corner that is left over, the number of chunks there is not one.
    let first = corners.lazy.filter { $0.value != 0 }.min {
      $0.key.lexicographicallyPrecedes($1.key)
    }
    guard let first else { return }
    var point = dims.map { _ in 0 }
    for (axis, place) in zip(axes, first.key) { point[axis] = place }
    throw first.value > 0 ? overlap(point, subject()) : hole(point, dims, boxes.count, subject())
  }

  /// The same along one dimension.
  private static func checkLine(
    _ boxes: [DCPMetadata.Box], _ axis: Int?, _ dims: [Int], _ subject: String
  ) throws(Diagnostic) {
    var point = dims.map { _ in 0 }
    guard let axis else {
      if boxes.isEmpty { throw hole(point, dims, 0, subject) }
      if boxes.count > 1 { throw overlap(point, subject) }
      return
    }
    var end = 0
    for box in boxes.sorted(by: { $0.offsets[axis] < $1.offsets[axis] }) {
      point[axis] = min(end, box.offsets[axis])
      if box.offsets[axis] > end { throw hole(point, dims, boxes.count, subject) }
      if box.offsets[axis] < end {
        point[axis] = box.offsets[axis]
        throw overlap(point, subject)
      }
      end += box.sizes[axis]
    }
    point[axis] = end
    if end < dims[axis] { throw hole(point, dims, boxes.count, subject) }
  }

  private static func overlap(_ point: [Int], _ subject: String) -> Diagnostic {
    .dcp(
      "overlap", subject, "has two chunks that both hold the element \(Shape(point))",
      help: "nothing says which one counts; " + Diagnostic.fetchDirectoryAgain)
  }

  private static func hole(
    _ point: [Int], _ dims: [Int], _ count: Int, _ subject: String
  ) -> Diagnostic {
    .dcp(
      "hole", subject,
      "has size \(Shape(dims)), but none of its \(count) chunks holds the element \(Shape(point))",
      help: Diagnostic.fetchDirectoryAgain)
  }
}
