import Hub
import Inference
import Tensors

/// Finds what makes a model part from a framework's trace of it, though there is no second model to
/// exchange pieces with.
///
/// Everything between two stages of the trace is run on the trace's own input. What is tried: other
/// values of each attribute; each piece scaled, negated, turned, with its halves exchanged, exchanged for
/// one of its shape, and a table as it is computed. Only what brings the stage within its bound is named
/// as proven. Where nothing does, and several sub-layers lie between the two stages, each is asked what
/// it would have had to give, the others being right: the right one has the simpler answer.
struct TracePlace {
  private let comparison: TraceComparison
  private let range: Range<Int>
  private let stage: String
  private let input: [Double]
  private let target: [Double]
  private let crossed: CrossedValues
  private let base: [Double]
  private let noise: Spread

  /// The place before `stage`; `nil` where the trace does not hold what goes in and what comes out.
  ///
  /// - Throws: `Problems` of reading.
  init?(_ comparison: TraceComparison, _ stage: String, after previous: String?) throws {
    let model = comparison.model
    let here = model.spec.sublayers(before: stage, after: previous)
    let isEnd = ["final_norm", "logits"].contains(stage)
    guard let target = try comparison.trace.values(stage), target.allSatisfy(\.isFinite),
      let before = previous, let input = try comparison.trace.values(before),
      !here.isEmpty || isEnd, input.allSatisfy(\.isFinite)
    else { return nil }
    self.comparison = comparison
    self.stage = stage
    range = here.isEmpty ? 0..<0 : here[0]..<here[here.count - 1] + 1
    (self.input, self.target) = (input, target)
    crossed = try Self.crossed(comparison, before: range.lowerBound)
    let options = comparison.options
    guard
      let base = try Self.output(
        Double.self, model.spec, model, comparison, options, stage, range, input, crossed),
      let noisy = try Self.output(
        Float.self, model.spec, model, comparison, comparison.noiseOptions, stage, range, input,
        crossed), base.count == target.count
    else { return nil }
    self.base = base
    noise = Self.spread(base, noisy, comparison)
  }

  /// What the sub-layers before leave for later ones, each run on the trace's own input.
  private static func crossed(
    _ comparison: TraceComparison, before index: Int
  ) throws -> CrossedValues {
    let spec = comparison.model.spec
    guard spec.sublayers.contains(where: { $0["saves_memory"] == true || $0["shares_kv"] == true })
    else { return CrossedValues() }
    let pass: ForwardPass<Double> = try comparison.pass(comparison.options)
    try pass.embed()
    for i in 0..<index {
      for stage in spec.stages(before: i) {
        guard let values = try comparison.trace.values(stage.name) else { continue }
        pass.withStream { stream in
          for j in stream.indices where j < values.count { stream[j] = values[j] }
        }
      }
      try pass.advance()
    }
    return pass.crossed
  }

  private static func spread(_ x: [Double], _ y: [Double], _ comparison: TraceComparison) -> Spread
  {
    let rows = comparison.trace.tokens.joined().count
    var spread = Spread(rows: rows, width: x.count / rows)
    x.withUnsafeBufferPointer { x in y.withUnsafeBufferPointer { spread.add(x, $0) } }
    return spread
  }

  private static func output<S: Real>(
    _: S.Type, _ spec: ModelSpec, _ weights: any WeightSource, _ comparison: TraceComparison,
    _ options: ModelOptions, _ stage: String, _ range: Range<Int>, _ input: [Double],
    _ crossed: CrossedValues
  ) throws -> [Double]? {
    let pass = try ForwardPass(
      Model<S>(spec: spec, weights: weights, options: options), tokens: comparison.trace.tokens)
    if !range.isEmpty, !pass.jump(to: range.lowerBound, crossed: crossed) { return nil }
    pass.withStream { stream in
      for i in stream.indices where i < input.count { stream[i] = S(input[i]) }
    }
    if stage == "logits" {
      return try pass.withLogits(rows: 0..<pass.rows) { $0.map { Double($0) } }
    }
    if range.isEmpty { try pass.finish() }
    for _ in range { try pass.advance() }
    return pass.withStream { $0.map { Double($0) } }
  }

  private func output(_ spec: ModelSpec, _ weights: any WeightSource) throws -> [Double]? {
    do {
      return try Self.output(
        Double.self, spec, weights, comparison, comparison.options, stage, range, input, crossed)
    } catch is Problems {
      // Another value that makes no model.
      return nil
    }
  }

