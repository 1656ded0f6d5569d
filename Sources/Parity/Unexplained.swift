package import Hub
import Inference
import OrderedCollections
import Tensors

/// What nothing explains in which two models differ, by the place where it acts.
struct Unexplained {
  /// What differs in each sub-layer, tables of the model that sub-layers read included.
  private(set) var bySublayer: [Int: [LocalTest.Suspect]] = [:]
  /// Pieces of the model that stand around the sub-layers.
  private var ends: [PieceID] = []
  /// Attributes of the model.
  private var modelAttributes: [String] = []
  /// Attributes that differ, by sub-layer; the model's under `nil`.
  private(set) var attributes: [(sublayer: Int?, name: String)] = []

  /// What differs between `reference` and `other`, though it has the other's form wherever that is
  /// explained.
  init(
    _ weights: WeightComparison, _ found: [CheckpointDiff.Attribute], _ reference: HubModel,
    _ other: HubModel, _ explained: Set<Place> = []
  ) {
    let roundings = Set(found.filter(\.isRounding).map(\.name))
    var shared: [PieceID] = []
    for id in weights.differing.sorted() {
      if let index = id.sublayer {
        bySublayer[index, default: []].append(.piece(id))
      } else if Self.isEnd(id.role) {
        ends.append(id)
      } else {
        shared.append(id)
      }
    }
    for index in other.spec.sublayers.indices {
      let (own, theirs) = (reference.spec.sublayers[index], other.spec.sublayers[index])
      for name in Self.names(own.attributes, theirs.attributes) where !roundings.contains(name) {
        // A padded width is compared as weights.
        if own.kind == "mlp", name == "d_ff" { continue }
        if explained.contains(Place(sublayer: index, name: name)) { continue }
        attributes.append((index, name))
        bySublayer[index, default: []].append(.attribute(name))
      }
      // Whichever sub-layers read a table of the model: in the others it changes nothing.
      for id in shared { bySublayer[index, default: []].append(.piece(id)) }
    }
    for name in Self.names(reference.spec.attributes, other.spec.attributes)
    where name != "vocab_size" && !roundings.contains(name)
      && !explained.contains(Place(sublayer: nil, name: name))
    {
      modelAttributes.append(name)
      attributes.append((nil, name))
    }
  }

  /// An attribute of a sub-layer, or of the model.
  struct Place: Hashable {
    var sublayer: Int?
    var name: String

    /// Those that have the same value in both models.
    static func all(equalIn a: ModelSpec, _ b: ModelSpec) -> Set<Place> {
      var places: Set<Place> = []
      func add(_ sublayer: Int?, _ x: JSONObject, _ y: JSONObject) {
        let differing = Set(Unexplained.names(x, y))
        for name in x.keys where !differing.contains(name) {
          places.insert(Place(sublayer: sublayer, name: name))
        }
      }
      add(nil, a.attributes, b.attributes)
      for (i, (x, y)) in zip(a.sublayers, b.sublayers).enumerated() where x.kind == y.kind {
        add(i, x.attributes, y.attributes)
      }
      return places
    }
  }

  private static func isEnd(_ role: String) -> Bool {
    ["embed", "final_norm", "head"].contains { role.hasPrefix($0) }
  }

  /// The attributes of which the values are not equal.
  static func names(_ a: JSONObject, _ b: JSONObject) -> [String] {
    OrderedSet(Array(a.keys) + Array(b.keys)).filter { name in
      let (x, y) = (a[name] ?? .null, b[name] ?? .null)
      if let p = x.double, let q = y.double { return p != q }
      return x != y
    }
  }

  /// Whether two specs say the same computation, whatever their layouts call a layer.
  static func isSameComputation(_ a: ModelSpec, _ b: ModelSpec) -> Bool {
    names(a.attributes, b.attributes).allSatisfy { $0 == "vocab_size" }
      && a.sublayers.count == b.sublayers.count
      && zip(a.sublayers, b.sublayers).allSatisfy {
        $0.kind == $1.kind && names($0.attributes, $1.attributes).isEmpty
      }
  }

