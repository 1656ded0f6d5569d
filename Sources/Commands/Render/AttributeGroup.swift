import Hub
import OrderedCollections
import Parity
import WeighbridgeKit

/// An attribute that differs in the same way in many sub-layers, told once.
struct AttributeGroup {
  /// One of them.
  let attribute: CheckpointDiff.Attribute
  /// Where: `model`, or `attention in layers 1, 3, mlp in layers 0–3`.
  let place: String

  /// The attributes by what they say, in the order in which they come.
  static func groups(_ attributes: [CheckpointDiff.Attribute]) -> [AttributeGroup] {
    var groups: OrderedDictionary<String, [CheckpointDiff.Attribute]> = [:]
    for attribute in attributes {
      let key = "\(attribute.name) \(attribute.a.text()) \(attribute.b.text())"
      groups["\(key) \(attribute.isRounding)", default: []].append(attribute)
    }
    return groups.values.map { AttributeGroup(attribute: $0[0], place: place($0)) }
  }

  private static func place(_ attributes: [CheckpointDiff.Attribute]) -> String {
    var kinds: OrderedDictionary<String, [Int]> = [:]
    for attribute in attributes {
      kinds[attribute.kind, default: []] += attribute.layer.map { [$0] } ?? []
    }
    return kinds.map { kind, layers in
      layers.isEmpty ? kind : "\(kind) in \(Layers.text(layers))"
    }.joined(separator: ", ")
  }
}

extension ParityResult {
  /// The attributes in which the configs differ where the two part, with what each side says.
  var divergingAttributes: [String] {
    guard let divergence = report.firstDivergence else { return [] }
    let layer = divergence.sublayer.map { spec.sublayers[$0].layer }
    return divergence.attributes.map { name in
      let here = attributes.first {
        $0.name == name && $0.kind == divergence.kind && $0.layer == layer
      }
      return here.map { "\(name): \($0.a.text()) in A, \($0.b.text()) in B" } ?? name
    }
  }
}

/// Numbers of layers for people.
enum Layers {
  /// `layer 3`, `layers 1, 3`, `layers 0–47`, `24 layers from 1 to 47`.
  static func text(_ layers: [Int]) -> String {
    let layers = Set(layers).sorted()
    guard let first = layers.first, let last = layers.last, layers.count > 1 else {
      return "layer \(layers.first.map { "\($0)" } ?? "")"
    }
    var runs: [ClosedRange<Int>] = []
    for layer in layers {
      if let run = runs.last, run.upperBound + 1 == layer {
        runs[runs.count - 1] = run.lowerBound...layer
      } else {
        runs.append(layer...layer)
      }
    }
    if runs.count > 6 { return "\(layers.count) layers from \(first) to \(last)" }
    let shown = runs.map { run in
      switch run.count {
      case 1: "\(run.lowerBound)"
      case 2: "\(run.lowerBound), \(run.upperBound)"
      default: "\(run.lowerBound)–\(run.upperBound)"
      }
    }
    return "layers \(shown.joined(separator: ", "))"
  }
}
