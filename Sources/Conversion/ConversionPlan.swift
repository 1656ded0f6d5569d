import Checkpoints
public import Hub
public import Layouts
public import OrderedCollections
public import Tensors

/// A conversion, decided to the last byte range, before anything is written.
public struct ConversionPlan: Sendable {
  /// Where the rows of an output tensor come from.
  public struct Part: Sendable {
    /// The piece.
    public var piece: PieceID
    /// The source of its values.
    public var value: PieceValue
    /// The first row of the piece.
    public var start: Int
    /// How many rows, which follow on the part before.
    public var count: Int
  }

  /// A tensor of the destination.
  public struct Tensor: Sendable {
    /// What the sink is told.
    public var output: OutputTensor
    /// Its rows; empty for one that shares storage, zeros for a buffer.
    public var parts: [Part]

    /// Rows as the parts count them: an (E,) piece that stands as (G, E/G) has E.
    public var rows: Int {
      parts.isEmpty ? output.shape.rows : parts.reduce(0) { $0 + $1.count }
    }

    /// Bytes of a row.
    public var rowBytes: Int { rows == 0 ? 0 : output.byteCount / rows }
  }

  /// The layout that the source has.
  public var from: Layout
  /// The layout that the destination gets.
  public var to: Layout
  /// The model that the destination will be read as.
  public var spec: ModelSpec
  /// The worst of the reasons.
  public var exactness: Exactness
  /// The changes that were made.
  public var reasons: [Reason]
  /// The destination's config.
  public var config: JSONObject
  /// The tensors, in the order of the file.
  public var tensors: [Tensor]
  /// Warnings for the user.
  public var warnings: [Diagnostic]

  /// What each piece of the destination is made of.
  public var pieces: [PieceID: PieceValue] {
    tensors.reduce(into: [:]) { pieces, tensor in
      for part in tensor.parts { pieces[part.piece] = part.value }
    }
  }

  /// Bytes of all tensors that are stored.
  public var byteCount: Int {
    tensors.reduce(0) { $0 + ($1.output.sharesStorageWith == nil ? $1.output.storedByteCount : 0) }
  }
}

/// The user's options besides the layout.
public struct ConversionOptions: Sendable {
  /// The float type of the weights; `nil` keeps each tensor's own.
  public var dtype: DType?
  /// Whether `A_log`, `D` and dt biases are cast down like the rest.
  public var castsAll: Bool
  /// The number of embedding rows wanted; `nil` keeps them.
  public var vocabularyRows: Int?
  /// The container, which decides how tied tensors are stored.
  public var container: Container
  /// The blocks that a GGUF file's matrices are rounded to; `nil` for plain numbers.
  public var blocks: OutputTensor.BlockType?

  /// These options.
  public init(
    dtype: DType? = nil, castsAll: Bool = false, vocabularyRows: Int? = nil,
    container: Container = .safetensors
  ) {
    self.dtype = dtype
    self.castsAll = castsAll
    self.vocabularyRows = vocabularyRows
    self.container = container
  }
}

/// Why a target layout cannot express a model.
public struct Refusal: Error, Sendable {
  /// The layout that came closest.
  public var layout: Layout
  /// Every reason.
  public var problems: [Diagnostic]
  /// Whether the target has the model's kinds of sub-layers at all; such a refusal tells more.
  public var isNear: Bool

  /// A refusal.
  public init(layout: Layout, problems: [Diagnostic], isNear: Bool = false) {
    self.layout = layout
    self.problems = problems
    self.isNear = isNear
  }

  /// Whether this one tells the user more than `other`.
  func isCloser(than other: Refusal?) -> Bool {
    guard let other else { return true }
    if isNear != other.isNear { return isNear }
    // A layout for another kind of model tells nothing of this one.
    if isOfOtherKind != other.isOfOtherKind { return other.isOfOtherKind }
    // One that has all of the model's mixers tells more of it.
    if lacksMixers != other.lacksMixers { return other.lacksMixers }
    return problems.count < other.problems.count
  }

  private var lacksMixers: Bool { problems.contains { $0.code == "convert.no-such-mixer" } }

  private var isOfOtherKind: Bool {
    problems.contains { $0.code == "convert.no-such-mixer" && $0.subject == layout.name }
  }
}
