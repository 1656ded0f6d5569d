import Hub
import Tensors

extension ConversionPlan {
  /// Where the rows of a plan of some rows belong.
  package struct RowPlace: Sendable, Hashable {
    /// The tensor of the whole plan.
    package var tensor: Int
    /// The first byte in that tensor.
    package var offset: Int
  }

  /// The plan of some bytes of its tensors, rounded to whole rows.
  ///
  /// - Parameter ranges: the bytes of tensor number so-and-so, in order; not asked for tensors that
  ///   share another's storage.
  /// - Returns: a plan with a tensor for each stretch of rows, and where each belongs.
  package func rows(
    _ ranges: (Int) -> [Range<Int>]
  ) -> (plan: ConversionPlan, places: [RowPlace]) {
    var tensors: [Tensor] = []
    var places: [RowPlace] = []
    for (number, tensor) in self.tensors.enumerated()
    where tensor.output.sharesStorageWith == nil && tensor.output.byteCount > 0 {
      let rowBytes = max(tensor.rowBytes, 1)
      var stretches: [Range<Int>] = []
      for range in ranges(number) {
        let rows = range.lowerBound / rowBytes..<(range.upperBound + rowBytes - 1) / rowBytes
        if let last = stretches.last, rows.lowerBound <= last.upperBound {
          stretches[stretches.count - 1] = last.lowerBound..<max(last.upperBound, rows.upperBound)
        } else {
          stretches.append(rows)
        }
      }
      for rows in stretches {
        var part = tensor
        part.parts = Self.parts(tensor.parts, rows)
        part.output.byteCount = rows.count * rowBytes
        part.output.shape = Shape([rows.count])
        tensors.append(part)
        places.append(RowPlace(tensor: number, offset: rows.lowerBound * rowBytes))
      }
    }
    var plan = self
    plan.tensors = tensors
    return (plan, places)
  }

  /// What of `parts` is in `rows`, counted from the first row of the first part.
  private static func parts(_ parts: [Part], _ rows: Range<Int>) -> [Part] {
    var found: [Part] = []
    var start = 0
    for part in parts {
      let own = (start..<start + part.count).clamped(to: rows)
      if !own.isEmpty {
        var piece = part
        piece.start += own.lowerBound - start
        piece.count = own.count
        found.append(piece)
      }
      start += part.count
    }
    return found
  }
}