  private func isCured(_ output: [Double]?) -> Bool {
    guard let output, output.count == target.count else { return false }
    return comparison.verdict(
      stage, Self.spread(target, output, comparison), noise: noise, wantsFloat: false
    ).verdict.ok
  }

  /// The divergence, told as closely as it can be.
  ///
  /// - Throws: `Problems` of reading.
  func divergence() throws -> ParityReport.Divergence? {
    let model = comparison.model
    func told(
      _ sublayer: Int?, _ pieces: [PieceID], _ attributes: [String]
    ) -> ParityReport.Divergence {
      var names: [String] = []
      for name in pieces.flatMap({ model.holders(of: $0) }) where !names.contains(name) {
        names.append(name)
      }
      return ParityReport.Divergence(
        stage: stage, sublayer: sublayer,
        kind: sublayer.map { model.spec.sublayers[$0].kind } ?? "model", suspects: names,
        attributes: attributes, isProven: true)
    }
    if let (sublayer, name) = try curingAttribute() { return told(sublayer, [], [name]) }
    let (cure, likely) = try curingPieces()
    // The sub-layer that reads a table of the model, or an end's piece.
    if let cure { return told(cure.sublayer, cure.pieces, []) }
    // Scaled and rounded again: no factor takes that back to the last bit, yet the direction tells it.
    if let best = likely.max(by: { $0.share < $1.share }), best.share > 0.98 {
      let same = likely.filter { $0.sublayer == best.sublayer && $0.share > best.share - 0.005 }
      var found = told(best.sublayer, same.map(\.piece), [])
      found.isProven = false
      return found
    }
    guard range.count > 1, let index = try mixing() ?? simplest() else { return nil }
    var found = told(index, model.pieces.keys.filter { $0.sublayer == index }.sorted(), [])
    found.isProven = false
    return found
  }

  // MARK: Attributes

  private func curingAttribute() throws -> (sublayer: Int?, name: String)? {
    let spec = comparison.model.spec
    if range.isEmpty {
      for (name, value) in spec.attributes {
        for other in Self.alternatives(name, value) {
          var changed = spec
          changed.attributes[name] = other
          if isCured(try output(changed, comparison.model)) { return (nil, name) }
        }
      }
      return nil
    }
    var seen: Set<String> = []
    for index in range {
      for (name, value) in spec.sublayers[index].attributes {
        for other in Self.alternatives(name, value) {
          // One key of a config often is the attribute of several sub-layers.
          let same = range.filter { spec.sublayers[$0].attributes[name] == value }
          let isFirst = seen.insert("\(name) \(value.text()) \(other.text())").inserted
          for group in isFirst && same.count > 1 ? [same, [index]] : [[index]] {
            var changed = spec
            for i in group { changed.sublayers[i].attributes[name] = other }
            if isCured(try output(changed, comparison.model)) { return (group[0], name) }
          }
        }
      }
    }
    return nil
  }

  /// Other values that an attribute has in models as they are.
  private static func alternatives(_ name: String, _ value: JSONValue) -> [JSONValue] {
    let found: [JSONValue]
    if name.hasSuffix("eps") {
      let sizes: [Double] = [1e-3, 1e-4, 1e-5, 1e-6, 1e-7, 1e-8, 1e-12, 0]
      found = sizes.map { JSONValue.double($0) }
    } else if name == "window" {
      let near: [Int] = value.int.map { [$0 - 1, $0 + 1, $0 / 2, $0 * 2] } ?? []
      found = [JSONValue.null] + near.map { JSONValue.int($0) }
    } else if name == "rope_base" {
      let bases: [Double] = [1e4, 2e4, 1e5, 5e5, 6.4e5, 1e6]
      found = [JSONValue.null] + bases.map { JSONValue.double($0) }
    } else if name == "rope_table" {
      found = ["float32", "bfloat16"]
    } else if name == "activation" {
      found = ["silu", "gelu"]
    } else if name == "norm" || name == "final_norm" || name == "group_norm" {
      found = ["rms", "layer"]
    } else if name == "gate_normalizer" || name == "rope_factor" {
      let factors: [Double] = [1, 2, 4, 8, 16, 32]
      found = factors.map { JSONValue.double($0) }
    } else if let flag = value.bool {
      found = [.bool(!flag)]
    } else if ["scale", "k_scale", "residual_scale", "embed_scale", "logit_scale"].contains(name) {
      found = [.null, .double(1)]
    } else if name == "gate_min" || name == "rope_scaling" {
      found = [.null]
    } else {
      found = []
    }
    return found.filter { other in
      if let p = other.double, let q = value.double { return p != q }
      return other != value
    }
  }

