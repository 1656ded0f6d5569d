import Checkpoints
import Conversion
import Hub
public import Inference
import Layouts
import OrderedCollections
import Output
public import Parity
public import Tensors

#if canImport(Glibc)
  import Glibc
#elseif canImport(Musl)
  import Musl
#else
  import Darwin
#endif

extension Weighbridge {
  /// Continues prompts.
  ///
  /// - Returns: each prompt with its continuation.
  /// - Throws: `Problems`, `Diagnostic` for what cannot be read or run; `generate.not-finite` where logits
  ///   are NaN or infinite, with the place where they arise.
  public func generate(
    _ input: CheckpointInput, prompts: TokenInput, count: Int, sampling: Sampling,
    precision: Precision = .float32, selfExtend: SelfExtend? = nil
  ) throws -> (tokens: [[Int]], problems: [Diagnostic]) {
    let loaded = try load(input)
    var member = try loaded.hubModel()
    if let meter = Meter(total: member.byteCount, progress) { member.observers.append(meter) }
    let (weights, spec) = (member, member.spec)
    let options = ModelOptions(keepsWeights: true, selfExtend: selfExtend)
    func run<S: Real>(_: S.Type) throws -> [[Int]] {
      let model = try Model<S>(spec: spec, weights: weights, options: options)
      let generation = FiniteGeneration(model, weights)
      return try prompts.tokens(for: spec).map {
        $0 + (try generation.continuation(of: $0, count: count, sampling: sampling))
      }
    }
    let tokens = precision == .float64 ? try run(Double.self) : try run(Float.self)
    return (tokens, loaded.problems.filter { $0.severity != .error })
  }

  /// Writes a trace of our own engine: the stages of a forward pass.
  ///
  /// - Throws: `Problems`, `Diagnostic` for what cannot be read, run or written; `trace.exists` where
  ///   something else than a trace stands.
  public func trace(
    _ input: CheckpointInput, to path: String, tokens: TokenInput, precision: Precision = .float64,
    selfExtend: SelfExtend? = nil
  ) throws -> [Diagnostic] {
    let loaded = try load(input)
    var sources = loaded.source.files.map(\.path) + loaded.location.configs
    sources += [loaded.location.weights.path, input.configPath].compactMap { $0 } + layoutFiles
    if case .file(let tokens) = tokens { sources.append(tokens) }
    let place = try TracePlace(path, sources: sources)
    var member = try loaded.hubModel()
    let ids = try tokens.tokens(for: member.spec)
    let count = FinitenessCount()
    member.observers.append(count)
    if let meter = Meter(total: member.byteCount, progress) { member.observers.append(meter) }
    let weights = member
    let options = ModelOptions(selfExtend: selfExtend)
    let stage =
      precision == .float64
      ? try write(
        Model<Double>(spec: member.spec, weights: weights, options: options), ids, place, .f64
      )
      : try write(
        Model<Float>(spec: member.spec, weights: weights, options: options), ids, place, .f32)
    return try loaded.problems.filter { $0.severity != .error }
      + notFinite(from: stage, member.spec, count.tensors(of: member), precision)
  }

  /// What is said of a trace with NaN or infinity, or of a model that holds some which no token reached.
  private func notFinite(
    from stage: (name: String, count: Int)?, _ spec: ModelSpec, _ tensors: [NotFiniteTensor],
    _ precision: Precision
  ) -> [Diagnostic] {
    var tensors = tensors
    let help = "no model computes with them; inspect --stats counts them"
    guard let stage else {
      guard let first = tensors.first else { return [] }
      return [
        Diagnostic(
          .warning, code: "trace.not-finite", subject: first.name,
          message: "holds NaN or infinity, which these tokens do not reach",
          notes: tensors.prefix(6).map(\.words), help: help)
      ]
    }
    let here = spec.sublayers(before: stage.name)
    let own = tensors.filter { $0.piece.sublayer.map { here.contains($0) } ?? here.isEmpty }
    tensors.removeAll { tensor in own.contains { $0.piece == tensor.piece } }
    let arise =
      own.isEmpty
      ? ["no tensor before it holds any: they arise as \(precision.rawValue) computes"] : []
    return [
      Diagnostic(
        .warning, code: "trace.not-finite", subject: stage.name,
        message: "\(stage.count) values are NaN or infinite, at this stage first",
        notes: arise + (own + tensors).prefix(6).map(\.words), help: help)
    ]
  }

  /// - Returns: the first stage with NaN or infinity, and how many of its values are.
  private func write<S: Real>(
    _ model: Model<S>, _ ids: [[Int]], _ target: TracePlace, _ dtype: DType
  ) throws -> (name: String, count: Int)? {
    guard let length = ids.first?.count, ids.allSatisfy({ $0.count == length }) else {
      throw Diagnostic(
        code: "tokens.shape", subject: "tokens", message: "sequences should be of one length")
    }
    var outputs: [OutputTensor] = []
    func add(_ name: String, _ dtype: DType, _ shape: Shape) {
      outputs.append(
        OutputTensor(
          name: TensorName(name), dtype: dtype, shape: shape,
          byteCount: shape.byteCount(of: dtype) ?? 0))
    }
    add("input_ids", .i64, [ids.count, length])
    for i in 0...model.spec.layerCount {
      add("hidden_states.\(i)", dtype, [ids.count, length, model.width])
    }
    add("final_norm", dtype, [ids.count, length, model.width])
    add("logits", dtype, [ids.count, length, model.vocabularyRows])
    let place = [String: Int](
      uniqueKeysWithValues: outputs.enumerated().map { ($1.name.string, $0) })
    let sink = try SafetensorsWriter(
      manifest: OutputManifest(tensors: outputs), directory: target.directory,
      fileName: target.partial)
    do {
      let flat = ids.flatMap { $0 }.map { Int64($0) }
      try flat.withUnsafeBytes { try sink.write(0, at: 0, $0) }
      var first: (name: String, count: Int)?
      try model.forward(tokens: ids) { stage, values in
        guard let number = place[stage.name] else { return }
        let bytes = UnsafeRawBufferPointer(values)
        let odd = dtype.countNotFinite(bytes)
        if odd > 0, first == nil { first = (stage.name, odd) }
        try sink.write(number, at: 0, bytes)
      }
      try sink.finish(sync: true)
      try target.commit()
      return first
    } catch {
      target.discard()
      throw error
    }
  }
}
