import Checkpoints
import Conversion
import Hub
import OrderedCollections
import TestSupport
import Tensors
import Testing
import WeighbridgeKit

#if canImport(Glibc)
  import Glibc
#elseif canImport(Musl)
  import Musl
#else
  import Darwin
#endif

@Suite("GGUF: rotary frequencies, blocks, parts, SentencePiece")
struct GGUFMoreTests {
  /// A LLaMA of random numbers: widths are multiples of 32, so that Q8_0 holds all of it.
  private func llama(_ more: JSONObject, at path: String) {
    var random = SeededRandom(5)
    var tensors: [String: StoredCheckpoint.Tensor] = [:]
    func put(_ name: String, _ shape: [Int]) {
      tensors[name] = tensor(
        shape, (0..<shape.reduce(1, *)).map { _ in Float.random(in: -1...1, using: &random) })
    }
    put("model.embed_tokens.weight", [9, 32])
    put("model.norm.weight", [32])
    put("lm_head.weight", [9, 32])
    for i in 0..<2 {
      for (name, shape) in [
        ("input_layernorm.weight", [32]), ("post_attention_layernorm.weight", [32]),
        ("self_attn.q_proj.weight", [64, 32]), ("self_attn.k_proj.weight", [32, 32]),
        ("self_attn.v_proj.weight", [32, 32]), ("self_attn.o_proj.weight", [32, 64]),
        ("mlp.gate_proj.weight", [64, 32]), ("mlp.up_proj.weight", [64, 32]),
        ("mlp.down_proj.weight", [32, 64]),
      ] { put("model.layers.\(i).\(name)", shape) }
    }
    var config: JSONObject = [
      "model_type": "llama", "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2,
      "num_attention_heads": 2, "num_key_value_heads": 1, "head_dim": 32, "vocab_size": 9,
      "rms_norm_eps": 1e-5, "rope_theta": 500.0, "max_position_embeddings": 256,
      "tie_word_embeddings": false,
    ]
    config.merge(more) { _, new in new }
    write(tensors, config: config, to: path)
  }

  /// A file with these tensors and other keys or values.
  private func rewritten(
    _ reader: GGUFReader, to path: String, without dropped: (String) -> Bool,
    values: [String: [Float]] = [:]
  ) throws {
    var manifest = OutputManifest(
      tensors: reader.tensors.map {
        OutputTensor(name: $0.name, dtype: $0.dtype, shape: $0.shape, byteCount: $0.byteCount)
      })
    manifest.fields = try reader.fields().filter { !dropped($0.key) }
    let directory = path.split(separator: "/").dropLast().joined(separator: "/")
    let writer = try GGUFWriter(
      manifest: manifest, directory: "/" + directory,
      fileName: String(path.split(separator: "/").last!))
    for (number, info) in reader.tensors.enumerated() {
      let own = values[info.name.string].map { values in
        values.flatMap { v in (0..<4).map { UInt8(truncatingIfNeeded: v.bitPattern >> ($0 * 8)) } }
      }
      try (own ?? reader.bytes(of: number)).withUnsafeBytes {
        try writer.write(number, at: 0, $0)
      }
    }
    try writer.finish(sync: false)
  }

  private let scaling: JSONValue = [
    "rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
    "original_max_position_embeddings": 128,
  ]

  /// llama.cpp's converter, step by step in float32.
  private var divisors: [Float] {
    stride(from: 0, to: 32, by: 2).map { i in
      let frequency = 1 / powf(500, Float(i) / 32)
      let length = 2 * Float.pi / frequency
      if length < 128 / 4 { return 1 }
      if length > 128 / 1 { return 8 }
      let smooth = (128 / length - 1) / (4 - 1)
      return 1 / ((1 - smooth) / 8 + smooth)
    }
  }

