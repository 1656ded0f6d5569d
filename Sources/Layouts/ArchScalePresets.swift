public import OrderedCollections
public import Tensors

/// microsoft/ArchScale's named configurations, which are generated: `sambay_d16` is `sambay` with 16
/// layers, whose sizes follow from that.
public struct ArchScalePresets: Sendable {
  private var defaults: JSONObject = [:]
  private var fusedDefaults: JSONObject = [:]
  private var families: JSONObject = [:]

  /// None.
  init() {}

  /// Those of the bundled file.
  ///
  /// - Throws: `json.*`, `layout.presets`.
  init(text: String, file: String) throws(Diagnostic) {
    let root = try JSONParser.parse(Array(text.utf8), file: file)
    guard let defaults = root["defaults"]?.object, let fused = root["fused_defaults"]?.object,
      let families = root["presets"]?.object
    else {
      throw Diagnostic(
        code: "layout.presets", subject: file,
        message: "needs the members defaults, fused_defaults and presets")
    }
    (self.defaults, fusedDefaults, self.families) = (defaults, fused, families)
  }

  /// The names that are offered, with the depths that ArchScale's scaling runs have.
  public var names: [String] {
    families.flatMap { family, value -> [String] in
      if value["hidden"] == true { return [] }
      return (value["depths"]?.array ?? []).map { "\(family)_d\($0.int ?? 0)" }
    }
  }

  /// The config called `name`, of any depth, as `dataclasses.asdict` writes it; `nil` for a name that
  /// ArchScale does not have.
  ///
  /// - Parameter fused: whether it is of July 2025, with fused projections.
  public func config(named name: String, fused: Bool) -> JSONObject? {
    guard let mark = name.range(ofLast: "_d"), let depth = Int(name[mark.upperBound...]),
      (1...1024).contains(depth)
    else { return nil }
    var (family, isMixture) = (String(name[..<mark.lowerBound]), false)
    if let experts = family.range(ofLast: "_moe_s") {
      family = String(family[..<experts.lowerBound])
      isMixture = true
    }
    guard let preset = families[family] else { return nil }
    func heads(_ value: JSONValue?) -> Int {
      switch value?.string {
      case "d": depth
      case "2d": 2 * depth
      case "d/4": max(1, depth / 4)
      default: value?.int ?? depth
      }
    }
    let isFused = fused || preset["fused"] == true
    var config = isFused ? fusedDefaults : defaults
    let own = preset["set"]?.object ?? [:]
    config["name"] = .string(name)
    config["n_layer"] = .int(depth)
    config["n_head"] = .int(heads(preset["n_head"]))
    config["head_dim"] = preset["head_dim"] ?? .null
    config["n_query_groups"] = .int(heads(preset["n_query_groups"]))
    config["ar"] = preset["ar"] ?? .null
    // A setting that July 2025 did not have has no place in its config, unless it changes something.
    for (key, value) in own { config[key] = value }
    let ar = preset["ar"]?.int ?? 128
    config.setWidth(ar * depth)
    let rows = config["vocab_size"]?.int ?? 0
    config["padded_vocab_size"] = .int((rows + 63) / 64 * 64)
    if isMixture { config["moe"] = true }
    return config
  }
}

extension JSONObject {
  /// Sets ArchScale's width, and that of the MLP which follows from it.
  package mutating func setWidth(_ width: Int) {
    self["n_embd"] = .int(width)
    let (inner, overflows) = width.multipliedReportingOverflow(by: self["mlp_expand"]?.int ?? 4)
    if !overflows { self["intermediate_size"] = .int(inner) }
  }
}

extension String {
  /// The last place of `text`.
  fileprivate func range(ofLast text: String) -> Range<Index>? {
    var found: Range<Index>?
    var start = startIndex
    while start < endIndex {
      if self[start...].hasPrefix(text) { found = start..<index(start, offsetBy: text.count) }
      start = index(after: start)
    }
    return found
  }
}
