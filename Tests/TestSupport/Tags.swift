public import Testing

extension Tag {
  /// A suite that takes seconds: it runs the program, reads a file cut at every byte, or converts every
  /// model. `scripts/test --fast` leaves it out.
  @Tag public static var slow: Self
}
