import Hub
import Inference
import Testing

@testable import Conversion

@Suite("Rewrites")
struct RewriteTests {
  @Test("the output projection of a kind is read from its pieces' shapes")
  func outputs() {
    let expected = [
      "attention": ["o.weight", "o.bias"], "cross_attention": ["o.weight", "o.bias"],
      "gla": ["o.weight"], "retention": ["o.weight"], "mlp": ["down.weight", "down.bias"],
      "mamba": ["out.weight", "out.bias"], "mamba2": ["out.weight", "out.bias"],
      "gmu": ["out.weight", "out.bias"],
      // A gate between the stream and what is computed: no projection stands alone at its end.
      "mega": [],
    ]
    for (name, pieces) in expected {
      #expect(Vocabulary.standard.kinds[name]?.outputPieces == pieces, "\(name)")
    }
  }

  @Test("a kind with two projections to the model's width says none, and may name one")
  func ambiguous() {
    func kind(_ outputs: [String]?) -> MixerKind {
      MixerKind(
        name: "two", summary: "", attributes: [],
        pieces: [
          MixerKind.Piece("r.weight", ["d_model", "d_model"], ""),
          MixerKind.Piece("o.weight", ["d_model", "d_model"], ""),
        ], outputPieces: outputs)
    }
    #expect(kind(nil).outputPieces == [])
    #expect(kind(["o.weight"]).outputPieces == ["o.weight"])
  }

  @Test("a target's rewrites come in its own order, then those that no layout names")
  func order() {
    #expect(Rewrite.list(.request, for: nil).map(\.name) == ["resize_vocabulary"])
    #expect(Rewrite.list(.pattern, for: nil).map(\.name) == ["fit_layers"])
    #expect(Rewrite.list(.rules, for: nil).map(\.name) == ["pad_widths"])
    #expect(Rewrite.list(.target, for: nil).map(\.name) == ["untie_head"])
    #expect(RewriteNames.all == RewriteNames.all.sorted())
    #expect(!RewriteNames.all.contains("fit_layers"))
  }
}
