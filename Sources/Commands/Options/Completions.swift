import ArgumentParser
import Hub
import WeighbridgeKit

/// What shells complete; names come from the layouts themselves, so that none can be forgotten.
enum Completions {
  /// Frameworks and layouts that can be written, as `--to` takes them.
  static var targets: CompletionKind {
    names {
      Set(
        $0.library.layouts.filter { $0.write != nil }.flatMap { [$0.framework, $0.name] + $0.also }
      ).sorted()
    }
  }

  /// Frameworks and layouts, as `--from` takes them.
  static var frameworks: CompletionKind {
    names { $0.library.frameworks + $0.library.layoutNames }
  }

  /// Frameworks and layouts, as `layouts` takes them.
  static var layouts: CompletionKind {
    names { $0.library.frameworks + $0.library.layoutNames }
  }

  /// Kinds of sub-layers, as `kinds` takes them.
  static var kinds: CompletionKind { names { $0.vocabulary.kinds.keys.sorted() + ["model"] } }

  /// microsoft/Samba's named configurations.
  static var presets: CompletionKind { names { $0.library.presetNames } }

  /// Checkpoints: files and directories.
  static var checkpoints: CompletionKind { .file() }

  private static func names(
    _ names: @escaping @Sendable (Weighbridge) -> [String]
  ) -> CompletionKind {
    .custom { _, _, _ in (try? Weighbridge()).map(names) ?? [] }
  }
}
