import Hub
import Inference
import Layouts
import TestSupport
import Tensors
import Testing

@Suite("Checking layouts")
struct LayoutCheckTests {
  static let words = LayoutWords(
    vocabulary: .standard, rewrites: ["drop_zero_mlp", "expand_kv_heads"])
  static let library = try! LayoutLibrary.bundled()

  /// The tiny layout with a write section, and without the group that only its parser's test has.
  static let text =
    TinyLayout.text(replacing: ", \"@group\"", with: "") + """

      write:
        patterns:
          plain:
            - {kinds: [mlp]}
        config:
          width: d_model
          inner: common('mlp', 'd_ff')
          depth: n_layer
          words: vocab_rows
          tie: tied
        carry: [note_to_self]
        rewrites: [drop_zero_mlp]
        pad: [{kind: mlp, attribute: d_ff, multiple: 8}]
        accept: [{kind: attention, attribute: rope_table, reason: tables differ}]
      """

  static func check(_ text: String) -> LayoutLibrary.Checked {
    library.check(yaml: text, file: "tiny.yaml", words: words)
  }

  /// The line and column of `part` in `text`.
  static func place(of part: String, in text: String) throws -> String {
    let range = try #require(text.firstRange(of: part))
    let before = text[..<range.lowerBound].split(separator: "\n", omittingEmptySubsequences: false)
    return "\(before.count):\(before.last!.count + 1)"
  }

  @Test("every bundled layout and the guide's are sound")
  func sound() throws {
    let folder = Fixtures.repository
    let bundled = Files.names(in: "\(folder)/formats")
      .filter { $0.hasSuffix(".yaml") && $0 != "inert-keys.yaml" }.map { "formats/\($0)" }
    let examples = Files.names(in: "\(folder)/docs/examples").filter {
      $0.hasSuffix(".yaml")
    }.map { "docs/examples/\($0)" }
    #expect(bundled.count >= 15 && examples.count >= 3)
    for name in bundled + examples {
      let text = Files.text("\(folder)/\(name)")
      let checked = Self.library.check(yaml: text, file: name, words: Self.words.with(Self.library))
      #expect(checked.problems == [] && checked.isSound, "\(name)")
    }
    #expect(Self.check(Self.text).problems == [])
  }

  @Test(
    "what parses and means nothing is told at its place, with the nearest word",
    arguments: [
      ("container: safetensors", "container: safetensor", "safetensor\n", "safetensors"),
      ("model.safetensors}", "model.safetensors, pytroch: a.bin}", "a.bin", "pytorch"),
      ("kind: mlp\n    attr", "kind: mpl\n    attr", "mpl", "mlp"),
      ("attributes: {d_ff: inner}", "attributes: {d_fff: inner, d_ff: 3}", "inner, d_ff", "d_ff"),
      (
        "attributes: {norm_eps: 0", "attributes: {norm_esp: 1, norm_eps: 0", "1, norm_eps",
        "norm_eps"
      ),
      ("w2: down.weight", "w2: dwon.weight", "dwon", "down.weight"),
      ("{d_model: width,", "{d_model: widht,", "widht", "width"),
      ("{d_model: width,", "{d_modle: 3, d_model: width,", "3, d_model", "d_model"),
      ("mixer: mlp, norm", "mixer: mpl, norm", "mpl", "mlp"),
      ("n_layer: depth", "n_layer: detph", "detph", "depth"),
      ("that: switch", "that: swich", "swich", "switch"),
      ("key: switch", "key: swich", "swich", "switch"),
      ("blocks.*.w1", "blocks.*.w11", "\"blocks.*.w11", "blocks.*.w1"),
      ("rewrites: [drop_zero_mlp]", "rewrites: [drop_zreo_mlp]", "drop_zreo", "drop_zero_mlp"),
      ("kinds: [mlp]", "kinds: [mlpp]", "mlpp", "mlp"),
      ("attribute: d_ff", "attribute: d_f", "d_f,", "d_ff"),
      ("attribute: rope_table", "attribute: rope_tabel", "rope_tabel", "rope_table"),
      ("{kind: attention", "{kind: atention", "atention", "attention"),
      ("carry: [note_to_self]", "carry: [widht]", "widht", "width"),
      ("inner: common", "innr: common", "common('mlp', 'd_ff')", "inner"),
      ("'d_ff')", "'d_fff')", "common", "d_ff"),
      ("common('mlp'", "common('mpl'", "common", "mlp"),
      ("common('mlp'", "comon('mlp'", "comon", "common"),
      ("inert: [\"note*\"", "inert: [\"@fal\", \"note*\"", "\"@fal\"", "@fla"),
    ])
  func slips(old: String, new: String, wrong: String, meant: String) throws {
    #expect(Self.text.contains(old))
    let text = Self.text.replacing(old, with: new, maxReplacements: 1)
    let checked = Self.check(text)
    #expect(!checked.isSound)
    let problems = checked.problems.filter { $0.severity == .error }
    let place = try Self.place(of: wrong, in: text)
    let problem = try #require(problems.first { $0.subject == "tiny.yaml:\(place)" }, "\(problems)")
    #expect(problem.help?.contains("did you mean \(meant)?") == true, "\(problem)")
    #expect(problems.count == 1, "\(problems)")
  }

