/// A function of single numbers by which one piece is made of another.
public enum PieceFunction: String, Sendable, Hashable {
  /// -e^x: A of `a_log`.
  case negExp = "neg_exp"

  /// The role of the image of `role`, as all kinds name it; `nil` for a role that has none.
  package static func image(of role: String, by function: PieceFunction) -> String? {
    switch function {
    case .negExp: role == "a_log" ? "a" : nil
    }
  }
}
