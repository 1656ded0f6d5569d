import Tensors

/// Texts of messages about HDF5 files.
enum HDF5Text {
  /// Bytes of a file as a text: UTF-8 that can be compared in little time, else `nil`.
  static func text(_ bytes: some Sequence<UInt8>) -> String? {
    guard let text = String(validating: bytes, as: UTF8.self), text.isStreamSafe else { return nil }
    return text
  }

  /// A C string as a text.
  static func text(_ string: UnsafePointer<CChar>) -> String? {
    String(validatingCString: string).flatMap { $0.isStreamSafe ? $0 : nil }
  }

  /// `text` as a message shows it.
  static func quoted(_ text: String) -> String { shown(text) }
}

extension Diagnostic {
  /// An error about an object of an HDF5 file: `file: "/path"`.
  static func hdf5(
    _ code: String, _ file: String, path: String? = nil, _ message: String, notes: [String] = [],
    help: String? = nil
  ) -> Diagnostic {
    let subject = path.map { "\(file): \(shown($0))" } ?? file
    return Diagnostic(
      code: "hdf5.\(code)", subject: subject, message: message, notes: notes, help: help)
  }
}

extension HDF5Failure {
  /// The diagnostic `hdf5.<code>`, with libhdf5's innermost reason, the rest as notes.
  func diagnostic(_ file: String, path: String? = nil, code: String = "corrupt") -> Diagnostic {
    let reason = stack.last ?? "no reason given"
    if code == "corrupt", reason.contains("bad version number for layout message") {
      return .hdf5(
        "version", file, path: path,
        "is written in a newer HDF5 form than the libhdf5 here (\(HDF5Library.version)) reads",
        notes: ["libhdf5: \(reason)"],
        help: "write it with `h5py.File(path, \"w\", libver=\"earliest\")`, or take a newer libhdf5"
      )
    }
    return .hdf5(
      code, file, path: path, "libhdf5 could not \(attempt): \(reason)",
      notes: stack.dropLast().suffix(6).map { "libhdf5: \($0)" },
      help: code == "corrupt" ? "the file is damaged or not complete; fetch or write it again" : nil
    )
  }
}
