import ArgumentParser
import Hub
import WeighbridgeKit

/// The command or option that somebody meant who wrote another.
struct DidYouMean {
  /// What to say; `nil` when nothing is near.
  let text: String?

  init(_ arguments: [String]) {
    let commands = Tool.configuration.subcommands
    let names = commands.map { $0._commandName }
    guard let first = arguments.first, !first.hasPrefix("-") else {
      text = nil
      return
    }
    guard let command = commands.first(where: { $0._commandName == first }) else {
      text = Suggestion.nearest(first, names).map { "Did you mean 'weighbridge \($0)'?" }
      return
    }
    // A container by the ending of its files.
    for (i, argument) in arguments.enumerated() {
      let parts = argument.split(separator: "=", maxSplits: 1).map(String.init)
      guard parts.first == "--container" else { continue }
      let value = parts.count > 1 ? parts[1] : i + 1 < arguments.count ? arguments[i + 1] : ""
      let plain = value.lowercased().filter { $0.isLetter || $0.isNumber }
      if let container = LayoutName.containers[plain] {
        text = "Did you mean '--container \(container)'?"
        return
      }
    }
    // The options are what the help shows.
    var options: [String] = []
    for line in Tool.helpMessage(for: command).split(separator: "\n") {
      for word in line.split(whereSeparator: { " /,".contains($0) }) where word.hasPrefix("--") {
        options.append(String(word))
      }
    }
    for argument in arguments.dropFirst() where argument.hasPrefix("--") && argument.count > 2 {
      let name = String(argument.prefix { $0 != "=" })
      if options.contains(name) { continue }
      if let near = Suggestion.nearest(name, options) {
        text = "Did you mean '\(near)' instead of '\(name)'?"
        return
      }
    }
    text = nil
  }
}
