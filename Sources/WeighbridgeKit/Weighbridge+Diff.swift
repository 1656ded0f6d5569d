public import Parity

extension Weighbridge {
  /// Compares two checkpoints of any layouts, tensor by tensor, after mapping both to the hub.
  ///
  /// - Throws: `Problems` for a checkpoint that cannot be used; `diff.stacks` for two models that
  ///   have nothing to compare.
  public func diff(_ a: CheckpointInput, _ b: CheckpointInput) throws -> CheckpointDiff {
    let (first, second) = try loadPair(a, b)
    let pair = try aligned(first, second)
    let meter = Meter(total: pair.a.byteCount, progress)
    return try CheckpointDiff(pair) { meter?.add($0, $1) }
  }
}
