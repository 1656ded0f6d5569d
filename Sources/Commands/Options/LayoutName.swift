import ArgumentParser
import Hub
import Tensors
import WeighbridgeKit

/// Names of layouts as they are given on the command line.
enum LayoutName {
  /// What people call a framework that has another name here.
  static let synonyms: [String: String] = [
    "huggingface": "hf", "hub": "hf", "transformers": "hf", "hftransformers": "hf",
    "flashlinearattention": "fla", "flame": "fla",
    "statespaces": "mamba_ssm", "mambassm": "mamba_ssm", "ssm": "mamba_ssm", "mamba": "mamba_ssm",
    "mamba2": "mamba_ssm",
    "litgpt": "lit_gpt", "samba": "lit_gpt", "microsoftsamba": "lit_gpt", "lightning": "lit_gpt",
    "retnet": "torchscale", "fairseq": "torchscale", "unilm": "torchscale",
  ]

  /// What is a container and no layout, as `--container` has it.
  static let containers: [String: String] = [
    "h5": "hdf5", "hdf": "hdf5", "pt": "pytorch", "pth": "pytorch", "bin": "pytorch",
    "ckpt": "pytorch", "torch": "pytorch", "pickle": "pytorch", "st": "safetensors",
    "safetensor": "safetensors", "sft": "safetensors",
    "distcp": "dcp", "distributed": "dcp", "torchdistributedcheckpoint": "dcp", "fsdp": "dcp",
    "sharded": "dcp",
  ]

  /// Looks whether a framework or a layout is known; `nil` is. A layout file that cannot be read is told by the
  /// work itself.
  ///
  /// - Throws: a usage error with a suggestion.
  static func check(_ name: String?, option: String, layoutFiles: [String]) throws {
    guard let name, let weighbridge = try? Weighbridge(layoutFiles: layoutFiles),
      !weighbridge.library.knows(name)
    else { return }
    throw unknown(name, option: option, weighbridge)
  }

  /// The usage error for a name that is no layout.
  ///
  /// - Parameter option: what takes the name; `nil` for an argument.
  static func unknown(
    _ name: String, option: String?, _ weighbridge: Weighbridge
  ) -> ValidationError {
    let frameworks = weighbridge.library.frameworks
    let layoutNames = weighbridge.library.layoutNames
    let plain = name.lowercased().filter { $0.isLetter || $0.isNumber }
    var meant = frameworks.contains(name.lowercased()) ? name.lowercased() : synonyms[plain]
    if meant == nil, layoutNames.contains(name.lowercased()) { meant = name.lowercased() }
    var text = "\(option.map { "'\(name)', given for \($0)," } ?? "'\(name)'") is no layout"
    let container = containers[plain] ?? Container(rawValue: plain)?.rawValue
    if meant == nil, option != "--to" || container == nil {
      meant = Suggestion.nearest(name, frameworks + layoutNames)
    }
    if meant == nil, option == "--to", let container {
      text += "; did you mean --container \(container)?"
    } else if let meant {
      text += "; did you mean \(meant)?"
    } else {
      text += "; layouts: \(frameworks.joined(separator: ", "))"
    }
    return ValidationError(text)
  }
}
