import Hub
import Layouts
import Tensors
import Testing

@Suite("Names")
struct NameTests {
  @Test("a template's braces hold expressions")
  func expand() throws {
    let template = try NameTemplate(parsing: "h.{i + 1}.{kind}.weight")
    #expect(try template.expand(in: Scope(["i": 9, "kind": "attn"])) == "h.10.attn.weight")
    #expect(try NameTemplate(parsing: "plain").expand(in: Scope()) == "plain")
    #expect(template.description == "h.{i + 1}.{kind}.weight")
  }

  @Test("a brace without its partner is an error", arguments: ["a.{i", "a.i}", "{{i}}"])
  func braces(text: String) {
    let error = #expect(throws: Diagnostic.self) { _ = try NameTemplate(parsing: text) }
    #expect(error?.code == "layout.name")
    #expect(error?.subject == "'\(text)'")
  }

  @Test("a template that cannot be filled in says what is missing")
  func missing() throws {
    let template = try NameTemplate(parsing: "h.{layer}")
    let error = #expect(throws: Diagnostic.self) { _ = try template.expand(in: Scope(["i": 1])) }
    #expect(error?.message.contains("layer") == true)
  }

  @Test(
    "a star stands for anything, dots included; a question mark for one byte",
    arguments: [
      ("h.*.weight", "h.0.attn.weight", true), ("h.*.weight", "h.weight", false),
      ("*", "", true), ("", "", true), ("", "a", false), ("a*b*c", "aXbYbZc", true),
      ("a*b*c", "aXbYbZ", false), ("*.A_log", "x.A_log", true), ("*.A_log", "x.A_log2", false),
      ("A_LOG", "a_log", false), ("h.?", "h.1", true), ("h.?", "h.10", false),
      ("**", "anything", true), ("a.b", "axb", false), ("*ab", "aab", true),
    ])
  func globs(pattern: String, text: String, expected: Bool) {
    #expect(Glob(pattern).matches(text) == expected)
  }

  @Test("a glob of many stars against a long name ends quickly")
  func slowGlob() {
    let pattern = Glob(String(repeating: "a*", count: 60) + "b")
    let clock = ContinuousClock()
    let time = clock.measure {
      #expect(!pattern.matches(String(repeating: "a", count: 4000)))
    }
    // Backtracking over every star would take longer than the universe is old.
    #expect(time < .seconds(5))
  }

  @Test(
    "wrappers' prefixes are taken out anywhere in a name, repeatedly, and nothing else",
    arguments: [
      ("_forward_module.lm_head.weight", "lm_head.weight"),
      ("module.module.lm_head.weight", "lm_head.weight"),
      ("_orig_mod._forward_module.a.weight", "a.weight"),
      (
        "_fsdp_wrapped_module.transformer.h.0._fsdp_wrapped_module.norm_1.weight",
        "transformer.h.0.norm_1.weight"
      ),
      ("h.0._checkpoint_wrapped_module._orig_mod.attn.weight", "h.0.attn.weight"),
      ("backbone.module.embedding.weight", "backbone.embedding.weight"),
      ("modules.weight", "modules.weight"), ("my_module.weight", "my_module.weight"),
      ("submodule.module_list.0", "submodule.module_list.0"), ("weight", "weight"),
    ])
  func wrappers(name: String, expected: String) {
    #expect(Inventory.unwrapped(name) == expected)
  }

  @Test("two names that differ only in prefixes are an error")
  func clash() {
    let infos = ["a.weight", "module.a.weight"].map {
      TensorInfo(name: TensorName($0), dtype: .f32, shape: [1], byteCount: 4, file: "f")
    }
    let error = #expect(throws: Diagnostic.self) {
      _ = try Inventory(infos: infos, values: { _ in nil }, sameBytes: { _, _ in false })
    }
    #expect(error?.code == "layout.name-clash")
    #expect(error?.subject == "module.a.weight")
  }

  @Test("the prefix of most names is found, taken off, and told with what lies outside")
  func commonPrefix() throws {
    let whole = try Inventory.of([
      "net.a.0.weight": [2], "net.a.1.weight": [2], "net.b.weight": [2], "loss.weight": [1],
      "alone": [1],
    ])
    #expect(whole.commonPrefix == "net.")
    let bare = try #require(whole.dropping("net."))
    #expect(bare.names == ["a.0.weight", "a.1.weight", "b.weight", "loss.weight", "alone"])
    #expect(bare.outside == [3, 4])
    #expect(
      bare.renamings
        == [
          Inventory.Renaming(from: "net.a.0.weight", to: "a.0.weight", dropped: "net.", count: 3)
        ])
    let halves = try Inventory.of(["a.x": [1], "b.x": [1]])
    #expect(halves.commonPrefix == nil)
    let clash = try Inventory.of(["net.a": [1], "net.b": [1], "a": [1]])
    #expect(clash.commonPrefix == "net." && clash.dropping("net.") == nil)
  }

  @Test("a base model's names get the prefix, the head's does not")
  func base() throws {
    let whole = try Inventory.of(["layers.0.weight": [2], "head.weight": [2]])
    let named = try #require(whole.adding(base: "model.", head: "head.weight"))
    #expect(named.names == ["model.layers.0.weight", "head.weight"])
    #expect(named.base == "model." && named.renamings == [])
    #expect(named.adding(base: "other.", head: nil) == nil)
    let has = try Inventory.of(["model.layers.0.weight": [2], "layers.weight": [2]])
    #expect(has.adding(base: "model.", head: nil) == nil)
  }
}
