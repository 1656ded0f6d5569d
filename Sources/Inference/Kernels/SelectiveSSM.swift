import Hub

/// The selective state space that Mamba-1 and S6-Mega share: dt, B and C from the input, then the
/// scan with its skip connection.
struct SelectiveSSM<T: Real> {
  let width: Int
  let n: Int
  let toStep: Projection<T>
  let toB: Projection<T>
  let toC: Projection<T>
  let step: Projection<T>
  let rates: [T]  // -e^a_log, [n, width]
  let skip: [T]
  let normEps: Double?
  let normWeights: (dt: [T]?, b: [T]?, c: [T]?)

  init(_ loader: PieceLoader<T>, width: Int, normEps: Double?) {
    n = loader.size("d_state")
    let rank = loader.size("dt_rank")
    toStep = Projection(weight: loader.matrix("x_dt.weight", rank, width))
    toB = Projection(weight: loader.matrix("x_b.weight", n, width))
    toC = Projection(weight: loader.matrix("x_c.weight", n, width))
    step = loader.projection("dt", width, rank)
    rates = transposed(loader.rates([width, n]), width, n)
    skip = loader.values("d", [width])
    normWeights =
      normEps == nil
      ? (nil, nil, nil)
      : (
        loader.optionalValues("x_dt_norm.weight", [rank]),
        loader.optionalValues("x_b_norm.weight", [n]),
        loader.optionalValues("x_c_norm.weight", [n])
      )
    self.width = width
    self.normEps = normEps
  }

  /// [batch, n, width] zeros.
  func makeState(batch: Int, workspace: Workspace) -> Buffer<T> {
    workspace.zeros(batch * n * width)
  }

  /// u [batch, tokens, width] to y of the same shape, gated by SiLU(z) if there is one; `state`
  /// moves on.
  func callAsFunction(
    _ u: Buffer<T>, gate z: Buffer<T>? = nil, _ run: Run<T>, _ state: Buffer<T>
  ) -> Buffer<T> {
    let low = toStep(u.read, run)
    let b = toB(u.read, run)
    let c = toC(u.read, run)
    if let normEps {
      let rank = toStep.weight.rows
      run.rmsNorm(low.read, run.rows, rank, normWeights.dt, normEps, into: low.pointer)
      run.rmsNorm(b.read, run.rows, n, normWeights.b, normEps, into: b.pointer)
      run.rmsNorm(c.read, run.rows, n, normWeights.c, normEps, into: c.pointer)
    }
    let dt = step(low.read, run)
    // Whole blocks of channels, enough of them to be worth a thread's while.
    let grain = scanBlock * max(1, 1024 / (scanBlock * run.tokens))
    let across = (width + grain - 1) / grain
    run.workers.forEach(run.batch * across) { piece, _ in
      let (sequence, e0) = (piece / across, piece % across * grain)
      let row = sequence * run.tokens
      selectiveScan(
        u.read + row * width, dt.read + row * width, rates, b.read + row * n, c.read + row * n,
        skip, gate: z.map { $0.read + row * width }, tokens: run.tokens, width: width, n: n,
        channels: e0..<min(width, e0 + grain), state: state.pointer + sequence * n * width,
        into: dt.pointer + row * width)
    }
    return dt
  }
}
