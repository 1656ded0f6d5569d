import Checkpoints
public import Conversion
import Hub
import OrderedCollections
import Output
package import Tensors

/// Conversions of which many are done, again and again.
extension Weighbridge {
  /// Converts a checkpoint and leaves `weighbridge.json`; where that shows that the destination was made
  /// from this source with these options, nothing is written.
  ///
  /// Every byte of source and destination is compared by its digest.
  ///
  /// - Parameters:
  ///   - request: what to convert; digests are written whatever it says.
  ///   - dryRun: decides everything and writes nothing.
  ///   - progress: called now and then, from any thread.
  /// - Returns: the conversion, with `wasDone` where it had been done.
  /// - Throws: as `convert`; `convert.other-there` for a destination that was made from another source
  ///   or with other options, and `check.*` for one that is damaged, unless `force`.
  public func convertUnlessDone(
    _ request: ConversionRequest, dryRun: Bool = false,
    progress: (@Sendable (Executor.Progress) -> Void)? = nil
  ) throws -> ConversionResult {
    var request = request
    request.writesDigests = true
    if let manifest = writtenManifest(in: request.destination) {
      let (loaded, plan) = try planAsking(request)
      let differences = try differences(of: manifest, from: request, loaded, plan)
      if differences.isEmpty {
        let faults = try check(request.destination).problems.filter {
          // What others have put beside it is theirs.
          $0.code != "check.unlisted"
        }
        if faults.isEmpty {
          let names = manifest.files.map(\.name) + [WrittenManifest.fileName]
          return ConversionResult(
            plan: plan, outputs: names.sorted().map { "\(request.destination)/\($0)" },
            problems: loaded.problems.filter { $0.severity != .error }, wasDone: true)
        }
        guard request.force else {
          throw Problems(
            faults.map {
              var fault = $0
              fault.help = "--force converts it again"
              return fault
            })
        }
      } else if !request.force {
        throw Diagnostic(
          code: "convert.other-there", subject: request.destination,
          message: "holds another conversion: \(differences[0])",
          notes: Array(differences.dropFirst()),
          help: "--force replaces it, or give another destination")
      }
    }
    return try convert(request, dryRun: dryRun, progress: progress)
  }

  /// Examines the directory that many conversions go to.
  ///
  /// - Throws: `output.file-name`; `output.not-a-directory` for a file.
  package func check(target: String) throws(Diagnostic) {
    try checkName(target)
    let kind = FilePath.kind(target)
    guard kind == .directory || kind == .nothing else {
      throw Diagnostic(
        code: "output.not-a-directory", subject: target,
        message: "is a file, and several sources go to a directory",
        help: "the destination comes last; give a directory")
    }
  }

  /// How the conversion that a manifest tells of differs from one that is asked for.
  private func differences(
    of manifest: WrittenManifest, from request: ConversionRequest, _ loaded: LoadedCheckpoint,
    _ plan: ConversionPlan
  ) throws -> [String] {
    let container = request.container ?? Container(rawValue: plan.to.files.container)!
    guard let was = manifest.options?.object else {
      return ["its weighbridge.json does not tell the options; an earlier version has written it"]
    }
    var found: [String] = []
    if manifest.tool != Self.version { found.append("version \(manifest.tool) has written it") }
    let now = request.options(container)
    for (name, value) in now where was[name] != value {
      found.append("\(name) was \((was[name] ?? .null).text()), and is \(value.text())")
    }
    if manifest.from != plan.from.name || manifest.to != plan.to.name {
      found.append(
        "it was \(manifest.from) to \(manifest.to), and is \(plan.from.name) to \(plan.to.name)")
    }
    // A lossy plan has the values that became infinite among its reasons, which only the work finds.
    if found.isEmpty, manifest.exactness != Exactness.lossy.rawValue,
      manifest.plan != Digest.of(JSONValue.object(plan.document).text())
    {
      found.append("it was planned otherwise: the source's config or the layouts have changed")
    }
    // Only now the bytes, as they take long.
    guard found.isEmpty else { return found }
    let sources = try sourceDigests(loaded).value()
    if sources != manifest.sources {
      let old = Dictionary(
        manifest.sources.map { (TensorName($0.name), $0) }, uniquingKeysWith: { first, _ in first })
      let changed = sources.filter { old[TensorName($0.name)] != $0 }.map(\.name)
      found.append(
        changed.isEmpty
          ? "it was made from other files"
          : "it was made from other bytes of " + changed.prefix(8).joined(separator: ", "))
    }
    let written = Dictionary(
      manifest.files.map { (TensorName($0.name), $0) }, uniquingKeysWith: { first, _ in first })
    for path in loaded.location.companions {
      let file = try RandomAccessFile(path: path)
      guard file.name != plan.to.files.config else { continue }
      if written[TensorName(file.name)]?.sha256 != (try Digest.of(file)) {
        found.append("\(file.name) was another")
      }
    }
    return found
  }
}
