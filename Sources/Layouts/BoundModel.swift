public import Hub
public import OrderedCollections
public import Tensors

/// A checkpoint seen through a layout: the model that it is, and where each piece lies.
public struct BoundModel: Sendable {
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
  public var tensors: [(expected: Expansion.Expected, number: Int)]
  /// Tensors that carry no weight (buffers).
  public var ignored: [Int]
  /// Groups of names that hold one and the same tensor.
  public var ties: [[String]]
  /// Whether it is of an older form that the framework's present version does not load.
  public var isDated: Bool
  /// Everything noticed; errors here mean that the pieces are not complete.
  public var problems: [Diagnostic]

  /// Whether the model can be used: no error among the problems.
  public var isSound: Bool { !problems.contains { $0.severity == .error } }
}

extension Layout {
  /// Binds a checkpoint to this layout: evaluates the config and matches every tensor.
  public func bind(_ whole: Inventory, config: JSONObject, vocabulary: Vocabulary) -> BoundModel {
    let inventory = whole.stripping(detect.strip)
    let expansion = expand(config: config, vocabulary: vocabulary, inventory: inventory)
    var binder = Binder(layout: self, inventory: inventory, expansion: expansion)
    binder.bind()
    return BoundModel(
      layout: self, config: config, spec: binder.spec, inventory: inventory,
      pieces: binder.pieces, tensors: binder.matched, ignored: binder.ignored, ties: binder.ties,
      isDated: expansion.isDated, problems: binder.problems)
  }
}

private struct Binder {
  let layout: Layout
  let inventory: Inventory
  let expansion: Expansion
  var spec: ModelSpec
  var pieces: PieceTable
  var matched: [(expected: Expansion.Expected, number: Int)] = []
  var ignored: [Int] = []
  var ties: [[String]] = []
  var problems: [Diagnostic]

  init(layout: Layout, inventory: Inventory, expansion: Expansion) {
    self.layout = layout
    self.inventory = inventory
    self.expansion = expansion
    spec = expansion.spec
    pieces = PieceTable(sublayers: expansion.spec.sublayers.count)
    problems = expansion.problems
  }

  mutating func bind() {
    // Without the whole list every tensor would look out of place.
    guard expansion.isComplete else { return }
    var used = [Bool](repeating: false, count: inventory.infos.count)
    matched.reserveCapacity(expansion.tensors.count)
    var headIsThere = false
    for expected in expansion.tensors {
      guard let number = inventory[expected.name] else {
        if expected.tied == nil { missing(expected) }
        continue
      }
      used[number] = true
      guard inventory.infos[number].shape == expected.shape else {
        let info = inventory.infos[number]
        problems.append(
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
    decideTie(headIsThere)
    findStrays(used)
  }

  private mutating func missing(_ expected: Expansion.Expected) {
    // A config that does not fit asks for everything under other names; the first few tell enough.
    problems.append(
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
    embedding().map { inventory.isSame($0, head) } ?? false
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
      if headIsThere {
        ties.append([
          inventory.infos[embedding].name.string,
          inventory.infos[inventory[head.name]!].name.string,
        ])
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

  private mutating func add(_ expected: Expansion.Expected, _ number: Int) {
    let info = inventory.infos[number]
    if info.dtype.isWhole {
      problems.append(
        Diagnostic(
          code: "layout.dtype", subject: info.name.string,
          message: "holds \(info.dtype.rawValue), whole numbers, where weights are expected",
          help: "whole numbers may be a quantization or another type's bits; store the weights "
            + "themselves, as F32, F16 or BF16"))
    }
    for piece in expected.pieces {
      let location = PieceLocation(
        shape: piece.shape, dtype: info.dtype,
        runs: piece.runs.map {
          .init(
            tensor: number, tensorRow: $0.tensorRow, pieceRow: $0.pieceRow, count: $0.count)
        })
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

  private mutating func findStrays(_ used: [Bool]) {
    let globs = layout.ignore.map { Glob($0.glob) }
    for number in inventory.infos.indices where !used[number] {
      let name = inventory.names[number]
      if globs.contains(where: { $0.matches(name) }) {
        ignored.append(number)
      } else {
        problems.append(
          Diagnostic(
            code: "layout.unexpected-tensor", subject: inventory.infos[number].name.string,
            message: "has no place in \(layout.name) under this config",
            notes: [
              "found \(inventory.infos[number].dtype.rawValue) \(inventory.infos[number].shape)"
            ],
            help:
              "the config may belong to another checkpoint, or the model has parts that this layout does not know"
          ))
      }
    }
  }
}

extension Draft {
  /// The model as it was read.
  public init(_ bound: BoundModel) {
    self.init(
      spec: bound.spec,
      pieces: Dictionary(uniqueKeysWithValues: bound.pieces.map { ($0.key, .stored($0.value)) }))
  }
}
