public import Hub
public import OrderedCollections
public import Tensors

/// A layout matched to a checkpoint: the model that it holds, and where each piece lies.
public struct MatchedLayout: Sendable {
  /// The layout.
  public var layout: Layout
  /// The framework's own config.
  public var config: JSONObject
  /// The model.
  public var spec: ModelSpec
  /// The checkpoint's tensors, by number, under their names without prefixes.
  public var inventory: Inventory
  /// Where each piece lies.
  public var pieces: PieceTable
  /// The layout's tensors that the checkpoint has: the expected one and its number.
  public var tensors: [(expected: Expansion.ExpectedTensor, number: Int)]
  /// Tensors that carry no weight (buffers).
  public var ignored: [Int]
  /// Groups of names that hold one and the same tensor.
  public var ties: [[String]]
  /// Whether it is of an older form that the framework's present version does not load.
  public var isLegacy: Bool
  /// Whether the config describes another model than the tensors are, so that `spec` says nothing of
  /// them: it asks for what is not supported, or for other sizes.
  public var isOfOtherModel: Bool
  /// Everything noticed; errors here mean that the pieces are not complete.
  public var problems: [Diagnostic]

  /// Whether the model can be used: no error among the problems.
  public var isSound: Bool { !problems.contains { $0.severity == .error } }
}

extension Layout {
  /// Matches a checkpoint to this layout: evaluates the config and finds the place of every tensor.
  ///
  /// - Parameter inertKeys: keys of the config that the layout does not know and that change nothing.
  public func bind(
    _ whole: Inventory, config: JSONObject, vocabulary: Vocabulary, inertKeys: Set<String> = []
  ) -> MatchedLayout {
    let inventory = whole.stripping(detect.strip)
    let expansion = expand(
      config: config, vocabulary: vocabulary, inventory: inventory, inertKeys: inertKeys)
    var binder = Binder(
      layout: self, inventory: inventory, expansion: expansion,
      config: ConfigFit(
        layout: self, inventory: inventory, raw: config, vocabulary: vocabulary,
        inertKeys: inertKeys))
    binder.bind()
    return MatchedLayout(
      layout: self, config: config, spec: binder.spec, inventory: inventory,
      pieces: binder.pieces, tensors: binder.matched, ignored: binder.ignored, ties: binder.ties,
      isLegacy: binder.expansion.isLegacy, isOfOtherModel: binder.isOfOtherModel,
      problems: binder.problems)
  }
}

struct Binder {
  let layout: Layout
  let inventory: Inventory
  private(set) var expansion: Expansion
  /// For the keys that the tensors contradict; `nil` while another config is tried.
  let config: ConfigFit?
  var spec: ModelSpec
  var pieces: PieceTable
  var matched: [(expected: Expansion.ExpectedTensor, number: Int)] = []
  var ignored: [Int] = []
  var ties: [[String]] = []
  var isOfOtherModel = false
  var problems: [Diagnostic]
  /// Tensors that are missing, of another shape or without a place.
  private var misfits: [Diagnostic] = []
  /// Their names without prefixes.
  private var misfitNames: [String] = []
  /// How many of them are of another shape.
  private var misshapen = 0
  /// Tensors in another shape of the same elements.
  private var reshaped: [Int] = []
  /// The extents of those of another shape, as the config asks for them and as they are.
  private(set) var extents: [(name: String, asked: Shape, found: Shape)] = []

  /// How many tensors do not fit.
  var misfitCount: Int { misfits.count }
  /// The names of some that do not, as the file has them.
  var someMisfits: [String] { misfits.prefix(3).map(\.subject) }
  /// The layers in which some do not.
  var misfitLayers: Set<Int> {
    Set(misfitNames.compactMap { ConfigSizes.layer(of: $0, layout) })
  }

  init(layout: Layout, inventory: Inventory, expansion: Expansion, config: ConfigFit? = nil) {
    self.layout = layout
    self.inventory = inventory
    self.expansion = expansion
    self.config = config
    spec = expansion.spec
    pieces = PieceTable(sublayers: expansion.spec.sublayers.count)
    problems = expansion.problems
  }

