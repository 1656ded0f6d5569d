import OrderedCollections
import Tensors

/// Turns what stands around a state dict into JSON: plain values as they are, objects as their
/// state, tensors and unknown things as `null`.
///
/// A pickle of few bytes may share or contain itself so that its JSON would be endless: depth, values
/// and text are bounded, and what lies beyond is `null`.
struct Attachments {
  private let graph: PickleGraph
  private let decoder: TensorDecoder
  /// The state dict, left out wherever it stands.
  private let omitted: PickleRef
  private var valuesLeft = 1_000_000
  private var textLeft = 1 << 26
  /// Whether something was left out for its size.
  private(set) var isCut = false

  private static let depthLimit = 64

  init(graph: PickleGraph, decoder: TensorDecoder, omitting: PickleRef) {
    self.graph = graph
    self.decoder = decoder
    omitted = omitting
  }

  /// Everything around the state dict; `.null` when there is nothing.
  mutating func json() -> JSONValue {
    guard graph.root != omitted else { return .null }
    let value = convert(graph.root, 0)
    if case .object(let object) = value, object.isEmpty { return .null }
    return value
  }

  private mutating func spend(_ text: String) -> Bool {
    textLeft -= text.utf8.count
    if textLeft < 0 { isCut = true }
    return textLeft >= 0
  }

  private mutating func convert(_ ref: PickleRef, _ depth: Int) -> JSONValue {
    valuesLeft -= 1
    guard depth <= Self.depthLimit, valuesLeft > 0 else {
      isCut = true
      return .null
    }
    switch graph[ref] {
    case .none, .hugeInt, .bytes, .persistent: return .null
    case .bool(let value): return .bool(value)
    case .int(let value): return .int(value)
    case .float(let value): return .double(value)
    case .string(let text): return spend(text) ? .string(text) : .null
    case .list(let index): return list(graph.lists[Int(index)], depth)
    case .tuple: return list(Array(graph.tuple(ref) ?? []), depth)
    case .dict(let index): return object(graph.dicts[Int(index)], depth)
    case .global(let index):
      let global = graph.globals[Int(index)]
      return TorchDType.dtype(global) == nil ? .null : .string(global.qualified)
    case .object(let index): return object(graph.objects[Int(index)], ref, depth)
    }
  }

  private mutating func list(_ items: [PickleRef], _ depth: Int) -> JSONValue {
    var result: [JSONValue] = []
    for item in items {
      guard valuesLeft > 0 else { break }
      result.append(convert(item, depth + 1))
    }
    return .array(result)
  }

  private mutating func object(_ items: [PickleRef], _ depth: Int) -> JSONValue {
    var result = JSONObject()
    add(items, to: &result, depth)
    return .object(result)
  }

  private mutating func add(_ items: [PickleRef], to result: inout JSONObject, _ depth: Int) {
    for at in stride(from: 0, to: items.count, by: 2) where items[at + 1] != omitted {
      valuesLeft -= 1
      guard valuesLeft > 0, let key = key(items[at]), spend(key) else { continue }
      let value = convert(items[at + 1], depth + 1)
      // A wrapper that held nothing but the state dict is no attachment.
      if case .object(let inner) = value, inner.isEmpty, wraps(items[at + 1]) { continue }
      result[key] = value
    }
  }

  private func wraps(_ ref: PickleRef) -> Bool { graph.items(ref)?.contains(omitted) ?? false }

  /// Python's `json` writes such keys this way.
  private func key(_ ref: PickleRef) -> String? {
    switch graph[ref] {
    case .string(let text): text
    case .int(let value): String(value)
    case .bool(let value): value ? "true" : "false"
    case .none: "null"
    case .float(let value): String(value)
    default: nil
    }
  }

  private mutating func object(
    _ object: PickleObject, _ ref: PickleRef, _ depth: Int
  ) -> JSONValue {
    guard decoder.kind(ref) == .opaque, let callee = graph.global(object.callee) else {
      return .null
    }
    let arguments = Array(graph.tuple(object.arguments)?.prefix(256) ?? [])
    switch callee.qualified {
    case "torch.Size", "builtins.set", "builtins.frozenset", "builtins.tuple", "builtins.list",
      "__builtin__.set", "__builtin__.frozenset":
      guard let first = arguments.first else { return .array([]) }
      return convert(first, depth + 1)
    case "torch.device": return path(arguments, separator: ":")
    case "numpy.core.multiarray.scalar", "numpy._core.multiarray.scalar":
      return NumpyScalar.value(arguments, graph) ?? .null
    default: break
    }
    if callee.module == "pathlib" || callee.module == "pathlib._local" {
      return path(arguments, separator: "/")
    }
    if !object.elements.isEmpty { return list(object.elements, depth) }
    var result = JSONObject()
    var states = object.state.map { [$0] } ?? []
    // (dict, slots) is how classes with __slots__ say it.
    if let state = object.state, let pair = graph.tuple(state), pair.count == 2 {
      states = Array(pair)
    }
    let dicts = states.compactMap { graph.items($0) }
    for items in dicts { add(items, to: &result, depth) }
    add(object.items, to: &result, depth)
    return result.isEmpty && dicts.isEmpty ? .null : .object(result)
  }

  /// Texts and numbers joined: `a/b`, `cuda:0`.
  private mutating func path(_ parts: [PickleRef], separator: String) -> JSONValue {
    let texts = parts.compactMap { part in
      graph.string(part) ?? graph.int(part).map(String.init)
    }
    var text = texts.joined(separator: separator)
    // Path("/a") is pickled as ("/", "a").
    if separator == "/", text.hasPrefix("//") { text.removeFirst() }
    return spend(text) ? .string(text) : .null
  }
}
