import Synchronization
import Tensors

/// A model of the Hugging Face hub at one commit.
final class HubRepository: RemotePlace {
  var prefix: String { address.prefix }
  private let address: HubAddress
  private let environment: HubEnvironment
  private let policy: HTTPPolicy
  private let commit: String
  /// The files with their sizes, where the hub tells them.
  private let files: [String: Int?]
  private let state = Mutex(State())

  private struct State {
    var open: [String: RemoteFile] = [:]
    var cached: Set<String> = []
    var notes = RemoteNotes()
  }

  /// Lists of files are shorter.
  private static let mostList = 32 << 20

  /// Asks the hub for the commit that the revision is at this moment, and for its files.
  ///
  /// - Throws: `source.*`.
  init(
    _ address: HubAddress, _ environment: HubEnvironment, policy: HTTPPolicy
  ) throws(Diagnostic) {
    self.address = address
    self.environment = environment
    self.policy = policy
    let revision = address.revision ?? "main"
    let endpoint = environment.endpoint
    let base = FilePath.trimmed(endpoint.path)
    let list = RemoteResource(
      path: address.prefix,
      url: endpoint.with(
        path: (base == "/" ? "" : base) + "/api/models/\(address.model)/revision/"
          + RemoteURL.encoded(name: revision, keepsSlashes: false), query: "blobs=true"),
      leaving: .never, token: Self.token(environment), loginHelp: Self.loginHelp(environment),
      policy: policy)
    let text = try list.document(most: Self.mostList)
    let answer: JSONValue
    do throws(Diagnostic) {
      answer = try JSONParser.parse(text, file: address.prefix, mode: .python)
    } catch {
      throw list.fault(
        "list", "is not described by the hub as its interface does: \(error.message)",
        "see whether HF_ENDPOINT (\(endpoint.shown)) is a hub")
    }
    guard let commit = answer["sha"]?.string, HubAddress.isCommit(commit),
      let siblings = answer["siblings"]?.array
    else {
      throw list.fault(
        "list", "is described by the hub without a commit (sha) or files (siblings)",
        "see whether HF_ENDPOINT (\(endpoint.shown)) is a hub")
    }
    if HubAddress.isCommit(revision), commit != revision {
      throw list.fault(
        "changed", "is commit \(commit) for the hub, not the one that was asked for", nil)
    }
    var files: [String: Int?] = [:]
    for sibling in siblings {
      guard let name = sibling["rfilename"]?.string, Self.isPlain(name) else { continue }
      let size = sibling["size"]?.int ?? sibling["lfs"]?["size"]?.int
      files.updateValue(size, forKey: name)
    }
    self.commit = commit
    self.files = files
    if !HubAddress.isCommit(revision) {
      state.withLock {
        $0.notes.add(
          Diagnostic(
            .note, code: "source.revision", subject: address.prefix,
            message:
              "\(shown(revision, quoted: false)) is commit \(commit), at which every file is read",
            help: "hf://\(address.model)@\(commit) names it for good"))
      }
    }
  }

  private static func isPlain(_ name: String) -> Bool {
    !name.isEmpty && !name.utf8.contains { $0 < 0x20 || $0 == 0x7F || $0 == 0x5C }
      && name.split(separator: "/", omittingEmptySubsequences: false).allSatisfy {
        !$0.isEmpty && $0 != "." && $0 != ".."
      }
  }

  private static func token(_ environment: HubEnvironment) -> RemoteResource.Token? {
    environment.token.map {
      RemoteResource.Token(value: $0.value, origin: environment.endpoint.origin)
    }
  }

  private static func loginHelp(_ environment: HubEnvironment) -> String {
    guard let token = environment.token else {
      return "set HF_TOKEN, or log in with `hf auth login`; accept the model's terms on its page"
    }
    guard environment.endpoint.isPrivate else {
      return "the token of \(token.place) is not sent over http; give HF_ENDPOINT with https"
    }
    return "the token of \(token.place) may not read it: accept the model's terms on its page, or "
      + "give another token"
  }

  var notes: [Diagnostic] {
    state.withLock {
      $0.notes.list(address.path, cache: Self.snapshot(address.model, commit, environment))
    }
  }

  /// The name in the repository; empty for the repository itself.
  private func name(_ path: String) -> String {
    String(FilePath.trimmed(path).utf8.dropFirst(address.prefix.utf8.count + 1)) ?? ""
  }

