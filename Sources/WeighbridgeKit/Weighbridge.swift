public import Checkpoints
import Conversion
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
  /// Threads that read, compute and write; by default one for each core that the process may use.
  public var threads = Cores.current.usable
  /// The layout files that were given.
  let layoutFiles: [String]

  /// The tool with the layouts that the binary carries, and those of further files.
  ///
  /// - Parameter layoutFiles: paths of layout files.
  /// - Throws: `layout.*`, `io.*`; everything that is wrong with a layout file.
  public init(layoutFiles: [String] = []) throws(Problems) {
    do throws(Diagnostic) { library = try LayoutLibrary.bundled() } catch {
      throw Problems([error])
    }
    vocabulary = .standard
    self.layoutFiles = layoutFiles
    for path in layoutFiles {
      let text: String
      do throws(Diagnostic) { text = try Self.text(ofLayout: path) } catch {
        throw Problems([error])
      }
      try library.add(yaml: text, file: path, words: words)
    }
  }

  /// The words that layouts may use.
  public var words: LayoutWords {
    LayoutWords(vocabulary: vocabulary, rewrites: RewriteNames.all)
  }

  /// Checks a layout file, and does not add it.
  ///
  /// - Throws: `io.*` where it cannot be read; what is wrong with it is in the result.
  public func checkLayout(_ path: String) throws(Diagnostic) -> LayoutLibrary.Checked {
    library.check(yaml: try Self.text(ofLayout: path), file: path, words: words)
  }

  private static func text(ofLayout path: String) throws(Diagnostic) -> String {
    let file = try RandomAccessFile(path: path)
    guard file.byteCount <= 1 << 19 else {
      throw Diagnostic(
        code: "layout.too-large", subject: path, message: "has \(file.byteCount) bytes",
        help: "a layout is a short YAML file")
    }
    return String(decoding: try file.bytes(at: 0, count: file.byteCount), as: UTF8.self)
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
  /// What becomes of a floor of Mamba-2's step sizes that only transformers' class applies.
  public var stepFloor: StepFloor

  /// A checkpoint.
  public init(
    path: String, configPath: String? = nil, preset: String? = nil, framework: String? = nil,
    compat: Bool = false, key: String? = nil, inertKeys: [String] = [],
    stepFloor: StepFloor = .config
  ) {
    self.path = path
    self.configPath = configPath
    self.preset = preset
    self.framework = framework
    self.compat = compat
    self.key = key
    self.inertKeys = inertKeys
    self.stepFloor = stepFloor
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
  /// The matched layout; `nil` when none fits.
  public var bound: MatchedLayout?
  /// The layouts that come closest, when none fits.
  public var closest: [LayoutLibrary.Candidate]
  /// Everything noticed.
  public var problems: [Diagnostic]
  /// The config keys that were said to change nothing.
  public var inertKeys: [String] = []
  /// What becomes of a floor of the step sizes.
  public var stepFloor = StepFloor.config

  /// The bound model, which must be sound.
  ///
  /// - Throws: every problem when no layout fits or something is missing.
  public func model() throws(Problems) -> MatchedLayout {
    guard let bound, !problems.contains(where: { $0.severity == .error }) else {
      throw Problems(problems.filter { $0.severity == .error })
    }
    return asAsked(bound)
  }

  /// The model without a floor of the step sizes, where none was asked for.
  func asAsked(_ bound: MatchedLayout) -> MatchedLayout {
    guard stepFloor == .none, let spec = bound.spec.withoutStepFloor else { return bound }
    var free = bound
    free.spec = spec
    return free
  }
}
