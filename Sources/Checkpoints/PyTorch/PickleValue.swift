/// A value in a `PickleGraph`, by its place there.
package struct PickleRef: Sendable, Hashable {
  package var index: UInt32
}

/// What a pickle can build here: a closed set, of which nothing can run.
///
/// Containers hold places in their graph's tables, not values: a million nested tuples are a million
/// small rows that no recursion ever walks, and a list may hold itself.
package enum PickleValue: Sendable {
  /// Python's `None`.
  case none
  /// `True` or `False`.
  case bool(Bool)
  /// A whole number that fits an `Int`.
  case int(Int)
  /// A whole number beyond that; its digits are not kept.
  case hugeInt
  /// A number.
  case float(Double)
  /// A text.
  case string(String)
  /// Bytes.
  case bytes([UInt8])
  /// A tuple: `count` refs in `PickleGraph.tupleItems` from `start` on.
  case tuple(start: UInt32, count: UInt32)
  /// A list or set: row `PickleGraph.lists[…]`.
  case list(UInt32)
  /// A dict or OrderedDict: row `PickleGraph.dicts[…]`.
  case dict(UInt32)
  /// The name of a class or function: `PickleGraph.globals[…]`.
  case global(UInt32)
  /// What a call or a class would make: `PickleGraph.objects[…]`.
  case object(UInt32)
  /// A persistent id, such as a storage's.
  case persistent(PickleRef)
}

/// The name of a class or function; a symbol and nothing else.
package struct PickleGlobal: Sendable, Hashable {
  /// The module, dotted.
  package var module: String
  /// The name in it, dotted when nested.
  package var name: String

  package init(module: String, name: String) {
    self.module = module
    self.name = name
  }

  /// `module.name`.
  package var qualified: String { module + "." + name }
}

/// What Python would get by calling `callee` with `arguments`; here nothing is called.
package struct PickleObject: Sendable {
  /// The class or function.
  package var callee: PickleRef
  /// The tuple of arguments.
  package var arguments: PickleRef
  /// Whether a class makes a bare instance of itself (`cls.__new__`) rather than a function being
  /// called.
  package var isInstance = false
  /// What BUILD would hand to it.
  package var state: PickleRef?
  /// Keys and values in turn that would be set on it (a dict's subclass).
  package var items: [PickleRef] = []
  /// What would be appended to it (a list's subclass).
  package var elements: [PickleRef] = []
}
