import Checkpoints
import Conversion
public import Hub
public import Layouts
public import OrderedCollections
public import Tensors

/// The outcome of converting one kind of model to every framework.
public struct Conversions: Sendable {
  /// The outcome in one framework.
  public enum Verdict: Sendable {
    /// It converts.
    case converts(Exactness, reasons: [Reason], layout: String)
    /// It is refused.
    case refused([Diagnostic])
  }

  /// The model.
  public var exampleModel: ExampleModel
  /// The framework that it is of.
  public var framework: String
  /// The outcome by framework.
  public var verdicts: OrderedDictionary<String, Verdict>
}

extension Weighbridge {
  /// Plans the conversion of one model of every kind to every framework that can be written; no
  /// checkpoint is needed, and weights are arbitrary numbers.
  ///
  /// - Parameter isWanted: which layouts' models are asked for.
  /// - Throws: a diagnostic when a bundled exampleModel does not fit its layout.
  public func conversions(
    of isWanted: (Layout) -> Bool = { _ in true }
  ) throws(Diagnostic) -> [Conversions] {
    let planner = Planner(vocabulary: vocabulary)
    let frameworks = library.frameworks.filter { framework in
      library.layouts.contains { $0.framework == framework && $0.write != nil }
    }
    var result: [Conversions] = []
    for exampleModel in try LayoutLibrary.exampleModels() {
      guard let layout = library.layouts.first(where: { $0.name == exampleModel.layout }),
        isWanted(layout)
      else { continue }
      let source = try ExampleSource(exampleModel, layout, vocabulary)
      let reader = PieceReader(source: source)
      let inventory = try Inventory(
        infos: source.tensors, values: { SourceFacts.values($0, reader) },
        sameBytes: { _, _ in false })
      let bound = layout.bind(inventory, config: exampleModel.config, vocabulary: vocabulary)
      if let problem = bound.problems.first(where: { $0.severity == .error }) { throw problem }
      var verdicts: OrderedDictionary<String, Conversions.Verdict> = [:]
      for framework in frameworks {
        let targets = library.layouts.filter { $0.framework == framework }
        do {
          let plan = try planner.plan(
            bound, to: targets,
            options: ConversionOptions(
              container: Container(rawValue: targets[0].files.container) ?? .safetensors),
            reader: reader)
          verdicts[framework] = .converts(
            plan.exactness, reasons: plan.reasons, layout: plan.to.name)
        } catch let refusal as Refusal {
          verdicts[framework] = .refused(refusal.problems)
        } catch let problem as Diagnostic {
          throw problem
        } catch {
          throw Diagnostic(
            code: "layout.exampleModels", subject: exampleModel.name, message: "\(error)")
        }
      }
      result.append(
        Conversions(exampleModel: exampleModel, framework: layout.framework, verdicts: verdicts))
    }
    return result
  }
}

/// A checkpoint that is not there: the tensors that a config asks for, with arbitrary numbers, biases
/// of projections being zero as most frameworks start them. So no conversion passes only because all
/// is zero; where a bias has to be, the reason says it.
private struct ExampleSource: TensorSource {
  let container = Container.safetensors
  let files: [RandomAccessFile] = []
  let tensors: [TensorInfo]
  let metadata: [String: String] = [:]
  let attachments = JSONValue.null
  let warnings: [Diagnostic] = []

  init(
    _ exampleModel: ExampleModel, _ layout: Layout, _ vocabulary: Vocabulary
  ) throws(Diagnostic) {
    let expansion = layout.expand(
      config: exampleModel.config, vocabulary: vocabulary, inventory: Inventory.empty)
    if let problem = expansion.problems.first(where: { $0.severity == .error }) { throw problem }
    let isTied = expansion.spec["tied"] == true
    // A block that several sub-layers share stands there once.
    var names: Set<String> = []
    tensors = expansion.tensors.filter {
      ($0.tied == nil || !isTied) && names.insert($0.name).inserted
    }.map {
      TensorInfo(
        name: TensorName($0.name), dtype: .f32, shape: $0.shape,
        byteCount: $0.shape.byteCount(of: .f32) ?? 0, file: exampleModel.name)
    }
  }

  func read(
    _ index: Int, bytes range: Range<Int>, into buffer: UnsafeMutableRawBufferPointer
  ) throws(Diagnostic) {
    guard !tensors[index].name.string.hasSuffix("_proj.bias") else {
      buffer.initializeMemory(as: UInt8.self, repeating: 0)
      return
    }
    for offset in range {
      let element = UInt32(truncatingIfNeeded: offset / 4 &+ index &* 7919)
      // A number between 1 and 2 with scattered digits.
      let bits = 0x3F80_0000 | (element &* 2_654_435_761) >> 9
      buffer[offset - range.lowerBound] = UInt8(
        truncatingIfNeeded: bits >> (8 * UInt32(offset % 4)))
    }
  }
}
