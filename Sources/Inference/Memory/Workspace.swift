import Hub

/// Memory for activations and weights that is used again and again, so that a pass does not pay for
/// fresh pages at every sub-layer. One pass uses it at a time.
///
/// A buffer's memory finds its next user only after `recycle()`, which is called between sub-layers:
/// Swift may let go of a buffer right after its pointer was taken, while a kernel still works on it.
final class Workspace {
  private var free: [Int: [UnsafeMutableRawPointer]] = [:]
  private var resting: [(block: UnsafeMutableRawPointer, capacity: Int)] = []

  init() {}

  deinit { drop() }

  /// Gives unused memory back to the system.
  func drop() {
    recycle()
    for blocks in free.values { blocks.forEach { $0.deallocate() } }
    free = [:]
  }

  /// Makes the memory of buffers that are gone available again. No kernel may be running.
  func recycle() {
    for (block, capacity) in resting { free[capacity, default: []].append(block) }
    resting = []
  }

  /// Room for `count` values; what stands in it is not defined.
  func buffer<T>(_ count: Int, of _: T.Type = T.self) -> Buffer<T> {
    let capacity = Workspace.capacity(count * MemoryLayout<T>.stride)
    return Buffer(count: count, block: take(capacity), capacity: capacity, workspace: self)
  }

  /// Calls `body` with room for `count` values, which is free for others as soon as it returns.
  func withScratch<T>(
    _ count: Int, of _: T.Type = T.self, _ body: (UnsafeMutablePointer<T>) -> Void
  ) {
    let capacity = Workspace.capacity(count * MemoryLayout<T>.stride)
    let block = take(capacity)
    body(block.bindMemory(to: T.self, capacity: max(count, 1)))
    free[capacity, default: []].append(block)
  }

  private func take(_ capacity: Int) -> UnsafeMutableRawPointer {
    free[capacity]?.popLast() ?? .allocate(byteCount: capacity, alignment: 64)
  }

  /// `count` zeros.
  func zeros<T: Real>(_ count: Int, of _: T.Type = T.self) -> Buffer<T> {
    let buffer: Buffer<T> = self.buffer(count)
    buffer.pointer.update(repeating: 0, count: count)
    return buffer
  }

  fileprivate func giveBack(_ block: UnsafeMutableRawPointer, capacity: Int) {
    resting.append((block, capacity))
  }

  // Sizes are rounded up to an eighth of their power of two, so that a block finds a next user.
  private static func capacity(_ bytes: Int) -> Int {
    let bytes = max(bytes, 64)
    let step = max(64, (1 << (Int.bitWidth - 1 - bytes.leadingZeroBitCount)) / 8)
    return (bytes + step - 1) / step * step
  }
}

/// `count` values of a workspace's memory, aligned to 64 bytes; they go back to it when the last
/// reference goes.
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
