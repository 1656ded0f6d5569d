import Tensors

extension Diagnostic {
  /// An error of a GGUF file, with the code `gguf.<code>`.
  static func gguf(
    _ code: String, _ subject: String, _ message: String, help: String? = nil
  ) -> Diagnostic {
    Diagnostic(code: "gguf." + code, subject: subject, message: message, help: help)
  }

  /// What to do about a file that contradicts itself or ends early.
  static let fetchGGUF = "the file is incomplete or damaged; fetch or convert it again"
}
