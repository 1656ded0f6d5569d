import Hub
import Inference
import Layouts
import Tensors
import Testing

@Suite("Layout files")
struct LayoutFileTests {
  @Test("what let gives may stand in any order, but not in a circle")
  func letOrder() throws {
    func names(_ lets: String) throws -> [String] {
      try TinyLayout.parsed(
        TinyLayout.text(replacing: "model:\n", with: "let: {\(lets)}\nmodel:\n")
      ).lets.map(\.name)
    }
    #expect(try names("a: width, b: a, c: 1") == ["a", "b", "c"])
    #expect(try names("b: a + c, c: 2 * a, a: width, d: 1") == ["a", "c", "b", "d"])
    // A key of the config that a binding replaces for those behind it is no circle.
    #expect(try names("b: width + 1, width: width * 2") == ["width", "b"])
    #expect(try names("d: a, a: b, b: a, c: 1") == ["c", "d", "a", "b"])
  }

  @Test("the tiny layout parses, and means what it says")
  func tiny() throws {
    let layout = try TinyLayout.parsed()
    #expect(layout.name == "tiny" && layout.framework == "home")
    #expect(
      layout.config.keys.map(\.name) == ["width", "inner", "depth", "words", "tie", "switch"])
    #expect(layout.config.keys[0].initial == nil)
    #expect(
      layout.config.keys[1].initial == 6 && layout.config.keys[1].aliases == ["hidden", "ffn"])
    #expect(layout.config.inert == ["note*", "grouped"])
    #expect(layout.layers.slots[0].options[0].norm?.text == "ln")
    #expect(layout.mixers["mlp"]?.tensors.map(\.name.text) == ["w1", "w2"])
    #expect(layout.model.tensors[2].tied == .absent)
    #expect(layout.write == nil)
  }

  @Test(
    "an unknown key is an error at its line and column, wherever it stands",
    arguments: [
      ("layout: tiny", "layuot: tiny", "1:9"),
      ("  container: safetensors", "  container: safetensors\n  colour: red", "8:11"),
      ("  tensors: [\"emb\"", "  tensors : []\n  tensor: [\"emb\"", "12:11"),
      ("inner: {default: 6,", "inner: {default: 6, defualt: 7,", "15:34"),
      ("why: it must be on}", "why: it must be on, because: x}", "22:64"),
      ("  tied: tie", "  tied: tie\n  untied: tie", "27:11"),
      ("norm: ln, prefix: \"\"}", "norm: ln, prefix: \"\", suffix: x}", "37:54"),
      ("    kind: mlp", "    kind: mlp\n    sort: mlp", "41:11"),
      ("w1: {concat: [gate.weight, up.weight]}", "w1: {concat: [gate.weight], axis: 0}", "43:41"),
      ("why: a buffer}", "why: a buffer, whither: x}", "46:50"),
    ])
  func unknownKey(old: String, new: String, place: String) {
    let error = #expect(throws: Diagnostic.self) {
      _ = try TinyLayout.parsed(TinyLayout.text(replacing: old, with: new))
    }
    #expect(error?.code == "layout.schema")
    #expect(error?.subject == "tiny.yaml:\(place)")
    #expect(error?.message.hasSuffix("is no key of the schema") == true, "\(error?.message ?? "")")
    #expect(error?.help?.hasPrefix("known here: ") == true)
  }

  @Test(
    "what is missing, of the wrong kind or no expression is an error that names its place",
    arguments: [
      ("layout: tiny\n", "", "layout"), ("framework: home\n", "", "framework"),
      ("title: a made-up layout\n", "", "title"),
      ("width: {required: true}", "width: {}", "width"),
      ("width: {required: true}", "width: 3", "width"),
      ("  n_layer: depth", "  n_layer: depth +", "n_layer"),
      ("  n_layer: depth\n", "", "model"),
      ("\"@group\"", "\"@others\"", "inert"),
      ("piece: head.weight, tied: absent", "piece: head.weight, tied: perhaps", "head"),
      ("concat: [gate.weight, up.weight]", "interleave: [gate.weight]", "w1"),
      ("prefix: \"blocks.{i}.\"", "prefix: \"blocks.{i.\"", "prefix"),
      ("mixer: mlp, norm", "mixer: mpl, norm", "mpl"),
      ("{that: switch, key: switch, why: it must be on}", "{that: switch, key: switch}", "require"),
      ("slots:\n", "slots: 3\nlist:\n", "list"),
      ("tensors: [\"emb\", \"blocks.*.w1\"]", "tensors: emb", "tensors"),
    ])
  func mistakes(old: String, new: String, word: String) {
    let error = #expect(throws: Diagnostic.self) {
      _ = try TinyLayout.parsed(TinyLayout.text(replacing: old, with: new))
    }
    #expect(error?.code == "layout.schema" || error?.code == "layout.yaml", "\(error?.code ?? "")")
    #expect(error?.description.contains(word) == true, "\(error?.description ?? "")")
    #expect(error?.subject.hasPrefix("tiny.yaml") == true)
  }

  @Test("plain scalars are what YAML says they are, quoted ones texts")
  func scalars() throws {
    let config = try YAMLConfig.parse(
      """
      a: [3, -0, 1.5, 2.5e+3, true, No, ON, null, ~]
      b: ['3', "true", null-ish, 1.2.3, e, .inf, 0x10, "~"]
      c:
      d: ''
      """, file: "scalars.yaml")
    #expect(config["a"] == [3, 0, 1.5, 2500.0, true, false, true, .null, .null])
    #expect(
      config["b"] == ["3", "true", "null-ish", "1.2.3", "e", ".inf", "0x10", "~"])
    #expect(config["c"] == .null && config["d"] == "")
  }

  @Test("a duplicate key, broken YAML and an empty file are errors")
  func yaml() {
    for text in ["layout: a\nlayout: b\n", "layout: [\n", ""] {
      let error = #expect(throws: Diagnostic.self) { _ = try TinyLayout.parsed(text) }
      #expect(error?.code == "layout.yaml")
    }
  }

  @Test(
    "a layout that speaks of what the vocabulary does not have is found out",
    arguments: [
      ("attributes: {d_ff: inner}", "attributes: {d_ff: inner, d_fff: 3}", "d_fff"),
      ("attributes: {d_ff: inner}", "attributes: {}", "d_ff"),
      ("w2: down.weight", "w2: downs.weight", "downs.weight"),
      ("kind: mlp", "kind: mpl", "mpl"),
      ("{d_model: width, ", "{", "d_model"),
    ])
  func vocabulary(old: String, new: String, word: String) throws {
    let layout = try TinyLayout.parsed(TinyLayout.text(replacing: old, with: new))
    let expansion = layout.expand(config: ["width": 4], vocabulary: .standard, inventory: nil)
    let errors = expansion.problems.filter { $0.code == "layout.schema" }
    #expect(errors.count == 1)
    #expect(errors.first?.message.contains(word) == true)
  }

  @Test("a layout of one's own joins the library, and one of the same name takes its place")
  func library() throws {
    var library = try LayoutLibrary.bundled()
    let count = library.layouts.count
    let plain = TinyLayout.text(replacing: ", \"@group\"", with: "")
    try library.add(yaml: plain, file: "tiny.yaml")
    #expect(library.layouts.count == count + 1)
    #expect(library.frameworks.contains("home"))
    try library.add(
      yaml: TinyLayout.text(replacing: ", \"@group\"", with: ", \"@transformers\""),
      file: "tiny.yaml")
    #expect(library.layouts.count == count + 1)
    let own = try #require(library.layouts.first { $0.name == "tiny" })
    #expect(own.config.inert.contains("architectures"))
  }

  @Test("what tells a layout apart may name its model types, its base model and the tied names")
  func detect() throws {
    let text = TinyLayout.text(
      replacing: "  tensors: [\"emb\", \"blocks.*.w1\"]",
      with: """
          tensors: ["emb", "blocks.*.w1"]
          model_types: [tiny, small]
          base: net.
          tied: {head: emb}
        """)
    let detect = try TinyLayout.parsed(text).detect
    #expect(detect.modelTypes == ["tiny", "small"] && detect.base == "net.")
    #expect(detect.tied == Layout.Detect.TiedNames(head: "head", embedding: "emb"))
    let error = #expect(throws: Diagnostic.self) {
      _ = try TinyLayout.parsed(
        TinyLayout.text(
          replacing: "  tensors: [\"emb\", \"blocks.*.w1\"]", with: "  tied: {a: b, c: d}"))
    }
    #expect(error?.code == "layout.schema")
  }

  @Test("a tensor may have another shape of the same elements, and no other")
  func otherShape() throws {
    let shapes: KeyValuePairs<String, [Int]> = [
      "emb": [10, 4], "last": [4], "head": [10, 4], "blocks.0.ln.weight": [4],
      "blocks.0.w1": [12, 4], "blocks.0.w2": [4, 2, 3],
    ]
    func bound(_ shape: String) throws -> MatchedLayout {
      try TinyLayout.parsed(
        TinyLayout.text(
          replacing: "w2: down.weight", with: "w2: {piece: down.weight, or: \(shape)}")
      ).bind(Inventory.of(shapes), config: ["width": 4], vocabulary: .standard)
    }
    let read = try bound("[width, 2, 3]")
    #expect(read.problems.map(\.code) == ["layout.reshaped"] && read.isSound)
    // The piece has its own shape, whatever the file's is.
    #expect(read.pieces[PieceID(0, "down.weight")]?.shape == [4, 6])
    #expect(try bound("[width, 3, 2]").problems.map(\.code) == ["layout.shape"])
    #expect(try bound("[width, 7]").problems.map(\.code) == ["layout.schema"])
    #expect(try bound("[2, 2 * width, 3]").problems.map(\.code) == ["layout.schema"])
  }
}