  mutating func bind() {
    // Without the whole list every tensor would look out of place.
    guard expansion.isComplete else {
      isOfOtherModel = true
      return
    }
    var used = [Bool](repeating: false, count: inventory.infos.count)
    matched.reserveCapacity(expansion.tensors.count)
    var headIsThere = false
    for expected in expansion.tensors {
      guard let number = inventory[expected.name] ?? standIn(for: expected) else {
        if expected.tied == nil { missing(expected) }
        continue
      }
      used[number] = true
      let shape = inventory.infos[number].shape
      if shape != expected.shape, shape == expected.form.alternative { reshaped.append(number) }
      guard shape == expected.shape || shape == expected.form.alternative else {
        let info = inventory.infos[number]
        misshapen += 1
        extents.append((expected.name, expected.shape, shape))
        misfit(
          expected.name,
          Diagnostic(
            code: "layout.shape", subject: info.name.string,
            message: "has the shape \(info.shape), but the config asks for \(expected.shape)",
            help: "give the config that belongs to this checkpoint with --config"))
        continue
      }
      matched.append((expected, number))
      if expected.tied != nil, isTied(head: number) {
        headIsThere = true
        continue
      }
      if expected.tied != nil { headIsThere = true }
      add(expected, number)
    }
    findStrays(used)
    if let config, !misfits.isEmpty, let fit = config.fit(of: self) {
      // What the tensors say is the better word for the model.
      let told = fit.binder
      self = Binder(layout: layout, inventory: inventory, expansion: told.expansion)
      bind()
      problems.insert(fit.problem, at: 0)
      return
    }
    if let cause = misfitsCause() {
      // Problems that follow from this one would blame the wrong thing.
      isOfOtherModel = true
      problems = expansion.problems + cause
      return
    }
    problems += misfits
    decideTie(headIsThere)
    noteReshaped()
  }

  /// The head in place of an embedding that the file does not hold, where the config ties the two.
  private mutating func standIn(for expected: Expansion.ExpectedTensor) -> Int? {
    guard expected.sublayer == nil, expected.form.roles == ["embed.weight"],
      spec["tied"].bool == true,
      let head = expansion.tensors.first(where: { $0.tied != nil }),
      head.shape == expected.shape, let number = inventory[head.name]
    else { return nil }
    problems.append(
      Diagnostic(
        .note, code: "layout.embedding-absent", subject: expected.name,
        message: "is not in the checkpoint; the config ties it to \(head.name), which is"))
    return number
  }

  /// The sizes that the config asks for beside the tensors'.
  var sizes: ConfigSizes { ConfigSizes(expansion, layout, inventory) }

  /// Why the tensors do not fit, when that is plain: the config asks for what is not supported, or
  /// its sizes are not those of the tensors.
  private func misfitsCause() -> [Diagnostic]? {
    guard !misfits.isEmpty else { return nil }
    if expansion.problems.contains(where: {
      $0.severity == .error && $0.code == "config.unsupported"
    }) {
      return []
    }
    let sizes = self.sizes
    // One odd tensor is a fault of its own: most of them have to be of another size, or two agree on
    // another width, or all that does not fit be layers that the other side does not have.
    guard sizes.differ,
      misshapen > matched.count || sizes.isWidthConfirmed
        || misfitNames.allSatisfy({ sizes.isOfSurplusLayer($0) })
    else { return nil }
    return [
      Diagnostic(
        code: "config.mismatch", subject: "config",
        message: "is not of this checkpoint: it asks for \(sizes.asked); the tensors have "
          + sizes.found,
        notes: [
          "so \(misfits.count) \(misfits.count == 1 ? "tensor does" : "tensors do") not fit, such as "
            + misfits.prefix(3).map(\.subject).joined(separator: ", ")
        ],
        help: sizes.lacksLayersOnly
          ? "give the config that belongs to this checkpoint with --config, or the whole checkpoint"
          : "give the config that belongs to this checkpoint with --config")
    ]
  }

  private mutating func noteReshaped() {
    guard let first = reshaped.first else { return }
    let info = inventory.infos[first]
    let own = matched.first { $0.number == first }!.expected.shape
    problems.append(
      Diagnostic(
        .note, code: "layout.reshaped", subject: info.name.string,
        message: reshaped.count == 1
          ? "has the shape \(info.shape), which holds the same numbers in the same order as \(own)"
          : "has the shape \(info.shape), as \(reshaped.count - 1) more do; it holds the same "
            + "numbers in the same order as \(own)",
        notes: ["MLX keeps convolutions in this form"]))
  }

  private mutating func misfit(_ name: String, _ problem: Diagnostic) {
    // A tensor that several sub-layers share is told of once.
    if misfitNames.last == name || expansion.hasSharedTensors && misfitNames.contains(name) {
      return
    }
    misfits.append(problem)
    misfitNames.append(name)
  }

  private mutating func missing(_ expected: Expansion.ExpectedTensor) {
    misfit(
      expected.name,
      Diagnostic(
        code: "layout.missing-tensor", subject: expected.name,
        message:
          "is not in the checkpoint; \(layout.name) expects it with the shape \(expected.shape)",
        help: "the checkpoint is incomplete, or the config belongs to another one"))
  }

  private func embedding() -> Int? {
    matched.first {
      $0.expected.sublayer == nil && $0.expected.segments.first?.role == "embed.weight"
    }?
    .number
  }

  private func isTied(head: Int) -> Bool {
    embedding().map { $0 == head || inventory.isSame($0, head) } ?? false
  }

