/// Arithmetic on sizes that come from a file: `nil` instead of a trap.
extension Int {
  /// `self * other`, or `nil` on overflow.
  @inlinable public func checkedTimes(_ other: Int) -> Int? {
    let (value, overflow) = multipliedReportingOverflow(by: other)
    return overflow ? nil : value
  }

  /// `self + other`, or `nil` on overflow.
  @inlinable public func checkedPlus(_ other: Int) -> Int? {
    let (value, overflow) = addingReportingOverflow(other)
    return overflow ? nil : value
  }
}
