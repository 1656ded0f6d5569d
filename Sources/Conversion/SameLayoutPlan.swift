import Checkpoints
import Hub
import Layouts
import OrderedCollections
import Tensors

/// A conversion that keeps the layout: another container, other shards, another type.
enum SameLayoutPlan {
  static func make(
    _ bound: MatchedLayout, _ resized: HubModel, _ vocabulary: Vocabulary,
    options: ConversionOptions
  ) -> ConversionPlan {
    var model = resized
    var tensors: [ConversionPlan.Tensor] = []
    let inventory = bound.inventory
    var byExtent: [TensorInfo.Extent: Int] = [:]
    if let first = inventory.renamings.first {
      model.note(
        .bitwise,
        "prefixes of wrappers are taken off the names: \(first.from) becomes \(first.to)"
      )
    }
    if let base = inventory.base {
      model.note(.bitwise, "the names of a base model get its head class's prefix \(base)")
    }
    let places = Dictionary(grouping: bound.tensors, by: \.number)
    let roles = roles(of: bound, vocabulary)
    for (number, info) in inventory.infos.enumerated() {
      var value = stored(number, info)
      let (id, keep) = roles[number] ?? (PieceID(nil, inventory.names[number]), .unlessAsked)
      if id.sublayer == nil, let changed = model.pieces[id],
        changed != bound.pieces[id].map({ .stored($0) })
      {
        value = changed
      } else if id.role == "head.weight", bound.spec["tied"].bool == true,
        let embed = model.pieces[PieceID(nil, "embed.weight")]
      {
        value = embed
      }
      var dtype =
        info.dtype.isFloat ? cast(info.dtype, options, keep) : info.dtype
      var blocks: OutputTensor.BlockType?
      var kept: TensorInfo.Stored?
      if options.container == .gguf, info.stored?.extent != nil, value == stored(number, info),
        options.blocks.map({ $0.rawValue == info.stored?.type }) ?? (options.dtype == nil)
      {
        kept = info.stored
      } else if options.container == .gguf {
        (dtype, blocks) = GGUFTypes.choose(inventory.names[number], info.shape, dtype, options)
      }
      if dtype != info.dtype {
        model.note(
          isWider(dtype, than: info.dtype) ? .exact : .rounding,
          isWider(dtype, than: info.dtype)
            ? "\(info.dtype.rawValue) is widened to \(dtype.rawValue); the values stay"
            : "\(info.dtype.rawValue) is rounded to \(dtype.rawValue), to nearest even")
      }
      // The layout's own shape, where the file has another of the same elements.
      let expected = (places[number] ?? []).map(\.expected)
      let own = expected.first?.shape ?? info.shape
      let shape = value.shape.elementCount == info.shape.elementCount ? own : value.shape
      if own != info.shape {
        model.note(
          .bitwise, "convolutions get the framework's own shape; the numbers stay in order")
      }
      // A head that stood for the embedding has two names.
      // A block that several sub-layers share has one.
      var names: [String] = []
      for tensor in expected where tensor.tied != .absent || expected.count == 1 {
        if !names.contains(tensor.name) { names.append(tensor.name) }
      }
      if names.count > 1 {
        model.note(
          .bitwise, "the tied head and embedding are both written, from the one in the file")
      } else if let name = names.first, name != inventory.names[number] {
        model.note(
          .bitwise, "\(inventory.names[number]) is written as \(name), to which it is tied")
      }
      if names.isEmpty { names = [inventory.names[number]] }
      var output = OutputTensor(
        name: TensorName(names[0]), dtype: dtype, shape: shape,
        byteCount: shape.byteCount(of: dtype) ?? info.byteCount)
      output.blocks = blocks
      output.stored = kept
      var parts = [
        ConversionPlan.Part(piece: id, value: value, start: 0, count: value.shape.rows)
      ]
      if let extent = info.extent, info.byteCount > 0, sharesStorage(options.container) {
        if let first = byExtent[extent], tensors[first].output.shape == shape,
          tensors[first].output.dtype == dtype
        {
          output.sharesStorageWith = first
          parts = []
        } else {
          byExtent[extent] = tensors.count
        }
      }
      tensors.append(ConversionPlan.Tensor(output: output, parts: parts))
      for name in names.dropFirst() {
        var twin = ConversionPlan.Tensor(output: output, parts: parts)
        twin.output.name = TensorName(name)
        if sharesStorage(options.container) {
          twin.output.sharesStorageWith = output.sharesStorageWith ?? tensors.count - 1
          twin.parts = []
        }
        tensors.append(twin)
      }
    }
    shareTiedHead(bound, &tensors, roles, options)
    if options.container == .gguf { GGUFTypes.note(&model, tensors, options) }
    let widened = zip(inventory.infos, tensors).compactMap { info, tensor in
      tensor.output.stored == nil ? info.stored?.type : nil
    }
    if !widened.isEmpty { model.noteBlocks(widened) }
    var config = ConfigWriter.plain(bound.config, for: bound.layout)
    for key in ["dtype", "torch_dtype"] where config[key] != nil && options.dtype != nil {
      config[key] = .string(dtypeName(model, options))
    }
    if let rows = options.vocabularyRows {
      // Also the keys that the config leaves to their defaults: those would round the rows up.
      let known = Set(bound.layout.config.keys.map(\.name))
      for key in ["vocab_size", "padded_vocab_size"] where known.contains(key) {
        config[key] = .int(rows)
      }
      // A framework that tells tokens and rows apart keeps knowing its tokens.
      if known.contains("padded_vocab_size"), config["vocab_size"] != nil,
        let tokens = model.spec["vocab_size"].int
      {
        config["vocab_size"] = .int(min(tokens, rows))
      }
      // GGUF's: mamba.vocab_size.
      for key in known where key.hasSuffix(".vocab_size") { config[key] = .int(rows) }
      if known.contains("pad_vocab_size_multiple") { config["pad_vocab_size_multiple"] = 1 }
    }
    return ConversionPlan(
      from: bound.layout, to: bound.layout, spec: model.spec,
      exactness: model.reasons.map(\.exactness).max() ?? .bitwise, reasons: model.reasons,
      config: config, tensors: tensors,
      warnings: bound.problems.filter { $0.severity == .warning } + model.warnings
        + ConfigWriter.warnings(config))
  }

