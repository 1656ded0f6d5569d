import Tensors

/// Recognises what sharded training leaves where a model's tensors belong.
enum TrainingShards {
  /// Refuses tensors that hold no weights by themselves.
  ///
  /// - Throws: `pytorch.zero3-placeholders` for the empty tensors that DeepSpeed's ZeRO-3 leaves in a
  ///   module whose parameters lie on other ranks; `pytorch.flat-parameters` for FSDP's.
  static func check(_ tensors: [TensorInfo], subject: String) throws(Diagnostic) {
    var empty = 0
    var emptyWeights = 0
    var flat: TensorName?
    for tensor in tensors {
      let name = tensor.name.string
      if tensor.shape.dims == [0] {
        empty += 1
        if name.hasSuffix("weight") { emptyWeights += 1 }
      }
      if flat == nil, isFlat(name) { flat = tensor.name }
    }
    // Small parameters stay whole under ZeRO-3: norms and biases may be there, matrices are not.
    if empty >= 2, empty * 10 >= tensors.count * 9 || emptyWeights >= 2 {
      throw Diagnostic(
        code: "pytorch.zero3-placeholders", subject: subject,
        message: empty == tensors.count
          ? "all \(empty) tensors are empty: the placeholders of a model under DeepSpeed ZeRO-3,"
            + " whose weights lie in the ranks' own files"
          : "\(empty) of \(tensors.count) tensors have the shape [0]: the placeholders of a model"
            + " under DeepSpeed ZeRO-3, whose weights lie in the ranks' own files",
        help:
          "gather them with the zero_to_fp32.py that DeepSpeed writes next to the checkpoint, or"
          + " train with \"stage3_gather_16bit_weights_on_model_save\": true")
    }
    if let flat {
      throw Diagnostic(
        code: "pytorch.flat-parameters", subject: subject,
        message: "holds FSDP's flat parameters, such as \(shown(flat.string)): each is many tensors"
          + " end to end, whose names and shapes are not in the file",
        help:
          "save a full state dict: FSDP.set_state_dict_type(model, StateDictType.FULL_STATE_DICT)"
          + " before model.state_dict()")
    }
  }

  /// `_fsdp_wrapped_module._flat_param`, `layers.0.flat_param`, `flat_param_0`.
  private static func isFlat(_ name: String) -> Bool {
    guard name.contains("flat_param"), let last = name.split(separator: ".").last else {
      return false
    }
    return last == "flat_param" || last == "_flat_param"
      || last.hasPrefix("flat_param_") && last.dropFirst(11).allSatisfy(\.isNumber)
  }
}