  /// What differs at a stage that stands before or behind the sub-layers.
  func suspects(atEnd stage: String) -> [LocalTest.Suspect] {
    func pieces(_ prefixes: [String]) -> [LocalTest.Suspect] {
      ends.filter { id in prefixes.contains { id.role.hasPrefix($0) } }.map { .piece($0) }
    }
    func named(_ test: (String) -> Bool) -> [LocalTest.Suspect] {
      modelAttributes.filter(test).map { .attribute($0) }
    }
    func isBefore(_ name: String) -> Bool { name.hasPrefix("embed") }
    func isNorm(_ name: String) -> Bool { name.hasPrefix("final_norm") }
    switch stage {
    case "hidden_states.0":
      return pieces(["embed"]) + named { isBefore($0) || $0 == "final_norm_eps" }
    case "final_norm": return pieces(["final_norm"]) + named { isNorm($0) || $0 == "logit_scale" }
    default:
      return pieces(["head", "embed.weight"]) + named { !isBefore($0) && !isNorm($0) }
    }
  }

  /// Something that was found, and the stage behind it.
  struct Found {
    var stage: String
    var finding: LocalTest.Finding
    /// The tokens that show it, where those of the run do not.
    var grown: [[Int]]?

    func divergence(_ pair: AlignedPair, isProven: Bool) -> ParityReport.Divergence {
      var suspects: [String] = []
      for name in finding.pieces.flatMap({ pair.b.holders(of: $0) }) where !suspects.contains(name)
      {
        suspects.append(name)
      }
      return ParityReport.Divergence(
        stage: stage, sublayer: finding.sublayer,
        kind: finding.sublayer.map { pair.a.spec.sublayers[$0].kind } ?? "model",
        suspects: suspects, attributes: finding.attributes, isProven: isProven)
    }
  }

  /// An attribute that no run shows.
  struct Hidden {
    var sublayer: Int?
    var names: [String]

    func divergence(_ spec: ModelSpec) -> ParityReport.Divergence {
      ParityReport.Divergence(
        stage: sublayer.map { "hidden_states.\(spec.sublayers[$0].layer + 1)" } ?? "logits",
        sublayer: sublayer, kind: sublayer.map { spec.sublayers[$0].kind } ?? "model", suspects: [],
        attributes: names)
    }
  }

  /// What came of looking at each place by itself.
  struct Judgement {
    /// Places out of bounds.
    var findings: [Found] = []
    /// Attributes that differ, and that no run shows.
    var hidden: [Hidden] = []
    /// How long the longest run was.
    var longest = 0
    /// Pieces whose sub-layers were run over fewer tokens than their window.
    var unreached: [(sublayer: Int, window: Int)] = []
    var spec: ModelSpec?

    /// What is told of it.
    func notes(_ b: HubModel) -> [Diagnostic] {
      func place(_ sublayer: Int?) -> String {
        guard let sublayer, let own = spec?.sublayers[sublayer] else { return "the model" }
        return "sub-layer \(sublayer) (\(own.kind) of layer \(own.layer))"
      }
      var notes: [Diagnostic] = []
      if let found = findings.first(where: { $0.grown != nil }), let grown = found.grown {
        notes.append(
          Diagnostic(
            .note, code: "parity.grown", subject: found.stage,
            message:
              "these tokens do not show the difference; \(grown.count) x \(grown[0].count) do, in \(place(found.finding.sublayer))",
            notes: [
              "the largest difference there is \(found.finding.maxAbs), its bound \(found.finding.bound)"
            ]))
      }
      for item in hidden.prefix(4) {
        notes.append(
          Diagnostic(
            code: "parity.not-exercised", subject: item.names.joined(separator: ", "),
            message:
              "differ\(item.names.count == 1 ? "s" : "") in \(place(item.sublayer)), which no run of up to \(longest) tokens shows",
            help: "what is not shown is judged as a fault: the two configs should say the same"))
      }
      if let first = unreached.first {
        notes.append(
          Diagnostic(
            .warning, code: "parity.not-exercised", subject: b.name,
            message:
              "the window of \(first.window) tokens in \(place(first.sublayer)) is beyond the longest run of \(longest)",
            help: "the pieces that differ there were compared within the window only"))
      }
      return notes
    }
  }

  /// The longest run that is tried to reach a window or a position.
  static let longestRun = 8256