  /// A head that equals the embedding byte for byte shares its storage where the framework's own
  /// files do.
  private static func shareTiedHead(
    _ bound: MatchedLayout, _ tensors: inout [ConversionPlan.Tensor],
    _ roles: [Int: (PieceID, KeepsFloat32)], _ options: ConversionOptions
  ) {
    guard bound.spec["tied"].bool == true, sharesStorage(options.container),
      let head = roles.first(where: { $0.value.0.role == "head.weight" })?.key,
      let embed = roles.first(where: { $0.value.0.role == "embed.weight" })?.key
    else { return }
    let (first, second) = (min(head, embed), max(head, embed))
    guard tensors[first].output.sharesStorageWith == nil,
      tensors[second].output.sharesStorageWith == nil,
      tensors[first].output.dtype == tensors[second].output.dtype,
      tensors[first].output.shape == tensors[second].output.shape
    else { return }
    tensors[second].output.sharesStorageWith = first
    tensors[second].parts = []
  }

  /// The role of each source tensor, which decides its type.
  private static func roles(of bound: MatchedLayout, _ vocabulary: Vocabulary)
    -> [Int: (PieceID, KeepsFloat32)]
  {
    var roles: [Int: (PieceID, KeepsFloat32)] = [:]
    for (expected, number) in bound.tensors {
      guard let role = expected.segments.first?.role else { continue }
      let kind =
        expected.sublayer.flatMap { vocabulary.kinds[bound.spec.sublayers[$0].kind] }
        ?? vocabulary.model
      roles[number] = (PieceID(expected.sublayer, role), KeepsFloat32(kind.piece(role)))
    }
    return roles
  }

  private static func stored(_ number: Int, _ info: TensorInfo) -> PieceValue {
    .stored(
      PieceLocation(tensor: number, whole: info))
  }

  // MARK: Types

  /// When a tensor is not cast below float32.
  enum KeepsFloat32: Int, Comparable {
    /// It is cast like the rest.
    case never
    /// Only `castsAll` casts it.
    case unlessAsked
    /// A table, which a framework computes in float32 whatever the weights are.
    case always

    init(_ piece: MixerKind.Piece?) {
      self =
        piece?.isTable == true ? .always : piece?.keepsFloat32 == true ? .unlessAsked : .never
    }

    static func < (a: KeepsFloat32, b: KeepsFloat32) -> Bool { a.rawValue < b.rawValue }
  }

  /// The type of a tensor under the options.
  static func cast(_ natural: DType, _ options: ConversionOptions, _ keep: KeepsFloat32) -> DType {
    guard natural.isFloat, let wanted = options.dtype else { return natural }
    // A tensor that was narrower than float32 from the start is cast like the rest.
    guard keep > (options.castsAll ? .unlessAsked : .never), isWider(natural, than: wanted),
      natural == .f32 || natural == .f64
    else { return wanted }
    return .f32
  }

  /// Whether every value of `b` is one of `a`.
  static func isWider(_ a: DType, than b: DType) -> Bool {
    switch (a, b) {
    case (.f64, .f32), (.f64, .f16), (.f64, .bf16), (.f32, .f16), (.f32, .bf16): true
    default: false
    }
  }

  /// The type that holds all the values of `values`; `nil` when all of them are new.
  static func widest(_ values: [PieceValue]) -> DType? {
    let own = values.filter { !$0.isNew }.map(\.dtype)
    guard let first = own.first else { return nil }
    return own.dropFirst().reduce(first) { a, b in
      a == b ? a : isWider(a, than: b) ? a : isWider(b, than: a) ? b : .f32
    }
  }

  /// The name that configs have for the type of the weights.
  static func dtypeName(_ model: HubModel, _ options: ConversionOptions) -> String {
    let own = model.pieces[PieceID(nil, "embed.weight")]?.dtype ?? .f32
    if let blocks = options.blocks { return blocks.rawValue.lowercased() }
    switch options.dtype ?? own {
    case .f64: return "float64"
    case .f16: return "float16"
    case .bf16: return "bfloat16"
    default: return "float32"
    }
  }

  /// Whether tied tensors share storage in the container, as they do in its framework's own files.
  static func sharesStorage(_ container: Container) -> Bool {
    container == .pytorch || container == .hdf5
  }
}
