import Checkpoints
import Conversion
import Hub
import OrderedCollections
import Tensors

/// A tokenizer's files as keys of a GGUF file, and back.
///
/// llama.cpp splits text by a pattern that it knows by name (`tokenizer.ggml.pre`). Under a wrong name
/// texts are split otherwise and the model is silently worse, so a tokenizer goes along only where its
/// pattern is one of those below.
enum GGUFTokenizer {
  /// llama.cpp's name of a pattern, by tokenizer.json's own.
  static let patterns: [(name: String, regex: String)] = [
    (
      "llama-bpe",
      #"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"#
    ),
    (
      "qwen2",
      #"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"#
    ),
  ]
  /// GPT-2's pattern, which ByteLevel uses by itself; llama.cpp has it under several names.
  static let plain = "gpt-2"
  static let alsoPlain = ["gpt-2", "mpt", "olmo"]
  /// `tokenizer.ggml.token_type`.
  private static let (normal, control, userDefined, unused): (Int32, Int32, Int32, Int32) =
    (1, 3, 4, 5)
  private static let mostBytes = 256 << 20

  /// The keys of the tokenizer beside the model, or those that say that there is none.
  ///
  /// - Throws: `io.*`, `json.*` for a file that cannot be read.
  static func fields(
    _ loaded: LoadedCheckpoint, _ plan: ConversionPlan, _ problems: inout [Diagnostic]
  ) throws(Diagnostic) -> [GGUFField] {
    let rows = plan.spec["vocab_rows"].int ?? 0
    var why = "no tokenizer.json or tokenizer.model is beside the model"
    do throws(Unfit) {
      if let path = path("tokenizer.model", loaded) {
        return try SentencePiece(bytes: try read(path)).fields(rows: rows)
          + [GGUFField("tokenizer.ggml.pre", .string("default"))].compactMap { $0 }
      }
      if let path = path("tokenizer.json", loaded) {
        let tokenizer = try parse(path)
        var setup: JSONValue = .null
        if let path = self.path("tokenizer_config.json", loaded) { setup = try parse(path) }
        return try byteLevel(
          tokenizer, setup: setup, config: loaded.config ?? [:], rows: rows, &problems)
      }
    } catch {
      if let failure = error.failure { throw failure }
      why = error.why
    }
    problems.append(
      Diagnostic(
        .warning, code: "gguf.no-tokenizer", subject: "tokenizer.ggml.model",
        message: "is written as none: \(why)",
        help:
          "such a file takes and gives token numbers; add a tokenizer with llama.cpp's converter"))
    return [GGUFField("tokenizer.ggml.model", .string("none"))].compactMap { $0 }
  }

  private static func path(_ name: String, _ loaded: LoadedCheckpoint) -> String? {
    loaded.location.companions.first { FileName.last(of: $0) == name }
  }

  /// Why a tokenizer cannot go along, or what failed.
  struct Unfit: Error {
    var why: String
    var failure: Diagnostic?

    init(_ why: String) { self.why = why }

    init(_ failure: Diagnostic) {
      why = ""
      self.failure = failure
    }
  }

  private static func read(_ path: String) throws(Unfit) -> [UInt8] {
    do throws(Diagnostic) {
      let file = try RandomAccessFile(path: path)
      guard file.byteCount <= mostBytes else {
        throw Diagnostic(
          code: "gguf.tokenizer-size", subject: path, message: "has \(file.byteCount) bytes")
      }
      return try file.bytes(at: 0, count: file.byteCount)
    } catch { throw Unfit(error) }
  }

  private static func parse(_ path: String) throws(Unfit) -> JSONValue {
    let bytes = try read(path)
    do throws(Diagnostic) { return try JSONParser.parse(bytes, file: path, mode: .python) } catch {
      throw Unfit(error)
    }
  }

  // MARK: tokenizer.json

