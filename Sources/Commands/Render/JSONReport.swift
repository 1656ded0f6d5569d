import Conversion
import Hub
import Inference
import OrderedCollections
import Tensors
import WeighbridgeKit

/// The JSON documents.
enum JSONReport {
  /// The text of a document; JSON has no infinities, which become null.
  static func document(_ object: JSONObject) -> String {
    JSONValue.object(object).text(indent: 2, nonFinite: .null)
  }

  /// Every problem with its five members.
  static func problems(_ problems: [Diagnostic]) -> JSONValue {
    .array(
      problems.map {
        [
          "code": .string($0.code), "severity": .string($0.severity.rawValue),
          "subject": .string($0.subject),
          "message": .string(([$0.message] + $0.notes).joined(separator: "; ")),
          "help": $0.help.map { .string($0) } ?? .null,
        ]
      })
  }

  /// What a command computed with.
  static func engine(_ engine: EngineDescription) -> JSONValue {
    [
      "openblas": .string(engine.openBLAS), "vectors": .string(engine.vectors),
      "threads": .int(engine.threads),
    ]
  }

  static func number(_ value: Double?) -> JSONValue {
    value.map { .double($0) } ?? .null
  }

  static func shape(_ shape: Shape) -> JSONValue { .array(shape.dims.map { .int($0) }) }
}
