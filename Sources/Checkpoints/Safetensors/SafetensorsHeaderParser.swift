import Tensors

/// Goes over a header's bytes once, straight to tensors, and collects what is wrong.
///
/// A text that is no JSON ends the work; everything else is collected.
struct SafetensorsHeaderParser {
  let path: String
  let fileName: String
  let dataStart: Int
  let fileSize: Int
  let compat: Bool

  private(set) var tensors: [TensorInfo] = []
  private(set) var metadata: [String: String] = [:]
  private(set) var problems: [Diagnostic] = []

  /// Set when what is known of the offsets is too little to look for holes and overlaps.
  private var coverageUnknown = false
  private var places: [TensorName: Int] = [:]
  /// Tables repeat a few types thousands of times; comparing with the last is cheaper than a search.
  private var lastType = ("F32", DType.f32)

  init(path: String, fileName: String, dataStart: Int, fileSize: Int, compat: Bool) {
    self.path = path
    self.fileName = fileName
    self.dataStart = dataStart
    self.fileSize = fileSize
    self.compat = compat
  }

  mutating func parse(_ bytes: [UInt8]) {
    do throws(JSONError) {
      var scanner = try JSONScanner(bytes)
      // An entry takes about a hundred bytes.
      tensors.reserveCapacity(bytes.count / 128)
      places.reserveCapacity(bytes.count / 128)
      try root(&scanner)
      checkCoverage()
    } catch {
      add(
        Diagnostic(
          code: "safetensors.header-\(error.rule.rawValue)",
          subject: "\(path): byte \(error.offset) of the header",
          message: "the header is no JSON that every reader understands: \(error.message)"))
    }
  }

  // MARK: The text

  private mutating func root(_ scanner: inout JSONScanner) throws(JSONError) {
    if scanner.position != 0, !compat {
      add(
        "safetensors.header-start", nil, "the header begins with white space instead of \"{\"",
        help: laxHelp)
    }
    guard scanner.accept(UInt8(ascii: "{")) else {
      let found = try JSONParser.value(&scanner)
      add("safetensors.header-root", nil, "the header is \(kind(found)), not an object of tensors")
      coverageUnknown = true
      return
    }
    var metadataSeen = false
    var end = scanner.position
    if scanner.peek == UInt8(ascii: "}") {
      end = scanner.position + 1
      _ = scanner.accept(UInt8(ascii: "}"))
    } else {
      var go = true
      while go {
        let name = try scanner.string()
        try scanner.expect(UInt8(ascii: ":"))
        if name == "__metadata__" {
          if metadataSeen {
            add("safetensors.duplicate", "__metadata__", "stands twice in the header")
          }
          metadataSeen = true
          try readMetadata(&scanner)
        } else {
          try entry(&scanner, name: name)
        }
        end = scanner.position + 1
        go = try scanner.more(until: UInt8(ascii: "}"))
      }
    }
    try scanner.finish()
    if !compat, let odd = scanner.bytes[end...].firstIndex(where: { $0 != 0x20 }) {
      add(
        "safetensors.header-padding", nil,
        "the header is padded with 0x\(hex(scanner.bytes[odd])); only spaces (0x20) are allowed",
        help: laxHelp)
    }
  }

  private mutating func readMetadata(_ scanner: inout JSONScanner) throws(JSONError) {
    guard scanner.accept(UInt8(ascii: "{")) else {
      let found = try JSONParser.value(&scanner)
      // MLX writes null where it has nothing to say, and every reader takes it for that.
      if found == .null { return }
      add("safetensors.metadata", "__metadata__", "is \(kind(found)), not an object of texts")
      return
    }
    if scanner.accept(UInt8(ascii: "}")) { return }
    repeat {
      let key = try scanner.string()
      try scanner.expect(UInt8(ascii: ":"))
      guard scanner.peek == UInt8(ascii: "\"") else {
        let found = try JSONParser.value(&scanner)
        add(
          "safetensors.metadata", "__metadata__",
          "key \(shown(key)) is \(kind(found)), but only texts are allowed")
        continue
      }
      let old = metadata.updateValue(try scanner.string(), forKey: key)
      if old != nil, !compat {
        add(
          "safetensors.duplicate-key", "__metadata__", "key \(shown(key)) stands twice",
          help: laxHelp)
      }
    } while try scanner.more(until: UInt8(ascii: "}"))
  }

