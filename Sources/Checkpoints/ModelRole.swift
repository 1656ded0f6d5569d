/// What the names under which training keeps several models say of them.
enum ModelRole {
  /// Keys that wrap the one model of a file; nothing needs to be said when it lies under them.
  static let usual: Set<String> = ["model", "state_dict", "model_state_dict", "module"]

  /// Whether `key` names an average of a model's weights (EMA, SWA) rather than the model.
  static func isAverage(_ key: String) -> Bool {
    if key.hasPrefix("EMA") || key.hasSuffix("EMA") || key.hasSuffix("Ema") { return true }
    return words(key).contains { word in
      averages.contains(word) || word.hasPrefix("ema") && !word.hasPrefix("email")
    }
  }

  /// Whether `key` names one of two models that train each other: student and teacher.
  static func isPeer(_ key: String) -> Bool { words(key).contains(where: peers.contains) }

  /// Whether `key` names what trainers keep for themselves: an optimizer's state and its like.
  static func isTrainersOwn(_ key: String) -> Bool {
    words(key).contains { word in
      word.hasPrefix("optim") || word.hasPrefix("sched") || word == "rng" || word == "scaler"
        || word == "gradscaler" || word == "amp"
    } || trainersOwn.contains(key.lowercased())
  }

  /// Whether `key` names a place that trainers fill with what is theirs, and now and then with an
  /// average of the model.
  static func isAside(_ key: String) -> Bool { aside.contains(key.lowercased()) }

  private static func words(_ key: String) -> [Substring] {
    key.lowercased().split { "_.-/: ".contains($0) }
  }

  private static let averages: Set<Substring> = [
    "averaged", "averages", "average", "averaging", "avg", "polyak", "shadow", "swa",
  ]
  private static let peers: Set<Substring> = [
    "momentum", "online", "policy", "ref", "reference", "student", "target", "teacher",
  ]
  private static let trainersOwn: Set<String> = [
    "_metadata", "buffer_names", "frozen_param_fragments", "frozen_param_shapes", "grads",
    "gradients", "param_groups", "param_shapes", "random_states", "shared_params",
  ]
  private static let aside: Set<String> = [
    "args", "callback", "callbacks", "cfg", "config", "dataloader", "dataset", "hparams",
    "hyper_parameters", "loops", "metric", "metrics", "sampler", "state",
  ]
}
