extension String {
  /// Whether at most 30 combining marks follow one another: Unicode's stream-safe text (UAX #15).
  ///
  /// Swift compares and hashes texts in a normal form for which it sorts each run of marks, in time
  /// that grows with the square of the run: a name of 800 kB can take minutes. No script comes near
  /// the bound.
  public var isStreamSafe: Bool {
    if utf8.allSatisfy({ $0 < 0x80 }) { return true }
    var run = 0
    for scalar in unicodeScalars {
      // The first combining marks stand at U+0300.
      if scalar.value < 0x300 || scalar.properties.canonicalCombiningClass == .notReordered {
        run = 0
      } else {
        run += 1
        if run > 30 { return false }
      }
    }
    return true
  }
}
