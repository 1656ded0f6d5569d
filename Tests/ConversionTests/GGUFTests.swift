import Checkpoints
import Conversion
import Hub
import OrderedCollections
import TestSupport
import Tensors
import Testing
import WeighbridgeKit

/// A GGUF file that a conversion wrote.
private struct WrittenGGUF {
  let result: ConversionResult
  let reader: GGUFReader
  let path: String
  private let directory: TemporaryDirectory

  init(
    _ source: String, config: String? = nil, _ change: (inout ConversionRequest) -> Void = { _ in }
  ) throws {
    directory = TemporaryDirectory()
    path = directory.file("out")
    var request = ConversionRequest(
      input: CheckpointInput(path: source, configPath: config), destination: path, to: "gguf")
    request.sync = false
    change(&request)
    result = try weighbridge.convert(request)
    reader = try GGUFReader(path: path + "/model.gguf")
  }

  var config: JSONObject { reader.attachments.object ?? [:] }

  /// A tensor's numbers, of whatever type.
  func values(_ name: String) throws -> [Float] {
    let number = try #require(reader.tensors.firstIndex { $0.name.string == name }, "\(name)")
    let info = reader.tensors[number]
    return StoredCheckpoint.Tensor(
      dtype: info.dtype, shape: info.shape.dims, bytes: try reader.bytes(of: number)
    ).values
  }

  func info(_ name: String) throws -> TensorInfo {
    try #require(reader.tensors.first { $0.name.string == name }, "\(name)")
  }
}

@Suite("GGUF")
struct GGUFTests {
  static let mamba = ModelFixture.named("mamba-tied/hf")

