import Hub
public import Tensors

/// How the next token is chosen from logits.
public struct Sampling: Sendable, Hashable {
  /// Logits are divided by it; 0 takes the largest.
  public var temperature: Double
  /// Only the most likely tokens that together reach this probability are drawn from.
  public var topP: Double
  /// Where the random numbers start: the same seed draws the same tokens from the same logits.
  public var seed: UInt64

  /// The token with the largest logit, always.
  public static let greedy = Sampling(temperature: 0)

  /// Draws at `temperature` from the `topP` nucleus.
  public init(temperature: Double, topP: Double = 1, seed: UInt64 = 0) {
    self.temperature = temperature
    self.topP = topP
    self.seed = seed
  }
}

/// Chooses tokens; holds the random numbers' state.
public struct Sampler: Sendable {
  private let sampling: Sampling
  private var state: UInt64

  /// A sampler at the start of its seed's sequence.
  public init(_ sampling: Sampling) {
    self.sampling = sampling
    state = sampling.seed
  }

  /// The next token, from `logits` [vocab_rows].
  ///
  /// Greedy takes the lowest of equally large logits. All rows can be chosen, padding rows of the
  /// vocabulary included, as transformers does it.
  public mutating func next<T: Real>(_ logits: some Collection<T>) -> Int {
    let values = logits.map { Double($0) }
    guard sampling.temperature > 0 else { return Sampler.largest(values) }
    let top = values.max() ?? 0
    let weights = values.map { Double.exp(($0 - top) / sampling.temperature) }
    let total = weights.reduce(0, +)
    // The nucleus (Holtzman et al. 2019, arXiv 1904.09751): the shortest list of the likeliest
    // tokens that reaches top-p.
    let order = weights.indices.sorted { (weights[$0], $1) > (weights[$1], $0) }
    var count = 0
    var reached = 0.0
    while count < order.count, count == 0 || reached < sampling.topP * total {
      reached += weights[order[count]]
      count += 1
    }
    var rest = uniform() * reached
    for index in order[..<count] {
      rest -= weights[index]
      if rest < 0 { return index }
    }
    return order[max(0, count - 1)]
  }

  private static func largest(_ values: [Double]) -> Int {
    var best = 0
    for (i, value) in values.enumerated() where value > values[best] { best = i }
    return best
  }

  // In 0..<1, by SplitMix64 (Steele, Lea and Flood 2014).
  private mutating func uniform() -> Double {
    state &+= 0x9e37_79b9_7f4a_7c15
    var z = state
    z = (z ^ (z >> 30)) &* 0xbf58_476d_1ce4_e5b9
    z = (z ^ (z >> 27)) &* 0x94d0_49bb_1331_11eb
    return Double((z ^ (z >> 31)) >> 11) * 0x1p-53
  }
}

extension Model {
  /// `count` tokens that follow `prompt`; weights are kept in memory while it runs.
  ///
  /// - Throws: `Problems` of the prompt or of reading weights; `generate.not-finite` where a logit is
  ///   NaN or infinite.
  public func generate(
    prompt: [Int], count: Int, sampling: Sampling = .greedy
  ) throws(Problems) -> [Int] {
    var tokens: [Int] = []
    try generate(prompt: prompt, count: count, sampling: sampling, into: &tokens)
    return tokens
  }

  /// As `generate(prompt:count:sampling:)`; `tokens` holds what was added also when it throws.
  package func generate(
    prompt: [Int], count: Int, sampling: Sampling, into tokens: inout [Int]
  ) throws(Problems) {
    keepsWeights = true
    defer {
      keepsWeights = options.keepsWeights
      if !keepsWeights { releaseMemory() }
    }
    let state = try makeState()
    var sampler = Sampler(sampling)
    var logits: [Scalar] = []
    // Long prompts go in pieces, so that activations stay small.
    var rest = prompt[...]
    repeat {
      logits = try step([Array(rest.prefix(1024))], state)
      rest = rest.dropFirst(1024)
    } while !rest.isEmpty
    while tokens.count < count {
      let odd = logits.count { !Double($0).isFinite }
      guard odd == 0 else {
        throw Problems([
          NotFiniteLogits.problem(prompt.count + tokens.count - 1, odd, of: logits.count)
        ])
      }
      tokens.append(sampler.next(logits))
      if tokens.count < count { logits = try step([[tokens[tokens.count - 1]]], state) }
    }
  }
}
