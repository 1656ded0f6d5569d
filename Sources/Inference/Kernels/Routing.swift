import Hub

/// How a mixture chooses the experts of a token, and with which weights.
package struct Routing: Sendable, Hashable {
  /// How a score becomes a weight.
  package enum Scores: Sendable, Hashable {
    /// Softmax over all experts.
    case softmax
    /// The logistic function of each.
    case sigmoid
  }

  /// How many experts there are.
  package var experts: Int
  /// How many of them a token goes through.
  package var chosen: Int
  /// How scores become weights.
  package var scores = Scores.softmax
  /// Whether the weights of the chosen are divided by their sum.
  package var normalizes = false
  /// A factor on the weights.
  package var factor = 1.0
  /// Groups of neighbouring experts.
  package var groups = 1
  /// How many groups may be chosen from: those with the largest sum of their two best scores.
  package var keptGroups = 1

  /// A routing over so many experts.
  package init(experts: Int, chosen: Int) {
    (self.experts, self.chosen) = (experts, chosen)
  }

  /// The experts of one token and their weights, from its `scores` [experts] before any function.
  ///
  /// Of equal scores the first counts. `correction` [experts] is added for the choice alone.
  package func choose<T: Real>(
    _ scores: UnsafePointer<T>, correction: [T]?
  ) -> [(expert: Int, weight: T)] {
    var values = Array(UnsafeBufferPointer(start: scores, count: experts))
    if self.scores == .sigmoid { for i in 0..<experts { values[i] = sigmoid(values[i]) } }
    var ranks = values
    if let correction { for i in 0..<experts { ranks[i] += correction[i] } }
    var open = [Bool](repeating: true, count: experts)
    if groups > 1 {
      let size = experts / groups
      let sums = (0..<groups).map { group in
        let own = Array(ranks[group * size..<(group + 1) * size])
        return Routing.largest(min(2, size), of: own).reduce(0) { $0 + own[$1] }
      }
      let kept = Set(Routing.largest(keptGroups, of: sums))
      for i in 0..<experts { open[i] = kept.contains(i / size) }
    }
    let found = Routing.largest(chosen, of: ranks, among: open)
    var weights: [T]
    switch self.scores {
    case .sigmoid:
      weights = found.map { values[$0] }
      if normalizes {
        let sum = weights.reduce(0, +) + 1e-20
        for i in weights.indices { weights[i] /= sum }
      }
    case .softmax:
      // Over all experts and then divided by the sum of the chosen is over the chosen alone.
      let over = normalizes ? found.map { values[$0] } : values
      let top = over.reduce(-T.infinity) { max($0, $1) }
      let sum = over.reduce(0.0) { $0 + Double(T.exp($1 - top)) }
      weights = found.map { T(Double(T.exp(values[$0] - top)) / sum) }
    }
    if factor != 1 { for i in weights.indices { weights[i] *= T(factor) } }
    return zip(found, weights).map { ($0, $1) }
  }

  /// The places of the `count` largest of `values`, the largest first.
  private static func largest<T: Real>(
    _ count: Int, of values: [T], among open: [Bool]? = nil
  ) -> [Int] {
    var taken = open.map { $0.map { !$0 } } ?? [Bool](repeating: false, count: values.count)
    var result: [Int] = []
    for _ in 0..<min(count, values.count) {
      var best: Int?
      for (i, value) in values.enumerated() where !taken[i] {
        guard let place = best else {
          best = i
          continue
        }
        // What is no number is worse than any.
        if value > values[place] || values[place].isNaN && !value.isNaN { best = i }
      }
      guard let best else { break }
      taken[best] = true
      result.append(best)
    }
    return result
  }
}
