public import Hub
public import Tensors

/// A model that runs, in one precision: embedding, residual sub-layers, final norm, head.
///
/// One code serves every layout, since it runs on the hub's pieces. Weights are fetched when a
/// sub-layer runs and widened block by block inside its products; unless they are to be kept, they
/// go when it has run. One pass at a time: a model is not safe for use from several threads at once.
///
///     let model = try Model<Double>(spec: spec, weights: weights)
///     let logits = try model.logits(tokens: [[1, 2, 3]])
public final class Model<Scalar: Real> {
  /// What is computed.
  public let spec: ModelSpec
  /// How it is run.
  public let options: ModelOptions
  /// The width of the residual stream.
  public let width: Int
  /// Rows of the embedding and the head, padding included.
  public let vocabularyRows: Int
  /// Whether some sub-layer reads the stream before the first.
  let readsOrigin: Bool
  /// The threads that take part.
  public var threads: Int { workers.count }

  let weights: any WeightSource
  let workspace = Workspace()
  let workers: Workers
  let rotary: RotaryCache<Scalar>
  var keepsWeights: Bool
  private var blocks: [Int: Block<Scalar>] = [:]
  private var ends: ModelEnds<Scalar>?

  /// A model of these weights, read when they are needed.
  ///
  /// - Throws: `engine.no_openblas`; every attribute that changes the mathematics and that the engine does not know
  ///   (`model.attribute`, `model.kind`, `model.self_extend`), and every piece that is missing or
  ///   does not fit (`model.piece`, `model.shape`, `model.dtype`).
  public init(
    spec: ModelSpec, weights: any WeightSource, options: ModelOptions = ModelOptions()
  ) throws(Problems) {
    do throws(Diagnostic) { try BLAS.load() } catch { throw Problems([error]) }
    self.spec = spec
    self.weights = weights
    self.options = options
    workers = Workers(options.threads)
    rotary = RotaryCache(isRough: options.isRough)
    keepsWeights = options.keepsWeights
    readsOrigin = spec.sublayers.contains { $0.kind == MixerKind.sharedBlock.name }
    width = spec["d_model"].int ?? 0
    vocabularyRows = spec["vocab_rows"].int ?? 0
    // A dry run over everything: shapes and attributes, no bytes.
    let own = loader(nil, isDry: true)
    own.refuseUnknownAttributes()
    _ = ModelEnds(own)
    var problems = own.problems
    for index in spec.sublayers.indices {
      let loader = loader(index, isDry: true)
      loader.refuseUnknownAttributes()
      if loader.kind != nil { _ = Block(loader) }
      problems += loader.problems
    }
    if !problems.isEmpty { throw Problems(problems) }
  }

  func loader(_ index: Int?, isDry: Bool) -> PieceLoader<Scalar> {
    PieceLoader(
      weights, spec: spec, sublayer: index, selfExtend: options.selfExtend, workspace: workspace,
      keepsWeights: keepsWeights, isDry: isDry)
  }

  /// What a pass has no more use for may leave memory, unless it is kept: the weights of sub-layer
  /// `index`, or of what stands around them all.
  func evict(of index: Int?) {
    if keepsWeights { return }
    let sublayer = index.map { spec.sublayers[$0] }
    let declared =
      sublayer.map { Vocabulary.standard.kinds[$0.kind] } ?? Vocabulary.standard.model
    for role in declared?.roles(sublayer?.attributes ?? [:]) ?? [] {
      weights.evict(PieceID(index, role))
    }
  }

  private func checkWeights() throws(Problems) {
    do throws(Diagnostic) { try weights.checkResident() } catch { throw Problems([error]) }
  }

  /// Sub-layer `index` with its weights.
  func block(_ index: Int) throws(Problems) -> Block<Scalar> {
    if let block = blocks[index] { return block }
    try checkWeights()
    let loader = loader(index, isDry: false)
    let block = Block(loader)
    if !loader.problems.isEmpty { throw Problems(loader.problems) }
    if keepsWeights { blocks[index] = block }
    return block
  }

