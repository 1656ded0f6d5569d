import Conversion
import Hub
import Layouts
import Parity
import Tensors

extension Weighbridge {
  /// Reads back what was written and runs it beside its source.
  ///
  /// - Throws: `Refusal` when the two do not compute the same; what reading throws.
  public func verify(written path: String, against source: LoadedCheckpoint) throws {
    let written = try load(CheckpointInput(path: path))
    let result = try parity(
      source, written, tokens: .random(batch: 1, length: 24, seed: 0), ParityRequest())
    guard !result.passes, let layout = written.bound?.layout else { return }
    let divergence = result.report.firstDivergence
    throw Refusal(
      layout: layout,
      problems: [
        Diagnostic(
          code: "verify.differs", subject: divergence?.stage ?? "logits",
          message: "what was written does not compute what the source computes",
          notes: divergence.map { ["suspects: \($0.suspects.joined(separator: ", "))"] } ?? [],
          help: "nothing was left at the destination; please report this")
      ])
  }
}
