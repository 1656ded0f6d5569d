import Hub
import OrderedCollections
package import Tensors

/// A framework's config that is YAML (LitGPT's `model_config.yaml`).
package enum YAMLConfig {
  /// The config as an object.
  ///
  /// - Throws: `layout.yaml`, `layout.schema`.
  package static func parse(_ text: String, file: String) throws(Diagnostic) -> JSONObject {
    guard let config = try YAMLCursor(text: text, file: file).json().object else {
      throw Diagnostic(code: "config.not-an-object", subject: file, message: "holds no mapping")
    }
    return config
  }
}
