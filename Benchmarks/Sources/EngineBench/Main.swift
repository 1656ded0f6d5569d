import Inference
import Layouts
import Tensors

/// A line of the table: our figure, and what the machine could do at best in the same run.
struct Line {
  let name: String
  let unit: String
  let ours: Double
  /// What `ours` could be if nothing but the bare work took time; `nil` where there is no such bound.
  let floor: Double?
  var note = ""

  var text: String {
    let share = floor.map { " floor \(rounded($0)) (\(rounded(100 * ours / $0)) % of it)" } ?? ""
    return "\(name): \(rounded(ours)) \(unit)\(share)\(note.isEmpty ? "" : " \(note)")"
  }

  var json: JSONValue {
    [
      "name": .string(name), "unit": .string(unit), "ours": .double(ours), "peer": .null,
      "ratio": .null, "floor": floor.map { .double($0) } ?? .null, "note": .string(note),
    ]
  }
}

private func rounded(_ x: Double) -> String {
  let digits = x >= 100 ? 1.0 : x >= 1 ? 10.0 : 1000.0
  return "\((x * digits).rounded() / digits)"
}

@main
struct Main {
  static let usage = """
    usage: EngineBench [--json] [--only NAME,…] [--quick] [--growth]
      Models of random weights, 370 to 430 million parameters: prefill of 512 tokens, decoding,
      float64 beside float32, and what the machine could do at best, measured in the same run.
      --only     of mamba, gla, retnet, samba
      --quick    models of a twelfth of the layers
      --growth   instead: time and memory as tokens, layers and width double
    """

  static func main() throws {
    var arguments = Array(CommandLine.arguments.dropFirst())
    func take(_ flag: String) -> Bool {
      guard let i = arguments.firstIndex(of: flag) else { return false }
      arguments.remove(at: i)
      return true
    }
    let (isJSON, isQuick, isGrowth) = (take("--json"), take("--quick"), take("--growth"))
    var names = Candidate.all.map(\.name)
    if arguments.count == 2, arguments[0] == "--only" {
      names = arguments[1].split(separator: ",").map(String.init)
      arguments = []
    }
    guard arguments.isEmpty else {
      print(usage)
      return
    }
    var lines: [Line] = []
    func tell(_ line: Line) {
      lines.append(line)
      if !isJSON { print(line.text) }
    }
    try BLAS.load()
    if !isJSON { print("OpenBLAS \(BLAS.core) kernels, \(Machine.cores) cores") }
    if isGrowth {
      try growth(tell)
    } else {
      let bandwidth = Machine.bandwidth()
      tell(Line(name: "memory, read", unit: "GB/s", ours: bandwidth / 1e9, floor: nil))
      for var candidate in Candidate.all where names.contains(candidate.name) {
        if isQuick { candidate = candidate.with(layers: max(1, candidate.repeats / 12)) }
        try measure(candidate, bandwidth, tell)
      }
    }
    if isJSON {
      let document: JSONValue = [
        "openblas": .string(BLAS.core), "cores": .int(Machine.cores),
        "lines": .array(lines.map(\.json)),
      ]
      print(document.text())
    }
  }

