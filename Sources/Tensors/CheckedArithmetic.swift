/// Arithmetic on sizes that come from a file: `nil` instead of a trap.
extension Int {
  /// `self * other`, or `nil` on overflow.
  package func checkedTimes(_ other: Int) -> Int? {
    let (value, overflow) = multipliedReportingOverflow(by: other)
    return overflow ? nil : value
  }

  /// `self + other`, or `nil` on overflow.
  package func checkedPlus(_ other: Int) -> Int? {
    let (value, overflow) = addingReportingOverflow(other)
    return overflow ? nil : value
  }
}