  /// The fields of one tensor, as far as they could be read.
  private struct Fields {
    var dtype: DType?
    var shape: [Int]?
    var offsets: (begin: Int, end: Int)?
    /// Which of dtype, shape and data_offsets the text has, good or bad.
    var seen = (dtype: false, shape: false, offsets: false)
  }

  private mutating func entry(
    _ scanner: inout JSONScanner, name: String
  ) throws(JSONError) {
    var fields = Fields()
    if scanner.peek == UInt8(ascii: "{") {
      try object(&scanner, name: name, into: &fields)
    } else if compat, scanner.accept(UInt8(ascii: "[")) {
      try readType(&scanner, name: name, into: &fields)
      try scanner.expect(UInt8(ascii: ","))
      try readShape(&scanner, name: name, into: &fields)
      try scanner.expect(UInt8(ascii: ","))
      try readOffsets(&scanner, name: name, into: &fields)
      try scanner.expect(UInt8(ascii: "]"))
    } else {
      let found = try JSONParser.value(&scanner)
      add(
        "safetensors.entry", name,
        "is \(kind(found)), not an object with dtype, shape and data_offsets")
      coverageUnknown = true
      return
    }
    finish(name, fields)
  }

  private mutating func object(
    _ scanner: inout JSONScanner, name: String, into fields: inout Fields
  ) throws(JSONError) {
    try scanner.expect(UInt8(ascii: "{"))
    var unknown: Set<String> = []
    if !scanner.accept(UInt8(ascii: "}")) {
      repeat {
        let key = try field(&scanner)
        try scanner.expect(UInt8(ascii: ":"))
        let twice: Bool
        switch key {
        case "dtype":
          twice = fields.seen.dtype
          try readType(&scanner, name: name, into: &fields)
        case "shape":
          twice = fields.seen.shape
          try readShape(&scanner, name: name, into: &fields)
        case "data_offsets":
          twice = fields.seen.offsets
          try readOffsets(&scanner, name: name, into: &fields)
        default:
          twice = !unknown.insert(key).inserted && !compat
          _ = try JSONParser.value(&scanner)
          if !twice, !compat {
            add(
              "safetensors.field-unknown", name,
              "has the field \(shown(key)); allowed are dtype, shape and data_offsets",
              help: laxHelp)
          }
        }
        if twice { add("safetensors.duplicate-key", name, "has the field \(shown(key)) twice") }
      } while try scanner.more(until: UInt8(ascii: "}"))
    }
    let missing = [
      fields.seen.dtype ? nil : "dtype", fields.seen.shape ? nil : "shape",
      fields.seen.offsets ? nil : "data_offsets",
    ].compactMap(\.self)
    if !missing.isEmpty {
      add("safetensors.field-missing", name, "lacks \(missing.joined(separator: ", "))")
    }
  }

  /// The name of a field: mostly one of three, which need not become texts to be told.
  private func field(_ scanner: inout JSONScanner) throws(JSONError) -> String {
    if scanner.accept(word: "\"dtype\"") { return "dtype" }
    if scanner.accept(word: "\"shape\"") { return "shape" }
    if scanner.accept(word: "\"data_offsets\"") { return "data_offsets" }
    return try scanner.string()
  }

  private mutating func readType(
    _ scanner: inout JSONScanner, name: String, into fields: inout Fields
  ) throws(JSONError) {
    fields.seen.dtype = true
    guard scanner.peek == UInt8(ascii: "\"") else {
      let found = try JSONParser.value(&scanner)
      add("safetensors.dtype", name, "dtype is \(kind(found)), not a text such as \"F32\"")
      return
    }
    let text = try scanner.string()
    if text == lastType.0 {
      fields.dtype = lastType.1
    } else if let dtype = DType(rawValue: text) {
      lastType = (text, dtype)
      fields.dtype = dtype
    } else {
      let allowed = DType.allCases.map(\.rawValue).joined(separator: ", ")
      add(
        "safetensors.dtype", name, "dtype is \(shown(text)); allowed are \(allowed)",
        help: DType(rawValue: text.uppercased()) == nil ? nil : "the names are upper case")
    }
  }

  private mutating func readShape(
    _ scanner: inout JSONScanner, name: String, into fields: inout Fields
  ) throws(JSONError) {
    fields.seen.shape = true
    fields.shape = try integers(&scanner, name: name, field: "shape")
  }

