package import Hub
package import Tensors

/// A checkpoint whose bytes are in memory, where they can be changed.
package struct MemoryCheckpoint: TensorSource {
  package let container = Container.safetensors
  package let files: [RandomAccessFile] = []
  package private(set) var tensors: [TensorInfo]
  package let metadata: [String: String] = [:]
  package let attachments = JSONValue.null
  package let warnings: [Diagnostic] = []
  private var stored: [[UInt8]]

  /// The tensors of `source`, read whole.
  ///
  /// - Throws: what reading throws.
  package init(_ source: any TensorSource) throws(Diagnostic) {
    tensors = source.tensors
    stored = []
    for i in source.tensors.indices {
      stored.append(try source.bytes(of: i))
      // No file is behind them.
      tensors[i].extent = nil
    }
  }

  package func read(
    _ index: Int, bytes range: Range<Int>, into buffer: UnsafeMutableRawBufferPointer
  ) throws(Diagnostic) {
    stored[index].withUnsafeBytes {
      buffer.copyMemory(from: UnsafeRawBufferPointer(rebasing: $0[range]))
    }
  }

  /// The values of a tensor; changing them rounds to its type.
  package subscript(index: Int) -> [Double] {
    get {
      let info = tensors[index]
      return [Double](unsafeUninitializedCapacity: info.shape.elementCount ?? 0) { out, count in
        stored[index].withUnsafeBytes {
          let target = UnsafeMutableRawBufferPointer(out)
          if info.dtype == .f64 {
            target.copyMemory(from: $0)
          } else {
            _ = DType.convert(from: info.dtype, to: .f64, source: $0, destination: target)
          }
        }
        count = info.shape.elementCount ?? 0
      }
    }
    set { store(newValue, index, as: tensors[index].dtype) }
  }

  /// Stores values in another type.
  package mutating func store(_ values: [Double], _ index: Int, as dtype: DType) {
    var bytes = [UInt8](repeating: 0, count: values.count * dtype.bitWidth / 8)
    values.withUnsafeBytes { from in
      bytes.withUnsafeMutableBytes {
        if dtype == .f64 {
          $0.copyMemory(from: from)
        } else {
          _ = DType.cast(from: .f64, to: dtype, source: from, destination: $0)
        }
      }
    }
    stored[index] = bytes
    tensors[index].dtype = dtype
    tensors[index].byteCount = bytes.count
  }

  /// Whether a tensor holds other bytes than `other`'s.
  package func differs(from other: MemoryCheckpoint, at index: Int) -> Bool {
    stored[index] != other.stored[index] || tensors[index].dtype != other.tensors[index].dtype
  }

  /// The tensors in the order of `places`.
  package mutating func reorder(_ places: [Int]) {
    tensors = places.map { tensors[$0] }
    stored = places.map { stored[$0] }
  }

  /// The values of a piece's rows.
  package func rows(_ location: PieceLocation) -> [[Double]] {
    var rows: [[Double]] = []
    let width = location.shape.rowElements
    for run in location.runs {
      let values = self[location.tensor]
      for row in run.tensorRow..<run.tensorRow + run.count {
        rows.append(Array(values[row * width..<(row + 1) * width]))
      }
    }
    return rows
  }

  /// Puts other rows in a piece's place.
  package mutating func put(_ rows: [[Double]], _ location: PieceLocation) {
    let width = location.shape.rowElements
    var next = 0
    for run in location.runs {
      var values = self[location.tensor]
      for row in run.tensorRow..<run.tensorRow + run.count {
        values.replaceSubrange(row * width..<(row + 1) * width, with: rows[next])
        next += 1
      }
      self[location.tensor] = values
    }
  }
}