  @Test(
    "what the file's own rules would not read back is told",
    arguments: [
      ("  tensors: [\"emb\"", "  strip: [bl]\n  tensors: [\"emb\"", "detect.strip.[0]"),
      ("  tensors: [\"emb\"", "  absent: [last]\n  tensors: [\"emb\"", "detect.absent.[0]"),
      ("  tensors: [\"emb\"", "  base: net.\n  tensors: [\"emb\"", "detect.base"),
      ("  tensors: [\"emb\"", "  tied: {hed: emb}\n  tensors: [\"emb\"", "detect.tied"),
      ("  tensors: [\"emb\", \"blocks.*.w1\"]", "  tensors: []", "detect"),
      ("prefix: \"blocks.{i}.\"", "prefix: \"blocks.{depth}.\"", "layers.prefix"),
      ("tensors: \"*.cache\"", "tensors: \"*.w*\"", "ignore.[0].tensors"),
      (
        "why: a buffer}", "why: a buffer, write: {name: \"x.{i}\", shape: [1]}}",
        "ignore.[0].write.name"
      ),
      ("  config: config.json", "  config: settings.txt", "files.config"),
      ("model.safetensors}", "weights.data}", "files.weights.safetensors"),
      ("model.safetensors}", "../model.safetensors}", "files.weights.safetensors"),
      ("{safetensors: model.safetensors}", "{hdf5: model.h5}", "files.weights"),
      ("    width: d_model\n", "", "config.keys.width"),
      ("aliases: [hidden, ffn]", "aliases: [hidden, depth]", "config.keys.inner.aliases.[1]"),
      ("w2: down.weight", "w2: down.weight\n      w3: down.weight", "mixers.mlp.tensors.w3"),
      ("layout: tiny", "layout: \"tiny one\"", "layout"),
      ("multiple: 8", "multiple: 1", "write.pad.[0].multiple"),
      ("kinds: [mlp]", "kinds: [mamba]", "write.patterns.plain.[0].kinds.[0]"),
      (
        "last: final_norm.weight", "last: {piece: final_norm.weight, tied: both}",
        "model.tensors.last"
      ),
      ("  tie: tied", "  tie: tied\n    model_type: \"'tiny'\"", "write.config.model_type"),
    ])
  func unread(old: String, new: String, path: String) throws {
    #expect(Self.text.contains(old))
    var text = Self.text.replacing(old, with: new, maxReplacements: 1)
    if path.hasSuffix("model_type") {
      text = text.replacing("detect:\n", with: "detect:\n  model_types: [tinny]\n")
        .replacing("note*", with: "*o*")
    }
    let problems = Self.check(text).problems
    #expect(problems.count == 1, "\(problems)")
    #expect(problems.first?.message.hasPrefix(path + " ") == true, "\(problems)")
    #expect(problems.first?.subject.hasPrefix("tiny.yaml:") == true)
  }

