import Dispatch
import Hub
import Synchronization
public import Tensors

/// What a checkpoint holds, as layouts look at it: names without wrappers' prefixes, types, shapes,
/// and the values of small tensors on call.
public struct Inventory: Sendable {
  /// The tensors as the file has them.
  public let infos: [TensorInfo]
  /// Their names without the prefixes that training wrappers add.
  public let names: [String]
  /// The tensors whose names do not have the prefix that was taken off the others.
  public let outside: Set<Int>
  /// The base model's prefix, where the names lacked it.
  public let base: String?
  /// What the file itself says of its form: `pt`, `mlx`; `nil` where it says nothing.
  public let format: String?
  private let index: NameIndex
  private let classes: NameClasses
  private let stripped = Stripped()
  private let readValues: @Sendable (Int) -> [Double]?
  private let compareBytes: @Sendable (Int, Int) -> Bool

  /// Module names that FSDP, DeepSpeed, DDP, activation checkpointing and torch.compile put into
  /// parameter names, anywhere in them.
  public static let wrappers: Set<Substring> = [
    "_forward_module", "module", "_orig_mod", "_fsdp_wrapped_module", "_checkpoint_wrapped_module",
  ]

  /// An inventory.
  ///
  /// - Parameters:
  ///   - infos: the tensors.
  ///   - values: the values of tensor number `i`; `nil` when it is too large or no float.
  ///   - sameBytes: whether two tensors of equal type and shape hold the same bytes.
  ///   - format: safetensors' `format`.
  /// - Throws: `layout.name-clash` when two names differ only in wrappers' prefixes.
  public init(
    infos: [TensorInfo], values: @escaping @Sendable (Int) -> [Double]?,
    sameBytes: @escaping @Sendable (Int, Int) -> Bool, format: String? = nil
  ) throws(Diagnostic) {
    let names = infos.map { Inventory.unwrapped($0.name.string) }
    let index = NameIndex(names)
    // Both go through all names; who asks first waits.
    if names.count > 1000 { DispatchQueue.global().async { index.prepare() } }
    self.init(
      infos: infos, names: names, index: index, classes: NameClasses(names), format: format,
      values: values, sameBytes: sameBytes)
    guard index.count == infos.count else {
      var seen: Set<TensorName> = []
      for (name, info) in zip(names, infos) where !seen.insert(TensorName(name)).inserted {
        throw Diagnostic(
          code: "layout.name-clash", subject: info.name.string,
          message: "is called '\(name)' without its wrapper's prefix, as is another tensor",
          help: "keep one of the two in the file")
      }
      return
    }
  }

  private init(
    infos: [TensorInfo], names: [String], index: NameIndex, classes: NameClasses,
    outside: Set<Int> = [], base: String? = nil, format: String?,
    values: @escaping @Sendable (Int) -> [Double]?,
    sameBytes: @escaping @Sendable (Int, Int) -> Bool
  ) {
    self.infos = infos
    self.names = names
    self.classes = classes
    self.index = index
    self.outside = outside
    self.base = base
    self.format = format
    readValues = values
    compareBytes = sameBytes
  }

  /// An inventory of nothing, for configs that are read without a checkpoint.
  public static let empty = Inventory(
    infos: [], names: [], index: NameIndex([]), classes: NameClasses([]), format: nil,
    values: { _ in nil }, sameBytes: { _, _ in false })

  /// The same tensors with one of `prefixes` taken off the front of each name that has it.
  public func stripping(_ prefixes: [String]) -> Inventory {
    let own = prefixes.filter { classes.hasPrefix($0, in: names) }
    guard !own.isEmpty else { return self }
    // Every layout asks, and most take off the same.
    return stripped.known.withLock { known in
      if let inventory = known[own] { return inventory }
      let names = self.names.map { name in
        own.first { name.utf8.starts(with: $0.utf8) }
          .map { String(name.utf8.dropFirst($0.utf8.count)) ?? name } ?? name
      }
      // Names that were of one kind still are.
      let inventory = Inventory(
        infos: infos, names: names, index: NameIndex(names), classes: classes, outside: outside,
        base: base, format: format, values: readValues, sameBytes: compareBytes)
      known[own] = inventory
      return inventory
    }
  }