  @Test("Llama 3's scaling is llama.cpp's table of divisors, and comes back as its numbers")
  func llama3() throws {
    let directory = TemporaryDirectory()
    llama(["rope_scaling": scaling], at: directory.file("in"))
    let written = try Converted(directory.file("in"), to: "gguf")
    #expect(written.result.plan.exactness == .bitwise)
    let table = try #require(written.checkpoint.tensors["rope_freqs.weight"])
    #expect(table.shape == [16])
    #expect(table.values.first == 1 && table.values.last == 8)
    #expect(Set(table.values).count > 4)
    for (a, b) in zip(table.values, divisors) { #expect(abs(a - b) <= 2e-6 * b) }
    #expect(written.config["llama.rope.scaling.type"] == nil)
    let back = try Converted(written.path, to: "hf")
    #expect(back.config["rope_parameters"]?["rope_type"] == "llama3")
    #expect(back.checkpoint.tensors == (try StoredCheckpoint(directory.file("in"))).tensors)
    // A file of llama.cpp's own converter has the table alone, in float32 all the way.
    let reader = try GGUFReader(path: written.path + "/model.gguf")
    let path = directory.file("foreign.gguf")
    try rewritten(
      reader, to: path, without: { $0.hasPrefix("weighbridge.") },
      values: ["rope_freqs.weight": divisors])
    let foreign = try Converted(path, to: "hf")
    let found = try #require(foreign.config["rope_parameters"])
    for key in [
      "factor", "low_freq_factor", "high_freq_factor", "original_max_position_embeddings",
    ] { #expect(found[key]?.double == scaling[key]?.double, "\(key)") }
    // No scaling of Llama 3's has this table.
    var odd = divisors
    odd[9] *= 1.01
    try rewritten(
      reader, to: directory.file("odd.gguf"), without: { $0.hasPrefix("weighbridge.") },
      values: ["rope_freqs.weight": odd])
    let problems = try refusal { _ = try Converted(directory.file("odd.gguf"), to: "hf") }
    #expect(problems.map(\.subject) == ["llama.rope.freq_base"])
    // Ones divide nothing.
    try rewritten(
      reader, to: directory.file("ones.gguf"), without: { $0.hasPrefix("weighbridge.") },
      values: ["rope_freqs.weight": [Float](repeating: 1, count: 16)])
    let ones = try Converted(directory.file("ones.gguf"), to: "hf")
    #expect(ones.config["rope_parameters"]?["rope_type"] == "default")
  }

  @Test("an original length that is no power of two is told from the table")
  func oddLength() throws {
    let directory = TemporaryDirectory()
    llama(
      [
        "rope_scaling": [
          "rope_type": "llama3", "factor": 6.0, "low_freq_factor": 1.0, "high_freq_factor": 3.5,
          "original_max_position_embeddings": 100,
        ]
      ], at: directory.file("in"))
    let written = try Converted(directory.file("in"), to: "gguf")
    let path = directory.file("foreign.gguf")
    try rewritten(
      try GGUFReader(path: written.path + "/model.gguf"), to: path,
      without: { $0.hasPrefix("weighbridge.") })
    let found = try #require(try Converted(path, to: "hf").config["rope_parameters"])
    #expect(found["factor"] == 6.0 && found["high_freq_factor"] == 3.5)
    #expect(found["original_max_position_embeddings"] == 100)
  }

  @Test("yarn is keys; what llama.cpp takes no key for is refused")
  func yarn() throws {
    let directory = TemporaryDirectory()
    let plain: JSONObject = [
      "rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 64,
    ]
    llama(["rope_scaling": .object(plain)], at: directory.file("in"))
    let written = try Converted(directory.file("in"), to: "gguf")
    #expect(written.config["llama.rope.scaling.type"] == "yarn")
    #expect(written.config["llama.rope.scaling.factor"] == 4.0)
    #expect(written.config["llama.rope.scaling.original_context_length"] == 64)
    #expect(written.checkpoint.tensors["rope_freqs.weight"] == nil)
    let back = try Converted(written.path, to: "hf")
    #expect(back.config["rope_parameters"]?["rope_type"] == "yarn")
    #expect(back.config["rope_parameters"]?["factor"] == 4.0)
    for (key, value) in [
      "beta_fast": 16.0, "beta_slow": 2.0, "attention_factor": 1.2, "truncate": false,
    ] as JSONObject {
      var own = plain
      own[key] = value
      llama(["rope_scaling": .object(own)], at: directory.file("in-\(key)"))
      let problems = try refusal { _ = try Converted(directory.file("in-\(key)"), to: "gguf") }
      #expect(problems.map(\.subject) == ["attention.rope_scaling"], "\(key)")
    }
  }

  @Test("blocks stay the bytes that they are from GGUF to GGUF, in one file and in parts")
  func blocks() throws {
    let directory = TemporaryDirectory()
    llama([:], at: directory.file("in"))
    let first = try Converted(directory.file("in"), to: "gguf") { $0.blocks = .q8_0 }
    let bytes = Files.read(first.path + "/model.gguf")
    let again = try Converted(first.path, to: "gguf") { $0.writesDigests = true }
    #expect(again.result.plan.exactness == .bitwise)
    #expect(Files.read(again.path + "/model.gguf") == bytes)
    let parts = try Converted(first.path, to: "gguf") { $0.maxShardBytes = 8000 }
    #expect(parts.names.count { $0.hasSuffix(".gguf") } > 2)
    #expect(parts.checkpoint.tensors == first.checkpoint.tensors)
    let reader = try GGUFReader(path: parts.path + "/" + parts.names.first!)
    #expect(reader.tensors.count { $0.typeName == "Q8_0" } == 16)
    // Another type is another matter.
    let plain = try Converted(first.path, to: "gguf") { $0.dtype = .f32 }
    #expect(plain.result.plan.exactness == .exact)
    #expect(
      try GGUFReader(path: plain.path + "/model.gguf").tensors.allSatisfy { $0.typeName == "F32" })
  }

  @Test("parts that are written one after another are the parts that are written at once")
  func resumedParts() throws {
    let directory = TemporaryDirectory()
    llama([:], at: directory.file("in"))
    let once = try Converted(directory.file("in"), to: "gguf") { $0.maxShardBytes = 20_000 }
    let resumed = try Converted(directory.file("in"), to: "gguf") {
      $0.maxShardBytes = 20_000
      $0.resumes = true
      $0.writesDigests = true
    }
    let names = once.names.filter { $0.hasSuffix(".gguf") }
    #expect(names.count > 2)
    #expect(resumed.names.filter { $0.hasSuffix(".gguf") } == names)
    #expect(!resumed.names.contains { $0.hasSuffix(".index.json") })
    for name in names {
      #expect(Files.read(resumed.path + "/" + name) == Files.read(once.path + "/" + name))
    }
  }

  // MARK: SentencePiece

  /// A field of a protocol buffer: a whole number.
  private func field(_ number: Int, _ value: Int) -> [UInt8] {
    func varint(_ value: UInt64) -> [UInt8] {
      value < 128
        ? [UInt8(value)] : [UInt8(truncatingIfNeeded: value) | 128] + varint(value >> 7)
    }
    return varint(UInt64(number) << 3) + varint(UInt64(bitPattern: Int64(value)))
  }

  /// A field of fewer than 128 bytes.
  private func field(_ number: Int, _ bytes: [UInt8]) -> [UInt8] {
    [UInt8(number << 3 | 2), UInt8(bytes.count)] + bytes
  }

  @Test("SentencePiece's BPE goes along and comes back: pieces, scores, kinds, special tokens")
  func sentencePiece() throws {
    let directory = TemporaryDirectory()
    llama([:], at: directory.file("in"))
    let pieces: [(String, Float, Int)] = [
      ("<unk>", 0, 2), ("<s>", 0, 3), ("</s>", 0, 3), ("<0x41>", 0, 6), ("▁a", -1.5, 1),
      ("b", -2, 1), ("<x>", 0, 4),
    ]
    var model: [UInt8] = []
    for (text, score, kind) in pieces {
      var piece = field(1, Array(text.utf8))
      piece += [0x15] + (0..<4).map { UInt8(truncatingIfNeeded: score.bitPattern >> ($0 * 8)) }
      if kind != 1 { piece += field(3, kind) }
      model += field(1, piece)
    }
    let body = model
    model += field(2, field(3, 2) + field(40, 0) + field(43, -1))
    model += field(3, field(2, [9, 8, 7]) + field(3, 1) + field(4, 0))
    Files.write(model, to: directory.file("in/tokenizer.model"))
    let written = try Converted(directory.file("in"), to: "gguf")
    // llama.cpp knows no rules of normalisation.
    #expect(written.result.problems.map(\.code) == ["gguf.normalizer"])
    #expect(written.config["tokenizer.ggml.model"] == "llama")
    #expect(written.config["tokenizer.ggml.precompiled_charsmap"] == [9, 8, 7])
    // The file alone.
    Files.write(Files.read(written.path + "/model.gguf"), to: directory.file("model.gguf"))
    let back = try Converted(directory.file("model.gguf"), to: "hf")
    #expect(back.result.problems == [])
    let made = Files.read(back.path + "/tokenizer.model")
    // The pieces are byte for byte what they were: rows behind the vocabulary are gone.
    #expect(made.starts(with: body))
    #expect(made.count > model.count)
    Files.makeDirectory(directory.file("again"))
    for name in ["model.safetensors", "config.json", "tokenizer.model"] {
      Files.write(Files.read(back.path + "/" + name), to: directory.file("again/" + name))
    }
    let again = try Converted(directory.file("again"), to: "gguf")
    let (a, b) = (
      try GGUFReader(path: written.path + "/model.gguf"),
      try GGUFReader(path: again.path + "/model.gguf")
    )
    for key in ["tokens", "scores", "token_type"].map({ "tokenizer.ggml." + $0 }) {
      #expect(try a.texts(key) == b.texts(key) && a.numbers(key) == b.numbers(key), "\(key)")
    }
    for key in ["bos_token_id", "eos_token_id", "unknown_token_id", "add_space_prefix"] {
      #expect(
        written.config["tokenizer.ggml.\(key)"] == again.config["tokenizer.ggml.\(key)"], "\(key)")
    }
  }