  @Test(
    "a member that a mapping does not list, and an attribute that no sub-layer has",
    arguments: [
      ("d_inner: inner", "d_inner: dig.innr", "mixers.dig.attributes.d_inner", "inner"),
      ("taps: common", "tasp: common", "write.config.dig.tasp", "taps"),
      ("[s.layer for", "[s.layr for", "write.config.lookouts", "layer"),
      ("s.kind == 'att", "s.knd == 'att", "write.let.looks", "kind"),
      ("s.kind == 'attention'", "s.kind == 'atention'", "write.let.looks", "attention"),
    ])
  func members(old: String, new: String, path: String, meant: String) throws {
    let folder = Fixtures.repository
    let good = Files.text("\(folder)/docs/examples/burrow.yaml")
    #expect(good.contains(old))
    let problems = Self.check(good.replacing(old, with: new, maxReplacements: 1)).problems
    #expect(problems.count == 1, "\(problems)")
    #expect(problems.first?.message.hasPrefix(path + " ") == true, "\(problems)")
    #expect(problems.first?.help == "did you mean \(meant)?")
  }

  @Test("YAML's own mistakes have their places")
  func yamlPlaces() {
    for (text, place) in [
      ("layout: a\nlayout: b\n", "x.yaml:1:1"), ("layout: a\n\tfiles: b\n", "x.yaml:2:1"),
      ("layout: [a\nfiles: }\n", "x.yaml:2"),
    ] {
      let problems = Self.library.check(yaml: text, file: "x.yaml", words: Self.words).problems
      #expect(problems.count == 1 && problems[0].code == "layout.yaml", "\(problems)")
      #expect(problems.first?.subject.hasPrefix(place) == true, "\(problems)")
    }
  }