  /// Looks at each place by itself, in float64: on the run's tokens, then on longer ones wherever
  /// something differs that they do not show.
  ///
  /// - Parameter isExact: whether differences within the bounds that were given do not matter.
  /// - Throws: `Problems` of reading.
  func judged(beside lockstep: Lockstep, isExact: Bool) throws -> Judgement {
    var judgement = Judgement()
    let spec = lockstep.reference.spec
    judgement.spec = spec
    judgement.longest = lockstep.tokens[0].count
    let test = LocalTest(lockstep)
    var exact = lockstep
    exact.tolerance = Tolerance()
    // What shows a difference at all, whatever bounds were given.
    let showing = LocalTest(exact)
    func stage(_ index: Int) -> String { "hidden_states.\(spec.sublayers[index].layer + 1)" }
    var seen: Set<Int> = []
    for finding in try test.findings(bySublayer) {
      guard let index = finding.sublayer else { continue }
      seen.insert(index)
      judgement.findings.append(Found(stage: stage(index), finding: finding))
    }
    // A fault before it ends the search: what follows needs no longer run.
    for index in bySublayer.keys.sorted() where !seen.contains(index) {
      if let first = judgement.findings.first?.finding.sublayer, first < index { break }
      let own = bySublayer[index] ?? []
      let names = own.compactMap(\.attribute)
      if !isExact {
        // It was shown, and is within the bounds that were given.
        if names.isEmpty { continue }
        if try showing.finding(at: index, own, tokens: lockstep.tokens) != nil { continue }
      }
      let windows = [spec, lockstep.other.spec].compactMap { $0.sublayers[index]["window"].int }
      let reach = windows.min().map { $0 + 8 } ?? 0
      var lengths: Set<Int> = [257]
      if names.isEmpty, reach > Self.longestRun {
        judgement.unreached.append((index, reach - 8))
      }
      if reach > 257, reach <= Self.longestRun { lengths.insert(reach) }
      // What a scaling of positions or a clamp does may show late.
      if names.contains(where: { $0 != "window" }) { lengths.formUnion([1031, 4099]) }
      var isShown = false
      for length in lengths.sorted() where length > lockstep.tokens[0].count {
        let tokens = RandomTokens.draw(1, length, seed: 1, spec)
        judgement.longest = max(judgement.longest, length)
        guard let found = try showing.finding(at: index, own, tokens: tokens) else { continue }
        isShown = true
        if try isExact || test.finding(at: index, own, tokens: tokens) != nil {
          judgement.findings.append(Found(stage: stage(index), finding: found, grown: tokens))
        }
        break
      }
      if !isShown, !names.isEmpty {
        judgement.hidden.append(Hidden(sublayer: index, names: names))
      }
    }
    judgement.findings.sort { ($0.finding.sublayer ?? -1) < ($1.finding.sublayer ?? -1) }
    if !modelAttributes.isEmpty {
      var shown: Set<String> = []
      for end in ["hidden_states.0", "final_norm", "logits"] {
        let own = suspects(atEnd: end)
        guard !own.isEmpty, let finding = try showing.finding(atEnd: end, own) else { continue }
        shown.formUnion(own.compactMap(\.attribute))
        if try isExact || test.finding(atEnd: end, own) != nil {
          judgement.findings.append(Found(stage: end, finding: finding))
        }
      }
      let rest = modelAttributes.filter { !shown.contains($0) }
      if !rest.isEmpty { judgement.hidden.append(Hidden(sublayer: nil, names: rest)) }
    }
    return judgement
  }
}

extension LocalTest.Suspect {
  /// The piece, if it is one.
  var piece: PieceID? { if case .piece(let id) = self { id } else { nil } }
  /// The attribute, if it is one.
  var attribute: String? { if case .attribute(let name) = self { name } else { nil } }
}

/// Tokens drawn from a model's vocabulary without its padding rows.
package enum RandomTokens {
  /// `batch` sequences of `length` tokens; the same seed draws the same.
  package static func draw(
    _ batch: Int, _ length: Int, seed: UInt64, _ spec: ModelSpec
  ) -> [[Int]] {
    let rows = spec["vocab_rows"].int ?? 1
    let count = UInt64(max(1, min(spec["vocab_size"].int ?? rows, rows)))
    var state = seed
    return (0..<batch).map { _ in
      (0..<length).map { _ in
        // SplitMix64 (Steele, Lea and Flood 2014), the high half scaled to the range.
        state &+= 0x9e37_79b9_7f4a_7c15
        var z = state
        z = (z ^ (z >> 30)) &* 0xbf58_476d_1ce4_e5b9
        z = (z ^ (z >> 27)) &* 0x94d0_49bb_1331_11eb
        // In Swift a shift binds closer than a product.
        return Int((((z ^ (z >> 31)) >> 32) * count) >> 32)
      }
    }
  }
}
