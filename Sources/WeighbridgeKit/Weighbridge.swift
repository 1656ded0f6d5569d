public import Checkpoints
public import Hub
import Inference
public import Layouts
public import OrderedCollections
public import Tensors

/// The tool as a library: loads, inspects, converts and compares checkpoints.
public struct Weighbridge: Sendable {
  /// The layouts at hand.
  public var library: LayoutLibrary
  /// The mixers' declarations.
  public let vocabulary: Vocabulary
  /// Is told now and then, from any thread, how far reading and computing are.
  public var progress: ProgressHandler?
  /// The layout files that were given.
  let layoutFiles: [String]

  /// The tool with the layouts that the binary carries, and those of further files.
  ///
  /// - Parameter layoutFiles: paths of layout files.
  /// - Throws: `layout.*`, `io.*`.
  public init(layoutFiles: [String] = []) throws(Diagnostic) {
    library = try LayoutLibrary.bundled()
    vocabulary = .standard
    self.layoutFiles = layoutFiles
    for path in layoutFiles {
      let file = try RandomAccessFile(path: path)
      let bytes = try file.bytes(at: 0, count: file.byteCount)
      try library.add(yaml: String(decoding: bytes, as: UTF8.self), file: path)
    }
  }
}

/// Where a checkpoint is and what else is known of it.
public struct CheckpointInput: Sendable {
  /// A file or a directory.
  public var path: String
  /// A config to be used instead of the one beside it.
  public var configPath: String?
  /// A named configuration of microsoft/Samba.
  public var preset: String?
  /// Only layouts of this framework.
  public var framework: String?
  /// Whether safetensors is read as its implementation does, not as its specification says.
  public var compat: Bool
  /// Which of several models in one file to read, such as `model_ema`; `nil` for the model itself.
  public var key: String?
  /// Keys of the config that change nothing in the forward pass, where the layout does not know them;
  /// a key of a mapping is `ssm_cfg.key`.
  public var inertKeys: [String]

  /// A checkpoint.
  public init(
    path: String, configPath: String? = nil, preset: String? = nil, framework: String? = nil,
    compat: Bool = false, key: String? = nil, inertKeys: [String] = []
  ) {
    self.path = path
    self.configPath = configPath
    self.preset = preset
    self.framework = framework
    self.compat = compat
    self.key = key
    self.inertKeys = inertKeys
  }
}

/// A checkpoint opened and matched against the layouts; its tensors are still on the disk.
public struct LoadedCheckpoint: Sendable {
  /// Where its parts are.
  public var location: CheckpointLocation
  /// Its tensors.
  public var source: any TensorSource
  /// Its config; `nil` when there is none.
  public var config: JSONObject?
  /// What it is; `nil` when no layout fits.
  public var bound: BoundModel?
  /// The layouts that come closest, when none fits.
  public var closest: [LayoutLibrary.Candidate]
  /// Everything noticed.
  public var problems: [Diagnostic]
  /// The config keys that were said to change nothing.
  public var inertKeys: [String] = []

  /// The bound model, which must be sound.
  ///
  /// - Throws: every problem when no layout fits or something is missing.
  public func model() throws(Problems) -> BoundModel {
    guard let bound, !problems.contains(where: { $0.severity == .error }) else {
      throw Problems(problems.filter { $0.severity == .error })
    }
    return bound
  }
}
