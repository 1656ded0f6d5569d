import Conversion
import Hub
import Layouts
import Tensors

extension Weighbridge {
  /// Sees that a layout of the user's own would recognise what it is about to write.
  ///
  /// - Throws: `Refusal` with what keeps it from that.
  func checkReadable(_ plan: ConversionPlan) throws {
    guard library.isGiven(plan.to.name), !plan.to.detect.isNever else { return }
    let infos = plan.tensors.map {
      TensorInfo(
        name: $0.output.name, dtype: $0.output.dtype, shape: $0.output.shape,
        byteCount: $0.output.byteCount, file: plan.to.name)
    }
    let inventory = try Inventory(
      infos: infos, values: { _ in nil }, sameBytes: { _, _ in false },
      format: plan.to.detect.format)
    let obstacles = library.obstacles(to: plan.to.name, inventory, config: plan.config)
    guard !obstacles.isEmpty else { return }
    throw Refusal(
      layout: plan.to,
      problems: [
        Diagnostic(
          code: "convert.unreadable", subject: plan.to.name,
          message: "would not recognise what it writes: \(obstacles.joined(separator: "; "))",
          help: "mend the layout's detect section, or what its write section says")
      ])
  }
}
