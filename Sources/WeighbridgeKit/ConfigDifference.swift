import Conversion
import Hub
import Layouts
import Tensors

/// The keys of two configs behind the attributes in which their models differ, so that a divergence
/// is traced to what somebody wrote.
enum ConfigDifference {
  /// A note for each key, or pair of keys, of which the values differ.
  ///
  /// - Parameter attributes: the kinds of sub-layers (or `model`) and the attributes that differ.
  static func notes(
    _ a: MatchedLayout, _ b: MatchedLayout, _ attributes: [(kind: String, name: String)],
    _ vocabulary: Vocabulary
  ) -> [Diagnostic] {
    let (ofA, ofB) = (ConfigProvenance(a, vocabulary), ConfigProvenance(b, vocabulary))
    var notes: [Diagnostic] = []
    var seen: Set<String> = []
    for (kind, name) in attributes where seen.insert("\(kind) \(name)").inserted {
      let (own, other) = (
        ofA.keys(kind: kind, attribute: name), ofB.keys(kind: kind, attribute: name)
      )
      if a.layout.name == b.layout.name {
        for (key, value) in own {
          guard let second = other[key], second != value,
            value.double == nil || value.double != second.double,
            seen.insert("key \(key)").inserted
          else { continue }
          notes.append(
            Diagnostic(
              .note, code: "config.differs", subject: key,
              message: "is \(value.text()) in A and \(second.text()) in B",
              notes: ["\(name) of \(kind) follows from it"]))
        }
      } else if !own.isEmpty || !other.isEmpty {
        func words(_ keys: JSONObject) -> String {
          keys.map { "\($0) \($1.text())" }.joined(separator: ", ")
        }
        notes.append(
          Diagnostic(
            .note, code: "config.differs", subject: "\(kind).\(name)",
            message: "follows in A from \(own.isEmpty ? "no key" : words(own)), in B from "
              + (other.isEmpty ? "no key" : words(other))))
      }
    }
    return notes
  }
}
