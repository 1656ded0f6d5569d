import Hub
public import OrderedCollections
public import Tensors

/// A framework's config that is YAML (LitGPT's `model_config.yaml`).
public enum YAMLConfig {
  /// The config as an object.
  ///
  /// - Throws: `layout.yaml`, `layout.schema`.
  public static func parse(_ text: String, file: String) throws(Diagnostic) -> JSONObject {
    guard let config = try YAMLCursor(text: text, file: file).json().object else {
      throw Diagnostic(code: "config.not-an-object", subject: file, message: "holds no mapping")
    }
    return config
  }
}