  /// Inventories by the prefixes that were taken off.
  private final class Stripped: Sendable {
    let known = Mutex<[[String]: Inventory]>([:])
  }

  /// `name` without wrappers' prefixes.
  public static func unwrapped(_ name: String) -> String {
    // Nearly every name has none of them: look before taking it apart.
    guard mayBeWrapped(name) else { return name }
    let parts = name.split(separator: ".", omittingEmptySubsequences: false)
    guard parts.contains(where: { wrappers.contains($0) }) else { return name }
    return parts.filter { !wrappers.contains($0) }.joined(separator: ".")
  }

  /// Whether `name` holds `modu` or `_mod`, as each of the wrappers does.
  private static func mayBeWrapped(_ name: String) -> Bool {
    var name = name
    return name.withUTF8 { bytes in
      guard bytes.count > 3 else { return false }
      for i in 1..<bytes.count - 1
      where bytes[i] == UInt8(ascii: "o") && bytes[i - 1] == UInt8(ascii: "m")
        && bytes[i + 1] == UInt8(ascii: "d")
      {
        if i > 1, bytes[i - 2] == UInt8(ascii: "_") { return true }
        if i + 2 < bytes.count, bytes[i + 2] == UInt8(ascii: "u") { return true }
      }
      return false
    }
  }

  /// The first name that `glob` matches.
  public func first(_ glob: Glob) -> String? {
    if glob.isLiteral { return self[glob.text].map { names[$0] } }
    return classes.first(glob, in: names).map { names[$0] }
  }

  /// One name of each kind (names differ in their numbers only), and how many there are of it.
  public var kinds: [(name: String, count: Int)] {
    classes.classes.map { (names[$0.first], $0.members.count) }
  }

  /// The number of one tensor of each kind, and how many there are of it.
  var kindNumbers: [(number: Int, count: Int)] {
    classes.classes.map { ($0.first, $0.members.count) }
  }

  /// The same tensors under other names; `nil` when two would be the same.
  func renamed(_ names: [String], outside: Set<Int>, base: String?) -> Inventory? {
    let index = NameIndex(names)
    guard index.count == names.count else { return nil }
    return Inventory(
      infos: infos, names: names, index: index, classes: NameClasses(names), outside: outside,
      base: base, format: format, values: readValues, sameBytes: compareBytes)
  }

  /// The number of the tensor called `name`.
  public subscript(name: String) -> Int? { index[TensorName(name)] }

  /// The values of tensor number `i`, when it is small.
  public func values(_ i: Int) -> [Double]? { readValues(i) }

  /// Whether two tensors hold the same bytes, type and shape.
  public func isSame(_ a: Int, _ b: Int) -> Bool {
    let x = infos[a]
    let y = infos[b]
    guard x.dtype == y.dtype, x.shape == y.shape else { return false }
    if let e = x.extent, e == y.extent { return true }
    return compareBytes(a, b)
  }
}

/// The numbers of names, put in order when the first is asked for.
private final class NameIndex: Sendable {
  private let names: [String]
  private let numbers = Mutex<[TensorName: Int]?>(nil)

  init(_ names: [String]) { self.names = names }

  /// Puts them in order.
  func prepare() { withNumbers { _ in } }

  /// How many different names there are.
  var count: Int { withNumbers { $0.count } }

  /// The first tensor of this name.
  subscript(name: TensorName) -> Int? { withNumbers { $0[name] } }

  private func withNumbers<R: Sendable>(_ body: ([TensorName: Int]) -> R) -> R {
    numbers.withLock { numbers in
      if let numbers { return body(numbers) }
      var all: [TensorName: Int] = [:]
      all.reserveCapacity(names.count)
      for (number, name) in names.enumerated() {
        let name = TensorName(name)
        if all[name] == nil { all[name] = number }
      }
      numbers = all
      return body(all)
    }
  }
}
