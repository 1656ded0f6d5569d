public import Hub
import Tensors

extension MixerKind {
  /// S6GatedAttention: Mega's gated attention with a selective scan for its moving average
  /// (`lit_gpt/mega.py`, `lit_gpt/s6.py`). Its gate replaces the residual addition.
  public static let mega = MixerKind(
    name: "mega",
    summary: "S6 gated attention (S6-Mega)",
    source: "lit_gpt/mega.py, lit_gpt/s6.py",
    attributes: [
      Attribute("d_state", .size, "state size N of the scan"),
      Attribute("d_conv", .size, "width of the causal convolution"),
      Attribute("dt_rank", .size, "rank of the step-size projection"),
      Attribute("d_qk", .size, default: 128, "width of queries and keys"),
      Attribute("chunk", .size, default: 2048, "attention stays inside chunks of this length"),
    ],
    pieces: [
      Piece("conv.weight", ["d_model", "d_conv"], "depthwise causal convolution"),
      Piece("conv.bias", ["d_model"], identity: .zero, "its bias"),
      Piece("x_dt.weight", ["dt_rank", "d_model"], "projection to the step size"),
      Piece("x_b.weight", ["d_state", "d_model"], "projection to B"),
      Piece("x_c.weight", ["d_state", "d_model"], "projection to C"),
      Piece("dt.weight", ["d_model", "dt_rank"], "step size of each channel"),
      Piece("dt.bias", ["d_model"], keepsFloat32: true, "its bias"),
      Piece("a_log", ["d_model", "d_state"], keepsFloat32: true, "log of -A"),
      Piece("d", ["d_model"], keepsFloat32: true, "skip connection"),
      Piece("v.weight", ["d_model", "d_model"], "values"),
      Piece("v.bias", ["d_model"], identity: .zero, "its bias"),
      Piece("mx_u.weight", ["d_model", "d_model"], "update gate"),
      Piece("mx_u.bias", ["d_model"], identity: .zero, "its bias"),
      Piece("mx_z.weight", ["d_qk", "d_model"], "shared queries and keys"),
      Piece("mx_z.bias", ["d_qk"], identity: .zero, "its bias"),
      Piece("mx_r.weight", ["d_model", "d_model"], "reset gate"),
      Piece("mx_r.bias", ["d_model"], identity: .zero, "its bias"),
      Piece("mx_h.weight", ["d_model", "d_model"], "candidate"),
      Piece("mx_h.bias", ["d_model"], identity: .zero, "its bias"),
      Piece("h.weight", ["d_model", "d_model"], "attention's part of the candidate"),
      Piece("h.bias", ["d_model"], identity: .zero, "its bias"),
      Piece("gamma", ["2", "d_qk"], "scale of queries (row 0) and keys (row 1)"),
      Piece("beta", ["2", "d_qk"], "shift of queries (row 0) and keys (row 1)"),
      Piece("bias_alpha", ["1", "d_qk"], "relative position bias, query side"),
      Piece("bias_beta", ["1", "d_qk"], "relative position bias, key side"),
    ], isFloat32Inside: true)
}

/// Runs S6GatedAttention; equations of `lit_gpt/mega.py`, `S6GatedAttention.forward`.
struct MegaMixer<T: Real>: Mixer {
  final class State: MixerState<T> {
    let tail: Buffer<T>
    let scan: Buffer<T>
    let cache: KeyValueCache<T>  // of the current chunk

    init(tail: Buffer<T>, scan: Buffer<T>, cache: KeyValueCache<T>) {
      self.tail = tail
      self.scan = scan
      self.cache = cache
    }
  }

  let width: Int
  let dim: Int
  let chunk: Int
  let convolution: Convolution<T>
  let scan: SelectiveSSM<T>
  let value: Projection<T>
  let update: Projection<T>
  let shared: Projection<T>
  let reset: Projection<T>
  let candidate: Projection<T>
  let hidden: Projection<T>
  let gamma: [T]
  let beta: [T]
  let bias: DistanceBias

  init(_ loader: PieceLoader<T>) {
    width = loader.dModel
    dim = loader.size("d_qk")
    chunk = loader.size("chunk")
    loader.requireMultiple("d_qk", dim, of: "pairs of", 2)
    convolution = loader.convolution("conv", width, loader.size("d_conv"))
    scan = SelectiveSSM(loader, width: width, normEps: nil)
    value = loader.projection("v", width, width)
    update = loader.projection("mx_u", width, width)
    shared = loader.projection("mx_z", dim, width)
    reset = loader.projection("mx_r", width, width)
    candidate = loader.projection("mx_h", width, width)
    hidden = loader.projection("h", width, width)
    gamma = loader.values("gamma", [2, dim])
    beta = loader.values("beta", [2, dim])
    bias = DistanceBias(
      alpha: loader.values("bias_alpha", [1, dim]).map(Double.init),
      beta: loader.values("bias_beta", [1, dim]).map(Double.init))
  }

  func makeState(batch: Int, workspace: Workspace) -> MixerState<T> {
    State(
      tail: convolution.makeTail(batch: batch, workspace: workspace),
      scan: scan.makeState(batch: batch, workspace: workspace),
      cache: KeyValueCache(
        batch: batch, widths: [dim, width], window: nil, workspace: workspace))
  }

