import CKernels
import Hub
package import Tensors

/// The vector units that the loops of `CKernels` are built for.
package enum VectorLevel: UInt32, CaseIterable, Sendable {
  /// What every processor of the architecture has.
  case baseline
  /// AVX2 with FMA.
  case avx2
  /// AVX-512 F, DQ, BW and VL.
  case avx512

  /// The best that this processor and its system have.
  package static let best = VectorLevel(rawValue: ck_best_level().rawValue) ?? .baseline

  /// Those that can run here.
  package static var available: [VectorLevel] { allCases.filter { $0.rawValue <= best.rawValue } }
}

/// The loops that are not matrix products, in one precision and for one level of vector units.
///
/// They are written in C (`Sources/CKernels/kernels-real.h`), since Swift compiles for the baseline
/// alone; what each computes is said in `CKernels/include/kernels.h`.
public final class Kernels<T: Real>: @unchecked Sendable {
  package typealias In = UnsafePointer<T>
  package typealias Out = UnsafeMutablePointer<T>

  /// x, n, into y: SiLU.
  package let silu: (In, Int, Out) -> Void
  /// x, n, y: y *= silu(x).
  package let gate: (In, Int, Out) -> Void
  /// x, n, divisor, lower: x = max(log σ(x) / divisor, lower).
  package let logGate: (Out, Int, T, T) -> Void
  /// x, n: softmax in place.
  package let softmax: (Out, Int) -> Void
  /// bytes, element, n, into out: the values, widened.
  package let widen: (UnsafeRawPointer, Int32, Int, Out) -> Void
  /// w, element, x, n: Σ w[i] x[i].
  package let dot: (UnsafeRawPointer, Int32, In, Int) -> T
  /// w, element, rows, n, x, m, bias, into y, stride: y[j, r] = bias[r] + Σ w[r, i] x[j, i].
  package let dots: (UnsafeRawPointer, Int32, Int, Int, In, Int, In?, Out, Int) -> Void
  /// x, tokens, count, stride, w, bias, taps, tail, into y: depthwise causal convolution and SiLU.
  package let convolve: (In, Int, Int, Int, In, In?, Int, In, Out) -> Void
  /// u, dt, a, b, c, d, z, tokens, width, n, count, state, scratch, into y: see `selectiveScan`.
  package let scan: (In, In, In, In, In, In, In?, Int, Int, Int, Int, Out, Out, Out) -> Void

  private init(
    silu: @escaping (In, Int, Out) -> Void, gate: @escaping (In, Int, Out) -> Void,
    logGate: @escaping (Out, Int, T, T) -> Void, softmax: @escaping (Out, Int) -> Void,
    widen: @escaping (UnsafeRawPointer, Int32, Int, Out) -> Void,
    dot: @escaping (UnsafeRawPointer, Int32, In, Int) -> T,
    dots: @escaping (UnsafeRawPointer, Int32, Int, Int, In, Int, In?, Out, Int) -> Void,
    convolve: @escaping (In, Int, Int, Int, In, In?, Int, In, Out) -> Void,
    scan: @escaping (In, In, In, In, In, In, In?, Int, Int, Int, Int, Out, Out, Out) -> Void
  ) {
    (self.silu, self.gate, self.logGate, self.softmax) = (silu, gate, logGate, softmax)
    (self.widen, self.dot, self.dots) = (widen, dot, dots)
    (self.convolve, self.scan) = (convolve, scan)
  }
}

/// Channels that `Kernels.scan` takes at most.
let scanBlock = Int(ck_scan_block)

extension Kernels<Float> {
  /// The loops for `level`, which the processor must have.
  package convenience init(_ level: VectorLevel) {
    let table = ck_kernels_f32_for(ck_level(level.rawValue)).pointee
    self.init(
      silu: table.silu, gate: table.gate, logGate: table.log_gate, softmax: table.softmax,
      widen: table.widen, dot: table.dot, dots: table.dots,
      convolve: table.convolve, scan: table.scan)
  }
}

extension Kernels<Double> {
  /// The loops for `level`, which the processor must have.
  package convenience init(_ level: VectorLevel) {
    let table = ck_kernels_f64_for(ck_level(level.rawValue)).pointee
    self.init(
      silu: table.silu, gate: table.gate, logGate: table.log_gate, softmax: table.softmax,
      widen: table.widen, dot: table.dot, dots: table.dots,
      convolve: table.convolve, scan: table.scan)
  }
}

extension DType {
  /// The float types as `CKernels` numbers them.
  package var element: Int32 {
    switch self {
    case .f64: Int32(ck_f64.rawValue)
    case .f32: Int32(ck_f32.rawValue)
    case .f16: Int32(ck_f16.rawValue)
    case .bf16: Int32(ck_bf16.rawValue)
    default: preconditionFailure("\(self) is no float type; PieceLoader refuses it")
    }
  }
}