  // MARK: Pieces

  private typealias Likely = (piece: PieceID, sublayer: Int?, share: Double)

  private func curingPieces() throws -> (
    cure: (sublayer: Int?, pieces: [PieceID])?, likely: [Likely]
  ) {
    var likely: [Likely] = []
    // A sign may be another piece's as well: all that cure it are named.
    var curing: [PieceID] = []
    let model = comparison.model
    let kinds = Vocabulary.standard
    let own = model.pieces.keys.filter { id in
      if let index = id.sublayer { return range.contains(index) }
      if range.isEmpty {
        return stage == "final_norm"
          ? id.role.hasPrefix("final_norm")
          : id.role.hasPrefix("head") || id.role == "embed.weight"
      }
      return kinds.model.piece(id.role)?.isTable == true
    }.sorted()
    // Tables of the model act in the first sub-layer that reads any; the mixer stands first.
    func place(_ id: PieceID) -> Int? { id.sublayer ?? (range.isEmpty ? nil : range.lowerBound) }
    func weights(_ changed: [PieceID: [Double]]) -> (any WeightSource)? {
      var entries: [PieceID: MemoryWeights.Entry] = [:]
      for (id, values) in changed {
        guard let shape = model.info(id)?.shape else { return nil }
        entries[id] = MemoryWeights.Entry(shape: shape, values)
      }
      return OverlayWeights(
        model, with: MemoryWeights(entries), exchanged: Set(changed.keys))
    }
    func cures(_ changed: [PieceID: [Double]]) throws -> Bool {
      guard let weights = weights(changed) else { return false }
      return isCured(try output(model.spec, weights))
    }
    // Reading a piece whole is for layers, not for a vocabulary.
    let small = own.filter { (model.info($0)?.shape.elementCount ?? .max) <= 1 << 24 }
    for id in small {
      guard let shape = model.info(id)?.shape, shape.rank > 0 else { continue }
      let values = try model.doubles(id, rows: 0..<shape.rows)
      if let table = kinds.model.piece(id.role)?.computed?(model.spec), id.sublayer == nil,
        table.count == values.count, try cures([id: table])
      {
        return ((place(id), [id]), [])
      }
      if let (share, factor) = try scale(of: id, values, weights) {
        if share > 0.98, try cures([id: values.map { $0 * factor }]) {
          return ((place(id), [id]), [])
        }
        likely.append((id, place(id), share))
      }
      let own = id.sublayer.map { model.spec.sublayers[$0] }
      let blocks = ["n_heads", "n_kv_heads"].compactMap { own?[$0].int } + [4]
      for other in Self.turned(values, shape, blocks: Set(blocks)) where other != values {
        guard try cures([id: other]) else { continue }
        curing.append(id)
        break
      }
    }
    if let first = curing.first {
      return ((place(first), curing.filter { place($0) == place(first) }), [])
    }
    // Two that were exchanged.
    for (i, id) in small.enumerated() {
      for other in small[(i + 1)...] where other.sublayer == id.sublayer {
        guard let shape = model.info(id)?.shape, model.info(other)?.shape == shape, shape.rank > 0
        else { continue }
        let (x, y) = (
          try model.doubles(id, rows: 0..<shape.rows),
          try model.doubles(other, rows: 0..<shape.rows)
        )
        if x != y, try cures([id: y, other: x]) { return ((place(id), [id, other]), []) }
      }
    }
    return (nil, likely)
  }

  /// How much of the difference a factor on a piece explains, from 0 to 1, and the factor; `nil` where it
  /// changes nothing.
  private func scale(
    of id: PieceID, _ values: [Double], _ weights: ([PieceID: [Double]]) -> (any WeightSource)?
  ) throws -> (share: Double, factor: Double)? {
    let change = 1e-5
    guard let own = weights([id: values.map { $0 * (1 + change) }]),
      let moved = try output(comparison.model.spec, own)
    else { return nil }
    var (along, square, rest) = (0.0, 0.0, 0.0)
    for i in target.indices {
      let (d, r) = (moved[i] - base[i], target[i] - base[i])
      along += d * r
      square += d * d
      rest += r * r
    }
    guard square > 0, rest > 0, along.isFinite else { return nil }
    return (along * along / (square * rest), 1 + change * along / square)
  }

