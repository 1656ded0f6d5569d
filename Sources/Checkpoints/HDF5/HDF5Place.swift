import Tensors

/// Where a tensor goes in a file: groups for the parts of its name, as far as names allow.
struct HDF5Place: Equatable {
  /// Groups deeper than this are not made; the rest of the name stays dotted.
  static let maxGroups = 48

  /// The groups from the root on.
  var groups: [TensorName]
  /// The dataset's own name in the last group.
  var link: TensorName
  /// Whether the last group carries the tensor's name as an attribute, because no path spells it.
  var isNamed = false

  /// A place for each name, in order. Reading the paths back gives exactly the names.
  ///
  ///     plan(["a.b", "a.c.d", "x..y"])  // /a/b, /a/c/d and /x..y
  ///     plan(["a", "a.b"])              // /a and /a.b: a dataset cannot also be a group
  static func plan(_ names: [TensorName]) -> [HDF5Place] {
    let all = Set(names)
    var rootLinks = Set<TensorName>()
    var places = names.map { name -> HDF5Place? in
      guard let place = place(name, among: all) else { return nil }
      rootLinks.insert(place.groups.first ?? place.link)
      return place
    }
    for (index, name) in names.enumerated() where places[index] == nil {
      var group = readable(name)
      while !rootLinks.insert(group).inserted { group = TensorName(group.string + "~") }
      places[index] = HDF5Place(groups: [group], link: "tensor", isNamed: true)
    }
    return places.compactMap { $0 }
  }

  /// The place of a name that a path can spell, else `nil`.
  private static func place(_ name: TensorName, among all: Set<TensorName>) -> HDF5Place? {
    let bytes = Array(name.string.utf8)
    // A link's name holds no slash, and "." is the group itself.
    if bytes.isEmpty || bytes.contains(UInt8(ascii: "/")) || bytes == [UInt8(ascii: ".")] {
      return nil
    }
    let parts = bytes.split(separator: UInt8(ascii: "."), omittingEmptySubsequences: false)
      .map { TensorName(String(decoding: $0, as: UTF8.self)) }
    if parts.contains(where: { $0.string.isEmpty }) { return HDF5Place(groups: [], link: name) }
    var groups = 0
    while groups < min(parts.count - 1, maxGroups), !all.contains(joined(parts[...groups])) {
      groups += 1
    }
    return HDF5Place(groups: Array(parts[..<groups]), link: joined(parts[groups...]))
  }

  private static func joined(_ parts: ArraySlice<TensorName>) -> TensorName {
    TensorName(parts.map(\.string).joined(separator: "."))
  }

  /// A group's name that reminds of a tensor's name which no path can spell.
  private static func readable(_ name: TensorName) -> TensorName {
    if name.string.isEmpty { return "unnamed" }
    if name.string == "." { return "dot" }
    let bytes = name.string.utf8.map { $0 == UInt8(ascii: "/") ? UInt8(ascii: "_") : $0 }
    return TensorName(String(decoding: bytes, as: UTF8.self))
  }
}