  private static func byteLevel(
    _ tokenizer: JSONValue, setup: JSONValue, config: JSONObject, rows: Int,
    _ problems: inout [Diagnostic]
  ) throws(Unfit) -> [GGUFField] {
    guard let model = tokenizer["model"], model["type"]?.string == "BPE",
      model["byte_fallback"]?.bool != true, let vocabulary = model["vocab"]?.object,
      let merges = model["merges"]?.array
    else { throw Unfit("tokenizer.json is no byte-level BPE") }
    let pre = try pattern(of: tokenizer["pre_tokenizer"] ?? .null)
    guard model["ignore_merges"]?.bool != true || pre == "llama-bpe" else {
      throw Unfit("tokenizer.json has ignore_merges, which llama.cpp has not under \(pre)")
    }
    switch tokenizer["normalizer"]?["type"]?.string {
    case nil: break
    case "NFC":
      problems.append(
        Diagnostic(
          .note, code: "gguf.normalizer", subject: "tokenizer.json",
          message: "brings texts to NFC first, llama.cpp does not: give it texts in NFC"))
    case let other?: throw Unfit("tokenizer.json has the normalizer \(other)")
    }
    var tokens = [String?](repeating: nil, count: rows)
    var types = [Int32](repeating: unused, count: rows)
    var numbers: [String: Int] = [:]
    func add(_ text: String, _ number: Int?, _ type: Int32) throws(Unfit) {
      guard let number, number >= 0 else { throw Unfit("tokenizer.json is damaged") }
      guard number < rows else {
        throw Unfit("its token \(number) is beyond the embedding's \(rows) rows")
      }
      tokens[number] = text
      types[number] = type
      numbers[text] = number
    }
    for (text, number) in vocabulary { try add(text, number.int, normal) }
    for token in tokenizer["added_tokens"]?.array ?? [] {
      try add(
        token["content"]?.string ?? "", token["id"]?.int,
        token["special"]?.bool == true ? control : userDefined)
    }
    var joined: [[UInt8]] = []
    for merge in merges {
      if let text = merge.string {
        joined.append(Array(text.utf8))
      } else if let pair = merge.array, pair.count == 2, let a = pair[0].string,
        let b = pair[1].string, !a.contains(" "), !b.contains(" ")
      {
        joined.append(Array("\(a) \(b)".utf8))
      } else {
        throw Unfit("tokenizer.json has a merge that GGUF cannot hold: \(merge.text())")
      }
    }
    var fields = [
      GGUFField("tokenizer.ggml.model", .string("gpt2")),
      GGUFField("tokenizer.ggml.pre", .string(pre)),
    ].compactMap { $0 }
    fields.append(
      GGUFField(
        "tokenizer.ggml.tokens",
        texts: tokens.enumerated().map { Array(($1 ?? "[PAD\($0)]").utf8) }))
    fields.append(GGUFField("tokenizer.ggml.token_type", integers: types))
    fields.append(GGUFField("tokenizer.ggml.merges", texts: joined))
    return fields + special(numbers, setup, config, rows)
  }

  /// The numbers of the special tokens, and the settings beside them.
  private static func special(
    _ numbers: [String: Int], _ setup: JSONValue, _ config: JSONObject, _ rows: Int
  ) -> [GGUFField] {
    var fields: [GGUFField] = []
    for (name, key) in [
      ("bos", "bos"), ("eos", "eos"), ("unk", "unknown"), ("pad", "padding"),
    ] {
      let token = setup["\(name)_token"]
      let text = token?.string ?? token?["content"]?.string
      let number = text.flatMap { numbers[$0] } ?? config["\(name)_token_id"]?.int
      if let number, (0..<rows).contains(number),
        let field = GGUFField("tokenizer.ggml.\(key)_token_id", .int(number))
      {
        fields.append(field)
      }
    }
    for name in ["bos", "eos"] {
      if let flag = setup["add_\(name)_token"]?.bool,
        let field = GGUFField("tokenizer.ggml.add_\(name)_token", .bool(flag))
      {
        fields.append(field)
      }
    }
    if let text = setup["chat_template"]?.string,
      let field = GGUFField("tokenizer.chat_template", .string(text))
    {
      fields.append(field)
    }
    return fields
  }

  private static func pattern(of value: JSONValue) throws(Unfit) -> String {
    let steps = value["type"]?.string == "Sequence" ? value["pretokenizers"]?.array ?? [] : [value]
    guard let last = steps.last, last["type"]?.string == "ByteLevel",
      last["add_prefix_space"]?.bool != true
    else { throw Unfit("llama.cpp has no name for tokenizer.json's pre_tokenizer") }
    if steps.count == 1, last["use_regex"]?.bool != false { return plain }
    if steps.count == 2, last["use_regex"]?.bool == false, steps[0]["type"]?.string == "Split",
      steps[0]["invert"]?.bool != true, steps[0]["behavior"]?.string == "Isolated",
      let regex = steps[0]["pattern"]?["Regex"]?.string,
      let known = patterns.first(where: { $0.regex == regex })
    {
      return known.name
    }
    throw Unfit("llama.cpp has no name that is known here for tokenizer.json's pre_tokenizer")
  }

  // MARK: Back to files

