import Checkpoints
import Conversion
import Hub
import Output
import Remote
public import Tensors

/// The result of checking a converted directory.
public struct CheckResult: Sendable {
  /// The manifest; `nil` when it is damaged.
  public var manifest: WrittenManifest?
  /// The files that are not as they were written, or gone.
  public var badFiles: [String] = []
  /// The tensors that do not have the bytes that were written.
  public var badTensors: [String] = []
  /// Everything found.
  public var problems: [Diagnostic] = []

  /// Whether everything is as it was written.
  public var passes: Bool {
    manifest != nil && !problems.contains { $0.severity == .error }
  }
}

extension Weighbridge {
  /// The version of the tool.
  public static let version = "0.1.0"

  /// Reads every file and tensor of a directory again and compares it with `weighbridge.json`.
  ///
  /// - Throws: `check.no-manifest`, `io.*` for what cannot be read at all.
  public func check(_ directory: String) throws(Diagnostic) -> CheckResult {
    guard !Remote.isURL(directory) else {
      throw Diagnostic(
        code: "source.local-only", subject: Self.shown(directory),
        message: "is a URL, and what is checked is a directory of this machine",
        help: "download it, and give its path")
    }
    let path = directory + "/" + WrittenManifest.fileName
    let names = try TextFile.names(in: directory)
    guard names.contains(WrittenManifest.fileName) else {
      throw Diagnostic(
        code: "check.no-manifest", subject: directory,
        message: "holds no \(WrittenManifest.fileName)",
        help: "convert with --sha256 to have one written")
    }
    var result = CheckResult()
    let file = try RandomAccessFile(path: path)
    guard file.byteCount <= WrittenManifest.mostBytes else {
      throw Diagnostic(
        code: "check.manifest", subject: path, message: "has \(file.byteCount) bytes, too many")
    }
    let bytes = try file.bytes(at: 0, count: file.byteCount)
    do throws(Diagnostic) {
      result.manifest = try WrittenManifest(parsing: bytes, path: path)
    } catch {
      result.problems = [error]
      return result
    }
    guard let manifest = result.manifest else { return result }
    // Once as files, once as tensors.
    let meter = Meter(total: 2 * manifest.files.reduce(0) { $0 + $1.byteCount }, progress)
    let files = BackgroundTask { () throws(Diagnostic) in
      var part = CheckResult()
      checkFiles(manifest, directory, names, meter, &part)
      return part
    }
    checkTensors(manifest, directory, meter, &result)
    let part = try files.value()
    result.badFiles = part.badFiles
    result.problems = part.problems + result.problems
    return result
  }

  private func checkFiles(
    _ manifest: WrittenManifest, _ directory: String, _ names: [String], _ meter: Meter?,
    _ result: inout CheckResult
  ) {
    let standing = Set(names.map { TensorName($0) })
    for expected in manifest.files {
      let path = directory + "/" + expected.name
      defer { meter?.add(expected.byteCount, expected.name) }
      guard standing.contains(TensorName(expected.name)) else {
        result.badFiles.append(expected.name)
        result.problems.append(
          Diagnostic(code: "check.missing", subject: path, message: "is gone"))
        continue
      }
      let fault: (code: String, message: String)
      do throws(Diagnostic) {
        let file = try RandomAccessFile(path: path)
        if file.byteCount != expected.byteCount {
          fault = ("size", "has \(file.byteCount) bytes; \(expected.byteCount) were written")
        } else if try Digest.of(file) != expected.sha256 {
          fault = ("digest", "does not have the bytes that were written")
        } else {
          continue
        }
      } catch {
        fault = ("unreadable", error.message)
      }
      result.badFiles.append(expected.name)
      result.problems.append(
        Diagnostic(
          code: "check.\(fault.code)", subject: path, message: fault.message,
          help: "fetch the file again, or convert again"))
    }
    let known = Set(
      (manifest.files.map(\.name) + [WrittenManifest.fileName]).map { TensorName($0) })
    for name in names where !known.contains(TensorName(name)) {
      result.problems.append(
        Diagnostic(
          .warning, code: "check.unlisted", subject: directory + "/" + name,
          message: "was not written by the conversion"))
    }
  }

  func checkTensors(
    _ manifest: WrittenManifest, _ directory: String, _ meter: Meter?,
    _ result: inout CheckResult
  ) {
    let source: any TensorSource
    do throws(Problems) {
      source = try openCheckpoint(at: directory + "/" + manifest.weights)
    } catch {
      result.problems += error.diagnostics
      return
    }
    var numbers: [TensorName: Int] = [:]
    for (number, tensor) in source.tensors.enumerated() { numbers[tensor.name] = number }
    func add(_ tensor: String, _ file: String, _ message: String) {
      result.badTensors.append(tensor)
      result.problems.append(
        Diagnostic(
          code: "check.tensor", subject: "\(directory)/\(file): tensor \(tensor)", message: message)
      )
    }
    for expected in manifest.tensors {
      let name = expected.name.string
      guard let number = numbers.removeValue(forKey: expected.name) else {
        add(name, manifest.weights, "is gone")
        continue
      }
      let found = source.tensors[number]
      guard found.dtype.rawValue == expected.dtype, found.shape.dims == expected.shape else {
        add(
          name, found.file,
          "is \(found.dtype.rawValue) \(found.shape), not \(expected.dtype) \(expected.shape)")
        continue
      }
      do throws(Diagnostic) {
        if try Digest.of(number, in: source) != expected.sha256 {
          add(name, found.file, "does not have the values that were written")
        }
        meter?.add(found.byteCount, name)
      } catch { add(name, found.file, "cannot be read: \(error.message)") }
    }
    for (name, number) in numbers.sorted(by: { $0.value < $1.value }) {
      add(name.string, source.tensors[number].file, "was not written by the conversion")
    }
  }
}
