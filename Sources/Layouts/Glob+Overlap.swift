extension Glob {
  /// Whether some text matches both patterns.
  func overlaps(_ other: Glob) -> Bool {
    let (a, b) = (Array(text.utf8), Array(other.text.utf8))
    // Nobody writes such patterns; they are given the benefit of the doubt.
    guard a.count <= 1000, b.count <= 1000 else { return true }
    let (star, any) = (UInt8(ascii: "*"), UInt8(ascii: "?"))
    // row[j]: whether a[i...] and b[j...] overlap; filled from the ends.
    var below = [Bool](repeating: false, count: b.count + 1)
    for i in stride(from: a.count, through: 0, by: -1) {
      var row = [Bool](repeating: false, count: b.count + 1)
      for j in stride(from: b.count, through: 0, by: -1) {
        if i == a.count, j == b.count {
          row[j] = true
        } else if i < a.count, a[i] == star {
          row[j] = below[j] || j < b.count && row[j + 1]
        } else if j < b.count, b[j] == star {
          row[j] = row[j + 1] || i < a.count && below[j]
        } else if i < a.count, j < b.count {
          row[j] = (a[i] == b[j] || a[i] == any || b[j] == any) && below[j + 1]
        }
      }
      below = row
    }
    return below[0]
  }
}
