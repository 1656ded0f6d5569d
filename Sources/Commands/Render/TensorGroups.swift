import Hub
import Layouts
import OrderedCollections
import WeighbridgeKit

/// Tensors that play one part, layer by layer, so that one that is unlike its peers stands out.
struct TensorGroup {
  /// A tensor and the layer it is in.
  struct Member {
    var layer: Int?
    var tensor: Inspection.Tensor
    /// What is odd about it.
    var oddity: Oddity?
  }

  /// Something that a person should look at.
  struct Oddity {
    /// Whether it cannot be meant.
    var isFault: Bool
    /// In one word, for a picture.
    var sign: String
    /// In words.
    var words: String

    /// In words that hold for others like it, too.
    var kind: String {
      switch sign {
      case "NaN": "NaN"
      case "inf": "infinite values"
      case "flat": "all one value, unlike their peers"
      case "wide": "a spread much larger than their peers'"
      default: "a spread much smaller than their peers'"
      }
    }
  }

  /// The kind of sub-layer; `model`, or empty where the layout is unknown.
  var kind: String
  /// The roles, or the name with `*` for its numbers.
  var title: String
  var members: [Member] = []

  /// What is odd about some of the tensors, told together.
  struct Note {
    var isFault: Bool
    /// The layers; empty where there are none.
    var place: String
    var words: String
    /// The tensors.
    var members: [Member]
  }

  /// What is odd, faults first. Many tensors that are odd in the same way are told in one line.
  func notes() -> [Note] {
    let odd = members.filter { $0.oddity != nil }
    let signs = OrderedDictionary(grouping: odd) { $0.oddity?.sign ?? "" }
    let notes = signs.values.flatMap { alike -> [Note] in
      guard alike.count > 3, let oddity = alike[0].oddity else {
        return alike.map {
          Note(
            isFault: $0.oddity?.isFault == true, place: $0.layer.map { "layer \($0)" } ?? "",
            words: $0.oddity?.words ?? "", members: [$0])
        }
      }
      return [
        Note(
          isFault: oddity.isFault, place: Layers.text(alike.compactMap(\.layer)),
          words: "\(oddity.kind), in \(alike.count) of \(members.count) tensors", members: alike)
      ]
    }
    return notes.filter(\.isFault) + notes.filter { !$0.isFault }
  }

  /// The tensors with statistics by kind and role; by name where the layout is unknown.
  static func groups(_ inspection: Inspection) -> [TensorGroup] {
    var groups: OrderedDictionary<String, TensorGroup> = [:]
    for tensor in inspection.tensors where tensor.stats != nil {
      let kind: String
      let title: String
      let layer: Int?
      if let spec = inspection.spec, tensor.piece != nil {
        let sublayer = tensor.sublayer.map { spec.sublayers[$0] }
        kind = sublayer?.kind ?? "model"
        title = tensor.roles.joined(separator: " + ")
        layer = sublayer?.layer
      } else {
        kind = ""
        (title, layer) = pattern(tensor.info.name.string)
      }
      groups["\(kind)\u{0}\(title)", default: TensorGroup(kind: kind, title: title)].members
        .append(Member(layer: layer, tensor: tensor))
    }
    return groups.values.map { group in
      var group = group
      group.judge()
      return group
    }
  }

  /// `a.3.b` becomes `a.*.b` and 3.
  private static func pattern(_ name: String) -> (String, Int?) {
    var first: Int?
    let parts = name.split(separator: ".", omittingEmptySubsequences: false).map { part -> String in
      guard let number = Int(part) else { return String(part) }
      if first == nil { first = number }
      return "*"
    }
    return (parts.joined(separator: "."), first)
  }

  /// How many times more or less than its peers' a tensor's spread is when it is pointed out.
  private static let oddRatio = 10.0

  private mutating func judge() {
    let spreads = members.compactMap { $0.tensor.stats?.std }.sorted()
    let median = spreads.isEmpty ? 0 : spreads[spreads.count / 2]
    for i in members.indices {
      guard let stats = members[i].tensor.stats else { continue }
      let count = members[i].tensor.info.shape.elementCount ?? 0
      if stats.nan > 0 || stats.inf > 0 {
        let parts = [
          stats.nan > 0 ? "\(stats.nan) NaN" : nil,
          stats.inf > 0 ? "\(stats.inf) infinite" : nil,
        ].compactMap { $0 }
        members[i].oddity = Oddity(
          isFault: true, sign: stats.nan > 0 ? "NaN" : "inf",
          words: "\(parts.joined(separator: " and ")) of \(count) values")
      } else if members.count >= 2, stats.zeros == count, count > 1, spreads.last ?? 0 > 0,
        median > 0
      {
        members[i].oddity = Oddity(
          isFault: false, sign: "flat", words: "all zeros, unlike its peers")
      } else if members.count >= 3, median > 0, let std = stats.std {
        // Whether a tensor is odd, its peers in other layers say.
        if std == 0 {
          members[i].oddity = Oddity(
            isFault: false, sign: "flat",
            words: "all one value, unlike its peers")
        } else if std > median * Self.oddRatio {
          members[i].oddity = Oddity(
            isFault: false, sign: "wide", words: "spread \(Shown.number(std / median)) × its peers'"
          )
        } else if std * Self.oddRatio < median {
          members[i].oddity = Oddity(
            isFault: false, sign: "thin", words: "spread \(Shown.number(std / median)) × its peers'"
          )
        }
      }
    }
  }
}
