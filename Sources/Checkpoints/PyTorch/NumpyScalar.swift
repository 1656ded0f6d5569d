import Tensors

/// The number in numpy's pickled scalars: `scalar(dtype("f8", …), b"…")`.
enum NumpyScalar {
  /// The value, or `nil` when it is of a kind that JSON has no place for.
  static func value(_ arguments: [PickleRef], _ graph: PickleGraph) -> JSONValue? {
    guard arguments.count == 2, let dtype = graph.object(arguments[0]),
      graph.global(dtype.callee)?.qualified == "numpy.dtype",
      let code = graph.tuple(dtype.arguments)?.first.flatMap({ graph.string($0) }),
      let bytes = bytes(arguments[1], graph), bytes.count <= 8
    else { return nil }
    // The second item of the dtype's state is its byte order.
    if let state = dtype.state, let order = graph.tuple(state)?.dropFirst().first,
      graph.string(order) == ">"
    {
      return nil
    }
    var bits: UInt64 = 0
    for (k, byte) in bytes.enumerated() { bits |= UInt64(byte) << UInt64(8 * k) }
    return switch (code, bytes.count) {
    case ("f8", 8): .double(Double(bitPattern: bits))
    case ("f4", 4): .double(Double(Float(bitPattern: UInt32(bits))))
    case ("i8", 8): .int(Int(Int64(bitPattern: bits)))
    case ("i4", 4): .int(Int(Int32(bitPattern: UInt32(bits))))
    case ("i2", 2): .int(Int(Int16(bitPattern: UInt16(bits))))
    case ("i1", 1): .int(Int(Int8(bitPattern: UInt8(bits))))
    case ("u8", 8): Int(exactly: bits).map { .int($0) }
    case ("u4", 4), ("u2", 2), ("u1", 1): .int(Int(bits))
    case ("b1", 1): .bool(bits != 0)
    default: nil
    }
  }

  /// Bytes; protocol 2 writes them as `_codecs.encode(text, "latin1")`.
  private static func bytes(_ ref: PickleRef, _ graph: PickleGraph) -> [UInt8]? {
    switch graph[ref] {
    case .bytes(let bytes): return bytes
    case .object(let index):
      let object = graph.objects[Int(index)]
      guard graph.global(object.callee)?.qualified == "_codecs.encode",
        let text = graph.tuple(object.arguments)?.first.flatMap({ graph.string($0) })
      else { return nil }
      let scalars = text.unicodeScalars
      guard scalars.count <= 64, scalars.allSatisfy({ $0.value < 256 }) else { return nil }
      return scalars.map { UInt8($0.value) }
    default: return nil
    }
  }
}
