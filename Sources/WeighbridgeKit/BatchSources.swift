import Checkpoints
import Conversion
package import Tensors

#if canImport(Glibc)
  import Glibc
#elseif canImport(Musl)
  import Musl
#else
  import Darwin
#endif

/// The sources of many conversions, each with the directory that it goes to.
package struct BatchSources {
  /// A source.
  package struct Item: Sendable {
    /// As it was given, or as the pattern found it.
    package var source: String
    /// The directory in the common one, named like the source.
    package var destination: String
    /// Why it cannot be converted at all.
    package var problem: Diagnostic?
  }

  /// In the order given; what a pattern finds in the order of its numbers.
  package private(set) var items: [Item] = []
  /// What was left out.
  package private(set) var notes: [Diagnostic] = []

  /// Whether `path` is a pattern (`*`, `?`, `[…]`) rather than the name of something that is there.
  package static func isPattern(_ path: String) -> Bool {
    path.contains { "*?[".contains($0) } && !path.contains("://") && !FilePath.exists(path)
  }

  /// The sources that `paths` name, all going to directories in `directory`.
  package init(_ paths: [String], into directory: String) {
    let home = FilePath.trimmed(directory)
    let own = FilePath.Identity(home)
    var seen: Set<String> = []
    var names: [TensorName: Int] = [:]
    for path in paths {
      guard Self.isPattern(path) else {
        add(path, home, &seen, &names)
        continue
      }
      let found = Self.matches(path)
      var count = 0
      for path in found {
        if let own, FilePath.Identity(path) == own {
          notes.append(
            Diagnostic(
              .note, code: "convert.destination-matched", subject: path,
              message: "is the destination, and no source"))
          continue
        }
        count += 1
        add(path, home, &seen, &names)
      }
      if count == 0 {
        items.append(
          Item(
            source: path, destination: home,
            problem: Diagnostic(
              code: "convert.no-match", subject: path, message: "matches nothing",
              help: "* and ? stand for what is in one directory; see what is there: ls \(path)")))
      }
    }
  }

  /// What a pattern finds, step-9 before step-10.
  package static func matches(_ pattern: String) -> [String] {
    var found = glob_t()
    defer { globfree(&found) }
    guard glob(pattern, GLOB_NOSORT, nil, &found) == 0, let paths = found.gl_pathv else {
      return []
    }
    var all: [String] = []
    for number in 0..<Int(found.gl_pathc) {
      if let path = paths[number] { all.append(String(cString: path)) }
    }
    return sorted(all)
  }

  /// Ordered by the numbers in them.
  package static func sorted(_ paths: [String]) -> [String] {
    let keys = paths.map { (path: $0, words: words(of: $0)) }
    return keys.sorted { a, b in
      for (x, y) in zip(a.words, b.words) where x != y {
        // A number comes before a text; a longer number is the greater one.
        switch (x.isNumber, y.isNumber) {
        case (true, true):
          return x.bytes.count != y.bytes.count
            ? x.bytes.count < y.bytes.count : x.bytes.lexicographicallyPrecedes(y.bytes)
        case (let number, let other) where number != other: return number
        default: return x.bytes.lexicographicallyPrecedes(y.bytes)
        }
      }
      return a.words.count != b.words.count
        ? a.words.count < b.words.count : Array(a.path.utf8).lexicographicallyPrecedes(b.path.utf8)
    }.map(\.path)
  }

  /// A run of digits, without zeros before it, or of anything else.
  private struct Word: Hashable {
    var isNumber: Bool
    var bytes: [UInt8]
  }

  private static func words(of path: String) -> [Word] {
    var words: [Word] = []
    for byte in path.utf8 {
      let isDigit = byte >= 48 && byte < 58
      if words.last?.isNumber != isDigit { words.append(Word(isNumber: isDigit, bytes: [])) }
      words[words.count - 1].bytes.append(byte)
    }
    return words.map { word in
      word.isNumber
        ? Word(isNumber: true, bytes: Array(word.bytes.drop { $0 == 48 })) : word
    }
  }

  /// The directory's name for a source: its own, for a file without the ending.
  package static func name(of source: String) -> String {
    var path = FilePath.trimmed(source)
    var name = FilePath.name(of: path)
    // `hf://org/model@revision` is called model.
    if path.contains("://") {
      let plain = name.prefix { $0 != "@" && $0 != "?" && $0 != "#" }
      name = plain.isEmpty ? name : String(plain)
    } else if name == "." || name == ".." || name.isEmpty, let real = FilePath.real(path) {
      name = FilePath.name(of: real)
    } else if CheckpointLocation.isSharedIndex(name), FilePath.kind(path) == .file {
      // One file of a sharded checkpoint stands for its directory.
      path = FilePath.directory(of: path)
      name = FilePath.name(of: FilePath.real(path) ?? path)
      return name
    }
    if FilePath.kind(path) == .directory { return name }
    let index = ".index.json"
    if name.hasSuffix(index) { name.removeLast(index.count) }
    return CheckpointLocation.withoutEnding(name)
  }

  private mutating func add(
    _ source: String, _ home: String, _ seen: inout Set<String>,
    _ names: inout [TensorName: Int]
  ) {
    // Two patterns may find one checkpoint.
    let key = FilePath.trimmed(source)
    guard seen.insert(FilePath.real(key) ?? key).inserted else {
      notes.append(
        Diagnostic(
          .note, code: "convert.same-source", subject: source,
          message: "is named twice, perhaps by a link; it is converted once"))
      return
    }
    let name = Self.name(of: source)
    var item = Item(source: source, destination: home == "/" ? "/" + name : "\(home)/\(name)")
    if let other = names[TensorName(name)] {
      // Neither is converted: which of them would stand there is no matter of order.
      func problem(_ own: String, _ other: String) -> Diagnostic {
        Diagnostic(
          code: "convert.same-name", subject: own,
          message: "would be written to \(item.destination), and so would \(other)",
          help: "convert one of them by itself, to a destination of its own")
      }
      item.problem = problem(source, items[other].source)
      items[other].problem = problem(items[other].source, source)
    } else {
      names[TensorName(name)] = items.count
    }
    items.append(item)
  }
}
