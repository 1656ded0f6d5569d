import Tensors

extension Diagnostic {
  /// An error whose code is `pytorch.` and `code`.
  static func pytorch(
    _ code: String, _ subject: String, _ message: String, notes: [String] = [],
    help: String? = nil
  ) -> Diagnostic {
    Diagnostic(
      code: "pytorch." + code, subject: subject, message: message, notes: notes, help: help)
  }

  /// What to do about a file that Python should write anew.
  static let saveAgain =
    "load it in Python where it was made and save its `state_dict()` again with `torch.save`"

  /// What to do about a file whose bytes are damaged.
  static let fetchAgain = "the file is damaged or incomplete; fetch it again"
}

/// Diagnostics being collected; a hostile file does not get to fill the memory with them.
struct ProblemList {
  private(set) var diagnostics: [Diagnostic] = []
  private var dropped = 0
  private let limit = 100

  var isEmpty: Bool { diagnostics.isEmpty }

  mutating func add(_ diagnostic: Diagnostic) {
    if diagnostics.count < limit { diagnostics.append(diagnostic) } else { dropped += 1 }
  }

  /// Throws when anything was collected.
  func check() throws(Problems) {
    guard !diagnostics.isEmpty else { return }
    var all = diagnostics
    if dropped > 0 {
      all[all.count - 1].notes.append("\(dropped) more problems are not listed")
    }
    throw Problems(all)
  }
}
