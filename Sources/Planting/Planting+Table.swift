extension Planting {
  /// Whether every fault was found in pairs, and nothing harmless was taken for one.
  package var isGood: Bool {
    let pairs: [Kind] = [.tensors, .keys]
    return pairs.allSatisfy { rates[$0].map { $0.found == $0.planted } ?? true }
      && (rates[.innocents]?.found ?? 0) == 0
  }

  /// The rates, a line each, and the first misses.
  package var table: String {
    func share(_ part: Int, _ whole: Int) -> String {
      guard whole > 0 else { return "-" }
      let tenths = part * 10000 / whole
      return "\(tenths / 100).\(tenths % 100 / 10)\(tenths % 10) %"
    }
    var lines: [String] = []
    for kind in Kind.allCases {
      guard let rate = rates[kind], rate.planted > 0 else { continue }
      if kind == .innocents {
        lines.append("\(kind.rawValue): \(rate.planted) planted, \(rate.found) false alarms")
      } else {
        lines.append(
          "\(kind.rawValue): \(rate.planted) planted, found \(share(rate.found, rate.planted)), "
            + "right stage \(share(rate.stage, rate.found)), "
            + "sub-layer \(share(rate.sublayer, rate.found)), "
            + "tensor or attribute \(share(rate.suspect, rate.found))")
      }
    }
    for (fault, rate) in byFault.sorted(by: { $0.key < $1.key }) {
      lines.append("  \(fault): \(rate.found) of \(rate.planted)")
    }
    for kind in Kind.allCases {
      for miss in rates[kind]?.misses ?? [] { lines.append("\(kind.rawValue): \(miss)") }
    }
    return lines.joined(separator: "\n")
  }
}
