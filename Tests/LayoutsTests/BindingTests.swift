import Checkpoints
import Hub
import Inference
import Layouts
import OrderedCollections
import Tensors
import TestSupport
import Testing

@Suite("Binding checkpoints")
struct BindingTests {
  static let library = try! LayoutLibrary.bundled()

  static func bind(_ fixture: ModelFixture) throws -> MatchedLayout {
    let inventory = try Inventory.of(fixture.path)
    let config = try config(of: fixture)
    let fitting = library.candidates(for: inventory, config: config).filter { $0.obstacles.isEmpty }
    let first = try #require(fitting.first)
    return first.layout.bind(inventory, config: config, vocabulary: .standard)
  }

  @Test("one layout alone fits each fixture, and it is the right one", arguments: ModelFixture.all)
  func detection(fixture: ModelFixture) throws {
    let inventory = try Inventory.of(fixture.path)
    let candidates = Self.library.candidates(for: inventory, config: try config(of: fixture))
    #expect(candidates.filter { $0.obstacles.isEmpty }.map(\.layout.name) == [fixture.layout])
  }

  @Test(
    "each fixture binds without a problem, every tensor in its place",
    arguments: ModelFixture.all)
  func fixtures(fixture: ModelFixture) throws {
    let bound = try Self.bind(fixture)
    #expect(bound.problems == [])
    #expect(bound.spec.family == fixture.family)
    #expect(bound.spec.sublayers.map(\.kind) == fixture.kinds)
    #expect(bound.spec["tied"].bool == fixture.tied)
    // A block that several sub-layers share is in the file once.
    let numbers = Set(bound.tensors.map(\.number))
    #expect(numbers.count + bound.ignored.count == bound.inventory.infos.count)
    var counted: Set<PieceLocation> = []
    let parameters = bound.pieces.reduce(0) { sum, piece in
      guard counted.insert(piece.value).inserted else { return sum }
      return sum + (piece.key.role.hasPrefix("rotary.") ? 0 : piece.value.shape.elementCount ?? 0)
    }
    #expect(parameters == fixture.parameters)
  }

  @Test(
    "every piece's runs cover it once, and every row of every tensor has its place",
    arguments: ModelFixture.all)
  func cover(fixture: ModelFixture) throws {
    let bound = try Self.bind(fixture)
    var used: [Int: Set<Int>] = [:]
    var shared: Set<PieceLocation> = []
    for (id, location) in bound.pieces {
      if !shared.insert(location).inserted, fixture.name == "hy-zamba2" { continue }
      let rows = location.runs.flatMap { $0.pieceRow..<$0.pieceRow + $0.count }
      #expect(rows == Array(0..<rows.count), "\(id)")
      #expect(rows.count == location.shape.dims.first ?? 1, "\(id)")
      for run in location.runs {
        for row in run.tensorRow..<run.tensorRow + run.count {
          #expect(used[location.tensor, default: []].insert(row).inserted, "\(id)")
        }
      }
    }
    for (expected, number) in bound.tensors {
      // The second of two tied tensors, and the copies in torchscale's angle, hold no piece.
      if expected.tied != nil, fixture.tied { continue }
      // Experts that stand in one tensor have their rows behind its first axis.
      let all = expected.segments.reduce(0) { $0 + $1.count }
      let rows = expected.name == "retnet_rel_pos.angle" ? all / 2 : all
      #expect(used[number]?.count == rows, "\(expected.name)")
    }
  }