  /// tokenizer.json and tokenizer_config.json of a GGUF file's byte-level BPE; `nil` where it holds
  /// none or splits texts by a pattern that is not known here.
  ///
  /// - Throws: `io.*`, `gguf.tokenizer` for lists that do not fit together.
  static func files(
    of source: GGUFReader, _ problems: inout [Diagnostic]
  ) throws(Diagnostic) -> [(name: String, text: String)] {
    func text(_ key: String) -> String? { source.values[key]?.json?.string }
    guard let kind = text("tokenizer.ggml.model"), !["none", "no_vocab"].contains(kind) else {
      return []
    }
    let pre = text("tokenizer.ggml.pre") ?? "default"
    let regex = patterns.first { $0.name == pre }?.regex
    guard kind == "gpt2", alsoPlain.contains(pre) || regex != nil,
      let tokens = try source.texts("tokenizer.ggml.tokens"),
      let merges = try source.texts("tokenizer.ggml.merges")
    else {
      problems.append(
        Diagnostic(
          .warning, code: "gguf.tokenizer-left", subject: "tokenizer.ggml.model",
          message: "is \(kind) with the pre-tokenizer \(pre), of which no tokenizer.json is made",
          help: "take the tokenizer's files from the model that the GGUF file was made of"))
      return []
    }
    let types = try source.numbers("tokenizer.ggml.token_type")?.map { $0.int ?? 1 }
    guard types.map({ $0.count == tokens.count }) ?? true,
      let names = strings(tokens), let joined = strings(merges)
    else {
      throw Diagnostic(
        code: "gguf.tokenizer", subject: "tokenizer.ggml.tokens",
        message: "does not fit token_type, or is no UTF-8 in a byte-level vocabulary")
    }
    var vocabulary: JSONObject = [:]
    var added: [JSONValue] = []
    for (number, name) in names.enumerated() {
      let type = types?[number] ?? 1
      if type == Int(unused) { continue }
      if type == Int(control) || type == Int(userDefined) {
        added.append([
          "id": .int(number), "content": .string(name), "single_word": false, "lstrip": false,
          "rstrip": false, "normalized": false, "special": .bool(type == Int(control)),
        ])
      } else {
        vocabulary[name] = .int(number)
      }
    }
    let byteLevel: JSONObject = [
      "type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true,
      "use_regex": .bool(regex == nil),
    ]
    let split: JSONValue? = regex.map {
      [
        "type": "Split", "pattern": ["Regex": .string($0)], "behavior": "Isolated",
        "invert": false,
      ]
    }
    let tokenizer: JSONObject = [
      "version": "1.0", "truncation": .null, "padding": .null, "added_tokens": .array(added),
      "normalizer": .null,
      "pre_tokenizer": split.map {
        ["type": "Sequence", "pretokenizers": .array([$0, .object(byteLevel)])]
      } ?? .object(byteLevel),
      "post_processor": .null,
      "decoder": [
        "type": "ByteLevel", "add_prefix_space": true, "trim_offsets": true, "use_regex": true,
      ],
      "model": [
        "type": "BPE", "dropout": .null, "unk_token": .null, "continuing_subword_prefix": .null,
        "end_of_word_suffix": .null, "fuse_unk": false, "byte_fallback": false,
        "ignore_merges": .bool(pre == "llama-bpe"), "vocab": .object(vocabulary),
        "merges": .array(joined.map { .string($0) }),
      ],
    ]
    var setup: JSONObject = ["tokenizer_class": "PreTrainedTokenizerFast"]
    for (name, key) in [
      ("bos", "bos"), ("eos", "eos"), ("unk", "unknown"), ("pad", "padding"),
    ] {
      if let number = source.values["tokenizer.ggml.\(key)_token_id"]?.json?.int,
        names.indices.contains(number)
      {
        setup["\(name)_token"] = .string(names[number])
      }
    }
    for name in ["add_bos_token", "add_eos_token"] {
      if let flag = source.values["tokenizer.ggml.\(name)"]?.json?.bool {
        setup[name] = .bool(flag)
      }
    }
    if let template = text("tokenizer.chat_template") { setup["chat_template"] = .string(template) }
    return [
      ("tokenizer.json", JSONValue.object(tokenizer).text(indent: 1) + "\n"),
      ("tokenizer_config.json", JSONValue.object(setup).text(indent: 1) + "\n"),
    ]
  }

  private static func strings(_ texts: [[UInt8]]) -> [String]? {
    let strings = texts.compactMap { String(validating: $0, as: UTF8.self) }
    return strings.count == texts.count ? strings : nil
  }
}