  /// Embedding norm, final norm and head's bias: small, so always kept.
  func modelEnds() throws(Problems) -> ModelEnds<Scalar> {
    if let ends { return ends }
    let loader = loader(nil, isDry: false)
    let ends = ModelEnds(loader)
    if !loader.problems.isEmpty { throw Problems(loader.problems) }
    self.ends = ends
    return ends
  }

  /// The matrix [vocab_rows, d_model] of the head.
  func headWeight() throws(Problems) -> Weight {
    if let head { return head }
    try checkWeights()
    let loader = loader(nil, isDry: false)
    let role = spec["tied"] == true ? "embed.weight" : "head.weight"
    let weight = loader.matrix(role, vocabularyRows, width)
    if !loader.problems.isEmpty { throw Problems(loader.problems) }
    if keepsWeights { head = weight }
    return weight
  }
  private var head: Weight?

  /// Lets kept weights and scratch memory go.
  public func releaseMemory() {
    blocks = [:]
    head = nil
    workspace.drop()
  }
}

/// A residual sub-layer: a norm and a mixer, and how what it gives joins the residual stream.
struct Block<T: Real> {
  let norm: Norm<T>?
  /// Whether it reads what the sub-layer before it read.
  let isParallel: Bool
  /// The factor on what it reads.
  let inputScale: Double
  let scale: Double
  let skips: Bool
  let mixer: any Mixer<T>
  /// What mixers that read weights as they need them read them with.
  let loader: PieceLoader<T>

  init(_ loader: PieceLoader<T>) {
    self.loader = loader
    norm = Norm(loader, "norm", eps: "norm_eps")
    isParallel = loader.attribute("norm") == "parallel"
    inputScale = loader.optionalNumber("input_scale") ?? 1
    scale = loader.optionalNumber("residual_scale") ?? 1
    skips = loader.attribute("skip") == .null || loader.flag("skip")
    guard let mixer = MixerDefinition.make(loader) else {
      loader.refuse("model.kind", "the engine does not run this kind of sub-layer")
      self.mixer = NothingMixer(loader)
      return
    }
    self.mixer = mixer
  }
}

// Stands in for a mixer that could not be made; never runs.
private struct NothingMixer<T: Real>: Mixer {
  init(_ loader: PieceLoader<T>) {}
  func makeState(batch: Int, workspace: Workspace) -> MixerState<T> { MixerState() }
  func callAsFunction(
    _ input: MixerInput<T>, _ run: Run<T>, _ state: MixerState<T>?
  ) -> Buffer<T> { run.workspace.zeros(run.rows) }
}

/// What stands before the first and behind the last sub-layer.
struct ModelEnds<T: Real> {
  let embedScale: Double
  let embedNorm: Norm<T>?
  let finalNorm: Norm<T>?
  let logitScale: Double
  let headBias: [T]?

  init(_ loader: PieceLoader<T>) {
    let (d, rows) = (loader.size("d_model"), loader.size("vocab_rows"))
    embedScale = loader.number("embed_scale")
    let eps = loader.attribute("embed_norm_eps") == .null ? "final_norm_eps" : "embed_norm_eps"
    embedNorm = Norm(loader, "embed_norm", eps: eps)
    finalNorm = Norm(loader, "final_norm", eps: "final_norm_eps")
    logitScale = loader.optionalNumber("logit_scale") ?? 1
    headBias = loader.optionalValues("head.bias", [rows])
    if loader.isDry {
      _ = loader.matrix("embed.weight", rows, d)
      if !loader.flag("tied") { _ = loader.matrix("head.weight", rows, d) }
    }
    if loader.attribute("parallel_residual") == true {
      // lit_gpt builds such a block without its second norm and then fails in its forward.
      loader.refuse("model.attribute", "parallel_residual cannot be run")
    }
    let layers = loader.spec.sublayers.map(\.layer)
    if zip(layers, layers.dropFirst()).contains(where: { $0 > $1 })
      || layers.contains(where: { $0 < 0 || $0 >= loader.spec.layerCount })
    {
      loader.refuse("model.attribute", "the sub-layers are not in the order of the layers")
    }
  }
}
