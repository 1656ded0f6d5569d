import Checkpoints
import Conversion
import Hub
import Inference
import Layouts
import Parity
import Tensors

/// Each library without those above it; the lines are the ones that its documentation shows.
enum Parts {
  static func run(path: String, config: JSONObject) throws {
    let shape: Shape = [128, 64]
    print(shape.byteCount(of: .bf16) ?? 0)  // 16384

    let source = try openCheckpoint(at: path)
    for tensor in source.tensors.prefix(1) { print(tensor.name, tensor.dtype, tensor.shape) }
    let bytes = try source.bytes(of: 0)
    print(bytes.count)

    let library = try LayoutLibrary.bundled()
    let inventory = try Inventory(
      infos: source.tensors, values: { _ in nil }, sameBytes: { _, _ in false })
    let fitting = library.candidates(for: inventory, config: config)[0]
    let model = fitting.layout.bind(inventory, config: config, vocabulary: .standard)
    print(fitting.name, model.spec.family, model.isSound)

    let reader = PieceReader(source: source)
    let plan = try Planner(vocabulary: .standard).plan(
      model, to: library.layouts(of: "hf"), options: ConversionOptions(dtype: .bf16), reader: reader
    )
    print(plan.exactness, plan.tensors.count)  // rounding, and the tensors that would be written

    // The model with its weights: what the engine runs.
    let weights = HubModel(model, source: source)
    let arbiter = try Model<Double>(spec: model.spec, weights: weights)
    print(try arbiter.generate(prompt: [1, 2, 3], count: 4, sampling: .greedy))

    let lockstep = Lockstep(
      reference: weights, other: weights, tokens: [[1, 2, 3]], tolerance: Tolerance(),
      commonRows: model.spec["vocab_rows"].int ?? 0)
    let report = try lockstep.run(Double.self)
    print(report.passes, report.stages.map(\.name).last ?? "")
  }
}
