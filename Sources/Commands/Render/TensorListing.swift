import ArgumentParser
import Hub
import OrderedCollections
import Tensors
import WeighbridgeKit

/// How a listing is written.
enum ListingFormat: String, ExpressibleByArgument, CaseIterable {
  case table, csv, markdown, json
}

/// What tensors are sorted by.
enum TensorColumn: String, ExpressibleByArgument, CaseIterable {
  case name, bytes, dtype, piece, min, max, mean, std, nan, inf, zeros

  /// Whether every value must be read for it.
  var needsValues: Bool {
    switch self {
    case .name, .bytes, .dtype, .piece: false
    case .min, .max, .mean, .std, .nan, .inf, .zeros: true
    }
  }

  /// Whether `a` comes before `b`: texts in their order, numbers greatest first, what has none last.
  func orders(_ a: Inspection.Tensor, _ b: Inspection.Tensor) -> Bool {
    func greater(_ value: (Inspection.Tensor) -> Double?) -> Bool {
      (value(a) ?? -.infinity) > (value(b) ?? -.infinity)
    }
    return switch self {
    case .name: a.info.name < b.info.name
    case .dtype: a.info.typeName < b.info.typeName
    case .piece: (a.piece ?? "~") < (b.piece ?? "~")
    case .bytes: a.info.storedByteCount > b.info.storedByteCount
    case .min: greater(\.stats?.min)
    case .max: greater(\.stats?.max)
    case .mean: greater(\.stats?.mean)
    case .std: greater(\.stats?.std)
    case .nan: greater { $0.stats.map { Double($0.nan) } }
    case .inf: greater { $0.stats.map { Double($0.inf) } }
    case .zeros: greater { $0.stats.map { Double($0.zeros) } }
    }
  }
}

/// What tensors are counted by.
enum TensorProperty: String, ExpressibleByArgument, CaseIterable {
  case layer, kind, role, dtype, file

  /// The group of a tensor.
  func group(of tensor: Inspection.Tensor, _ spec: ModelSpec?) -> String {
    let sublayer = tensor.sublayer.flatMap { spec?.sublayers[$0] }
    switch self {
    case .layer: return sublayer.map { "layer \($0.layer)" } ?? outside(tensor)
    case .kind: return sublayer?.kind ?? outside(tensor)
    case .role:
      let role = tensor.roles.joined(separator: "+")
      return role.isEmpty
        ? outside(tensor)
        : [sublayer?.kind, role].compactMap { $0 }
          .joined(separator: " ")
    case .dtype: return tensor.info.typeName
    case .file: return tensor.info.file
    }
  }

  private func outside(_ tensor: Inspection.Tensor) -> String {
    tensor.piece == nil ? "unknown" : "model"
  }
}

/// The tensors of an inspection as they were asked for: chosen, sorted, counted, or as a tree.
struct TensorListing {
  /// The tensors that are listed, in their order.
  let tensors: [Inspection.Tensor]
  private let columns: [(title: String, alignment: Table.Alignment)]
  private let rows: [[String]]
  /// Columns that a narrow terminal does without.
  private let spare: [Int]
  private let groups: [Group]
  private let treeText: String?

  /// Tensors that have something in common.
  private struct Group {
    var name: String
    var tensors = 0
    var parameters = 0
    var bytes = 0
  }

