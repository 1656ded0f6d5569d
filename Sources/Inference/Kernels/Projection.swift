import Hub

/// A linear map: weight [rows, columns] and perhaps a bias [rows].
struct Projection<T: Real> {
  var weight: Weight
  var bias: [T]?

  /// x [run.rows, columns] to [run.rows, rows]
  func callAsFunction(_ x: UnsafePointer<T>, _ run: Run<T>) -> Buffer<T> {
    run.linear(x, weight, bias)
  }
}

/// A depthwise causal convolution, followed by SiLU unless it says otherwise; its weight [width,
/// channels].
struct Convolution<T: Real> {
  var weight: [T]
  var bias: [T]?
  var channels: Int
  var width: Int
  var isActivated = true

  /// The rows before the first, [batch, width - 1, channels]: zeros.
  func makeTail(batch: Int, workspace: Workspace) -> Buffer<T> {
    workspace.zeros(batch * max(0, width - 1) * channels)
  }

  /// x [batch, tokens, channels] to the same shape; `tail` moves on.
  func callAsFunction(_ x: UnsafePointer<T>, _ run: Run<T>, tail: Buffer<T>) -> Buffer<T> {
    let y = run.activation(channels)
    // Some 64 KB of a result a piece; one token is no work to be shared.
    let grain = 128 * max(1, 128 / run.tokens)
    let across = (channels + grain - 1) / grain
    weight.withUnsafeBufferPointer { weight in
      (bias ?? []).withUnsafeBufferPointer { biases in
        guard let weight = weight.baseAddress else { return }
        let bias = self.bias == nil ? nil : biases.baseAddress
        run.workers.forEach(run.batch * across) { piece, _ in
          let (b, c0) = (piece / across, piece % across * grain)
          let first = b * run.tokens * channels
          causalConvolution(
            x + first, run.tokens, c0..<min(channels, c0 + grain), channels, weight, bias, width,
            isActivated: isActivated, tail: tail.pointer + b * max(0, width - 1) * channels,
            into: y.pointer + first)
        }
      }
    }
    return y
  }
}