  @Test("Llama 3's first token comes back as a step of tokenizer.json")
  func template() throws {
    let directory = TemporaryDirectory()
    llama([:], at: directory.file("in"))
    var tokenizer = GGUFTests.tokenizer(["type": "ByteLevel", "add_prefix_space": false])
    tokenizer["post_processor"] = [
      "type": "TemplateProcessing",
      "single": [
        ["SpecialToken": ["id": "<end>", "type_id": 0]], ["Sequence": ["id": "A", "type_id": 0]],
      ],
    ]
    Files.write(JSONValue.object(tokenizer).text(), to: directory.file("in/tokenizer.json"))
    Files.write(
      "{\"bos_token\": \"<end>\", \"eos_token\": \"<x>\"}",
      to: directory.file("in/tokenizer_config.json"))
    let written = try Converted(directory.file("in"), to: "gguf")
    #expect(written.config["tokenizer.ggml.add_bos_token"] == true)
    #expect(written.config["tokenizer.ggml.add_eos_token"] == false)
    Files.write(Files.read(written.path + "/model.gguf"), to: directory.file("model.gguf"))
    let back = try Converted(directory.file("model.gguf"), to: "hf")
    let single = try readConfig(back.path + "/tokenizer.json")["post_processor"]?["single"]?.array
    #expect(single?.count == 2)
    #expect(single?.first?["SpecialToken"]?["id"] == "<end>")
  }
}