  private mutating func readOffsets(
    _ scanner: inout JSONScanner, name: String, into fields: inout Fields
  ) throws(JSONError) {
    fields.seen.offsets = true
    fields.offsets = nil
    guard let pair = try integers(&scanner, name: name, field: "data_offsets") else { return }
    guard pair.count == 2 else {
      add(
        "safetensors.offsets", name,
        "data_offsets has \(pair.count) numbers; it must be [begin, end]")
      return
    }
    fields.offsets = (pair[0], pair[1])
  }

  /// A list of whole numbers from 0 on; `nil` when it is something else, which is then reported.
  private mutating func integers(
    _ scanner: inout JSONScanner, name: String, field: String
  ) throws(JSONError) -> [Int]? {
    guard scanner.accept(UInt8(ascii: "[")) else {
      let found = try JSONParser.value(&scanner)
      let code = field == "shape" ? "safetensors.shape" : "safetensors.offsets"
      add(code, name, "\(field) is \(kind(found)), not a list of whole numbers")
      return nil
    }
    var values: [Int] = []
    var good = true
    if scanner.accept(UInt8(ascii: "]")) { return values }
    repeat {
      let start = scanner.position
      var fault: (code: String, text: String)?
      switch scanner.peek {
      case UInt8(ascii: "-"):
        _ = try scanner.number()
        fault = ("safetensors.integer", "is negative")
      case .some(let byte) where byte >= UInt8(ascii: "0") && byte <= UInt8(ascii: "9"):
        switch try scanner.number() {
        case .int(let value): values.append(value)
        case .bigInteger: fault = ("safetensors.overflow", "is over 2^63 - 1")
        case .double: fault = ("safetensors.integer", "is written with a fraction or an exponent")
        }
      default:
        let found = try JSONParser.value(&scanner)
        fault = ("safetensors.integer", "is \(kind(found))")
      }
      if let fault, good {
        good = false
        let text = String(decoding: scanner.bytes[start..<scanner.position], as: UTF8.self)
        add(
          fault.code, name,
          "\(field) holds \(shown(text, quoted: false)), which \(fault.text); "
            + "only whole numbers from 0 on, written in digits, are allowed")
      }
    } while try scanner.more(until: UInt8(ascii: "]"))
    return good ? values : nil
  }

  // MARK: The meaning

  private mutating func finish(_ name: String, _ fields: Fields) {
    if !compat, let fault = Self.nameFault(name) {
      add(
        "safetensors.name", name, "the name \(fault)",
        help: "such names break out of folders where a container maps names to paths; \(laxHelp)")
    }
    var byteCount: Int?
    if let dtype = fields.dtype, let dims = fields.shape {
      byteCount = bytes(name, dtype, dims)
    }
    guard let offsets = fields.offsets else {
      coverageUnknown = true
      return
    }
    guard offsets.begin <= offsets.end else {
      add(
        "safetensors.offset-order", name,
        "data_offsets is [\(offsets.begin), \(offsets.end)]: it ends before it begins")
      coverageUnknown = true
      return
    }
    if let byteCount, let dtype = fields.dtype, let dims = fields.shape,
      byteCount != offsets.end - offsets.begin
    {
      add(
        "safetensors.size", name,
        "data_offsets [\(offsets.begin), \(offsets.end)] span \(offsets.end - offsets.begin) "
          + "bytes, but \(dtype.rawValue) \(Shape(dims)) takes \(byteCount)")
    }
    // Also kept when its type is unknown, so that holes and overlaps can be told.
    let begin = dataStart.checkedPlus(offsets.begin)
    let info = TensorInfo(
      name: TensorName(name), dtype: fields.dtype ?? .u8, shape: Shape(fields.shape ?? []),
      byteCount: offsets.end - offsets.begin, file: fileName,
      extent: .init(file: 0, offset: begin ?? offsets.begin))
    if begin == nil || dataStart.checkedPlus(offsets.end) == nil {
      add("safetensors.overflow", name, "data_offsets end beyond any file")
      coverageUnknown = true
      return
    }
    if let old = places.updateValue(tensors.count, forKey: info.name) {
      guard compat else {
        add("safetensors.duplicate", name, "stands twice in the header", help: laxHelp)
        coverageUnknown = true
        return
      }
      places[info.name] = old
      tensors[old] = info
    } else {
      tensors.append(info)
    }
  }