  /// A piece negated, with its halves or two of its heads exchanged, or transposed.
  private static func turned(
    _ values: [Double], _ shape: Shape, blocks: Set<Int>
  ) -> [[Double]] {
    let (rows, columns) = (shape.rows, max(shape.rowElements, 1))
    func rowOrder(_ order: (Int) -> Int) -> [Double] {
      (0..<rows).flatMap { row in values[order(row) * columns..<(order(row) + 1) * columns] }
    }
    var found = [values.map { -$0 }]
    if rows % 2 == 0 { found.append(rowOrder { ($0 + rows / 2) % rows }) }
    for count in blocks.sorted() where (3...8).contains(count) && rows % count == 0 {
      let block = rows / count
      for a in 0..<count {
        for b in a + 1..<max(count, a + 1) {
          let far = (b - a) * block
          found.append(
            rowOrder { $0 / block == a ? $0 + far : $0 / block == b ? $0 - far : $0 })
        }
      }
    }
    if rows == columns {
      found.append(
        (0..<rows * columns).map { values[$0 % columns * columns + $0 / columns] })
    }
    return found
  }

  // MARK: Sub-layers

  /// The one sub-layer that mixes positions, where the first position of each sequence, at which there
  /// is nothing to mix, is right and others are not.
  private func mixing() throws -> Int? {
    let length = comparison.trace.tokens[0].count
    let spread = Self.spread(target, base, comparison)
    let firsts = stride(from: 0, to: spread.rows.count, by: length)
    let floor = noiseFloor
    guard length > 1, firsts.allSatisfy({ spread.rows[$0] <= floor }) else { return nil }
    let kinds = [MixerKind.mlp.name, MixerKind.gmu.name]
    let mixers = range.filter { !kinds.contains(comparison.model.spec.sublayers[$0].kind) }
    return mixers.count == 1 ? mixers[0] : nil
  }

  private func run(_ own: Range<Int>, _ stream: [Double]) throws -> [Double]? {
    if own.isEmpty { return stream }
    return try Self.output(
      Double.self, comparison.model.spec, comparison.model, comparison, comparison.options, stage,
      own, stream, crossed)
  }

  /// The sub-layer that has the simplest answer to what it would have had to give; `nil` where none
  /// stands out.
  private func simplest() throws -> Int? {
    let rows = comparison.trace.tokens.joined().count
    let width = input.count / rows
    let floor = noiseFloor
    var found: [(index: Int, score: Double)] = []
    for index in range {
      guard let given = try run(range.lowerBound..<index, input),
        let own = try run(index..<index + 1, given)
      else { continue }
      var wanted: [Double]? = target
      if index + 1 < range.upperBound {
        wanted = try solved(index + 1..<range.upperBound, from: own, rows, width, floor)
      }
      guard let wanted else { continue }
      let change = zip(wanted, own).map { $0 - $1 }
      found.append((index, Self.score(change, rows, width, floor)))
    }
    found.sort { $0.score < $1.score }
    guard let best = found.first else { return nil }
    // One direction in all channels and positions, or all directions in few channels: through another
    // sub-layer it would be many in all.
    guard found.count > 1 ? best.score < 0.8 * found[1].score : best.score < 0.8 else { return nil }
    return best.index
  }

