package import Tensors

/// Runs a pickle's operations on a stack of plain values: names of classes and functions stay names,
/// and calls stay records of what would be called.
///
/// Memory and time grow with the bytes given, whatever they claim.
package struct PickleMachine {
  /// Values that one pickle may build, and places that it may take on the stack and in the memo.
  private let valueLimit: Int

  private var cursor: PickleCursor
  private var graph = PickleGraph()
  private var stack: [PickleRef] = []
  /// Where in the stack each open MARK stands.
  private var marks: [Int] = []
  private var memo = PickleMemo()
  private var globalIndex: [PickleGlobal: UInt32] = [:]
  private var problems = ProblemList()
  /// Items that were copied from one container to another, which the bytes do not bound.
  private var copied = 0

  private init(_ bytes: [UInt8], subject: String, valueLimit: Int) {
    cursor = PickleCursor(bytes, subject: subject)
    self.valueLimit = valueLimit
  }

  /// What the pickle `bytes` builds; `subject` is its name in messages.
  ///
  /// - Throws: `pytorch.pickle-*` for a broken pickle; `pytorch.dangerous-global`,
  ///   `pytorch.computed-callable` and `pytorch.extension-code` for one that means to run code, each
  ///   name once.
  package static func run(
    _ bytes: [UInt8], subject: String, valueLimit: Int = 1 << 24
  ) throws(Problems) -> PickleGraph {
    var machine = PickleMachine(bytes, subject: subject, valueLimit: valueLimit)
    do throws(Diagnostic) { try machine.loop() } catch { machine.problems.add(error) }
    try machine.problems.check()
    return machine.graph
  }

  // MARK: The stack

  private mutating func push(_ value: PickleValue) throws(Diagnostic) {
    try bound(graph.values.count)
    try push(PickleRef(index: UInt32(graph.values.count)))
    graph.values.append(value)
  }

  private mutating func push(_ ref: PickleRef) throws(Diagnostic) {
    try bound(stack.count)
    stack.append(ref)
  }

  /// Refuses one more of what each byte of the pickle may ask for.
  private func bound(_ count: Int) throws(Diagnostic) {
    guard count < valueLimit else {
      throw cursor.fault(
        "pickle-size", "the pickle builds more than \(valueLimit) values", help: nil)
    }
  }

  private mutating func pop() throws(Diagnostic) -> PickleRef {
    guard stack.count > (marks.last ?? 0) else { throw emptyStack() }
    return stack.removeLast()
  }

  private func top() throws(Diagnostic) -> PickleRef {
    guard stack.count > (marks.last ?? 0) else { throw emptyStack() }
    return stack[stack.count - 1]
  }

  private func emptyStack() -> Diagnostic {
    cursor.fault("pickle-stack", "an operation needs a value that is not on the stack")
  }

  /// Removes everything above the last MARK, and the MARK.
  private mutating func popMark() throws(Diagnostic) -> [PickleRef] {
    guard let mark = marks.popLast() else {
      throw cursor.fault("pickle-stack", "an operation needs a MARK that is not on the stack")
    }
    // A copy of just these: a slice would make the removal copy the whole stack.
    let items = Array(stack[mark...])
    stack.removeLast(stack.count - mark)
    return items
  }

  private mutating func pushTuple(_ items: some Collection<PickleRef>) throws(Diagnostic) {
    let start = UInt32(graph.tupleItems.count)
    graph.tupleItems.append(contentsOf: items)
    try push(.tuple(start: start, count: UInt32(items.count)))
  }

  private mutating func pushTuple(last count: Int) throws(Diagnostic) {
    var items: [PickleRef] = []
    for _ in 0..<count { items.append(try pop()) }
    try pushTuple(items.reversed())
  }

  private mutating func pushList(_ items: [PickleRef]) throws(Diagnostic) {
    graph.lists.append(items)
    try push(.list(UInt32(graph.lists.count - 1)))
  }

  private mutating func pushDict(_ items: [PickleRef]) throws(Diagnostic) {
    guard items.count % 2 == 0 else {
      throw cursor.fault("pickle-stack", "a dict has a key without a value")
    }
    graph.dicts.append(items)
    try push(.dict(UInt32(graph.dicts.count - 1)))
  }

  // MARK: The loop

  private mutating func loop() throws(Diagnostic) {
    while true {
      cursor.operation = cursor.position
      let byte = try cursor.byte()
      guard let opcode = PickleOpcode(rawValue: byte) else {
        throw cursor.fault(
          "pickle-opcode", "byte 0x\(hex(byte)) is no pickle operation")
      }
      if opcode == .stop { break }
      try step(opcode)
    }
    guard marks.isEmpty, let root = stack.last else { throw emptyStack() }
    graph.root = root
    guard cursor.remaining == 0 else {
      throw cursor.fault(
        "pickle-trailing", "\(cursor.remaining) bytes follow the STOP of the pickle",
        help: "PyTorch writes none; do not trust the file")
    }
  }

  private mutating func step(_ opcode: PickleOpcode) throws(Diagnostic) {
    switch opcode {
    case .stop: break
    case .proto:
      let version = try cursor.byte()
      guard version <= 5 else {
        throw cursor.fault(
          "pickle-protocol", "the pickle is of protocol \(version); 0 to 5 are known", help: nil)
      }
    case .frame:
      let length = try cursor.unsigned(8)
      guard length <= UInt64(cursor.remaining) else {
        throw cursor.fault(
          "pickle-length",
          "a frame claims \(length) bytes, but the pickle has \(cursor.remaining) left")
      }
    case .mark:
      try bound(marks.count)
      marks.append(stack.count)
    case .pop:
      if stack.count == marks.last { marks.removeLast() } else { _ = try pop() }
    case .popMark: _ = try popMark()
    case .dup: try push(try top())
    case .none: try push(.none)
    case .newTrue: try push(.bool(true))
    case .newFalse: try push(.bool(false))
    case .int, .long, .binInt, .binInt1, .binInt2, .long1, .long4, .float, .binFloat:
      try push(try cursor.number(opcode))
    case .string, .unicode, .binString, .shortBinString, .binUnicode, .shortBinUnicode,
      .binUnicode8, .binBytes, .shortBinBytes, .binBytes8, .byteArray8:
      try push(try cursor.text(opcode))
    case .emptyTuple: try pushTuple([])
    case .tuple: try pushTuple(try popMark())
    case .tuple1: try pushTuple(last: 1)
    case .tuple2: try pushTuple(last: 2)
    case .tuple3: try pushTuple(last: 3)
    case .emptyList, .emptySet: try pushList([])
    case .list, .frozenSet: try pushList(try popMark())
    case .emptyDict: try pushDict([])
    case .dict: try pushDict(try popMark())
    case .append:
      let item = try pop()
      try append([item])
    case .appends, .addItems: try append(try popMark())
    case .setItem:
      let value = try pop()
      let key = try pop()
      try setItems([key, value])
    case .setItems: try setItems(try popMark())
    case .get, .binGet, .longBinGet: try get(try cursor.memoKey(opcode))
    case .put, .binPut, .longBinPut:
      try note(try cursor.memoKey(opcode))
    case .memoize: try note(UInt32(memo.count))
    case .global, .stackGlobal: try pushGlobal(opcode)
    case .inst, .obj, .reduce, .newObj, .newObjEx: try call(opcode)
    case .build: try build()
    case .persistent:
      let line = try cursor.line()
      try push(.string(try cursor.text(line)))
      try push(.persistent(try pop()))
    case .binPersistent: try push(.persistent(try pop()))
    case .ext1, .ext2, .ext4:
      let code = try cursor.unsigned(opcode == .ext1 ? 1 : opcode == .ext2 ? 2 : 4)
      throw cursor.fault(
        "extension-code",
        "the pickle names a class or function by the private number \(code)",
        help: "what it means is not in the file; " + Diagnostic.saveAgain)
    case .nextBuffer, .readOnlyBuffer:
      throw cursor.fault(
        "pickle-opcode", "the pickle wants a buffer from outside the file",
        help: Diagnostic.saveAgain)
    }
  }

  private mutating func get(_ key: UInt32) throws(Diagnostic) {
    guard let ref = memo[key] else {
      throw cursor.fault("pickle-memo", "the pickle reads memo \(key), which it never wrote")
    }
    try push(ref)
  }

  private mutating func note(_ key: UInt32) throws(Diagnostic) {
    try bound(memo.count)
    memo.put(try top(), at: key)
  }

  private mutating func append(_ items: [PickleRef]) throws(Diagnostic) {
    switch graph[try top()] {
    case .list(let index): graph.lists[Int(index)].append(contentsOf: items)
    case .object(let index): graph.objects[Int(index)].elements.append(contentsOf: items)
    default: throw try wrongTarget("appends to")
    }
  }

  private mutating func setItems(_ items: [PickleRef]) throws(Diagnostic) {
    guard items.count % 2 == 0 else {
      throw cursor.fault("pickle-stack", "a dict has a key without a value")
    }
    switch graph[try top()] {
    case .dict(let index): graph.dicts[Int(index)].append(contentsOf: items)
    case .object(let index): graph.objects[Int(index)].items.append(contentsOf: items)
    default: throw try wrongTarget("sets an item of")
    }
  }

  private func wrongTarget(_ verb: String) throws(Diagnostic) -> Diagnostic {
    cursor.fault("pickle-type", "the pickle \(verb) \(graph.kind(try top()))")
  }

  // MARK: Names and calls

  private mutating func pushGlobal(_ opcode: PickleOpcode) throws(Diagnostic) {
    let module: String
    let name: String
    if opcode == .stackGlobal {
      let nameRef = try pop()
      let moduleRef = try pop()
      guard let a = graph.string(moduleRef), let b = graph.string(nameRef) else {
        throw cursor.fault(
          "pickle-type",
          "the pickle names a class by \(graph.kind(moduleRef)) and \(graph.kind(nameRef))")
      }
      (module, name) = (a, b)
    } else {
      let first = try cursor.line()
      let second = try cursor.line()
      module = try cursor.text(first)
      name = try cursor.text(second)
    }
    let global = PickleGlobal(module: module, name: name)
    if let index = globalIndex[global] { return try push(.global(index)) }
    let index = UInt32(graph.globals.count)
    globalIndex[global] = index
    graph.globals.append(global)
    if global.isDangerous { problems.add(danger(global.qualified)) }
    try push(.global(index))
  }

  private func danger(_ name: String) -> Diagnostic {
    cursor.fault(
      "dangerous-global",
      "the pickle names \(shown(name)), which runs code or reaches the system when Python loads"
        + " the file",
      help: "nothing of it was run here; do not load this file in Python, and distrust its source")
  }

  private mutating func call(_ opcode: PickleOpcode) throws(Diagnostic) {
    switch opcode {
    case .reduce, .newObj:
      let arguments = try pop()
      let callee = try pop()
      try pushCall(callee, arguments, makes: opcode == .newObj)
    case .newObjEx:
      _ = try pop()
      let arguments = try pop()
      let callee = try pop()
      try pushCall(callee, arguments, makes: true)
    case .inst:
      try pushGlobal(.global)
      let callee = try pop()
      let arguments = try popMark()
      try pushTuple(arguments)
      try pushCall(callee, try pop())
    default:
      let items = try popMark()
      guard let callee = items.first else { throw emptyStack() }
      try pushTuple(items.dropFirst())
      try pushCall(callee, try pop())
    }
  }

  /// - Parameter makes: whether only `cls.__new__` is called, which runs no constructor.
  private mutating func pushCall(
    _ callee: PickleRef, _ arguments: PickleRef, makes: Bool = false
  ) throws(Diagnostic) {
    guard let items = graph.tuple(arguments) else {
      throw cursor.fault(
        "pickle-type", "the pickle calls with \(graph.kind(arguments)) where a tuple belongs")
    }
    guard let global = graph.global(callee) ?? nestedClass(callee, items, makes: makes) else {
      throw cursor.fault(
        "computed-callable", "the pickle calls \(graph.kind(callee)) instead of a named function",
        help: "this is how pickles hide what they run; do not load this file in Python")
    }
    if global.isGetattr, !isHarmlessGetattr(items) {
      problems.add(danger(global.qualified))
    }
    if global.isDict {
      // OrderedDict([(key, value), …]) of protocols 0 and 1; other dicts come empty.
      let source = global.name == "defaultdict" ? items.dropFirst().first : items.first
      return try pushDict(try source.map { ref throws(Diagnostic) in try pairs(ref) } ?? [])
    }
    graph.objects.append(PickleObject(callee: callee, arguments: arguments, isInstance: makes))
    try push(.object(UInt32(graph.objects.count - 1)))
  }

  /// `getattr(SomeEnum, "MEMBER")`, or a method of an object that the file itself makes: modules keep
  /// their hooks so. What it gets is called by none of them; a call would be a computed callable.
  private func isHarmlessGetattr(_ items: ArraySlice<PickleRef>) -> Bool {
    guard items.count == 2, let owner = items.first, let key = items.last,
      let name = graph.string(key)
    else { return false }
    switch graph[owner] {
    case .dict, .list: return !PickleGlobal(module: "collections", name: name).isDangerous
    default:
      guard let owner = symbol(owner) else { return false }
      return !PickleGlobal(module: owner, name: name).isDangerous
    }
  }

  /// The dotted name behind a class, an object of it, or an attribute of either.
  private func symbol(_ ref: PickleRef) -> String? {
    var ref = ref
    var attributes: [String] = []
    for _ in 0..<8 {
      if let global = graph.global(ref) {
        return ([global.qualified] + attributes.reversed()).joined(separator: ".")
      }
      guard let object = graph.object(ref) else { return nil }
      guard graph.global(object.callee)?.isGetattr == true else {
        ref = object.callee
        continue
      }
      guard let items = graph.tuple(object.arguments), items.count == 2, let owner = items.first,
        let name = items.last.flatMap({ graph.string($0) })
      else { return nil }
      attributes.append(name)
      ref = owner
    }
    return nil
  }

  /// A class inside another, which protocol 2 spells `getattr(Outer, "Inner")`: FSDP's sharded
  /// tensors and nested enums hold one. Both names look like a class's, and it is made without its
  /// constructor or from one number.
  private func nestedClass(
    _ callee: PickleRef, _ arguments: ArraySlice<PickleRef>, makes: Bool
  ) -> PickleGlobal? {
    guard
      makes || arguments.count == 1 && arguments.first.flatMap({ graph.int($0) }) != nil,
      let object = graph.object(callee), graph.global(object.callee)?.isGetattr == true,
      let items = graph.tuple(object.arguments), items.count == 2, let owner = items.first,
      let outer = graph.global(owner), let inner = items.last.flatMap({ graph.string($0) }),
      [outer.name, inner].allSatisfy({ $0.drop { $0 == "_" }.first?.isUppercase == true })
    else { return nil }
    let nested = PickleGlobal(module: outer.module, name: outer.name + "." + inner)
    return nested.isDangerous ? nil : nested
  }

  /// Keys and values in turn of a dict or of a list of pairs.
  private mutating func pairs(_ ref: PickleRef) throws(Diagnostic) -> [PickleRef] {
    var result: [PickleRef] = []
    switch graph[ref] {
    case .dict(let index): result = graph.dicts[Int(index)]
    case .list(let index):
      for item in graph.lists[Int(index)] {
        let pair: ArraySlice<PickleRef>
        switch graph[item] {
        case .list(let inner): pair = graph.lists[Int(inner)][...]
        case .tuple: pair = graph.tuple(item) ?? []
        default: pair = []
        }
        guard pair.count == 2 else {
          throw cursor.fault("pickle-type", "a dict is made from \(graph.kind(item)), not a pair")
        }
        result.append(contentsOf: pair)
      }
    default: throw cursor.fault("pickle-type", "a dict is made from \(graph.kind(ref))")
    }
    copied += result.count
    // The same list may be copied by each of the following bytes: bounded, or time is quadratic.
    guard copied <= 4 * cursor.bytes.count else {
      throw cursor.fault(
        "pickle-size", "the pickle copies its dicts more often than its size allows", help: nil)
    }
    return result
  }

  private mutating func build() throws(Diagnostic) {
    let state = try pop()
    switch graph[try top()] {
    case .object(let index): graph.objects[Int(index)].state = state
    // Attributes of a dict (`_metadata` of a state dict) and of a name say nothing of the weights.
    case .dict, .list, .global: break
    default: throw try wrongTarget("gives a state to")
    }
  }
}

extension PickleGlobal {
  /// Whether calling it makes a plain dict.
  var isDict: Bool {
    switch (module, name) {
    case ("collections", "OrderedDict"), ("collections", "defaultdict"), ("builtins", "dict"),
      ("__builtin__", "dict"):
      true
    default: false
    }
  }
}
