import Foundation
import TestSupport
import Tensors

/// What the built tool did.
struct ToolRun {
  let status: Int32
  let output: String
  let error: String

  /// Standard output as one JSON document, and nothing else.
  func document() throws -> JSONObject {
    let value = try JSONParser.parse(Array(output.utf8), file: "standard output")
    guard let object = value.object else { throw NotAnObject(output: output) }
    return object
  }

  /// `code subject` of every problem of the document.
  func problems() throws -> [String] {
    let list = try document()["problems"]?.array ?? []
    return list.map { "\($0["code"]?.string ?? "?") \($0["subject"]?.string ?? "?")" }
  }

  struct NotAnObject: Error {
    let output: String
  }
}

/// Runs the built tool.
enum BuiltTool {
  /// The package's own directory.
  static let package = Fixtures.repository

  /// The tool, which the build puts beside the tests.
  static let path: String = {
    var candidates: [String] = []
    for bundle in [Bundle.main] + Bundle.allBundles {
      var url = bundle.executableURL ?? bundle.bundleURL
      for _ in 0..<5 {
        url.deleteLastPathComponent()
        candidates.append(url.appendingPathComponent("weighbridge").path)
      }
    }
    candidates += ["debug", "release"].map { "\(package)/.build/\($0)/weighbridge" }
    func isTool(_ path: String) -> Bool {
      var isDirectory: ObjCBool = false
      return FileManager.default.fileExists(atPath: path, isDirectory: &isDirectory)
        && !isDirectory.boolValue && FileManager.default.isExecutableFile(atPath: path)
    }
    guard let found = candidates.first(where: isTool) else {
      preconditionFailure("the tool is not built: looked for \(candidates)")
    }
    return found
  }()

  /// Runs the tool to its end, with nothing on standard input.
  static func run(
    _ arguments: [String], in directory: String? = nil, tool: String = path,
    environment: [String: String] = [:]
  ) throws -> ToolRun {
    let files = TemporaryDirectory()
    for name in ["out", "err"] { Files.write("", to: files.file(name)) }
    let process = Process()
    process.executableURL = URL(fileURLWithPath: tool)
    process.arguments = arguments
    // Tables as the documents show them.
    process.environment = ProcessInfo.processInfo.environment.merging(["COLUMNS": "100"]) { $1 }
      .merging(environment) { $1 }
    process.currentDirectoryURL = URL(fileURLWithPath: directory ?? package)
    process.standardInput = FileHandle.nullDevice
    process.standardOutput = FileHandle(forWritingAtPath: files.file("out"))
    process.standardError = FileHandle(forWritingAtPath: files.file("err"))
    try process.run()
    process.waitUntilExit()
    return ToolRun(
      status: process.terminationReason == .exit ? process.terminationStatus : -1,
      output: Files.text(files.file("out")),
      error: Files.text(files.file("err")))
  }

  static func run(_ arguments: String..., in directory: String? = nil) throws -> ToolRun {
    try run(arguments, in: directory)
  }
}