  @Test("all mistakes are told at once, in the order of their lines")
  func all() throws {
    var text = Self.text
    for (old, new) in [
      ("layout: tiny", "layuot: tiny"), ("n_layer: depth", "n_layer: depth +"),
      ("w1: {concat: [gate.weight, up.weight]}", "w1: {interleave: [gate.weight]}"),
      ("w2: down.weight", "w2: {piece: down.weight, colour: red}"),
      ("kinds: [mlp]", "kinds: [mpl]"), ("'d_ff')", "'d_fff')"),
    ] { text = text.replacing(old, with: new, maxReplacements: 1) }
    let checked = Self.check(text)
    #expect(!checked.isSound)
    let lines = checked.problems.compactMap { Int($0.subject.split(separator: ":")[1]) }
    // The wrong key and the missing one stand in the first line.
    #expect(lines.count == 7 && lines == lines.sorted(), "\(checked.problems)")
    var library = Self.library
    let error = #expect(throws: Problems.self) {
      try library.add(yaml: text, file: "tiny.yaml", words: Self.words)
    }
    #expect(error?.diagnostics == checked.problems)
    #expect(library.layouts.count == Self.library.layouts.count)
  }

  @Test("a mixer that stands nowhere is a warning, and the layout is used")
  func unused() {
    let text = Self.text.replacing(
      "mixers:\n",
      with: "mixers:\n  spare: {kind: mlp, attributes: {d_ff: 3}, tensors: {w: down.weight}}\n")
    let checked = Self.check(text)
    #expect(checked.isSound)
    #expect(checked.problems.map(\.severity) == [.warning])
    #expect(checked.problems.first?.message.contains("stands in no slot") == true)
  }

  @Test("a layout is another one but for what it says itself")
  func extends() throws {
    var library = Self.library
    try library.add(yaml: Self.text, file: "tiny.yaml", words: Self.words)
    let text = """
      layout: tinier
      extends: tiny
      detect: {tensors: [emb, "blocks.*.w3"]}
      config:
        keys:
          inner: {default: null}
          switch: null
        require: []
      mixers:
        mlp:
          tensors: {w1: null, w3: {interleave: [gate.weight, up.weight], groups: 2}}
      write: {rewrites: [], config: {inner: null, tie: "null"}}
      """
    let checked = library.check(yaml: text, file: "tinier.yaml", words: Self.words)
    #expect(checked.problems == [])
    let layout = try #require(checked.layout)
    #expect(layout.name == "tinier" && layout.framework == "home")
    #expect(layout.detect.tensors == ["emb", "blocks.*.w3"])
    #expect(layout.config.keys.map(\.name) == ["width", "inner", "depth", "words", "tie"])
    #expect(layout.config.keys[1].initial == .null)
    #expect(layout.config.keys[1].aliases == ["hidden", "ffn"])
    #expect(layout.config.requirements.isEmpty)
    #expect(layout.mixers["mlp"]?.tensors.map(\.name.text) == ["w2", "w3"])
    #expect(layout.write?.config.map(\.key) == ["width", "depth", "words", "tie"])
    #expect(layout.write?.rewrites == [] && layout.write?.paddings.count == 1)
    // A mistake in what is extended is told where it stands.
    let wrong = library.check(
      yaml: text + "\nmodel: {attributes: {d_model: widht}}",
      file: "tinier.yaml", words: Self.words)
    #expect(wrong.problems.map(\.subject) == ["tinier.yaml:13:31"])
    let lost = library.check(
      yaml: text.replacing("switch: null", with: "words: null"), file: "tinier.yaml",
      words: Self.words)
    let place = try Self.place(of: "words, vocab_size", in: Self.text)
    #expect(lost.problems.contains { $0.subject == "tiny.yaml:\(place)" }, "\(lost.problems)")
  }

  @Test(
    "what cannot be extended is told at its place",
    arguments: [
      ("extends: tinny", "2:10", "tinny", nil),
      ("extends: samba-fal", "2:10", "samba-fal", "samba-fla"),
      ("mixers: {mlp: {extends: fla_mlp}}", "2:25", "fla_mlp", "fla-mlp"),
      ("files: {extends: transfomers}", "2:18", "transfomers", "transformers"),
    ] as [(String, String, String, String?)])
  func notExtended(line: String, place: String, word: String, meant: String?) throws {
    let checked = Self.check("layout: tinier\n\(line)\n")
    let problem = try #require(checked.problems.first)
    #expect(checked.problems.count == 1 && checked.layout == nil)
    #expect(
      problem.subject == "tiny.yaml:\(place)" && problem.message.contains(word), "\(problem)")
    if let meant { #expect(problem.help == "did you mean \(meant)?") }
  }

  @Test("a layout may take the place of the one that it extends")
  func itself() throws {
    var library = Self.library
    let words = Self.words.with(library)
    let text = "layout: samba-fla\nextends: samba-fla\ntitle: mine\n"
    try library.add(yaml: text, file: "mine.yaml", words: words)
    let own = try #require(library.layouts.first { $0.name == "samba-fla" })
    #expect(own.title == "mine" && own.framework == "fla" && own.write != nil)
    // And another one may extend it in turn.
    let next = library.check(
      yaml: "layout: next\nextends: samba-fla\n", file: "next.yaml", words: words)
    #expect(next.isSound && next.layout?.title == "mine", "\(next.problems)")
  }

  @Test("a bundled file's text with all that it extends is the same layout")
  func yaml() throws {
    for layout in Self.library.layouts {
      let text = try #require(try Self.library.yaml(of: layout.name))
      #expect(!text.contains("extends:"))
      let again = Self.library.check(
        yaml: text, file: layout.name, words: Self.words.with(Self.library))
      #expect(again.problems == [], "\(layout.name)")
      let other = try #require(again.layout)
      #expect("\(other.detect) \(other.config)" == "\(layout.detect) \(layout.config)")
      #expect("\(other.model) \(other.layers)" == "\(layout.model) \(layout.layers)")
      #expect(String(describing: other.write) == String(describing: layout.write))
      for (name, mixer) in layout.mixers { #expect("\(mixer)" == "\(other.mixers[name]!)") }
    }
    #expect(try Self.library.yaml(of: "nobody") == nil)
  }
}

extension LayoutWords {
  /// The same with every rewrite that a layout of `library` names.
  fileprivate func with(_ library: LayoutLibrary) -> LayoutWords {
    var words = self
    words.rewrites += library.layouts.flatMap { $0.write?.rewrites ?? [] }
    return words
  }
}
