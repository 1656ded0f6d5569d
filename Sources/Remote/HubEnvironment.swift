package import Tensors

#if canImport(Glibc)
  import Glibc
#elseif canImport(Musl)
  import Musl
#else
  import Darwin
#endif

/// What the environment says of the Hugging Face hub, with the names and the precedence of
/// huggingface_hub.
package struct HubEnvironment: Sendable {
  /// The hub.
  package var endpoint: RemoteURL
  /// The token, and where it was found.
  package var token: (value: String, place: String)?
  /// The directory of the cache, with an entry for each model.
  package var cache: String
  /// Whether the network is not to be used.
  package var isOffline: Bool

  /// The process's own.
  ///
  /// - Throws: `source.url` for an `HF_ENDPOINT` that is none, `source.token`.
  package static func own() throws(Diagnostic) -> HubEnvironment {
    try HubEnvironment { name in getenv(name).map { String(cString: $0) } }
  }

  /// What `value` says of each variable.
  ///
  /// - Throws: as `own()`.
  package init(_ value: (String) -> String?) throws(Diagnostic) {
    func text(_ names: String...) -> String? {
      names.lazy.compactMap(value).first { !$0.isEmpty }
    }
    func isOn(_ name: String) -> Bool {
      ["1", "on", "yes", "true"].contains(value(name)?.lowercased() ?? "")
    }
    let user = text("HOME") ?? "."
    func expanded(_ path: String) -> String {
      path == "~" || path.hasPrefix("~/") ? user + path.dropFirst() : path
    }
    endpoint = try RemoteURL(FilePath.trimmed(text("HF_ENDPOINT") ?? "https://huggingface.co"))
    let home = expanded(
      text("HF_HOME") ?? (text("XDG_CACHE_HOME") ?? user + "/.cache") + "/huggingface")
    cache = expanded(text("HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE") ?? home + "/hub")
    isOffline = isOn("HF_HUB_OFFLINE") || isOn("TRANSFORMERS_OFFLINE")
    guard !isOn("HF_HUB_DISABLE_IMPLICIT_TOKEN") else { return }
    func clean(_ text: String) -> String {
      String(text.filter { !$0.isNewline }.drop { $0 == " " })
    }
    if let given = text("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN").map(clean), !given.isEmpty {
      token = (given, "HF_TOKEN")
    } else {
      let path = expanded(text("HF_TOKEN_PATH") ?? home + "/token")
      if FilePath.kind(path) == .file, let file = try? RandomAccessFile(path: path),
        file.byteCount <= 4096, let bytes = try? file.bytes(at: 0, count: file.byteCount)
      {
        let kept = clean(String(decoding: bytes, as: UTF8.self))
        if !kept.isEmpty { token = (kept, path) }
      }
    }
    if let token, !token.value.utf8.allSatisfy({ (0x21...0x7E).contains($0) }) {
      throw Diagnostic(
        code: "source.token", subject: token.place,
        message: "holds something that cannot be a token: a space, or more than ASCII",
        help: "tokens look like hf_…; see https://huggingface.co/settings/tokens")
    }
  }
}
