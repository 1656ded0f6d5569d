import Hub

/// Keys and values that queries are run against: the pass's own rows, behind those that a cache holds.
struct KeySource<T: Real> {
  /// Keys, values and, for Self-Extend, the keys as they are seen from afar: each [batch, total, width].
  var planes: [Buffer<T>]
  /// The number of the token of the first row.
  var firstKey: Int
  /// Rows of each sequence.
  var total: Int
  /// For one token: the cache, which then holds its row too, and `planes` only that row.
  var cache: KeyValueCache<T>?
  /// How many keys the cache keeps; `nil` for all.
  var kept: Int?

  /// `planes` [batch, tokens, width] behind what `cache` holds, which takes them in. Without a cache
  /// they are whole sequences.
  init(_ planes: [Buffer<T>], width: Int, cache: KeyValueCache<T>?, kept: Int?, _ run: Run<T>) {
    guard let cache else {
      self.init(planes: planes, firstKey: 0, total: run.tokens, cache: nil, kept: kept)
      return
    }
    let old = min(run.position, kept.map { $0 - 1 } ?? run.position)
    if run.tokens == 1 {
      cache.append(planes.map(\.read), tokens: 1, position: run.position)
      self.init(planes: planes, firstKey: run.position, total: 1, cache: cache, kept: kept)
      return
    }
    var joined = planes
    if old > 0 {
      joined = KeySource.join(planes, width, behind: old, cache, run)
    }
    cache.append(planes.map(\.read), tokens: run.tokens, position: run.position)
    self.init(
      planes: joined, firstKey: run.position - old, total: old + run.tokens, cache: nil, kept: kept)
  }

  init(
    planes: [Buffer<T>], firstKey: Int, total: Int, cache: KeyValueCache<T>?, kept: Int?
  ) {
    self.planes = planes
    self.firstKey = firstKey
    self.total = total
    self.cache = cache
    self.kept = kept
  }

  private static func join(
    _ planes: [Buffer<T>], _ width: Int, behind old: Int, _ cache: KeyValueCache<T>, _ run: Run<T>
  ) -> [Buffer<T>] {
    let (tokens, total) = (run.tokens, old + run.tokens)
    return planes.enumerated().map { plane, rows in
      let room: Buffer<T> = run.workspace.buffer(run.batch * total * width)
      for sequence in 0..<run.batch {
        let out = room.pointer + sequence * total * width
        cache.copyLast(old, position: run.position, plane: plane, sequence: sequence, into: out)
        (out + old * width).update(
          from: rows.read + sequence * tokens * width, count: tokens * width)
      }
      return room
    }
  }

  /// The same with the rows in the order of the tokens, for a reader of the last `window` keys.
  func inOrder(window: Int?, width: Int, _ run: Run<T>) -> KeySource {
    guard let cache else { return self }
    let end = run.position + 1
    let count = min(min(end, kept ?? end), window ?? end)
    let rows: [Buffer<T>] = planes.indices.map { plane in
      let room: Buffer<T> = run.workspace.buffer(run.batch * count * width)
      for sequence in 0..<run.batch {
        cache.copyLast(
          count, position: end, plane: plane, sequence: sequence,
          into: room.pointer + sequence * count * width)
      }
      return room
    }
    return KeySource(planes: rows, firstKey: end - count, total: count, cache: nil, kept: kept)
  }
}

/// Differential attention (Ye et al. 2024, arXiv 2410.05258) over pairs of neighbouring heads: of
/// each pair the second's attention, times lambda, is taken from the first's, both over the values
/// of the pair.
struct DifferentialHeads<T: Real> {
  /// exp(λq1·λk1) - exp(λq2·λk2) + lambda_init.
  let lambda: T
  /// The weight of the pair's norm times 1 - lambda_init: [2 * head_dim].
  let weight: [T]
  let eps: Double

