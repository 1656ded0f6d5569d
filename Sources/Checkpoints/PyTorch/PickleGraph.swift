import Tensors

/// Everything a pickle built, in flat tables: its parts refer to each other by place, so that
/// sharing and cycles cost nothing and freeing never recurses.
package struct PickleGraph: Sendable {
  /// All values.
  package var values: [PickleValue] = []
  /// The items of all tuples, end to end.
  package var tupleItems: [PickleRef] = []
  /// Lists and sets.
  package var lists: [[PickleRef]] = []
  /// Dicts: keys and values in turn, in the order of insertion, later ones winning.
  package var dicts: [[PickleRef]] = []
  /// Names of classes and functions.
  package var globals: [PickleGlobal] = []
  /// Objects of other kinds.
  package var objects: [PickleObject] = []
  /// What the whole pickle is.
  package var root = PickleRef(index: 0)

  /// The value at `ref`.
  package subscript(ref: PickleRef) -> PickleValue { values[Int(ref.index)] }

  /// The items of a tuple, or `nil`.
  package func tuple(_ ref: PickleRef) -> ArraySlice<PickleRef>? {
    guard case .tuple(let start, let count) = self[ref] else { return nil }
    return tupleItems[Int(start)..<Int(start) + Int(count)]
  }

  /// A text, or `nil`.
  package func string(_ ref: PickleRef) -> String? {
    if case .string(let text) = self[ref] { return text }
    return nil
  }

  /// A whole number, or `nil`.
  package func int(_ ref: PickleRef) -> Int? {
    if case .int(let value) = self[ref] { return value }
    return nil
  }

  /// The name of a class or function, or `nil`.
  package func global(_ ref: PickleRef) -> PickleGlobal? {
    if case .global(let index) = self[ref] { return globals[Int(index)] }
    return nil
  }

  /// An object, or `nil`.
  package func object(_ ref: PickleRef) -> PickleObject? {
    if case .object(let index) = self[ref] { return objects[Int(index)] }
    return nil
  }

  /// Keys and values in turn of a dict, or of an object that is a dict's subclass; `nil` otherwise.
  package func items(_ ref: PickleRef) -> [PickleRef]? {
    switch self[ref] {
    case .dict(let index): return dicts[Int(index)]
    case .object(let index):
      let items = objects[Int(index)].items
      return items.isEmpty ? nil : items
    default: return nil
    }
  }

  /// The kind of a value as messages say it: `a list`, `a datetime.date`.
  package func kind(_ ref: PickleRef) -> String {
    switch self[ref] {
    case .none: "None"
    case .bool: "a bool"
    case .int, .hugeInt: "an int"
    case .float: "a float"
    case .string: "a text"
    case .bytes: "bytes"
    case .tuple: "a tuple"
    case .list: "a list"
    case .dict: "a dict"
    case .global(let index): "the name \(shown(globals[Int(index)].qualified))"
    case .object(let index):
      if let callee = global(objects[Int(index)].callee) {
        "an object made by \(shown(callee.qualified))"
      } else {
        "an object of an unknown kind"
      }
    case .persistent: "a storage"
    }
  }
}
