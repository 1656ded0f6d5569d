import Checkpoints
import Dispatch
import Hub
import Synchronization
public import Tensors

#if canImport(Glibc)
  import Glibc
#elseif canImport(Musl)
  import Musl
#else
  import Darwin
#endif

/// Compares what was written, read back, with what a plan gives, byte by byte.
public struct WrittenComparison: Sendable {
  /// The plan that was carried out.
  public let plan: ConversionPlan
  /// The checkpoint that it was made for.
  public let source: any TensorSource

  /// A comparison.
  public init(_ plan: ConversionPlan, from source: any TensorSource) {
    self.plan = plan
    self.source = source
  }

  /// Rows of a block; some transforms read a group of rows for each.
  private static let blockBytes = 8 << 20

  /// What is not as the plan has it in `written`: a problem `verify.bytes` for each tensor that is
  /// missing, of another type or shape, or has another value, and for each that was not to be there.
  ///
  /// - Throws: what reading throws.
  public func problems(of written: any TensorSource) throws(Diagnostic) -> [Diagnostic] {
    var numbers: [TensorName: Int] = [:]
    for (number, info) in written.tensors.enumerated() { numbers[info.name] = number }
    let reader = PieceReader(source: source)
    let found = Mutex([Int: Result<Diagnostic?, Diagnostic>]())
    let places = numbers
    DispatchQueue.concurrentPerform(iterations: plan.tensors.count) { number in
      let result = Result { () throws(Diagnostic) in
        try problem(of: number, written, at: places[plan.tensors[number].output.name], reader)
      }
      found.withLock { $0[number] = result }
    }
    var problems: [Diagnostic] = []
    for (_, result) in found.withLock({ $0 }).sorted(by: { $0.key < $1.key }) {
      if let problem = try result.get() { problems.append(problem) }
    }
    for tensor in plan.tensors { numbers[tensor.output.name] = nil }
    for name in numbers.keys.map(\.string).sorted() {
      problems.append(Self.bytes(name, "was not to be written"))
    }
    return problems
  }

  private func problem(
    of number: Int, _ written: any TensorSource, at place: Int?, _ reader: PieceReader
  ) throws(Diagnostic) -> Diagnostic? {
    var tensor = plan.tensors[number]
    if let owner = tensor.output.sharesStorageWith { tensor.parts = plan.tensors[owner].parts }
    let output = tensor.output
    let name = output.name.string
    guard let place else { return Self.bytes(name, "is not where it was written") }
    let info = written.tensors[place]
    guard info.dtype == output.dtype, info.shape == output.shape,
      info.byteCount == output.byteCount
    else {
      return Self.bytes(
        name,
        "is \(info.dtype.rawValue) \(info.shape) where \(output.dtype.rawValue) \(output.shape) was written"
      )
    }
    guard output.byteCount > 0, tensor.rowBytes > 0 else { return nil }
    let step = max(1, Self.blockBytes / tensor.rowBytes)
    let size = min(step, tensor.rows) * tensor.rowBytes
    let expected = UnsafeMutableRawBufferPointer.allocate(byteCount: size, alignment: 16)
    defer { expected.deallocate() }
    let back = UnsafeMutableRawBufferPointer.allocate(byteCount: size, alignment: 16)
    defer { back.deallocate() }
    var differing = 0
    var first: Int?
    let width = max(output.dtype.bitWidth / 8, 1)
    var row = 0
    while row < tensor.rows {
      let rows = row..<min(row + step, tensor.rows)
      row = rows.upperBound
      let block = TransferList.Block(
        tensor: number, rows: rows, byteCount: rows.count * tensor.rowBytes)
      let own = UnsafeMutableRawBufferPointer(rebasing: expected[..<block.byteCount])
      let theirs = UnsafeMutableRawBufferPointer(rebasing: back[..<block.byteCount])
      _ = try Executor.fill(own, block, tensor, reader)
      let start = rows.lowerBound * tensor.rowBytes
      try written.read(place, bytes: start..<start + block.byteCount, into: theirs)
      guard let a = own.baseAddress, let b = theirs.baseAddress,
        memcmp(a, b, block.byteCount) != 0
      else { continue }
      for element in stride(from: 0, to: block.byteCount, by: width)
      where memcmp(a + element, b + element, min(width, block.byteCount - element)) != 0 {
        differing += 1
        if first == nil { first = (start + element) / width }
      }
    }
    guard let first else { return nil }
    return Self.bytes(
      name,
      "\(differing) of \(output.byteCount / width) values read back are not those that were computed; the first is number \(first)"
    )
  }

  private static func bytes(_ name: String, _ message: String) -> Diagnostic {
    Diagnostic(
      code: "verify.bytes", subject: name, message: message,
      help: "nothing was left at the destination; look at the disk, and convert again")
  }
}
