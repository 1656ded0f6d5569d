/// Where each piece of a model lies.
///
/// A model has tens of thousands of pieces, and a dozen in each sub-layer: they are kept by sub-layer,
/// where a search costs less than a hash.
public struct PieceTable: Sendable, Sequence {
  /// A piece and its place.
  public typealias Element = (key: PieceID, value: PieceLocation)

  /// The model's own pieces, then those of each sub-layer.
  private var lists: [[(role: String, location: PieceLocation)]]
  /// How many pieces there are.
  public private(set) var count = 0

  /// A table without pieces for a model of so many sub-layers.
  package init(sublayers: Int) { lists = Array(repeating: [], count: sublayers + 1) }

  /// Where a piece lies; `nil` when the model does not have it.
  public subscript(id: PieceID) -> PieceLocation? {
    let number = (id.sublayer ?? -1) + 1
    guard lists.indices.contains(number) else { return nil }
    return lists[number].first { $0.role == id.role }?.location
  }

  /// Adds a piece, unless the table has it.
  ///
  /// - Returns: where the table has it.
  package mutating func insert(_ location: PieceLocation, for id: PieceID) -> PieceLocation {
    let number = (id.sublayer ?? -1) + 1
    if let old = lists[number].first(where: { $0.role == id.role }) { return old.location }
    lists[number].append((id.role, location))
    count += 1
    return location
  }

  /// Goes through the pieces: the model's own, then those of each sub-layer.
  public func makeIterator() -> AnyIterator<Element> {
    var list = 0
    var place = 0
    return AnyIterator {
      while list < lists.count, place == lists[list].count {
        list += 1
        place = 0
      }
      guard list < lists.count else { return nil }
      let (role, location) = lists[list][place]
      place += 1
      return (PieceID(list == 0 ? nil : list - 1, role), location)
    }
  }
}
