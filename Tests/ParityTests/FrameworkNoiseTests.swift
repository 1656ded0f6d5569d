import Hub
import Parity
import TestSupport
import Tensors
import Testing
import WeighbridgeKit

#if canImport(Glibc)
  import Glibc
#elseif canImport(Musl)
  import Musl
#else
  import Darwin
#endif

/// The first layer of `models/retnet-base/fla` as a framework runs it in float32: angles, norms and the
/// recurrence in float32, one operation after another (`fla/layers/multiscale_retention.py`).
private struct Float32RetNet: TraceSource {
  let name = "float32"
  let tokens: [[Int]]
  let greedy: [Int]? = nil
  let unitRoundoff = 0x1p-24
  private var stages: [String: [Double]] = [:]

  func values(_ stage: String) -> [Double]? { stages[stage] }

  init(length: Int) throws {
    let stored = try StoredCheckpoint(ModelFixture.named("retnet-base/fla").path)
    func weight(_ name: String) -> [Float] { stored[name].values }
    let (d, heads, dk, dv, eps) = (64, 2, 32, 64, Float(1e-6))
    let layer = "model.layers.0."
    let names = [
      "attn_norm", "attn.q_proj", "attn.k_proj", "attn.v_proj", "attn.g_proj", "attn.o_proj",
      "attn.g_norm_swish_gate", "mlp_norm", "mlp.gate_proj", "mlp.up_proj", "mlp.down_proj",
    ]
    let w = Dictionary(uniqueKeysWithValues: names.map { ($0, weight("\(layer)\($0).weight")) })
    func linear(_ x: [Float], _ name: String) -> [Float] {
      let matrix = w[name] ?? []
      return (0..<matrix.count / x.count).map { row in
        var sum = Float(0)
        for i in x.indices { sum += matrix[row * x.count + i] * x[i] }
        return sum
      }
    }
    func norm(_ x: [Float], _ weight: [Float]) -> [Float] {
      var sum = Float(0)
      for value in x { sum += value * value }
      let scale = 1 / (sum / Float(x.count) + eps).squareRoot()
      return x.indices.map { x[$0] * scale * weight[$0] }
    }
    func silu(_ x: Float) -> Float { x / (1 + expf(-x)) }
    let frequencies = (0..<dk / 2).map { 1 / powf(10000, Float(2 * $0) / Float(dk)) }
    func turned(_ x: [Float], _ position: Int) -> [Float] {
      var y = x
      for head in 0..<heads {
        for i in 0..<dk / 2 {
          let angle = Float(position) * frequencies[i]
          let (a, b) = (x[head * dk + i], x[head * dk + i + dk / 2])
          y[head * dk + i] = a * cosf(angle) - b * sinf(angle)
          y[head * dk + i + dk / 2] = a * sinf(angle) + b * cosf(angle)
        }
      }
      return y
    }
    let embedding = weight("model.embeddings.weight")
    let ids = (0..<length).map { ($0 * 37 + $0 / 7 * 11) % 100 }
    tokens = [ids]
    var state = [[Float]](repeating: [Float](repeating: 0, count: dk * dv), count: heads)
    let decays = (0..<heads).map { expf(log1pf(-powf(2, Float(-5 - $0)))) }
    var (entering, leaving): ([Float], [Float]) = ([], [])
    for (t, id) in ids.enumerated() {
      let x = Array(embedding[id * d..<(id + 1) * d])
      let normed = norm(x, w["attn_norm"] ?? [])
      let q = turned(linear(normed, "attn.q_proj"), t)
      let k = turned(linear(normed, "attn.k_proj"), t)
      let (v, g) = (linear(normed, "attn.v_proj"), linear(normed, "attn.g_proj"))
      var mixed: [Float] = []
      for head in 0..<heads {
        var out = [Float](repeating: 0, count: dv)
        for i in 0..<dk {
          let (key, query) = (k[head * dk + i], q[head * dk + i] / Float(dk).squareRoot())
          for j in 0..<dv {
            let value = state[head][i * dv + j] * decays[head] + key * v[head * dv + j]
            state[head][i * dv + j] = value
            out[j] += query * value
          }
        }
        let own = norm(out, w["attn.g_norm_swish_gate"] ?? [])
        mixed += own.indices.map { own[$0] * silu(g[head * dv + $0]) }
      }
      let change = linear(mixed, "attn.o_proj")
      let middle = zip(x, change).map { $0 + $1 }
      let second = norm(middle, w["mlp_norm"] ?? [])
      let (gate, up) = (linear(second, "mlp.gate_proj"), linear(second, "mlp.up_proj"))
      let down = linear(zip(gate, up).map { silu($0) * $1 }, "mlp.down_proj")
      entering += x
      leaving += zip(middle, down).map { $0 + $1 }
    }
    stages["hidden_states.0"] = entering.map { Double($0) }
    stages["hidden_states.1"] = leaving.map { Double($0) }
  }
}

@Suite("The noise of frameworks")
struct FrameworkNoiseTests {
  @Test("a correct RetNet passes beside its framework's float32 trace beyond 1,024 tokens")
  func retnet() throws {
    let weighbridge = try Weighbridge()
    let trace = try Float32RetNet(length: 1300)
    let fixture = ModelFixture.named("retnet-base/fla").path
    let loaded = try weighbridge.load(CheckpointInput(path: fixture))
    let result = try weighbridge.parity(loaded, trace: trace, ParityRequest())
    #expect(result.passes)
    let stage = try #require(result.report.stages.last)
    #expect(stage.name == "hidden_states.1" && stage.maxAbs > 0)
    // A fault is beyond it all the same.
    let model = try PlantedModelFile.scaled(
      fixture, "model.layers.0.mlp.down_proj.weight", by: 1.01)
    let faulty = try weighbridge.parity(
      weighbridge.load(CheckpointInput(path: model.path)), trace: trace, ParityRequest())
    #expect(!faulty.passes)
  }
}

/// A copy of a fixture with one tensor scaled.
private struct PlantedModelFile {
  let path: String
  private let directory: TemporaryDirectory

  static func scaled(_ source: String, _ name: String, by factor: Float) throws -> PlantedModelFile
  {
    let directory = TemporaryDirectory()
    var builder = SafetensorsBuilder()
    for (own, tensor) in try StoredCheckpoint(source).tensors.sorted(by: { $0.key < $1.key }) {
      builder.add(own, tensor.shape, tensor.values.map { own == name ? $0 * factor : $0 })
    }
    Files.write(builder.bytes, to: directory.file("model.safetensors"))
    Files.write(Files.read(source + "/config.json"), to: directory.file("config.json"))
    return PlantedModelFile(path: directory.path, directory: directory)
  }
}