  func kind(_ path: String) -> FilePath.Kind {
    let name = name(path)
    if name.isEmpty { return .directory }
    if files[name] != nil { return .file }
    return files.keys.contains { $0.hasPrefix(name + "/") } ? .directory : .nothing
  }

  func names(in path: String) throws(Diagnostic) -> [String] {
    let place = name(path)
    let start = place.isEmpty ? "" : place + "/"
    let names = files.keys.filter { $0.hasPrefix(start) }
      .compactMap { $0.dropFirst(start.count).split(separator: "/").first.map(String.init) }
    return Set(names).map { TensorName($0) }.sorted().map(\.string)
  }

  func open(_ path: String) throws(Diagnostic) -> RemoteContent {
    let name = name(path)
    guard let listed = files[name] else {
      throw Diagnostic(
        code: kind(path) == .directory ? "io.not-a-file" : "source.not-found", subject: path,
        message: kind(path) == .directory ? "is a directory" : "is not in the repository",
        help: "look at \(environment.endpoint.shown)\(address.model)/tree/\(commit)")
    }
    let size: Int? = listed
    let copy = Self.snapshot(address.model, commit, environment) + "/" + name
    let home = Self.snapshot(address.model, commit, environment)
    if FilePath.kind(copy) == .file, FilePath.outside(copy, of: home) == nil,
      let file = try? RandomAccessFile(path: copy),
      size.map({ $0 == file.byteCount }) ?? true
    {
      state.withLock { if $0.cached.insert(name).inserted { $0.notes.addCached() } }
      return .local(copy)
    }
    if let known = state.withLock({ $0.open[name] }) { return .source(known) }
    let base = FilePath.trimmed(environment.endpoint.path)
    let resource = RemoteResource(
      path: path,
      url: environment.endpoint.with(
        path: (base == "/" ? "" : base) + "/\(address.model)/resolve/\(commit)/"
          + RemoteURL.encoded(name: name)),
      leaving: .once, token: Self.token(environment), loginHelp: Self.loginHelp(environment),
      policy: policy)
    let file = try RemoteFile(resource, expected: size)
    return .source(
      state.withLock { state in
        if let known = state.open[name] { return known }
        state.open[name] = file
        state.notes.add(file)
        return file
      })
  }

  // MARK: The cache of Hugging Face's tools

  /// The directory of a model's entry in the cache.
  private static func entry(_ model: String, _ environment: HubEnvironment) -> String {
    environment.cache + "/models--" + model.split(separator: "/").joined(separator: "--")
  }

  private static func snapshot(
    _ model: String, _ commit: String, _ environment: HubEnvironment
  ) -> String { entry(model, environment) + "/snapshots/" + commit }

  /// Where the cache has what is named: for those who may not use the network.
  ///
  /// - Throws: `source.offline`.
  static func cached(
    _ address: HubAddress, _ environment: HubEnvironment
  ) throws(Diagnostic) -> (path: String, note: Diagnostic) {
    let revision = address.revision ?? "main"
    var commit: String? = HubAddress.isCommit(revision) ? revision : nil
    if commit == nil,
      let file = try? RandomAccessFile(
        path: entry(address.model, environment) + "/refs/" + revision), file.byteCount <= 256,
      let bytes = try? file.bytes(at: 0, count: file.byteCount)
    {
      commit = String(decoding: bytes, as: UTF8.self).split { $0.isWhitespace }.first
        .map(String.init)
    }
    let place = commit.flatMap { commit -> String? in
      guard HubAddress.isCommit(commit) else { return nil }
      return snapshot(address.model, commit, environment) + (address.file.map { "/\($0)" } ?? "")
    }
    guard let place, let commit, FilePath.kind(place) != .nothing else {
      throw Diagnostic(
        code: "source.offline", subject: address.path,
        message: "is not in the cache, and HF_HUB_OFFLINE forbids to ask the hub",
        notes: ["the cache is \(environment.cache)"],
        help: "unset HF_HUB_OFFLINE, or fetch it before: hf download \(address.model)")
    }
    return (
      place,
      Diagnostic(
        .note, code: "source.cached", subject: address.path,
        message: "HF_HUB_OFFLINE is set: commit \(commit) is read from "
          + shown(place, quoted: false))
    )
  }
}
