import Hub
import Tensors

extension LayoutCheck {
  /// The names that expressions of a part may use.
  private struct Names {
    var values: Set<String>
    var functions: Set<String>

    func with(_ more: some Sequence<String>) -> Names {
      Names(values: values.union(more), functions: functions)
    }
  }

  private static let lookups: Set<String> = ["exists", "rows", "columns", "values"]
  private static let writing: Set<String> = ["common", "has", "count"]

  /// Names that nothing defines, and functions that do not exist.
  mutating func checkExpressions() {
    guard !broken.contains("config"), !broken.contains("config.keys"), !broken.contains("let")
    else { return }
    let raw = Names(values: ["config"], functions: Self.lookups)
    if let expression = layout.detect.config { check(expression, "detect.config", raw) }
    // A key with dots is a member of what stands before the first.
    let roots = layout.config.keys.map { String($0.name.prefix { $0 != "." }) }
    let keys = raw.with(layout.config.keys.map(\.name) + roots + ["reading"])
    let all = check(layout.lets, "let", keys)
    for (i, requirement) in layout.config.requirements.enumerated() {
      check(requirement.that, "config.require.[\(i)].that", all)
    }
    check(layout.family, "family", all)
    check(layout.model.layerCount, "model.n_layer", all)
    let counted = all.with(["n_layer"])
    check(layout.model.tied, "model.tied", counted)
    for binding in layout.model.attributes {
      check(binding.value, "model.attributes.\(binding.name)", counted)
    }
    let model = counted.with(words.vocabulary.model.attributes.map(\.name))
    for tensor in layout.model.tensors { check(tensor, "model.tensors", model) }
    checkLayers(counted)
    for (i, ignored) in layout.ignore.enumerated() {
      guard let write = ignored.write else { continue }
      check(write.name, "ignore.[\(i)].write.name", counted.with(["i"]))
      if let when = write.when { check(when, "ignore.[\(i)].write.when", counted.with(["i"])) }
    }
    if let write = layout.write, !broken.contains("write") {
      if let dated = write.dated { check(dated, "write.dated", counted) }
      checkWriting(write)
    }
  }

  private mutating func checkLayers(_ outer: Names) {
    guard !broken.contains("layers"), !broken.contains("layers.let") else { return }
    let names = check(layout.layers.lets, "layers.let", outer.with(["i"]))
    check(layout.layers.prefix, "layers.prefix", names)
    for binding in layout.layers.attributes {
      check(binding.value, "layers.attributes.\(binding.name)", names)
    }
    for (i, slot) in layout.layers.slots.enumerated() {
      if let when = slot.when { check(when, "layers.slots.[\(i)].when", names) }
      for (j, option) in slot.options.enumerated() {
        let path = "layers.slots.[\(i)].options.[\(j)]"
        if let when = option.when { check(when, "\(path).when", names) }
        if let norm = option.norm { check(norm, "\(path).norm", names) }
        check(option.prefix, "\(path).prefix", names)
        for binding in option.attributes {
          check(binding.value, "\(path).attributes.\(binding.name)", names)
        }
      }
    }
    for (name, mixer) in layout.mixers.sorted(by: { $0.key < $1.key }) {
      for binding in mixer.attributes {
        check(binding.value, "mixers.\(name).attributes.\(binding.name)", names)
      }
      guard let kind = words.vocabulary.kinds[mixer.kind] else { continue }
      let inner = names.with(
        (words.vocabulary.model.attributes + kind.attributes).map(\.name))
      for tensor in mixer.tensors { check(tensor, "mixers.\(name).tensors", inner) }
    }
  }

  private mutating func checkWriting(_ write: Layout.Write) {
    var names = Names(
      values: Set(words.vocabulary.model.attributes.map(\.name)), functions: Self.writing)
    names = names.with(["n_layer", "pattern", "source", "dtype", "sublayers"])
    if let when = write.when { check(when, "write.when", names) }
    let all = check(write.lets, "write.let", names)
    check(write.config, "write.config", all)
  }

  private mutating func check(
    _ entries: [Layout.Write.Entry], _ path: String, _ names: Names
  ) {
    for entry in entries {
      check(entry.value, YAMLCursor.join(path, entry.key + (entry.omitsNull ? "?" : "")), names)
    }
  }

  private mutating func check(
    _ template: Layout.Write.Template, _ path: String, _ names: Names
  ) {
    switch template {
    case .constant: break
    case .expression(let expression): check(expression, path, names)
    case .list(let list):
      for (i, element) in list.enumerated() { check(element, "\(path).[\(i)]", names) }
    case .object(let entries): check(entries, path, names)
    }
  }

  /// Each binding sees those before it.
  private mutating func check(
    _ bindings: [Layout.Binding], _ path: String, _ names: Names
  ) -> Names {
    var names = names
    for binding in bindings {
      check(binding.value, "\(path).\(binding.name)", names)
      names.values.insert(binding.name)
    }
    return names
  }