  /// Absent: tied. Present and equal: tied. Present and different: untied, which the config must
  /// not contradict.
  private mutating func decideTie(_ headIsThere: Bool) {
    guard let head = expansion.tensors.first(where: { $0.tied != nil }) else { return }
    let configured = spec["tied"].bool ?? false
    let headPiece = pieces[PieceID(nil, "head.weight")]
    let tied = headPiece == nil
    spec.attributes["tied"] = .bool(tied)
    if tied, let embedding = embedding() {
      if headIsThere, let number = inventory[head.name] {
        // The head may stand for both.
        guard number != embedding else { return }
        ties.append([
          inventory.infos[embedding].name.string,
          inventory.infos[number].name.string,
        ])
      } else if !configured, inventory.base != nil {
        problems.append(
          Diagnostic(
            code: "layout.base-model", subject: head.name,
            message: "is not in the checkpoint, which holds a base model without its head, and the "
              + "config does not tie the head to the embedding",
            help: "save the model with its head, or correct the config if the two are tied"))
      } else if !configured {
        problems.append(
          Diagnostic(
            .warning, code: "layout.head-absent", subject: head.name,
            message:
              "is not in the checkpoint, though the config does not tie it to the embedding; taken as tied"
          ))
      }
    } else if configured, headIsThere {
      problems.append(
        Diagnostic(
          code: "layout.tie-conflict", subject: head.name,
          message: "differs from the embedding, though the config ties the two",
          help: "the framework would use one for both; correct the config, or drop the wrong tensor"
        ))
    }
  }

  private mutating func add(_ expected: Expansion.ExpectedTensor, _ number: Int) {
    let info = inventory.infos[number]
    if info.dtype.isWhole {
      problems.append(
        Diagnostic(
          code: "layout.dtype", subject: info.name.string,
          message: "holds \(info.dtype.rawValue), whole numbers, where weights are expected",
          help: "whole numbers may be a quantization or another type's bits; store the weights "
            + "themselves, as F32, F16 or BF16"))
    }
    if info.dtype == .c64 {
      problems.append(
        Diagnostic(
          code: "layout.dtype", subject: info.name.string,
          message: "holds \(info.dtype.rawValue), complex numbers, where weights are expected",
          help: "no layout has complex weights; store the real weights, as F32, F16 or BF16"))
    }
    for piece in expected.pieces {
      let location = PieceLocation(
        tensor: number, shape: piece.shape, dtype: info.dtype, runs: piece.runs)
      let id = PieceID(expected.sublayer, piece.role)
      // Every tensor that holds a piece holds all of it; the first counts.
      let first = pieces.insert(location, for: id)
      if first.dtype != info.dtype {
        problems.append(
          Diagnostic(
            code: "layout.mixed-dtypes", subject: info.name.string,
            message:
              "is \(info.dtype.rawValue), but another part of \(id) is \(first.dtype.rawValue)",
            help: "convert the checkpoint to one type first"))
      }
    }
  }

  /// A note for a tensor that has another's name behind a prefix: `ema.backbone.norm_f.weight`.
  private func mirrored(_ name: String) -> [String] {
    var rest = Substring(name)
    while let dot = rest.firstIndex(of: ".") {
      rest = rest[rest.index(after: dot)...]
      guard inventory[String(rest)] != nil else { continue }
      let prefix = name.dropLast(rest.count)
      return ["what is under \(prefix) mirrors the model: an EMA or another copy of it?"]
    }
    return []
  }

  private mutating func findStrays(_ used: [Bool]) {
    let globs = layout.ignore.map { Glob($0.glob) }
    var outside: [Int] = []
    var aside: [(number: Int, why: String)] = []
    let expected = StrayRules(expansion.tensors, inventory, used)
    for number in inventory.infos.indices where !used[number] {
      let name = inventory.names[number]
      if globs.contains(where: { $0.matches(name) }) {
        ignored.append(number)
      } else if let why = expected.harmless(number) {
        aside.append((number, why))
      } else if inventory.outside.contains(number) {
        outside.append(number)
      } else {
        misfit(
          name,
          Diagnostic(
            code: "layout.unexpected-tensor", subject: inventory.infos[number].name.string,
            message: "has no place in \(layout.name) under this config",
            notes: [
              "found \(inventory.infos[number].dtype.rawValue) \(inventory.infos[number].shape)"
            ] + mirrored(name),
            help:
              "the config may belong to another checkpoint, or the model has parts that this layout does not know"
          ))
      }
    }
    notePassedOver(aside)
    guard let first = outside.first else { return }
    let prefix = inventory.renamings.first { !$0.dropped.isEmpty }?.dropped ?? ""
    misfit(
      inventory.names[first],
      Diagnostic(
        code: "layout.outside-prefix", subject: inventory.infos[first].name.string,
        message: outside.count == 1
          ? "lies outside '\(prefix)', with which the names of the \(layout.name) model begin"
          : "and \(outside.count - 1) more lie outside '\(prefix)', with which the names of the "
            + "\(layout.name) model begin",
        notes: outside.count == 1
          ? []
          : [
            "such as "
              + outside.prefix(4).map { inventory.infos[$0].name.string }.joined(separator: ", ")
          ],
        help: "whether they belong to the model is not known here; save the model alone: "
          + "{k: v for k, v in state_dict.items() if k.startswith('\(prefix)')}"))
  }
}

