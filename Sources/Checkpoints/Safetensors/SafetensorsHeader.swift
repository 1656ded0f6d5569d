public import Tensors

/// What the header of a safetensors file says, checked against every rule of the format.
///
/// Layout of a file: 8 bytes with the header's length (little-endian), the header (a JSON object),
/// the tensors' bytes.
public struct SafetensorsHeader: Sendable {
  /// The longest header that the format allows, in bytes.
  public static let maxLength = 100_000_000

  /// Which texts are headers.
  public enum Rules: Sendable, Hashable {
    /// The specification, and what every reader understands alike.
    case strict
    /// What the reference implementation (safetensors 0.8, Rust) reads beyond that: white space
    /// before the object and other than spaces behind it, unknown fields, a name twice (the last
    /// counts), entries as lists, names that are no path components, shapes
    /// whose product overflows behind a zero. Names with more than 30 combining marks in a row stay
    /// refused, as they take too long to compare.
    case compat
  }

  /// The tensors in the order of the text; their extents are in file 0.
  public var tensors: [TensorInfo]
  /// The texts of `__metadata__`.
  public var metadata: [String: String]
  /// The first byte of data.
  public var dataStart: Int

  init(tensors: [TensorInfo], metadata: [String: String], dataStart: Int) {
    self.tensors = tensors
    self.metadata = metadata
    self.dataStart = dataStart
  }

  /// Reads and checks the header of `file`, nothing else of it.
  ///
  /// Memory is proportional to the header, never to what it claims.
  ///
  /// - Throws: every independent problem at once: `safetensors.*`, `io.*`.
  public init(of file: RandomAccessFile, rules: Rules = .strict) throws(Problems) {
    let bytes: [UInt8]
    do throws(Diagnostic) {
      bytes = try Self.text(of: file)
    } catch { throw Problems([error]) }
    var parser = SafetensorsHeaderParser(
      path: file.path, fileName: file.name, dataStart: 8 + bytes.count,
      fileSize: file.byteCount, compat: rules == .compat)
    parser.parse(bytes)
    guard parser.problems.isEmpty else { throw Problems(parser.problems) }
    self.init(
      tensors: parser.tensors, metadata: parser.metadata, dataStart: parser.dataStart)
  }

  private static func text(of file: RandomAccessFile) throws(Diagnostic) -> [UInt8] {
    guard file.byteCount >= 8 else {
      throw Diagnostic(
        code: "safetensors.too-short", subject: file.path,
        message: "has \(file.byteCount) bytes, but the header's length alone takes 8",
        help: "the file is empty, incomplete or no safetensors file; fetch it again")
    }
    let length = try file.bytes(at: 0, count: 8).reversed().reduce(0 as UInt64) {
      $0 << 8 | UInt64($1)
    }
    let fault: String
    if length < 2 {
      fault = "is \(length), but the smallest header, {}, takes 2 bytes"
    } else if length > UInt64(maxLength) {
      fault = "is \(length), over the format's limit of \(maxLength)"
    } else if Int(length) > file.byteCount - 8 {
      fault = "is \(length), but only \(file.byteCount - 8) bytes follow it"
    } else {
      return try file.bytes(at: 8, count: Int(length))
    }
    throw Diagnostic(
      code: "safetensors.header-length", subject: file.path,
      message: "the header's length, in the first 8 bytes, \(fault)",
      help: "the file is incomplete or no safetensors file; fetch it again")
  }
}