/// SentencePiece's `tokenizer.model`, a protocol buffer (`sentencepiece_model.proto`): pieces with
/// scores, and the few settings that llama.cpp has words for.
private struct SentencePiece {
  private var tokens: [[UInt8]] = []
  private var scores: [Float] = []
  private var types: [Int32] = []
  private var isBPE = false
  private var addsPrefix = true
  private var special: [(key: String, number: Int)] = []

  init(bytes: [UInt8]) throws(GGUFTokenizer.Unfit) {
    var ids: [Int: Int] = [40: 0, 41: 1, 42: 2, 43: -1]
    for (field, value) in try Self.fields(bytes[...]) {
      switch (field, value) {
      case (1, .bytes(let piece)):
        var text: [UInt8] = []
        var score: Float = 0
        var type = 1
        for (field, value) in try Self.fields(piece) {
          switch (field, value) {
          case (1, .bytes(let bytes)): text = Array(bytes)
          case (2, .four(let bits)): score = Float(bitPattern: bits)
          case (3, .number(let number)): type = Int(truncatingIfNeeded: number)
          default: break
          }
        }
        tokens.append(text)
        scores.append(score)
        types.append(Int32(clamping: type))
      case (2, .bytes(let trainer)):
        for case (let field, .number(let number)) in try Self.fields(trainer) {
          if field == 3 { isBPE = number == 2 }
          if ids[field] != nil { ids[field] = Int(Int32(truncatingIfNeeded: number)) }
        }
      case (3, .bytes(let normalizer)):
        for case (3, .number(let number)) in try Self.fields(normalizer) {
          addsPrefix = number != 0
        }
      default: break
      }
    }
    guard isBPE else {
      throw GGUFTokenizer.Unfit("tokenizer.model is no BPE of SentencePiece's")
    }
    special = [("unknown", 40), ("bos", 41), ("eos", 42), ("padding", 43)].map {
      ($0, ids[$1] ?? -1)
    }
  }

  func fields(rows: Int) throws(GGUFTokenizer.Unfit) -> [GGUFField] {
    guard tokens.count <= rows else {
      throw GGUFTokenizer.Unfit(
        "its \(tokens.count) tokens are more than the embedding's \(rows) rows")
    }
    let missing = tokens.count..<rows
    var fields = [GGUFField("tokenizer.ggml.model", .string("llama"))].compactMap { $0 }
    fields.append(
      GGUFField("tokenizer.ggml.tokens", texts: tokens + missing.map { Array("[PAD\($0)]".utf8) }))
    fields.append(GGUFField("tokenizer.ggml.scores", floats: scores + missing.map { _ in -10000 }))
    fields.append(GGUFField("tokenizer.ggml.token_type", integers: types + missing.map { _ in 5 }))
    for (key, number) in special where (0..<tokens.count).contains(number) {
      fields += [GGUFField("tokenizer.ggml.\(key)_token_id", .int(number))].compactMap { $0 }
    }
    return fields
      + [GGUFField("tokenizer.ggml.add_space_prefix", .bool(addsPrefix))].compactMap { $0 }
  }

  private enum Value {
    case number(UInt64)
    case bytes(ArraySlice<UInt8>)
    case four(UInt32)
  }

  private static func fields(
    _ bytes: ArraySlice<UInt8>
  ) throws(GGUFTokenizer.Unfit) -> [(Int, Value)] {
    let damaged = GGUFTokenizer.Unfit("tokenizer.model is no SentencePiece model")
    var at = bytes.startIndex
    func varint() throws(GGUFTokenizer.Unfit) -> UInt64 {
      var value: UInt64 = 0
      var shift: UInt64 = 0
      while at < bytes.endIndex, shift < 64 {
        let byte = bytes[at]
        at += 1
        value |= UInt64(byte & 127) << shift
        if byte < 128 { return value }
        shift += 7
      }
      throw damaged
    }
    var fields: [(Int, Value)] = []
    while at < bytes.endIndex {
      let tag = try varint()
      guard let field = Int(exactly: tag >> 3) else { throw damaged }
      switch tag & 7 {
      case 0: fields.append((field, .number(try varint())))
      case 2:
        guard let count = Int(exactly: try varint()), count <= bytes.endIndex - at else {
          throw damaged
        }
        fields.append((field, .bytes(bytes[at..<at + count])))
        at += count
      case 1:
        guard bytes.endIndex - at >= 8 else { throw damaged }
        at += 8
      case 5:
        guard bytes.endIndex - at >= 4 else { throw damaged }
        var bits: UInt32 = 0
        for i in 0..<4 { bits |= UInt32(bytes[at + i]) << UInt32(8 * i) }
        fields.append((field, .four(bits)))
        at += 4
      default: throw damaged
      }
    }
    return fields
  }
}