extension Binder {
  /// One warning for all strays that are no weights of the model.
  private mutating func notePassedOver(_ strays: [(number: Int, why: String)]) {
    guard let first = strays.first else { return }
    let list = strays.prefix(8).map { "\(inventory.infos[$0.number].name.string) (\($0.why))" }
      .joined(separator: ", ")
    let it = strays.count == 1 ? "it is" : "they are"
    problems.append(
      Diagnostic(
        .warning, code: "layout.passed-over", subject: inventory.infos[first.number].name.string,
        message: strays.count == 1
          ? "is no weight of the model: \(first.why)"
          : "and \(strays.count - 1) more are no weights of the model: "
            + "\(list)\(strays.count > 8 ? ", …" : "")",
        notes: ["\(it) not converted"]))
  }
}

/// Which tensors that have no place in a layout are nothing to the model: counters, what an optimizer
/// keeps, and second names of tensors that have a place.
private struct StrayRules {
  private let inventory: Inventory
  /// Kinds of names that the layout has: layers that the config does not count are no strays.
  private let kinds: Set<String>
  private let extents: [TensorInfo.Extent: Int]
  private let isDouble: Bool

  init(_ tensors: [Expansion.ExpectedTensor], _ inventory: Inventory, _ used: [Bool]) {
    self.inventory = inventory
    kinds = Set(tensors.map { Self.kind($0.name) })
    var extents: [TensorInfo.Extent: Int] = [:]
    var isDouble = false
    for (number, info) in inventory.infos.enumerated() where used[number] {
      if let extent = info.extent { extents[extent] = number }
      if info.dtype == .f64 { isDouble = true }
    }
    self.extents = extents
    self.isDouble = isDouble
  }

  /// Why a stray is passed over; `nil` where it may be a weight.
  func harmless(_ number: Int) -> String? {
    let info = inventory.infos[number]
    let name = inventory.names[number]
    guard !kinds.contains(Self.kind(name)) else { return nil }
    let parts = name.split { $0 == "." || $0 == "/" }
    if let group = parts.dropLast().first(where: Self.isTrainers) { return "under \(group)" }
    if let extent = info.extent, let other = extents[extent],
      inventory.infos[other].shape == info.shape,
      inventory.infos[other].dtype == info.dtype
    {
      return "a second name of \(inventory.infos[other].name.string)"
    }
    guard info.shape.dims.isEmpty || info.shape.dims == [1], let last = parts.last else {
      return nil
    }
    if info.dtype.isWhole { return "a counter or switch, \(info.dtype.rawValue)" }
    guard info.dtype == .f32 || info.dtype == .f64 else { return nil }
    // A number of Python's; a model's own scalars are of its type, and may scale something.
    let isPython = info.dtype == .f64 && info.shape.dims.isEmpty && parts.count == 1 && !isDouble
    return isPython || Self.numbers.contains(last.lowercased()) ? "a trainer's number" : nil
  }

  private static func isTrainers(_ part: Substring) -> Bool {
    let word = part.lowercased()
    return word.hasPrefix("optimizer") || word == "optim" || word.hasPrefix("optim_")
      || word == "scheduler" || word.hasPrefix("scheduler_") || word.hasPrefix("lr_scheduler")
  }

  /// What trainers count and tune, and no module calls a weight.
  private static let numbers: Set<String> = [
    "best_loss", "best_metric", "decay", "ema_decay", "epoch", "global_step", "grad_norm", "iter",
    "iteration", "learning_rate", "loss", "lr", "n_averaged", "num_updates", "step", "time",
    "train_loss", "val_loss", "wall_time", "weight_decay",
  ]

  /// A name with its numbers as one.
  private static func kind(_ name: String) -> String {
    name.split(separator: ".", omittingEmptySubsequences: false).map {
      !$0.isEmpty && $0.utf8.allSatisfy { (48...57).contains($0) } ? "*" : String($0)
    }.joined(separator: ".")
  }
}

extension HubModel {
  /// The model as it was read.
  public init(_ bound: MatchedLayout, source: any TensorSource) {
    self.init(
      spec: bound.spec,
      pieces: Dictionary(uniqueKeysWithValues: bound.pieces.map { ($0.key, .stored($0.value)) }),
      source: source)
  }
}
