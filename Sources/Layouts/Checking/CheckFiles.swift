import Hub
import Tensors

extension LayoutCheck {
  /// The endings by which the reader finds weights, for the containers of one file.
  private static let endings: [String: [String]] = [
    "safetensors": [".safetensors"],
    "pytorch": [".bin", ".pth", ".pt", ".ckpt", ".pth.tar"],
    "hdf5": [".h5", ".hdf5"],
  ]

  /// The names of the layout, of its containers and files.
  mutating func checkFiles() {
    for (path, name) in [("layout", layout.name), ("framework", layout.framework)]
    where !isBroken(path) {
      let isPlain =
        !name.isEmpty
        && name.utf8.allSatisfy { byte in
          switch byte {
          case UInt8(ascii: "a")...UInt8(ascii: "z"), UInt8(ascii: "A")...UInt8(ascii: "Z"),
            UInt8(ascii: "0")...UInt8(ascii: "9"), UInt8(ascii: "_"), UInt8(ascii: "-"),
            UInt8(ascii: "."):
            true
          default: false
          }
        }
      if !isPlain {
        report(path, "is \(shown(name)): a name of letters, digits, '_', '-' and '.' is needed")
      }
    }
    guard !isBroken("files") else { return }
    let files = layout.files
    if !words.containers.contains(files.container) {
      report(
        "files.container", "is no container: \(shown(files.container))",
        help: help(files.container, words.containers, "containers"))
    } else if files.weights[files.container] == nil, files.container != Container.dcp.rawValue {
      report(
        "files.weights", "has no name for \(files.container), which is written by default",
        help: "add \(files.container): NAME")
    }
    for (container, name) in files.weights.sorted(by: { $0.key < $1.key }) {
      let path = "files.weights.\(container)"
      if !words.containers.contains(container) {
        report(
          path, "is for no container: \(shown(container))",
          help: help(container, words.containers, "containers"))
      } else if !isFileName(name) {
        report(path, "is no plain file name: \(shown(name))")
      } else if let endings = Self.endings[container],
        !endings.contains(where: { name.hasSuffix($0) && name != $0 })
      {
        report(
          path, "is \(shown(name)), which is not found again as weights of \(container)",
          help: "end it with \(endings.joined(separator: " or "))")
      }
    }
    if !isFileName(files.config) {
      report("files.config", "is no plain file name: \(shown(files.config))")
    } else if !files.weights.values.contains(files.config),
      ![".json", ".yaml", ".yml"].contains(where: files.config.hasSuffix)
    {
      report(
        "files.config", "is \(shown(files.config)), which is not read as a config",
        help: "end it with .json, .yaml or .yml")
    }
  }

  private func isFileName(_ name: String) -> Bool {
    !name.isEmpty && name != "." && name != ".." && !name.utf8.contains(UInt8(ascii: "/"))
      && !name.utf8.contains { $0 < 0x20 }
  }
}
