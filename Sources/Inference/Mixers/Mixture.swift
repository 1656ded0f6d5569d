public import Hub
import Tensors

extension MixerKind {
  /// A mixture of experts: a router sends each token through a few of many MLPs (Shazeer et al. 2017,
  /// arXiv 1701.06538), besides which one may be shared by all (DeepSeek-V3, arXiv 2412.19437).
  public static let moe = MixerKind(
    name: "moe",
    summary:
      "mixture of experts: a router, MLPs of which each token takes a few, one shared by all",
    source:
      "Shazeer et al. 2017, arXiv 1701.06538; transformers' models jamba, granitemoehybrid, nemotron_h",
    attributes: [
      Attribute("n_experts", .size, "experts"),
      Attribute("n_active", .size, "experts that a token goes through"),
      Attribute("d_ff", .size, "inner width of an expert"),
      Attribute("gated", .flag, default: true, "whether the MLPs have a gate"),
      Attribute(
        "activation", .words("silu", "gelu", "gelu_tanh", "relu", "relu2"), default: "silu",
        "silu, gelu (with erf), gelu_tanh, relu or relu2 (its square)"
      ),
      Attribute(
        "router_scores", .words("softmax", "sigmoid"), default: "softmax",
        "weights from scores: softmax (over all) or sigmoid"),
      Attribute(
        "router_normalizes", .flag, default: false,
        "whether the weights of a token's experts are divided by their sum"),
      Attribute("router_scale", .finite, default: 1.0, "factor on these weights"),
      Attribute("router_groups", .size, default: 1, "groups of neighbouring experts"),
      Attribute(
        "router_kept_groups", .size, default: 1,
        "groups that a token's experts are chosen from: those with the largest sum of their two best"
      ),
      Attribute(
        "d_latent", .size, default: JSONValue.null,
        "width between projections around the experts; null for none"),
      Attribute(
        "d_shared", .size, default: JSONValue.null,
        "inner width of the shared expert; null for none"),
    ],
    pieces: [
      Piece("router.weight", ["n_experts", "d_model"], "a row of scores for each expert"),
      Piece(
        "router.correction", ["n_experts"], identity: .zero, keepsFloat32: true,
        "added to the scores for the choice alone"),
      Piece(
        "experts.{e}.gate.weight", ["d_ff", "d_latent ?? d_model"], count: "n_experts",
        "the activated projection of expert e"),
      Piece(
        "experts.{e}.up.weight", ["d_ff", "d_latent ?? d_model"], count: "n_experts",
        "its linear projection; the activated one without a gate"),
      Piece(
        "experts.{e}.down.weight", ["d_latent ?? d_model", "d_ff"], count: "n_experts",
        "its output projection"),
      Piece("latent_in.weight", ["d_latent", "d_model"], "projection before the experts"),
      Piece("latent_in.bias", ["d_latent"], identity: .zero, "its bias"),
      Piece("latent_out.weight", ["d_model", "d_latent"], "projection behind the experts"),
      Piece("latent_out.bias", ["d_model"], identity: .zero, "its bias"),
      Piece("shared.gate.weight", ["d_shared", "d_model"], "the shared expert's gate"),
      Piece("shared.gate.bias", ["d_shared"], identity: .zero, "its bias"),
      Piece("shared.up.weight", ["d_shared", "d_model"], "its other projection"),
      Piece("shared.up.bias", ["d_shared"], identity: .zero, "its bias"),
      Piece("shared.down.weight", ["d_model", "d_shared"], "its output projection"),
      Piece("shared.down.bias", ["d_model"], identity: .zero, "its bias"),
    ],
    rules: [
      Rule("n_active <= n_experts", "n_active", "at most n_experts"),
      Rule("n_experts % router_groups == 0", "router_groups", "a divisor of n_experts"),
      Rule("router_kept_groups <= router_groups", "router_kept_groups", "at most router_groups"),
    ])
}

/// Runs a mixture of experts; equations of `GraniteMoeHybridMoE`, `JambaSparseMoeBlock` and
/// `NemotronHMoE`. The weights of an expert are read when tokens come to it, and let go behind it.
struct MixtureMixer<T: Real>: Mixer {
  let loader: PieceLoader<T>
  let routing: Routing
  let router: Projection<T>
  let correction: [T]?
  let activation: Activation
  let isGated: Bool
  let width: Int  // of what the experts read
  let inner: Int
  let latent: (before: Projection<T>, behind: Projection<T>)?
  let shared: (gate: Projection<T>?, up: Projection<T>, down: Projection<T>)?
  private let kept = Experts()

  /// Weights that stay in memory where the model keeps them.
  private final class Experts {
    var weights: [Int: Expert] = [:]
  }

  private struct Expert {
    var gate: Weight?
    var up: Weight
    var down: Weight
  }

