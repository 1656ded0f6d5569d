import Checkpoints
import Hub
import Layouts
import OrderedCollections
import Tensors

/// Puts the target's tensors together from a hub model's pieces.
struct Assembler {
  var model: HubModel
  let expansion: Expansion
  let vocabulary: Vocabulary
  let options: ConversionOptions
  var tensors: [ConversionPlan.Tensor] = []
  var problems: [Diagnostic] = []
  private var used: Set<PieceID> = []
  /// The number of each tensor of pieces.
  private var places: [String: Int] = [:]
  /// Tensors that hold A in place of A_log, or the other way round.
  private var mapped: [PieceValue.Mapping: Int] = [:]

  init(
    model: HubModel, expansion: Expansion, vocabulary: Vocabulary, options: ConversionOptions
  ) {
    self.model = model
    self.expansion = expansion
    self.vocabulary = vocabulary
    self.options = options
  }

  mutating func assemble() throws(Diagnostic) {
    let tied = model.spec["tied"].bool == true
    for expected in expansion.tensors {
      if tied, expected.tied == .absent { continue }
      if tied, expected.tied == .both {
        shareEmbedding(expected)
        continue
      }
      try add(expected)
    }
    for buffer in expansion.buffers {
      let value =
        buffer.values.map { PieceValue.table($0, buffer.shape) } ?? .constant(0, buffer.shape)
      append(
        buffer.name, buffer.shape,
        [
          ConversionPlan.Part(
            piece: PieceID(nil, buffer.name), value: value, start: 0, count: buffer.shape.rows)
        ], keep: .always)
    }
    try checkLeftovers()
    noteMapped()
    if options.container == .gguf { GGUFTypes.note(&model, tensors, options) }
  }

  /// States the rounding of A.
  private mutating func noteMapped() {
    for (mapping, count) in mapped {
      let tensors = "\(count) tensor\(count == 1 ? "" : "s")"
      model.note(
        .rounding,
        mapping == .negExp
          ? "A = -exp(A_log) is written in place of A_log: computed in float64 and rounded once, in \(tensors)"
          : "A_log = log(-A) is written in place of A: computed in float64 and rounded once, in \(tensors)"
      )
    }
  }

  /// The head's tensor as another name for the embedding's storage.
  private mutating func shareEmbedding(_ expected: Expansion.ExpectedTensor) {
    guard
      let number = tensors.firstIndex(where: {
        $0.parts.first?.piece == PieceID(nil, "embed.weight")
      })
    else { return }
    var output = tensors[number].output
    output.name = TensorName(expected.name)
    var parts = tensors[number].parts
    if SameLayoutPlan.sharesStorage(options.container) {
      output.sharesStorageWith = number
      parts = []
    }
    tensors.append(ConversionPlan.Tensor(output: output, parts: parts))
  }

  private mutating func add(_ expected: Expansion.ExpectedTensor) throws(Diagnostic) {
    var parts: [ConversionPlan.Part] = []
    var keep = SameLayoutPlan.KeepsFloat32.never
    for segment in expected.segments {
      let id = PieceID(expected.sublayer, segment.role)
      guard let value = try value(of: id, for: expected.name) else { return }
      used.insert(id)
      keep = max(keep, SameLayoutPlan.KeepsFloat32(kind(of: id).piece(id.role)))
      parts.append(
        ConversionPlan.Part(piece: id, value: value, start: segment.start, count: segment.count))
    }
    if let first = places[expected.name] {
      // Sub-layers that share a tensor must agree in it.
      if tensors[first].parts.map(\.value) != parts.map(\.value) {
        problems.append(
          Diagnostic(
            code: "convert.shared", subject: expected.name,
            message: "would be shared by layers that have different weights there",
            help: "a form with a copy for each layer can hold them"))
      }
      return
    }
    places[expected.name] = tensors.count
    append(expected.name, expected.shape, parts, keep: keep)
  }

  private mutating func append(
    _ name: String, _ shape: Shape, _ parts: [ConversionPlan.Part],
    keep: SameLayoutPlan.KeepsFloat32
  ) {
    let natural =
      SameLayoutPlan.widest(parts.map(\.value)) ?? (keep > .never ? .f32 : modelDType)
    var dtype = SameLayoutPlan.cast(natural, options, keep)
    var blocks: OutputTensor.BlockType?
    if options.container == .gguf {
      (dtype, blocks) = GGUFTypes.choose(name, shape, dtype, options)
    }
    let isMapped = parts.contains { if case .mapped = $0.value { true } else { false } }
    if parts.contains(where: { !$0.value.isMove && !$0.value.isNew }), natural != .f32,
      natural != .f64, dtype != .f32
    {
      model.note(
        .rounding, "changed weights are rounded to \(dtype.rawValue), as the others are stored")
    }
    // Parts of several types become one: each is told for itself.
    for own in parts.map(\.value)
    where !own.isNew && own.dtype != dtype
      && (!isMapped || !SameLayoutPlan.isWider(dtype, than: own.dtype))
    {
      model.note(
        SameLayoutPlan.isWider(dtype, than: own.dtype) ? .exact : .rounding,
        SameLayoutPlan.isWider(dtype, than: own.dtype)
          ? "\(own.dtype.rawValue) is widened to \(dtype.rawValue); the values stay"
          : "\(own.dtype.rawValue) is rounded to \(dtype.rawValue), to nearest even")
    }
    guard let bytes = shape.byteCount(of: dtype) else {
      problems.append(
        Diagnostic(code: "convert.size", subject: name, message: "\(shape) is too large"))
      return
    }
    var output = OutputTensor(
      name: TensorName(name), dtype: dtype, shape: shape, byteCount: bytes)
    output.blocks = blocks
    tensors.append(ConversionPlan.Tensor(output: output, parts: parts))
  }