  func callAsFunction(
    _ input: MixerInput<T>, _ run: Run<T>, _ state: MixerState<T>?
  ) -> Buffer<T> {
    let kept = state ?? makeState(batch: run.batch, workspace: run.workspace)
    guard let state = kept as? State else { preconditionFailure("a state of another mixer") }
    let v = value(input.normed, run)
    run.activate(v.pointer, v.count, .silu)
    let u = convolution(input.normed, run, tail: state.tail)
    let moved = scan(u, run, state.scan)
    run.activate(moved.pointer, moved.count, .silu)
    let z = shared(moved.read, run)
    run.activate(z.pointer, z.count, .silu)
    let (q, k) = (run.activation(dim), run.activation(dim))
    run.workers.forEachRun(of: run.rows, grain: 256) { rows in
      scaleAndShift(z.read, gamma, beta, rows: rows, dim: dim, row: 0, into: q.pointer)
      scaleAndShift(z.read, gamma, beta, rows: rows, dim: dim, row: 1, into: k.pointer)
    }
    let attended = attend(q, k, v, state.cache, run)
    let r = reset(moved.read, run)
    run.gate(r.read, r.count, .silu, times: attended.pointer)
    let h = hidden(attended.read, run)
    let candidate = candidate(moved.read, run)
    let gate = update(moved.read, run)
    run.forEachElement(of: run.rows * width) { range in
      mix(
        candidate.read, gate.read, input.residual, range: range, into: h.pointer)
    }
    return h
  }

  // Attention inside chunks; a stretch of tokens that crosses a border is cut there.
  private func attend(
    _ q: Buffer<T>, _ k: Buffer<T>, _ v: Buffer<T>, _ cache: KeyValueCache<T>, _ run: Run<T>
  ) -> Buffer<T> {
    let o = run.activation(width)
    let bias = bias.values(upTo: min(chunk, run.position + run.tokens)).map { T($0) }
    let scale = T(1 / Double(dim).squareRoot())
    let grain = 64
    var t0 = 0
    while t0 < run.tokens {
      let local = (run.position + t0) % chunk
      let count = min(chunk - local, run.tokens - t0)
      cache.append([k.read, v.read], tokens: run.tokens, range: t0..<t0 + count, position: local)
      let room = grain * (local + count)
      let across = (count + grain - 1) / grain
      run.workspace.withScratch(run.workers.count * room, of: T.self) { scratch in
        bias.withUnsafeBufferPointer { bias in
          run.workers.forEach(run.batch * across) { piece, lane in
            let (sequence, i) = (piece / across, piece % across * grain)
            let head = AttentionHead<T>(
              k: UnsafePointer(cache.rows(0, sequence)), kStride: dim,
              v: UnsafePointer(cache.rows(1, sequence)), vStride: width, firstKey: 0, window: nil,
              dim: dim, dv: width, scale: scale, bias: bias.baseAddress)
            let row = sequence * run.tokens + t0 + i
            let scores = scratch + lane * room
            if count == 1 {
              attendOnce(
                head, q: q.read + row * dim, farQ: nil, queries: 1, keys: local + 1, scores: scores,
                into: o.pointer + row * width)
            } else {
              causalAttention(
                head, q: q.read + row * dim, farQ: nil, qStride: dim, rows: min(grain, count - i),
                first: local + i, scores: scores, into: o.pointer + row * width, oStride: width)
            }
          }
        }
      }
      t0 += count
    }
    return o
  }
}

/// The relative position bias: rot(α)_i · rot(β)_j depends on i - j alone.
final class DistanceBias {
  private let alpha: [Double]
  private let beta: [Double]
  private var table: [Double] = []

  init(alpha: [Double], beta: [Double]) {
    self.alpha = alpha
    self.beta = beta
  }

  /// The bias at distances 0..<count.
  func values(upTo count: Int) -> [Double] {
    let half = alpha.count / 2
    let kind = RotaryKind(base: 10000, dim: 2 * half)
    while table.count < count {
      let turns = kind.values(at: table.count)
      var sum = 0.0
      for i in 0..<half {
        let (a1, a2, b1, b2) = (alpha[i], alpha[i + half], beta[i], beta[i + half])
        sum += (a1 * b1 + a2 * b2) * turns[i].cos + (a1 * b2 - a2 * b1) * turns[i].sin
      }
      table.append(sum)
    }
    return table
  }
}

/// y [row, i] = z [row, i] gamma [which, i] + beta [which, i]
@specialized(where T == Float)
@specialized(where T == Double)
private func scaleAndShift<T: Real>(
  _ z: UnsafePointer<T>, _ gamma: UnsafePointer<T>, _ beta: UnsafePointer<T>, rows: Range<Int>,
  dim: Int, row which: Int, into y: UnsafeMutablePointer<T>
) {
  let (g, b) = (gamma + which * dim, beta + which * dim)
  for row in rows {
    for i in 0..<dim { y[row * dim + i] = z[row * dim + i] * g[i] + b[i] }
  }
}

/// h [i] = σ(gate [i]) (SiLU(candidate [i] + h [i]) - x [i]): what the gate adds to the residual x
@specialized(where T == Float)
@specialized(where T == Double)
private func mix<T: Real>(
  _ candidate: UnsafePointer<T>, _ gate: UnsafePointer<T>, _ x: UnsafePointer<T>,
  range: Range<Int>, into h: UnsafeMutablePointer<T>
) {
  for i in range { h[i] = sigmoid(gate[i]) * (silu(candidate[i] + h[i]) - x[i]) }
}
