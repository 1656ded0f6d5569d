import Synchronization
import Tensors

/// The directory of a file on a web server, which cannot be listed: the files that belong to a
/// checkpoint are asked for by their usual names.
final class WebDirectory: RemotePlace {
  /// The paths' beginning: the URL of the directory without its last slash.
  let prefix: String
  private let directory: RemoteURL
  /// The file that was named, and its name; `nil` for a directory.
  private let asked: (name: String, url: RemoteURL)?
  private let policy: HTTPPolicy
  private let state = Mutex(State())

  private struct State {
    var files: [String: Result<RemoteFile, Diagnostic>] = [:]
    var notes = RemoteNotes()
  }

  static let configs = [
    "config.json", "archscale_config.json", "lit_config.json", "params.json", "model_config.yaml",
  ]
  /// What a directory is looked through for.
  static let weights = [
    "model.safetensors.index.json", "model.safetensors", "pytorch_model.bin.index.json",
    "pytorch_model.bin",
  ]
  /// Tokenizer and generation files.
  static let companions = [
    "tokenizer.json", "tokenizer_config.json", "tokenizer.model", "vocab.json", "vocab.txt",
    "merges.txt", "special_tokens_map.json", "added_tokens.json", "generation_config.json",
    "chat_template.jinja", "chat_template.json", "spiece.model",
  ]

  /// The directory of `url`, or `url` itself if it ends in a slash.
  init(_ url: RemoteURL, policy: HTTPPolicy) {
    self.policy = policy
    let slash = url.path.utf8.lastIndex(of: UInt8(ascii: "/")) ?? url.path.startIndex
    let name = String(url.path[url.path.index(after: slash)...])
    directory = url.with(path: String(url.path[...slash]), query: url.query)
    prefix = FilePath.trimmed(directory.shown)
    asked = name.isEmpty ? nil : (name, url)
    if url.scheme == "http", !url.isLoopback {
      state.withLock {
        $0.notes.add(
          Diagnostic(
            .warning, code: "source.unencrypted", subject: url.shown,
            message: "is read over http: whoever is on the way can change it",
            help: "give the https:// URL if there is one"))
      }
    }
  }

  /// The path of what was named.
  var path: String { asked.map { prefix + "/" + $0.name } ?? prefix }

  var notes: [Diagnostic] { state.withLock { $0.notes.list(path, cache: "") } }

  /// The name below the directory; `nil` for the directory itself.
  private func name(_ path: String) -> String? {
    let path = FilePath.trimmed(path)
    return path.utf8.count > prefix.utf8.count
      ? String(path.utf8.dropFirst(prefix.utf8.count + 1)) : nil
  }

  private func file(_ name: String) -> Result<RemoteFile, Diagnostic> {
    if let known = state.withLock({ $0.files[name] }) { return known }
    let url =
      asked?.name == name
      ? asked!.url
      : directory.with(
        path: directory.path + RemoteURL.encoded(name: name), query: directory.query)
    let resource = RemoteResource(
      path: prefix + "/" + name, url: url, leaving: .never, token: nil,
      loginHelp: "a login is sent to nobody but the Hugging Face hub; download the file, and give "
        + "its path", policy: policy)
    let result: Result<RemoteFile, Diagnostic>
    do throws(Diagnostic) { result = .success(try RemoteFile(resource)) } catch {
      result = .failure(error)
    }
    return state.withLock { state in
      if let known = state.files[name] { return known }
      state.files[name] = result
      if case .success(let file) = result { state.notes.add(file) }
      return result
    }
  }

  /// What servers answer for what is not there: also 403, and a login's page on another host.
  private static let absent = [
    "source.not-found", "source.denied", "source.redirect", "source.status",
  ]

  /// Whether there is such a file: stores answer 403 for what is not there, and sites answer with a
  /// page for everything.
  private func stands(_ name: String) -> Bool {
    switch file(name) {
    case .success(let file): asked?.name == name || !file.isPage
    case .failure(let problem):
      asked?.name == name && problem.code != "source.not-found"
        || !Self.absent.contains(problem.code)
    }
  }

  func kind(_ path: String) -> FilePath.Kind {
    guard let name = name(path) else { return .directory }
    return stands(name) ? .file : .nothing
  }

  func names(in path: String) throws(Diagnostic) -> [String] {
    guard name(path) == nil else { return [] }
    var names = Self.configs
    if let asked { names.append(asked.name) } else { names += Self.weights }
    return try standing(names)
  }

  /// Those of `names` that are there, asked for at once.
  ///
  /// - Throws: `source.*` where that cannot be told.
  func standing(_ names: [String]) throws(Diagnostic) -> [String] {
    let found = Mutex<Set<String>>([])
    let threads = min(RemotePlaces.mostThreads, names.count)
    WaitingThreads.run(threads) { thread in
      for number in stride(from: thread, to: names.count, by: threads) {
        if stands(names[number]) { found.withLock { _ = $0.insert(names[number]) } }
      }
    }
    let standing = found.withLock { $0 }
    for name in standing.sorted() where name != asked?.name {
      if case .failure(let problem) = file(name), problem.code != "source.no-ranges" {
        throw problem
      }
    }
    return standing.sorted()
  }

  func open(_ path: String) throws(Diagnostic) -> RemoteContent {
    guard let name = name(path) else {
      throw Diagnostic(
        code: "io.not-a-file", subject: path, message: "is a directory of a web server",
        help: "give the URL of the file")
    }
    return .source(try file(name).get())
  }
}