  init(_ loader: PieceLoader<T>) {
    self.loader = loader
    let d = loader.dModel
    var routing = Routing(experts: loader.size("n_experts"), chosen: loader.size("n_active"))
    routing.scores =
      loader.word("router_scores", ["softmax", "sigmoid"]) == "sigmoid" ? .sigmoid : .softmax
    routing.normalizes = loader.flag("router_normalizes")
    routing.factor = loader.number("router_scale")
    routing.groups = loader.size("router_groups")
    routing.keptGroups = loader.size("router_kept_groups")
    if routing.experts > MixerKind.mostCopies {
      loader.refuse("model.attribute", "n_experts \(routing.experts) are too many")
      routing.experts = 1
    }
    loader.requireMultiple("n_experts", routing.experts, of: "router_groups", routing.groups)
    let open = routing.experts / routing.groups * min(routing.keptGroups, routing.groups)
    if routing.chosen > open {
      loader.refuse(
        "model.attribute",
        "n_active \(routing.chosen) is more than the \(open) experts to choose from")
    }
    isGated = loader.flag("gated")
    activation = loader.activation("activation")
    router = Projection(weight: loader.matrix("router.weight", routing.experts, d))
    correction = loader.optionalValues("router.correction", [routing.experts])
    inner = loader.size("d_ff")
    if let narrow = loader.optionalSize("d_latent") {
      width = narrow
      latent = (
        loader.projection("latent_in", narrow, d), loader.projection("latent_out", d, narrow)
      )
    } else {
      width = d
      latent = nil
    }
    if let own = loader.optionalSize("d_shared") {
      shared = (
        isGated ? loader.projection("shared.gate", own, d) : nil,
        loader.projection("shared.up", own, d), loader.projection("shared.down", d, own)
      )
    } else {
      shared = nil
    }
    self.routing = routing
    guard loader.isDry else { return }
    for e in 0..<routing.experts { _ = expert(e, rooms: (nil, nil, nil)) }
  }

  func makeState(batch: Int, workspace: Workspace) -> MixerState<T> { MixerState() }

  private typealias Rooms = (gate: WeightRoom?, up: WeightRoom?, down: WeightRoom?)

  private func expert(_ e: Int, rooms: Rooms) -> Expert {
    func matrix(_ name: String, _ rows: Int, _ columns: Int, _ room: WeightRoom?) -> Weight {
      loader.matrix("experts.\(e).\(name).weight", rows, columns, room: room)
    }
    return Expert(
      gate: isGated ? matrix("gate", inner, width, rooms.gate) : nil,
      up: matrix("up", inner, width, rooms.up), down: matrix("down", width, inner, rooms.down))
  }

  func callAsFunction(
    _ input: MixerInput<T>, _ run: Run<T>, _ state: MixerState<T>?
  ) -> Buffer<T> {
    let scores = router(input.normed, run)
    let reduced = latent.map { $0.before(input.normed, run) }
    let sum: Buffer<T> = run.workspace.zeros(run.rows * width)
    add(tokens(scores), of: reduced?.read ?? input.normed, to: sum, run)
    withExtendedLifetime((scores, reduced)) {}
    let result = latent.map { $0.behind(sum.read, run) } ?? sum
    if let shared {
      let own = shared.up(input.normed, run)
      if let gate = shared.gate {
        let gated = gate(input.normed, run)
        run.gate(gated.read, own.count, activation, times: own.pointer)
        withExtendedLifetime(gated) {}
      } else {
        run.activate(own.pointer, own.count, activation)
      }
      let change = shared.down(own.read, run)
      run.add(change, to: result)
      withExtendedLifetime(own) {}
    }
    return result
  }

  /// The tokens of each expert, with their weights.
  private func tokens(_ scores: Buffer<T>) -> [[(row: Int, weight: T)]] {
    var tokens = [[(row: Int, weight: T)]](repeating: [], count: routing.experts)
    for row in 0..<scores.count / routing.experts {
      for (expert, weight) in routing.choose(
        scores.read + row * routing.experts, correction: correction)
      {
        tokens[expert].append((row, weight))
      }
    }
    return tokens
  }

  /// sum [rows, width] += what each expert makes of its tokens of x [rows, width]
  private func add(
    _ tokens: [[(row: Int, weight: T)]], of x: UnsafePointer<T>, to sum: Buffer<T>, _ run: Run<T>
  ) {
    // The same room serves one expert after the other.
    let most = tokens.map(\.count).max() ?? 0
    let rows: Buffer<T> = run.workspace.buffer(most * width)
    let hidden: Buffer<T> = run.workspace.buffer(most * inner)
    let gates: Buffer<T> = run.workspace.buffer(isGated ? most * inner : 0)
    let rooms: Rooms =
      loader.keepsWeights ? (nil, nil, nil) : (WeightRoom(), WeightRoom(), WeightRoom())
    for (e, own) in tokens.enumerated() where !own.isEmpty {
      let expert = kept.weights[e] ?? self.expert(e, rooms: rooms)
      guard loader.problems.isEmpty else { return }
      if loader.keepsWeights { kept.weights[e] = expert }
      for (i, token) in own.enumerated() {
        (rows.pointer + i * width).update(from: x + token.row * width, count: width)
      }
      let count = own.count
      linear(rows.read, count, expert.up, nil, run, into: hidden.pointer)
      if let gate = expert.gate {
        linear(rows.read, count, gate, nil, run, into: gates.pointer)
        run.gate(gates.read, count * inner, activation, times: hidden.pointer)
      } else {
        run.activate(hidden.pointer, count * inner, activation)
      }
      linear(hidden.read, count, expert.down, nil, run, into: rows.pointer)
      for (i, token) in own.enumerated() {
        addScaled(rows.read + i * width, width, token.weight, to: sum.pointer + token.row * width)
      }
      for name in ["gate", "up", "down"] { loader.evict("experts.\(e).\(name).weight") }
    }
    withExtendedLifetime((rows, hidden, gates)) {}
  }
}

/// y[i] += factor x[i], i in 0..<n
@specialized(where T == Float)
@specialized(where T == Double)
private func addScaled<T: Real>(
  _ x: UnsafePointer<T>, _ n: Int, _ factor: T, to y: UnsafeMutablePointer<T>
) {
  for i in 0..<n { y[i] += factor * x[i] }
}
