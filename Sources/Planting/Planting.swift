import Hub
import Parity
import Tensors
import WeighbridgeKit

/// Plants faults and harmless changes, and counts what is found.
package struct Planting {
  /// How many were planted and how they were found.
  package struct Rate: Sendable {
    package var planted = 0
    package var found = 0
    package var stage = 0
    package var sublayer = 0
    package var suspect = 0
    /// The first that were missed or misplaced.
    package var misses: [String] = []

    mutating func add(_ other: Rate) {
      planted += other.planted
      found += other.found
      stage += other.stage
      sublayer += other.sublayer
      suspect += other.suspect
      misses = Array((misses + other.misses).prefix(40))
    }
  }

  /// What is planted.
  package enum Kind: String, CaseIterable, Sendable {
    case tensors = "tensors, in pairs"
    case keys = "config keys, in pairs"
    case tracedTensors = "tensors, beside traces"
    case tracedKeys = "config keys, beside traces"
    case innocents = "harmless changes"
  }

  /// The rates by what was planted.
  package private(set) var rates: [Kind: Rate] = [:]
  /// Rates of the tensors' faults, in pairs.
  package private(set) var byFault: [String: Rate] = [:]
  private var random: SplitMix

  /// A run whose choices follow from `seed`.
  package init(seed: UInt64) { random = SplitMix(seed) }

  /// Plants in `model`, each case with the probability `share`.
  ///
  /// - Throws: what loading throws; a check that throws is a miss.
  package mutating func run(_ model: PlantedModel, share: Double) throws {
    let isTaken = { (random: inout SplitMix) in Double(random.next(1 << 20)) < share * 1_048_576 }
    for index in model.checkpoint.tensors.indices {
      for fault in TensorFault.allCases where isTaken(&random) {
        try plant(fault, index, model)
      }
    }
    for (key, value) in model.config where isTaken(&random) {
      for (name, other) in Self.alternatives(key, value) {
        var config = model.config
        config[key] = other
        try plant(config, "\(name) as \(other.text())", model)
      }
    }
    for harmless in Harmless.allCases where isTaken(&random) {
      try plant(harmless, model)
    }
  }

  // MARK: Tensors

  private mutating func plant(_ fault: TensorFault, _ index: Int, _ model: PlantedModel) throws {
    var changed = model.checkpoint
    guard changed.tensors[index].dtype.isFloat else { return }
    fault.apply(&changed, index, &random)
    guard changed.differs(from: model.checkpoint, at: index) else { return }
    let pieces = model.pieces.filter { $0.value.tensor == index }.map(\.key)
    let roles = pieces.map(\.role)
    guard !pieces.isEmpty, !roles.allSatisfy({ $0.hasPrefix("unused_") }),
      let other = try model.with(changed)
    else { return }
    let name = model.checkpoint.tensors[index].name.string
    let keeps = pieces.contains { id in
      let kind =
        id.sublayer.flatMap { model.weighbridge.vocabulary.kinds[model.spec.sublayers[$0].kind] }
        ?? model.weighbridge.vocabulary.model
      return kind.piece(id.role)?.keepsFloat32 == true
    }
    let what = "\(model.name): \(name) \(fault.rawValue)"
    if fault.isDeliberate, !keeps {
      record(
        .innocents,
        Rate(
          planted: 1,
          found: try attempt { try model.pair(other, length: 24, seed: 1) }?.passes == true ? 0 : 1),
        what)
      return
    }
    let place = Place(pieces, name, model.spec)
    let pair = rate(try attempt { try model.pair(other, length: 24, seed: 1) }, place, what)
    record(.tensors, pair, what)
    byFault[fault.rawValue, default: Rate()].add(pair)
    guard model.trace != nil, fault != .cast else { return }
    record(.tracedTensors, rate(try attempt { try model.traced(other) }, place, what), what)
  }

  /// Where a fault should be found.
  private struct Place {
    var stages: Set<String>
    var sublayers: Set<Int?>
    var tensor: String?
    var attributes: Set<String> = []

    init(_ pieces: [PieceID], _ tensor: String, _ spec: ModelSpec) {
      self.tensor = tensor
      stages = []
      sublayers = []
      for id in pieces {
        if let index = id.sublayer {
          sublayers.insert(index)
          stages.insert("hidden_states.\(spec.sublayers[index].layer + 1)")
        } else if id.role.hasPrefix("embed") {
          sublayers.insert(nil)
          stages.insert("hidden_states.0")
          if spec["tied"] == true { stages.insert("logits") }
        } else if id.role.hasPrefix("final_norm") {
          sublayers.insert(nil)
          stages.insert("final_norm")
        } else if id.role.hasPrefix("head") {
          sublayers.insert(nil)
          stages.insert("logits")
        } else {
          // A table acts in the first sub-layer that reads it.
          sublayers.formUnion(spec.sublayers.indices.map { Optional($0) })
          stages.formUnion((1...max(1, spec.layerCount)).map { "hidden_states.\($0)" })
        }
      }
    }

    init(_ a: ModelSpec, _ b: ModelSpec) {
      (stages, sublayers) = ([], [])
      func names(_ x: JSONObject, _ y: JSONObject) -> [String] {
        Set(x.keys).union(y.keys).filter { (x[$0] ?? .null) != (y[$0] ?? .null) }
      }
      for index in a.sublayers.indices where stages.isEmpty {
        let own = names(a.sublayers[index].attributes, b.sublayers[index].attributes)
        guard !own.isEmpty else { continue }
        attributes.formUnion(own)
        // Of the sub-layers of a layer any may be the first that shows it.
        for other in a.sublayers.indices
        where a.sublayers[other].layer == a.sublayers[index].layer {
          sublayers.insert(other)
        }
        stages.insert("hidden_states.\(a.sublayers[index].layer + 1)")
      }
      let own = names(a.attributes, b.attributes)
      attributes.formUnion(own)
      if stages.isEmpty, !own.isEmpty {
        sublayers.insert(nil)
        stages.formUnion(["hidden_states.0", "final_norm", "logits"])
      }
    }
  }

  private func attempt(_ body: () throws -> ParityResult?) throws -> ParityResult? {
    do { return try body() } catch is Problems { return nil } catch is Diagnostic { return nil }
  }

  private func rate(_ result: ParityResult?, _ place: Place, _ what: String) -> Rate {
    var rate = Rate(planted: 1)
    guard let result else {
      rate.misses = ["\(what): could not be checked"]
      return rate
    }
    guard !result.passes else {
      rate.misses = ["\(what): passes"]
      return rate
    }
    rate.found = 1
    guard let divergence = result.report.firstDivergence else {
      rate.misses = ["\(what): found, without a place"]
      // Rows that no token has are told as errors of their own.
      if result.problems.contains(where: { $0.code == "parity.padding-rows-differ" }) {
        (rate.stage, rate.sublayer, rate.suspect, rate.misses) = (1, 1, 1, [])
      }
      return rate
    }
    if place.stages.contains(divergence.stage)
      || divergence.stage.hasPrefix("sublayer.") && place.sublayers.contains(divergence.sublayer)
    {
      rate.stage = 1
    }
    if place.sublayers.contains(divergence.sublayer) { rate.sublayer = 1 }
    if let tensor = place.tensor {
      rate.suspect = divergence.suspects.contains(tensor) ? 1 : 0
    } else {
      rate.suspect = place.attributes.isDisjoint(with: divergence.attributes) ? 0 : 1
    }
    if rate.stage + rate.sublayer + rate.suspect < 3 {
      rate.misses = [
        "\(what): at \(divergence.stage), sub-layer \(divergence.sublayer.map(String.init) ?? "-"), \((divergence.suspects + divergence.attributes).prefix(4).joined(separator: ", "))"
      ]
    }
    return rate
  }

  private mutating func record(_ kind: Kind, _ rate: Rate, _ what: String) {
    var rate = rate
    if kind == .innocents, rate.found > 0 { rate.misses = ["\(what): a false alarm"] }
    rates[kind, default: Rate()].add(rate)
  }

  // MARK: Config keys

  private static func alternatives(
    _ key: String, _ value: JSONValue
  ) -> [(name: String, value: JSONValue)] {
    if let object = value.object {
      return object.flatMap { inner, value in
        alternatives("\(key).\(inner)", value).map { name, other in
          var changed = object
          changed[inner] = other
          return (name, JSONValue.object(changed))
        }
      }
    }
    var found: [JSONValue] = []
    if let flag = value.bool {
      found = [.bool(!flag)]
    } else if let number = value.int {
      found = [.int(number + 1), .int(max(1, number - 1))]
    } else if let number = value.double {
      found = number == 0 ? [.double(0.5)] : [.double(number / 10), .double(number * 1.001)]
    }
    return found.map { (key, $0) }
  }

  private mutating func plant(_ config: JSONObject, _ key: String, _ model: PlantedModel) throws {
    guard let other = try model.with(config: config), let spec = other.bound?.spec,
      spec != model.spec
    else { return }
    var own = model.spec
    own.attributes["vocab_size"] = spec.attributes["vocab_size"]
    guard own != spec, spec.sublayers.map(\.kind) == own.sublayers.map(\.kind) else { return }
    let what = "\(model.name): \(key)"
    let place = Place(own, spec)
    let rounding = Set(["rope_table"])
    if place.attributes.isSubset(of: rounding) { return }
    // Attributes that the engine refuses are refused, and not compared.
    guard let result = try attempt({ try model.pair(other, length: 24, seed: 1) }) else { return }
    record(.keys, rate(result, place, what), what)
    guard model.trace != nil, let traced = try attempt({ try model.traced(other) }) else { return }
    // A window or a limit that the trace's tokens do not reach cannot show beside it.
    record(.tracedKeys, rate(traced, place, what), what)
  }

  // MARK: Harmless changes

  /// A change that changes nothing in the function.
  package enum Harmless: String, CaseIterable, Sendable {
    case order = "tensors in another order"
    case units = "MLP units in another order"
    case powers = "MLP units scaled by powers of two"
    case large = "large activations, MLP units in another order"
    case tiny = "tiny activations, MLP units in another order"
    case lengths = "another length and seed"
    case bfloat16 = "all cast to BF16"
    case float16 = "all cast to F16"
    case trace = "its own trace"
  }

  private mutating func plant(_ harmless: Harmless, _ model: PlantedModel) throws {
    var a = model.checkpoint
    var b = model.checkpoint
    var (length, seed) = (24, random.next())
    switch harmless {
    case .order: b.reorder(random.permutation(b.tensors.count))
    case .lengths:
      length = [1, 2, 3, 5, 17, 63, 64, 65, 129, 300, 1025][random.next(11)]
      seed = random.next()
      reorderUnits(&b, model, scaled: false)
    case .units: reorderUnits(&b, model, scaled: false)
    case .powers: reorderUnits(&b, model, scaled: true)
    case .large, .tiny:
      let factor = harmless == .large ? 1e4 : 1e-4
      for (id, location) in model.pieces where id.role == "norm.weight" {
        let rows = a.rows(location).map { $0.map { $0 * factor } }
        a.put(rows, location)
      }
      b = a
      reorderUnits(&b, model, scaled: false)
    case .bfloat16, .float16:
      let dtype: DType = harmless == .bfloat16 ? .bf16 : .f16
      for index in b.tensors.indices where b.tensors[index].dtype.isFloat {
        let own = model.pieces.filter { $0.value.tensor == index }
        let keeps = own.contains { id, _ in
          let kind =
            id.sublayer.flatMap {
              model.weighbridge.vocabulary.kinds[model.spec.sublayers[$0].kind]
            } ?? model.weighbridge.vocabulary.model
          return kind.piece(id.role)?.keepsFloat32 == true
        }
        if !keeps, !own.isEmpty, b.tensors[index].dtype.bitWidth > 16 {
          b.store(b[index], index, as: dtype)
        }
      }
    case .trace:
      guard model.trace != nil else { return }
      let passes = try attempt { try model.traced(model.loaded) }?.passes == true
      record(
        .innocents, Rate(planted: 1, found: passes ? 0 : 1), "\(model.name): \(harmless.rawValue)")
      return
    }
    guard let first = try model.with(a), let second = try model.with(b) else { return }
    let passes =
      try attempt { try model.twice(first, second, length: length, seed: seed) }?.passes == true
    record(
      .innocents, Rate(planted: 1, found: passes ? 0 : 1),
      "\(model.name): \(harmless.rawValue), \(length) tokens, seed \(seed)")
  }

  /// Puts the units of every MLP into another order; `scaled` also multiplies the linear branch by
  /// powers of two that the output projection takes back.
  private mutating func reorderUnits(
    _ checkpoint: inout MemoryCheckpoint, _ model: PlantedModel, scaled: Bool
  ) {
    let places = [PieceID: PieceLocation](
      uniqueKeysWithValues: model.pieces.map { ($0.key, $0.value) })
    for index in model.spec.sublayers.indices where model.spec.sublayers[index].kind == "mlp" {
      guard model.spec.sublayers[index]["inner_norm"] == .null,
        model.spec.sublayers[index]["saves_memory"] != true,
        let down = places[PieceID(index, "down.weight")]
      else { continue }
      let order = random.permutation(down.shape.rowElements)
      let factors = order.map { _ in scaled ? [0.5, 2, 4][random.next(3)] : 1.0 }
      for role in ["gate.weight", "up.weight", "gate.bias", "up.bias"] {
        guard let location = places[PieceID(index, role)] else { continue }
        let rows = checkpoint.rows(location)
        let factor = role.hasPrefix("up") ? factors : factors.map { _ in 1 }
        checkpoint.put(
          order.indices.map { i in rows[order[i]].map { $0 * factor[i] } }, location)
      }
      let rows = checkpoint.rows(down)
      checkpoint.put(rows.map { row in order.indices.map { row[order[$0]] / factors[$0] } }, down)
    }
  }
}
