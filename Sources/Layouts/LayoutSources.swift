import Hub
import Synchronization
import Tensors

/// The texts of which layouts are made: those that `extends` may name, and the shared parts.
///
///     extends: samba-fla          # at the top: another layout
///     mixers:
///       mlp: {extends: swiglu}    # in a section: a part of formats/shared/mixers.yaml
final class LayoutSources: Sendable {
  private let texts: [String: (file: String, text: String)]
  private let shared: [String: String]
  private let parts = Mutex<[String: YAMLNode]>([:])

  /// Sections of which `formats/shared` may hold parts.
  static let sections = ["files", "detect", "config", "model", "layers", "mixers", "write"]
  private static let mostLevels = 8

  init(_ files: [(name: String, text: String)]) {
    var texts: [String: (file: String, text: String)] = [:]
    var shared: [String: String] = [:]
    for (name, text) in files where name.hasSuffix(".yaml") {
      let stem = String(name.dropLast(".yaml".count))
      if stem.hasPrefix("shared/") {
        shared[String(stem.dropFirst("shared/".count))] = text
      } else if stem != "inert-keys" {
        texts[stem] = (name, text)
      }
    }
    self.texts = texts
    self.shared = shared
  }

  /// The file's text, by the layout's name.
  func text(of layout: String) -> String? { texts[layout]?.text }

  /// What a file says, with all that it extends.
  ///
  /// - Parameters:
  ///   - given: texts given with the run, by their layouts' names; they come before the bundled ones.
  ///   - keys: only these keys of the file itself; `nil` for all.
  /// - Throws: `layout.yaml`, `layout.schema`.
  func node(
    _ text: String, file: String, given: [String: (file: String, text: String)] = [:],
    keys: [String]? = nil
  ) throws(Diagnostic) -> YAMLNode {
    try node(text, file, given, keys, [])
  }

  private func node(
    _ text: String, _ file: String, _ given: [String: (file: String, text: String)],
    _ keys: [String]?, _ chain: [String]
  ) throws(Diagnostic) -> YAMLNode {
    let text = keys.map { Self.lines(of: text, under: $0 + ["extends"]) } ?? text
    var node = try YAMLNode(text: text, file: file)
    for section in Self.sections {
      guard let value = node[section] else { continue }
      if section == "mixers" {
        var mixers = value
        for member in value.members ?? [] {
          guard let key = member.key else { continue }
          mixers = mixers.replacing(key, by: try extended(member.value, section))
        }
        node = node.replacing(section, by: mixers)
      } else {
        node = node.replacing(section, by: try extended(value, section))
      }
    }
    guard let extends = node["extends"] else { return node }
    guard let name = extends.text else { throw extends.error("extends should name a layout") }
    // A given layout may replace the bundled one that it extends.
    let isGiven = given[name] != nil && !chain.contains("given \(name)")
    let link = isGiven ? "given \(name)" : name
    guard !chain.contains(link), chain.count < Self.mostLevels else {
      throw extends.error("extends itself: \((chain + [name]).joined(separator: ", "))")
    }
    guard let base = isGiven ? given[name] : texts[name] else {
      let known = Set(texts.keys).union(given.keys).sorted()
      throw extends.error(
        "extends no layout that is known: \(shown(name))",
        help: Nearest.name(to: name, among: known).map { "did you mean \($0)?" }
          ?? "layouts: \(known.joined(separator: ", "))")
    }
    let whole = try self.node(base.text, base.file, given, keys, chain + [link])
    // Another layout's other names are not this one's.
    return node.without("extends").merged(over: whole.without("also"))
  }

  /// A section with the shared parts that it extends.
  private func extended(_ node: YAMLNode, _ section: String) throws(Diagnostic) -> YAMLNode {
    guard let extends = node["extends"] else { return node }
    var whole: YAMLNode?
    for name in extends.elements ?? [extends] {
      let parts = try parts(of: section)
      guard let part = name.text.flatMap({ parts?[$0] }) else {
        let known = parts?.members?.compactMap(\.key) ?? []
        throw name.error(
          "extends no shared part of \(section): \(shown(name.text ?? ""))",
          help: Nearest.name(to: name.text ?? "", among: known).map { "did you mean \($0)?" }
            ?? "parts: \(known.joined(separator: ", "))")
      }
      whole = whole.map { part.merged(over: $0) } ?? part
    }
    return whole.map { node.without("extends").merged(over: $0) } ?? node
  }

  private func parts(of section: String) throws(Diagnostic) -> YAMLNode? {
    if let known = parts.withLock({ $0[section] }) { return known }
    guard let text = shared[section] else { return nil }
    let node = try YAMLNode(text: text, file: "shared/\(section).yaml")
    parts.withLock { $0[section] = node }
    return node
  }

  /// The lines of the keys `wanted` of the file itself; the others are empty, so that all keep their
  /// numbers.
  private static func lines(of text: String, under wanted: [String]) -> String {
    var copy = text
    return copy.withUTF8 { bytes in
      var kept: [UInt8] = []
      var keeps = false
      var start = 0
      while start < bytes.count {
        let rest = bytes[start...]
        let end = rest.firstIndex(of: UInt8(ascii: "\n")).map { $0 + 1 } ?? bytes.count
        let line = bytes[start..<end]
        // A key of the file itself stands at the first column.
        if line.first != UInt8(ascii: " "), line.first != UInt8(ascii: "#"),
          line.first != UInt8(ascii: "\n")
        {
          keeps = wanted.contains { line.starts(with: "\($0):".utf8) }
        }
        if keeps { kept += line } else { kept.append(UInt8(ascii: "\n")) }
        start = end
      }
      return String(decoding: kept, as: UTF8.self)
    }
  }
}

extension YAMLNode {
  fileprivate func error(_ message: String, help: String? = nil) -> Diagnostic {
    Diagnostic(code: "layout.schema", subject: "\(place)", message: message, help: help)
  }
}
