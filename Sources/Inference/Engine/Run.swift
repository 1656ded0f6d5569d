import Hub

/// What a mixer is told about the tokens that it is given: `tokens` positions of each of `batch`
/// sequences, the first of which is number `position`; and with what to compute.
struct Run<T: Real> {
  let batch: Int
  let tokens: Int
  let position: Int
  let workers: Workers
  let workspace: Workspace
  let rotary: RotaryCache<T>
  let selfExtend: SelfExtend?
  /// Whether sums of norms and softmax are in `T`, as frameworks have them.
  var isRough = false
  /// What earlier sub-layers of the pass have left for later ones.
  var crossing = Crossing<T>()

  /// Rows of an activation: batch * tokens.
  var rows: Int { batch * tokens }

  /// Room for an activation [batch, tokens, width].
  func activation(_ width: Int) -> Buffer<T> { workspace.buffer(rows * width) }

  /// y [rows, w.rows] = x [rows, w.columns] wᵀ + bias
  func linear(_ x: UnsafePointer<T>, _ w: Weight, _ bias: [T]? = nil) -> Buffer<T> {
    let y = activation(w.rows)
    Inference.linear(x, rows, w, bias, self, into: y.pointer)
    return y
  }

  /// Calls `body` for runs of elements of an activation, on all threads.
  func forEachElement(of count: Int, _ body: (Range<Int>) -> Void) {
    workers.forEachRun(of: count, grain: 16384, body)
  }

  /// x = f(x), each of `count` values
  func activate(_ x: UnsafeMutablePointer<T>, _ count: Int, _ f: Activation) {
    forEachElement(of: count) { range in
      Inference.activate(x + range.lowerBound, range.count, f)
    }
  }

  /// y = f(x) * y, each of `count` values
  func gate(_ x: UnsafePointer<T>, _ count: Int, _ f: Activation, times y: UnsafeMutablePointer<T>)
  {
    forEachElement(of: count) { range in
      Inference.gate(x + range.lowerBound, range.count, f, times: y + range.lowerBound)
    }
  }

  /// y [m, d] = RMSNorm(x [m, d])
  func rmsNorm(
    _ x: UnsafePointer<T>, _ m: Int, _ d: Int, _ weight: [T]?, _ eps: Double,
    into y: UnsafeMutablePointer<T>
  ) {
    workers.forEachRun(of: m, grain: max(1, 16384 / d)) { rows in
      if isRough {
        roughNorm(
          x + rows.lowerBound * d, rows.count, d, weight, nil, eps, removesMean: false,
          into: y + rows.lowerBound * d)
        return
      }
      Inference.rmsNorm(
        x + rows.lowerBound * d, rows.count, d, weight, eps, into: y + rows.lowerBound * d)
    }
  }

  /// y [m, d] = x [m, d] weight [d]; x itself without a weight. x and y may be the same.
  func multiplyChannels(
    _ x: UnsafePointer<T>, _ m: Int, _ d: Int, _ weight: [T]?, into y: UnsafeMutablePointer<T>
  ) {
    workers.forEachRun(of: m, grain: max(1, 16384 / d)) { rows in
      Inference.multiplyChannels(
        x + rows.lowerBound * d, rows.count, d, weight, into: y + rows.lowerBound * d)
    }
  }

  /// y += x, activations of one width
  func add(_ x: Buffer<T>, to y: Buffer<T>) {
    forEachElement(of: y.count) { range in
      Inference.add(
        x.pointer + range.lowerBound, range.count, to: y.pointer + range.lowerBound)
    }
  }

  /// A copy of x [batch, tokens, width].
  func copy(_ x: Buffer<T>) -> Buffer<T> {
    let y: Buffer<T> = workspace.buffer(x.count)
    forEachElement(of: x.count) { range in
      (y.pointer + range.lowerBound).update(from: x.read + range.lowerBound, count: range.count)
    }
    return y
  }

  /// y [m, d] = LayerNorm(x [m, d])
  func layerNorm(
    _ x: UnsafePointer<T>, _ m: Int, _ d: Int, _ weight: [T]?, _ bias: [T]?, _ eps: Double,
    into y: UnsafeMutablePointer<T>
  ) {
    workers.forEachRun(of: m, grain: max(1, 16384 / d)) { rows in
      if isRough {
        roughNorm(
          x + rows.lowerBound * d, rows.count, d, weight, bias, eps, removesMean: true,
          into: y + rows.lowerBound * d)
        return
      }
      Inference.layerNorm(
        x + rows.lowerBound * d, rows.count, d, weight, bias, eps, into: y + rows.lowerBound * d)
    }
  }
}

/// Self-Extend (Jin et al. 2024, arXiv 2401.01325): beyond a neighbourhood of `window` keys,
/// positions are counted in groups of `group`, so that full attention reaches further than the
/// positions that it was trained on.
public struct SelfExtend: Sendable, Hashable {
  /// Positions that share a number beyond the neighbourhood.
  public var group: Int
  /// The neighbourhood: distances below it keep their exact position.
  public var window: Int

  /// Groups of `group` beyond `window` keys.
  public init(group: Int, window: Int) {
    self.group = group
    self.window = window
  }
}
