import Foundation

/// `embed-formats OUTPUT FILE…`: writes a Swift file that holds the texts of the given files.
@main
struct Main {
  static func main() throws {
    let paths = Array(CommandLine.arguments.dropFirst())
    guard let output = paths.first else { return }
    var source =
      "/// The files of `formats/`, by name.\nlet bundledFormats: [(name: String, text: String)] = [\n"
    for path in paths.dropFirst() {
      let text = try String(contentsOfFile: path, encoding: .utf8)
      let parts = (path as NSString).pathComponents.suffix(2)
      let name = parts.first == "shared" ? parts.joined(separator: "/") : parts.last!
      source += "  (\"\(name)\", ####\"\"\"\n\(text)\n\"\"\"####),\n"
    }
    source += "]\n"
    try source.write(toFile: output, atomically: true, encoding: .utf8)
  }
}
