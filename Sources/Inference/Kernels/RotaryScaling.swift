import Hub
import Tensors

#if canImport(Darwin)
  import Darwin
#elseif canImport(Musl)
  import Musl
#else
  import Glibc
#endif

extension MixerKind.Domain {
  /// A scaling of rotary frequencies, as a config has it.
  static let rotaryScaling = MixerKind.Domain(
    "a scaling that is known, with its numbers, finite and above 0"
  ) { value in
    guard let members = value.object else { return false }
    // YaRN's own factor on the tables may be any number, and these three switch it off at 0.
    let free: Set<String> = ["attention_factor", "mscale", "mscale_all_dim"]
    for (name, member) in members {
      guard let number = member.double else { continue }
      guard number.isFinite, number > 0 || free.contains(name) else { return false }
    }
    var kind = RotaryKind(base: 10_000, dim: 64, positionFactor: 1, table: .exact)
    return kind.apply(value, base: 10_000) == nil
  }
}

extension RotaryKind {
  /// Changes the frequencies as a config's `rope_scaling` says (transformers'
  /// `modeling_rope_utils.py`): linear, llama3 and yarn; default is no change.
  ///
  /// - Returns: what is wrong or not supported, naming it; `nil` when it is applied.
  mutating func apply(_ scaling: JSONValue, base: Double) -> String? {
    let type = (scaling["rope_type"] ?? scaling["type"] ?? .null).string ?? "missing"
    func number(_ name: String) -> Double? { scaling[name]?.double }
    switch type {
    case "default": return nil
    case "linear":
      guard let factor = number("factor"), factor > 0 else { return "linear needs a factor" }
      frequencies = frequencies.map { $0 / factor }
      return nil
    case "llama3":
      guard let factor = number("factor"), let low = number("low_freq_factor"),
        let high = number("high_freq_factor"),
        let original = number("original_max_position_embeddings"), factor > 0, high != low
      else {
        return "llama3 needs factor, low_freq_factor, high_freq_factor and "
          + "original_max_position_embeddings"
      }
      frequencies = frequencies.map { frequency in
        let length = 2 * Double.pi / frequency
        if length > original / low { return frequency / factor }
        if length < original / high { return frequency }
        let smooth = (original / length - low) / (high - low)
        return (1 - smooth) * frequency / factor + smooth * frequency
      }
      return nil
    case "yarn":
      return applyYarn(scaling, base: base)
    case "archscale_yarn":
      return applyArchScaleYarn(scaling, base: base)
    default:
      return "type \(type) is not supported (linear, llama3 and yarn are)"
    }
  }

  // ArchScale's `build_rope_cache`: YaRN with an unrounded ramp, and in float32 where the tables are
  // rounded to bfloat16.
  private mutating func applyArchScaleYarn(_ scaling: JSONValue, base: Double) -> String? {
    guard let factor = scaling["factor"]?.double, factor > 1,
      let original = scaling["original_max_position_embeddings"]?.double, original > 0, base != 1
    else { return "archscale_yarn needs a factor above 1 and original_max_position_embeddings" }
    let half = Double(frequencies.count)
    let (low, high) = (
      half * log(original / (32 * 2 * Double.pi)) / log(base),
      half * log(original / (2 * Double.pi)) / log(base)
    )
    magnitude = 0.1 * log(factor) + 1
    let rounds = table == .bfloat16
    frequencies = frequencies.indices.map { i in
      let power = pow(base, Double(2 * i) / (2 * half))
      guard rounds else {
        let ramp = min(max((Double(i) - low) / (high - low), 0), 1)
        return 1 / (factor * power) * ramp + 1 / power * (1 - ramp)
      }
      let narrow = Float(pow(Double(Float(base)), Double(Float(2 * i) / Float(2 * half))))
      let kept = 1 - min(max((Float(i) - Float(low)) / Float(high - low), 0), 1)
      return Double(1 / (Float(factor) * narrow) * (1 - kept) + 1 / narrow * kept)
    }
    return nil
  }

  // Peng et al. 2023, arXiv 2309.00071.
  private mutating func applyYarn(_ scaling: JSONValue, base: Double) -> String? {
    func number(_ name: String) -> Double? { scaling[name]?.double }
    guard let factor = number("factor"), factor > 0,
      let original = number("original_max_position_embeddings")
    else { return "yarn needs factor and original_max_position_embeddings" }
    let dim = Double(2 * frequencies.count)
    func mscale(_ scale: Double, _ m: Double) -> Double {
      scale <= 1 ? 1 : 0.1 * m * log(scale) + 1
    }
    if let given = number("attention_factor") {
      magnitude = given
    } else if let m = number("mscale"), let all = number("mscale_all_dim"), m != 0, all != 0 {
      magnitude = mscale(factor, m) / mscale(factor, all)
    } else {
      magnitude = mscale(factor, 1)
    }
    func turns(_ rotations: Double) -> Double {
      dim * log(original / (rotations * 2 * Double.pi)) / (2 * log(base))
    }
    var low = turns(number("beta_fast") ?? 32)
    var high = turns(number("beta_slow") ?? 1)
    if scaling["truncate"]?.bool ?? true {
      low = low.rounded(.down)
      high = high.rounded(.up)
    }
    low = max(low, 0)
    high = min(high, dim - 1)
    if low == high { high += 0.001 }
    frequencies = frequencies.enumerated().map { i, frequency in
      let ramp = min(max((Double(i) - low) / (high - low), 0), 1)
      return frequency / factor * ramp + frequency * (1 - ramp)
    }
    return nil
  }
}