  /// The stream that the sub-layers `own` turn into the trace's, by Newton's method at each position;
  /// `nil` where they mix positions, are wide, or it is not found.
  private func solved(
    _ own: Range<Int>, from start: [Double], _ rows: Int, _ width: Int, _ floor: Double
  ) throws -> [Double]? {
    guard width <= 128, rows > 1, rows <= 4096, let first = try run(own, start) else { return nil }
    var (y, reached) = (start, first)
    let scale = start.reduce(0) { max($0, abs($1)) }
    guard scale > 0, scale.isFinite else { return nil }
    let step = scale * 0x1p-20
    func worst(_ reached: [Double]) -> Double {
      zip(target, reached).reduce(0) { max($0, abs($1.0 - $1.1)) }
    }
    // A nudge of the even positions that shows at odd ones mixes them.
    var nudged = y
    for row in stride(from: 0, to: rows, by: 2) { nudged[row * width] += step }
    guard let moved = try run(own, nudged) else { return nil }
    for row in stride(from: 1, to: rows, by: 2) {
      for i in row * width..<(row + 1) * width where moved[i] != reached[i] { return nil }
    }
    var best = worst(reached)
    for _ in 0..<10 where best > 4 * floor {
      // The derivative of each position's outputs by its inputs.
      var derivative = [Double](repeating: 0, count: rows * width * width)
      for column in 0..<width {
        var nudged = y
        for row in 0..<rows { nudged[row * width + column] += step }
        guard let all = try run(own, nudged) else { return nil }
        for row in 0..<rows {
          for i in 0..<width {
            derivative[(row * width + i) * width + column] =
              (all[row * width + i] - reached[row * width + i]) / step
          }
        }
      }
      for row in 0..<rows {
        var right = (0..<width).map { target[row * width + $0] - reached[row * width + $0] }
        guard Self.solve(&derivative, at: row * width * width, width, &right) else { return nil }
        for i in 0..<width { y[row * width + i] += right[i] }
      }
      guard let next = try run(own, y) else { return nil }
      reached = next
      let now = worst(reached)
      guard now.isFinite else { return nil }
      if now >= best, best <= 100 * floor { break }
      best = min(best, now)
    }
    return worst(reached) <= 100 * floor ? y : nil
  }

  /// Gauss's elimination with row pivots of the matrix [n, n] at `place`; the solution takes the place of
  /// the right-hand side.
  private static func solve(
    _ matrix: inout [Double], at place: Int, _ n: Int, _ right: inout [Double]
  ) -> Bool {
    for column in 0..<n {
      var pivot = column
      for row in column..<n
      where abs(matrix[place + row * n + column]) > abs(matrix[place + pivot * n + column]) {
        pivot = row
      }
      let top = matrix[place + pivot * n + column]
      guard top != 0, top.isFinite else { return false }
      if pivot != column {
        for i in column..<n {
          matrix.swapAt(place + pivot * n + i, place + column * n + i)
        }
        right.swapAt(pivot, column)
      }
      for row in column + 1..<max(n, column + 1) {
        let factor = matrix[place + row * n + column] / top
        if factor == 0 { continue }
        for i in column..<n {
          matrix[place + row * n + i] -= factor * matrix[place + column * n + i]
        }
        right[row] -= factor * right[column]
      }
    }
    for row in (0..<n).reversed() {
      var sum = right[row]
      for i in row + 1..<max(n, row + 1) { sum -= matrix[place + row * n + i] * right[i] }
      right[row] = sum / matrix[place + row * n + row]
    }
    return true
  }

  /// What of a change is rounding.
  private var noiseFloor: Double {
    let scale = target.reduce(0) { max($0, abs($1)) }
    return max(
      comparison.judge(
        Self.spread(target, target, comparison), noise: noise, wantsFloat: false
      ).bound / 8, scale * 0x1p-50)
  }

  /// How complicated a change [rows, width] is: the number of directions that it has, and of channels
  /// and positions in which it is.
  private static func score(
    _ change: [Double], _ rows: Int, _ width: Int, _ floor: Double
  ) -> Double {
    var vectors = (0..<rows).map { Array(change[$0 * width..<($0 + 1) * width]) }
    let top = change.reduce(0) { max($0, abs($1)) }
    let least = max(10 * floor, 1e-6 * top)
    let used = vectors.count { $0.contains { abs($0) > least } }
    let channels = (0..<width).count { c in vectors.contains { abs($0[c]) > least } }
    var rank = 0
    let enough = least * Double(width).squareRoot()
    while rank < min(rows, width) {
      let norms = vectors.map { $0.reduce(0) { $0 + $1 * $1 } }
      guard let place = norms.indices.max(by: { norms[$0] < norms[$1] }),
        norms[place].squareRoot() > enough
      else { break }
      let length = norms[place].squareRoot()
      let axis = vectors[place].map { $0 / length }
      for i in vectors.indices {
        let along = zip(vectors[i], axis).reduce(0) { $0 + $1.0 * $1.1 }
        for c in 0..<width { vectors[i][c] -= along * axis[c] }
      }
      rank += 1
    }
    return Double(rank) / Double(min(rows, width)) + Double(channels) / Double(width) * 0.5
      + Double(used) / Double(rows) * 0.25
  }
}
