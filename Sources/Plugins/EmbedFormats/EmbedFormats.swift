import Foundation
import PackagePlugin

/// Turns `formats/*.yaml`, `formats/*.json` and `formats/shared/*.yaml` into Swift source at build time, so that the
/// binary carries its layouts wherever it is copied.
@main
struct EmbedFormats: BuildToolPlugin {
  func createBuildCommands(context: PluginContext, target: any Target) throws -> [Command] {
    let formats = context.package.directoryURL.appending(path: "formats")
    let parts = try FileManager.default.contentsOfDirectory(
      atPath: formats.appending(path: "shared").path
    ).map { "shared/\($0)" }
    let names = (try FileManager.default.contentsOfDirectory(atPath: formats.path) + parts)
      .filter { $0.hasSuffix(".yaml") || $0.hasSuffix(".json") }.sorted()
    let inputs = names.map { formats.appending(path: $0) }
    let output = context.pluginWorkDirectoryURL.appending(path: "BundledFormats.swift")
    // The files themselves are the inputs: with the folder alone an edited file is not embedded anew.
    return [
      .buildCommand(
        displayName: "Embedding \(names.count) layouts",
        executable: try context.tool(named: "embed-formats").url,
        arguments: [output.path] + inputs.map(\.path),
        inputFiles: inputs, outputFiles: [output])
    ]
  }
}
