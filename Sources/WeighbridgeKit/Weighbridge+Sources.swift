import Output
import Remote
import Tensors

extension Weighbridge {
  /// A path as it may be shown and kept: of a URL without what is behind the question mark, which may
  /// be a signature.
  public static func shown(_ path: String) -> String {
    Remote.isURL(path) ? RemoteURL.shown(path) : path
  }

  /// What a checkpoint at `path` is called: the last part, of a model of the hub without the revision.
  static func name(of path: String) -> String {
    let name = FileName.last(of: path)
    return path.hasPrefix("hf://") ? String(name.prefix { $0 != "@" }) : name
  }
}
