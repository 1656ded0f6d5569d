import Remote
import Tensors

extension Weighbridge {
  /// A path as it may be shown and kept: of a URL without what is behind the question mark, which may
  /// be a signature.
  public static func shown(_ path: String) -> String {
    Remote.isURL(path) ? RemoteURL.shown(path) : path
  }
}
