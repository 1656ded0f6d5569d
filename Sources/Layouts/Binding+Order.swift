import Hub

extension [Layout.Binding] {
  /// Each binding behind those that it reads, otherwise as they stand. What reads itself by way of others
  /// stays where it is, where the name that is missing is reported.
  var inOrder: [Layout.Binding] {
    var later = Set(map(\.name))
    let isInOrder = allSatisfy { binding in
      later.remove(binding.name)
      return binding.value.names.isDisjoint(with: later)
    }
    // The time grows with the cube of their number; nobody writes this many.
    guard !isInOrder, count <= 256 else { return self }
    var rest = self
    var ordered: [Layout.Binding] = []
    while let next = rest.firstIndex(where: { binding in
      !rest.contains { $0.name != binding.name && binding.value.names.contains($0.name) }
    }) {
      ordered.append(rest.remove(at: next))
    }
    return ordered + rest
  }
}
