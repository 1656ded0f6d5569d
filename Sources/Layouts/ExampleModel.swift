import Hub
public import OrderedCollections
public import Tensors

/// A small model of one kind as one layout's config describes it, to ask what becomes of such models.
public struct ExampleModel: Sendable {
  /// The kind of model: `Samba`.
  public var name: String
  /// The layout, by its own name.
  public var layout: String
  /// The files of `Fixtures/models` that its framework saved with this config, if there are any.
  public var fixture: String?
  /// The framework's config.
  public var config: JSONObject
}

extension LayoutLibrary {
  /// One model of every kind that the bundled layouts know.
  ///
  /// - Throws: `layout.example-models` for a mistake in the bundled file.
  public static func exampleModels() throws(Diagnostic) -> [ExampleModel] {
    let name = "example-models.json"
    let text = bundledFormats.first { $0.name == name }?.text ?? ""
    var exampleModels: [ExampleModel] = []
    for value in try JSONParser.parse(Array(text.utf8), file: name).array ?? [] {
      guard let kind = value["name"]?.string, let layout = value["layout"]?.string,
        let config = value["config"]?.object
      else {
        throw Diagnostic(
          code: "layout.example-models", subject: name,
          message: "needs name, layout and config in each")
      }
      exampleModels.append(
        ExampleModel(
          name: kind, layout: layout, fixture: value["fixture"]?.string, config: config))
    }
    return exampleModels
  }
}
