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
        let pieces = try SentencePiece(bytes: try read(path))
        if pieces.normalizes {
          problems.append(
            Diagnostic(
              .note, code: "gguf.normalizer", subject: "tokenizer.model",
              message: "normalises texts first or takes spaces out, llama.cpp does not: give it "
                + "texts as they come out of that"))
        }
        return try pieces.fields(rows: rows)
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
    return fields + special(numbers, setup, tokenizer["post_processor"] ?? .null, config, rows)
  }

  /// The numbers of the special tokens, and the settings beside them.
  private static func special(
    _ numbers: [String: Int], _ setup: JSONValue, _ processor: JSONValue, _ config: JSONObject,
    _ rows: Int
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
      let token = setup["\(name)_token"]
      let text = token?.string ?? token?["content"]?.string
      if let flag = added(text, atEnd: name == "eos", by: processor)
        ?? setup["add_\(name)_token"]?.bool,
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

  /// Whether tokenizer.json puts a token in front of a text or behind it; `nil` where it has no steps
  /// that would.
  private static func added(_ token: String?, atEnd: Bool, by processor: JSONValue) -> Bool? {
    let steps =
      processor["type"]?.string == "Sequence"
      ? processor["processors"]?.array ?? [] : [processor]
    guard let token,
      let template = steps.first(where: { $0["type"]?.string == "TemplateProcessing" }),
      let single = template["single"]?.array
    else { return nil }
    let end = atEnd ? single.last : single.first
    return end?["SpecialToken"]?["id"]?.string == token
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

  /// tokenizer.json and tokenizer_config.json of a GGUF file's byte-level BPE, or tokenizer.model and
  /// tokenizer_config.json of its SentencePiece BPE; nothing where it holds neither, or splits texts by
  /// a pattern that is not known here.
  ///
  /// - Throws: `io.*`, `gguf.tokenizer` for lists that do not fit together.
  static func files(
    of source: GGUFReader, _ problems: inout [Diagnostic]
  ) throws(Diagnostic) -> [(name: String, bytes: [UInt8])] {
    func text(_ key: String) -> String? { source.values[key]?.json?.string }
    guard let kind = text("tokenizer.ggml.model"), !["none", "no_vocab"].contains(kind) else {
      return []
    }
    let pre = text("tokenizer.ggml.pre") ?? "default"
    if kind == "llama" { return try pieces(of: source, &problems) }
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
      } else if vocabulary.updateValue(.int(number), forKey: name) != nil {
        throw Diagnostic(
          code: "gguf.tokenizer", subject: "tokenizer.ggml.tokens",
          message: "holds \(shown(name)) twice, of which the second is token \(number)")
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
      "post_processor": template(source, pre, names),
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
    return [
      ("tokenizer.json", Array((JSONValue.object(tokenizer).text(indent: 1) + "\n").utf8)),
      setup("PreTrainedTokenizerFast", source, names),
    ]
  }

  /// The step that puts a first and a last token around texts, where llama.cpp would.
  private static func template(_ source: GGUFReader, _ pre: String, _ names: [String]) -> JSONValue
  {
    func token(_ name: String, by initial: Bool) -> (String, Int)? {
      let flag = source.values["tokenizer.ggml.add_\(name)_token"]?.json?.bool ?? initial
      let number = source.values["tokenizer.ggml.\(name)_token_id"]?.json?.int
      guard flag, let number, names.indices.contains(number) else { return nil }
      return (names[number], number)
    }
    // llama.cpp's own: Llama 3's texts begin with one.
    let (bos, eos) = (token("bos", by: pre == "llama-bpe"), token("eos", by: false))
    guard bos != nil || eos != nil else { return .null }
    func part(_ kind: String, _ id: String, _ type: Int) -> JSONValue {
      [kind: ["id": .string(id), "type_id": .int(type)]]
    }
    func around(_ text: String, _ type: Int) -> [JSONValue] {
      [
        bos.map { part("SpecialToken", $0.0, type) }, part("Sequence", text, type),
        eos.map { part("SpecialToken", $0.0, type) },
      ].compactMap { $0 }
    }
    var special: JSONObject = [:]
    for (name, number) in [bos, eos].compactMap({ $0 }) {
      special[name] = [
        "id": .string(name), "ids": [.int(number)], "tokens": [.string(name)],
      ]
    }
    return [
      "type": "TemplateProcessing", "single": .array(around("A", 0)),
      "pair": .array(around("A", 0) + around("B", 1)), "special_tokens": .object(special),
    ]
  }

  /// tokenizer.model of a SentencePiece BPE: its pieces, and the settings that the file has keys for.
  private static func pieces(
    of source: GGUFReader, _ problems: inout [Diagnostic]
  ) throws(Diagnostic) -> [(name: String, bytes: [UInt8])] {
    let tokens = try source.texts("tokenizer.ggml.tokens") ?? []
    let scores = try source.numbers("tokenizer.ggml.scores")?.compactMap(\.double) ?? []
    let types = try source.numbers("tokenizer.ggml.token_type")?.compactMap(\.int) ?? []
    guard scores.count == tokens.count, types.count == tokens.count, let names = strings(tokens)
    else {
      throw Diagnostic(
        code: "gguf.tokenizer", subject: "tokenizer.ggml.tokens",
        message: "does not fit scores and token_type, or is no UTF-8")
    }
    guard Set(names.map { TensorName($0) }).count == names.count,
      types.count(where: { $0 == 2 }) == 1
    else {
      problems.append(
        Diagnostic(
          .warning, code: "gguf.tokenizer-left", subject: "tokenizer.ggml.tokens",
          message: "holds a token twice, or not one token for the unknown, so that no "
            + "tokenizer.model is made of it",
          help: "take the tokenizer's files from the model that the GGUF file was made of"))
      return []
    }
    func number(_ key: String) -> Int? {
      source.values["tokenizer.ggml.\(key)_token_id"]?.json?.int
    }
    func flag(_ key: String) -> Bool? { source.values["tokenizer.ggml.\(key)"]?.json?.bool }
    if flag("remove_extra_whitespaces") == nil {
      problems.append(
        Diagnostic(
          .warning, code: "gguf.tokenizer-normalizer", subject: "tokenizer.model",
          message: "is made of the file's pieces and scores, and takes texts as llama.cpp does; "
            + "whether the original normalised them is not in the file",
          help: "take tokenizer.model from the model that the GGUF file was made of, if you have it"
        ))
    }
    let model = SentencePiece(
      tokens: tokens, scores: scores.map { Float($0) }, types: types.map { Int32(clamping: $0) },
      special: [
        ("unknown", number("unknown") ?? types.firstIndex(of: 2) ?? 0),
        ("bos", number("bos") ?? -1),
        ("eos", number("eos") ?? -1), ("padding", number("padding") ?? -1),
      ], addsPrefix: flag("add_space_prefix") ?? true,
      removesSpaces: flag("remove_extra_whitespaces") ?? false,
      rules: try source.numbers("tokenizer.ggml.precompiled_charsmap")?.compactMap {
        $0.int.map { UInt8(truncatingIfNeeded: $0) }
      } ?? [])
    return [("tokenizer.model", model.bytes), setup("LlamaTokenizer", source, names)]
  }

  /// tokenizer_config.json.
  private static func setup(
    _ kind: String, _ source: GGUFReader, _ names: [String]
  ) -> (name: String, bytes: [UInt8]) {
    var setup: JSONObject = ["tokenizer_class": .string(kind)]
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
    if let template = source.values["tokenizer.chat_template"]?.json?.string {
      setup["chat_template"] = .string(template)
    }
    return ("tokenizer_config.json", Array((JSONValue.object(setup).text(indent: 1) + "\n").utf8))
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
  private var removesSpaces = true
  /// Rules of normalisation, compiled.
  private var rules: [UInt8] = []
  private var special: [(key: String, number: Int)] = []

  /// Whether it changes texts before it takes them apart, in a way that llama.cpp does not.
  var normalizes: Bool { !rules.isEmpty || removesSpaces }

  init(
    tokens: [[UInt8]], scores: [Float], types: [Int32], special: [(key: String, number: Int)],
    addsPrefix: Bool, removesSpaces: Bool, rules: [UInt8]
  ) {
    // Rows behind the vocabulary, which `fields` filled up.
    var count = tokens.count
    while count > 0, types[count - 1] == 5, tokens[count - 1] == Array("[PAD\(count - 1)]".utf8) {
      count -= 1
    }
    self.tokens = Array(tokens[..<count])
    self.scores = Array(scores[..<count])
    self.types = Array(types[..<count])
    self.special = special
    self.addsPrefix = addsPrefix
    self.removesSpaces = removesSpaces
    self.rules = rules
    isBPE = true
  }

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
        for (field, value) in try Self.fields(normalizer) {
          switch (field, value) {
          case (2, .bytes(let bytes)): rules = Array(bytes)
          case (3, .number(let number)): addsPrefix = number != 0
          case (4, .number(let number)): removesSpaces = number != 0
          default: break
          }
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
    if !rules.isEmpty {
      fields.append(GGUFField("tokenizer.ggml.precompiled_charsmap", list: rules))
    }
    return fields
      + [
        GGUFField("tokenizer.ggml.add_space_prefix", .bool(addsPrefix)),
        GGUFField("tokenizer.ggml.remove_extra_whitespaces", .bool(removesSpaces)),
      ].compactMap { $0 }
  }

  /// The protocol buffer.
  var bytes: [UInt8] {
    var model: [UInt8] = []
    for (number, token) in tokens.enumerated() {
      var piece = Self.field(1, token)
      piece +=
        Self.varint(2 << 3 | 5)
        + (0..<4).map { UInt8(truncatingIfNeeded: scores[number].bitPattern >> (8 * $0)) }
      if types[number] != 1 { piece += Self.field(3, Int(types[number])) }
      model += Self.field(1, piece)
    }
    var trainer = Self.field(3, 2) + Self.field(4, tokens.count)
    if types.contains(6) { trainer += Self.field(35, 1) }
    for (key, field) in [("unknown", 40), ("bos", 41), ("eos", 42), ("padding", 43)] {
      trainer += Self.field(field, special.first { $0.key == key }?.number ?? -1)
    }
    let normalizer =
      Self.field(1, Array((rules.isEmpty ? "identity" : "user_defined").utf8))
      + Self.field(2, rules)
      + Self.field(3, addsPrefix ? 1 : 0) + Self.field(4, removesSpaces ? 1 : 0)
    return model + Self.field(2, trainer) + Self.field(3, normalizer)
  }

  private static func varint(_ value: Int) -> [UInt8] {
    var rest = UInt64(bitPattern: Int64(value))
    var bytes: [UInt8] = []
    while rest > 127 {
      bytes.append(UInt8(rest & 127) | 128)
      rest >>= 7
    }
    return bytes + [UInt8(rest)]
  }

  private static func field(_ number: Int, _ value: Int) -> [UInt8] {
    varint(number << 3) + varint(value)
  }

  private static func field(_ number: Int, _ bytes: [UInt8]) -> [UInt8] {
    varint(number << 3 | 2) + varint(bytes.count) + bytes
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
