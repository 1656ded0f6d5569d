/// One thing worth telling the user: what, where, what was found, what to do.
public struct Diagnostic: Error, Sendable, Hashable {
  /// How bad it is.
  public enum Severity: String, Sendable, Hashable {
    /// The work cannot be done.
    case error
    /// The work is done; the user should know.
    case warning
    /// For information.
    case note
  }

  /// How bad it is.
  public var severity: Severity
  /// A stable code such as `safetensors.offsets`; scripts may match on it.
  public var code: String
  /// The file, tensor, config key, byte offset or `line:column` that it is about.
  public var subject: String
  /// What was found and what was expected.
  public var message: String
  /// Further facts.
  public var notes: [String]
  /// The suggested action.
  public var help: String?

  /// A diagnostic; an error unless said otherwise.
  public init(
    _ severity: Severity = .error, code: String, subject: String, message: String,
    notes: [String] = [], help: String? = nil
  ) {
    self.severity = severity
    self.code = code
    self.subject = subject
    self.message = message
    self.notes = notes
    self.help = help
  }
}

extension Diagnostic: CustomStringConvertible {
  /// `error[code]: subject: message`, then a line for each note and the help.
  public var description: String {
    // Names from files must not be able to imitate another diagnostic.
    func shown(_ text: String) -> String {
      text.split(separator: "\n", omittingEmptySubsequences: false)
        .map { String($0).visible(lines: false) }.joined(separator: "\n    ")
    }
    var lines = [
      "\(severity.rawValue)[\(code)]: \(subject.visible(lines: false)): \(shown(message))"
    ]
    lines += notes.map { "  note: \(shown($0))" }
    if let help { lines.append("  help: \(shown(help))") }
    return lines.joined(separator: "\n")
  }
}

/// Everything that is wrong, at once.
public struct Problems: Error, Sendable, CustomStringConvertible {
  /// The diagnostics, in the order in which they were found.
  public var diagnostics: [Diagnostic]

  /// These diagnostics.
  public init(_ diagnostics: [Diagnostic]) { self.diagnostics = diagnostics }

  /// Each diagnostic's own text.
  public var description: String {
    diagnostics.map(\.description).joined(separator: "\n")
  }
}
