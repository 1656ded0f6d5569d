import Tensors

/// A checkpoint in several GGUF files: `name-00001-of-00003.gguf` and so on, of which the first holds
/// the keys.
enum GGUFSplit {
  /// A file and its head.
  struct Part {
    var file: RandomAccessFile
    var header: GGUFHeader
  }

  static let numberKey = "split.no"
  static let countKey = "split.count"
  static let totalKey = "split.tensors.count"

  /// All parts of the checkpoint whose first file this is; the one file, where there is no other.
  ///
  /// - Throws: `gguf.split-*`; what is wrong with another part; `io.*`.
  static func parts(
    of first: RandomAccessFile, _ header: GGUFHeader
  ) throws(Diagnostic) -> [Part] {
    let count = try number(countKey, header, first) ?? 1
    guard count > 1 else { return [Part(file: first, header: header)] }
    let own = try number(numberKey, header, first) ?? 0
    guard let name = Name(first.name), name.count == count, name.number == own + 1 else {
      throw .gguf(
        "split-name", first.name,
        "is part \(own + 1) of \(count), but its name does not say so",
        help: "the parts are called name-00001-of-0000N.gguf; give them their names again")
    }
    let directory = FilePath.directory(of: first.path)
    guard own == 0 else {
      throw .gguf(
        "split-part", first.name, "is part \(own + 1) of \(count); the keys are in the first",
        help: "give \(shown(name.of(1), quoted: false)) instead")
    }
    let missing = (2...count).filter { !FilePath.exists(directory + "/" + name.of($0)) }
    guard missing.isEmpty else {
      throw .gguf(
        "split-missing", first.name,
        "is the first of \(count) parts, but \(missing.count == 1 ? "" : "\(missing.count) are missing, such as ")"
          + "\(shown(name.of(missing[0]))) \(missing.count == 1 ? "is not beside it" : "beside it")",
        help: "fetch all parts into one directory")
    }
    var parts = [Part(file: first, header: header)]
    var names = Set(header.tensors.map { TensorName($0.name) })
    for number in 2...count {
      let path = directory + "/" + name.of(number)
      if let real = FilePath.outside(path, of: directory) {
        throw .gguf(
          "split-symlink", path,
          "is a link to \(shown(real)), outside the checkpoint's directory",
          help: "copy the part itself into the directory if you trust the link")
      }
      let file = try RandomAccessFile(path: directory + "/" + name.of(number))
      let other = try GGUFHeader(of: file)
      guard try self.number(countKey, other, file) == count,
        try self.number(numberKey, other, file) == number - 1
      else {
        throw .gguf(
          "split-number", file.name, "does not say that it is part \(number) of \(count)",
          help: "it belongs to another checkpoint, or was renamed")
      }
      for tensor in other.tensors where !names.insert(TensorName(tensor.name)).inserted {
        throw .gguf(
          "duplicate-tensor", "\(file.name): \(shown(tensor.name))", "is in another part too")
      }
      parts.append(Part(file: file, header: other))
    }
    if let total = try self.number(totalKey, header, first), total != names.count {
      throw .gguf(
        "split-count", first.name,
        "says that its parts hold \(total) tensors, but they hold \(names.count)",
        help: Diagnostic.fetchGGUF)
    }
    return parts
  }

  private static func number(
    _ key: String, _ header: GGUFHeader, _ file: RandomAccessFile
  ) throws(Diagnostic) -> Int? {
    guard let value = header.values[key] else { return nil }
    guard case .int(let number, _) = value, (0...Name.most).contains(number) else {
      throw .gguf("split-key", "\(file.name): \(key)", "should be a number from 0 to \(Name.most)")
    }
    return number
  }

  /// The name of a part.
  struct Name {
    var stem: String
    var number: Int
    var count: Int
    static let most = 99_999

    /// `stem-00001-of-00003.gguf`; `nil` for any other name.
    init?(_ name: String) {
      let bytes = Array(name.utf8)
      let tail = "-00001-of-00003.gguf".utf8.count
      guard bytes.count > tail, bytes.suffix(5).elementsEqual(".gguf".utf8) else { return nil }
      let end = Array(bytes.suffix(tail))
      guard end[0] == UInt8(ascii: "-"), end[6..<10].elementsEqual("-of-".utf8),
        let number = Self.digits(end[1..<6]), let count = Self.digits(end[10..<15])
      else { return nil }
      stem = String(decoding: bytes.dropLast(tail), as: UTF8.self)
      self.number = number
      self.count = count
    }

    private static func digits(_ bytes: ArraySlice<UInt8>) -> Int? {
      guard bytes.allSatisfy({ (0x30...0x39).contains($0) }) else { return nil }
      return Int(String(decoding: bytes, as: UTF8.self))
    }

    /// The name of part `number`, from 1.
    func of(_ number: Int) -> String {
      func five(_ value: Int) -> String {
        String(repeating: "0", count: max(0, 5 - String(value).utf8.count)) + String(value)
      }
      return "\(stem)-\(five(number))-of-\(five(count)).gguf"
    }
  }
}