  init(
    _ inspection: Inspection, withStatistics: Bool = false, sort: TensorColumn? = nil,
    top: Int? = nil, groupBy: TensorProperty? = nil, isTree: Bool = false, isRaw: Bool = false
  ) {
    func number(_ value: Double?) -> String {
      isRaw ? value.map { "\($0)" } ?? "" : Shown.number(value)
    }
    func count(_ value: Int?) -> String { value.map { "\($0)" } ?? (isRaw ? "" : "-") }
    var tensors = inspection.tensors
    // Ties keep the file's order.
    if let sort {
      tensors = tensors.enumerated().sorted {
        if sort.orders($0.element, $1.element) { return true }
        return !sort.orders($1.element, $0.element) && $0.offset < $1.offset
      }.map(\.element)
    }
    if let top, groupBy == nil { tensors = Array(tensors.prefix(top)) }
    self.tensors = tensors
    treeText = isTree ? NameTree(tensors).text : nil
    if let groupBy {
      var found: OrderedDictionary<String, Group> = [:]
      for tensor in tensors {
        let name = groupBy.group(of: tensor, inspection.spec)
        found[name, default: Group(name: name)].tensors += 1
        found[name, default: Group(name: name)].parameters += tensor.info.shape.elementCount ?? 0
        found[name, default: Group(name: name)].bytes += tensor.info.storedByteCount
      }
      var groups = Array(found.values)
      if sort == .bytes { groups.sort { ($1.bytes, $0.name) < ($0.bytes, $1.name) } }
      if let top { groups = Array(groups.prefix(top)) }
      self.groups = groups
      columns = [
        (groupBy.rawValue, .left), ("tensors", .right), ("parameters", .right), ("bytes", .right),
      ]
      spare = []
      rows = groups.map {
        [
          $0.name, "\($0.tensors)", isRaw ? "\($0.parameters)" : Shown.count($0.parameters),
          isRaw ? "\($0.bytes)" : Shown.bytes($0.bytes),
        ]
      }
      return
    }
    groups = []
    if withStatistics {
      columns = [
        ("tensor", .left), ("dtype", .left), ("shape", .left), ("min", .right), ("max", .right),
        ("mean", .right), ("std", .right), ("nan", .right), ("inf", .right), ("zeros", .right),
      ]
      spare = [5, 1, 9, 2, 6]
      rows = tensors.map { tensor in
        let stats = tensor.stats
        return [
          tensor.info.name.string, tensor.info.typeName,
          tensor.info.shape.description + (tensor.grid.map { " in \($0)" } ?? ""),
          number(stats?.min), number(stats?.max), number(stats?.mean), number(stats?.std),
          count(stats?.nan), count(stats?.inf), count(stats?.zeros),
        ]
      }
    } else {
      columns = [
        ("tensor", .left), ("dtype", .left), ("shape", .left), ("bytes", .right), ("piece", .left),
      ]
      spare = [3, 1]
      rows = tensors.map {
        [
          $0.info.name.string, $0.info.typeName, $0.info.shape.description,
          isRaw ? "\($0.info.storedByteCount)" : Shown.bytes($0.info.storedByteCount),
          $0.piece ?? (isRaw ? "" : "-"),
        ]
      }
    }
  }

  /// For a terminal.
  func text(width: Int) -> String {
    if let treeText { return treeText }
    var table = Table(columns, spare: spare)
    table.reserve(rows.count)
    for row in rows { table.add(row) }
    return table.text(width: width)
  }

  /// Comma-separated values, RFC 4180: a header, then a line for each tensor or group.
  var csv: String {
    func cell(_ text: String) -> String {
      guard text.contains(where: { ",\"\n\r".contains($0) }) else { return text }
      return "\""
        + text.split(separator: "\"", omittingEmptySubsequences: false)
        .joined(separator: "\"\"") + "\""
    }
    return ([columns.map(\.title)] + rows).map { $0.map(cell).joined(separator: ",") }
      .joined(separator: "\n")
  }

  /// A Markdown table, as GitHub shows it.
  var markdown: String {
    func line(_ cells: [String]) -> String { "| " + cells.joined(separator: " | ") + " |" }
    func cell(_ text: String) -> String {
      text.split(separator: "|", omittingEmptySubsequences: false).joined(separator: "\\|")
    }
    let rules = columns.map { if case .right = $0.alignment { "---:" } else { "---" } }
    return ([columns.map(\.title), rules] + rows.map { $0.map(cell) }).map(line)
      .joined(separator: "\n")
  }

  /// The groups as JSON.
  var document: JSONValue {
    .array(
      groups.map {
        [
          "name": .string($0.name), "tensors": .int($0.tensors), "parameters": .int($0.parameters),
          "bytes": .int($0.bytes),
        ]
      })
  }
}

/// Names cut at their dots, with what lies below each.
private struct NameTree {
  private var root = Node()

  private final class Node {
    var children: OrderedDictionary<String, Node> = [:]
    var tensor: Inspection.Tensor?
    var tensors = 0
    var bytes = 0
  }

  init(_ tensors: [Inspection.Tensor]) {
    for tensor in tensors {
      var node = root
      node.tensors += 1
      node.bytes += tensor.info.storedByteCount
      for part in tensor.info.name.string.split(separator: ".", omittingEmptySubsequences: false) {
        let child = node.children[String(part)] ?? Node()
        node.children[String(part)] = child
        node = child
        node.tensors += 1
        node.bytes += tensor.info.storedByteCount
      }
      node.tensor = tensor
    }
  }

  var text: String {
    var lines: [String] = []
    // A node at a time, so that names of thousands of dots do not nest calls.
    var open: [(node: Node, name: String, depth: Int)] = root.children.reversed().map {
      ($0.value, $0.key, 0)
    }
    while let (first, start, depth) = open.popLast() {
      var (node, name) = (first, start)
      // A chain of single children is one line.
      while node.tensor == nil, node.children.count == 1, let only = node.children.elements.first {
        name += ".\(only.key)"
        node = only.value
      }
      let indent = String(repeating: "  ", count: depth)
      if let tensor = node.tensor {
        lines.append("\(indent)\(name)  \(tensor.info.typeName) \(tensor.info.shape)")
      } else {
        lines.append(
          "\(indent)\(name)  \(node.tensors) tensors, \(Shown.bytes(node.bytes))")
      }
      for child in node.children.reversed() { open.append((child.value, child.key, depth + 1)) }
    }
    return lines.joined(separator: "\n")
  }
}