  /// `nil` for plain attention.
  init?(_ loader: PieceLoader<T>, heads: Int, groups: Int, dim: Int) {
    guard let initial = loader.optionalNumber("lambda_init") else { return nil }
    loader.requireMultiple("n_heads", heads, of: "pairs of", 2)
    loader.requireMultiple("n_kv_heads", groups, of: "pairs of", 2)
    func product(_ a: String, _ b: String) -> Double {
      zip(loader.values(a, [dim]), loader.values(b, [dim])).reduce(0) {
        $0 + Double($1.0) * Double($1.1)
      }
    }
    lambda = T(
      Double.exp(product("lambda_q1", "lambda_k1")) - Double.exp(product("lambda_q2", "lambda_k2"))
        + initial)
    let own = loader.optionalValues("pair_norm.weight", [2 * dim])
    weight = (own ?? [T](repeating: 1, count: 2 * dim)).map { $0 * T(1 - initial) }
    eps = loader.optionalNumber("pair_norm_eps") ?? 1e-5
  }

  /// first [rows, heads * dim] = RMSNorm(first - lambda second) over each pair
  func callAsFunction(
    _ first: Buffer<T>, minus second: Buffer<T>, pairs: Int, width: Int, _ run: Run<T>
  ) {
    run.forEachElement(of: first.count) { range in
      subtract(
        second.read + range.lowerBound, range.count, times: lambda,
        from: first.pointer + range.lowerBound)
    }
    run.rmsNorm(first.read, run.rows * pairs, width, weight, eps, into: first.pointer)
  }
}

/// y[i] -= factor x[i], i in 0..<n
@specialized(where T == Float)
@specialized(where T == Double)
private func subtract<T: Real>(
  _ x: UnsafePointer<T>, _ n: Int, times factor: T, from y: UnsafeMutablePointer<T>
) {
  for i in 0..<n { y[i] -= factor * x[i] }
}

/// Softmax attention of queries against keys and values, plain or differential.
struct SoftmaxAttention<T: Real> {
  let heads: Int
  let groups: Int
  let dim: Int
  let window: Int?
  let scale: T
  let difference: DifferentialHeads<T>?
  let selfExtend: SelfExtend?

  init(_ loader: PieceLoader<T>) {
    heads = loader.size("n_heads")
    groups = loader.size("n_kv_heads")
    dim = loader.size("head_dim")
    window = loader.optionalSize("window")
    loader.requireMultiple("n_heads", heads, of: "n_kv_heads", groups)
    scale = T(loader.optionalNumber("scale") ?? 1 / Double(dim).squareRoot())
    difference = DifferentialHeads(loader, heads: heads, groups: groups, dim: dim)
    selfExtend = loader.selfExtend
    if selfExtend != nil, let window {
      loader.refuse(
        "model.self_extend",
        "Self-Extend needs full attention; this layer has a window of \(window)")
    } else if let selfExtend,
      selfExtend.group < 1 || selfExtend.window < 1
        || selfExtend.window % selfExtend.group != 0
    {
      loader.refuse(
        "model.self_extend",
        "the window \(selfExtend.window) should be a multiple of the group \(selfExtend.group)")
    }
  }

  /// q [batch, tokens, heads, dim] to o of the same shape; `farQ` as Self-Extend sees it from afar.
  func callAsFunction(
    _ q: Buffer<T>, _ farQ: Buffer<T>?, _ keys: KeySource<T>, _ run: Run<T>
  ) -> Buffer<T> {
    let first = run.activation(heads * dim)
    let second = difference == nil ? first : run.activation(heads * dim)
    if keys.cache != nil, keys.kept == window {
      step(q, farQ, keys, (first, second), run)
    } else {
      tiles(
        q, farQ, keys.inOrder(window: window, width: groups * dim, run), (first, second), run)
    }
    difference?(first, minus: second, pairs: heads / 2, width: 2 * dim, run)
    return first
  }