  private mutating func bytes(_ name: String, _ dtype: DType, _ dims: [Int]) -> Int? {
    var shape = Shape(dims)
    // The reference multiplies from the left, so that nothing overflows behind a zero.
    if compat, let zero = dims.firstIndex(of: 0) { shape = Shape(Array(dims[...zero])) }
    guard let bits = shape.elementCount?.checkedTimes(dtype.bitWidth) else {
      add(
        "safetensors.overflow", name,
        "shape \(Shape(Array(dims.prefix(16)))) has more elements than can be counted")
      return nil
    }
    guard bits % 8 == 0 else {
      add(
        "safetensors.sub-byte", name,
        "\(dtype.rawValue) \(shape) takes \(bits) bits, which is no whole number of bytes")
      return nil
    }
    return bits / 8
  }

  /// Every byte of data belongs to exactly one tensor, and the file has them all.
  private mutating func checkCoverage() {
    guard !coverageUnknown else { return }
    var order = Array(tensors.indices)
    let starts = tensors.map { ($0.extent?.offset ?? 0, $0.byteCount) }
    let sorted = (1..<max(order.count, 1)).allSatisfy { starts[$0 - 1] <= starts[$0] }
    if !sorted {
      order.sort { (starts[$0].0, starts[$0].1, $0) < (starts[$1].0, starts[$1].1, $1) }
    }
    var end = dataStart
    var last: Int?
    var complete = true
    for index in order {
      let (start, count) = starts[index]
      if start != end {
        complete = false
        let before = last.map { "tensor \(shown(tensors[$0].name.string))" } ?? "the header"
        add(
          start > end ? "safetensors.hole" : "safetensors.overlap", tensors[index].name.string,
          start > end
            ? "begins at byte \(start - dataStart) of the data, \(start - end) bytes behind the end "
              + "of \(before): no tensor owns the bytes between"
            : "begins at byte \(start - dataStart) of the data, but \(before) takes the bytes up to "
              + "\(end - dataStart)")
      }
      end = max(end, start + count)
      last = index
    }
    if end > fileSize {
      let lost = order.filter { starts[$0].0 + starts[$0].1 > fileSize }
      add(
        "safetensors.truncated", nil,
        "has \(fileSize) bytes, but its tensors take \(end): \(end - fileSize) are missing",
        notes: [
          "\(lost.count) of \(tensors.count) tensors are incomplete, the first is "
            + shown(tensors[lost[0]].name.string)
        ], help: "the download or copy was cut short; fetch the file again")
    } else if end < fileSize, complete {
      add(
        "safetensors.trailing-bytes", nil,
        "has \(fileSize) bytes, but its tensors end at \(end): no tensor owns the last "
          + "\(fileSize - end)")
    }
  }

  /// Why a name is refused by the strict rules, or `nil`.
  static func nameFault(_ name: String) -> String? {
    var name = name
    // One pass over the bytes: nearly every name ends here.
    let (odd, nul) = name.withUTF8 { bytes in
      var slash = false
      var nul = false
      for byte in bytes {
        slash = slash || byte == UInt8(ascii: "/")
        nul = nul || byte == 0
      }
      return (slash || bytes.count < 3, nul)
    }
    guard odd || nul else { return nil }
    if name.isEmpty { return "is empty" }
    if nul { return "holds a NUL character" }
    if name.utf8.first == UInt8(ascii: "/") { return "begins with \"/\"" }
    if name.split(separator: "/").contains(where: { $0 == ".." || $0 == "." }) {
      return "holds \".\" or \"..\" as a path component"
    }
    return nil
  }

  // MARK: Reporting

  private var laxHelp: String {
    "the reference implementation accepts it; --compat follows the reference"
  }

  private mutating func add(
    _ code: String, _ tensor: String?, _ message: String, notes: [String] = [],
    help: String? = nil
  ) {
    let subject = tensor.map { "\(path): tensor \(shown($0))" } ?? path
    add(Diagnostic(code: code, subject: subject, message: message, notes: notes, help: help))
  }

  /// A hostile header can break rules a million times; the first hundred tell enough.
  private mutating func add(_ problem: Diagnostic) {
    guard problems.count < 100 else { return }
    problems.append(problem)
  }

  private func kind(_ value: JSONValue) -> String {
    switch value {
    case .null: "null"
    case .bool: "a truth value"
    case .int, .double: "a number"
    case .string: "a text"
    case .array: "a list"
    case .object: "an object"
    }
  }
}