  private mutating func check(_ tensor: Layout.Tensor, _ path: String, _ names: Names) {
    let path = YAMLCursor.join(path, tensor.name.text)
    check(tensor.name, path, tensor.each == nil ? names : names.with(["e"]))
    for (part, expressions) in [
      ("when", [tensor.when].compactMap(\.self)), ("shape", tensor.shape ?? []),
      ("each", [tensor.each].compactMap(\.self)),
      ("or", tensor.alternative ?? []), ("glue", tensor.glue.expressions),
    ] {
      for expression in expressions { check(expression, "\(path).\(part)", names) }
    }
  }

  private mutating func check(_ template: NameTemplate, _ path: String, _ names: Names) {
    for case .hole(let expression) in template.segments { check(expression, path, names) }
  }

  private mutating func check(_ expression: Expression, _ path: String, _ names: Names) {
    for name in expression.names.sorted() where !names.values.contains(name) {
      report(
        path, "speaks of '\(name)', which nothing defines",
        help: Nearest.name(to: name, among: names.values.sorted()).map { "did you mean \($0)?" }
          ?? (words.kindNames.contains(name) ? "a text constant is \"'\(name)'\"" : nil))
    }
    let functions = names.functions.union(Scope.builtinNames)
    for call in expression.calls {
      guard functions.contains(call.name) else {
        report(
          path, "calls '\(call.name)', which is no function here",
          help: help(call.name, functions.sorted(), "functions"))
        continue
      }
      if Self.writing.contains(call.name) { check(call, path) }
    }
    if names.functions.contains("common") {
      for comparison in expression.comparisons { check(comparison, path) }
      checkElements(of: expression, path)
    } else {
      checkMembers(of: expression, path)
    }
  }

  /// `s.n_heads` of the sub-layers, or of lists of some of them.
  private mutating func checkElements(of expression: Expression, _ path: String) {
    var lists: Set<String> = ["sublayers"]
    for binding in layout.write?.lets ?? [] where binding.value.isPart(of: lists) {
      lists.insert(binding.name)
    }
    let known = Set(words.vocabulary.kinds.values.flatMap { $0.attributes.map(\.name) })
      .union(["kind", "layer", "slot"])
    for name in Set(expression.elementMembers(of: lists)).subtracting(known).sorted() {
      report(
        path, "asks sub-layers for \(shown(name)), which no kind has",
        help: Nearest.name(to: name, among: known.sorted()).map { "did you mean \($0)?" })
    }
  }

  /// `ssm_cfg.d_state` of a key that says what it holds.
  private mutating func checkMembers(of expression: Expression, _ path: String) {
    for member in expression.members {
      guard let key = layout.config.keys.first(where: { $0.name == member.base }),
        !layout.lets.contains(where: { $0.name == member.base }), let members = key.members
      else { continue }
      let known = members.known + members.only.map(\.name)
      guard !known.contains(member.name) else { continue }
      report(
        path, "asks \(key.name) for \(shown(member.name)), which its members do not list",
        help: help(member.name, known, "known"))
    }
  }

  /// `common('mamba', 'd_inner')`, `has('mlp', 'up.bias')`, `count('mlp')`.
  private mutating func check(_ call: Expression.Call, _ path: String) {
    let count = call.name == "count" ? 1 : 2
    guard call.arguments.count == count else {
      report(path, "calls \(call.name) with \(call.arguments.count) arguments; it takes \(count)")
      return
    }
    guard let name = call.arguments[0] else { return }
    guard let kind = words.vocabulary.kinds[name] else {
      report(
        path, "asks \(call.name) for no kind: \(shown(name))",
        help: help(name, words.kindNames, "kinds"))
      return
    }
    guard count == 2, let member = call.arguments[1] else { return }
    let known = call.name == "has" ? kind.pieces.map(\.role) : kind.attributes.map(\.name)
    guard !known.contains(member) else { return }
    let what = call.name == "has" ? "piece" : "attribute"
    report(
      path, "asks \(call.name) for no \(what) of \(name): \(shown(member))",
      help: help(member, known, "\(what)s"))
  }

  /// `s.kind == 'mlp'`, `pattern == 'plain'`.
  private mutating func check(_ comparison: Expression.Comparison, _ path: String) {
    let (known, what): ([String], String)
    switch (comparison.subject, comparison.isMember) {
    case ("kind", true): (known, what) = (words.kindNames, "kind")
    case ("pattern", false):
      (known, what) = (layout.write?.patterns.map(\.name) ?? [], "pattern of this file")
    default: return
    }
    for text in comparison.texts where !known.contains(text) {
      report(
        path, "compares with no \(what): \(shown(text))", help: help(text, known, "\(what)s"))
    }
  }
}
