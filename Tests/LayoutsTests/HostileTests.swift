import Hub
import Inference
import Layouts
import TestSupport
import Tensors
import Testing

@Suite("Hostile configs and layouts")
struct HostileTests {
  /// Paths below `Fixtures/bad/<kind>`, with the code that each name promises.
  static func files(_ kind: String) -> [(path: String, code: String)] {
    func below(_ directory: String) -> [String] {
      Files.names(in: directory).flatMap { name in
        name.contains("__") ? ["\(directory)/\(name)"] : below("\(directory)/\(name)")
      }
    }
    return below("\(Fixtures.root)/bad/\(kind)").map { path in
      (path, String(path.split(separator: "/").last!.split(separator: "__")[0]))
    }
  }

  @Test("every config that asks for too much yields exactly the code in its name")
  func configs() throws {
    let library = try LayoutLibrary.bundled()
    let files = Self.files("config")
    #expect(files.count >= 12)
    for (path, code) in files {
      let name = path.split(separator: "/").dropLast().last!
      let layout = try #require(library.layouts.first { $0.name == name })
      let model = name == "samba-fla" ? "samba-fla/fla" : "retnet-torchscale/torchscale"
      let inventory = try Inventory.of(ModelFixture.named(model).path)
      let codes: [String]
      do {
        let config = try #require(
          try JSONParser.parse(Files.read(path), file: path, mode: .python).object)
        let expansion = layout.expand(config: config, vocabulary: .standard, inventory: inventory)
        codes = expansion.problems.filter { $0.severity == .error }.map(\.code)
      } catch let error as Diagnostic {
        codes = [error.code]
      }
      #expect(codes == [code], "\(path)")
    }
  }

  @Test("every layout file that asks for too much yields exactly the code in its name")
  func layouts() throws {
    let files = Self.files("layout")
    #expect(files.count >= 9)
    for (path, code) in files {
      let text = Files.text(path)
      let error = #expect(throws: Diagnostic.self, "\(path)") {
        try Layout(yaml: text, file: path)
      }
      #expect(error?.code == code, "\(path)")
      // A framework's own config may be YAML, and that comes with the checkpoint.
      if code == "layout.yaml" {
        #expect(throws: Diagnostic.self) { try YAMLConfig.parse(text, file: path) }
      }
    }
  }
}
