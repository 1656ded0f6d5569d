import Tensors

extension Diagnostic {
  /// An error whose code is `dcp.` and `code`.
  static func dcp(
    _ code: String, _ subject: String, _ message: String, notes: [String] = [],
    help: String? = nil
  ) -> Diagnostic {
    Diagnostic(code: "dcp." + code, subject: subject, message: message, notes: notes, help: help)
  }

  /// The same about a part of a sharded checkpoint: what PyTorch's pickles and zip files are refused
  /// for keeps its words, and is told of `subject`.
  func inDCP(_ subject: String) -> Diagnostic {
    guard code.hasPrefix("pytorch.") else { return self }
    var copy = self
    copy.code = "dcp." + code.dropFirst("pytorch.".count)
    copy.subject = subject
    return copy
  }

  /// What to do about an index or a part that does not fit the rest.
  static let fetchDirectoryAgain =
    "the directory is incomplete, or mixes two saves; fetch all of it again, `.metadata` too"
}

extension Problems {
  /// As `Diagnostic.inDCP`, for each.
  func inDCP(_ subject: String) -> Problems {
    Problems(diagnostics.map { $0.inDCP(subject) })
  }
}
