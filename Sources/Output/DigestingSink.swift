import Synchronization
package import Tensors

/// A sink that hashes each tensor on its way to another: what was meant, before any disk saw it.
package final class DigestingSink: TensorSink {
  /// Those of blocks that are moved; else `nil`: bytes that the kernel moves would pass the digest by.
  package let extents: [TensorInfo.Extent?]
  package var outputs: [String] { inner.outputs }

  private let inner: any TensorSink
  private let tensors: [OutputTensor]
  private let states: [Slot]
  /// Blocks of a tensor that may wait for one before them. Beyond that the tensor is read back.
  private static let maxWaiting = 8

  /// A tensor of which some bytes have come.
  private struct State {
    var digest = Digest()
    var next = 0
    var waiting: [Int: [UInt8]] = [:]
    var isLost = false
  }

  /// Threads that write different tensors hash at once.
  private final class Slot: Sendable {
    let state = Mutex(State())
  }

  package init(_ inner: any TensorSink, tensors: [OutputTensor]) {
    self.inner = inner
    self.tensors = tensors
    extents = zip(tensors, inner.extents).map { $0.stored == nil ? nil : $1 }
    states = tensors.map { _ in Slot() }
  }

  package func write(_ index: Int, at offset: Int, _ bytes: UnsafeRawBufferPointer)
    throws(Diagnostic)
  {
    states[index].state.withLock { state in
      guard !state.isLost else { return }
      guard offset == state.next else {
        state.waiting[offset] = Array(bytes)
        if state.waiting.count > Self.maxWaiting || offset < state.next {
          state.isLost = true
          state.waiting = [:]
        }
        return
      }
      state.digest.update(bytes)
      state.next += bytes.count
      while let block = state.waiting.removeValue(forKey: state.next) {
        block.withUnsafeBytes { state.digest.update($0) }
        state.next += block.count
      }
    }
    try inner.write(index, at: offset, bytes)
  }

  package func move(
    _ count: Int, of file: RandomAccessFile, at offset: Int, toOutput output: Int, at target: Int
  ) throws(Diagnostic) {
    try inner.move(count, of: file, at: offset, toOutput: output, at: target)
  }

  package func finish(sync: Bool) throws(Diagnostic) { try inner.finish(sync: sync) }

  /// The digest of each tensor; `nil` for one that has to be read back.
  package func digests() -> [String?] {
    let own = tensors.indices.map { index in
      states[index].state.withLock { state in
        // Blocks are read back as the numbers that they stand for, not as those they were made of.
        !state.isLost && state.next == tensors[index].byteCount && tensors[index].blocks == nil
          && tensors[index].stored == nil
          ? state.digest.hex : nil
      }
    }
    return tensors.indices.map { own[tensors[$0].sharesStorageWith ?? $0] }
  }
}
