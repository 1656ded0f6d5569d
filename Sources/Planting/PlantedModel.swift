package import Hub
import Layouts
package import Parity
package import Tensors
package import WeighbridgeKit

/// A model in memory that faults are planted in, with a framework's own trace of it.
package struct PlantedModel {
  /// What it is called: its path.
  package let name: String
  let weighbridge: Weighbridge
  let loaded: LoadedCheckpoint
  /// Its tensors.
  package let checkpoint: MemoryCheckpoint
  /// Its config.
  package let config: JSONObject
  /// The trace, where there is one.
  package let trace: (any TraceSource)?

  /// The model at `path`.
  ///
  /// - Throws: what loading throws.
  package init(_ path: String, trace: String? = nil, _ weighbridge: Weighbridge) throws {
    name = path
    self.weighbridge = weighbridge
    let loaded = try weighbridge.load(CheckpointInput(path: path))
    _ = try loaded.model()
    checkpoint = try MemoryCheckpoint(loaded.source)
    config = loaded.config ?? [:]
    self.loaded = try loaded.replacing(
      source: checkpoint, config: config, weighbridge.vocabulary)
    self.trace = try trace.map { try weighbridge.trace(at: $0) }
  }

  /// The hub's view.
  package var spec: ModelSpec {
    loaded.bound?.spec ?? ModelSpec(family: "", attributes: [:], layerCount: 0, sublayers: [])
  }

  /// Where the pieces lie.
  package var pieces: [(key: PieceID, value: PieceLocation)] {
    (loaded.bound?.pieces).map { Array($0) } ?? []
  }

  /// The same layout with other bytes or another config; `nil` where that is no model.
  package func with(
    _ checkpoint: MemoryCheckpoint? = nil, config: JSONObject? = nil
  ) throws -> LoadedCheckpoint? {
    let changed = try loaded.replacing(
      source: checkpoint ?? self.checkpoint, config: config ?? self.config,
      weighbridge.vocabulary)
    guard let bound = changed.bound, bound.isSound else { return nil }
    return changed
  }

  /// The original beside `other`.
  package func pair(_ other: LoadedCheckpoint, length: Int, seed: UInt64) throws -> ParityResult {
    try weighbridge.parity(
      loaded, other, tokens: .random(batch: 1, length: length, seed: seed), ParityRequest())
  }

  /// `other` beside itself.
  package func twice(
    _ a: LoadedCheckpoint, _ b: LoadedCheckpoint, length: Int, seed: UInt64
  ) throws -> ParityResult {
    try weighbridge.parity(
      a, b, tokens: .random(batch: 1, length: length, seed: seed), ParityRequest())
  }

  /// `other` beside the original's trace; `nil` without one.
  package func traced(_ other: LoadedCheckpoint) throws -> ParityResult? {
    try trace.map { try weighbridge.parity(other, trace: $0, ParityRequest()) }
  }
}