  /// What query head `h` reads of rows of keys and values, and where it writes in a row.
  private func head(
    _ h: Int, _ planes: [UnsafePointer<T>], firstKey: Int
  ) -> (reads: AttentionHead<T>, offset: Int) {
    let (stride, shared) = (groups * dim, heads / groups)
    var (key, value, width, offset) = (h / shared * dim, h / shared * dim, dim, h * dim)
    if difference != nil {
      // Heads 2j and 2j+1 are a pair, of queries as of keys and values; both read the pair's values.
      let pair = h / 2 / shared
      (key, value, width) = ((2 * pair + h % 2) * dim, 2 * pair * dim, 2 * dim)
      offset = h / 2 * 2 * dim
    }
    let reads = AttentionHead(
      k: planes[0] + key, kStride: stride, v: planes[1] + value, vStride: stride,
      firstKey: firstKey, window: window, dim: dim, dv: width, scale: scale,
      bias: nil, farK: planes.count > 2 ? planes[2] + key : nil,
      neighbours: selfExtend?.window ?? .max)
    return (reads, offset)
  }

  // Decoding: one query a head, against the rows of the cache in whatever order.
  private func step(
    _ q: Buffer<T>, _ farQ: Buffer<T>?, _ source: KeySource<T>, _ o: (Buffer<T>, Buffer<T>),
    _ run: Run<T>
  ) {
    guard let cache = source.cache else { return }
    let keys = cache.filled(run.position + 1)
    // Plain heads that share keys are taken together.
    let together = difference == nil ? heads / groups : 1
    let across = heads / together
    run.workspace.withScratch(run.workers.count * keys, of: T.self) { scores in
      run.workers.forEach(run.batch * across) { piece, lane in
        let (sequence, h) = (piece / across, piece % across * together)
        let rows = source.planes.indices.map { UnsafePointer(cache.rows($0, sequence)) }
        let (reads, offset) = head(h, rows, firstKey: 0)
        let out = difference != nil && h % 2 == 1 ? o.1 : o.0
        let at = (sequence * heads + h) * dim
        attendOnce(
          reads, q: q.read + at, farQ: farQ.map { $0.read + at }, queries: together, keys: keys,
          scores: scores + lane * keys, into: out.pointer + sequence * heads * dim + offset)
      }
    }
  }

  // Prefill: tiles of queries, each against the keys that it sees.
  private func tiles(
    _ q: Buffer<T>, _ farQ: Buffer<T>?, _ source: KeySource<T>, _ o: (Buffer<T>, Buffer<T>),
    _ run: Run<T>
  ) {
    let (tokens, width, total) = (run.tokens, groups * dim, source.total)
    let planes = source.planes.map(\.read)
    let grain = 64
    let across = (tokens + grain - 1) / grain
    let room = grain * min(total, (window ?? total) + grain) * (farQ == nil ? 1 : 2)
    let first = source.firstKey + total - tokens
    run.workspace.withScratch(run.workers.count * room, of: T.self) { scores in
      run.workers.forEach(run.batch * heads * across) { piece, lane in
        let (sequence, rest) = (piece / (heads * across), piece % (heads * across))
        let (h, t0) = (rest / across, rest % across * grain)
        let row = (sequence * tokens + t0) * heads * dim
        let (own, offset) = head(
          h, planes.map { $0 + sequence * total * width }, firstKey: source.firstKey)
        var reads = own
        reads.isRough = run.isRough
        let out = difference != nil && h % 2 == 1 ? o.1 : o.0
        causalAttention(
          reads, q: q.read + row + h * dim, farQ: farQ.map { $0.read + row + h * dim },
          qStride: heads * dim, rows: min(grain, tokens - t0), first: first + t0,
          scores: scores + lane * room, into: out.pointer + row + offset, oStride: heads * dim)
      }
    }
  }
}

/// The end of softmax attention: a sigmoid gate for each head, a norm of all heads together, the
/// output projection.
struct AttentionOutput<T: Real> {
  let heads: Int
  let dim: Int
  let gate: Projection<T>?
  let norm: InnerNorm<T>?
  let out: Projection<T>
  let savesMemory: Bool

  init(_ loader: PieceLoader<T>, heads: Int, dim: Int, isCross: Bool) {
    (self.heads, self.dim) = (heads, dim)
    gate =
      loader.isOn("head_gate") ? loader.projection("gate", heads, loader.dModel) : nil
    norm = isCross ? nil : InnerNorm(loader, "out_norm", width: heads * dim)
    savesMemory = isCross ? false : loader.isOn("saves_memory")
    out = loader.projection("o", loader.dModel, heads * dim)
  }