  @Test("a Mamba has llama.cpp's names, keys and types; only A is rounded")
  func mamba() throws {
    let source = try StoredCheckpoint(Self.mamba.path)
    let written = try WrittenGGUF(Self.mamba.path)
    #expect(
      written.result.plan.reasons == [
        Reason(
          .rounding,
          "A = -exp(A_log) is written in place of A_log: computed in float64 and rounded once, in 3 tensors"
        )
      ])
    let names: KeyValuePairs<String, String> = [
      "backbone.embeddings.weight": "token_embd.weight",
      "backbone.norm_f.weight": "output_norm.weight",
      "backbone.layers.1.norm.weight": "blk.1.attn_norm.weight",
      "backbone.layers.1.mixer.in_proj.weight": "blk.1.ssm_in.weight",
      "backbone.layers.1.mixer.conv1d.weight": "blk.1.ssm_conv1d.weight",
      "backbone.layers.1.mixer.conv1d.bias": "blk.1.ssm_conv1d.bias",
      "backbone.layers.1.mixer.x_proj.weight": "blk.1.ssm_x.weight",
      "backbone.layers.1.mixer.dt_proj.weight": "blk.1.ssm_dt.weight",
      "backbone.layers.1.mixer.dt_proj.bias": "blk.1.ssm_dt.bias",
      "backbone.layers.1.mixer.D": "blk.1.ssm_d",
      "backbone.layers.1.mixer.out_proj.weight": "blk.1.ssm_out.weight",
    ]
    for (old, new) in names {
      #expect(try written.values(new) == source.tensors[old]?.values, "\(new)")
    }
    #expect(try written.info("blk.1.ssm_conv1d.weight").shape == [96, 4])
    // A tied head is left out, and every other tensor is there.
    #expect(written.reader.tensors.count == 3 * 10 + 2)
    let log = try #require(source.tensors["backbone.layers.1.mixer.A_log"]).values
    let expected = log.map { Float(-exponential(Double($0))) }
    #expect(try written.values("blk.1.ssm_a") == expected)
    #expect(try written.info("blk.1.ssm_a").shape == [96, 16])
    for (key, value) in [
      "general.architecture": "mamba", "general.file_type": 0, "mamba.embedding_length": 48,
      "mamba.block_count": 3, "mamba.vocab_size": 128, "mamba.ssm.inner_size": 96,
      "mamba.ssm.state_size": 16, "mamba.ssm.conv_kernel": 4, "mamba.ssm.time_step_rank": 3,
      "mamba.ssm.dt_b_c_rms": false, "mamba.attention.layer_norm_rms_epsilon": 1e-5,
      "mamba.context_length": 1_048_576, "mamba.feed_forward_length": 0,
      "mamba.attention.head_count": 0, "tokenizer.ggml.model": "none",
    ] as JSONObject {
      #expect(written.config[key] == value, "\(key)")
    }
    #expect(written.result.problems.map(\.code) == ["gguf.no-tokenizer"])
    // The config is in the file, and nothing that says the same stands beside it.
    #expect(!Files.names(in: written.path).contains("config.json"))
  }

  /// e^x without the C library's: a series on a small argument, squared back.
  private func exponential(_ x: Double) -> Double {
    let small = x / 1024
    var term = 1.0
    var sum = 1.0
    for n in 1...12 {
      term *= small / Double(n)
      sum += term
    }
    for _ in 0..<10 { sum *= sum }
    return sum
  }

  @Test("there and back: every tensor but A has its bits, and A is off by less than its last bit")
  func back() throws {
    let first = try WrittenGGUF(Self.mamba.path)
    let hf = try Converted(first.path, to: "hf")
    #expect(hf.result.plan.exactness == .rounding)
    let source = try StoredCheckpoint(Self.mamba.path)
    #expect(Set(hf.checkpoint.tensors.keys) == Set(source.tensors.keys))
    for (name, tensor) in source.tensors {
      let found = try #require(hf.checkpoint.tensors[name])
      if name.hasSuffix("A_log") {
        for (a, b) in zip(found.values, tensor.values) { #expect(abs(a - b) <= 2.5e-7) }
      } else {
        #expect(found == tensor, "\(name)")
      }
    }
    for key in ["state_size", "hidden_size", "time_step_rank", "model_type", "layer_norm_epsilon"] {
      #expect(hf.config[key] == (try readConfig(Self.mamba.path + "/config.json"))[key], "\(key)")
    }
    let again = try WrittenGGUF(hf.path)
    for info in first.reader.tensors where !info.name.string.hasSuffix("ssm_a") {
      #expect(try again.values(info.name.string) == first.values(info.name.string))
    }
  }

  @Test("a bfloat16 model comes back bitwise, A_log included")
  func bfloat16() throws {
    let half = try Converted(Self.mamba.path, to: "hf") {
      $0.dtype = .bf16
      $0.castsAll = true
    }
    let gguf = try WrittenGGUF(half.path)
    #expect(gguf.config["general.file_type"] == 32)
    #expect(try gguf.info("blk.0.ssm_in.weight").dtype == .bf16)
    // llama.cpp wants float32 of vectors, of A and D, and of the convolution.
    for name in ["ssm_a", "ssm_d", "ssm_dt.bias", "ssm_conv1d.weight", "attn_norm.weight"] {
      #expect(try gguf.info("blk.0.\(name)").dtype == .f32, "\(name)")
    }
    let back = try Converted(gguf.path, to: "hf") {
      $0.dtype = .bf16
      $0.castsAll = true
    }
    #expect(back.checkpoint.tensors == half.checkpoint.tensors)
  }

  @Test("LLaMA's queries and keys are rotated in pairs side by side")
  func llama() throws {
    let fixture = ModelFixture.named("lit-llama-full/lit_gpt")
    let written = try WrittenGGUF(fixture.path)
    let hf = try Converted(fixture.path, to: "hf")
    for (name, heads) in [("q", 4), ("k", 2)] {
      let matrix = try #require(
        hf.checkpoint.tensors["model.layers.1.self_attn.\(name)_proj.weight"])
      let found = try written.values("blk.1.attn_\(name).weight")
      let width = matrix.shape[1]
      let dim = matrix.shape[0] / heads
      for head in 0..<heads {
        for i in 0..<dim / 2 {
          for (half, place) in [(i, 2 * i), (i + dim / 2, 2 * i + 1)] {
            let a = (head * dim + half) * width
            let b = (head * dim + place) * width
            #expect(Array(matrix.values[a..<a + width]) == Array(found[b..<b + width]))
          }
        }
      }
    }
    #expect(
      try written.values("blk.1.attn_v.weight")
        == hf.checkpoint.tensors["model.layers.1.self_attn.v_proj.weight"]?.values)
    #expect(written.config["llama.attention.head_count_kv"] == 2)
    // lit_gpt's tables in bfloat16 are stated, nothing else is rounded.
    #expect(written.result.plan.reasons.map(\.exactness) == [.rounding])
    // And back.
    let back = try Converted(written.path, to: "hf")
    #expect(back.result.plan.exactness == .bitwise)
    #expect(back.checkpoint.tensors == hf.checkpoint.tensors)
  }

  @Test("Mamba-2's vectors have llama.cpp's second extents, and come back")
  func mamba2() throws {
    // d_model 8, 4 heads of 4, 2 groups, state 3, kernel 2.
    var random = SeededRandom(3)
    func made(_ shape: [Int]) -> StoredCheckpoint.Tensor {
      tensor(shape, (0..<shape.reduce(1, *)).map { _ in Float.random(in: -1...1, using: &random) })
    }
    var tensors = [
      "backbone.embeddings.weight": made([10, 8]), "backbone.norm_f.weight": made([8]),
      "lm_head.weight": made([10, 8]),
    ]
    for i in 0..<2 {
      let prefix = "backbone.layers.\(i)."
      tensors[prefix + "norm.weight"] = made([8])
      for (name, shape) in [
        "in_proj.weight": [16 + 16 + 12 + 4, 8], "conv1d.weight": [28, 1, 2], "conv1d.bias": [28],
        "dt_bias": [4], "A_log": [4], "D": [4], "norm.weight": [16], "out_proj.weight": [8, 16],
      ] {
        tensors[prefix + "mixer." + name] = made(shape)
      }
    }
    let directory = TemporaryDirectory()
    let config: JSONObject = [
      "model_type": "mamba2", "hidden_size": 8, "num_hidden_layers": 2, "vocab_size": 10,
      "state_size": 3, "num_heads": 4, "head_dim": 4, "n_groups": 2, "conv_kernel": 2, "expand": 2,
      "tie_word_embeddings": false,
    ]
    write(tensors, config: config, to: directory.file("source"))
    let written = try WrittenGGUF(directory.file("source"))
    #expect(try written.info("blk.1.ssm_a").shape == [4, 1])
    #expect(try written.info("blk.1.ssm_d").shape == [4, 1])
    #expect(try written.info("blk.1.ssm_norm.weight").shape == [2, 8])
    #expect(try written.info("blk.1.ssm_conv1d.weight").shape == [28, 2])
    #expect(
      try written.values("blk.1.ssm_norm.weight")
        == tensors["backbone.layers.1.mixer.norm.weight"]?.values)
    #expect(try written.values("output.weight") == tensors["lm_head.weight"]?.values)
    #expect(written.config["mamba2.ssm.group_count"] == 2)
    #expect(written.config["mamba2.ssm.time_step_rank"] == 4)
    var request = ConversionRequest(
      input: CheckpointInput(path: written.path), destination: directory.file("back"), to: "hf")
    request.sync = false
    let result = try weighbridge.convert(request)
    #expect(result.plan.config["tie_word_embeddings"] == false)
    #expect(result.plan.config["num_heads"] == 4)
    let back = try StoredCheckpoint(directory.file("back"))
    #expect(Set(back.tensors.keys) == Set(tensors.keys))
    for (name, tensor) in tensors where !name.hasSuffix("A_log") {
      #expect(back.tensors[name] == tensor, "\(name)")
    }
  }

  @Test("Q8_0 where rows divide by 32, F16 where they do not, float32 where llama.cpp wants it")
  func q8() throws {
    let written = try WrittenGGUF(Self.mamba.path) { $0.blocks = .q8_0 }
    #expect(written.config["general.file_type"] == 7)
    #expect(written.config["general.quantization_version"] == 2)
    for (name, type) in [
      "token_embd.weight": "F16", "blk.0.ssm_in.weight": "F16", "blk.0.ssm_dt.weight": "F16",
      "blk.0.ssm_out.weight": "Q8_0", "blk.0.ssm_x.weight": "Q8_0", "blk.0.ssm_a": "F32",
      "blk.0.ssm_conv1d.weight": "F32", "output_norm.weight": "F32",
    ] {
      #expect(try written.info(name).typeName == type, "\(name)")
    }
    let source = try StoredCheckpoint(Self.mamba.path)
    let numbers = try #require(source.tensors["backbone.layers.0.mixer.out_proj.weight"]).values
    let found = try written.values("blk.0.ssm_out.weight")
    for start in stride(from: 0, to: numbers.count, by: 32) {
      let most = numbers[start..<start + 32].map(\.magnitude).max() ?? 0
      for i in start..<start + 32 {
        // Half a step, and the scale's own rounding.
        #expect(abs(numbers[i] - found[i]) <= most / 127 * 0.5 + most * 0x1p-11)
      }
    }
    #expect(
      failure {
        _ = try Converted(Self.mamba.path, to: "hf") { $0.blocks = .q8_0 }
      }.map(\.code) == ["convert.blocks"])
  }

  @Test(
    "what no architecture of llama.cpp holds is refused by name",
    arguments: [
      ("gla-base/fla", "convert.no-such-mixer", "gla"),
      ("retnet-base/fla", "convert.no-such-mixer", "retention"),
      ("retnet-torchscale/torchscale", "convert.no-such-mixer", "retention"),
      ("samba-fla/fla", "convert.inexpressible", "attention.window"),
      ("lit-samba/lit_gpt", "convert.inexpressible", "attention.window"),
      ("mamba-bias-untied/hf", "convert.no-place", "in_proj.bias"),
      ("lit-llama-mqa-bf16/lit_gpt", "convert.inexpressible", "attention.window"),
    ])
  func refused(name: String, code: String, what: String) throws {
    let problems = try refusal { _ = try WrittenGGUF(Fixtures.path("models/\(name)")) }
    #expect(problems.contains { $0.code == code && "\($0.subject) \($0.message)".contains(what) })
  }

  @Test("an inner width other than twice the model's is refused, with llama.cpp's key")
  func expand() throws {
    var random = SeededRandom(4)
    func made(_ shape: [Int]) -> StoredCheckpoint.Tensor {
      tensor(shape, (0..<shape.reduce(1, *)).map { _ in Float.random(in: -1...1, using: &random) })
    }
    let directory = TemporaryDirectory()
    var tensors = [
      "backbone.embeddings.weight": made([6, 4]), "backbone.norm_f.weight": made([4]),
    ]
    for (name, shape) in [
      "norm.weight": [4], "mixer.in_proj.weight": [24, 4], "mixer.conv1d.weight": [12, 1, 4],
      "mixer.conv1d.bias": [12], "mixer.x_proj.weight": [5, 12], "mixer.dt_proj.weight": [12, 1],
      "mixer.dt_proj.bias": [12], "mixer.A_log": [12, 2], "mixer.D": [12],
      "mixer.out_proj.weight": [4, 12],
    ] {
      tensors["backbone.layers.0." + name] = made(shape)
    }
    write(
      tensors,
      config: [
        "model_type": "mamba", "hidden_size": 4, "num_hidden_layers": 1, "vocab_size": 6,
        "state_size": 2, "expand": 3, "time_step_rank": 1,
      ], to: directory.file("source"))
    let problems = try refusal { _ = try WrittenGGUF(directory.file("source")) }
    #expect(problems.map(\.subject) == ["mamba.ssm.inner_size"])
  }

  @Test("A that is not below 0 is never taken to a logarithm")
  func positive() throws {
    let written = try WrittenGGUF(Self.mamba.path)
    let path = written.path + "/model.gguf"
    var bytes = Files.read(path)
    let number = try #require(written.reader.tensors.firstIndex { $0.name == "blk.2.ssm_a" })
    let place = try #require(written.reader.tensors[number].extent).offset
    // The sign of the sixth number.
    bytes[place + 23] ^= 0x80
    let directory = TemporaryDirectory()
    Files.write(bytes, to: directory.file("positive.gguf"))
    for target in ["hf", "gguf"] {
      let problems = failure {
        _ = try Converted(directory.file("positive.gguf"), to: target)
      }
      #expect(problems.map(\.code) == ["convert.decay"], "\(target)")
      #expect(problems.first?.subject == "blk.2.ssm_a")
    }
  }

  @Test("candle gets mamba_ssm's names in safetensors; a head of its own is refused")
  func candle() throws {
    let written = try Converted(Self.mamba.path, to: "candle")
    #expect(written.names.contains("model.safetensors"))
    #expect(
      written.config == [
        "d_model": 48, "n_layer": 3, "vocab_size": 128, "pad_vocab_size_multiple": 8,
      ])
    let source = try StoredCheckpoint(Self.mamba.path)
    #expect(
      written.checkpoint.tensors["backbone.embedding.weight"]
        == source.tensors["backbone.embeddings.weight"])
    #expect(written.checkpoint.tensors["lm_head.weight"] == nil)
    let problems = try refusal {
      _ = try Converted(ModelFixture.named("mamba-bias-untied/mamba_ssm").path, to: "candle")
    }
    #expect(problems.contains { $0.subject == "tied" })
  }

  @Test("GGUF's names and its container go together")
  func containers() {
    for (to, container) in [("hf", Container.gguf), ("gguf", .safetensors)] {
      let problems = failure {
        _ = try Converted(Self.mamba.path, to: to) { $0.container = container }
      }
      #expect(problems.map(\.code) == ["convert.container"])
    }
  }

  @Test("a GGUF file written again keeps its keys and bytes, in other parts too")
  func same() throws {
    let directory = TemporaryDirectory()
    let first = try WrittenGGUF(Self.mamba.path)
    // Keys of other tools stay.
    var manifest = OutputManifest(
      tensors: first.reader.tensors.map {
        OutputTensor(name: $0.name, dtype: $0.dtype, shape: $0.shape, byteCount: $0.byteCount)
      })
    manifest.fields = try first.reader.fields() + [GGUFField("other.tool", 5)!]
    let writer = try GGUFWriter(
      manifest: manifest, directory: directory.path, fileName: "keys.gguf")
    for number in first.reader.tensors.indices {
      try first.reader.bytes(of: number).withUnsafeBytes { try writer.write(number, at: 0, $0) }
    }
    try writer.finish(sync: false)
    let again = try WrittenGGUF(directory.file("keys.gguf"))
    #expect(again.result.plan.exactness == .bitwise)
    #expect(again.config["other.tool"] == 5)
    #expect(Array(again.config.keys) == Array(first.config.keys) + ["other.tool"])
    let rows = try WrittenGGUF(directory.file("keys.gguf")) { $0.vocabularyRows = 130 }
    #expect(rows.config["mamba.vocab_size"] == 130)
    #expect(try rows.info("token_embd.weight").shape == [130, 48])
    for info in first.reader.tensors {
      #expect(try again.values(info.name.string) == first.values(info.name.string))
    }
  }

  // MARK: Tokenizers

  /// A byte-level BPE of three letters, a merge and two added tokens.
  static func tokenizer(_ pre: JSONValue, normalizer: JSONValue = .null) -> JSONObject {
    [
      "version": "1.0", "normalizer": normalizer, "pre_tokenizer": pre,
      "added_tokens": [
        ["id": 5, "content": "<end>", "special": true],
        ["id": 6, "content": "<x>", "special": false],
      ],
      "model": [
        "type": "BPE", "vocab": ["a": 0, "b": 1, "c": 2, "ab": 3, "abc": 4],
        "merges": ["a b", ["ab", "c"]],
      ],
    ]
  }

  private func withTokenizer(_ files: [String: JSONObject]) throws -> WrittenGGUF {
    let directory = TemporaryDirectory()
    let path = directory.file("source")
    Files.makeDirectory(path)
    for name in ["model.safetensors", "config.json"] {
      Files.write(Files.read(Self.mamba.path + "/" + name), to: path + "/" + name)
    }
    for (name, object) in files {
      Files.write(JSONValue.object(object).text(), to: path + "/" + name)
    }
    return try WrittenGGUF(path)
  }

  @Test("a byte-level tokenizer goes along, padded to the embedding's rows, and comes back")
  func tokenizer() throws {
    let written = try withTokenizer([
      "tokenizer.json": Self.tokenizer(["type": "ByteLevel", "add_prefix_space": false]),
      "tokenizer_config.json": ["eos_token": ["content": "<end>"], "add_bos_token": false],
    ])
    #expect(written.result.problems == [])
    #expect(written.config["tokenizer.ggml.model"] == "gpt2")
    #expect(written.config["tokenizer.ggml.pre"] == "gpt-2")
    #expect(written.config["tokenizer.ggml.eos_token_id"] == 5)
    #expect(written.config["tokenizer.ggml.add_bos_token"] == false)
    let tokens = try #require(try written.reader.texts("tokenizer.ggml.tokens"))
    #expect(
      tokens.prefix(8).map { String(decoding: $0, as: Unicode.UTF8.self) }
        == ["a", "b", "c", "ab", "abc", "<end>", "<x>", "[PAD7]"])
    #expect(tokens.count == 128)
    let types = try #require(try written.reader.numbers("tokenizer.ggml.token_type"))
    #expect(Array(types.prefix(8)) == [1, 1, 1, 1, 1, 3, 4, 5])
    let merges = try #require(try written.reader.texts("tokenizer.ggml.merges"))
    #expect(merges.map { String(decoding: $0, as: Unicode.UTF8.self) } == ["a b", "ab c"])

    // The file alone, without the tokenizer's own beside it.
    let directory = TemporaryDirectory()
    Files.write(Files.read(written.path + "/model.gguf"), to: directory.file("model.gguf"))
    let back = try Converted(directory.file("model.gguf"), to: "hf")
    let tokenizer = try readConfig(back.path + "/tokenizer.json")
    #expect(tokenizer["model"]?["vocab"] == ["a": 0, "b": 1, "c": 2, "ab": 3, "abc": 4])
    #expect(tokenizer["model"]?["merges"] == ["a b", "ab c"])
    #expect(tokenizer["pre_tokenizer"]?["use_regex"] == true)
    #expect(tokenizer["added_tokens"]?.array?.map { $0["content"] } == ["<end>", "<x>"])
    #expect(try readConfig(back.path + "/tokenizer_config.json")["eos_token"] == "<end>")
  }

  @Test("a tokenizer that llama.cpp would split otherwise is left out, with a word")
  func unknownTokenizer() throws {
    for (pre, normalizer) in [
      (["type": "Whitespace"], .null), (["type": "ByteLevel", "add_prefix_space": true], .null),
      (["type": "ByteLevel", "use_regex": false], .null),
      (["type": "ByteLevel"], ["type": "Lowercase"]),
      (
        [
          "type": "Sequence",
          "pretokenizers": [
            [
              "type": "Split", "pattern": ["Regex": "\\d"], "behavior": "Isolated", "invert": false,
            ],
            ["type": "ByteLevel", "use_regex": false],
          ],
        ], .null
      ),
    ] as [(JSONValue, JSONValue)] {
      let written = try withTokenizer([
        "tokenizer.json": Self.tokenizer(pre, normalizer: normalizer)
      ])
      #expect(written.config["tokenizer.ggml.model"] == "none")
      #expect(written.result.problems.map(\.code) == ["gguf.no-tokenizer"], "\(pre.text())")
    }
  }
}
