public import Hub
public import OrderedCollections
public import Tensors

extension ConversionPlan {
  /// The plan as one JSON document, the same for the same plan in every run: what a digest of the
  /// plan is taken of.
  public var document: JSONObject {
    [
      "from": .string(from.name),
      "to": .string(to.name),
      "exactness": .string(exactness.rawValue),
      "reasons": .array(reasons.map(\.document)),
      "config": .object(config),
      "tensors": .array(
        tensors.map { tensor in
          let output = tensor.output
          var object: JSONObject = [
            "name": .string(output.name.string), "dtype": .string(output.typeName),
            "shape": .array(output.shape.dims.map { .int($0) }),
          ]
          if let owner = output.sharesStorageWith {
            object["shares"] = .int(owner)
          } else {
            object["parts"] = .array(
              tensor.parts.map {
                [
                  "piece": .string($0.piece.description), "start": .int($0.start),
                  "count": .int($0.count), "value": $0.value.document,
                ]
              })
          }
          return .object(object)
        }),
    ]
  }
}

extension Reason {
  /// The reason as JSON.
  public var document: JSONValue {
    ["exactness": .string(exactness.rawValue), "text": .string(text)]
  }
}

extension PieceValue {
  /// The value as a JSON list: a word and what belongs to it.
  fileprivate var document: JSONValue {
    func list(_ shape: Shape) -> JSONValue { .array(shape.dims.map { .int($0) }) }
    return switch self {
    case .stored(let place):
      [
        "stored", .string(place.dtype.rawValue), list(place.shape),
        .array(
          place.runs.map {
            [.int(place.tensor), .int($0.tensorRow), .int($0.pieceRow), .int($0.count)]
          }),
      ]
    case .constant(let value, let shape): ["constant", .double(value), list(shape)]
    case .table(let values, let shape): ["table", .array(values.map { .double($0) }), list(shape)]
    case .paddedRows(let base, let rows): ["paddedRows", base.document, .int(rows)]
    case .paddedColumns(let base, let columns): ["paddedColumns", base.document, .int(columns)]
    case .firstRows(let base, let rows): ["firstRows", base.document, .int(rows)]
    case .repeatedRows(let base, let block, let times):
      ["repeatedRows", base.document, .int(block), .int(times)]
    case .scaled(let base, let factor): ["scaled", base.document, .double(factor)]
    case .scaledColumns(let base, let vector): ["scaledColumns", base.document, vector.document]
    case .centeredRows(let base, let group): ["centeredRows", base.document, .int(group)]
    case .mapped(let base, let function): ["mapped", base.document, .string(function.rawValue)]
    }
  }
}