  static func measure(
    _ candidate: Candidate, _ bandwidth: Double, _ tell: (Line) -> Void
  ) throws {
    let tokens = 512
    let size = "\(candidate.name) \(candidate.parameters / 1_000_000)M"
    var narrow = 0.0
    for dtype in [DType.f32, .bf16] {
      let weights = RandomWeights(candidate, dtype)
      let prefill = try time(Float.self, candidate, weights, tokens)
      let floor = products(Float.self, candidate, tokens)
      let name = dtype == .f32 ? "float32" : "bfloat16"
      tell(
        Line(
          name: "prefill \(tokens), \(size), \(name) weights", unit: "tokens/s",
          ours: Double(tokens) / prefill, floor: Double(tokens) / floor))
      if dtype == .f32 { narrow = prefill }
      tell(
        Line(
          name: "decode, \(size), \(name) weights", unit: "tokens/s",
          ours: 1 / (try decode(candidate, weights)), floor: bandwidth / Double(weights.count)))
      if dtype == .bf16 {
        let wide = try time(Double.self, candidate, weights, tokens)
        let best = products(Double.self, candidate, tokens)
        tell(
          Line(
            name: "float64 forward / float32 forward, \(size)", unit: "x", ours: wide / narrow,
            floor: nil, note: "(products alone \(rounded(best / floor)))"))
        tell(
          Line(
            name: "prefill \(tokens), \(size), in float64", unit: "tokens/s",
            ours: Double(tokens) / wide, floor: Double(tokens) / best))
      }
    }
    tell(
      Line(
        name: "peak memory so far", unit: "MB", ours: Double(peakMemory()) / 1e6, floor: nil))
  }

  /// Seconds of a pass over `tokens` tokens, without the logits.
  static func time<S: Real>(
    _: S.Type, _ candidate: Candidate, _ weights: RandomWeights, _ tokens: Int, runs: Int = 3
  ) throws -> Double {
    let model = try Model<S>(
      spec: candidate.spec, weights: weights, options: ModelOptions(keepsWeights: true))
    let ids = [(0..<tokens).map { $0 * 37 % candidate.vocabulary }]
    return try median(runs) {
      let pass = try ForwardPass(model, tokens: ids)
      try pass.embed()
      for _ in candidate.spec.sublayers { try pass.advance() }
      try pass.finish()
    }
  }

  /// Seconds of a token, logits included, behind a short prompt.
  static func decode(_ candidate: Candidate, _ weights: RandomWeights) throws -> Double {
    let model = try Model<Float>(
      spec: candidate.spec, weights: weights, options: ModelOptions(keepsWeights: true))
    let state = try model.makeState()
    _ = try model.step([(0..<16).map { $0 * 37 }], state)
    var token = 0
    return try median(15) {
      token += 1
      _ = try model.step([[token]], state)
    }
  }

  /// Seconds of the layers' matrix products alone.
  static func products<S: BinaryFloatingPoint>(
    _ precision: S.Type, _ candidate: Candidate, _ tokens: Int
  ) -> Double {
    candidate.matrices.reduce(0) {
      $0 + Double($1.value)
        * Machine.product(precision, m: tokens, n: $1.key[0], k: $1.key[1])
    }
  }

  /// Time and memory as tokens, layers and width double.
  static func growth(_ tell: (Line) -> Void) throws {
    func row(_ name: String, _ candidate: Candidate, _ tokens: Int) throws {
      let weights = RandomWeights(candidate, .f32)
      let before = peakMemory()
      let seconds = try time(Float.self, candidate, weights, tokens)
      tell(
        Line(
          name: name, unit: "ms", ours: seconds * 1e3, floor: nil,
          note:
            "(weights \(weights.count / 1_000_000) MB, scratch \(max(0, peakMemory() - before) / 1_000_000) MB more than any before)"
        ))
    }
    for family in [Candidate.mamba, Candidate.gla, Candidate.retnet, Candidate.samba] {
      let base = family(512, 2)
      for tokens in [256, 512, 1024, 2048] {
        try row("\(base.name), width 512, 2 layers, \(tokens) tokens", base, tokens)
      }
      for layers in [4, 8] {
        try row("\(base.name), width 512, \(layers) layers, 512 tokens", family(512, layers), 512)
      }
      for width in [1024, 2048] {
        try row("\(base.name), width \(width), 2 layers, 512 tokens", family(width, 2), 512)
      }
    }
  }
}

extension Candidate {
  /// The same with another number of layers.
  func with(layers: Int) -> Candidate {
    Candidate(
      name: name, width: width, vocabulary: vocabulary, pattern: pattern, repeats: layers)
  }
}
