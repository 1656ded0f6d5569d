/// What a pickle wrote down to use again, by number.
///
/// Picklers count from 0 on, so that most of it is a plain list: a dictionary of millions would take
/// thirty times the memory of the bytes that ask for it, and seconds to fill.
struct PickleMemo {
  private var dense: [PickleRef] = []
  private var sparse: [UInt32: PickleRef] = [:]

  /// How many places are taken.
  var count: Int { dense.count + sparse.count }

  subscript(key: UInt32) -> PickleRef? {
    Int(key) < dense.count ? dense[Int(key)] : sparse[key]
  }

  /// Writes a place.
  mutating func put(_ value: PickleRef, at key: UInt32) {
    if Int(key) < dense.count {
      dense[Int(key)] = value
    } else if Int(key) == dense.count, sparse[key] == nil {
      dense.append(value)
    } else {
      sparse[key] = value
    }
  }
}