  /// o [rows, heads, dim] to [rows, d_model]
  func callAsFunction(_ o: Buffer<T>, _ normed: UnsafePointer<T>, _ run: Run<T>) -> Buffer<T> {
    if let gate {
      let g = gate(normed, run)
      run.workers.forEachRun(of: run.rows * heads, grain: max(1, 16384 / dim)) { range in
        gateHeads(
          g.read + range.lowerBound, range.count, dim, o.pointer + range.lowerBound * dim)
      }
    }
    if savesMemory { run.crossing.memory = o }
    guard let norm else { return out(o.read, run) }
    let normed = run.activation(heads * dim)
    norm(o.read, run, into: normed.pointer)
    return out(normed.read, run)
  }
}

/// o [heads, dim] *= σ(g [heads])
@specialized(where T == Float)
@specialized(where T == Double)
private func gateHeads<T: Real>(
  _ g: UnsafePointer<T>, _ heads: Int, _ dim: Int, _ o: UnsafeMutablePointer<T>
) {
  for h in 0..<heads {
    let factor = sigmoid(g[h])
    for i in 0..<dim { o[h * dim + i] *= factor }
  }
}

/// A norm inside a mixer, before its output projection.
struct InnerNorm<T: Real> {
  /// rms, layer, or scale: a factor for each channel, and no norm.
  private let kind: String
  private let weight: [T]?
  private let bias: [T]?
  private let eps: Double
  private let width: Int

  /// What the attribute `name` says; `nil` for none.
  init?(_ loader: PieceLoader<T>, _ name: String, width: Int) {
    guard loader.attribute(name) != .null else { return nil }
    kind = loader.word(name, ["rms", "layer", "scale"])
    eps = loader.number("\(name)_eps")
    weight = loader.optionalValues("\(name).weight", [width])
    bias = kind == "layer" ? loader.optionalValues("\(name).bias", [width]) : nil
    self.width = width
  }

  /// y [rows, width] = norm(x); x and y may be the same
  func callAsFunction(_ x: UnsafePointer<T>, _ run: Run<T>, into y: UnsafeMutablePointer<T>) {
    switch kind {
    case "layer": run.layerNorm(x, run.rows, width, weight, bias, eps, into: y)
    case "scale": run.multiplyChannels(x, run.rows, width, weight, into: y)
    default: run.rmsNorm(x, run.rows, width, weight, eps, into: y)
    }
  }
}

extension PieceLoader {
  /// The rotation that the attributes `rope_*` say; `nil` for none.
  func rotary(_ dim: Int) -> RotaryKind? {
    let factor = number("rope_factor")
    let table = word("rope_table", ["float32", "bfloat16"])
    let scaling = attribute("rope_scaling")
    let rotating = optionalSize("rope_dim") ?? dim
    guard let base = optionalNumber("rope_base") else { return nil }
    // Of an odd number the last pair takes in one channel more.
    if rotating > dim || (rotating + 1) / 2 * 2 > dim || rotating % 2 != 0 && scaling != .null {
      refuse("model.attribute", "rope_dim \(rotating) should be even and at most \(dim)")
      return nil
    }
    if base <= 0 || factor <= 0 {
      refuse(
        "model.attribute", "rope_base \(base) and rope_factor \(factor) should be above 0")
    }
    var kind = RotaryKind(
      // Self-Extend counts positions that lit_gpt's rounded tables do not have.
      base: base, dim: rotating, positionFactor: factor,
      table: table == "bfloat16" && selfExtend == nil ? .bfloat16 : .exact)
    if scaling != .null {
      if table == "bfloat16", scaling["rope_type"] != "archscale_yarn" {
        refuse(
          "model.attribute", "rope_scaling \(scaling.text()) with a bfloat16 rope_table")
      } else if let problem = kind.apply(scaling, base: base) {
        refuse("model.attribute", "rope_scaling: \(problem)")
      }
    }
    return kind
  }
}
