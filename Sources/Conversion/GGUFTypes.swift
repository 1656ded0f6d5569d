import Checkpoints
import Hub
import OrderedCollections
import Tensors

/// The types that llama.cpp wants of each tensor, as its converter chooses them
/// (`convert_hf_to_gguf.py`, `prepare_tensors`).
enum GGUFTypes {
  /// The type of a tensor that would be `dtype` anywhere else.
  ///
  /// Vectors, norms, convolutions and what is no `.weight` are float32. The rest is in blocks where
  /// they are asked for and rows divide into them, else float16.
  static func choose(
    _ name: String, _ shape: Shape, _ dtype: DType, _ options: ConversionOptions
  ) -> (dtype: DType, blocks: OutputTensor.BlockType?) {
    let isMatrix =
      shape.rank > 1 && name.hasSuffix(".weight") && !name.hasSuffix("_norm.weight")
      && !name.hasSuffix("ssm_conv1d.weight")
    guard dtype.isFloat else { return (dtype, nil) }
    guard isMatrix else { return (.f32, nil) }
    guard let blocks = options.blocks else { return (dtype == .f64 ? .f32 : dtype, nil) }
    guard let width = shape.dims.last, width % 32 == 0 else { return (.f16, nil) }
    return (.f32, blocks)
  }

  /// Notes the blocks.
  static func note(
    _ model: inout HubModel, _ tensors: [ConversionPlan.Tensor], _ options: ConversionOptions
  ) {
    guard let blocks = options.blocks else { return }
    let count = tensors.count { $0.output.blocks != nil }
    let halves = tensors.count { $0.output.dtype == .f16 }
    model.note(
      .rounding,
      "\(count) matrices are rounded to \(blocks.rawValue), 32 numbers with one scale"
        + (halves > 0
          ? "; \(halves) whose rows do not divide by 32 to F16, as llama.cpp's converter does" : "")
    )
  }
}

extension HubModel {
  /// Notes that blocks of these types are carried on as the numbers that they stand for.
  mutating func noteBlocks(_ types: [String]) {
    let names = OrderedSet(types)
    guard !names.isEmpty else { return }
    note(
      .exact,
      "\(names.joined(separator: ", ")) blocks are taken as the F32 numbers that they stand for")
  }
}