  /// The type of new pieces that stand alone: that of the embedding.
  private var modelDType: DType {
    model.pieces[PieceID(nil, "embed.weight")]?.dtype ?? .f32
  }

  private func kind(of id: PieceID) -> MixerKind {
    id.sublayer.flatMap { vocabulary.kinds[model.spec.sublayers[$0].kind] } ?? vocabulary.model
  }

  /// What the target's piece is made of: the model's own, or the identity of one it lacks.
  private mutating func value(of id: PieceID, for tensor: String) throws(Diagnostic) -> PieceValue?
  {
    if let value = model.pieces[id] { return value }
    let kind = kind(of: id)
    if let value = image(of: id, kind) { return value }
    guard let piece = kind.piece(id.role), let shape = try shape(of: id) else {
      missing(id, tensor)
      return nil
    }
    if let numbers = piece.computed?(model.spec) {
      model.note(.exact, "\(tensor) is written from the formula that the source computes it by")
      return .table(numbers, Shape([numbers.count]))
    }
    switch piece.identity {
    case .zero:
      model.note(.exact, "\(id.role) is written as zeros where the source has none")
      return .constant(0, shape)
    case .one:
      model.note(.exact, "\(id.role) is written as ones where the source has none")
      return .constant(1, shape)
    case nil:
      missing(id, tensor)
      return nil
    }
  }

  /// The piece made of the one that it is the image of, or of its own image.
  private mutating func image(of id: PieceID, _ kind: MixerKind) -> PieceValue? {
    let (role, mapping): (String?, PieceValue.Mapping) =
      if let image = kind.piece(id.role)?.image {
        (image.of, .negExp)
      } else {
        (kind.image(of: id.role)?.role, .logNeg)
      }
    guard let role, let base = model.pieces[PieceID(id.sublayer, role)] else { return nil }
    used.insert(PieceID(id.sublayer, role))
    mapped[mapping, default: 0] += 1
    return .mapped(base, mapping)
  }

  private func shape(of id: PieceID) throws(Diagnostic) -> Shape? {
    let sublayer = id.sublayer.map { model.spec.sublayers[$0] } ?? model.spec.sublayers.first
    let scope = Scope(sublayer?.attributes ?? [:], model.spec.attributes)
    return try kind(of: id).piece(id.role)?.shape(in: scope)
  }

  private mutating func missing(_ id: PieceID, _ tensor: String) {
    problems.append(
      Diagnostic(
        code: "convert.missing-piece", subject: tensor,
        message: "needs \(id), which the source does not have"))
  }

  /// Pieces for which the target has no place must be without effect.
  private mutating func checkLeftovers() throws(Diagnostic) {
    for (id, value) in model.pieces.sorted(by: { $0.key < $1.key }) where !used.contains(id) {
      if id == PieceID(nil, "head.weight"), model.spec["tied"].bool == true { continue }
      if let numbers = kind(of: id).piece(id.role)?.computed?(model.spec) {
        // The file's float32 table and the formula differ by its rounding.
        let same =
          numbers.count == value.shape.elementCount
          ? try model.reader.all(value) { MixerKind.Piece.isSame($1, computed: numbers[$0]) }
          : false
        if same {
          model.note(.exact, "\(id.role) is left out: it holds the values that the target computes")
          continue
        }
        problems.append(
          Diagnostic(
            code: "convert.frequencies", subject: name(of: id),
            message:
              "holds other \(id.role == "rotary.frequencies" ? "rotary frequencies" : "decays") than the target computes, and the target's config has no word for them",
            help: "a target that keeps them in the file can hold them: torchscale"))
        continue
      }
      switch kind(of: id).piece(id.role)?.identity {
      case .zero? where try model.reader.all(value) { $1 == 0 }:
        model.note(.exact, "\(id.role) is left out: it is zero")
      case .one? where try model.reader.all(value) { $1 == 1 }:
        model.note(.exact, "\(id.role) is left out: it is one")
      default:
        // A tensor of several pieces is named once.
        let name = name(of: id)
        if problems.contains(where: { $0.code == "convert.no-place" && $0.subject == name }) {
          continue
        }
        problems.append(
          Diagnostic(
            code: "convert.no-place", subject: name,
            message: "has no place in the target, and it is not without effect",
            help: "choose a target whose \(kind(of: id).name) has it"))
      }
    }
  }

  /// The source tensor that a piece comes from, as the user knows it.
  private func name(of id: PieceID) -> String {
    model.pieces[id]?.origin.map { model.reader.source.tensors[$0.tensor].name.string }
      ?? id.description
  }
}
