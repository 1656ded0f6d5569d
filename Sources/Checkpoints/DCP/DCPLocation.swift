import Tensors

/// How a sharded checkpoint is found, and the config that belongs to it.
enum DCPLocation {
  /// What a path that names a part of a sharded checkpoint stands for: the directory, and a note.
  ///
  /// - Throws: `dcp.one-file` for one rank's file.
  static func directory(
    of path: String
  ) throws(Diagnostic) -> (directory: String, notes: [Diagnostic])? {
    let directory = FilePath.directory(of: path)
    let name = FilePath.name(of: path)
    if name == DCPFiles.indexName { return (directory, []) }
    if name.hasSuffix(".distcp") {
      throw .dcp(
        "one-file", path,
        "is one file of a sharded checkpoint, which says nothing without the index",
        help: "give the directory: \(directory)")
    }
    guard DCPSafetensorsReader.isPart(path) else { return nil }
    let note = Diagnostic(
      .note, code: "dcp.whole-directory", subject: path,
      message: "holds the rows of one rank; all ranks' files beside it are read")
    return (directory, [note])
  }

  /// A sharded checkpoint in a directory.
  struct Found {
    /// The directory of its files.
    var directory: String
    /// Whether more than the name of an index tells of it.
    var isCertain: Bool
    /// Whether its files are safetensors of every rank.
    var isSafetensors = false
    /// What to name to read it.
    var title: String
    /// What was decided.
    var notes: [Diagnostic] = []
  }

  /// The sharded checkpoint of a directory with these names, finished or not; accelerate's folder for
  /// the model stands for its parent.
  static func find(_ names: [String], in directory: String) -> Found? {
    // Other tools keep a folder of that name.
    let isFolder = FilePath.kind(directory + "/" + DCPFiles.indexName) == .directory
    let own = names.filter { !isFolder || $0 != DCPFiles.indexName }
    if DCPFiles.isSharded(own) {
      return Found(
        directory: directory, isCertain: own.contains { $0.hasSuffix(".distcp") },
        title: directory + "/" + DCPFiles.indexName)
    }
    let parts = names.filter { $0.hasSuffix(".safetensors") }
    if let part = parts.first(where: DCPSafetensorsReader.isPartName)
      ?? parts.first.flatMap({ DCPSafetensorsReader.isPart(directory + "/" + $0) ? $0 : nil })
    {
      return Found(
        directory: directory, isCertain: true, isSafetensors: true, title: directory + "/" + part)
    }
    let folders = names.filter {
      $0.hasPrefix("pytorch_model_fsdp_")
        && FilePath.kind(directory + "/" + $0 + "/" + DCPFiles.indexName) == .file
    }
    guard folders.count == 1 else { return nil }
    let folder = directory + "/" + folders[0]
    return Found(
      directory: folder, isCertain: true, title: folder,
      notes: [
        Diagnostic(
          .note, code: "checkpoint.chosen", subject: directory,
          message: "holds accelerate's folder \(folders[0]), which is read")
      ])
  }

  /// The config of a sharded checkpoint, which holds none: in its directory, in its parents up to two
  /// levels up, or in their `configs/`.
  static func configs(
    for directory: String, names order: [String]
  ) -> (configs: [String], notes: [Diagnostic]) {
    var place = directory
    for level in 0...2 {
      let names = (try? FilePath.names(in: place)) ?? []
      let found = order.filter(names.contains).map { place + "/" + $0 }
      if let first = found.first {
        return (found, level == 0 ? [] : [elsewhere(first, directory)])
      }
      let folder = place + "/configs"
      let texts = ((try? FilePath.names(in: folder)) ?? []).filter { $0.hasSuffix(".json") }
      if texts.count == 1 {
        let path = folder + "/" + texts[0]
        return ([path], [elsewhere(path, directory)])
      }
      if texts.count > 1 {
        let note = Diagnostic(
          .warning, code: "checkpoint.several-configs", subject: folder,
          message: "holds several configs: "
            + texts.prefix(8).map { shown($0) }.joined(separator: ", "),
          help: "name the one of this checkpoint with --config")
        return ([], [note])
      }
      guard let real = FilePath.real(place), real != "/" else { break }
      // `..` of a link leads elsewhere than its name says.
      place = parent(of: place, real: real)
    }
    return ([], [])
  }

  private static func parent(of path: String, real: String) -> String {
    let plain = FilePath.directory(of: path)
    let isPlain = !path.split(separator: "/").contains { $0 == "." || $0 == ".." }
    if isPlain, path.utf8.contains(UInt8(ascii: "/")),
      FilePath.real(plain) == FilePath.directory(of: real)
    {
      return plain
    }
    return FilePath.directory(of: real)
  }

  private static func elsewhere(_ path: String, _ directory: String) -> Diagnostic {
    Diagnostic(
      .note, code: "checkpoint.config-elsewhere", subject: directory,
      message: "holds no config; \(shown(path)) is taken",
      help: "give another with --config")
  }
}
