import Tensors

/// The files of a sharded checkpoint: which there are, and which the index means.
package struct DCPFiles {
  /// The files that were opened.
  private(set) var files: [RandomAccessFile] = []
  private var numbers: [TensorName: Int] = [:]
  private let directory: String

  /// The index's name.
  package static let indexName = ".metadata"

  /// Whether a directory with these names is a sharded checkpoint, finished or not.
  package static func isSharded(_ names: [String]) -> Bool {
    names.contains { $0 == indexName || $0 == indexName + ".tmp" || isPart($0) }
  }

  /// Whether a name is one that PyTorch gives to a rank's file: `__0_1.distcp`.
  static func isPart(_ name: String) -> Bool { rank(of: name) != nil }

  /// The rank in `__0_1.distcp`; `nil` for other names.
  static func rank(of name: String) -> Int? {
    guard name.hasPrefix("__"), name.hasSuffix(".distcp") else { return nil }
    let parts = name.dropFirst(2).dropLast(".distcp".count).split(
      separator: "_", omittingEmptySubsequences: false)
    guard parts.count == 2, parts.allSatisfy(isNumber) else { return nil }
    return Int(parts[0])
  }

  /// Whether a name is a rank's own index, `__0.metadata`.
  private static func isRankIndex(_ name: String) -> Bool {
    name.hasPrefix("__") && name.hasSuffix(".metadata")
      && isNumber(name.dropFirst(2).dropLast(".metadata".count))
  }

  private static func isNumber(_ text: Substring) -> Bool {
    !text.isEmpty && text.utf8.allSatisfy { (0x30...0x39).contains($0) }
  }

  /// Refuses a directory whose save did not finish.
  ///
  /// - Throws: `dcp.unfinished`, `dcp.rank-index`.
  static func checkFinished(_ names: [String], in directory: String) throws(Diagnostic) {
    if names.contains(indexName + ".tmp") {
      throw .dcp(
        "unfinished", directory, "holds .metadata.tmp: a save into it ended in its last step",
        help: "its files may be of two saves; take another step of the run, or save again")
    }
    guard !names.contains(indexName) else { return }
    if let own = names.first(where: isRankIndex) {
      throw .dcp(
        "rank-index", directory,
        "holds an index for each rank (\(own), …) but none of the whole; it was saved with"
          + " use_collectives=False",
        help: "load it with the same number of ranks and save it again with use_collectives=True")
    }
    throw .dcp(
      "unfinished", directory,
      "holds files of a sharded checkpoint but no .metadata, which is written last and says what"
        + " they are",
      help: "the save did not finish, or the copy left hidden files out; fetch .metadata, or take"
        + " another step of the run")
  }

  init(directory: String) { self.directory = directory }

  /// Opens the file of `place`, once, and makes sure that the place is in it.
  ///
  /// - Throws: `dcp.path`, `dcp.missing-file`, `dcp.symlink`, `dcp.range`, `io.*`.
  mutating func number(
    of place: DCPMetadata.Place, subject: String
  ) throws(Diagnostic) -> Int {
    let number: Int
    if let known = numbers[TensorName(place.file)] {
      number = known
    } else {
      let file = try open(place.file, subject)
      number = files.count
      files.append(file)
      numbers[TensorName(place.file)] = number
    }
    let size = files[number].byteCount
    guard place.offset + place.length <= size else {
      throw .dcp(
        "range", subject,
        "is said to lie at byte \(place.offset) of \(shown(place.file)) with \(place.length) bytes,"
          + " but the file has \(size)", help: Diagnostic.fetchDirectoryAgain)
    }
    return number
  }

  private func open(_ name: String, _ subject: String) throws(Diagnostic) -> RandomAccessFile {
    guard !name.isEmpty, name != ".", name != "..",
      !name.utf8.contains(where: { $0 == 0 || $0 == 0x2f || $0 == 0x5c })
    else {
      throw .dcp(
        "file-name", subject,
        "is said to lie in \(shown(name)), which is no plain name of a file beside the index",
        help: "PyTorch writes no such names; do not trust the checkpoint")
    }
    let path = directory + "/" + name
    guard FilePath.exists(path) else {
      throw .dcp(
        "missing-file", subject, "lies in \(shown(name)), which is not in the directory",
        help: "the checkpoint is incomplete; fetch the files of all ranks")
    }
    if let real = FilePath.outside(path, of: directory) {
      throw .dcp(
        "symlink", subject,
        "lies in \(shown(name)), which is a link to \(shown(real)), outside the directory",
        help: "copy the file into the directory if you trust it")
    }
    return try RandomAccessFile(path: path)
  }
}
