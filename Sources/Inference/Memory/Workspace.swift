/// Memory for activations and weights that is used again and again, so that a pass does not pay for
/// fresh pages at every sub-layer. One pass uses it at a time.
final class Workspace {
  private var free: [Int: [UnsafeMutableRawPointer]] = [:]

  init() {}

  deinit { drop() }

  /// Gives unused memory back to the system.
  func drop() {
    for blocks in free.values { blocks.forEach { $0.deallocate() } }
    free = [:]
  }

  /// Room for `count` values; what stands in it is not defined.
  func buffer<T>(_ count: Int, of _: T.Type = T.self) -> Buffer<T> {
    let capacity = Workspace.capacity(count * MemoryLayout<T>.stride)
    if let block = free[capacity]?.popLast() {
      return Buffer(count: count, block: block, capacity: capacity, workspace: self)
    }
    let block = UnsafeMutableRawPointer.allocate(byteCount: capacity, alignment: 64)
    return Buffer(count: count, block: block, capacity: capacity, workspace: self)
  }

  /// `count` zeros.
  func zeros<T: Real>(_ count: Int, of _: T.Type = T.self) -> Buffer<T> {
    let buffer: Buffer<T> = self.buffer(count)
    buffer.pointer.update(repeating: 0, count: count)
    return buffer
  }

  fileprivate func giveBack(_ block: UnsafeMutableRawPointer, capacity: Int) {
    free[capacity, default: []].append(block)
  }

  // Sizes are rounded up to an eighth of their power of two, so that a block finds a next user.
  private static func capacity(_ bytes: Int) -> Int {
    let bytes = max(bytes, 64)
    let step = max(64, (1 << (Int.bitWidth - 1 - bytes.leadingZeroBitCount)) / 8)
    return (bytes + step - 1) / step * step
  }
}

/// `count` values of scratch memory, aligned to 64 bytes; they go back to their workspace when the
/// last reference goes.
final class Buffer<T> {
  let count: Int
  let pointer: UnsafeMutablePointer<T>
  private let block: UnsafeMutableRawPointer
  private let capacity: Int
  private let workspace: Workspace

  fileprivate init(
    count: Int, block: UnsafeMutableRawPointer, capacity: Int, workspace: Workspace
  ) {
    self.count = count
    self.block = block
    self.capacity = capacity
    self.workspace = workspace
    pointer = block.bindMemory(to: T.self, capacity: max(count, 1))
  }

  deinit { workspace.giveBack(block, capacity: capacity) }

  /// The values, read-only.
  var read: UnsafePointer<T> { UnsafePointer(pointer) }
}
