import Checkpoints
import Hub
import Tensors

/// A plan cut into pieces of work that may be done in any order, by any thread.
struct TransferList: Sendable {
  /// Something to be done.
  enum Item: Sendable {
    /// Bytes of a source file that are bytes of an output file as they stand.
    case move(Move)
    /// Rows that pass through memory.
    case block(Block)

    /// Bytes that it writes.
    var byteCount: Int {
      switch self {
      case .move(let move): move.count
      case .block(let block): block.byteCount
      }
    }

    /// The tensor of the plan that it belongs to; of several, the last.
    var tensor: Int {
      switch self {
      case .move(let move): move.tensor
      case .block(let block): block.tensor
      }
    }
  }

  /// Bytes that a sink takes straight from a file.
  struct Move: Sendable {
    var source: TensorInfo.Extent
    var target: TensorInfo.Extent
    var count: Int
    var tensor: Int
  }

  /// Some rows of a tensor of the plan.
  struct Block: Sendable {
    var tensor: Int
    var rows: Range<Int>
    var byteCount: Int
  }

  /// Bytes of a block that is computed: some transforms read a group of rows for each block.
  static let computedBytes = 8 << 20
  /// Bytes of a block that is copied or cast: little enough to be written while the cache holds it.
  static let copiedBytes = 256 << 10
  /// Bytes of a move.
  static let moveBytes = 8 << 20
  /// Shorter runs of bytes cost more as calls than through memory.
  static let leastRun = 32 << 10

  /// In the order of the files.
  let items: [Item]

  /// The work of a plan.
  init(_ plan: ConversionPlan, _ source: any TensorSource, _ sink: any TensorSink) {
    var items: [Item] = []
    for (number, tensor) in plan.tensors.enumerated() {
      guard tensor.output.sharesStorageWith == nil, tensor.output.byteCount > 0 else { continue }
      if let moves = Self.moves(tensor, number, source, sink) {
        for move in moves { Self.append(move, to: &items) }
      } else {
        items += Self.blocks(tensor, number).map { .block($0) }
      }
    }
    self.items = items.flatMap(Self.split)
  }

  /// The largest block.
  var largestBlock: Int {
    items.reduce(0) { if case .block(let block) = $1 { max($0, block.byteCount) } else { $0 } }
  }

  /// The item in the middle of the bytes.
  var middle: Int {
    let total = items.reduce(0) { $0 + $1.byteCount }
    var sum = 0
    for (number, item) in items.enumerated() {
      sum += item.byteCount
      if sum >= total / 2 { return number + 1 }
    }
    return items.count
  }

  /// The tensor's bytes as moves; `nil` when they have to pass through memory.
  private static func moves(
    _ tensor: ConversionPlan.Tensor, _ number: Int, _ source: any TensorSource,
    _ sink: any TensorSink
  ) -> [Move]? {
    guard let place = sink.extents[number] else { return nil }
    if let stored = tensor.output.stored, let extent = stored.extent {
      return [Move(source: extent, target: place, count: stored.byteCount, tensor: number)]
    }
    let rowBytes = tensor.rowBytes
    var moves: [Move] = []
    var row = 0
    for part in tensor.parts {
      guard case .stored(let location) = part.value, location.dtype == tensor.output.dtype else {
        return nil
      }
      for run in location.runs {
        let from = max(part.start, run.pieceRow)
        let to = min(part.start + part.count, run.pieceRow + run.count)
        guard from < to else { continue }
        guard let extent = source.tensors[location.tensor].extent else { return nil }
        moves.append(
          Move(
            source: .init(
              file: extent.file,
              offset: extent.offset + (run.tensorRow + from - run.pieceRow) * rowBytes),
            target: .init(
              file: place.file, offset: place.offset + (row + from - part.start) * rowBytes),
            count: (to - from) * rowBytes, tensor: number))
      }
      row += part.count
    }
    // Rows that no part holds, or runs that overlap, are no business of this shortcut.
    guard moves.reduce(0, { $0 + $1.count }) == tensor.output.byteCount,
      tensor.output.byteCount / moves.count >= min(leastRun, tensor.output.byteCount)
    else { return nil }
    return moves
  }

  /// Adds a move, joined with the one before where both go on: small tensors that are neighbours in
  /// both files are one call.
  private static func append(_ move: Move, to items: inout [Item]) {
    if case .move(var last) = items.last, last.source.file == move.source.file,
      last.target.file == move.target.file,
      last.source.offset + last.count == move.source.offset,
      last.target.offset + last.count == move.target.offset
    {
      last.count += move.count
      last.tensor = move.tensor
      items[items.count - 1] = .move(last)
    } else {
      items.append(.move(move))
    }
  }

  private static func split(_ item: Item) -> [Item] {
    guard case .move(let move) = item, move.count > moveBytes else { return [item] }
    return stride(from: 0, to: move.count, by: moveBytes).map { start in
      var part = move
      part.source.offset += start
      part.target.offset += start
      part.count = min(moveBytes, move.count - start)
      return .move(part)
    }
  }

  private static func blocks(_ tensor: ConversionPlan.Tensor, _ number: Int) -> [Block] {
    let rows = tensor.rows
    let bytes = tensor.parts.allSatisfy(\.value.isMove) ? copiedBytes : computedBytes
    let step = max(1, bytes / max(tensor.rowBytes, 1))
    return stride(from: 0, to: rows, by: step).map { row in
      let end = min(row + step, rows)
      return Block(tensor: number, rows: row..<end, byteCount: (end - row) * tensor.rowBytes)
    }
  }
}
