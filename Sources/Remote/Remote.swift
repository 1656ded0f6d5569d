package import Tensors

/// Files behind URLs.
package enum Remote {
  /// Whether `text` names something on the network.
  package static func isURL(_ text: String) -> Bool {
    let start = text.prefix(8).lowercased()
    return ["http://", "https://", "hf://"].contains { start.hasPrefix($0) }
  }

  /// What libcurl calls itself, with the TLS library that it uses.
  ///
  /// - Throws: `source.library`.
  package static func libraryVersion() throws(Diagnostic) -> String {
    try CurlLibrary.load()
    return CurlLibrary.version
  }

  /// Opens what a URL names, so that its path, and those beside it, can be read as files are.
  ///
  /// - Parameters:
  ///   - text: `https://host/model.safetensors`, `https://host/directory/`, or
  ///     `hf://org/model[@revision][/file]`.
  ///   - environment: what is known of the hub; the process's own by default.
  ///   - policy: how patient to be.
  /// - Returns: the path, and what was noticed that the path's place does not tell itself.
  /// - Throws: `source.*`.
  package static func open(
    _ text: String, environment: HubEnvironment? = nil, policy: HTTPPolicy = HTTPPolicy()
  ) throws(Diagnostic) -> (path: String, notes: [Diagnostic]) {
    let (place, path, notes) = try find(text, environment, policy)
    guard let place else { return (path, notes) }
    RemotePlaces.open(place, at: place.prefix)
    // What was named has to be there; why it is not, the place says best.
    if place.kind(path) != .directory {
      do throws(Diagnostic) { _ = try place.open(path) } catch {
        var problem = error
        let isName = !FilePath.name(of: path).contains(".")
        if isName, ["source.not-found", "source.denied"].contains(problem.code) {
          problem.notes.append("a directory is given with a slash at its end")
        }
        throw problem
      }
    }
    return (path, notes)
  }

  /// The place of what is named, and the path there; no place for a local path.
  private static func find(
    _ text: String, _ environment: HubEnvironment?, _ policy: HTTPPolicy
  ) throws(Diagnostic) -> (place: (any RemotePlace)?, path: String, notes: [Diagnostic]) {
    func hub(
      _ address: HubAddress, _ environment: HubEnvironment
    ) throws(Diagnostic) -> (place: (any RemotePlace)?, path: String, notes: [Diagnostic]) {
      guard environment.isOffline else {
        return (
          try HubRepository(address, environment, policy: policy), address.path, []
        )
      }
      let found = try HubRepository.cached(address, environment)
      return (nil, found.path, [found.note])
    }
    if text.lowercased().hasPrefix("hf://") {
      if let environment { return try hub(HubAddress(text), environment) }
      return try hub(HubAddress(text), .own())
    }
    let url = try RemoteURL(text)
    // A page or file of the hub is the model's.
    if let known = environment ?? (try? HubEnvironment.own()),
      let address = HubAddress(url, endpoint: known.endpoint)
    {
      return try hub(address, known)
    }
    let directory = WebDirectory(url, policy: policy)
    return (directory, directory.path, [])
  }

  /// Opens one file for itself.
  ///
  /// - Throws: as `open`.
  package static func file(
    _ text: String, environment: HubEnvironment? = nil, policy: HTTPPolicy = HTTPPolicy()
  ) throws(Diagnostic) -> RandomAccessFile {
    let (place, path, _) = try find(text, environment, policy)
    guard let place else { return try RandomAccessFile(path: path) }
    switch try place.open(path) {
    case .source(let source): return RandomAccessFile(source, path: path)
    case .local(let copy): return try RandomAccessFile(path: copy)
    }
  }

  /// The tokenizer files beside a file of a web server, which only a conversion needs: each is asked
  /// for by its name.
  ///
  /// - Returns: their paths; none where the place can be listed.
  /// - Throws: `source.*`.
  package static func companions(of path: String) throws(Diagnostic) -> [String] {
    guard let place = RemotePlaces.holder(of: path) as? WebDirectory else { return [] }
    return try place.standing(WebDirectory.companions).map { place.prefix + "/" + $0 }
  }
}

/// A place whose paths begin alike.
protocol RemotePlace: RemoteDirectory {
  /// The beginning.
  var prefix: String { get }
}