  @Test("attributes are those of the frameworks' own configs")
  func attributes() throws {
    let samba = try Self.bind(.named("samba-fla/fla")).spec
    #expect(samba.sublayers[2]["window"] == 8)
    #expect(samba.sublayers[2]["n_kv_heads"] == 2)
    #expect(samba.sublayers[2]["rope_table"] == "float32")
    #expect(samba.sublayers[0]["dt_rank"] == 4 && samba.sublayers[0]["d_inner"] == 128)
    let lit = try Self.bind(.named("lit-samba/lit_gpt")).spec
    #expect(
      lit.sublayers[2]["rope_table"] == "bfloat16" && lit.sublayers[2]["rope_base"] == 10000.0)
    #expect(lit["vocab_rows"] == 128 && lit["vocab_size"] == 90)
    let nope = try Self.bind(.named("lit-samba-gqa-nope/lit_gpt")).spec
    #expect(nope.sublayers[2]["rope_base"] == .null && nope.sublayers[2]["n_kv_heads"] == 2)
    let mixed = try Self.bind(.named("lit-llama-mqa-bf16/lit_gpt")).spec
    // full_per_layer 2: every second attention is full.
    #expect(
      mixed.sublayers.filter { $0.kind == "attention" }.map { $0["window"] }
        == [8, .null, 8, .null])
    let berlino = try Self.bind(.named("gla-berlino/berlino")).spec
    // A power and a square root may differ in the last place.
    let scale = try berlino.sublayers[0].double("k_scale")
    #expect(abs(scale - 1 / 32.0.squareRoot()) < 1e-15)
    #expect(berlino.sublayers[0]["group_norm"] == "layer")
    let clamp = try Self.bind(.named("gla-conv-gqa-clamp/fla")).spec
    #expect(clamp.sublayers[0]["gate_min"] == -0.05 && clamp.sublayers[0]["d_conv"] == 4)
    let torchscale = try Self.bind(.named("retnet-torchscale/torchscale")).spec
    #expect(torchscale.sublayers[1]["activation"] == "gelu")
    let gate = try Self.bind(.named("retnet-gqa-nogate/fla")).spec
    #expect(gate.sublayers[0]["output_gate"] == false)
  }

  @Test("without a config the layouts of the right family still come first")
  func withoutConfig() throws {
    let inventory = try Inventory.of(ModelFixture.named("mamba-tied/hf").path)
    let fitting = Self.library.candidates(for: inventory, config: nil)
      .filter { $0.obstacles.isEmpty }.map(\.layout.name)
    // transformers and fla name Mamba alike; only the config tells.
    #expect(Set(fitting) == ["mamba-hf", "mamba-fla"])
    let lit = try Inventory.of(ModelFixture.named("lit-samba/lit_gpt").path)
    #expect(Self.library.candidates(for: lit, config: nil).first?.layout.name == "lit_gpt")
  }

  @Test("candidates of an unknown model say what keeps them from matching")
  func unknown() throws {
    let inventory = try Inventory.of(["encoder.weight": [4, 4]])
    let candidates = Self.library.candidates(for: inventory, config: nil)
    #expect(candidates.allSatisfy { !$0.obstacles.isEmpty })
    let fla = try #require(candidates.first { $0.layout.name == "samba-fla" })
    #expect(fla.obstacles == ["no tensor is called backbone.layers.*.mixer_norm.weight"])
    #expect(
      Self.library.candidates(for: inventory, config: nil, framework: "hf")
        .allSatisfy { $0.layout.framework == "hf" })
  }

  // MARK: Problems

  static let shapes: KeyValuePairs<String, [Int]> = [
    "emb": [10, 4], "last": [4], "head": [10, 4], "blocks.0.ln.weight": [4],
    "blocks.0.w1": [12, 4], "blocks.0.w2": [4, 6],
  ]

  @Test("a sound checkpoint has no problem")
  func sound() throws {
    let bound = try TinyLayout.bound(["width": 4], Self.shapes)
    #expect(bound.problems == [])
    #expect(
      bound.pieces[PieceID(0, "up.weight")]?.runs == [
        RowRun(tensorRow: 6, pieceRow: 0, count: 6)
      ])
    #expect(bound.pieces[PieceID(0, "up.weight")]?.tensor == 4)
  }

  @Test("layers that differ in what their shapes are made from have their own shapes and names")
  func differentLayers() throws {
    // Layers 0 and 2 agree, 1 differs by a name of the layer, 3 by its number.
    var text = TinyLayout.text(
      replacing: "prefix: \"blocks.{i}.\"",
      with: "prefix: \"blocks.{i}.\"\n  let: {wide: \"i == 1\"}")
    text = text.replacing("d_ff: inner", with: "d_ff: \"wide ? 2 * inner : i == 3 ? 1 : inner\"")
    text = text.replacing("w2: down.weight", with: "\"w2_{d_ff}\": down.weight")
    let layout = try TinyLayout.parsed(text)
    let expansion = layout.expand(
      config: ["width": 4, "depth": 4], vocabulary: .standard, inventory: nil)
    #expect(expansion.problems == [])
    let own = expansion.tensors.filter { $0.sublayer != nil }.map { "\($0.name) \($0.shape)" }
    #expect(
      own == [
        "blocks.0.ln.weight [4]", "blocks.0.w1 [12, 4]", "blocks.0.w2_6 [4, 6]",
        "blocks.1.ln.weight [4]", "blocks.1.w1 [24, 4]", "blocks.1.w2_12 [4, 12]",
        "blocks.2.ln.weight [4]", "blocks.2.w1 [12, 4]", "blocks.2.w2_6 [4, 6]",
        "blocks.3.ln.weight [4]", "blocks.3.w1 [2, 4]", "blocks.3.w2_1 [4, 1]",
      ])
    #expect(expansion.spec.sublayers.map { $0["d_ff"] } == [6, 12, 6, 1])
  }

  @Test("layers that agree share what they are made of")
  func equalLayers() throws {
    let expansion = try TinyLayout.parsed().expand(
      config: ["width": 4, "depth": 3], vocabulary: .standard, inventory: nil)
    let first = try #require(expansion.tensors.first { $0.name == "blocks.0.w1" })
    let last = try #require(expansion.tensors.first { $0.name == "blocks.2.w1" })
    #expect(first.form === last.form)
    #expect(first.pieces.map(\.role) == ["gate.weight", "up.weight"])
    #expect(first.pieces.map(\.shape) == [[6, 4], [6, 4]])
    #expect(last.pieces[1].runs.map { [$0.tensorRow, $0.pieceRow, $0.count] } == [[6, 0, 6]])
  }

  @Test("missing, unexpected and mis-shaped tensors are all told at once, by name")
  func tensors() throws {
    let bound = try TinyLayout.bound(
      ["width": 4],
      [
        "emb": [10, 5], "last": [4], "head": [10, 4], "blocks.0.w1": [12, 4], "stray": [2],
        "blocks.1.w2": [4, 6], "blocks.0.w2.cache": [2],
      ])
    #expect(!bound.isSound)
    let found = bound.problems.map { "\($0.code) \($0.subject)" }.sorted()
    #expect(
      found == [
        "layout.missing-tensor blocks.0.ln.weight", "layout.missing-tensor blocks.0.w2",
        "layout.shape emb", "layout.unexpected-tensor blocks.1.w2",
        "layout.unexpected-tensor stray",
      ])
    let shape = try #require(bound.problems.first { $0.code == "layout.shape" })
    #expect(shape.message.contains("[10, 5]") && shape.message.contains("[10, 4]"))
    #expect(bound.ignored == [6])
  }

  @Test("missing, unknown and unsupported config keys are all told at once, by name")
  func keys() throws {
    let bound = try TinyLayout.bound(["switch": false, "colour": "red", "notes": 1], Self.shapes)
    let missing = bound.problems.map { "\($0.severity.rawValue) \($0.code) \($0.subject)" }
    #expect(missing.contains("error config.missing-key width"))
    #expect(missing.contains("error config.unknown-key colour"))
    let both = try TinyLayout.bound(
      ["width": 3, "switch": false, "colour": "red"], [:]
    ).problems.map { "\($0.code) \($0.subject)" }
    #expect(both.contains("config.unsupported switch"))
    #expect(both.contains("config.unsupported width"))
    #expect(both.contains("config.unknown-key colour"))
  }

  @Test("an unknown key that is switched off is only a warning; inert keys are none")
  func inert() throws {
    for value in [nil, false, 0, [], ""] as [JSONValue] {
      let bound = try TinyLayout.bound(["width": 4, "colour": value], Self.shapes)
      #expect(bound.isSound)
      #expect(bound.problems.map(\.code) == ["config.unknown-key"])
    }
    let bound = try TinyLayout.bound(["width": 4, "note_2": "x", "grouped": 7], Self.shapes)
    #expect(bound.problems == [])
  }

  @Test("a member of a mapping is known, inert, bound to its default, or named as unknown")
  func members() throws {
    let text = TinyLayout.text(
      replacing: "tie: {default: false}",
      with: """
        tie: {default: false}
            cfg:
              default: {}
              aliases: [old_cfg]
              members:
                known: [size]
                inert: ["note_*"]
                only: {act: [swish, silu], group: [null], gain: [1]}
        """)
    func found(_ config: JSONObject, inert: Set<String> = []) throws -> [String] {
      try TinyLayout.parsed(text).bind(
        try Inventory.of(Self.shapes), config: config.merging(["width": 4]) { $1 },
        vocabulary: .standard, inertKeys: inert
      ).problems.map { "\($0.severity.rawValue) \($0.code) \($0.subject)" }
    }
    #expect(try found([:]) == [])
    #expect(
      try found(["cfg": ["size": 3, "note_a": 1, "act": "silu", "group": nil, "gain": 1.0]]) == [])
    #expect(try found(["cfg": ["act": "relu"]]) == ["error config.unsupported cfg.act"])
    #expect(try found(["old_cfg": ["gain": 2]]) == ["error config.unsupported old_cfg.gain"])
    // Off may not be the default of a switch that nobody knows; what is not given is no switch.
    #expect(try found(["cfg": ["colour": false]]) == ["error config.unknown-key cfg.colour"])
    #expect(try found(["cfg": ["colour": nil]]) == ["warning config.unknown-key cfg.colour"])
    #expect(
      try found(["cfg": [["colour": 1], ["colour": 1], ["shape": 2]]]) == [
        "error config.unknown-key cfg.colour", "error config.unknown-key cfg.shape",
      ])
    #expect(
      try found(["cfg": ["colour": 1], "hue": 2], inert: ["cfg.colour", "hue"]) == [
        "note config.inert-key hue", "note config.inert-key cfg.colour",
      ])
    #expect(
      try found(["cfg": ["size": 1, "act": "relu"]], inert: ["cfg.size", "cfg.act", "width"]) == [
        "error config.inert cfg.size", "error config.inert cfg.act",
        "error config.unsupported cfg.act", "error config.inert width",
      ])
  }

  @Test("a key's older names stand for it, and a contradiction is an error")
  func aliases() throws {
    let old = try TinyLayout.bound(["width": 4, "ffn": 6], Self.shapes)
    #expect(old.problems == [])
    let both = try TinyLayout.bound(["width": 4, "ffn": 6, "hidden": 6.0], Self.shapes)
    #expect(both.problems == [])
    let torn = try TinyLayout.bound(["width": 4, "hidden": 6, "ffn": 7], Self.shapes)
    #expect(torn.problems.map(\.code) == ["config.conflict"])
    #expect(torn.problems.first?.message.contains("7") == true)
  }

  @Test(
    "an absurd number of layers, a negative extent and an overflow are errors",
    arguments: [
      ("depth", -1), ("depth", 1_000_000_000), ("inner", -6), ("words", 1 << 62),
    ] as [(String, Int)])
  func absurd(key: String, value: Int) throws {
    let bound = try TinyLayout.bound(["width": 4, key: .int(value)], Self.shapes)
    #expect(!bound.isSound)
    if key != "words" { #expect(bound.problems.contains { $0.code == "config.value" }) }
  }

  // MARK: Ties

  static let headless: KeyValuePairs<String, [Int]> = [
    "emb": [10, 4], "last": [4], "blocks.0.ln.weight": [4], "blocks.0.w1": [12, 4],
    "blocks.0.w2": [4, 6],
  ]

  @Test("a head that is absent is tied; with a warning if the config says otherwise")
  func tieAbsent() throws {
    let tied = try TinyLayout.bound(["width": 4, "tie": true], Self.headless)
    #expect(tied.problems == [] && tied.spec["tied"] == true && tied.ties == [])
    #expect(tied.pieces[PieceID(nil, "head.weight")] == nil)
    let odd = try TinyLayout.bound(["width": 4], Self.headless)
    #expect(odd.isSound && odd.problems.map(\.code) == ["layout.head-absent"])
    #expect(odd.problems.first?.subject == "head")
    #expect(odd.spec["tied"] == true)
  }

  @Test("a head that equals the embedding is tied, whatever the config says")
  func tieEqual() throws {
    for tie in [true, false] {
      let bound = try TinyLayout.bound(
        ["width": 4, "tie": .bool(tie)], Self.shapes, equal: ["emb", "head"])
      #expect(bound.problems == [])
      #expect(bound.spec["tied"] == true)
      #expect(bound.ties == [["emb", "head"]])
      #expect(bound.pieces[PieceID(nil, "head.weight")] == nil)
    }
  }

  @Test("a head in the embedding's storage is tied without a look at the bytes")
  func tieShared() throws {
    let infos = Self.shapes.map { name, dims in
      TensorInfo(
        name: TensorName(name), dtype: .f32, shape: Shape(dims), byteCount: 0, file: "f",
        extent: ["emb", "head"].contains(name) ? .init(file: 0, offset: 64) : nil)
    }
    let inventory = try Inventory(
      infos: infos, values: { _ in nil },
      sameBytes: { _, _ in
        Issue.record("shared storage needs no comparison")
        return false
      })
    let bound = try TinyLayout.parsed().bind(
      inventory, config: ["width": 4], vocabulary: .standard)
    #expect(bound.spec["tied"] == true && bound.ties == [["emb", "head"]])
  }

  @Test("a head that differs is untied, and an error if the config ties it")
  func tieConflict() throws {
    let free = try TinyLayout.bound(["width": 4], Self.shapes)
    #expect(free.spec["tied"] == false)
    #expect(free.pieces[PieceID(nil, "head.weight")] != nil)
    let torn = try TinyLayout.bound(["width": 4, "tie": true], Self.shapes)
    #expect(torn.problems.map { "\($0.code) \($0.subject)" } == ["layout.tie-conflict head"])
  }

  @Test("each tensor keeps its own type")
  func mixedTypes() throws {
    let layout = try TinyLayout.parsed()
    let infos = Self.shapes.map { name, dims in
      TensorInfo(
        name: TensorName(name), dtype: name == "emb" ? .bf16 : .f32, shape: Shape(dims),
        byteCount: 0, file: "f")
    }
    let inventory = try Inventory(
      infos: infos, values: { _ in nil }, sameBytes: { _, _ in false })
    // Different tensors may differ in type.
    let bound = layout.bind(inventory, config: ["width": 4], vocabulary: .standard)
    #expect(bound.problems == [])
    #expect(bound.pieces[PieceID(nil, "embed.weight")]?.dtype == .bf16)
  }

  @Test("counters, an optimizer's tensors and second names are passed over; what may scale is not")
  func passedOver() throws {
    let sound = Self.shapes.map { ($0.key, $0.value) }
    func bound(_ more: [(String, DType, [Int], Int?)]) throws -> MatchedLayout {
      var infos = sound.enumerated().map { number, one in
        TensorInfo(
          name: TensorName(one.0), dtype: .f32, shape: Shape(one.1),
          byteCount: Shape(one.1).byteCount(of: .f32)!, file: "made-up",
          extent: TensorInfo.Extent(file: 0, offset: 1000 * (number + 1)))
      }
      for (name, dtype, dims, like) in more {
        infos.append(
          TensorInfo(
            name: TensorName(name), dtype: dtype, shape: Shape(dims),
            byteCount: Shape(dims).byteCount(of: dtype)!, file: "made-up",
            extent: like.map { TensorInfo.Extent(file: 0, offset: 1000 * ($0 + 1)) }))
      }
      let inventory = try Inventory(
        infos: infos, values: { _ in nil }, sameBytes: { _, _ in false })
      return try TinyLayout.parsed().bind(
        inventory, config: ["width": 4], vocabulary: .standard)
    }
    let harmless = try bound([
      ("n_averaged", .i64, [], nil), ("blocks.0.num_batches_tracked", .i64, [], nil),
      ("flag", .bool, [1], nil), ("lr", .f64, [], nil), ("decay", .f32, [], nil),
      ("optimizer_state.exp_avg.0", .f32, [3], nil), ("alias", .f32, sound[0].1, 0),
    ])
    #expect(harmless.isSound, "\(harmless.problems)")
    let said = harmless.problems.filter { $0.code == "layout.passed-over" }
    #expect(said.count == 1)
    #expect(said.first?.severity == .warning)
    #expect(said.first?.message.contains("and 6 more") == true)
    #expect(said.first?.message.contains("alias (a second name of \(sound[0].0))") == true)
    for stray: (String, DType, [Int], Int?) in [
      ("blocks.0.gate", .f32, [1], nil), ("blocks.0.scale", .f32, [], nil),
      ("table", .i64, [4], nil), ("blocks.7.w2", .f32, [4, 6], nil),
      ("blocks.7.ln.weight", .i64, [1], nil),
    ] {
      let bad = try bound([stray])
      #expect(!bad.isSound, "\(stray)")
      #expect(!bad.problems.contains { $0.code == "layout.passed-over" }, "\(stray)")
    }
  }
}
