import Tensors

/// Everything that opening a file finds out.
struct HDF5Contents {
  private(set) var names: [TensorName]
  private(set) var datasets: [HDF5Dataset]
  private(set) var metadata: [String: String] = [:]
  private(set) var attachments = JSONValue.null
  private(set) var warnings: [Diagnostic]
  /// The open file, where reading still needs libhdf5.
  private(set) var handle: HDF5Session.Handle?

  /// Lists the file.
  init(_ session: HDF5Session, _ file: RandomAccessFile) throws(Problems) {
    if let signal = session.rehearse(
      file.path, memory: HDF5Guard.libraryMemory + 2 * file.byteCount)
    {
      throw Problems([HDF5Guard.crash(signal, file.name)])
    }
    let handle: HDF5Session.Handle
    do throws(HDF5Failure) { handle = try session.openFile(file.path) } catch {
      throw Problems([error.diagnostic(file.name)])
    }
    var walk = HDF5Walk(session, file)
    let root: HDF5Session.Handle
    do throws(HDF5Failure) { root = try session.openObject(handle, "/") } catch {
      session.close(handle)
      throw Problems([error.diagnostic(file.name, path: "/")])
    }
    walk.walk(root: root)
    names = walk.names
    datasets = walk.datasets
    warnings = walk.warnings()
    var problems = walk.problems
    do throws(Diagnostic) { try readAttributes(session, root, file) } catch {
      problems.append(error)
    }
    session.close(root)
    let needsLibrary = datasets.contains {
      switch $0.storage {
      case .contiguous, .unwritten: false
      case .compact, .chunked: true
      }
    }
    if needsLibrary && problems.isEmpty { self.handle = handle } else { session.close(handle) }
    if !problems.isEmpty { throw Problems(problems) }
  }

  private mutating func readAttributes(
    _ session: HDF5Session, _ root: HDF5Session.Handle, _ file: RandomAccessFile
  ) throws(Diagnostic) {
    var odd: (count: Int, names: [String]) = (0, [])
    defer {
      if odd.count > 0 {
        let shown = odd.names.map { HDF5Text.quoted($0) }.joined(separator: ", ")
        let more = odd.count > odd.names.count ? ", …" : ""
        warnings.append(
          Diagnostic(
            .note, code: "hdf5.attribute", subject: file.name,
            message: (odd.count == 1
              ? "the root's attribute \(shown) is no text in UTF-8"
              : "\(odd.count) attributes of the root are no texts in UTF-8 (\(shown)\(more))")
              + "; passed over"))
      }
    }
    do throws(HDF5Failure) {
      for name in try session.attributeNames(of: root) {
        let bytes = try name.flatMap { name throws(HDF5Failure) in
          try session.stringAttribute(root, name, limit: file.byteCount)
        }
        let text = bytes.flatMap { HDF5Text.text($0) }
        if let name, let text {
          metadata[name] = text
        } else {
          odd.count += 1
          if odd.names.count < 8 { odd.names.append(name ?? "?") }
        }
      }
    } catch { throw error.diagnostic(file.name, path: "/") }
    defer {
      if let text = metadata.removeValue(forKey: HDF5Plan.configMetadata) {
        metadata["config"] = text
      }
    }
    guard let text = metadata["config"] else { return }
    do throws(Diagnostic) {
      let config = try JSONParser.parse(text, file: "\(file.name): config", mode: .python)
      metadata["config"] = nil
      attachments = ["config": config]
    } catch {
      warnings.append(
        Diagnostic(
          .warning, code: "hdf5.config", subject: file.name,
          message: "the root's attribute config is no JSON, so it is kept as a text only",
          notes: [error.description], help: "write the model's config there as JSON"))
    }
  }
}
